//! Words of a query, on demand: whether `/` divides or begins a regular expression is the parser's to know.

use std::ops::Range;

use super::error::{ParseError, ParseErrorKind};

/// A word of a query.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'t> {
    /// A bare word: a field, a function, a command or an operator.
    Name(&'t str),
    /// A name in backticks.
    Quoted(&'t str),
    /// Digits with at most one point.
    Number(&'t str),
    /// Digits with letters behind them: `5m`.
    Period(&'t str),
    /// A string without its quotes and escapes.
    Text(String),
    /// An operator or a bracket.
    Symbol(&'static str),
    /// A character of no other word.
    Other(char),
    End,
}

/// Longer ones first, as `<` begins `<=`.
const SYMBOLS: [&str; 21] = [
    "!=", "<=", ">=", "=~", "==", "|", ",", "(", ")", "[", "]", "=", "<", ">", "+", "-", "*", "/", "%", "^",
    "!",
];

/// Reads words from an offset on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'t> {
    query: &'t str,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(query: &'t str) -> Self {
        Self { query }
    }

    /// The next word at or after `offset`, and where it is.
    pub(super) fn token(&self, offset: usize) -> Result<(Token<'t>, Range<usize>), ParseError> {
        let start = self.skip_blanks(offset);
        let rest = self.rest(start);
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, start..start));
        };
        if matches!(first, '"' | '\'') {
            let (text, end) = self.string(start, first)?;
            return Ok((Token::Text(text), start..end));
        }
        let (token, length) = if first == '`' {
            let inner = rest.get(1..).unwrap_or_default();
            let Some(length) = inner.find('`') else {
                return Err(self.unclosed(start, "the name", '`'));
            };
            (Token::Quoted(&inner[..length]), length + 2)
        } else if first.is_ascii_digit() {
            number(rest)
        } else if is_name_start(first) {
            let name = prefix(rest, is_name_part);
            (Token::Name(name), name.len())
        } else if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            (Token::Symbol(symbol), symbol.len())
        } else {
            (Token::Other(first), first.len_utf8())
        };
        Ok((token, start..start + length))
    }

    /// The regular expression whose `/` is at `start`, without the delimiters, and where it ends. `\/` is
    /// `/`.
    pub(super) fn regex(&self, start: usize) -> Result<(String, usize), ParseError> {
        let mut source = String::new();
        let mut characters = self.rest(start).char_indices().skip(1);
        while let Some((offset, character)) = characters.next() {
            match character {
                '/' => return Ok((source, start + offset + 1)),
                '\\' => match characters.next() {
                    Some((_, '/')) => source.push('/'),
                    Some((_, escaped)) => source.extend(['\\', escaped]),
                    None => break,
                },
                _ => source.push(character),
            }
        }
        Err(self.unclosed(start, "the regular expression", '/'))
    }

    fn rest(&self, offset: usize) -> &'t str {
        self.query.get(offset..).unwrap_or_default()
    }

    /// Blanks and comments; those last from `#` to the end of the line.
    fn skip_blanks(&self, mut offset: usize) -> usize {
        loop {
            let rest = self.rest(offset);
            let trimmed = rest.trim_start();
            offset += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return offset;
            }
            offset += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn string(&self, start: usize, quote: char) -> Result<(String, usize), ParseError> {
        let mut text = String::new();
        let mut characters = self.rest(start).char_indices().skip(1);
        while let Some((offset, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\'' | '\\'))) => text.push(escaped),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, escaped)) => text.extend(['\\', escaped]),
                    None => break,
                },
                _ if character == quote => return Ok((text, start + offset + 1)),
                _ => text.push(character),
            }
        }
        Err(self.unclosed(start, "the string", quote))
    }

    fn unclosed(&self, start: usize, what: &'static str, delimiter: char) -> ParseError {
        let kind = ParseErrorKind::Unclosed { what, delimiter };
        ParseError::new(self.query, start..start + 1, kind)
    }
}

/// Whether a word may be written without backticks.
pub(super) fn is_bare_name(name: &str) -> bool {
    name.starts_with(is_name_start) && name.chars().all(is_name_part)
}

fn is_name_start(character: char) -> bool {
    character.is_alphabetic() || matches!(character, '_' | '@' | '$')
}

fn is_name_part(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '@' | '$' | '.')
}

fn prefix(text: &str, belongs: fn(char) -> bool) -> &str {
    let length = text.find(|character| !belongs(character)).unwrap_or(text.len());
    &text[..length]
}

/// A number or a period, and its length.
fn number(rest: &str) -> (Token<'_>, usize) {
    let is_digit = |character: char| character.is_ascii_digit();
    let mut length = prefix(rest, |character| character.is_ascii_digit()).len();
    let fraction = rest.get(length + 1..).unwrap_or_default();
    if rest[length..].starts_with('.') && fraction.starts_with(is_digit) {
        length += 1 + prefix(fraction, |character| character.is_ascii_digit()).len();
    }
    let word = length + prefix(&rest[length..], is_name_part).len();
    let token = if word > length { Token::Period(&rest[..word]) } else { Token::Number(&rest[..length]) };
    (token, word)
}

#[cfg(test)]
mod tests;
