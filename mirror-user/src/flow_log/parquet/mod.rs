//! Records in Parquet, with the columns of AWS's files.

use std::{fmt, io::Write, mem};

pub use mirror_parquet::{Batches, Column, Error, Kind, MAX_BATCH, MAX_GROUP, Reader, Texts, Values};

use super::{Format, Record, Value, field};

/// Writes records as Parquet: each field is a column, as in AWS's files. A missing number is null, a missing
/// text `-`.
///
/// A row group is written when there are [`MAX_GROUP`] records, which are held in memory until then: about
/// 26 MB.
pub struct ParquetWriter<W: Write + Send> {
    writer: mirror_parquet::Writer<W>,
    format: Format,
    records: Vec<Record>,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Writes to `out`, which should be buffered.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn new(out: W, format: Format) -> Result<Self, Error> {
        let columns: Vec<_> = format
            .fields()
            .iter()
            .map(|field| {
                let kind = match field.kind() {
                    field::Kind::Int32 => Kind::Int32,
                    field::Kind::Int64 => Kind::Int64,
                    field::Kind::Text => Kind::Text,
                };
                Column::new(field.column(), kind)
            })
            .collect();
        let writer = mirror_parquet::Writer::new(out, &columns, CREATED_BY)?;
        Ok(Self { writer, format, records: Vec::new() })
    }

    /// Writes records. Without an error they are in the file after [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// Those of the output. The file is of no use afterwards.
    pub fn write(&mut self, records: impl IntoIterator<Item = Record>) -> Result<(), Error> {
        for record in records {
            self.records.push(record);
            if self.records.len() == MAX_GROUP {
                self.write_group()?;
            }
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), Error> {
        let mut records = mem::take(&mut self.records);
        let format = &self.format;
        self.writer.write_group(records.len(), |column, rows, values| {
            let Some(field) = format.fields().get(column) else { return };
            for record in records.get(rows).unwrap_or_default() {
                match record.value(*field, format) {
                    Value::Number(number) => values.push_number(Some(number)),
                    Value::Text(text) => values.push_text(Some(text)),
                    Value::Address(address) => values.push_display(address),
                    // To columns of numbers that is null.
                    Value::Missing => values.push_text(Some("-")),
                }
            }
        })?;
        records.clear();
        self.records = records;
        Ok(())
    }

    /// Bytes that have been written so far, without the records that are in memory.
    pub fn bytes_written(&self) -> usize {
        self.writer.bytes_written()
    }

    /// Writes what is left, and the footer; returns the output.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn finish(mut self) -> Result<W, Error> {
        self.write_group()?;
        self.writer.finish()
    }
}

const CREATED_BY: &str = concat!("mirror version ", env!("CARGO_PKG_VERSION"));

impl<W: Write + Send> fmt::Debug for ParquetWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, records, .. } = self;
        let records = records.len();
        f.debug_struct("ParquetWriter").field("format", format).field("records", &records).finish()
    }
}

#[cfg(test)]
mod tests;
