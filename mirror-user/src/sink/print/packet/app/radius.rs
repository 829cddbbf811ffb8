//! RADIUS (RFC 2865, RFC 2866, RFC 5176): the kind of a packet.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const HEADER: usize = 20;

pub(super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const CODES: [(u32, &str); 15] = [
        (1, "Access-Request"),
        (2, "Access-Accept"),
        (3, "Access-Reject"),
        (4, "Accounting-Request"),
        (5, "Accounting-Response"),
        (11, "Access-Challenge"),
        (12, "Status-Server"),
        (13, "Status-Client"),
        (40, "Disconnect-Request"),
        (41, "Disconnect-ACK"),
        (42, "Disconnect-NAK"),
        (43, "CoA-Request"),
        (44, "CoA-ACK"),
        (45, "CoA-NAK"),
        (255, "Reserved"),
    ];
    text.protocol = "radius";
    packet.get(0, HEADER)?;
    let len = usize::from(packet.u16(2)?);
    if len < HEADER {
        text.cut();
        return Ok(());
    }
    let code = packet.u8(0)?;
    put!(text, "RADIUS, ");
    text.name_or(&CODES, code, format_args!("Unknown Command"));
    put!(text, " ({code}), id: 0x{:02x} length: {}", packet.u8(1)?, len.min(packet.len()));
    Ok(())
}
