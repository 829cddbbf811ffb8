//! Reads files.

use std::{fmt, fs::File, mem};

use bytes::Bytes;
use parquet::{
    basic::{Compression, Type as Physical},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType},
    file::reader::{FileReader, SerializedFileReader},
    schema::types::ColumnDescriptor,
};

use crate::{
    Column, Error, Kind, Texts, Values,
    error::decoding,
    values::{Scratch, span},
};

/// The most rows of a batch.
pub const MAX_BATCH: usize = 8192;

/// The most bytes of texts in a batch: a dictionary repeats a long one at no cost in the file.
const MAX_TEXT: usize = 256 << 20;

/// Reads a flat file of any writer. The footer is read when it is opened, pages when they are needed.
///
/// In memory it has one page and one dictionary of each selected column. A damaged or hostile file may
/// declare a page of up to 2 GiB, which are allocated while it is decoded.
pub struct Reader {
    file: Box<dyn FileReader>,
    columns: Vec<Column>,
    /// What the unreadable columns are.
    found: Vec<String>,
    rows: u64,
}

/// Selected columns of a file, in batches of rows.
pub struct Batches<'r> {
    reader: &'r Reader,
    selected: Vec<Selected>,
    values: Vec<Values>,
    /// The row group to open next.
    group: usize,
    /// Rows of the open one that have not been read.
    left: u64,
    scratch: Scratch,
}

struct Selected {
    position: usize,
    /// Of the open row group.
    column: Option<ColumnReader>,
}

impl Reader {
    /// Reads the footer of a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no Parquet file.
    pub fn open(file: File) -> Result<Self, Error> {
        decoding(|| Self::of(Box::new(SerializedFileReader::new(file).map_err(Error::read)?)))
    }

    /// Reads the footer of a file in memory.
    ///
    /// # Errors
    ///
    /// If it is no Parquet file.
    pub fn of_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        decoding(|| Self::of(Box::new(SerializedFileReader::new(Bytes::from(bytes)).map_err(Error::read)?)))
    }

    fn of(file: Box<dyn FileReader>) -> Result<Self, Error> {
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let found = schema.columns().iter().map(|column| found(column)).collect();
        let columns = schema
            .columns()
            .iter()
            .map(|descriptor| Column { name: descriptor.path().string(), kind: kind(descriptor) });
        let columns: Vec<_> = columns.collect();
        let groups = file.metadata().row_groups();
        let rows = groups.iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0));
        let rows = rows.fold(0, u64::saturating_add);
        Ok(Self { file, columns, found, rows })
    }

    /// The columns, in their sequence.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Where the column of this name is.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// How many rows there are, by the footer.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Reads these columns, by their positions; of the others nothing is read.
    ///
    /// # Errors
    ///
    /// If there is none at a position, or its type or compression is not supported.
    pub fn batches(&self, positions: &[usize]) -> Result<Batches<'_>, Error> {
        let mut values = Vec::new();
        for position in positions {
            let column = self.columns.get(*position);
            let column =
                column.ok_or(Error::Position { position: *position, columns: self.columns.len() })?;
            let found = || self.found.get(*position).cloned().unwrap_or_default();
            let kind =
                column.kind.ok_or_else(|| Error::Kind { column: column.name.clone(), found: found() })?;
            values.push(Values::new(kind));
            self.check_chunks(*position, column)?;
        }
        let selected = positions.iter().map(|position| Selected { position: *position, column: None });
        Ok(Batches {
            reader: self,
            selected: selected.collect(),
            values,
            group: 0,
            left: 0,
            scratch: Scratch::default(),
        })
    }

    /// Their compression, and what the decoder asserts of their places.
    fn check_chunks(&self, position: usize, column: &Column) -> Result<(), Error> {
        let chunks =
            self.file.metadata().row_groups().iter().filter_map(|group| group.columns().get(position));
        for chunk in chunks {
            let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
            if start < 0 || chunk.compressed_size() < 0 {
                return Err(Error::Damaged(format!("column {} has a negative place", column.name)));
            }
            let codec = match chunk.compression() {
                Compression::UNCOMPRESSED
                | Compression::SNAPPY
                | Compression::GZIP(_)
                | Compression::ZSTD(_) => continue,
                Compression::LZO => "LZO",
                Compression::BROTLI(_) => "BROTLI",
                Compression::LZ4 => "LZ4",
                Compression::LZ4_RAW => "LZ4_RAW",
            };
            return Err(Error::Codec { column: column.name.clone(), codec });
        }
        Ok(())
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { columns, rows, .. } = self;
        f.debug_struct("Reader").field("columns", columns).field("rows", rows).finish_non_exhaustive()
    }
}

/// The type of a column that is neither nested nor repeated.
fn kind(column: &ColumnDescriptor) -> Option<Kind> {
    if column.max_rep_level() > 0 || column.max_def_level() > 1 || column.path().parts().len() != 1 {
        return None;
    }
    match column.physical_type() {
        Physical::INT32 => Some(Kind::Int32),
        Physical::INT64 => Some(Kind::Int64),
        Physical::BYTE_ARRAY => Some(Kind::Text),
        Physical::BOOLEAN
        | Physical::INT96
        | Physical::FLOAT
        | Physical::DOUBLE
        | Physical::FIXED_LEN_BYTE_ARRAY => None,
    }
}

fn found(column: &ColumnDescriptor) -> String {
    let is_flat = column.max_rep_level() == 0 && column.path().parts().len() == 1;
    let nesting = if is_flat { "" } else { "a nested or repeated " };
    format!("{nesting}{}", column.physical_type())
}

