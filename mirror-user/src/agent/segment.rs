//! Segments the super-frames that a host's stack hands to its interfaces (GSO), or that its interfaces have
//! merged (GRO), and completes checksums, as the kernel or the NIC would have. No I/O.
//!
//! The payload is not copied: a segment is headers of its own and a part of the super-frame. (`gso_split` of
//! tun-rs copies it, knows no Ethernet header, and is for Linux only.)

use std::net::IpAddr;

use arrayvec::ArrayVec;
use etherparse::checksum::Sum16BitWords;

use crate::{
    flow::extension_len,
    wire::{
        ethernet::{self, ethertype},
        ipv4, ipv6, tcp, udp, vlan,
    },
};

/// Room for the headers of a segment, from Ethernet to TCP, in bytes. IPv4 needs 142 of them at most, so that
/// IPv6 has at least 134 for extension headers.
pub const MAX_HEADERS: usize = 256;

/// What precedes a frame that is read from a TAP device with `IFF_VNET_HDR` (virtio 1.2 section 5.1.6,
/// `linux/virtio_net.h`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`](Self::NEEDS_CSUM), and others that do not matter here.
    pub flags: u8,
    /// Whether the frame is to be segmented, and by which protocol: one of the `GSO` constants.
    pub gso_type: u8,
    /// Payload of a segment, in bytes.
    pub gso_size: u16,
    /// Where the checksum begins, in bytes from the start of the frame.
    pub csum_start: u16,
    /// Where it is stored, in bytes from there.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Length in bytes, as long as TUNSETVNETHDRSZ does not ask for the longer form of virtio 1.0.
    pub const LEN: usize = 10;
    /// Flag: the checksum is that of the pseudo-header alone.
    pub const NEEDS_CSUM: u8 = 1;
    /// It is one frame.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// TCP over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP datagrams over IPv4 or IPv6, each with a header of its own (kernel 6.2).
    pub const GSO_UDP_L4: u8 = 5;
    /// Beside one of TCP: it has the CWR flag, which is for the first segment.
    pub const GSO_ECN: u8 = 0x80;

    /// Splits it from what was read; `None` if that is shorter.
    #[must_use]
    pub fn split(read: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (&mut [flags, gso_type, _, _, size @ .., a, b, c, d], frame) =
            read.split_first_chunk_mut::<{ Self::LEN }>()?;
        // Its third field, hdr_len, is a hint: the kernel puts the length of the linear part there.
        let header = Self {
            flags,
            gso_type,
            gso_size: u16::from_ne_bytes(size),
            csum_start: u16::from_ne_bytes([a, b]),
            csum_offset: u16::from_ne_bytes([c, d]),
        };
        Some((header, frame))
    }
}

/// The segments of a frame, in sequence.
///
/// # Examples
///
/// A frame without a header to say otherwise is its own only segment:
///
/// ```
/// use arrayvec::ArrayVec;
/// use mirror_user::agent::segment::{Segments, VnetHeader};
///
/// let mut frame = [0xff; 60];
/// let mut segments = Segments::of(VnetHeader::default(), &mut frame);
/// let mut headers = ArrayVec::<u8, 256>::new();
/// assert_eq!(segments.next_into(&mut headers), Some(&[0xff; 60][..]));
/// assert_eq!(segments.next_into(&mut headers), None);
/// ```
#[derive(Debug)]
pub struct Segments<'a> {
    /// Up to the payload; empty for a frame that stays whole.
    headers: &'a [u8],
    /// What is left of the payload.
    payload: &'a [u8],
    /// Payload of a segment.
    size: usize,
    /// How many segments are left.
    left: usize,
    split: Option<Split>,
    is_inconsistent: bool,
}

/// How a super-frame is split.
#[derive(Clone, Debug)]
struct Split {
    /// Where the IP header begins.
    network: usize,
    /// Where the header of TCP or UDP begins.
    transport: usize,
    version: Version,
    protocol: Protocol,
    /// The sum of the pseudo-header without the length.
    pseudo_header: Sum16BitWords,
    is_first: bool,
    /// IPv4's identification of the next segment.
    id: u16,
    /// TCP's sequence number of the next segment.
    sequence: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => tcp::PROTOCOL,
            Self::Udp => udp::PROTOCOL,
        }
    }

    /// Where the checksum is in its header.
    fn checksum(self) -> usize {
        match self {
            Self::Tcp => tcp::field::CHECKSUM.start,
            Self::Udp => udp::field::CHECKSUM.start,
        }
    }
}

impl<'a> Segments<'a> {
    /// Those of a frame behind this header. Neither is trusted: a frame of which the header says something
    /// that is not so stays whole, as it is ([`is_inconsistent`](Self::is_inconsistent)), because a packet
    /// that is seen in an odd form is better than one that is not seen.
    #[must_use]
    pub fn of(vnet: VnetHeader, frame: &'a mut [u8]) -> Self {
        if vnet.gso_type == VnetHeader::GSO_NONE {
            let is_inconsistent = !complete_checksum(vnet, frame);
            return Self::whole(frame, is_inconsistent);
        }
        let frame = &*frame;
        let size = usize::from(vnet.gso_size);
        let Some((split, headers)) = Split::of(vnet, frame) else { return Self::whole(frame, true) };
        let (headers, payload) = frame.split_at(headers);
        let left = payload.len().div_ceil(size).max(1);
        Self { headers, payload, size, left, split: Some(split), is_inconsistent: false }
    }

