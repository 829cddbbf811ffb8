//! Records of VPC flow logs as data: fields and formats. Values without I/O and without packets.
//!
//! Names, versions and rules are those of AWS's
//! [flow log records](https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html).

mod field;
mod format;

pub use field::{Field, Kind};
pub use format::{Format, FormatError};
