//! Names of fields.

/// The normal form of a field's name: `pkt-srcaddr`, `pkt_srcaddr`, `pktSrcAddr` and `PKTSRCADDR` are one.
///
/// Flow logs write hyphens, Parquet columns underscores and discovered fields of CloudWatch camelCase, whose
/// capitals differ from one log format to another; so separators go, and capitals become small.
pub fn field_key(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// Fields of the format that the console's "select all" wrote at version 5 of flow logs: alphabetical.
///
/// Queries that `parse @message` with as many stars name them so.
pub const SELECT_ALL_V5: [&str; 29] = [
    "account_id",
    "action",
    "az_id",
    "bytes",
    "dstaddr",
    "dstport",
    "end",
    "flow_direction",
    "instance_id",
    "interface_id",
    "log_status",
    "packets",
    "pkt_dst_aws_service",
    "pkt_dstaddr",
    "pkt_src_aws_service",
    "pkt_srcaddr",
    "protocol",
    "region",
    "srcaddr",
    "srcport",
    "start",
    "sublocation_id",
    "sublocation_type",
    "subnet_id",
    "tcp_flags",
    "traffic_path",
    "type",
    "version",
    "vpc_id",
];
