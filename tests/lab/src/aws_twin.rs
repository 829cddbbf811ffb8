//! A twin of a capture from AWS: the same header values in frames made here.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    error::Result,
    frames::{Outer, TcpFields, inner_tcp, inner_udp},
};

/// The VNI of every frame of [`aws_twin`].
pub const VNI: u32 = 5_569_041;
/// Outer source: the mirrored interface's primary address.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 238);
/// Outer destination: the mirror target.
pub const TARGET: Ipv4Addr = Ipv4Addr::new(172, 31, 17, 188);
/// How many frames there are.
pub const FRAMES: u32 = 100;

/// Answers of the VPC resolver were always seen with this outer source port.
const RESOLVER_PORT: u16 = 65408;
const SSH: u16 = 22;
const DNS: u16 = 53;
const NTP: u16 = 123;

/// A hundred frames with the outer header values seen in AWS, the same on every call: outer IPv4 with TOS 0,
/// id 0, no fragment bits and TTL 255, no UDP checksum, source ports of 0xff80 to 0xffff that are equal for
/// both directions of a flow, VXLAN flags 0x08, no padding. Inside: SSH over TCP, questions and answers of
/// the VPC's resolver, NTP.
///
/// # Errors
///
/// None in practice; those of the frame builder.
pub fn aws_twin() -> Result<Vec<Vec<u8>>> {
    (0..FRAMES).map(frame).collect()
}

fn frame(number: u32) -> Result<Vec<u8>> {
    let host = IpAddr::from(SOURCE);
    let outwards = number.is_multiple_of(2);
    let turn = number / 10;
    let (source_port, inner) = match number % 10 {
        0 | 1 => {
            let resolver = (IpAddr::from([172, 31, 0, 2]), DNS);
            let client = (host, 40_000 + low16(turn));
            if outwards {
                (0xff80 | low16(turn * 13) & 0x7f, inner_udp(client, resolver, &dns(turn, false))?)
            } else {
                (RESOLVER_PORT, inner_udp(resolver, client, &dns(turn, true))?)
            }
        }
        2 | 3 => {
            let (client, server) = ((host, NTP), (IpAddr::from([78, 46, 93, 39]), NTP));
            let (from, to) = if outwards { (client, server) } else { (server, client) };
            (0xffa5, inner_udp(from, to, &ntp(number, outwards))?)
        }
        _ => {
            let (client, server) = ((IpAddr::from([198, 51, 100, 7]), 51_022), (host, SSH));
            let (from, to) = if outwards { (server, client) } else { (client, server) };
            // Each side goes on where its last segment ended, as tshark checks.
            let sent = |outwards: bool| {
                let earlier =
                    (0..number).filter(|earlier| earlier % 10 >= 4 && earlier.is_multiple_of(2) == outwards);
                1_000_000 + earlier.map(ssh_len).sum::<u32>()
            };
            let fields = TcpFields { sequence: sent(outwards), acknowledgment: sent(!outwards), window: 501 };
            (0xffc3, inner_tcp(from, to, fields, &ssh(number))?)
        }
    };
    Outer::aws(SOURCE, TARGET, source_port, VNI).encapsulate(&inner)
}

/// A query for example.com's address, or its answer (RFC 1035 section 4).
fn dns(id: u32, answer: bool) -> Vec<u8> {
    let flags: [u8; 2] = if answer { [0x81, 0x80] } else { [0x01, 0x00] };
    let mut message = low16(id).to_be_bytes().to_vec();
    message.extend_from_slice(&flags);
    message.extend_from_slice(&[0, 1, 0, u8::from(answer), 0, 0, 0, 0]);
    message.extend_from_slice(b"\x07example\x03com\x00\x00\x01\x00\x01");
    if answer {
        // A pointer to the name of the question, type A, class IN, 60 s, four bytes.
        message.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 80]);
    }
    message
}

/// NTP version 4, client or server mode (RFC 5905 section 7.3).
fn ntp(number: u32, client: bool) -> Vec<u8> {
    let mut message = vec![0; 48];
    message[0] = 4 << 3 | if client { 3 } else { 4 };
    message[1] = if client { 0 } else { 2 };
    message[2] = 6;
    message[3] = 0xec;
    message[40..44].copy_from_slice(&(0xe0be_0000 | number).to_be_bytes());
    message
}

/// An SSH packet as it looks on the wire once encrypted: a length and bytes without meaning.
fn ssh(number: u32) -> Vec<u8> {
    let mut state = number.wrapping_mul(2_654_435_761).wrapping_add(1);
    let noise = (0..ssh_len(number)).map(|_| {
        // xorshift32 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    });
    noise.collect()
}

/// Blocks of a cipher, after 36 bytes that every packet has.
fn ssh_len(number: u32) -> u32 {
    36 + 16 * (number % 50)
}

fn low16(value: u32) -> u16 {
    let [_, _, high, low] = value.to_be_bytes();
    u16::from_be_bytes([high, low])
}
