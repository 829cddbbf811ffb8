//! Extension headers of IPv6 (RFC 8200 section 4).

use etherparse::IpNumber;

use super::{
    network::Network,
    text::{Address, Printed, Text, put},
    view::{Truncated, View},
};

/// Headers that contain the number of the next one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extension {
    HopByHop,
    Destination,
    Routing,
    Fragment,
}

impl Extension {
    pub(super) fn of(number: IpNumber) -> Option<Self> {
        Some(match number {
            IpNumber::IPV6_HEADER_HOP_BY_HOP => Self::HopByHop,
            IpNumber::IPV6_DESTINATION_OPTIONS => Self::Destination,
            IpNumber::IPV6_ROUTE_HEADER => Self::Routing,
            IpNumber::IPV6_FRAGMENTATION_HEADER => Self::Fragment,
            _ => return None,
        })
    }
}

/// State from the headers of a packet so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    any: bool,
    hop_by_hop: bool,
    /// The length in the fixed header is 0, as a jumbo option requires.
    jumbo_allowed: bool,
    jumbo: Option<u32>,
}

impl Seen {
    pub(super) fn new(payload_len: usize) -> Self {
        Self { any: false, hop_by_hop: false, jumbo_allowed: payload_len == 0, jumbo: None }
    }

    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// The payload's length where 16 bits do not hold it (RFC 2675).
    pub(super) fn jumbo(&self) -> Option<u32> {
        self.jumbo
    }
}

/// Prints a header; returns its length, or `None` if nothing after it can be read. Updates in `below` the
/// addresses for checksums.
pub(super) fn print(
    text: &mut Text<'_>,
    kind: Extension,
    header: View<'_>,
    seen: &mut Seen,
    below: &mut Network,
) -> Printed<Option<usize>> {
    let len = match kind {
        Extension::HopByHop => {
            if seen.hop_by_hop {
                put!(text, "[The Hop-by-Hop Options header was already found]");
                text.invalid();
                return Ok(None);
            }
            if seen.any {
                put!(text, "[The Hop-by-Hop Options header don't follow the IPv6 header]");
                text.invalid();
                return Ok(None);
            }
            seen.hop_by_hop = true;
            text.protocol = "hbhopt";
            let len = options_len(header)?;
            put!(text, "HBH ");
            let read = options(text, header, len, Some(seen), below);
            if seen.jumbo_allowed && seen.jumbo.is_none() {
                // Checked before other errors.
                if read.is_err() {
                    text.cut();
                }
                put!(text, "[No valid Jumbo Payload Hop-by-Hop option found]");
                text.invalid();
                return Ok(None);
            }
            read?;
            len
        }
        Extension::Destination => {
            text.protocol = "dstopt";
            let len = options_len(header)?;
            put!(text, "DSTOPT ");
            if text.verbose() {
                options(text, header, len, None, below)?;
            }
            len
        }
        Extension::Routing => match routing(text, header, below)? {
            Some(len) => len,
            None => return Ok(None),
        },
        Extension::Fragment => match fragment(text, header)? {
            Some(len) => len,
            None => return Ok(None),
        },
    };
    seen.any = true;
    Ok(Some(len))
}

fn options_len(header: View<'_>) -> Printed<usize> {
    let len = (usize::from(header.u8(1)?) + 1) * 8;
    header.get(0, len)?;
    Ok(len)
}

