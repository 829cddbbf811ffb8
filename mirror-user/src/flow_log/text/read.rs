//! Reads lines of flow logs.

use std::{
    fmt,
    io::{self, BufRead, BufReader, ErrorKind, Read},
    str,
};

use crate::{
    flow_log::{Field, Format},
    source::unpack::Unpacked,
};

/// The longest line, in bytes: the 54 fields of version 11 with tags of 256 characters are below 16 KiB.
pub const MAX_LINE: usize = 64 * 1024;

/// Reads flow logs as text, plain or gzip: of VPCs, transit gateways and ECS, as delivered to S3 with a
/// header line, or in the default format without one, as exported from CloudWatch Logs with a time before
/// each record.
///
/// # Examples
///
/// ```
/// use mirror_user::flow_log::TextReader;
///
/// let mut reader = TextReader::new(&b"srcaddr bytes\n10.0.0.1 840\n"[..])?;
/// let bytes = reader.position("bytes").unwrap_or_default();
/// while let Some(line) = reader.line()? {
///     assert_eq!(line.value(bytes), Some("840"));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TextReader<R> {
    lines: Lines<R>,
    columns: Vec<Column>,
    /// The header line, which concatenated files repeat.
    header: Option<Box<str>>,
    /// Whether a time precedes each record.
    has_time: bool,
    /// Whether the first line is a record, and yet to be returned.
    has_first: bool,
    /// Where each value of the line ends.
    ends: Vec<usize>,
    skipped: Skipped,
}

/// A column of a flow log.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Column {
    /// As in the header line.
    pub name: Box<str>,
    /// The field, if AWS has it in flow logs of VPCs.
    pub field: Option<Field>,
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Line<'r> {
    text: &'r str,
    ends: &'r [usize],
}

/// Lines that are not records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Skipped {
    /// How many: they have more or fewer values than there are columns, or are no UTF-8, or longer than
    /// [`MAX_LINE`].
    pub lines: u64,
    /// The number of the first of them; lines count from 1.
    pub first: Option<u64>,
}

/// Why a flow log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The input failed, or is damaged gzip.
    #[error("line {line}: {source}")]
    Read {
        /// The number of the line that was read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// It does not begin with a header line, nor with a record of the default format.
    #[error(
        "line {line} is neither a header line nor a record of the default format; is it a flow log? If its \
        header line is missing, give its format"
    )]
    NoHeader {
        /// The number of the line.
        line: u64,
    },
}

impl<R: Read> TextReader<R> {
    /// Reads the header line. The input is buffered here.
    ///
    /// # Errors
    ///
    /// If it is neither a header line nor a record of the default format, or the input fails. An empty input
    /// has no columns and no lines.
    pub fn new(input: R) -> Result<Self, TextError> {
        let mut reader = Self::without_columns(input);
        let Some(first) = reader.first()? else { return Ok(reader) };
        if let Some(columns) = header(first) {
            reader.header = Some(first.into());
            reader.columns = columns;
            reader.has_first = false;
            return Ok(reader);
        }
        let (time, record) = without_time(first);
        let format = Format::default();
        let mut words = record.split_ascii_whitespace();
        // Other versions come with other fields.
        if words.next() != Some("2") || words.count() + 1 != format.fields().len() {
            return Err(TextError::NoHeader { line: reader.lines.number });
        }
        reader.has_time = time.is_some();
        reader.columns = columns_of(&format);
        Ok(reader)
    }

    /// Reads records without a header line, of this format.
    ///
    /// # Errors
    ///
    /// If the input fails.
    pub fn with_format(input: R, format: &Format) -> Result<Self, TextError> {
        let mut reader = Self::without_columns(input);
        reader.columns = columns_of(format);
        reader.has_time = reader.first()?.is_some_and(|line| without_time(line).0.is_some());
        Ok(reader)
    }

    fn without_columns(input: R) -> Self {
        Self {
            lines: Lines::new(input),
            columns: Vec::new(),
            header: None,
            has_time: false,
            has_first: false,
            ends: Vec::new(),
            skipped: Skipped::default(),
        }
    }

    /// The first line that is not blank.
    fn first(&mut self) -> Result<Option<&str>, TextError> {
        loop {
            match self.lines.advance()? {
                Advance::End => return Ok(None),
                Advance::Bad => return Err(TextError::NoHeader { line: self.lines.number }),
                Advance::Line if self.lines.text().is_empty() => {}
                Advance::Line => {
                    self.has_first = true;
                    return Ok(Some(self.lines.text()));
                }
            }
        }
    }

