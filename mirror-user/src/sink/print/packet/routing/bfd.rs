//! BFD (RFC 5880), by the port.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const HEADER: usize = 24;
const ECHO: u16 = 3785;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>, port: u16) -> Printed {
    const FLAGS: [(u32, &str); 6] = [
        (0x20, "Poll"),
        (0x10, "Final"),
        (0x08, "Control Plane Independent"),
        (0x04, "Authentication Present"),
        (0x02, "Demand"),
        (0x01, "Multipoint"),
    ];
    const OLD_FLAGS: [(u32, &str); 8] = [
        (0x80, "I Hear You"),
        (0x40, "Demand"),
        (0x20, "Poll"),
        (0x10, "Final"),
        (0x08, "Control Plane Independent"),
        (0x04, "Authentication Present"),
        (0x02, "Reserved"),
        (0x01, "Reserved"),
    ];
    text.protocol = "bfd";
    if port == ECHO {
        put!(text, "BFD, Echo, length: {}", packet.len());
        return Ok(());
    }
    packet.get(0, HEADER)?;
    let (version, flags) = (packet.u8(0)? >> 5, packet.u8(1)?);
    match version {
        0 => {
            put!(text, "BFDv0, Control, Flags: [");
            text.bits(flags.into(), &OLD_FLAGS, ", ");
            put!(text, "]");
        }
        1 => {
            let kind = match port {
                3784 => "Control",
                4784 => "Multihop",
                _ => "Lag",
            };
            let state = ["AdminDown", "Down", "Init", "Up"][usize::from(flags >> 6)];
            put!(text, "BFDv1, {kind}, State {state}, Flags: [");
            text.bits((flags & 0x3f).into(), &FLAGS, ", ");
            put!(text, "]");
        }
        _ => put!(text, "BFDv{version}, Control"),
    }
    put!(text, ", length: {}", packet.len());
    Ok(())
}
