//! Records of VPC flow logs as data: fields, formats, records, their text form, names of their files,
//! and what is known of interfaces. Values without packets.
//!
//! Names, versions and rules are those of AWS's
//! [flow log records](https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html).

mod field;
mod format;
mod metadata;
mod object_name;
#[cfg(feature = "parquet")]
pub mod parquet;
mod record;
mod text;

pub use field::{Field, Kind};
pub use format::{Format, FormatError};
pub use metadata::{KnownInterface, Metadata, TagKeys};
pub use object_name::{Contents, FileType, Layout, NameError, ObjectNames};
pub use record::{
    Action, InterfaceFields, LogStatus, Record, TrafficType, Value, ValueError, logged_tcp_flags,
};
pub use text::{Column, Line, MAX_LINE, Skipped, TextError, TextReader, TextWriter};
