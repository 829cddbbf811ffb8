# A web server behind an Application Load Balancer, and a mirror target that gets what comes to it.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

resource "aws_security_group" "balancer" {
  name_prefix = "alb-"
  description = "ALB"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  security_group_id = aws_security_group.balancer.id
  description       = "HTTP"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = var.my_ip
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "To the web server"
  ip_protocol                  = "tcp"
  from_port                    = 80
  to_port                      = 80
  referenced_security_group_id = aws_security_group.web.id
}

resource "aws_security_group" "web" {
  name_prefix = "ec2-with-alb-"
  description = "EC2 with ALB access"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "web" {
  #checkov:skip=CKV_AWS_260:From the security group of the balancer alone
  security_group_id            = aws_security_group.web.id
  description                  = "From the ALB"
  ip_protocol                  = "tcp"
  from_port                    = 80
  to_port                      = 80
  referenced_security_group_id = aws_security_group.balancer.id
}

# Mirrored packets leave a source by its interface, and obey these rules.
resource "aws_vpc_security_group_egress_rule" "web" {
  #checkov:skip=CKV_AWS_382:Packages, and mirrored packets to the target
  security_group_id = aws_security_group.web.id
  description       = "Everything"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_instance" "web" {
  #checkov:skip=CKV2_AWS_41:It calls nothing of AWS
  ami                    = data.aws_ssm_parameter.image.value
  instance_type          = "t3.micro"
  subnet_id              = var.private_subnet_ids[0]
  vpc_security_group_ids = [aws_security_group.web.id]
  ebs_optimized          = true
  monitoring             = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    encrypted = true
  }

  user_data = file("${path.module}/../../cloud-init/web.yaml")
  tags      = { Name = "mirror-source" }
}

resource "aws_lb" "application" {
  #checkov:skip=CKV_AWS_91:An example
  #checkov:skip=CKV_AWS_150:An example is deleted when it is over
  #checkov:skip=CKV2_AWS_20:HTTP in clear text is what is to be captured
  #checkov:skip=CKV2_AWS_28:Nothing here is worth a web application firewall
  name                       = "application-lb"
  internal                   = false
  load_balancer_type         = "application"
  security_groups            = [aws_security_group.balancer.id]
  subnets                    = var.public_subnet_ids
  drop_invalid_header_fields = true
}

resource "aws_lb_target_group" "web" {
  #checkov:skip=CKV_AWS_378:HTTP in clear text is what is to be captured
  name     = "alb-target-group"
  port     = 80
  protocol = "HTTP"
  vpc_id   = var.vpc_id
  health_check {
    path                = "/"
    protocol            = "HTTP"
    matcher             = "200"
    interval            = 30
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_target_group_attachment" "web" {
  target_group_arn = aws_lb_target_group.web.arn
  target_id        = aws_instance.web.id
  port             = 80
}

resource "aws_lb_listener" "web" {
  #checkov:skip=CKV_AWS_2:HTTP in clear text is what is to be captured
  #checkov:skip=CKV_AWS_103:HTTP in clear text is what is to be captured
  load_balancer_arn = aws_lb.application.arn
  port              = 80
  protocol          = "HTTP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.web.arn
  }
}

# Its capture interface is its second one, and may get UDP to port 4789.
module "target" {
  source         = "../modules/instance"
  vpc_id         = var.vpc_id
  subnet_id      = length(var.private_subnet_ids) > 1 ? var.private_subnet_ids[1] : var.private_subnet_ids[0]
  source_cidr    = "${aws_instance.web.private_ip}/32"
  instance_type  = "t3.small"
  package_bucket = var.package_bucket
  package_key    = var.package_key
  package_sha256 = var.package_sha256
}

resource "aws_ec2_traffic_mirror_target" "target" {
  network_interface_id = module.target.capture_interface_id
  description          = "Traffic mirror target for EC2"
}

resource "aws_ec2_traffic_mirror_filter" "filter" {
  description = "Traffic mirror filter"
}

resource "aws_ec2_traffic_mirror_filter_rule" "ingress" {
  traffic_direction        = "ingress"
  rule_number              = 1
  rule_action              = "accept"
  destination_cidr_block   = "0.0.0.0/0"
  source_cidr_block        = "0.0.0.0/0"
  protocol                 = 6
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.filter.id
}

# Without this rule the answers are missing from the capture.
resource "aws_ec2_traffic_mirror_filter_rule" "egress" {
  traffic_direction        = "egress"
  rule_number              = 1
  rule_action              = "accept"
  destination_cidr_block   = "0.0.0.0/0"
  source_cidr_block        = "0.0.0.0/0"
  protocol                 = 6
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.filter.id
}

resource "aws_ec2_traffic_mirror_session" "session" {
  network_interface_id     = aws_instance.web.primary_network_interface_id
  traffic_mirror_target_id = aws_ec2_traffic_mirror_target.target.id
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.filter.id
  session_number           = 1
  description              = "EC2 Traffic Mirroring Session"
}

output "alb_dns_name" {
  value = aws_lb.application.dns_name
}
