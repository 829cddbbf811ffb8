//! TFTP (RFC 1350, RFC 2347).

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

pub(super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const ERRORS: [&str; 8] =
        ["EUNDEF", "ENOTFOUND", "EACCESS", "ENOSPACE", "EBADOP", "EBADID", "EEXISTS", "ENOUSER"];
    text.protocol = "tftp";
    put!(text, "TFTP, length {}", packet.len());
    if packet.len() < 2 {
        text.cut();
        return Ok(());
    }
    let operation = packet.u16(0)?;
    let rest = packet.after(2);
    match operation {
        1 | 2 => {
            put!(text, ", {}", if operation == 1 { "RRQ" } else { "WRQ" });
            if rest.len() == 0 {
                text.cut();
                return Ok(());
            }
            put!(text, " \"");
            let mode = string(text, rest);
            put!(text, "\"");
            let Some(mode) = mode.filter(|mode| mode.len() > 0) else {
                text.cut();
                return Ok(());
            };
            put!(text, " ");
            match string(text, mode) {
                Some(options) => strings(text, options)?,
                None => text.cut(),
            }
        }
        3 | 4 => {
            put!(text, ", {}", if operation == 3 { "DATA" } else { "ACK" });
            if rest.len() < 2 {
                text.cut();
            } else {
                put!(text, " block {}", rest.u16(0)?);
            }
        }
        5 => {
            put!(text, ", ERROR");
            if rest.len() < 2 {
                text.cut();
                return Ok(());
            }
            let code = rest.u16(0)?;
            match ERRORS.get(usize::from(code)) {
                Some(name) => put!(text, " {name}"),
                None => put!(text, " tftp-err-#{code} \""),
            }
            let words = rest.after(2);
            if words.len() == 0 {
                text.cut();
                return Ok(());
            }
            put!(text, " \"");
            let is_whole = string(text, words).is_some();
            put!(text, "\"");
            if !is_whole {
                text.cut();
            }
        }
        6 => {
            put!(text, ", OACK");
            strings(text, rest)?;
        }
        _ => put!(text, ", tftp-#{operation}"),
    }
    Ok(())
}

/// Prints a string up to its terminating 0; returns what follows, if captured.
fn string<'a>(text: &mut Text<'_>, rest: View<'a>) -> Option<View<'a>> {
    let bytes = rest.here();
    let end = bytes.iter().position(|byte| *byte == 0);
    text.escaped(&bytes[..end.unwrap_or(bytes.len())]);
    end.map(|end| rest.after(end + 1))
}

fn strings(text: &mut Text<'_>, mut rest: View<'_>) -> Printed {
    while rest.len() > 0 {
        put!(text, "{}", if rest.u8(0)? == 0 { "" } else { " " });
        let Some(next) = string(text, rest) else {
            text.cut();
            break;
        };
        rest = next;
    }
    Ok(())
}
