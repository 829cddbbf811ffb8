//! The flow of an inner frame.
//!
//! A flow is identified by addresses, protocol and ports: [`Flow::hash`] and [`Flow::community_id`] are the
//! same for both directions. Only the first fragment of a packet has ports; [`Fragment`] identifies the
//! packet.

mod community_id;
#[cfg(feature = "af-xdp")]
pub(crate) mod members;
mod parse;

use std::{
    hash::{BuildHasher, Hash},
    net::{IpAddr, Ipv4Addr},
};

use foldhash::fast::FixedState;
use mirror_ebpf::flow::{hash, words_v4, words_v6};

pub use community_id::CommunityId;
pub(crate) use parse::extension_len;

/// Protocols of the control messages (IANA "Protocol Numbers").
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const ICMPV6: u8 = 58;
}

/// The flow of an inner frame, and its fragment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Packet {
    /// Its flow, without ports if the frame is a later fragment or ends before them.
    pub flow: Flow,
    /// The packet that it is a fragment of.
    pub fragment: Option<Fragment>,
}

/// Addresses, protocol, and ports if there are any.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol (IANA "Protocol Numbers"), after any IPv6 extension headers.
    pub protocol: u8,
    /// Ports, or type and code.
    pub ports: Ports,
}

/// What distinguishes flows between the same two addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ports {
    /// TCP, UDP, SCTP, DCCP and UDP-Lite: source and destination port.
    Pair(u16, u16),
    /// ICMP and ICMPv6: type and code.
    Icmp(u8, u8),
    /// Another protocol, a later fragment, or a frame that is truncated before them.
    None,
}

/// Identifies the packet of a fragment (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Fragment {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol; for IPv6 the next header of the fragment header, which later fragments repeat.
    pub protocol: u8,
    /// Identification.
    pub id: u32,
    /// Whether it is the first fragment, which has the ports.
    pub is_first: bool,
}

impl Packet {
    /// Parses an inner Ethernet frame, with up to two VLAN tags and IPv6 extension headers. `None` if it has
    /// no IP header, or a truncated one. Accepts any bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use mirror_user::flow::Packet;
    ///
    /// assert_eq!(Packet::of(&[0xff; 60]), None);
    /// ```
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        parse::packet(frame)
    }
}

impl Flow {
    /// A hash of the flow, the same for both directions and, with the same seed, in every process: a
    /// restarted run assigns flows as before. A sender that knows the seed can choose flows that collide.
    /// Type and code of ICMP are not hashed, so that an echo and its reply have the same hash.
    #[must_use]
    pub fn hash(&self, seed: u64) -> u64 {
        let (from, to) = match self.ports {
            // As the XDP program reads them.
            Ports::Pair(from, to) => (u16::from_be(from), u16::from_be(to)),
            Ports::Icmp(..) | Ports::None => (0, 0),
        };
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let word = |address: Ipv4Addr| u32::from_le_bytes(address.octets());
                hash(seed, &words_v4((word(source), from), (word(destination), to), self.protocol))
            }
            (source, destination) => {
                let words = |address| words(octets_v6(address));
                hash(seed, &words_v6((words(source), from), (words(destination), to), self.protocol))
            }
        }
    }

    /// The Community ID of the flow, version 1, as in Suricata, Zeek and Wireshark.
    #[must_use]
    pub fn community_id(&self, seed: u16) -> CommunityId {
        CommunityId::new(self, seed)
    }
}

/// An IPv4 address is mapped (RFC 4291 section 2.5.5.2).
fn octets_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn words(octets: [u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(octets);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word twice as long")]
    [both as u64, (both >> 64) as u64]
}

/// The hash of the flow of an inner frame, or without IP of its [`ends`].
#[cfg(feature = "af-xdp")]
pub(crate) fn frame_hash(inner: &[u8], seed: u64) -> u64 {
    let without_ip = || seeded_hash(seed, &ends(inner));
    Packet::of(inner).map_or_else(without_ip, |packet| packet.flow.hash(seed))
}

/// The two addresses and the EtherType of a frame without IP, the same for both directions.
#[cfg(feature = "af-xdp")]
pub(crate) fn ends(frame: &[u8]) -> Option<[&[u8]; 3]> {
    let (to, from, kind) = (frame.get(..6)?, frame.get(6..12)?, frame.get(12..14)?);
    Some(if to <= from { [to, from, kind] } else { [from, to, kind] })
}

/// A hash that is the same in every process with the same seed.
pub(crate) fn seeded_hash(seed: u64, value: &impl Hash) -> u64 {
    FixedState::with_seed(seed).hash_one(value)
}

#[cfg(test)]
mod tests;