    fn whole(frame: &'a [u8], is_inconsistent: bool) -> Self {
        Self { headers: &[], payload: frame, size: frame.len(), left: 1, split: None, is_inconsistent }
    }

    /// Whether the frame is not what its header says, or of a kind of segmentation that is not known here.
    #[must_use]
    pub fn is_inconsistent(&self) -> bool {
        self.is_inconsistent
    }

    /// How many are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Appends the headers of the next segment, and returns the rest of it; `None` behind the last.
    ///
    /// # Panics
    ///
    /// If there is no room for [`MAX_HEADERS`] more bytes.
    pub fn next_into<const N: usize>(&mut self, headers: &mut ArrayVec<u8, N>) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (payload, rest) = self.payload.split_at(self.size.min(self.payload.len()));
        self.payload = rest;
        if let Some(split) = &mut self.split {
            let start = headers.len();
            assert!(headers.try_extend_from_slice(self.headers).is_ok(), "room for the headers");
            split.write(&mut headers[start..], payload, self.left == 0);
        }
        Some(payload)
    }
}

impl Split {
    /// With the length of all headers; `None` if the frame is not what its header says.
    fn of(vnet: VnetHeader, frame: &[u8]) -> Option<(Self, usize)> {
        let (network, version) = network(frame)?;
        let protocol = match (vnet.gso_type & !VnetHeader::GSO_ECN, version) {
            (VnetHeader::GSO_TCPV4, Version::V4) | (VnetHeader::GSO_TCPV6, Version::V6) => Protocol::Tcp,
            (VnetHeader::GSO_UDP_L4, _) => Protocol::Udp,
            _ => return None,
        };
        let packet = &frame[network..];
        let (transport, addresses) = match version {
            Version::V4 => over_ipv4(packet, protocol)?,
            Version::V6 => over_ipv6(packet, protocol)?,
        };
        let transport = network + transport;
        let segment = &frame[transport..];
        let header = match protocol {
            Protocol::Tcp => tcp::header_len(segment)?,
            Protocol::Udp => udp::HEADER_LEN,
        };
        let headers = transport + header;
        let payload = frame.len().checked_sub(headers)?;
        let size = usize::from(vnet.gso_size);
        let longest = headers - network + size.min(payload);
        if size == 0 || headers > MAX_HEADERS || longest > u16::MAX.into() {
            return None;
        }
        let checksum = bytes(segment, protocol.checksum());
        let pseudo_header = if vnet.flags & VnetHeader::NEEDS_CSUM != 0 {
            let at = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset));
            if at != (transport, protocol.checksum()) {
                return None;
            }
            // The field has the sum with the length of the super-frame, from which the kernel goes on: with a
            // routing header, the destination in it is another one than in the IP header.
            let length = match protocol {
                Protocol::Tcp => u16::try_from(segment.len()).ok()?.to_be_bytes(),
                Protocol::Udp => bytes(segment, udp::field::LENGTH.start),
            };
            Sum16BitWords::new().add_2bytes(checksum).add_2bytes(length.map(|byte| !byte))
        } else {
            let [from, to] = addresses;
            add_address(add_address(Sum16BitWords::new(), from), to).add_2bytes([0, protocol.number()])
        };
        let id = match version {
            Version::V4 => u16::from_be_bytes(bytes(packet, ipv4::field::IDENTIFICATION.start)),
            Version::V6 => 0,
        };
        let sequence = match protocol {
            Protocol::Tcp => u32::from_be_bytes(bytes(segment, tcp::field::SEQUENCE.start)),
            Protocol::Udp => 0,
        };
        let split =
            Self { network, transport, version, protocol, pseudo_header, is_first: true, id, sequence };
        Some((split, headers))
    }

    /// Makes the headers of the super-frame those of its next segment.
    fn write(&mut self, headers: &mut [u8], payload: &[u8], is_last: bool) {
        let transport_len = headers.len() - self.transport + payload.len();
        let (network, transport) = headers[self.network..].split_at_mut(self.transport - self.network);
        match self.version {
            Version::V4 => {
                let length = length(network.len() + transport_len);
                network[ipv4::field::TOTAL_LENGTH].copy_from_slice(&length.to_be_bytes());
                network[ipv4::field::IDENTIFICATION].copy_from_slice(&self.id.to_be_bytes());
                network[ipv4::field::CHECKSUM].fill(0);
                let sum = Sum16BitWords::new().add_slice(network).ones_complement();
                network[ipv4::field::CHECKSUM].copy_from_slice(&sum.to_ne_bytes());
                self.id = self.id.wrapping_add(1);
            }
            Version::V6 => {
                let length = length(network.len() - ipv6::HEADER_LEN + transport_len);
                network[ipv6::field::PAYLOAD_LENGTH].copy_from_slice(&length.to_be_bytes());
            }
        }
        let transport_length = length(transport_len).to_be_bytes();
        match self.protocol {
            Protocol::Tcp => {
                transport[tcp::field::SEQUENCE].copy_from_slice(&self.sequence.to_be_bytes());
                self.sequence = self.sequence.wrapping_add(u32::from(length(payload.len())));
                let flags = &mut transport[tcp::field::FLAGS];
                if !is_last {
                    *flags &= !(tcp::FIN | tcp::PSH);
                }
                // RFC 3168 section 6.1.2: once for each reduction of the window.
                if !self.is_first {
                    *flags &= !tcp::CWR;
                }
            }
            Protocol::Udp => transport[udp::field::LENGTH].copy_from_slice(&transport_length),
        }
        self.is_first = false;
        let at = self.protocol.checksum();
        transport[at..at + 2].fill(0);
        let headers = self.pseudo_header.clone().add_2bytes(transport_length).add_slice(transport);
        let sum = add_long(headers, payload);
        let sum = match self.protocol {
            Protocol::Tcp => sum.ones_complement(),
            // Zero is none (RFC 768).
            Protocol::Udp => sum.to_ones_complement_with_no_zero(),
        };
        transport[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    }
}

