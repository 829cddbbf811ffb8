//! Babel (RFC 8966): the kinds of the messages in a packet.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const HEADER: usize = 4;
const MAGIC: u8 = 42;
const PAD: u8 = 0;
const UPDATE: u8 = 8;

const KINDS: [&str; 20] = [
    "pad1",
    "padN",
    "ack-req",
    "ack",
    "hello",
    "ihu",
    "router-id",
    "nh",
    "update",
    "route-request",
    "seqno-request",
    "tspc",
    "hmac",
    "ss-update",
    "ss-request",
    "ss-mh-request",
    "mac",
    "pc",
    "challenge_request",
    "challenge_reply",
];

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "babel";
    put!(text, "babel");
    if !packet.has(HEADER) {
        text.cut();
        return Ok(());
    }
    if packet.u8(0)? != MAGIC {
        put!(text, " invalid header");
        return Ok(());
    }
    let version = packet.u8(1)?;
    put!(text, " {version}");
    if version != 2 {
        put!(text, " unknown version");
        return Ok(());
    }
    if packet.len() < HEADER {
        text.invalid();
        return Ok(());
    }
    let body_len = usize::from(packet.u16(2)?);
    put!(text, " ({body_len})");
    let body = packet.after(HEADER);
    if body.len() < body_len {
        text.invalid();
        return Ok(());
    }
    if !messages(text, body.of_len(body_len))? {
        return Ok(());
    }
    let trailer = body.after(body_len);
    if trailer.len() > 0 {
        put!(text, " |");
        messages(text, trailer)?;
    }
    Ok(())
}

/// Prints the kinds up to the end; returns whether all were readable.
fn messages(text: &mut Text<'_>, mut rest: View<'_>) -> Printed<bool> {
    while rest.len() > 0 {
        let kind = rest.u8(0)?;
        let mut len = 1;
        if kind != PAD {
            if rest.len() < 2 {
                text.invalid();
                return Ok(false);
            }
            if !rest.has(2) {
                text.cut();
                return Ok(false);
            }
            len = 2 + usize::from(rest.u8(1)?);
            if rest.len() < len {
                text.invalid();
                return Ok(false);
            }
            if !rest.has(len) {
                text.cut();
                return Ok(false);
            }
        }
        put!(text, " {}", KINDS.get(usize::from(kind)).unwrap_or(&"unknown"));
        if kind == UPDATE {
            if len < 12 {
                text.invalid();
                return Ok(false);
            }
            let flags = rest.u8(3)?;
            for (bits, name) in [(0x80, "/prefix"), (0x40, "/id"), (0x3f, "/unknown")] {
                put!(text, "{}", if flags & bits == 0 { "" } else { name });
            }
        }
        rest = rest.after(len);
    }
    Ok(true)
}
