//! Flat Parquet files, as VPC flow logs are: columns of integers and texts, each of which may lack values.
//!
//! [`Writer`] writes row groups column by column; [`Reader`] reads selected columns of files that any program
//! wrote, in batches. What is wrong with a file is an [`Error`], whatever its bytes.
//!
//! ```
//! use mirror_parquet::{Column, Kind, Reader, Values, Writer};
//!
//! let columns = [Column::new("srcaddr", Kind::Text), Column::new("bytes", Kind::Int64)];
//! let mut writer = Writer::new(Vec::new(), &columns, "an example")?;
//! writer.write_group(2, |column, rows, values| {
//!     for row in rows {
//!         match column {
//!             0 => values.push_text(Some("10.0.0.1")),
//!             _ => values.push_number((row == 0).then_some(840)),
//!         }
//!     }
//! })?;
//!
//! let reader = Reader::of_bytes(writer.finish()?)?;
//! let mut batches = reader.batches(&[1])?;
//! while let Some(batch) = batches.advance()? {
//!     let [Values::Int64(bytes)] = batch else { unreachable!() };
//!     assert_eq!(bytes[..], [Some(840), None]);
//! }
//! # Ok::<(), mirror_parquet::Error>(())
//! ```
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod error;
mod read;
mod values;
mod write;

pub use error::Error;
pub use read::{Batches, MAX_BATCH, Reader};
pub use values::{Texts, Values};
pub use write::{MAX_GROUP, Writer};

/// The type of a column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// INT32.
    Int32,
    /// INT64.
    Int64,
    /// BYTE_ARRAY, as UTF-8.
    Text,
}

/// A column.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type; `None` of one that [`Reader`] cannot read.
    pub kind: Option<Kind>,
}

impl Column {
    /// A column of this name and type.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests;
