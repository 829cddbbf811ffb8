# A fleet of mirror targets behind a Network Load Balancer, and a mirror session for each source interface.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

# A balancer can be given security groups only when it is created.
resource "aws_security_group" "balancer" {
  name_prefix = "${var.name}-balancer-"
  description = "Balancer of the mirror targets"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  security_group_id = aws_security_group.balancer.id
  description       = "Mirrored traffic"
  ip_protocol       = "udp"
  from_port         = 4789
  to_port           = 4789
  cidr_ipv4         = var.source_cidr
}

resource "aws_vpc_security_group_egress_rule" "balancer_to_targets" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "Mirrored traffic"
  ip_protocol                  = "udp"
  from_port                    = 4789
  to_port                      = 4789
  referenced_security_group_id = aws_security_group.targets.id
}

# Without this rule every target is unhealthy.
resource "aws_vpc_security_group_egress_rule" "balancer_to_health" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "Health checks"
  ip_protocol                  = "tcp"
  from_port                    = 8080
  to_port                      = 8080
  referenced_security_group_id = aws_security_group.targets.id
}

resource "aws_security_group" "targets" {
  name_prefix = "${var.name}-targets-"
  description = "Mirror targets"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "mirrored" {
  security_group_id            = aws_security_group.targets.id
  description                  = "Mirrored traffic"
  ip_protocol                  = "udp"
  from_port                    = 4789
  to_port                      = 4789
  referenced_security_group_id = aws_security_group.balancer.id
}

resource "aws_vpc_security_group_ingress_rule" "health" {
  security_group_id            = aws_security_group.targets.id
  description                  = "Health checks"
  ip_protocol                  = "tcp"
  from_port                    = 8080
  to_port                      = 8080
  referenced_security_group_id = aws_security_group.balancer.id
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.targets.id
  description       = "S3, Systems Manager, Auto Scaling, packages"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_lb" "balancer" {
  #checkov:skip=CKV_AWS_91:A Network Load Balancer logs TLS listeners only
  #checkov:skip=CKV_AWS_150:Deletion protection would keep the stack from being destroyed
  name                             = var.name
  load_balancer_type               = "network"
  internal                         = true
  subnets                          = var.subnet_ids
  security_groups                  = [aws_security_group.balancer.id]
  enable_cross_zone_load_balancing = true
}

resource "aws_lb_target_group" "targets" {
  name        = var.name
  vpc_id      = var.vpc_id
  protocol    = "UDP"
  port        = 4789
  target_type = "instance"

  # Mirrored flows seldom idle: only terminating them moves them to another target.
  deregistration_delay   = 180
  connection_termination = true
  target_health_state {
    enable_unhealthy_connection_termination = true
  }

  health_check {
    protocol            = "HTTP"
    port                = "8080"
    path                = "/health"
    matcher             = "200"
    interval            = 5
    timeout             = 2
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "vxlan" {
  load_balancer_arn = aws_lb.balancer.arn
  protocol          = "UDP"
  port              = 4789
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.targets.arn
  }
}

module "targets" {
  source              = "../modules/targets"
  name                = var.name
  subnet_ids          = var.subnet_ids
  security_group_id   = aws_security_group.targets.id
  target_group_arn    = aws_lb_target_group.targets.arn
  port                = "4789"
  source_cidr         = var.source_cidr
  balancer_namespace  = "AWS/NetworkELB"
  package_bucket      = var.package_bucket
  package_key         = var.package_key
  package_sha256      = var.package_sha256
  instance_type       = var.instance_type
  min_size            = var.min_size
  max_size            = var.max_size
  network_in_target   = var.network_in_target
  capture_days        = var.capture_days
  alarm_topic_arns    = var.alarm_topic_arns
  balancer_dimensions = {
    LoadBalancer = aws_lb.balancer.arn_suffix
    TargetGroup  = aws_lb_target_group.targets.arn_suffix
  }
}

resource "aws_ec2_traffic_mirror_target" "fleet" {
  network_load_balancer_arn = aws_lb.balancer.arn
}

resource "aws_ec2_traffic_mirror_filter" "all" {
  description      = "Everything, and what goes to the VPC's resolver"
  network_services = ["amazon-dns"]
}

resource "aws_ec2_traffic_mirror_filter_rule" "ingress" {
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.all.id
  traffic_direction        = "ingress"
  rule_number              = 100
  rule_action              = "accept"
  source_cidr_block        = "0.0.0.0/0"
  destination_cidr_block   = "0.0.0.0/0"
}

resource "aws_ec2_traffic_mirror_filter_rule" "egress" {
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.all.id
  traffic_direction        = "egress"
  rule_number              = 100
  rule_action              = "accept"
  source_cidr_block        = "0.0.0.0/0"
  destination_cidr_block   = "0.0.0.0/0"
}

resource "aws_ec2_traffic_mirror_session" "source" {
  for_each                 = var.source_interface_ids
  network_interface_id     = each.value
  traffic_mirror_target_id = aws_ec2_traffic_mirror_target.fleet.id
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.all.id
  session_number           = var.session_number
  packet_length            = var.packet_length

  # A target can be used when its balancer has a listener.
  depends_on = [
    aws_lb_listener.vxlan,
    aws_ec2_traffic_mirror_filter_rule.ingress,
    aws_ec2_traffic_mirror_filter_rule.egress,
  ]
}

output "mirror_target_id" {
  value = aws_ec2_traffic_mirror_target.fleet.id
}

output "mirror_filter_id" {
  value = aws_ec2_traffic_mirror_filter.all.id
}

output "group_name" {
  value = module.targets.group_name
}

output "capture_bucket" {
  value = module.targets.capture_bucket
}
