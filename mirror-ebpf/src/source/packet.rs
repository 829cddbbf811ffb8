//! What the rules look at in a frame.

use super::Rule;
use crate::wire::{
    ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, FRAGMENT_HEADER,
    IPV4_FRAGMENT_OFFSET, IPV4_HEADER, IPV6_HEADER, PROTOCOL_AH, PROTOCOL_FRAGMENT, PROTOCOL_ICMP,
    PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, VLAN_TAG,
};

/// An address as it lies in memory, IPv4 in the first word.
pub type Address = [u32; 4];

/// The most IPv6 extension headers that are skipped; one more is taken for the packet's protocol.
pub const MAX_EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;

/// A frame, wherever its bytes lie.
pub trait Frame {
    /// Its bytes, Ethernet header included.
    fn len(&self) -> usize;

    /// Bytes from an offset on; `None` where it does not have so many.
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Frame for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }
}

/// What the rules look at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// 4 or 6.
    pub version: u8,
    /// IPv4's protocol; of IPv6, the one behind its extension headers.
    pub protocol: u8,
    /// Both, as [`Rule::kind`] has them.
    pub kind: u32,
    /// Source and destination port of TCP and UDP; [`NO_PORT`](Self::NO_PORT) of anything else.
    pub ports: [u32; 2],
    /// Type of an ICMP or ICMPv6 message; [`NO_MESSAGE`](Self::NO_MESSAGE) of anything else.
    pub message: u16,
    /// Where the header of the protocol begins.
    pub transport: usize,
    /// Services of Amazon that source and destination are, 0 for none.
    pub services: [u32; 2],
}

impl Packet {
    /// No port: it is in no range.
    pub const NO_PORT: u32 = 1 << 16;
    /// No ICMP message.
    pub const NO_MESSAGE: u16 = u16::MAX;

    /// Reads the headers behind at most two VLAN tags. `None` of what is neither IPv4 nor IPv6, or has not
    /// the whole header.
    #[inline(always)]
    pub fn of<F: Frame + ?Sized>(frame: &F) -> Option<Self> {
        let [_, _, high, low] = frame.read::<4>(ETHERNET_HEADER - 4)?;
        let mut ethertype = u16::from_be_bytes([high, low]);
        let mut network = ETHERNET_HEADER;
        let mut tags = 0;
        while tags < 2 && (ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_SERVICE_VLAN) {
            ethertype = u16::from_be_bytes(frame.read(network + 2)?);
            network += VLAN_TAG;
            tags += 1;
        }
        match ethertype {
            ETHERTYPE_IPV4 => Self::of_ipv4(frame, network),
            ETHERTYPE_IPV6 => Self::of_ipv6(frame, network),
            _ => None,
        }
    }

    #[inline(always)]
    fn of_ipv4<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Self> {
        let header: [u8; IPV4_HEADER] = frame.read(network)?;
        let [a, _, length_high, length_low, _, _, offset_high, offset_low, _, protocol, ..] = header;
        let header_len = usize::from(a & 0x0f) * 4;
        let transport = network + header_len;
        if a >> 4 != 4 || header_len < IPV4_HEADER || transport > frame.len() {
            return None;
        }
        let total = usize::from(u16::from_be_bytes([length_high, length_low]));
        let is_first = u16::from_be_bytes([offset_high, offset_low]) & IPV4_FRAGMENT_OFFSET == 0;
        let [.., a, b, c, d, e, f, g, h] = header;
        let packet = Self {
            source: [u32::from_ne_bytes([a, b, c, d]), 0, 0, 0],
            destination: [u32::from_ne_bytes([e, f, g, h]), 0, 0, 0],
            version: 4,
            protocol,
            kind: 0,
            ports: [Self::NO_PORT; 2],
            message: Self::NO_MESSAGE,
            transport,
            services: [of_amazon_v4([a, b, c, d]), of_amazon_v4([e, f, g, h])],
        };
        // A super-frame over 64 KiB says 0.
        let end = if total < header_len { frame.len() } else { frame.len().min(network + total) };
        Some(if is_first { packet.with_transport(frame, end) } else { packet.complete() })
    }

