# One source, one target, one session: all of TCP, or what comes to three ports.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

module "target" {
  source         = "../modules/instance"
  vpc_id         = var.vpc_id
  subnet_id      = var.subnet_id
  source_cidr    = var.source_cidr
  instance_type  = var.instance_type
  package_bucket = var.package_bucket
  package_key    = var.package_key
  package_sha256 = var.package_sha256
}

resource "aws_ec2_traffic_mirror_target" "capture" {
  network_interface_id = module.target.capture_interface_id
}

resource "aws_ec2_traffic_mirror_filter" "tcp" {
  description = "All of TCP"
}

resource "aws_ec2_traffic_mirror_filter_rule" "tcp_ingress" {
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.tcp.id
  traffic_direction        = "ingress"
  rule_number              = 100
  rule_action              = "accept"
  protocol                 = 6
  source_cidr_block        = "0.0.0.0/0"
  destination_cidr_block   = "0.0.0.0/0"
}

resource "aws_ec2_traffic_mirror_filter_rule" "tcp_egress" {
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.tcp.id
  traffic_direction        = "egress"
  rule_number              = 100
  rule_action              = "accept"
  protocol                 = 6
  source_cidr_block        = "0.0.0.0/0"
  destination_cidr_block   = "0.0.0.0/0"
}

resource "aws_ec2_traffic_mirror_filter" "ports" {
  description = "What comes to ports 22, 80 and 443"
}

resource "aws_ec2_traffic_mirror_filter_rule" "ssh" {
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.ports.id
  traffic_direction        = "ingress"
  rule_number              = 100
  rule_action              = "accept"
  protocol                 = 6
  source_cidr_block        = "0.0.0.0/0"
  destination_cidr_block   = "0.0.0.0/0"
  destination_port_range {
    from_port = 22
    to_port   = 22
  }
}

resource "aws_ec2_traffic_mirror_filter_rule" "http" {
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.ports.id
  traffic_direction        = "ingress"
  rule_number              = 110
  rule_action              = "accept"
  protocol                 = 6
  source_cidr_block        = "0.0.0.0/0"
  destination_cidr_block   = "0.0.0.0/0"
  destination_port_range {
    from_port = 80
    to_port   = 80
  }
}

resource "aws_ec2_traffic_mirror_filter_rule" "https" {
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.ports.id
  traffic_direction        = "ingress"
  rule_number              = 120
  rule_action              = "accept"
  protocol                 = 6
  source_cidr_block        = "0.0.0.0/0"
  destination_cidr_block   = "0.0.0.0/0"
  destination_port_range {
    from_port = 443
    to_port   = 443
  }
}

# The VNI is chosen by AWS, and packets are mirrored whole.
resource "aws_ec2_traffic_mirror_session" "source" {
  network_interface_id     = var.source_interface_id
  traffic_mirror_target_id = aws_ec2_traffic_mirror_target.capture.id
  traffic_mirror_filter_id = (
    var.filter == "tcp" ? aws_ec2_traffic_mirror_filter.tcp.id : aws_ec2_traffic_mirror_filter.ports.id
  )
  session_number = 1
}
