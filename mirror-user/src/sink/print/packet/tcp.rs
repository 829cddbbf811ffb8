//! TCP (RFC 9293).

use etherparse::IpNumber;

use super::{
    app, checksum,
    network::Network,
    tcp_options,
    text::{Printed, Text, put},
    view::{Truncated, View},
};

const FIXED: usize = 20;

const FLAGS: [(u32, &str); 8] =
    [(0x01, "F"), (0x02, "S"), (0x04, "R"), (0x08, "P"), (0x10, "."), (0x20, "U"), (0x40, "E"), (0x80, "W")];
const FIN_SYN_RST: u8 = 0x07;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// The base of a connection's relative sequence numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Base {
    /// Of the endpoint with the lower port or address.
    low: u32,
    /// Of the other endpoint.
    high: u32,
}

/// Subtracted from the numbers of a segment.
#[derive(Clone, Copy, Default)]
struct Offsets {
    sequence: u32,
    acknowledgment: u32,
    /// Of the blocks in its selective acknowledgments.
    blocks: u32,
}

/// Finds the base of a segment's numbers; those of the first segment of a connection, and of each that
/// restarts it, are printed absolute. So are those of segments without acknowledgment, which set no base: as
/// in tcpdump.
fn offsets(
    text: &mut Text<'_>,
    segment: View<'_>,
    below: &Network,
    ports: (u16, u16),
    flags: u8,
) -> Printed<Offsets> {
    if text.style.absolute || flags & ACK == 0 {
        return Ok(Offsets::default());
    }
    let (sequence, acknowledgment) = (segment.u32(4)?, segment.u32(8)?);
    let (from, to) = ((ports.0, below.source.0), (ports.1, below.destination.0));
    let is_reverse = from > to;
    let ends = if is_reverse { [to, from] } else { [from, to] };
    let (base, is_new) = text.memory.connection(ends);
    let begins = is_new || flags & SYN != 0;
    if begins {
        let before = acknowledgment.wrapping_sub(1);
        *base = if is_reverse {
            Base { low: before, high: sequence }
        } else {
            Base { low: sequence, high: before }
        };
    }
    let (own, other) = if is_reverse { (base.high, base.low) } else { (base.low, base.high) };
    Ok(if begins {
        Offsets { blocks: other, ..Offsets::default() }
    } else {
        Offsets { sequence: own, acknowledgment: other, blocks: other }
    })
}

/// A segment.
pub(super) fn print(text: &mut Text<'_>, segment: View<'_>, below: &Network) -> Printed {
    text.protocol = "tcp";
    let Ok(destination) = segment.u16(2) else {
        below.put_hosts(text);
        return Err(Truncated);
    };
    let source = segment.u16(0)?;
    below.put_endpoints(text, IpNumber::TCP, source, destination);
    segment.get(0, FIXED)?;
    let header_len = usize::from(segment.u8(12)? >> 4) * 4;
    if header_len < FIXED {
        let rest = segment.len().saturating_sub(header_len);
        put!(text, " tcp {rest} [bad hdr length {header_len} - too short, < {FIXED}]");
        return Ok(());
    }
    let flags = segment.u8(13)?;
    put!(text, "Flags [");
    text.bits(flags.into(), &FLAGS, "");
    put!(text, "]");
    let offsets = offsets(text, segment, below, (source, destination), flags)?;
    if header_len > segment.len() {
        put!(text, " [bad hdr length {header_len} - too long, > {}]", segment.len());
        return Ok(());
    }
    if text.verbose()
        && !below.fragment
        && let Some(whole) = segment.whole()
    {
        let here = segment.u16(16)?;
        put!(text, ", cksum 0x{here:04x}");
        match checksum::expected(&checksum::with_pseudo_header(whole, below, IpNumber::TCP), here) {
            None => put!(text, " (correct)"),
            Some(expected) => put!(text, " (incorrect -> 0x{expected:04x})"),
        }
    }
    let len = segment.len() - header_len;
    let sequence = segment.u32(4)?.wrapping_sub(offsets.sequence);
    if text.style.verbosity > 1 || len > 0 || flags & FIN_SYN_RST != 0 {
        put!(text, ", seq {sequence}");
        if len > 0 {
            #[expect(clippy::cast_possible_truncation, reason = "sequence numbers are taken modulo 2^32")]
            let end = sequence.wrapping_add(len as u32);
            put!(text, ":{end}");
        }
    }
    if flags & ACK != 0 {
        put!(text, ", ack {}", segment.u32(8)?.wrapping_sub(offsets.acknowledgment));
    }
    put!(text, ", win {}", segment.u16(14)?);
    if flags & URG != 0 {
        put!(text, ", urg {}", segment.u16(18)?);
    }
    if header_len > FIXED {
        put!(text, ", options [");
        let options = segment.after(FIXED).of_len(header_len - FIXED);
        if !tcp_options::print(
            text,
            options,
            tcp_options::Segment { flags, blocks: offsets.blocks, is_whole: segment.whole().is_some() },
        )? {
            return Ok(());
        }
        put!(text, "]");
    }
    put!(text, ", length {len}");
    if len > 0 {
        if !segment.has(header_len) {
            put!(text, " [remaining caplen({}) < header length({header_len})]", segment.bytes().len());
            return Err(Truncated);
        }
        if flags & RST != 0 && text.verbose() {
            reset_data(text, segment.after(header_len));
            return Ok(());
        }
        return app::over_tcp(text, segment.after(header_len), (source, destination), below);
    }
    Ok(())
}

/// The words with which a reset explains itself (RFC 9293 section 3.10.7.4).
fn reset_data(text: &mut Text<'_>, data: View<'_>) {
    const MOST: usize = 30;
    put!(
        text,
        " [{}RST{} ",
        if data.whole().is_some() { "" } else { "!" },
        if data.len() > MOST { "+" } else { "" }
    );
    text.escaped(data.ending_at(data.len().min(MOST)).bytes());
    put!(text, "]");
}
