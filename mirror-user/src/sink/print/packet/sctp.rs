//! SCTP (RFC 9260): its ports, and the kinds of its chunks.

use etherparse::IpNumber;

use super::{
    network::Network,
    text::{Printed, Text, put},
    view::View,
};

const HEADER: usize = 12;
const CHUNK_HEADER: usize = 4;

/// A packet.
pub(super) fn print(text: &mut Text<'_>, packet: View<'_>, below: &Network) -> Printed {
    text.protocol = "sctp";
    if packet.len() < HEADER {
        put!(text, "truncated-sctp - {} bytes missing!", HEADER - packet.len());
        return Ok(());
    }
    packet.get(0, HEADER)?;
    let below = Network { protocol: IpNumber::SCTP, ..*below };
    below.put_ends(text, IpNumber::SCTP, packet.u16(0)?, packet.u16(2)?);
    put!(text, "sctp");
    let mut chunk = packet.after(HEADER);
    let mut number = 1;
    while chunk.len() > 0 {
        let separator = match number {
            _ if text.style.verbosity > 1 => "\n\t",
            1 => " (",
            _ => ", (",
        };
        if chunk.len() < CHUNK_HEADER {
            put!(text, "{separator}{number}) [chunk descriptor cut off at end of packet]");
            return Ok(());
        }
        chunk.get(0, CHUNK_HEADER)?;
        let len = usize::from(chunk.u16(2)?);
        if len < CHUNK_HEADER {
            put!(text, "{separator}{number}) [Bad chunk length {len}, < size of chunk descriptor]");
            return Ok(());
        }
        chunk.get(0, len)?;
        put!(text, "{separator}{number}) ");
        let kind = chunk.u8(0)?;
        match name(kind) {
            Some(name) => put!(text, "[{name}] "),
            None => put!(text, "[Unknown chunk type: 0x{kind:x}] "),
        }
        chunk = chunk.after(len.next_multiple_of(4));
        number += 1;
    }
    Ok(())
}

fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x00 => "DATA",
        0x01 => "INIT",
        0x02 => "INIT ACK",
        0x03 => "SACK",
        0x04 => "HB REQ",
        0x05 => "HB ACK",
        0x06 => "ABORT",
        0x07 => "SHUTDOWN",
        0x08 => "SHUTDOWN ACK",
        0x09 => "OP ERR",
        0x0a => "COOKIE ECHO",
        0x0b => "COOKIE ACK",
        0x0c => "ECN ECHO",
        0x0d => "ECN CWR",
        0x0e => "SHUTDOWN COMPLETE",
        0xc0 => "FOR CUM TSN",
        0xc1 => "REL CTRL ACK",
        _ => return None,
    })
}
