//! The option of multipath TCP (RFC 6824, RFC 8684).

use super::{
    text::{Address, Printed, Text, put},
    view::View,
};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Prints the option from its kind on; the view has the option's length. `flags` are those of the segment.
/// Returns whether the option is valid in such a segment.
pub(super) fn print(text: &mut Text<'_>, option: View<'_>, flags: u8) -> Printed<bool> {
    text.protocol = "mptcp";
    if option.len() < 3 {
        return Ok(false);
    }
    let subtype = option.u8(2)? >> 4;
    put!(text, " {} ", option.len());
    match subtype {
        0 => capable(text, option, flags),
        1 => join(text, option, flags),
        2 => sequence(text, option, flags),
        3 => add_address(text, option),
        4 => remove_address(text, option),
        5 => priority(text, option),
        6 => key(text, option, "fail", |text, key| put!(text, " seq {key}")),
        7 => key(text, option, "fast-close", |text, key| put!(text, " key 0x{key:x}")),
        _ => {
            put!(text, "unknown");
            Ok(true)
        }
    }
}

fn capable(text: &mut Text<'_>, option: View<'_>, flags: u8) -> Printed<bool> {
    put!(text, "capable");
    let len = option.len();
    let fits = match len {
        4 | 12 => flags & SYN != 0,
        20 | 22 => flags & (SYN | ACK) == ACK,
        _ => false,
    };
    if !fits {
        return Ok(false);
    }
    let version = option.u8(2)? & 0xf;
    if version > 1 {
        put!(text, " Unknown Version ({version})");
        return Ok(true);
    }
    put!(text, " v{version}{}", if option.u8(3)? & 0x80 == 0 { "" } else { " csum" });
    if len >= 12 {
        put!(text, " {{0x{:x}", option.u64(4)?);
        if len >= 20 {
            put!(text, ",0x{:x}", option.u64(12)?);
        }
        put!(text, "}}");
    }
    Ok(true)
}

fn join(text: &mut Text<'_>, option: View<'_>, flags: u8) -> Printed<bool> {
    put!(text, "join");
    let fits = match option.len() {
        12 => flags & SYN != 0,
        16 => flags & (SYN | ACK) == SYN | ACK,
        24 => flags & ACK != 0,
        _ => false,
    };
    if !fits {
        return Ok(false);
    }
    if option.len() != 24 {
        put!(text, "{} id {}", if option.u8(2)? & 1 == 0 { "" } else { " backup" }, option.u8(3)?);
    }
    match option.len() {
        12 => put!(text, " token 0x{:x} nonce 0x{:x}", option.u32(4)?, option.u32(8)?),
        16 => put!(text, " hmac 0x{:x} nonce 0x{:x}", option.u64(4)?, option.u32(12)?),
        _ => {
            put!(text, " hmac 0x");
            text.hex(option.get(4, 20)?, "");
        }
    }
    Ok(true)
}

fn sequence(text: &mut Text<'_>, option: View<'_>, segment: u8) -> Printed<bool> {
    const HEADER: usize = 4;
    put!(text, "dss");
    if option.len() < HEADER || segment & SYN != 0 {
        return Ok(false);
    }
    let flags = option.u8(3)?;
    put!(text, "{}", if flags & 0x10 == 0 { "" } else { " fin" });
    let mut rest = option.after(HEADER);
    if flags & 0x01 != 0 {
        put!(text, " ack ");
        if !number(text, &mut rest, flags & 0x02 != 0)? {
            return Ok(false);
        }
    }
    if flags & 0x04 != 0 {
        put!(text, " seq ");
        if !number(text, &mut rest, flags & 0x08 != 0)? || rest.len() < 4 {
            return Ok(false);
        }
        put!(text, " subseq {}", rest.u32(0)?);
        if rest.len() < 6 {
            return Ok(false);
        }
        put!(text, " len {}", rest.u16(4)?);
        rest = rest.after(6);
        if rest.len() >= 2 {
            put!(text, " csum 0x{:x}", rest.u16(0)?);
            rest = rest.after(2);
        }
    }
    Ok(rest.len() == 0)
}

/// Prints a number of 8 or 4 bytes; returns whether it is within the option.
fn number(text: &mut Text<'_>, rest: &mut View<'_>, is_long: bool) -> Printed<bool> {
    let len = if is_long { 8 } else { 4 };
    if rest.len() < len {
        return Ok(false);
    }
    let number = if is_long { rest.u64(0)? } else { rest.u32(0)?.into() };
    put!(text, "{number}");
    *rest = rest.after(len);
    Ok(true)
}

fn add_address(text: &mut Text<'_>, option: View<'_>) -> Printed<bool> {
    const KINDS: [(u32, &str); 4] = [(6, "v0-ip6"), (4, "v0-ip4"), (1, "v1-echo"), (0, "v1")];
    put!(text, "add-addr");
    let (is_v6, has_port, has_digest) = match option.len() {
        8 => (false, false, false),
        10 => (false, true, false),
        16 => (false, false, true),
        18 => (false, true, true),
        20 => (true, false, false),
        22 => (true, true, false),
        28 => (true, false, true),
        30 => (true, true, true),
        _ => return Ok(false),
    };
    put!(text, " ");
    text.name_or(&KINDS, option.u8(2)? & 0xf, format_args!("[bad version/echo]"));
    put!(text, " id {}", option.u8(3)?);
    let (address, mut at) = if is_v6 { (Address::v6(option, 4)?, 20) } else { (Address::v4(option, 4)?, 8) };
    put!(text, " {address}");
    if has_port {
        put!(text, ":{}", option.u16(at)?);
        at += 2;
    }
    if has_digest {
        put!(text, " hmac 0x{:x}", option.u64(at)?);
    }
    Ok(true)
}

fn remove_address(text: &mut Text<'_>, option: View<'_>) -> Printed<bool> {
    put!(text, "rem-addr");
    if option.len() < 4 {
        return Ok(false);
    }
    put!(text, " id");
    for at in 3..option.len() {
        put!(text, " {}", option.u8(at)?);
    }
    Ok(true)
}

fn priority(text: &mut Text<'_>, option: View<'_>) -> Printed<bool> {
    put!(text, "prio");
    if !matches!(option.len(), 3 | 4) {
        return Ok(false);
    }
    put!(text, "{}", if option.u8(2)? & 1 == 0 { " non-backup" } else { " backup" });
    if option.len() == 4 {
        put!(text, " id {}", option.u8(3)?);
    }
    Ok(true)
}

fn key(
    text: &mut Text<'_>,
    option: View<'_>,
    name: &str,
    put_key: impl Fn(&mut Text<'_>, u64),
) -> Printed<bool> {
    put!(text, "{name}");
    if option.len() != 12 {
        return Ok(false);
    }
    put_key(text, option.u64(4)?);
    Ok(true)
}
