# An Auto Scaling group of mirror targets: instances, what they may do, where captures go, and how they are drained.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

data "aws_region" "current" {}
data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

locals {
  region  = data.aws_region.current.region
  account = data.aws_caller_identity.current.account_id
  arn     = "arn:${data.aws_partition.current.partition}"
}

resource "aws_s3_bucket" "captures" {
  #checkov:skip=CKV_AWS_18:Access logs need a second bucket, which is the account's to choose
  #checkov:skip=CKV_AWS_21:A capture is written once, under a name of its own, and expires
  #checkov:skip=CKV_AWS_144:Captures expire, and are no data to replicate
  #checkov:skip=CKV2_AWS_62:Nothing here takes notifications
  bucket_prefix = "${var.name}-"
}

resource "aws_s3_bucket_server_side_encryption_configuration" "captures" {
  bucket = aws_s3_bucket.captures.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm = "aws:kms"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "captures" {
  bucket                  = aws_s3_bucket.captures.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "captures" {
  bucket = aws_s3_bucket.captures.id
  rule {
    id     = "expire"
    status = "Enabled"
    filter {}
    expiration {
      days = var.capture_days
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_policy" "captures" {
  bucket = aws_s3_bucket.captures.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.captures.arn, "${aws_s3_bucket.captures.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_iam_role" "target" {
  name_prefix = "${var.name}-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

# A shell without SSH.
resource "aws_iam_role_policy_attachment" "ssm" {
  role       = aws_iam_role.target.name
  policy_arn = "${local.arn}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "target" {
  name = "mirror"
  role = aws_iam_role.target.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "${local.arn}:s3:::${var.package_bucket}/${var.package_key}"
      },
      {
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = "${aws_s3_bucket.captures.arn}/captures/*"
      },
      {
        Effect = "Allow"
        Action = "autoscaling:CompleteLifecycleAction"
        Resource = join(":", [
          local.arn, "autoscaling", local.region, local.account, "autoScalingGroup", "*",
          "autoScalingGroupName/${var.name}",
        ])
      },
    ]
  })
}

resource "aws_iam_instance_profile" "target" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.target.name
}

resource "aws_launch_template" "target" {
  name_prefix            = "${var.name}-"
  image_id               = data.aws_ssm_parameter.image.value
  instance_type          = var.instance_type
  update_default_version = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.target.arn
  }

  # The group registers an instance by its primary interface, so this is the one that captures.
  network_interfaces {
    device_index                = 0
    associate_public_ip_address = false
    security_groups             = [var.security_group_id]
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  # For scaling by minutes.
  monitoring {
    enabled = true
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type = "gp3"
      volume_size = 100
      encrypted   = true
    }
  }

  user_data = base64encode(templatefile("${path.module}/../../../cloud-init/target.yaml", {
    Interface        = "ens5"
    Port             = var.port
    SourceCidr       = var.source_cidr
    Mtu              = "3498"
    Region           = local.region
    PackageBucket    = var.package_bucket
    PackageKey       = var.package_key
    PackageSha256    = var.package_sha256
    CaptureBucket    = aws_s3_bucket.captures.id
    AutoScalingGroup = var.name
    LifecycleHook    = "drain"
  }))

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = var.name }
  }
}

resource "aws_autoscaling_group" "targets" {
  name                      = var.name
  min_size                  = var.min_size
  max_size                  = var.max_size
  vpc_zone_identifier       = var.subnet_ids
  target_group_arns         = [var.target_group_arn]
  health_check_type         = "ELB"
  health_check_grace_period = 120
  default_instance_warmup   = 120
  enabled_metrics           = ["GroupInServiceInstances"]

  launch_template {
    id      = aws_launch_template.target.id
    version = aws_launch_template.target.latest_version
  }

  tag {
    key                 = "Name"
    value               = var.name
    propagate_at_launch = true
  }
}

# Longer than the unit's TimeoutStopSec of 270 s.
resource "aws_autoscaling_lifecycle_hook" "drain" {
  name                   = "drain"
  autoscaling_group_name = aws_autoscaling_group.targets.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = 300
  default_result         = "CONTINUE"
}

# Not by CPU: workers that poll are always busy.
resource "aws_autoscaling_policy" "network_in" {
  name                   = "${var.name}-network-in"
  autoscaling_group_name = aws_autoscaling_group.targets.name
  policy_type            = "TargetTrackingScaling"
  target_tracking_configuration {
    target_value = var.network_in_target
    predefined_metric_specification {
      predefined_metric_type = "ASGAverageNetworkIn"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "unhealthy" {
  alarm_name          = "${var.name}-unhealthy"
  alarm_description   = "A mirror target has been unhealthy for five minutes"
  namespace           = var.balancer_namespace
  metric_name         = "UnHealthyHostCount"
  dimensions          = var.balancer_dimensions
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
}

resource "aws_cloudwatch_metric_alarm" "no_target" {
  alarm_name          = "${var.name}-no-target"
  alarm_description   = "No mirror target is healthy, so the balancer sends to all of them"
  namespace           = var.balancer_namespace
  metric_name         = "HealthyHostCount"
  dimensions          = var.balancer_dimensions
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 2
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
}

resource "aws_cloudwatch_metric_alarm" "full" {
  alarm_name          = "${var.name}-full"
  alarm_description   = "The group has been at its largest size for 15 minutes"
  namespace           = "AWS/AutoScaling"
  metric_name         = "GroupInServiceInstances"
  dimensions          = { AutoScalingGroupName = aws_autoscaling_group.targets.name }
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 15
  threshold           = var.max_size
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
}

output "group_name" {
  value = aws_autoscaling_group.targets.name
}

output "capture_bucket" {
  value = aws_s3_bucket.captures.id
}