    /// The next record, or `None` at the end. Lines that are none are [skipped](Self::skipped).
    ///
    /// # Errors
    ///
    /// If the input fails.
    pub fn line(&mut self) -> Result<Option<Line<'_>>, TextError> {
        loop {
            let advance = if self.has_first { Advance::Line } else { self.lines.advance()? };
            self.has_first = false;
            match advance {
                Advance::End => return Ok(None),
                Advance::Line if self.is_record() => break,
                Advance::Line if self.is_blank_or_header() => {}
                Advance::Line | Advance::Bad => self.skipped.add(self.lines.number),
            }
        }
        let (_, text) =
            if self.has_time { without_time(self.lines.text()) } else { (None, self.lines.text()) };
        Ok(Some(Line { text, ends: &self.ends }))
    }

    /// Finds the values of the line; returns whether there are as many as columns.
    fn is_record(&mut self) -> bool {
        let whole = self.lines.text();
        let (time, text) = if self.has_time { without_time(whole) } else { (None, whole) };
        if time.is_some() != self.has_time || self.header.as_deref() == Some(whole) {
            return false;
        }
        self.ends.clear();
        let blanks = text.bytes().enumerate().filter(|(_, byte)| *byte == b' ');
        self.ends.extend(blanks.map(|(position, _)| position));
        self.ends.push(text.len());
        self.ends.len() == self.columns.len()
    }

    fn is_blank_or_header(&self) -> bool {
        let text = self.lines.text();
        text.is_empty() || self.header.as_deref() == Some(text)
    }

    /// The columns, in their sequence.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Where the column of this name is, in any spelling of a [`Field`].
    pub fn position(&self, name: &str) -> Option<usize> {
        let field = Field::named(name);
        self.columns.iter().position(|column| match field {
            Some(_) => column.field == field,
            None => *column.name == *name,
        })
    }

    /// The format, if all columns are fields of flow logs of VPCs.
    pub fn format(&self) -> Option<Format> {
        let fields: Option<Vec<_>> = self.columns.iter().map(|column| column.field).collect();
        Format::of(fields?).ok()
    }

    /// The number of the last line read; lines count from 1.
    pub fn line_number(&self) -> u64 {
        self.lines.number
    }

    /// Lines so far that are not records.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }
}

impl<R> fmt::Debug for TextReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextReader").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl<'r> Line<'r> {
    /// The whole record, without a time before it.
    #[must_use]
    pub fn text(&self) -> &'r str {
        self.text
    }

    /// The value of a column, by its position.
    #[must_use]
    pub fn value(&self, position: usize) -> Option<&'r str> {
        let start = match position.checked_sub(1) {
            Some(before) => self.ends.get(before)? + 1,
            None => 0,
        };
        self.text.get(start..*self.ends.get(position)?)
    }

    /// The values of all columns.
    pub fn values(&self) -> impl Iterator<Item = &'r str> + use<'r> {
        let Self { text, ends } = *self;
        let mut start = 0;
        ends.iter().map(move |end| {
            let value = text.get(start..*end).unwrap_or_default();
            start = end + 1;
            value
        })
    }
}

impl Skipped {
    fn add(&mut self, line: u64) {
        self.lines += 1;
        self.first.get_or_insert(line);
    }
}

fn columns_of(format: &Format) -> Vec<Column> {
    let column = |field: &Field| Column { name: field.name().into(), field: Some(*field) };
    format.fields().iter().map(column).collect()
}

/// The columns of a header line: names, of which at least one is of a field.
fn header(line: &str) -> Option<Vec<Column>> {
    let is_name = |word: &str| {
        word.starts_with(|letter: char| letter.is_ascii_lowercase())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let column = |word: &str| is_name(word).then(|| Column { name: word.into(), field: Field::named(word) });
    let columns: Vec<_> = line.split(' ').map(column).collect::<Option<_>>()?;
    columns.iter().any(|column| column.field.is_some()).then_some(columns)
}

/// The time before a record that was exported from CloudWatch Logs, such as `2021-07-22T07:09:10.000Z`, and
/// the record.
fn without_time(line: &str) -> (Option<&str>, &str) {
    match line.split_once(' ') {
        Some((time, record))
            if time.ends_with('Z') && time.len() >= 20 && time.as_bytes().get(10) == Some(&b'T') =>
        {
            (Some(time), record)
        }
        _ => (None, line),
    }
}

/// Lines of bounded length.
struct Lines<R> {
    input: BufReader<Retrying<R>>,
    /// The line, reused.
    line: Vec<u8>,
    number: u64,
}

enum Advance {
    /// A line is at hand.
    Line,
    /// It is too long, or no UTF-8.
    Bad,
    End,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        let input = BufReader::with_capacity(MAX_LINE, Retrying(Unpacked::new(input)));
        Self { input, line: Vec::new(), number: 0 }
    }

    fn advance(&mut self) -> Result<Advance, TextError> {
        self.line.clear();
        let result = self.read();
        result.map_err(|source| TextError::Read { line: self.number, source })
    }

    fn read(&mut self) -> io::Result<Advance> {
        let limit = MAX_LINE as u64 + 1;
        self.number += 1;
        if self.input.by_ref().take(limit).read_until(b'\n', &mut self.line)? == 0 {
            self.number -= 1;
            return Ok(Advance::End);
        }
        match self.line.strip_suffix(b"\n") {
            Some(line) => self.line.truncate(line.strip_suffix(b"\r").unwrap_or(line).len()),
            None if self.line.len() > MAX_LINE => {
                self.input.skip_until(b'\n')?;
                return Ok(Advance::Bad);
            }
            None => {}
        }
        Ok(if str::from_utf8(&self.line).is_ok() { Advance::Line } else { Advance::Bad })
    }

    /// The line, which has been checked.
    fn text(&self) -> &str {
        str::from_utf8(&self.line).unwrap_or_default()
    }
}

/// Unpacking pauses where much input gives no output, for readers that have other things to do.
struct Retrying<R>(Unpacked<R>);

impl<R: Read> Read for Retrying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}
