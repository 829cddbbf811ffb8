//! Protocols of lines of text: HTTP, FTP, SMTP, RTSP, SIP, WHOIS.
//!
//! Prints the first line, with `-v` all lines. Protocols whose messages have a body are printed only if the
//! packet begins with a request or a response.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

/// The longest word that is compared.
const MAX_WORD: usize = 127;

const HTTP: &[&str] = &[
    "GET",
    "PUT",
    "COPY",
    "HEAD",
    "LOCK",
    "MOVE",
    "POLL",
    "POST",
    "BCOPY",
    "BMOVE",
    "MKCOL",
    "TRACE",
    "LABEL",
    "MERGE",
    "DELETE",
    "SEARCH",
    "UNLOCK",
    "REPORT",
    "UPDATE",
    "NOTIFY",
    "BDELETE",
    "CONNECT",
    "OPTIONS",
    "CHECKIN",
    "PROPFIND",
    "CHECKOUT",
    "CCM_POST",
    "SUBSCRIBE",
    "PROPPATCH",
    "BPROPFIND",
    "BPROPPATCH",
    "UNCHECKOUT",
    "MKACTIVITY",
    "MKWORKSPACE",
    "UNSUBSCRIBE",
    "RPC_CONNECT",
    "VERSION-CONTROL",
    "BASELINE-CONTROL",
];
const RTSP: &[&str] = &[
    "DESCRIBE",
    "ANNOUNCE",
    "GET_PARAMETER",
    "OPTIONS",
    "PAUSE",
    "PLAY",
    "RECORD",
    "REDIRECT",
    "SETUP",
    "SET_PARAMETER",
    "TEARDOWN",
];
const SIP: &[&str] = &[
    "ACK",
    "BYE",
    "CANCEL",
    "DO",
    "INFO",
    "INVITE",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "QAUTH",
    "REFER",
    "REGISTER",
    "SPRACK",
    "SUBSCRIBE",
    "UPDATE",
    "PUBLISH",
];

pub(super) fn http(text: &mut Text<'_>, payload: View<'_>) -> Printed {
    print(text, "http", payload, Some(HTTP))
}

pub(super) fn rtsp(text: &mut Text<'_>, payload: View<'_>) -> Printed {
    print(text, "rtsp", payload, Some(RTSP))
}

pub(super) fn sip(text: &mut Text<'_>, payload: View<'_>) -> Printed {
    print(text, "sip", payload, Some(SIP))
}

/// Prints a protocol without message bodies.
pub(super) fn plain(text: &mut Text<'_>, protocol: &'static str, payload: View<'_>) -> Printed {
    print(text, protocol, payload, None)
}

fn print(
    text: &mut Text<'_>,
    protocol: &'static str,
    payload: View<'_>,
    requests: Option<&[&str]>,
) -> Printed {
    text.protocol = protocol;
    text.capitals();
    if requests.is_some_and(|requests| !begins_a_message(payload, requests)) {
        return Ok(());
    }
    if !text.verbose() {
        line(text, ": ", payload)?;
        return Ok(());
    }
    put!(text, ", length: {}", payload.len());
    let mut rest = payload;
    while rest.len() > 0 {
        let Some(len) = line(text, "\n\t", rest)? else { break };
        rest = rest.after(len);
    }
    Ok(())
}

/// Whether the first word is a request, or the second a code of three digits.
fn begins_a_message(payload: View<'_>, requests: &[&str]) -> bool {
    let is_whole = payload.whole().is_some();
    let Some((first, rest)) = word(payload.here(), is_whole) else { return false };
    let is_request = requests.iter().any(|request| first.eq_ignore_ascii_case(request.as_bytes()));
    let is_code = |word: &[u8]| word.len() == 3 && word.iter().all(u8::is_ascii_digit);
    is_request || word(rest, is_whole).is_some_and(|(second, _)| is_code(second))
}

/// The word at the start, and the rest after following spaces.
fn word(bytes: &[u8], is_whole: bool) -> Option<(&[u8], &[u8])> {
    let len = bytes.iter().take_while(|byte| byte.is_ascii_graphic()).count();
    let ends = match bytes.get(len) {
        Some(byte) => matches!(byte, b' ' | b'\t' | b'\r' | b'\n'),
        None => is_whole,
    };
    if !ends || !(1..=MAX_WORD).contains(&len) {
        return None;
    }
    let rest = &bytes[len..];
    // A tab, which is not printable, ends the search as a newline does.
    let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
    Some((&bytes[..len], &rest[blanks..]))
}

/// Prints the line at the start; returns its length with the newline, or `None` if there is no complete line.
fn line(text: &mut Text<'_>, before: &str, payload: View<'_>) -> Printed<Option<usize>> {
    let mut at = 0;
    let end = loop {
        if at >= payload.len() {
            put_line(text, before, payload.get(0, at)?);
            text.cut();
            return Ok(None);
        }
        match payload.u8(at)? {
            b'\n' => break at + 1,
            b'\r' if at + 1 >= payload.len() => return Ok(None),
            b'\r' if payload.u8(at + 1)? == b'\n' => break at + 2,
            b'\t' | b' '..=b'~' => at += 1,
            _ => return Ok(None),
        }
    };
    put_line(text, before, payload.get(0, at)?);
    Ok(Some(end))
}

fn put_line(text: &mut Text<'_>, before: &str, line: &[u8]) {
    put!(text, "{before}");
    text.printable(line);
}
