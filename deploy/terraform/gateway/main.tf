# A fleet of mirror targets behind a Gateway Load Balancer, for interfaces in another VPC without a route to it.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

resource "aws_security_group" "targets" {
  name_prefix = "${var.name}-targets-"
  description = "Mirror targets"
  vpc_id      = var.vpc_id
}

# The balancer has no security group: its nodes have addresses in the VPC.
resource "aws_vpc_security_group_ingress_rule" "mirrored" {
  security_group_id = aws_security_group.targets.id
  description       = "Mirrored traffic in GENEVE"
  ip_protocol       = "udp"
  from_port         = 6081
  to_port           = 6081
  cidr_ipv4         = var.vpc_cidr
}

resource "aws_vpc_security_group_ingress_rule" "health" {
  security_group_id = aws_security_group.targets.id
  description       = "Health checks"
  ip_protocol       = "tcp"
  from_port         = 8080
  to_port           = 8080
  cidr_ipv4         = var.vpc_cidr
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
  #checkov:skip=CKV_AWS_91:A Gateway Load Balancer has no access logs
  #checkov:skip=CKV_AWS_150:Deletion protection would keep the stack from being destroyed
  name                             = var.name
  load_balancer_type               = "gateway"
  subnets                          = var.subnet_ids
  enable_cross_zone_load_balancing = true
}

resource "aws_lb_target_group" "targets" {
  name                 = var.name
  vpc_id               = var.vpc_id
  protocol             = "GENEVE"
  port                 = 6081
  target_type          = "instance"
  deregistration_delay = 180

  # All of a source's traffic to one target.
  stickiness {
    type    = "source_ip_dest_ip"
    enabled = true
  }

  # By default the flows of a target that is gone are dropped for as long as they live.
  target_failover {
    on_deregistration = "rebalance"
    on_unhealthy      = "rebalance"
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

resource "aws_lb_listener" "geneve" {
  #checkov:skip=CKV_AWS_2:A Gateway Load Balancer takes all packets: its listener has no protocol
  load_balancer_arn = aws_lb.balancer.arn
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
  port                = "6081"
  source_cidr         = var.source_cidr
  balancer_namespace  = "AWS/GatewayELB"
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

resource "aws_vpc_endpoint_service" "balancer" {
  #checkov:skip=CKV_AWS_123:Endpoints of this account only, as without permissions for others
  acceptance_required        = false
  gateway_load_balancer_arns = [aws_lb.balancer.arn]
}

resource "aws_vpc_endpoint" "source" {
  service_name      = aws_vpc_endpoint_service.balancer.service_name
  vpc_endpoint_type = "GatewayLoadBalancer"
  vpc_id            = var.endpoint_vpc_id
  subnet_ids        = var.endpoint_subnet_ids
}

resource "aws_ec2_traffic_mirror_target" "fleet" {
  gateway_load_balancer_endpoint_id = aws_vpc_endpoint.source.id
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

  depends_on = [
    aws_lb_listener.geneve,
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
