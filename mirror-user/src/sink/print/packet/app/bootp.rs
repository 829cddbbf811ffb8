//! BOOTP (RFC 951) and DHCP (RFC 2131): the kind of a message and whom it is from.

use super::super::{
    text::{Mac, Printed, Text, put},
    view::View,
};

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const HARDWARE_ADDRESS: usize = 28;

pub(super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    text.protocol = "bootp";
    let operation = message.u8(0)?;
    put!(text, "BOOTP/DHCP, ");
    match operation {
        REQUEST => put!(text, "Request"),
        REPLY => put!(text, "Reply"),
        _ => put!(text, "unknown (0x{operation:02x})"),
    }
    let (hardware, len) = (message.u8(1)?, message.u8(2)?);
    if (operation, hardware, len) == (REQUEST, ETHERNET, 6) {
        put!(text, " from {}", Mac(message.array(HARDWARE_ADDRESS)?));
    }
    put!(text, ", length {}", message.len());
    Ok(())
}
