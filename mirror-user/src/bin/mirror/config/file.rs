//! Reads a file into keys and values with their positions.

use std::{fmt, ops::Range};

use mirror_user::escape;
use toml::de::{DeTable, DeValue};

/// A key of a file.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) value: Value,
}

/// A position in a file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Position {
    /// Counted from 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The value of a key.
#[derive(Clone)]
pub(super) enum Value {
    Boolean(bool),
    Words(Vec<String>),
}

/// The key of tables.
pub(super) const SINK: &str = "sink";

/// A parsed file: settings, and the tables of sinks with their positions.
#[derive(Clone)]
pub(super) struct ParsedFile {
    pub(super) settings: Vec<Setting>,
    pub(super) sinks: Vec<(Position, Vec<Setting>)>,
}

/// Parses a file; keys are in its order.
pub(super) fn read(text: &str) -> Result<ParsedFile, (Position, String)> {
    let position = |span: Range<usize>| {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Position { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    };
    let table = DeTable::parse(text).map_err(|error| {
        let message = error.message().trim().replace('\n', ", ");
        (position(error.span().unwrap_or(text.len()..text.len())), message)
    })?;
    let settings = |table: &DeTable<'_>| -> Result<Vec<Setting>, (Position, String)> {
        let mut settings = Vec::new();
        for (key, value) in table {
            let position = position(key.span());
            let value = read_value(value.get_ref())
                .map_err(|message| (position, format!("{}: {message}", escape::line(key.get_ref()))))?;
            settings.push(Setting { key: key.get_ref().to_string(), position, value });
        }
        settings.sort_by_key(|setting| setting.position);
        Ok(settings)
    };
    let mut table = table.into_inner();
    let mut sinks = Vec::new();
    if let Some(tables) = table.remove(SINK) {
        let at = position(tables.span());
        let not = || (at, format!("expected `[[{SINK}]]`, a table per sink"));
        let DeValue::Array(tables) = tables.into_inner() else { return Err(not()) };
        for table in &tables {
            let DeValue::Table(keys) = table.get_ref() else { return Err(not()) };
            sinks.push((position(table.span()), settings(keys)?));
        }
    }
    Ok(ParsedFile { settings: settings(&table)?, sinks })
}

fn read_value(value: &DeValue<'_>) -> Result<Value, String> {
    let word = |value: &DeValue<'_>| match value {
        DeValue::String(string) => Ok(string.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(format!("{integer} is out of range")),
        },
        _ => {
            Err("expected a string, an integer, true, false, or an array of strings and integers".to_owned())
        }
    };
    match value {
        DeValue::Boolean(boolean) => Ok(Value::Boolean(*boolean)),
        DeValue::Array(array) => {
            array.iter().map(|value| word(value.get_ref())).collect::<Result<_, _>>().map(Value::Words)
        }
        one => Ok(Value::Words(vec![word(one)?])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each setting of a text: position, key and words.
    fn settings(text: &str) -> Result<Vec<String>, (Position, String)> {
        let words = |value| match value {
            Value::Boolean(boolean) => boolean.to_string(),
            Value::Words(words) => words.join("|"),
        };
        let settings = read(text)?.settings.into_iter();
        Ok(settings
            .map(|Setting { key, position, value }| format!("{position} {key} {}", words(value)))
            .collect())
    }

    #[test]
    fn keys_are_read_with_line_and_words() {
        let text =
            "# of a target\ncount = 5\n\nvni = [7, \"100-199\"]\nouter = true # all of it\nwrite = '-'\n";
        assert_eq!(
            settings(text).unwrap(),
            ["2:1 count 5", "4:1 vni 7|100-199", "5:1 outer true", "6:1 write -"]
        );
        assert!(settings("").unwrap().is_empty());
    }

    #[test]
    fn invalid_settings_are_refused_with_their_line() {
        let line = |text: &str| settings(text).expect_err(text).0.line;
        assert_eq!(line("count = 5\nsink = { write = 'x' }"), 2);
        assert_eq!(line("count = 5\nsink = 'x'"), 2);
        assert_eq!(line("[[sink]]\nwrite = 'x'\n[[sink]]\n\nwrite = 1.5"), 5);
        assert_eq!(line("[table]\nwrite = 'x'"), 1);
        assert_eq!(line("count = 5\nvni = [[7]]"), 2);
        assert_eq!(line("count = 1.5"), 1);
        assert_eq!(line("\ncount = 99999999999999999999"), 2);
        assert_eq!(line("count = 5\ncount = 6"), 2);
        assert_eq!(line("count = 5\n\ncount"), 3);
        assert_eq!(settings("[[sink]]\n  ä = 1.5").expect_err("no key").0, Position { line: 2, column: 3 });
        assert_eq!(settings("'ä' = 1\n'ä' = 2").expect_err("twice").0, Position { line: 2, column: 1 });
    }

    #[test]
    fn sinks_are_read_with_line_and_keys() {
        let text = "count = 5\n\n[[sink]]\nwrite = 'a'\n[[sink]]\nwrite = 'b'\nvnis = [1, 2]\n";
        let Ok(read) = read(text) else { panic!("two sinks") };
        let lines: Vec<_> =
            read.sinks.iter().map(|(position, settings)| (position.line, settings.len())).collect();
        assert_eq!((read.settings.len(), lines), (1, vec![(3, 1), (5, 2)]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_with_a_valid_position(text in "[a-z =\\[\\]\"'0-9,#.{}\n-]{0,60}") {
            if let Err((Position { line, column }, message)) = read(&text) {
                let lines = text.matches('\n').count() + 1;
                proptest::prop_assert!(column >= 1 && (1..=lines).contains(&line), "{line} {message}");
            }
        }
    }
}
