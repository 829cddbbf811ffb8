//! The outer headers of copies, as AWS sends them: Ethernet, IP, UDP, VXLAN.
//!
//! TTL 255, identification 0, don't-fragment not set, UDP checksum 0, flags 0x08, and source ports of 7 bits
//! are what captures of AWS's mirrors have. Over IPv6, which was not captured, the hop limit is the same, and
//! the UDP checksum is there, because receivers may refuse those without (RFC 8200 section 8.1).

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;
use etherparse::{UdpHeader, checksum::Sum16BitWords};

use crate::wire::{
    encapsulation::{MAX_LEN, Style, ip_header, pseudo_header},
    ethernet::{self, ethertype},
    ipv4, ipv6, udp, vxlan,
};

/// The longest outer headers, in bytes.
pub const MAX_OUTER: usize = ethernet::HEADER_LEN + MAX_LEN;

/// The lowest source port.
const LOWEST_PORT: u16 = 0xff80;

/// Between which ends copies are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ends {
    /// The MAC address of the interface.
    pub mac: [u8; 6],
    /// The MAC address of the target, or of the gateway.
    pub neighbour: [u8; 6],
    /// The source address.
    pub from: IpAddr,
    /// The target and its UDP port.
    pub to: SocketAddr,
}

/// Outer headers, complete but for what differs by frame.
#[derive(Clone, Debug)]
pub struct Outer {
    headers: ArrayVec<u8, MAX_OUTER>,
    /// The sum of the IPv4 header, or of the pseudo-header of UDP over IPv6, without the length.
    sum: Sum16BitWords,
    is_v4: bool,
    /// The longest inner frame, in bytes.
    room: usize,
}

/// The outer source port for an inner flow of this hash: one of 128 (0xff80 to 0xffff).
#[must_use]
pub fn source_port(hash: u64) -> u16 {
    let [highest, ..] = hash.to_be_bytes();
    LOWEST_PORT | u16::from(highest >> 1)
}

impl Outer {
    /// For copies of a VNI; `mtu` is the longest IP packet that reaches the target, in bytes. `None` if the
    /// two addresses are not of one family.
    #[must_use]
    pub fn new(ends: &Ends, vni: u32, mtu: u32) -> Option<Self> {
        let ip = ip_header(ends.from, ends.to.ip(), 0, Style::MIRRORED)?;
        let udp = UdpHeader { source_port: 0, destination_port: ends.to.port(), length: 0, checksum: 0 };
        let (kind, sum) = match (ends.from, ends.to.ip()) {
            (IpAddr::V6(from), IpAddr::V6(to)) => (ethertype::IPV6, pseudo_header(from, to)),
            // The length in it is that of the header alone.
            _ => {
                let length = u16::try_from(ip.len()).unwrap_or(0);
                (ethertype::IPV4, Sum16BitWords::new().add_slice(&ip).add_2bytes((!length).to_be_bytes()))
            }
        };
        let mut headers = ArrayVec::new();
        let kind_bytes = kind.to_be_bytes();
        let all: [&[u8]; 6] =
            [&ends.neighbour, &ends.mac, &kind_bytes, &ip, &udp.to_bytes(), &vxlan::header(vni)];
        for part in all {
            headers.try_extend_from_slice(part).ok()?;
        }
        let longest = usize::try_from(mtu).unwrap_or(usize::MAX).min(u16::MAX.into());
        let room = longest.saturating_sub(headers.len() - ethernet::HEADER_LEN);
        Some(Self { headers, sum, is_v4: kind == ethertype::IPV4, room })
    }

    /// The longest inner frame that fits into a packet, in bytes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room
    }

    /// The headers, of which [`complete`](Self::complete) sets the rest.
    #[must_use]
    pub fn headers(&self) -> &[u8] {
        &self.headers
    }

    /// Completes the headers in front of an inner frame: `headers` begins with [`headers`](Self::headers),
    /// behind which the inner frame begins, and `rest` is the rest of that. Both are at most
    /// [`room`](Self::room).
    pub fn complete(&self, headers: &mut [u8], rest: &[u8], port: u16) {
        let Some((outer, inner)) = headers.split_at_mut_checked(self.headers.len()) else { return };
        let ip_len = if self.is_v4 { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        let (ip, datagram) = outer[ethernet::HEADER_LEN..].split_at_mut(ip_len);
        let length = datagram.len() + inner.len() + rest.len();
        let of = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
        datagram[udp::field::SOURCE_PORT].copy_from_slice(&port.to_be_bytes());
        datagram[udp::field::LENGTH].copy_from_slice(&of(length));
        if self.is_v4 {
            let total = of(ip_len + length);
            ip[ipv4::field::TOTAL_LENGTH].copy_from_slice(&total);
            let sum = self.sum.clone().add_2bytes(total).ones_complement();
            ip[ipv4::field::CHECKSUM].copy_from_slice(&sum.to_ne_bytes());
        } else {
            ip[ipv6::field::PAYLOAD_LENGTH].copy_from_slice(&of(length));
            let sum =
                self.sum.clone().add_2bytes(of(length)).add_slice(datagram).add_slice(inner).add_slice(rest);
            let sum = sum.to_ones_complement_with_no_zero();
            datagram[udp::field::CHECKSUM].copy_from_slice(&sum.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
