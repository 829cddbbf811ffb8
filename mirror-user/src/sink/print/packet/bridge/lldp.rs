//! LLDP (IEEE 802.1AB): length and sender of a message.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const SYSTEM_NAME: u16 = 5;

pub(in super::super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    text.protocol = "lldp";
    put!(text, "LLDP, length {}", message.len());
    let mut rest = message;
    while rest.len() >= 2 {
        let head = rest.u16(0)?;
        let len = usize::from(head & 0x1ff);
        rest = rest.after(2);
        if head >> 9 == 0 || len == 0 {
            break;
        }
        rest.get(0, len)?;
        if rest.len() < len {
            text.cut();
            break;
        }
        if head >> 9 == SYSTEM_NAME {
            put!(text, ": ");
            text.padded(rest, len)?;
        }
        rest = rest.after(len);
    }
    Ok(())
}
