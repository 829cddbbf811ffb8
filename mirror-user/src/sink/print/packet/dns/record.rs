//! Questions and resource records.

use std::net::Ipv6Addr;

use super::{
    super::{
        text::{Address, Printed, Text, put},
        view::{Truncated, View},
    },
    OPT, edns, name,
};

const INTERNET: u16 = 1;
/// Of a question: an answer to the asker alone will do; of a record: forget others of the name (RFC 6762
/// section 5.4, 10.2).
const MULTICAST_BIT: u16 = 0x8000;

/// Prints a question; returns the offset after it.
pub(super) fn question(text: &mut Text<'_>, message: View<'_>, at: usize, multicast: bool) -> Printed<usize> {
    let after = name::skip(message, at)?;
    message.get(after, 4)?;
    let (kind, class) = (message.u16(after)?, message.u16(after + 2)?);
    put!(text, " ");
    put_kind(text, kind);
    put_class(text, if multicast { class & !MULTICAST_BIT } else { class });
    if multicast {
        put!(text, "{}", if class & MULTICAST_BIT == 0 { " (QM)" } else { " (QU)" });
    }
    put!(text, "? ");
    name::print(text, message, at)?;
    Ok(after + 4)
}

/// Prints a record; returns the offset after it.
pub(super) fn print(text: &mut Text<'_>, message: View<'_>, at: usize, multicast: bool) -> Printed<usize> {
    let at = if text.verbose() {
        put!(text, " ");
        Ok(name::print(text, message, at)?)
    } else {
        name::skip(message, at)
    };
    let Some(at) = at.ok().filter(|at| message.has(at + 10)) else {
        // Treated as the end of the record: the counts show whether another is missing.
        return Ok(message.bytes().len());
    };
    let (kind, class) = (message.u16(at)?, message.u16(at + 2)?);
    let plain = if multicast { class & !MULTICAST_BIT } else { class };
    if kind != OPT {
        put_class(text, plain);
    }
    if multicast && class & MULTICAST_BIT != 0 {
        put!(text, " (Cache flush)");
    }
    if kind != OPT && text.style.verbosity > 2 {
        put!(text, " [");
        text.seconds(message.u32(at + 4)?);
        put!(text, "]");
    }
    put!(text, " ");
    put_kind(text, kind);
    let start = at + 10;
    let end = start + usize::from(message.u16(at + 8)?);
    if !message.has(end) {
        return Err(Truncated);
    }
    if kind == OPT {
        put!(text, " UDPsize={plain}");
        if message.u16(at + 6)? & 0x8000 != 0 {
            put!(text, " DO");
        }
        edns::options(text, message, start, end)?;
    } else {
        data(text, message, kind, start, end)?;
    }
    Ok(end)
}