    #[inline(always)]
    fn of_ipv6<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Self> {
        let [version, _, _, _, length_high, length_low, next] = frame.read(network)?;
        if version >> 4 != 6 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let begin = network + IPV6_HEADER;
        let end = if length == 0 { frame.len() } else { frame.len().min(begin + length) };
        let (source, destination) = (words(frame, network + 8)?, words(frame, network + 24)?);
        let mut packet = Self {
            source,
            destination,
            version: 6,
            protocol: next,
            kind: 0,
            ports: [Self::NO_PORT; 2],
            message: Self::NO_MESSAGE,
            transport: begin,
            services: [of_amazon_v6(&source), of_amazon_v6(&destination)],
        };
        let mut seen = 0;
        while seen < MAX_EXTENSIONS {
            let Some((next, len, is_first)) = extension(frame, packet.protocol, packet.transport, end, seen)
            else {
                break;
            };
            packet.protocol = next;
            packet.transport += len;
            if !is_first {
                return Some(packet.complete());
            }
            seen += 1;
        }
        Some(packet.with_transport(frame, end))
    }

    /// With the fields of the protocol's own header, if it is all there.
    #[inline(always)]
    fn with_transport<F: Frame + ?Sized>(mut self, frame: &F, end: usize) -> Self {
        match self.protocol {
            PROTOCOL_TCP | PROTOCOL_UDP => {
                if let Some([a, b, c, d]) = within(frame, self.transport, end) {
                    self.ports = [u16::from_be_bytes([a, b]).into(), u16::from_be_bytes([c, d]).into()];
                }
            }
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 => {
                if let Some([message]) = within(frame, self.transport, end) {
                    self.message = u16::from(message);
                }
            }
            _ => {}
        }
        self.complete()
    }

    #[inline(always)]
    fn complete(mut self) -> Self {
        self.kind = Rule::kind(self.version, self.protocol);
        self
    }
}

/// Bytes of the packet that ends there.
#[inline(always)]
fn within<const N: usize, F: Frame + ?Sized>(frame: &F, at: usize, end: usize) -> Option<[u8; N]> {
    if at + N > end { None } else { frame.read(at) }
}

#[inline(always)]
pub(super) fn words<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<Address> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = frame.read(at)?;
    Some([
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ])
}

/// An extension header (RFC 8200 section 4): the next header, its length, and whether the rest is the start
/// of the packet, which it is not in a fragment behind the first. `None` if it is none, or not all there.
#[inline(always)]
fn extension<F: Frame + ?Sized>(
    frame: &F,
    kind: u8,
    at: usize,
    end: usize,
    seen: usize,
) -> Option<(u8, usize, bool)> {
    // Hop-by-hop options are only at the start.
    let is_known = kind == HOP_BY_HOP && seen == 0
        || matches!(kind, ROUTING | DESTINATION_OPTIONS | PROTOCOL_FRAGMENT | PROTOCOL_AH);
    if !is_known {
        return None;
    }
    let [next, units, high, low] = within(frame, at, end)?;
    let mut is_first = true;
    let len = match kind {
        PROTOCOL_FRAGMENT => {
            // 13 bits of offset, then flags.
            is_first = u16::from_be_bytes([high, low]) >> 3 == 0;
            FRAGMENT_HEADER
        }
        // RFC 4302 section 2.2 counts words, less 2; one without an integrity check value is none.
        PROTOCOL_AH if units == 0 => return None,
        PROTOCOL_AH => (usize::from(units) + 2) * 4,
        _ => (usize::from(units) + 1) * 8,
    };
    if at + len > end { None } else { Some((next, len, is_first)) }
}

// Services of Amazon, by the last byte of their IPv4 address, 169.254.169.x.
pub(super) const METADATA: u32 = 254;
pub(super) const TIME: u32 = 123;
pub(super) const RESOLVER: u32 = 253;
pub(super) const WINDOWS_ACTIVATION: u32 = 250;
const OTHER_WINDOWS_ACTIVATION: u32 = 251;

/// The service of an address; of others 0, or another number.
#[inline(always)]
fn of_amazon_v4([a, b, c, last]: [u8; 4]) -> u32 {
    if [a, b, c] != [169, 254, 169] {
        0
    } else if u32::from(last) == OTHER_WINDOWS_ACTIVATION {
        WINDOWS_ACTIVATION
    } else {
        u32::from(last)
    }
}

/// The same of fd00:ec2::x.
#[inline(always)]
fn of_amazon_v6(&[a, b, c, d]: &Address) -> u32 {
    if a != u32::from_ne_bytes([0xfd, 0, 0x0e, 0xc2]) || b != 0 || c != 0 {
        return 0;
    }
    match u32::from_be_bytes(d.to_ne_bytes()) {
        0x254 => METADATA,
        0x253 => RESOLVER,
        0x123 => TIME,
        _ => 0,
    }
}
