# Three tiers with flow log and traffic mirroring: a VPC, web servers behind a balancer, and a mirror target.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:Any two zones will do, and the first two are taken
  state = "available"
}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

resource "aws_vpc" "workshop" {
  #checkov:skip=CKV2_AWS_12:Nothing is in the default security group
  cidr_block           = "10.0.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.vpc_name }
}

resource "aws_subnet" "public" {
  count             = 2
  vpc_id            = aws_vpc.workshop.id
  availability_zone = data.aws_availability_zones.available.names[count.index]
  cidr_block        = cidrsubnet(aws_vpc.workshop.cidr_block, 8, count.index)
  tags              = { Name = "${var.vpc_name}-public-${count.index}" }
}

resource "aws_subnet" "private" {
  count             = 2
  vpc_id            = aws_vpc.workshop.id
  availability_zone = data.aws_availability_zones.available.names[count.index]
  cidr_block        = cidrsubnet(aws_vpc.workshop.cidr_block, 8, 10 + count.index)
  tags              = { Name = "${var.vpc_name}-private-${count.index}" }
}

resource "aws_internet_gateway" "workshop" {
  vpc_id = aws_vpc.workshop.id
}

resource "aws_eip" "nat" {
  domain = "vpc"
}

resource "aws_nat_gateway" "workshop" {
  allocation_id = aws_eip.nat.id
  subnet_id     = aws_subnet.public[0].id
  depends_on    = [aws_internet_gateway.workshop]
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.workshop.id
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.workshop.id
}

resource "aws_route_table_association" "public" {
  count          = 2
  route_table_id = aws_route_table.public.id
  subnet_id      = aws_subnet.public[count.index].id
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.workshop.id
}

resource "aws_route" "nat" {
  #checkov:skip=CKV2_AWS_44:Through the NAT gateway, for packages
  route_table_id         = aws_route_table.private.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.workshop.id
}

resource "aws_route_table_association" "private" {
  count          = 2
  route_table_id = aws_route_table.private.id
  subnet_id      = aws_subnet.private[count.index].id
}

resource "aws_security_group" "balancer" {
  name_prefix = "${var.vpc_name}-balancer-"
  description = "Balancer of the web servers"
  vpc_id      = aws_vpc.workshop.id
}

resource "aws_vpc_security_group_ingress_rule" "http" {
  #checkov:skip=CKV_AWS_260:A public web site is what the workshop looks at
  security_group_id = aws_security_group.balancer.id
  description       = "HTTP"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "To the web servers"
  ip_protocol                  = "tcp"
  from_port                    = 80
  to_port                      = 80
  referenced_security_group_id = aws_security_group.web.id
}

resource "aws_security_group" "web" {
  name_prefix = "${var.vpc_name}-web-"
  description = "Web servers"
  vpc_id      = aws_vpc.workshop.id
}

resource "aws_vpc_security_group_ingress_rule" "web" {
  #checkov:skip=CKV_AWS_260:From the security group of the balancer alone
  security_group_id            = aws_security_group.web.id
  description                  = "From the balancer"
  ip_protocol                  = "tcp"
  from_port                    = 80
  to_port                      = 80
  referenced_security_group_id = aws_security_group.balancer.id
}

resource "aws_vpc_security_group_ingress_rule" "web_ssh" {
  security_group_id = aws_security_group.web.id
  description       = "SSH"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = var.ssh_location
}

# Mirrored packets leave a source by its interface, and obey these rules.
resource "aws_vpc_security_group_egress_rule" "web" {
  #checkov:skip=CKV_AWS_382:Packages, and mirrored packets to the target
  security_group_id = aws_security_group.web.id
  description       = "Everything"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_lb" "web" {
  #checkov:skip=CKV_AWS_91:The workshop has a flow log
  #checkov:skip=CKV_AWS_150:A workshop is deleted when it is over
  #checkov:skip=CKV2_AWS_20:HTTP in clear text is what the workshop looks at
  #checkov:skip=CKV2_AWS_28:Nothing here is worth a web application firewall
  name                       = var.vpc_name
  load_balancer_type         = "application"
  internal                   = false
  subnets                    = aws_subnet.public[*].id
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true
  depends_on                 = [aws_internet_gateway.workshop]
}

resource "aws_lb_target_group" "web" {
  #checkov:skip=CKV_AWS_378:HTTP in clear text is what the workshop looks at
  name     = var.vpc_name
  vpc_id   = aws_vpc.workshop.id
  protocol = "HTTP"
  port     = 80
  health_check {
    path = "/"
  }
}