/// Options of a hop-by-hop or destination header; `seen` for the former, in which a jumbo option may be.
fn options(
    text: &mut Text<'_>,
    header: View<'_>,
    len: usize,
    mut seen: Option<&mut Seen>,
    below: &mut Network,
) -> Printed {
    const ROUTER_ALERT: u8 = 5;
    const JUMBO: u8 = 0xc2;
    const HOME_ADDRESS: u8 = 0xc9;
    let verbose = text.verbose();
    let mut options = header.after(2).ending_at(len - 2);
    while options.len() > 0 {
        let kind = options.u8(0)?;
        let len = if kind == 0 { 1 } else { usize::from(options.u8(1)?) + 2 };
        if len > options.len() {
            return Err(Truncated);
        }
        match (kind, len) {
            (0, _) if verbose => put!(text, "(pad1)"),
            (1, _) if verbose => put!(text, "(padn)"),
            (0 | 1, _) => {}
            (ROUTER_ALERT, 4) if verbose => put!(text, "(rtalert: 0x{:04x}) ", options.u16(2)?),
            (ROUTER_ALERT, 4) => {}
            (JUMBO, 6) => jumbo(text, options.u32(2)?, seen.as_deref_mut()),
            (HOME_ADDRESS, 18..) => {
                let home = Address::v6(options, 2)?;
                // Of a mobile node, which is away from there (RFC 6275 section 11.3.1).
                below.first_source = home;
                if verbose {
                    put!(text, "(homeaddr: {home})");
                }
            }
            (ROUTER_ALERT | JUMBO | HOME_ADDRESS, _) => {
                let (name, needed) = match kind {
                    ROUTER_ALERT => ("rtalert", 4),
                    JUMBO => ("jumbo", 6),
                    _ => ("homeaddr", 18),
                };
                if options.len() < needed {
                    put!(text, "({name}: trunc)");
                } else {
                    put!(text, "({name}: invalid len {})", len - 2);
                }
                return Err(Truncated);
            }
            _ if verbose => put!(text, "(opt_type 0x{kind:02x}: len={})", len - 2),
            _ => {}
        }
        options = options.after(len);
    }
    if verbose {
        put!(text, " ");
    }
    Ok(())
}

fn jumbo(text: &mut Text<'_>, len: u32, seen: Option<&mut Seen>) {
    let fault = match seen {
        None => " - not a hop-by-hop option",
        Some(Seen { jumbo: Some(_), .. }) => " - already seen",
        Some(Seen { jumbo_allowed: false, .. }) => " - payload len != 0",
        Some(_) if len < 65_536 => " - < 65536",
        Some(seen) => {
            seen.jumbo = Some(len);
            ""
        }
    };
    if text.verbose() {
        put!(text, "(jumbo: {len}{fault}) ");
    }
}

/// Routing headers of types 0 (deprecated by RFC 5095), 2 (RFC 6275) and 4 (RFC 8754).
///
/// While segments are left, checksums are over the last of them (RFC 8200 section 8.1): the last address of
/// types 0 and 2, the first of type 4, whose list is reversed. If none is left, it is the destination.
fn routing(text: &mut Text<'_>, header: View<'_>, below: &mut Network) -> Printed<Option<usize>> {
    const SEGMENTS: u8 = 4;
    header.u8(0)?;
    text.protocol = "rt6";
    put!(text, "RT6");
    let units = usize::from(header.u8(1)?);
    put!(text, " (len={units}");
    let kind = header.u8(2)?;
    put!(text, ", type={kind}{}", if kind == 0 { " [Deprecated]" } else { "" });
    let left = header.u8(3)?;
    put!(text, ", segleft={left}");
    match kind {
        0 | 2 => {
            let reserved = header.u32(4)?;
            if reserved != 0 || text.verbose() {
                put!(text, ", rsv=0x{reserved:x}");
            }
        }
        SEGMENTS => {
            put!(text, ", last-entry={}", header.u8(4)?);
            let flags = header.u8(5)?;
            if flags != 0 || text.verbose() {
                put!(text, ", flags=0x{flags:x}");
            }
            put!(text, ", tag={:x}", header.u16(6)?);
        }
        _ => {
            put!(text, " (unknown type)");
            text.invalid();
            return Ok(None);
        }
    }
    if !units.is_multiple_of(2) {
        put!(text, " (invalid length {units})");
        text.invalid();
        return Ok(None);
    }
    for place in 0..units / 2 {
        let segment = Address::v6(header, 8 + 16 * place)?;
        put!(text, ", [{place}]{segment}");
        if left > 0 && (kind != SEGMENTS || place == 0) {
            below.last_destination = segment;
        }
    }
    put!(text, ") ");
    Ok(Some((units + 1) * 8))
}

/// A fragment header; of a fragment that is not the first, nothing more can be printed.
fn fragment(text: &mut Text<'_>, header: View<'_>) -> Printed<Option<usize>> {
    const LEN: usize = 8;
    text.protocol = "frag6";
    let offset = header.u16(2)? & 0xfff8;
    if text.verbose() {
        put!(text, "frag (0x{:08x}:", header.u32(4)?);
    } else {
        put!(text, "frag (");
    }
    put!(text, "{offset}|{})", header.len().saturating_sub(LEN));
    if offset != 0 {
        return Ok(None);
    }
    put!(text, " ");
    Ok(Some(LEN))
}