impl Batches<'_> {
    /// The values of the next rows, of each selected column in the sequence of the selection, at most
    /// [`MAX_BATCH`]; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is damaged. There are no further batches then.
    pub fn advance(&mut self) -> Result<Option<&[Values]>, Error> {
        match decoding(|| self.read()) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(&self.values)),
            Err(error) => {
                (self.group, self.left) = (usize::MAX, 0);
                Err(error)
            }
        }
    }

    /// Returns how many rows.
    fn read(&mut self) -> Result<usize, Error> {
        while self.left == 0 {
            if !self.open_group()? {
                return Ok(0);
            }
        }
        let rows = usize::try_from(self.left).map_or(MAX_BATCH, |left| left.min(MAX_BATCH));
        for (selected, values) in self.selected.iter_mut().zip(&mut self.values) {
            values.clear();
            let name =
                || self.reader.columns.get(selected.position).map(|it| it.name.clone()).unwrap_or_default();
            let column =
                selected.column.as_mut().ok_or_else(|| Error::Damaged("a column is missing".into()))?;
            let read = self.scratch.read(column, rows, values).map_err(|error| error.of(name))?;
            if read != rows || values.len() != rows {
                let text = format!("column {} has fewer rows than its row group", name());
                return Err(Error::Damaged(text));
            }
        }
        self.left -= rows as u64;
        Ok(rows)
    }

    /// Returns whether there is a further row group.
    fn open_group(&mut self) -> Result<bool, Error> {
        let file = &self.reader.file;
        if self.group >= file.num_row_groups() {
            return Ok(false);
        }
        let group = file.get_row_group(self.group).map_err(Error::read)?;
        for selected in &mut self.selected {
            selected.column = Some(group.get_column_reader(selected.position).map_err(Error::read)?);
        }
        let rows = group.metadata().num_rows();
        self.left = u64::try_from(rows).map_err(|_| Error::Damaged(format!("a row group of {rows} rows")))?;
        self.group += 1;
        Ok(true)
    }
}

impl fmt::Debug for Batches<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, left, .. } = self;
        f.debug_struct("Batches").field("group", group).field("left", left).finish_non_exhaustive()
    }
}

enum Failed {
    Decoding(parquet::errors::ParquetError),
    Utf8,
    Long,
    Kind,
}

impl Failed {
    fn of(self, column: impl Fn() -> String) -> Error {
        match self {
            Self::Decoding(error) => Error::read(error),
            Self::Utf8 => Error::Utf8 { column: column() },
            Self::Long => Error::Damaged(format!(
                "column {} has over {} MiB of texts in {MAX_BATCH} rows",
                column(),
                MAX_TEXT >> 20
            )),
            Self::Kind => Error::Damaged(format!("column {} has more than one type", column())),
        }
    }
}

impl Scratch {
    /// Returns how many rows.
    fn read(&mut self, column: &mut ColumnReader, rows: usize, values: &mut Values) -> Result<usize, Failed> {
        let Self { levels, int32, int64, texts } = self;
        levels.clear();
        match (column, values) {
            (ColumnReader::Int32ColumnReader(column), Values::Int32(values)) => {
                let read = read(column, rows, levels, int32)?;
                join(levels, int32, values);
                Ok(read)
            }
            (ColumnReader::Int64ColumnReader(column), Values::Int64(values)) => {
                let read = read(column, rows, levels, int64)?;
                join(levels, int64, values);
                Ok(read)
            }
            (ColumnReader::ByteArrayColumnReader(column), Values::Text(values)) => {
                let read = read(column, rows, levels, texts)?;
                let joined = join_texts(levels, texts, values);
                // They hold pages in memory.
                texts.clear();
                joined.map(|()| read)
            }
            _ => Err(Failed::Kind),
        }
    }
}

/// Reads as many rows as there are, up to `rows`: one call ends where a page does.
fn read<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    rows: usize,
    levels: &mut Vec<i16>,
    values: &mut Vec<T::T>,
) -> Result<usize, Failed> {
    values.clear();
    let mut all = 0;
    while all < rows {
        let (records, read, _) =
            column.read_records(rows - all, Some(levels), None, values).map_err(Failed::Decoding)?;
        if records == 0 {
            break;
        }
        // A column that is required has no levels.
        if levels.len() < all + records && values.len() == all + records {
            levels.resize(all + records, 1);
        }
        debug_assert!(read <= records);
        all += records;
    }
    Ok(all)
}

/// Each level says whether there is a value.
fn join<T: Copy>(levels: &[i16], present: &[T], values: &mut Vec<Option<T>>) {
    if levels.len() == present.len() {
        values.extend(present.iter().copied().map(Some));
        return;
    }
    let mut present = present.iter().copied();
    values.extend(levels.iter().map(|level| if *level > 0 { present.next() } else { None }));
}

fn join_texts(levels: &[i16], present: &[ByteArray], texts: &mut Texts) -> Result<(), Failed> {
    let bytes = present.iter().map(ByteArray::len).fold(0, usize::saturating_add);
    if bytes > MAX_TEXT {
        return Err(Failed::Long);
    }
    let (buffer, spans) = texts.parts();
    let mut joined = mem::take(buffer).into_bytes();
    joined.reserve(bytes);
    let mut present = present.iter();
    for level in levels {
        let text = if *level > 0 { present.next() } else { None };
        spans.push(text.and_then(|text| {
            let start = joined.len();
            joined.extend_from_slice(text.data());
            span(start, joined.len())
        }));
    }
    // All at once, and then each end: a text may not share a letter with the next.
    *buffer = String::from_utf8(joined).map_err(|_| Failed::Utf8)?;
    let is_whole = |span: &(u32, u32)| buffer.is_char_boundary(span.1 as usize);
    if spans.iter().flatten().all(is_whole) { Ok(()) } else { Err(Failed::Utf8) }
}