resource "aws_lb_listener" "web" {
  #checkov:skip=CKV_AWS_2:HTTP in clear text is what the workshop looks at
  #checkov:skip=CKV_AWS_103:HTTP in clear text is what the workshop looks at
  load_balancer_arn = aws_lb.web.arn
  protocol          = "HTTP"
  port              = 80
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.web.arn
  }
}

resource "aws_launch_template" "web" {
  name_prefix            = "${var.vpc_name}-web-"
  image_id               = data.aws_ssm_parameter.image.value
  instance_type          = var.instance_type
  key_name               = var.key_name
  vpc_security_group_ids = [aws_security_group.web.id]

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  user_data = base64encode(file("${path.module}/../../cloud-init/web.yaml"))

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.vpc_name}-web" }
  }
}

resource "aws_autoscaling_group" "web" {
  name                = "${var.vpc_name}-web"
  min_size            = var.instance_count
  max_size            = var.instance_count
  vpc_zone_identifier = aws_subnet.private[*].id
  target_group_arns   = [aws_lb_target_group.web.arn]
  health_check_type   = "ELB"

  launch_template {
    id      = aws_launch_template.web.id
    version = aws_launch_template.web.latest_version
  }

  tag {
    key                 = "Name"
    value               = "${var.vpc_name}-web"
    propagate_at_launch = true
  }
  depends_on = [aws_route.nat]
}

module "target" {
  source         = "../modules/instance"
  name           = "${var.vpc_name}-target"
  vpc_id         = aws_vpc.workshop.id
  subnet_id      = aws_subnet.public[0].id
  source_cidr    = aws_vpc.workshop.cidr_block
  instance_type  = var.mirror_instance_type
  key_name       = var.key_name
  ssh_cidr       = var.ssh_location
  public         = true
  package_bucket = var.package_bucket
  package_key    = var.package_key
  package_sha256 = var.package_sha256
}

resource "aws_cloudwatch_log_group" "flows" {
  #checkov:skip=CKV_AWS_158:The key of CloudWatch Logs is enough for a workshop
  #checkov:skip=CKV_AWS_338:The workshop keeps a month
  name              = "/${var.vpc_name}/flows"
  retention_in_days = 30
}

resource "aws_iam_role" "flows" {
  name_prefix = "VPCFlowLogToCWLogsRole-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "vpc-flow-logs.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "flows" {
  name = "VPCFlowLogToCWLogsPolicy"
  role = aws_iam_role.flows.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.flows.arn}:*"
    }]
  })
}

# All fields of version 5, by name, which is the order that the workshop's queries expect.
resource "aws_flow_log" "vpc" {
  vpc_id                   = aws_vpc.workshop.id
  traffic_type             = "ALL"
  log_destination          = aws_cloudwatch_log_group.flows.arn
  iam_role_arn             = aws_iam_role.flows.arn
  max_aggregation_interval = 60
  log_format = join(" ", [
    "$${account-id}", "$${action}", "$${az-id}", "$${bytes}", "$${dstaddr}", "$${dstport}", "$${end}",
    "$${flow-direction}", "$${instance-id}", "$${interface-id}", "$${log-status}", "$${packets}",
    "$${pkt-dst-aws-service}", "$${pkt-dstaddr}", "$${pkt-src-aws-service}", "$${pkt-srcaddr}", "$${protocol}",
    "$${region}", "$${srcaddr}", "$${srcport}", "$${start}", "$${sublocation-id}", "$${sublocation-type}",
    "$${subnet-id}", "$${tcp-flags}", "$${traffic-path}", "$${type}", "$${version}", "$${vpc-id}",
  ])
}

resource "aws_ec2_traffic_mirror_target" "capture" {
  network_interface_id = module.target.capture_interface_id
}

resource "aws_ec2_traffic_mirror_filter" "all" {
  description = "Everything"
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

# The group makes the web servers' interfaces, so the session is a second step.
resource "aws_ec2_traffic_mirror_session" "source" {
  count                    = var.source_interface_id == null ? 0 : 1
  network_interface_id     = var.source_interface_id
  traffic_mirror_target_id = aws_ec2_traffic_mirror_target.capture.id
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.all.id
  session_number           = 1
  virtual_network_id       = 12345
}

output "web_address" {
  value = aws_lb.web.dns_name
}

output "target_instance_id" {
  value = module.target.instance_id
}
