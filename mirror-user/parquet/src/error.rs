//! Why a file cannot be written or read.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The output failed.
    #[error("cannot write Parquet: {0}")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The input failed, is no Parquet file, or is damaged.
    #[error("cannot read Parquet: {0}")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file is damaged in a way that the decoder does not expect. It may have panicked: that is caught
    /// here, but the program's panic hook has seen it.
    #[error("cannot read Parquet: the file is damaged: {0}")]
    Damaged(String),
    /// A column's compression is not supported.
    #[error(
        "column {column} is compressed by {codec}, which is not supported: write the file with SNAPPY, GZIP, \
        ZSTD or UNCOMPRESSED"
    )]
    Codec {
        /// Its name.
        column: String,
        /// The name of the codec in the format's specification.
        codec: &'static str,
    },
    /// A column's type is not supported.
    #[error("column {column} is {found}; only INT32, INT64 and BYTE_ARRAY without nesting can be read")]
    Kind {
        /// Its name.
        column: String,
        /// What it is.
        found: String,
    },
    /// A column's texts are not UTF-8.
    #[error("column {column} is not UTF-8")]
    Utf8 {
        /// Its name.
        column: String,
    },
    /// There is no column at this position.
    #[error("there is no column {position}: the file has {columns} columns")]
    Position {
        /// Which was asked for; the first is 0.
        position: usize,
        /// How many there are.
        columns: usize,
    },
    /// A column was given too few or too many values to write, or another type than its own.
    #[error("column {column} has {values} values of its type for {rows} rows")]
    Values {
        /// Its name.
        column: String,
        /// How many values it was given.
        values: usize,
        /// How many it needs.
        rows: usize,
    },
}

impl Error {
    pub(crate) fn write(error: ParquetError) -> Self {
        Self::Write(error.into())
    }

    pub(crate) fn read(error: ParquetError) -> Self {
        Self::Read(error.into())
    }
}

/// Decodes what others wrote. The decoder has assertions that some damaged files violate, so that a panic in
/// it is an error of the file.
pub(crate) fn decoding<T>(decode: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What the closure changes is not used again: each caller ends at an error.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::Damaged(text.unwrap_or("no reason is known").to_owned()))
    })
}
