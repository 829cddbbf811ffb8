//! EIGRP (RFC 7868): the kind of a packet.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const HEADER: usize = 20;
const VERSION: u8 = 2;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const KINDS: [(u32, &str); 6] =
        [(1, "Update"), (3, "Query"), (4, "Reply"), (5, "Hello"), (6, "IPX SAP"), (7, "Probe")];
    text.protocol = "eigrp";
    packet.get(0, HEADER)?;
    let version = packet.u8(0)?;
    if version != VERSION {
        put!(text, "EIGRP version {version} packet not supported");
        return Ok(());
    }
    let kind = packet.u8(1)?;
    put!(text, "EIGRP ");
    text.name_or(&KINDS, kind, format_args!("unknown ({kind})"));
    put!(text, ", length: {}", packet.len());
    Ok(())
}
