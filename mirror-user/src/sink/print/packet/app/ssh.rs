//! SSH's first line (RFC 4253 section 4.2); what follows it is encrypted.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

pub(super) fn print(text: &mut Text<'_>, payload: View<'_>) -> Printed {
    text.protocol = "ssh";
    for (at, letter) in b"SSH-".iter().enumerate() {
        if payload.u8(at)? != *letter {
            return Ok(());
        }
    }
    let mut at = 4;
    while at < payload.len() {
        match payload.u8(at)? {
            b'\n' => break,
            b'\r' if at + 1 < payload.len() && payload.u8(at + 1)? == b'\n' => break,
            b' '..=b'~' => at += 1,
            _ => return Ok(()),
        }
    }
    if at < payload.len() {
        put!(text, ": SSH: ");
        text.printable(payload.get(0, at)?);
    }
    Ok(())
}
