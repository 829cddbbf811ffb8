//! How words of a file or of a command line become values.

use std::{
    fmt,
    ops::Deref,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

/// Why a word is not a valid value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(super) String);

/// A value that is written as a word.
pub trait Word: FromStr<Err: fmt::Display> {
    /// What joins the elements of an array into one word, if an array is allowed.
    const JOINED_BY: Option<&'static str> = None;
    /// What separates several values in one word.
    const SPLIT_AT: Option<char> = None;
}

impl Word for String {}
impl Word for PathBuf {}

/// A value and the word it was parsed from: printed as it was written, compared by value.
#[derive(Clone, Debug)]
pub struct Written<T> {
    text: String,
    value: T,
}

impl<T> Written<T> {
    /// The word as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Written<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Written<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Display> From<T> for Written<T> {
    fn from(value: T) -> Self {
        Self { text: value.to_string(), value }
    }
}

impl From<&Path> for Written<PathBuf> {
    fn from(path: &Path) -> Self {
        Self { text: path.to_string_lossy().into_owned(), value: path.to_owned() }
    }
}

impl<T: Default + fmt::Display> Default for Written<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: Word> FromStr for Written<T> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let value = text.parse::<T>().map_err(|error| Invalid(error.to_string()))?;
        Ok(Self { text: text.to_owned(), value })
    }
}

/// A TOML integer if it is one, else a string.
impl<T> Serialize for Written<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.text.parse::<i64>() {
            Ok(number) if number.to_string() == self.text => serializer.serialize_i64(number),
            _ => serializer.serialize_str(&self.text),
        }
    }
}

impl<'de, T: Word> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = deserializer.deserialize_any(Words)?;
        match (&words[..], T::JOINED_BY) {
            ([word], _) => parsed(word),
            (words, Some(comma)) => parsed(&words.join(comma)),
            (words, None) => Err(D::Error::custom(format!("one value is wanted, not {}", words.len()))),
        }
    }
}

/// Several values, one per word. A single one needs no array.
#[derive(Clone, Debug)]
pub struct Many<T>(pub Vec<Written<T>>);

impl<T: PartialEq> PartialEq for Many<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Many<T> {
    /// `None` if there are none.
    pub fn of(values: Vec<Written<T>>) -> Option<Self> {
        (!values.is_empty()).then_some(Self(values))
    }

    /// The values.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|written| &written.value)
    }
}

impl<T> Serialize for Many<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Word> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = deserializer.deserialize_any(Words)?;
        let each = words.iter().flat_map(|word| match T::SPLIT_AT {
            Some(comma) => word.split(comma).collect::<Vec<_>>(),
            None => vec![word.as_str()],
        });
        each.map(parsed).collect::<Result<_, _>>().map(Self)
    }
}

/// Deserializes a single word, for types that are printed the way they are written.
pub(super) fn one<'de, T: Word, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Written::deserialize(deserializer).map(Written::into_value)
}

fn parsed<T: Word, E: Error>(word: &str) -> Result<Written<T>, E> {
    word.parse().map_err(|error| E::custom(format!("invalid value '{word}': {error}")))
}

/// A string, an integer, or an array of those.
struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an integer, or an array of strings and integers")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Err(E::custom("neither true nor false is valid here"))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        Ok(vec![word.to_owned()])
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut words = Vec::new();
        while let Some(Element(word)) = array.next_element()? {
            words.push(word);
        }
        Ok(words)
    }
}

/// An element of an array: a string or an integer.
struct Element(String);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = deserializer.deserialize_any(Words)?;
        match <[String; 1]>::try_from(words) {
            Ok([word]) => Ok(Self(word)),
            Err(_) => Err(D::Error::custom("expected a string or an integer in an array")),
        }
    }
}

/// The keys of a type, in its order.
pub(super) fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    /// A deserializer that yields no value, and records the requested fields.
    struct Keys<'k>(&'k mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Keys<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(Error::custom("no struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            Err(Error::custom("only its fields"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut keys: &'static [&'static str] = &[];
    // It always fails.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// The value of a text, or its error.
    pub(in super::super) fn read<T: FromStr<Err = Invalid>>(text: &str) -> Result<T, String> {
        text.parse().map_err(|Invalid(reason)| reason)
    }
}
