//! Options of EDNS (RFC 6891 section 6.1.2).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    super::{
        text::{Address, Printed, Text, put},
        view::View,
    },
    name,
};

/// RFC 6975.
const DNSSEC_ALGORITHMS: u16 = 5;
const DELEGATION_DIGESTS: u16 = 6;
const HASHES: u16 = 7;
/// RFC 7871.
const CLIENT_SUBNET: u16 = 8;
/// RFC 7314.
const EXPIRE: u16 = 9;
/// RFC 7873.
const COOKIE: u16 = 10;
/// RFC 7828.
const KEEPALIVE: u16 = 11;
/// RFC 7830.
const PADDING: u16 = 12;
/// RFC 7901.
const CHAIN: u16 = 13;
/// RFC 8145.
const KEY_TAG: u16 = 14;

const ALGORITHMS: [(u32, &str); 17] = [
    (0, "DELETE"),
    (1, "RSAMD5"),
    (2, "DH"),
    (3, "DS"),
    (5, "RSASHA1"),
    (6, "DSA-NSEC3-SHA1"),
    (7, "RSASHA1-NSEC3-SHA1"),
    (8, "RSASHA256"),
    (10, "RSASHA512"),
    (12, "ECC-GOST"),
    (13, "ECDSAP256SHA256"),
    (14, "ECDSAP384SHA384"),
    (15, "ED25519"),
    (16, "ED448"),
    (252, "INDIRECT"),
    (253, "PRIVATEDNS"),
    (254, "PRIVATEOID"),
];
const DIGESTS: [(u32, &str); 4] = [(1, "SHA-1"), (2, "SHA-256"), (3, "GOST_R_34.11-94"), (4, "SHA-384")];

/// The options of a record, in the message from `at` to `end`.
pub(super) fn options(text: &mut Text<'_>, message: View<'_>, mut at: usize, end: usize) -> Printed {
    if at >= end {
        return Ok(());
    }
    put!(text, " [");
    while at < end {
        let kind = message.u16(at)?;
        match kind_name(kind) {
            Some(name) => put!(text, "{name}"),
            None => put!(text, "Opt{kind}"),
        }
        let value = message.get(at + 4, usize::from(message.u16(at + 2)?))?;
        if !value.is_empty() {
            put!(text, " ");
            option(text, kind, value);
        }
        at += 4 + value.len();
        put!(text, "{}", if at < end { "," } else { "]" });
    }
    Ok(())
}

fn option(text: &mut Text<'_>, kind: u16, value: &[u8]) {
    match (kind, value) {
        (DNSSEC_ALGORITHMS, _) => algorithms(text, value, &ALGORITHMS),
        (DELEGATION_DIGESTS, _) => algorithms(text, value, &DIGESTS),
        (HASHES, _) => algorithms(text, value, &DIGESTS[..1]),
        (CLIENT_SUBNET, _) => match subnet(value) {
            Some((address, source, scope)) => put!(text, "{address}/{source}/{scope}"),
            None => text.invalid(),
        },
        // In seconds.
        (EXPIRE, &[a, b, c, d]) => put!(text, "{} sec", u32::from_be_bytes([a, b, c, d])),
        // The client's cookie, and the server's.
        (COOKIE, [..]) if matches!(value.len(), 8 | 16..=40) => {
            let (client, server) = value.split_at(8);
            text.hex(client, "");
            if !server.is_empty() {
                put!(text, " ");
                text.hex(server, "");
            }
        }
        // In units of 100 ms.
        (KEEPALIVE, &[high, low]) => {
            let tenths = u16::from_be_bytes([high, low]);
            put!(text, "{}.{} sec", tenths / 10, tenths % 10);
        }
        (KEY_TAG, _) if value.len().is_multiple_of(2) => {
            for (place, tag) in value.as_chunks().0.iter().enumerate() {
                put!(text, "{}{}", if place == 0 { "" } else { " " }, u16::from_be_bytes(*tag));
            }
        }
        (EXPIRE | COOKIE | KEEPALIVE | KEY_TAG, _) => text.invalid(),
        (PADDING, _) => put!(text, "({})", value.len()),
        (CHAIN, _) => {
            // An error in the name does not end the options.
            let _ = name::print(text, View::new(value, value.len()), 0);
        }
        _ => text.hex(value, ""),
    }
}

fn algorithms(text: &mut Text<'_>, numbers: &[u8], names: &[(u32, &str)]) {
    for (place, &number) in numbers.iter().enumerate() {
        put!(text, "{}", if place == 0 { "" } else { " " });
        text.name_or(names, number, format_args!("Alg_{number}"));
    }
}

/// The subnet of a client, its prefix length, and that of the answer; `None` if it is invalid.
fn subnet(value: &[u8]) -> Option<(Address, u8, u8)> {
    let (&[family_high, family, source, scope], prefix) = value.split_first_chunk()?;
    let bits = match (family_high, family) {
        (0, 1) => 32,
        (0, 2) => 128,
        _ => return None,
    };
    if source > bits || scope > bits || usize::from(source).div_ceil(8) != prefix.len() {
        return None;
    }
    let mut octets = [0; 16];
    octets[..prefix.len()].copy_from_slice(prefix);
    let [a, b, c, d, ..] = octets;
    let address = if family == 1 { Ipv4Addr::new(a, b, c, d).into() } else { Ipv6Addr::from(octets).into() };
    Some((Address(address), source, scope))
}

fn kind_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        1 => "LLQ",
        2 => "UL",
        3 => "NSID",
        DNSSEC_ALGORITHMS => "DAU",
        DELEGATION_DIGESTS => "DHU",
        HASHES => "N3U",
        CLIENT_SUBNET => "ECS",
        EXPIRE => "EXPIRE",
        COOKIE => "COOKIE",
        KEEPALIVE => "KEEPALIVE",
        PADDING => "PADDING",
        CHAIN => "CHAIN",
        KEY_TAG => "KEY-TAG",
        16 => "CLIENT-TAG",
        17 => "SERVER-TAG",
        _ => return None,
    })
}
