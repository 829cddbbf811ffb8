//! Names of fields.

/// The normal form of a field's name: `pkt-srcaddr`, `pkt_srcaddr`, `pktSrcAddr` and `PKTSRCADDR` are one.
///
/// Flow logs write hyphens, Parquet columns underscores and discovered fields of CloudWatch camelCase, whose
/// capitals differ from one log format to another; so separators go, and capitals become small.
pub fn field_key(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}
