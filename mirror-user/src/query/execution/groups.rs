//! Groups of `stats`.

use std::collections::HashMap;

use super::{
    super::{
        aggregate::State,
        expression::Row,
        plan::{Call, Group},
        value::{Numeric, Value},
    },
    Each, Exhausted, Memory,
};

/// Groups by their keys, each with its aggregates. Keys are strangers' text, so the hash is a keyed one.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Numbers of groups, in the order in which they appeared.
    numbers: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    /// Of each group as many as there are aggregates.
    states: Vec<State>,
    /// Room for the key of a row.
    key: Vec<u8>,
}

/// What a group takes in the table besides its key: an entry, at a load of a half in the worst case, and what
/// the allocator adds to the key.
const ENTRY: usize = 2 * (size_of::<(Box<[u8]>, usize)>() + 1) + 16;

impl Groups {
    /// Adds a row to its group.
    #[inline]
    pub(super) fn add(
        &mut self,
        group: &Group,
        row: Row<'_, '_>,
        memory: &mut Memory,
    ) -> Result<(), Exhausted> {
        self.key.clear();
        for key in &group.keys {
            key.view(row, |value| encode(value, &mut self.key));
        }
        let width = group.aggregates.len();
        let number = match self.numbers.get(self.key.as_slice()) {
            Some(number) => *number,
            None => {
                memory.take(self.key.len() + ENTRY + width * size_of::<State>(), "groups")?;
                let number = self.numbers.len();
                self.numbers.insert(self.key.as_slice().into(), number);
                let states = group.aggregates.iter().map(|call| State::new(call.aggregate, call.percentile));
                self.states.extend(states);
                number
            }
        };
        let states = self.states.get_mut(number * width..).unwrap_or_default();
        for (Call { argument, time, .. }, state) in group.aggregates.iter().zip(states) {
            let time = time.as_ref().map_or(Value::Null, |time| time.evaluate(row));
            let grown = match argument {
                Some(argument) => argument.view(row, |value| state.add(value, &time)),
                None => state.add(&Value::Integer(1), &time),
            };
            if grown > 0 {
                memory.take(grown, "groups")?;
            }
        }
        Ok(())
    }

    /// Hands over rows of keys and columns, in the order in which the groups appeared.
    pub(super) fn finish(self, group: &Group, now: i64, each: Each<'_>) -> Result<(), Exhausted> {
        let mut keys = vec![Box::default(); self.numbers.len()];
        for (key, number) in self.numbers {
            if let Some(room) = keys.get_mut(number) {
                *room = key;
            }
        }
        let mut states = self.states.into_iter();
        for key in keys {
            let mut input = decode(&key);
            let by = input.len();
            for state in states.by_ref().take(group.aggregates.len()) {
                input.push(state.finish());
            }
            let mut computed = Vec::with_capacity(group.columns.len());
            for column in &group.columns {
                let value = column.evaluate(Row { input: &input, computed: &computed, now });
                computed.push(value);
            }
            let row = input.iter().take(by).chain(&computed).map(Value::borrowed);
            each(&row.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const TIMESTAMP: u8 = 2;
const NUMBER: u8 = 3;
const TEXT: u8 = 4;

/// Appends a value. Text that prints an integer is that integer, so that records of text and of Parquet meet
/// in one group.
#[inline]
pub(super) fn encode(value: &Value<'_>, key: &mut Vec<u8>) {
    match value {
        Value::Null => key.push(NULL),
        Value::Integer(integer) => word(INTEGER, integer.to_le_bytes(), key),
        Value::Timestamp(millis) => word(TIMESTAMP, millis.to_le_bytes(), key),
        Value::Number(number) => word(NUMBER, number.to_le_bytes(), key),
        Value::Text(text) => match canonical(text) {
            Some(integer) => word(INTEGER, integer.to_le_bytes(), key),
            None => {
                word(TEXT, text.len().to_le_bytes(), key);
                key.extend_from_slice(text.as_bytes());
            }
        },
    }
}

fn word<const N: usize>(tag: u8, bytes: [u8; N], key: &mut Vec<u8>) {
    key.push(tag);
    key.extend_from_slice(&bytes);
}

/// The integer that prints as this text.
fn canonical(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_canonical = match digits.as_bytes() {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    match is_canonical.then(|| Numeric::read(text)).flatten() {
        Some(Numeric::Integer(integer)) => Some(integer),
        _ => None,
    }
}

/// The values of a key.
fn decode(mut key: &[u8]) -> Vec<Value<'_>> {
    let mut values = Vec::new();
    while let Some((tag, rest)) = key.split_first() {
        let (bytes, rest) = match rest.split_first_chunk::<8>() {
            Some(split) if *tag != NULL => split,
            _ => {
                values.push(Value::Null);
                key = rest;
                continue;
            }
        };
        key = rest;
        values.push(match *tag {
            INTEGER => Value::Integer(i64::from_le_bytes(*bytes)),
            TIMESTAMP => Value::Timestamp(i64::from_le_bytes(*bytes)),
            NUMBER => Value::Number(f64::from_le_bytes(*bytes)),
            _ => {
                let length = usize::try_from(u64::from_le_bytes(*bytes)).unwrap_or(key.len());
                let (text, rest) = key.split_at(length.min(key.len()));
                key = rest;
                Value::Text(String::from_utf8_lossy(text))
            }
        });
    }
    values
}
