# One mirror target: an instance with an interface for management and one that mirrored traffic arrives on.
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

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

resource "aws_security_group" "management" {
  name_prefix = "${var.name}-management-"
  description = "Management of the mirror target"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  count             = var.ssh_cidr == null ? 0 : 1
  security_group_id = aws_security_group.management.id
  description       = "SSH"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = var.ssh_cidr
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.management.id
  description       = "S3, Systems Manager, packages"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

# Without this rule no mirrored packet arrives. A sink sends nothing, so there is no rule for what leaves.
resource "aws_security_group" "capture" {
  name_prefix = "${var.name}-capture-"
  description = "Mirrored traffic"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "vxlan" {
  security_group_id = aws_security_group.capture.id
  description       = "Mirrored traffic"
  ip_protocol       = "udp"
  from_port         = 4789
  to_port           = 4789
  cidr_ipv4         = var.source_cidr
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
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "package" {
  name = "mirror"
  role = aws_iam_role.target.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = "arn:${data.aws_partition.current.partition}:s3:::${var.package_bucket}/${var.package_key}"
    }]
  })
}

resource "aws_iam_instance_profile" "target" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.target.name
}

resource "aws_instance" "target" {
  #checkov:skip=CKV_AWS_88:Only in the workshop, whose subnet is public
  ami                         = data.aws_ssm_parameter.image.value
  instance_type               = var.instance_type
  subnet_id                   = var.subnet_id
  vpc_security_group_ids      = [aws_security_group.management.id]
  associate_public_ip_address = var.public
  key_name                    = var.key_name
  iam_instance_profile        = aws_iam_instance_profile.target.name
  ebs_optimized               = true
  monitoring                  = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 30
    encrypted   = true
  }

  user_data = templatefile("${path.module}/../../../cloud-init/target.yaml", {
    Interface        = "ens6"
    Port             = "4789"
    SourceCidr       = var.source_cidr
    Mtu              = "3498"
    Region           = data.aws_region.current.region
    PackageBucket    = var.package_bucket
    PackageKey       = var.package_key
    PackageSha256    = var.package_sha256
    CaptureBucket    = ""
    AutoScalingGroup = ""
    LifecycleHook    = ""
  })

  tags = { Name = var.name }

  # The user data reads the package.
  depends_on = [aws_iam_role_policy.package]
}

resource "aws_network_interface" "capture" {
  description     = "Mirrored traffic"
  subnet_id       = var.subnet_id
  security_groups = [aws_security_group.capture.id]
}

# The service starts again until the interface is there.
resource "aws_network_interface_attachment" "capture" {
  instance_id          = aws_instance.target.id
  network_interface_id = aws_network_interface.capture.id
  device_index         = 1
}

output "instance_id" {
  value = aws_instance.target.id
}

output "capture_interface_id" {
  value = aws_network_interface.capture.id
}
