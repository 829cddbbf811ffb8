//! Writes files.

use std::{fmt, io::Write, mem, ops::Range, sync::Arc};

use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical},
    data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::{Type, TypePtr},
};

use crate::{Column, Error, Kind, Values, values::Scratch};

/// The most rows of a row group: what a reader must decode at once if it reads by row group.
pub const MAX_GROUP: usize = 128 * 1024;

/// Rows that are encoded at once.
const CHUNK: usize = 4096;

/// Writes a file: SNAPPY, with dictionaries and statistics; each value is optional. The file cannot be read
/// before [`finish`](Self::finish).
pub struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Column>,
    scratch: Scratch,
}

impl<W: Write + Send> Writer<W> {
    /// Writes to `out`, which should be buffered. The file names `created_by` as its writer.
    ///
    /// # Errors
    ///
    /// Those of the output, and columns without a [`Kind`].
    pub fn new(out: W, columns: &[Column], created_by: &str) -> Result<Self, Error> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_dictionary_enabled(true)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_created_by(created_by.to_owned())
            .build();
        let fields = columns.iter().map(field).collect::<Result<_, _>>()?;
        let schema = Type::group_type_builder("schema").with_fields(fields).build().map_err(Error::write)?;
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties));
        let file = file.map_err(Error::write)?;
        Ok(Self { file, columns: columns.to_vec(), scratch: Scratch::default() })
    }

    /// Writes a row group, or several if there are more rows than [`MAX_GROUP`]. For each column, by its
    /// position, `fill` appends the values of a range of rows.
    ///
    /// # Errors
    ///
    /// Those of the output, or that `fill` appended more or fewer values. The file is of no use afterwards.
    pub fn write_group(
        &mut self,
        rows: usize,
        mut fill: impl FnMut(usize, Range<usize>, &mut Values),
    ) -> Result<(), Error> {
        for first in (0..rows).step_by(MAX_GROUP) {
            self.write_rows(first..rows.min(first + MAX_GROUP), &mut fill)?;
        }
        Ok(())
    }

    fn write_rows(
        &mut self,
        rows: Range<usize>,
        fill: &mut impl FnMut(usize, Range<usize>, &mut Values),
    ) -> Result<(), Error> {
        let mut group = self.file.next_row_group().map_err(Error::write)?;
        for (position, column) in self.columns.iter().enumerate() {
            let Some(kind) = column.kind else { continue };
            let Some(mut writer) = group.next_column().map_err(Error::write)? else { continue };
            let mut values = Values::new(kind);
            for first in rows.clone().step_by(CHUNK) {
                let chunk = first..rows.end.min(first + CHUNK);
                let count = chunk.len();
                values.clear();
                fill(position, chunk, &mut values);
                if values.len() != count || values.kind() != kind {
                    let values = if values.kind() == kind { values.len() } else { 0 };
                    return Err(Error::Values { column: column.name.clone(), values, rows: count });
                }
                self.scratch.write(&mut writer, &mut values).map_err(Error::write)?;
            }
            writer.close().map_err(Error::write)?;
        }
        group.close().map_err(Error::write)?;
        Ok(())
    }

    /// Bytes that have been written so far.
    pub fn bytes_written(&self) -> usize {
        self.file.bytes_written()
    }

    /// Writes the footer; returns the output.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn finish(self) -> Result<W, Error> {
        self.file.into_inner().map_err(Error::write)
    }
}

impl<W: Write + Send> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("columns", &self.columns).finish_non_exhaustive()
    }
}

fn field(column: &Column) -> Result<TypePtr, Error> {
    let (physical, logical) = match column.kind {
        Some(Kind::Int32) => (Physical::INT32, None),
        Some(Kind::Int64) => (Physical::INT64, None),
        Some(Kind::Text) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        None => {
            return Err(Error::Kind { column: column.name.clone(), found: "of no known type".to_owned() });
        }
    };
    let builder = Type::primitive_type_builder(&column.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical);
    builder.build().map(Arc::new).map_err(Error::write)
}

impl Scratch {
    fn write(
        &mut self,
        writer: &mut SerializedColumnWriter<'_>,
        values: &mut Values,
    ) -> Result<(), ParquetError> {
        let Self { levels, int32, int64, texts } = self;
        levels.clear();
        match values {
            Values::Int32(values) => {
                split(values, levels, int32);
                writer.typed::<Int32Type>().write_batch(int32, Some(levels), None)?;
            }
            Values::Int64(values) => {
                split(values, levels, int64);
                writer.typed::<Int64Type>().write_batch(int64, Some(levels), None)?;
            }
            Values::Text(values) => {
                let (buffer, spans) = values.parts();
                // One buffer for all texts of the chunk, which they share.
                let buffer = ByteArray::from(mem::take(buffer).into_bytes());
                texts.clear();
                levels.extend(spans.iter().map(|span| i16::from(span.is_some())));
                let spans = spans.iter().flatten().map(|(start, end)| (*start as usize, *end as usize));
                texts.extend(spans.map(|(start, end)| buffer.slice(start, end - start)));
                writer.typed::<ByteArrayType>().write_batch(texts, Some(levels), None)?;
            }
        }
        Ok(())
    }
}

/// Definition levels, and the values that are there.
fn split<T: Copy>(values: &[Option<T>], levels: &mut Vec<i16>, present: &mut Vec<T>) {
    present.clear();
    levels.extend(values.iter().map(|value| i16::from(value.is_some())));
    present.extend(values.iter().flatten());
}