/// A length of a segment, which [`Split::of`] has found to fit.
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// Where the IP header begins, behind up to two VLAN tags.
fn network(frame: &[u8]) -> Option<(usize, Version)> {
    let mut ethertype = ethernet::Frame::new_checked(frame).ok()?.ethertype();
    let mut at = ethernet::HEADER_LEN;
    for _ in 0..vlan::MAX_TAGS {
        if !vlan::announces_tag(ethertype) {
            break;
        }
        ethertype = vlan::Tag::new_checked(&frame[at..]).ok()?.ethertype();
        at += vlan::TAG_LEN;
    }
    match ethertype {
        ethertype::IPV4 => Some((at, Version::V4)),
        ethertype::IPV6 => Some((at, Version::V6)),
        _ => None,
    }
}

/// Where the transport header begins, and the two addresses.
fn over_ipv4(packet: &[u8], protocol: Protocol) -> Option<(usize, [IpAddr; 2])> {
    let ip = ipv4::Packet::new_checked(packet).ok()?;
    let is_whole = ip.protocol() == protocol.number() && !ip.is_fragment();
    let transport = is_whole.then_some(ip.header_len())?;
    has_header(packet, transport, protocol)
        .then(|| (transport, [ip.source().into(), ip.destination().into()]))
}

fn over_ipv6(packet: &[u8], protocol: Protocol) -> Option<(usize, [IpAddr; 2])> {
    let ip = ipv6::Packet::new_checked(packet).ok()?;
    let (mut next_header, mut transport) = (ip.next_header(), ipv6::HEADER_LEN);
    while next_header != protocol.number() {
        let header = packet.get(transport..)?;
        let len = extension_len(next_header, header)?;
        (next_header, transport) = (*header.first()?, transport + len);
    }
    has_header(packet, transport, protocol)
        .then(|| (transport, [ip.source().into(), ip.destination().into()]))
}

/// Whether the fixed part of the transport header is there.
fn has_header(packet: &[u8], transport: usize, protocol: Protocol) -> bool {
    let len = match protocol {
        Protocol::Tcp => tcp::HEADER_LEN,
        Protocol::Udp => udp::HEADER_LEN,
    };
    packet.len() >= transport + len
}

/// Bytes of a field that is there.
fn bytes<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// As `add_slice`, in half of the time for a payload: 2^16 is 1 in ones' complement, so that words of any
/// length can be added first (RFC 1071 section 2), and the compiler adds several of them at once.
fn add_long(mut sum: Sum16BitWords, slice: &[u8]) -> Sum16BitWords {
    let (words, rest) = slice.as_chunks();
    let words: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    sum.add_8bytes(words.to_ne_bytes()).add_slice(rest)
}

fn add_address(mut sum: Sum16BitWords, address: IpAddr) -> Sum16BitWords {
    match address {
        IpAddr::V4(address) => sum.add_4bytes(address.octets()),
        IpAddr::V6(address) => sum.add_16bytes(address.octets()),
    }
}

/// Completes the checksum of a frame that is not segmented, if it needs that, as the kernel's
/// `skb_checksum_help`; whether it could.
fn complete_checksum(vnet: VnetHeader, frame: &mut [u8]) -> bool {
    if vnet.flags & VnetHeader::NEEDS_CSUM == 0 {
        return true;
    }
    let start = usize::from(vnet.csum_start);
    let Some(summed) = frame.get_mut(start..).filter(|_| start >= ethernet::HEADER_LEN) else {
        return false;
    };
    let sum = Sum16BitWords::new().add_slice(summed).to_ones_complement_with_no_zero();
    let Some(field) = summed.get_mut(usize::from(vnet.csum_offset)..).and_then(<[u8]>::first_chunk_mut)
    else {
        return false;
    };
    *field = sum.to_ne_bytes();
    true
}

#[cfg(test)]
mod tests;
