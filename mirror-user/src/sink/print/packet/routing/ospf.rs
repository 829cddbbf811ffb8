//! OSPF, versions 2 (RFC 2328) and 3 (RFC 5340): the kind of a packet.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const KINDS: [(u32, &str); 5] =
    [(1, "Hello"), (2, "Database Description"), (3, "LS-Request"), (4, "LS-Update"), (5, "LS-Ack")];
const CRYPTOGRAPHIC: u16 = 2;
/// The digest after a packet (RFC 2328 section D.3).
const DIGEST: usize = 16;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "ospf2";
    let mut packet = packet;
    if packet.u16(14)? == CRYPTOGRAPHIC {
        // As in tcpdump, the end may be before the start.
        let here = packet.bytes().len().saturating_sub(DIGEST);
        packet = View::new(&packet.bytes()[..here], packet.len().wrapping_sub(DIGEST));
    }
    let kind = packet.u8(1)?;
    put!(text, "OSPFv{}, ", packet.u8(0)?);
    text.name_or(&KINDS, kind, format_args!("unknown LS-type {kind}"));
    #[expect(clippy::cast_possible_truncation, reason = "32 bits in tcpdump")]
    let len = packet.len() as u32;
    put!(text, ", length {len}");
    Ok(())
}

pub(in super::super) fn version_3(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "ospf3";
    let kind = packet.u8(1)?;
    put!(text, "OSPFv{}, ", packet.u8(0)?);
    text.name_or(&KINDS, kind, format_args!("unknown packet type ({kind})"));
    put!(text, ", length {}", packet.len());
    Ok(())
}
