# Source and target in two VPCs that are peered, of one account or of two.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

resource "aws_vpc_peering_connection" "mirror" {
  vpc_id      = var.source_vpc_id
  peer_vpc_id = var.target_vpc_id
  auto_accept = true
}

resource "aws_route" "to_target" {
  route_table_id            = var.source_route_table_id
  destination_cidr_block    = var.target_vpc_cidr
  vpc_peering_connection_id = aws_vpc_peering_connection.mirror.id
}

resource "aws_route" "to_source" {
  route_table_id            = var.target_route_table_id
  destination_cidr_block    = var.source_vpc_cidr
  vpc_peering_connection_id = aws_vpc_peering_connection.mirror.id
}

module "target" {
  source         = "../modules/instance"
  vpc_id         = var.target_vpc_id
  subnet_id      = var.target_subnet_id
  source_cidr    = var.source_vpc_cidr
  instance_type  = var.instance_type
  package_bucket = var.package_bucket
  package_key    = var.package_key
  package_sha256 = var.package_sha256
}

resource "aws_ec2_traffic_mirror_target" "capture" {
  network_interface_id = module.target.capture_interface_id
}

# For sessions that another account makes with this target.
resource "aws_ram_resource_share" "target" {
  count                     = var.share_with_account == null ? 0 : 1
  name                      = "mirror-target"
  allow_external_principals = true
}

resource "aws_ram_resource_association" "target" {
  count              = var.share_with_account == null ? 0 : 1
  resource_share_arn = aws_ram_resource_share.target[0].arn
  resource_arn       = aws_ec2_traffic_mirror_target.capture.arn
}

resource "aws_ram_principal_association" "target" {
  count              = var.share_with_account == null ? 0 : 1
  resource_share_arn = aws_ram_resource_share.target[0].arn
  principal          = var.share_with_account
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

resource "aws_ec2_traffic_mirror_session" "source" {
  network_interface_id     = var.source_interface_id
  traffic_mirror_target_id = aws_ec2_traffic_mirror_target.capture.id
  traffic_mirror_filter_id = aws_ec2_traffic_mirror_filter.all.id
  session_number           = 1
  depends_on               = [aws_route.to_target]
}
