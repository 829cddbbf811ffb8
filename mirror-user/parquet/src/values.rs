//! Values of one column.

use std::fmt::{self, Write as _};

use parquet::data_type::ByteArray;

use crate::Kind;

/// Values of one column, `None` where there is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of INT32.
    Int32(Vec<Option<i32>>),
    /// Of INT64.
    Int64(Vec<Option<i64>>),
    /// Of texts.
    Text(Texts),
}

/// Texts, one after another in one buffer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    buffer: String,
    /// Where each begins and ends.
    spans: Vec<Option<(u32, u32)>>,
}

/// Room for what the decoder and encoder take, used again by all columns, so that a row costs no allocation.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) levels: Vec<i16>,
    pub(crate) int32: Vec<i32>,
    pub(crate) int64: Vec<i64>,
    pub(crate) texts: Vec<ByteArray>,
}

impl Values {
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Int32 => Self::Int32(Vec::new()),
            Kind::Int64 => Self::Int64(Vec::new()),
            Kind::Text => Self::Text(Texts::default()),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Int32(_) => Kind::Int32,
            Self::Int64(_) => Kind::Int64,
            Self::Text(_) => Kind::Text,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Text(texts) => texts.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn clear(&mut self) {
        match self {
            Self::Int32(values) => values.clear(),
            Self::Int64(values) => values.clear(),
            Self::Text(texts) => texts.clear(),
        }
    }

    /// Appends a number, in decimal to texts; to INT32, `None` if it cannot hold it.
    pub fn push_number(&mut self, number: Option<i64>) {
        match self {
            Self::Int32(values) => values.push(number.and_then(|number| number.try_into().ok())),
            Self::Int64(values) => values.push(number),
            Self::Text(texts) => match number {
                Some(number) => texts.push_display(number),
                None => texts.push(None),
            },
        }
    }

    /// Appends a text; `None` to numbers.
    pub fn push_text(&mut self, text: Option<&str>) {
        match self {
            Self::Text(texts) => texts.push(text),
            Self::Int32(_) | Self::Int64(_) => self.push_number(None),
        }
    }

    /// Appends a text as it is displayed; `None` to numbers.
    pub fn push_display(&mut self, text: impl fmt::Display) {
        match self {
            Self::Text(texts) => texts.push_display(text),
            Self::Int32(_) | Self::Int64(_) => self.push_number(None),
        }
    }
}

impl Texts {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// One of them; `None` if there is none at this position, or its value is missing.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<&str> {
        let (start, end) = (*self.spans.get(position)?)?;
        self.buffer.get(start as usize..end as usize)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.len()).map(|position| self.get(position))
    }

    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.spans.clear();
    }

    fn push(&mut self, text: Option<&str>) {
        let start = self.buffer.len();
        self.buffer.push_str(text.unwrap_or_default());
        self.spans.push(text.and_then(|_| span(start, self.buffer.len())));
    }

    fn push_display(&mut self, text: impl fmt::Display) {
        let start = self.buffer.len();
        // Writing to a String cannot fail.
        let _ = write!(self.buffer, "{text}");
        self.spans.push(span(start, self.buffer.len()));
    }

    /// Buffer and spans.
    pub(crate) fn parts(&mut self) -> (&mut String, &mut Vec<Option<(u32, u32)>>) {
        (&mut self.buffer, &mut self.spans)
    }
}

/// `None` beyond 4 GiB, which no chunk or batch has.
pub(crate) fn span(start: usize, end: usize) -> Option<(u32, u32)> {
    Some((start.try_into().ok()?, end.try_into().ok()?))
}
