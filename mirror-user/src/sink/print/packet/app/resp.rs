//! RESP, the protocol of Redis: strings, numbers and arrays of them, or lines of words.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

/// The deepest nesting of arrays that is printed: each level uses stack space.
const MAX_NESTED: u8 = 32;

/// The length of a string or an array; -1 for null.
enum Length {
    Of(u32),
    Null,
    TooLarge,
    Negative,
    Invalid,
}

pub(super) fn print(text: &mut Text<'_>, payload: View<'_>) -> Printed {
    text.protocol = "resp";
    put!(text, ": RESP");
    let mut rest = payload;
    while rest.len() > 0 {
        match value(text, rest, 0)? {
            Some(len) => rest = rest.after(len),
            None => {
                text.cut();
                break;
            }
        }
    }
    Ok(())
}

/// Prints the value at the start; returns its length, or `None` if its end is missing.
fn value(text: &mut Text<'_>, rest: View<'_>, nested: u8) -> Printed<Option<usize>> {
    if rest.here().is_empty() || nested > MAX_NESTED {
        return Ok(None);
    }
    match rest.u8(0)? {
        b'+' | b'-' | b':' => {
            let Some(end) = line_end(rest, 1) else { return Ok(None) };
            quoted(text, &rest.here()[1..end]);
            Ok(Some(end + 2))
        }
        b'$' => string(text, rest),
        b'*' => array(text, rest, nested),
        _ => Ok(inline(text, rest)),
    }
}

/// Offset of the end of the next line.
fn line_end(rest: View<'_>, from: usize) -> Option<usize> {
    let bytes = rest.here().get(from..)?;
    Some(from + bytes.windows(2).position(|pair| pair == b"\r\n")?)
}

fn quoted(text: &mut Text<'_>, bytes: &[u8]) {
    put!(text, " \"");
    text.escaped(bytes);
    put!(text, "\"");
}

fn string(text: &mut Text<'_>, rest: View<'_>) -> Printed<Option<usize>> {
    let Some((length, at)) = length(rest, 1)? else { return Ok(None) };
    let Length::Of(len) = length else {
        without(text, &length);
        return Ok(Some(at));
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len == 0 {
        put!(text, " empty");
    } else {
        let Some(bytes) = rest.here().get(at..).and_then(|bytes| bytes.get(..len)) else { return Ok(None) };
        quoted(text, bytes);
    }
    Ok(line_end(rest, at + len).map(|end| end + 2))
}

fn array(text: &mut Text<'_>, rest: View<'_>, nested: u8) -> Printed<Option<usize>> {
    let Some((length, mut at)) = length(rest, 1)? else { return Ok(None) };
    match length {
        Length::Of(0) => put!(text, " empty"),
        Length::Of(values) => {
            for _ in 0..values {
                let Some(len) = value(text, rest.after(at), nested + 1)? else { return Ok(None) };
                at += len;
            }
        }
        other => without(text, &other),
    }
    Ok(Some(at))
}

/// Prints an invalid length.
fn without(text: &mut Text<'_>, length: &Length) {
    match length {
        Length::Null => put!(text, " null"),
        Length::TooLarge => put!(text, " length too large"),
        Length::Negative => put!(text, " length negative and not -1"),
        Length::Of(_) | Length::Invalid => put!(text, " invalid"),
    }
}

/// A length, and the offset of what it counts; `None` if it is incomplete.
fn length(rest: View<'_>, mut at: usize) -> Printed<Option<(Length, usize)>> {
    const MOST: u32 = i32::MAX.cast_unsigned();
    if rest.len() == at {
        return Ok(None);
    }
    let is_negative = rest.u8(at)? == b'-';
    at += usize::from(is_negative);
    let (mut number, mut is_too_large, start) = (0_u32, false, at);
    loop {
        if at >= rest.len() {
            return Ok(None);
        }
        let byte = rest.u8(at)?;
        at += 1;
        match byte {
            b'0'..=b'9' if number > MOST / 10 => is_too_large = true,
            b'0'..=b'9' => {
                let next = number * 10 + u32::from(byte - b'0');
                is_too_large |= next > MOST;
                number = if next > MOST { number * 10 } else { next };
            }
            b'\r' if at - 1 > start => break,
            _ => return Ok(Some((Length::Invalid, at))),
        }
    }
    if at >= rest.len() {
        return Ok(None);
    }
    let ends = rest.u8(at)? == b'\n';
    at += 1;
    let length = match (ends, is_negative, is_too_large) {
        (false, ..) => Length::Invalid,
        (_, true, false) if number == 1 => Length::Null,
        (_, true, _) => Length::Negative,
        (_, _, true) => Length::TooLarge,
        _ => Length::Of(number),
    };
    Ok(Some((length, at)))
}

/// Words on a line without a type byte.
fn inline(text: &mut Text<'_>, rest: View<'_>) -> Option<usize> {
    let bytes = rest.here();
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = bytes.iter().position(|byte| !is_end(byte))?;
    let end = start + bytes[start..].iter().position(is_end)?;
    quoted(text, &bytes[start..end]);
    Some(end + bytes[end..].iter().take_while(|byte| is_end(byte)).count())
}