/// Prints the data of a record, in the message from `at` to `end`.
fn data(text: &mut Text<'_>, message: View<'_>, kind: u16, at: usize, end: usize) -> Printed {
    match kind {
        1 => put!(text, " {}", Address::v4(message, at)?),
        28 => put!(text, " {}", Address::v6(message, at)?),
        // NS, CNAME, PTR, DNAME.
        2 | 5 | 12 | 39 => {
            put!(text, " ");
            name::print(text, message, at)?;
        }
        // SOA.
        6 if text.verbose() => {
            put!(text, " ");
            let mailbox = name::print(text, message, at)?;
            put!(text, " ");
            let numbers = name::print(text, message, mailbox)?;
            message.get(numbers, 20)?;
            for place in 0..5 {
                put!(text, " {}", message.u32(numbers + 4 * place)?);
            }
        }
        // MX.
        15 => {
            put!(text, " ");
            let preference = message.u16(at)?;
            name::print(text, message, at + 2)?;
            put!(text, " {preference}");
        }
        // TXT: strings with their lengths.
        16 => {
            let mut at = at;
            while at < end {
                let len = usize::from(message.u8(at)?);
                put!(text, " \"");
                text.escaped(message.after(at + 1).ending_at(len).bytes());
                message.get(at + 1, len)?;
                put!(text, "\"");
                at += 1 + len;
            }
        }
        // SRV (RFC 2782).
        33 => {
            put!(text, " ");
            let (priority, weight, port) = (message.u16(at)?, message.u16(at + 2)?, message.u16(at + 4)?);
            name::print(text, message, at + 6)?;
            put!(text, ":{port} {priority} {weight}");
        }
        // A6 (RFC 2874, historic): how many bits of the address are elsewhere, the others, and where.
        38 => {
            let bits = message.u8(at)?;
            if bits > 128 {
                put!(text, " {bits}(bad plen)");
                return Ok(());
            }
            let missing = usize::from(bits / 8);
            if bits < 128 {
                let mut octets = [0; 16];
                octets[missing..].copy_from_slice(message.get(at + 1, 16 - missing)?);
                put!(text, " {bits} {}", Address(Ipv6Addr::from(octets).into()));
            }
            if bits > 0 {
                put!(text, " ");
                name::print(text, message, at + 17 - missing)?;
            }
        }
        // UNSPECA, of the first BIND: characters.
        104 => text.escaped(message.get(at, end - at)?),
        // TSIG (RFC 8945).
        250 if text.verbose() => signature(text, message, at)?,
        // URI (RFC 7553).
        256 => {
            put!(text, " {} {} ", message.u16(at)?, message.u16(at + 2)?);
            text.escaped(message.get(at + 4, end.saturating_sub(at + 4))?);
        }
        _ => {}
    }
    Ok(())
}

/// A signature record: the algorithm, and everything but time and signature.
fn signature(text: &mut Text<'_>, message: View<'_>, at: usize) -> Printed {
    put!(text, " ");
    let fudge = name::print(text, message, at)? + 6;
    put!(text, " fudge={}", message.u16(fudge)?);
    let len = message.u16(fudge + 2)?;
    put!(text, " maclen={len}");
    let rest = fudge + 4 + usize::from(len);
    put!(text, " origid={}", message.u16(rest)?);
    put!(text, " error={}", message.u16(rest + 2)?);
    put!(text, " otherlen={}", message.u16(rest + 4)?);
    Ok(())
}

fn put_class(text: &mut Text<'_>, class: u16) {
    match class {
        INTERNET => {}
        3 => put!(text, " CHAOS"),
        4 => put!(text, " HS"),
        255 => put!(text, " ANY"),
        _ => put!(text, " (Class {class})"),
    }
}

fn put_kind(text: &mut Text<'_>, kind: u16) {
    match kind_name(kind) {
        Some(name) => put!(text, "{name}"),
        None => put!(text, "Type{kind}"),
    }
}

/// A record's type as tcpdump names it.
fn kind_name(kind: u16) -> Option<&'static str> {
    const FIRST: [&str; 47] = [
        "A", "NS", "MD", "MF", "CNAME", "SOA", "MB", "MG", "MR", "NULL", "WKS", "PTR", "HINFO", "MINFO",
        "MX", "TXT", "RP", "AFSDB", "X25", "ISDN", "RT", "NSAP", "NSAP_PTR", "SIG", "KEY", "PX", "GPOS",
        "AAAA", "LOC", "NXT", "EID", "NIMLOC", "SRV", "ATMA", "NAPTR", "KX", "CERT", "A6", "DNAME", "SINK",
        "OPT", "APL", "DS", "SSHFP", "IPSECKEY", "RRSIG", "NSEC",
    ];
    Some(match kind {
        1..=47 => FIRST[usize::from(kind) - 1],
        48 => "DNSKEY",
        99 => "SPF",
        100 => "UINFO",
        101 => "UID",
        102 => "GID",
        103 => "UNSPEC",
        104 => "UNSPECA",
        249 => "TKEY",
        250 => "TSIG",
        251 => "IXFR",
        252 => "AXFR",
        253 => "MAILB",
        254 => "MAILA",
        255 => "ANY",
        256 => "URI",
        _ => return None,
    })
}
