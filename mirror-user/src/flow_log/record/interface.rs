//! What all records of an interface have in common.

use std::fmt;

use super::{Value, text};
use crate::flow_log::Field;

/// Values of text fields which all records of an interface have in common: ids, its place, tags.
#[derive(Clone, Eq, PartialEq)]
pub struct InterfaceFields {
    values: [Option<Box<str>>; Field::COUNT],
}

impl InterfaceFields {
    /// Without any value.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: [const { None }; Field::COUNT] }
    }

    /// Sets a field; of fields that [`Record`](super::Record) has itself it has no effect. An empty text and
    /// `-` are no value. Blanks and control characters, which would divide a line, are percent-encoded
    /// (RFC 3986 section 2.1).
    pub fn set(&mut self, field: Field, value: &str) {
        if let Some(own) = self.values.get_mut(field as usize) {
            *own = is_value(value).then(|| encoded(value, |letter| letter <= ' ' || letter == '\x7f'));
        }
    }

    /// Sets a field to the value of a tag, of which all but letters and digits are percent-encoded:
    /// `my-app` is `my%2Dapp`.
    pub fn set_tag(&mut self, field: Field, value: &str) {
        let value = encoded(value, |letter| !letter.is_ascii_alphanumeric());
        self.set(field, &value);
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<&str> {
        self.values.get(field as usize)?.as_deref()
    }

    pub(super) fn value(&self, field: Field) -> Value<'_> {
        text(self.get(field))
    }
}

pub(super) fn is_value(value: &str) -> bool {
    !matches!(value, "" | "-")
}

fn encoded(value: &str, is_special: impl Fn(char) -> bool) -> Box<str> {
    let mut out = String::with_capacity(value.len());
    for letter in value.chars() {
        if is_special(letter) {
            for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
                }
            }
        } else {
            out.push(letter);
        }
    }
    out.into()
}

impl Default for InterfaceFields {
    fn default() -> Self {
        Self::new()
    }
}

/// Only what has a value.
impl fmt::Debug for InterfaceFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = Field::ALL.into_iter().filter_map(|field| Some((field.name(), self.get(field)?)));
        f.debug_map().entries(values).finish()
    }
}
