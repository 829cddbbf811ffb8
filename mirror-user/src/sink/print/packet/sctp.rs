//! SCTP (RFC 9260): its ports, and its chunks.

use etherparse::IpNumber;

use super::{
    hex,
    network::Network,
    text::{Printed, Text, put},
    view::View,
};

const HEADER: usize = 12;
const CHUNK_HEADER: usize = 4;
const DATA: u8 = 0x00;
const INIT: u8 = 0x01;
const INIT_ACK: u8 = 0x02;
const SACK: u8 = 0x03;

/// A packet.
pub(super) fn print(text: &mut Text<'_>, packet: View<'_>, below: &Network) -> Printed {
    text.protocol = "sctp";
    if packet.len() < HEADER {
        put!(text, "truncated-sctp - {} bytes missing!", HEADER - packet.len());
        return Ok(());
    }
    packet.get(0, HEADER)?;
    let below = Network { protocol: IpNumber::SCTP, ..*below };
    let ports = [packet.u16(0)?, packet.u16(2)?];
    below.put_endpoints(text, IpNumber::SCTP, ports[0], ports[1]);
    put!(text, "sctp");
    for port in ports {
        // Forwarding and control element separation (RFC 5811 section 4.2.1).
        match port {
            6704 => put!(text, "[ForCES HP]"),
            6705 => put!(text, "[ForCES MP]"),
            6706 => put!(text, "[ForCES LP]"),
            _ => {}
        }
    }
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
        let padding = len.next_multiple_of(4) - len;
        if chunk.len() < padding {
            put!(text, "{separator}{number}) [Bad chunk length {len}, > remaining data in packet]");
            return Ok(());
        }
        chunk.get(0, len)?;
        put!(text, "{separator}{number}) ");
        let kind = chunk.u8(0)?;
        match name(kind) {
            Some(name) => put!(text, "[{name}] "),
            None => put!(text, "[Unknown chunk type: 0x{kind:x}] "),
        }
        let value = chunk.after(CHUNK_HEADER).of_len(len - CHUNK_HEADER);
        let is_whole = match kind {
            DATA => data(text, chunk.u8(1)?, value)?,
            INIT | INIT_ACK => initiation(text, value)?,
            SACK => acknowledgment(text, value)?,
            _ => true,
        };
        if !is_whole {
            put!(text, "bogus chunk length {len}]");
            return Ok(());
        }
        chunk.get(len, padding)?;
        chunk = chunk.after(len + padding);
        number += 1;
    }
    Ok(())
}

/// Prints a data chunk without its header; returns whether its fixed part and some data are within its
/// length.
fn data(text: &mut Text<'_>, flags: u8, value: View<'_>) -> Printed<bool> {
    const FIXED: usize = 12;
    for (bit, name) in [(0x04, "(U)"), (0x02, "(B)"), (0x01, "(E)")] {
        put!(text, "{}", if flags & bit == 0 { "" } else { name });
    }
    put!(text, "{}", if flags & 0x07 == 0 { "" } else { " " });
    if value.len() < FIXED {
        return Ok(false);
    }
    put!(text, "[TSN: {}] [SID: {}] ", value.u32(0)?, value.u16(4)?);
    put!(text, "[SSEQ {}] [PPID ", value.u16(6)?);
    let protocol = value.u32(8)?;
    text.name_or(&PAYLOADS, protocol, format_args!("0x{protocol:x}"));
    put!(text, "] ");
    if text.style.verbosity > 1 && value.len() > FIXED {
        put!(text, "[Payload:");
        hex::hex(text, value.after(FIXED).here(), true);
        put!(text, "]");
    }
    Ok(value.len() > FIXED)
}

fn initiation(text: &mut Text<'_>, value: View<'_>) -> Printed<bool> {
    if value.len() < 16 {
        return Ok(false);
    }
    put!(text, "[init tag: {}] [rwnd: {}] ", value.u32(0)?, value.u32(4)?);
    put!(text, "[OS: {}] [MIS: {}] ", value.u16(8)?, value.u16(10)?);
    put!(text, "[init TSN: {}] ", value.u32(12)?);
    Ok(true)
}

fn acknowledgment(text: &mut Text<'_>, value: View<'_>) -> Printed<bool> {
    if value.len() < 12 {
        return Ok(false);
    }
    let acknowledged = value.u32(0)?;
    let (gaps, duplicates) = (value.u16(8)?, value.u16(10)?);
    put!(text, "[cum ack {acknowledged}] [a_rwnd {}] ", value.u32(4)?);
    put!(text, "[#gap acks {gaps}] [#dup tsns {duplicates}] ");
    let mut rest = value.after(12);
    for gap in 1..=gaps {
        match rest.len() {
            0 => break,
            1..4 => return Ok(false),
            _ => {}
        }
        put!(text, "\n\t\t[gap ack block #{gap}: ");
        put!(text, "start = {}, ", acknowledged.wrapping_add(rest.u16(0)?.into()));
        put!(text, "end = {}] ", acknowledged.wrapping_add(rest.u16(2)?.into()));
        rest = rest.after(4);
    }
    for duplicate in 1..=duplicates {
        match rest.len() {
            0 => break,
            1..4 => return Ok(false),
            _ => {}
        }
        put!(text, "\n\t\t[dup TSN #{duplicate}: {}] ", rest.u32(0)?);
        rest = rest.after(4);
    }
    Ok(true)
}

/// The payload protocol, as registered by IANA and named by tcpdump.
const PAYLOADS: [(u32, &str); 26] = [
    (1, "ISDN Q.921"),
    (2, "M2UA"),
    (3, "M3UA"),
    (4, "SUA"),
    (5, "M2PA"),
    (6, "V5.2"),
    (7, "H.248"),
    (8, "BICC"),
    (9, "TALI"),
    (10, "DUA"),
    (11, "ASAP"),
    (12, "ENRP"),
    (13, "H.323"),
    (14, "Q.IPC"),
    (15, "SIMCO"),
    (16, "DDPSC"),
    (17, "DDPSSC"),
    (18, "S1AP"),
    (19, "RUA"),
    (20, "HNBAP"),
    (21, "ForCES HP"),
    (22, "ForCES MP"),
    (23, "ForCES LP"),
    (24, "SBc-AP"),
    (25, "NBAP"),
    (27, "X2AP"),
];

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
