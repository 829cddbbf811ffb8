//! Kerberos: its version, and messages of version 4.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

pub(super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    text.protocol = "krb";
    let Ok(version) = message.u8(0) else {
        text.cut();
        return Ok(());
    };
    match version {
        1..=3 => put!(text, " v{version}"),
        4 => {
            put!(text, " v4");
            version_4(text, message)?;
        }
        // A request or response in ASN.1 begins with another byte; as in tcpdump it is not printed.
        106 | 107 => put!(text, " v5"),
        _ => {}
    }
    Ok(())
}

fn version_4(text: &mut Text<'_>, message: View<'_>) -> Printed {
    const KINDS: [(u32, &str); 9] = [
        (2, "KDC_REQUEST"),
        (4, "KDC_REPLY"),
        (6, "APPL_REQUEST"),
        (8, "APPL_REQUEST_MUTUAL"),
        (10, "ERR_REPLY"),
        (12, "PRIVATE"),
        (14, "SAFE"),
        (16, "APPL_ERR"),
        (126, "DIE"),
    ];
    const ERRORS: [&str; 11] = [
        "OK",
        "NAME_EXP",
        "SERVICE_EXP",
        "AUTH_EXP",
        "PKT_VER",
        "NAME_MAST_KEY_VER",
        "SERV_MAST_KEY_VER",
        "BYTE_ORDER",
        "PRINCIPAL_UNKNOWN",
        "PRINCIPAL_NOT_UNIQUE",
        "NULL_KEY",
    ];
    let kind = message.u8(1)?;
    let is_little = kind & 1 == 1;
    let u16_of = |view: View<'_>, at| if is_little { view.u16_le(at) } else { view.u16(at) };
    put!(text, " {} ", if is_little { "le" } else { "be" });
    text.name_or(&KINDS, kind & !1, format_args!("#{}", kind & !1));
    put!(text, ": ");
    match kind & !1 {
        2 => {
            let Some(rest) = names(text, message.after(2), &[".", "@", ""]) else { return Ok(()) };
            put!(text, " {}min ", u32::from(rest.u8(4)?) * 5);
            names(text, rest.after(5), &[".", ""]);
        }
        6 => {
            put!(text, "v{} ", message.u8(2)?);
            let Some(rest) = names(text, message.after(3), &[""]) else { return Ok(()) };
            put!(text, " ({})", rest.u8(0)?);
            put!(text, " ({})", rest.u8(1)?);
        }
        4 => {
            let Some(rest) = names(text, message.after(2), &[".", "@", ""]) else { return Ok(()) };
            put!(text, " ({})", u16_of(rest, 10)?);
        }
        10 => {
            let Some(rest) = names(text, message.after(2), &[".", "@", ""]) else { return Ok(()) };
            let error = u16_of(rest, 4)?;
            match ERRORS.get(usize::from(error)) {
                Some(name) => put!(text, " {name} "),
                None => put!(text, " #{error} "),
            }
            names(text, rest.after(8), &[""]);
        }
        _ => put!(text, "(unknown)"),
    }
    Ok(())
}

/// Prints names that end with a 0, with separators; returns the rest, or `None` if an end is missing.
fn names<'a>(text: &mut Text<'_>, mut rest: View<'a>, separators: &[&str]) -> Option<View<'a>> {
    for separator in separators {
        let bytes = rest.bytes();
        let end = bytes.iter().position(|byte| *byte == 0);
        text.escaped(&bytes[..end.unwrap_or(bytes.len())]);
        let Some(end) = end else {
            text.cut();
            return None;
        };
        put!(text, "{separator}");
        rest = rest.after(end + 1);
    }
    Some(rest)
}
