//! Syslog (RFC 3164, RFC 5424): facility and severity.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const FACILITIES: [&str; 24] = [
    "kernel", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "security", "console", "cron", "local0", "local1", "local2", "local3", "local4", "local5",
    "local6", "local7",
];
const SEVERITIES: [&str; 8] =
    ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
const MAX_DIGITS: usize = 3;

pub(super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    text.protocol = "syslog";
    if message.u8(0)? != b'<' {
        text.invalid();
        return Ok(());
    }
    let (mut at, mut priority) = (1, 0_usize);
    while at <= MAX_DIGITS && message.u8(at)?.is_ascii_digit() {
        priority = priority * 10 + usize::from(message.u8(at)? - b'0');
        at += 1;
    }
    if message.u8(at)? != b'>' {
        text.invalid();
        return Ok(());
    }
    let facility = priority >> 3 & 0x7f;
    put!(text, "SYSLOG ");
    match FACILITIES.get(facility) {
        Some(name) => put!(text, "{name}"),
        None => put!(text, "unknown ({facility})"),
    }
    put!(text, ".{}, length: {}", SEVERITIES[priority & 7], message.len());
    Ok(())
}
