//! Which fields a record has, and in which sequence.

use std::{fmt, str::FromStr};

use super::Field;

/// The fields of a flow log's records, each once, in their sequence.
///
/// Read from `default` (the 14 fields of version 2), `select-all-v5` (the 29 fields up to version 5 in
/// alphabetical sequence, as the console wrote them for "select all") or a format as AWS has it:
/// `${srcaddr} ${dstaddr} ${bytes}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Format {
    fields: Vec<Field>,
    version: u8,
}

/// Why a text is no format.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// It has no field.
    #[error(
        "the format has no field; use default, select-all-v5 or fields such as '${{srcaddr}} ${{bytes}}'"
    )]
    Empty,
    /// A word is not of the form `${field}`.
    #[error(
        "{word:?} in the format is not of the form ${{field}}; use default, select-all-v5 or fields such as \
        '${{srcaddr}} ${{bytes}}', quoted for the shell"
    )]
    Word {
        /// As it is in the text.
        word: String,
    },
    /// A field is none of AWS.
    #[error("unknown field {name:?} in the format{}", nearest.map(|field| format!("; did you mean {field}?"))
        .unwrap_or_default())]
    Unknown {
        /// As it is in the text.
        name: String,
        /// The field whose name differs least.
        nearest: Option<Field>,
    },
    /// A field occurs twice.
    #[error("the format has the field {0} twice; remove one")]
    Twice(Field),
}

const DEFAULT: &str = "default";
const SELECT_ALL_V5: &str = "select-all-v5";

impl Format {
    /// The default format: the 14 fields of version 2.
    #[must_use]
    pub fn default_v2() -> Self {
        Self::of_distinct(up_to(2).collect())
    }

    /// The 29 fields up to version 5 in alphabetical sequence, as the console wrote them for "select all"
    /// when they were all.
    #[must_use]
    pub fn select_all_v5() -> Self {
        let mut fields: Vec<_> = up_to(5).collect();
        fields.sort_by_key(|field| field.name());
        Self::of_distinct(fields)
    }

    /// The format of these fields.
    ///
    /// # Errors
    ///
    /// If there is none, or one of them twice.
    pub fn of(fields: impl IntoIterator<Item = Field>) -> Result<Self, FormatError> {
        let mut distinct = Vec::new();
        for field in fields {
            if distinct.contains(&field) {
                return Err(FormatError::Twice(field));
            }
            distinct.push(field);
        }
        if distinct.is_empty() { Err(FormatError::Empty) } else { Ok(Self::of_distinct(distinct)) }
    }

    fn of_distinct(fields: Vec<Field>) -> Self {
        let version = fields.iter().map(|field| field.version()).max().unwrap_or_default();
        Self { fields, version }
    }

    /// The fields, in their sequence.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Where a field is among them.
    #[must_use]
    pub fn position(&self, field: Field) -> Option<usize> {
        self.fields.iter().position(|other| *other == field)
    }

    /// What the field `version` of its records is: the highest version among the fields.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }
}

/// The fields up to a version.
fn up_to(version: u8) -> impl Iterator<Item = Field> {
    Field::ALL.into_iter().filter(move |field| field.version() <= version)
}

impl Default for Format {
    fn default() -> Self {
        Self::default_v2()
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text.trim() {
            DEFAULT => return Ok(Self::default_v2()),
            SELECT_ALL_V5 => return Ok(Self::select_all_v5()),
            _ => {}
        }
        let field = |word: &str| {
            let name = word.strip_prefix("${").and_then(|word| word.strip_suffix('}'));
            let name = name.ok_or_else(|| FormatError::Word { word: word.to_owned() })?;
            let unknown = || FormatError::Unknown { name: name.to_owned(), nearest: Field::nearest(name) };
            Field::named(name).ok_or_else(unknown)
        };
        Self::of(text.split_whitespace().map(field).collect::<Result<Vec<_>, _>>()?)
    }
}

/// As AWS has it: `${version} ${account-id} …`.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, field) in self.fields.iter().enumerate() {
            let separator = if position == 0 { "" } else { " " };
            write!(f, "{separator}${{{field}}}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
