//! Functions of text.

use std::borrow::Cow;

use super::{Function, Numeric, Value};

/// A function of text. Of a missing first argument only what asks for that has a result.
pub(super) fn call<'a>(
    function: Function,
    first: Value<'a>,
    mut others: impl Iterator<Item = Value<'a>>,
) -> Value<'a> {
    let text = first.into_text();
    match function {
        Function::IsEmpty => return Value::truth(text.is_none_or(|text| text.is_empty())),
        Function::IsBlank => return Value::truth(text.is_none_or(|text| text.trim().is_empty())),
        Function::Concat => return concat(text, others),
        _ => {}
    }
    let Some(text) = text else { return Value::Null };
    match function {
        Function::StrLen => count(text.chars().count()),
        Function::ToLower => Value::Text(Cow::Owned(text.to_lowercase())),
        Function::ToUpper => Value::Text(Cow::Owned(text.to_uppercase())),
        Function::Trim | Function::Ltrim | Function::Rtrim => {
            let characters = others.next().and_then(Value::into_text);
            let trims = |character: char| match &characters {
                Some(characters) => characters.contains(character),
                None => character.is_whitespace(),
            };
            let (left, right) = (function != Function::Rtrim, function != Function::Ltrim);
            part(text, |text| {
                let text = if left { text.trim_start_matches(trims) } else { text };
                if right { text.trim_end_matches(trims) } else { text }
            })
        }
        Function::Substr => substr(text, others.next(), others.next()),
        Function::Replace => {
            let (Some(from), Some(to)) =
                (others.next().and_then(Value::into_text), others.next().and_then(Value::into_text))
            else {
                return Value::Null;
            };
            let is_there = !from.is_empty() && text.contains(from.as_ref());
            Value::Text(if is_there { Cow::Owned(text.replace(from.as_ref(), &to)) } else { text })
        }
        _ => {
            let Some(other) = others.next().and_then(Value::into_text) else { return Value::Null };
            let ignores_case = others.next().is_some_and(|value| value.is_true() == Some(true));
            Value::truth(match function {
                Function::StartsWith => text.starts_with(other.as_ref()),
                Function::EndsWith => text.ends_with(other.as_ref()),
                _ if ignores_case => text.to_lowercase().contains(&other.to_lowercase()),
                _ => text.contains(other.as_ref()),
            })
        }
    }
}

/// What is missing adds nothing.
fn concat<'a>(first: Option<Cow<'a, str>>, others: impl Iterator<Item = Value<'a>>) -> Value<'a> {
    let mut joined = first.unwrap_or_default().into_owned();
    joined.extend(others.filter_map(Value::into_text));
    Value::Text(Cow::Owned(joined))
}

/// From a character on, counted from 0, and as many of them as asked.
fn substr<'a>(text: Cow<'a, str>, start: Option<Value<'a>>, length: Option<Value<'a>>) -> Value<'a> {
    let whole =
        |value: Value<'_>| value.number().and_then(Numeric::whole).and_then(|n| usize::try_from(n).ok());
    let Some(start) = start.and_then(whole) else { return Value::Null };
    let length = match length.map(whole) {
        None => usize::MAX,
        Some(Some(length)) => length,
        Some(None) => return Value::Null,
    };
    part(text, |text| {
        let offset = |text: &str, characters: usize| {
            text.char_indices().nth(characters).map_or(text.len(), |(offset, _)| offset)
        };
        let rest = text.get(offset(text, start)..).unwrap_or_default();
        rest.get(..offset(rest, length)).unwrap_or_default()
    })
}

/// A part of a text, without a copy where the text is borrowed.
fn part<'a>(text: Cow<'a, str>, of: impl Fn(&str) -> &str) -> Value<'a> {
    Value::Text(match text {
        Cow::Borrowed(text) => Cow::Borrowed(of(text)),
        Cow::Owned(text) => Cow::Owned(of(&text).to_owned()),
    })
}

fn count<'a>(count: usize) -> Value<'a> {
    i64::try_from(count).map_or(Value::Null, Value::Integer)
}
