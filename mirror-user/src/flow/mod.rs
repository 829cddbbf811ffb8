//! The flow of an inner frame.
//!
//! A flow is identified by addresses, protocol and ports: [`Flow::hash`] and [`Flow::community_id`] are the
//! same for both directions. Only the first fragment of a packet has ports; [`Fragment`] identifies the
//! packet.

mod community_id;
mod parse;

use std::{
    hash::{BuildHasher, Hash},
    net::IpAddr,
};

use foldhash::fast::FixedState;

pub use community_id::CommunityId;

/// Protocols that have ports in their first four bytes, and those of the control messages (IANA "Protocol
/// Numbers").
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const DCCP: u8 = 33;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const SCTP: u8 = 132;
    pub(crate) const UDP_LITE: u8 = 136;
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
            Ports::Pair(from, to) => (from, to),
            Ports::Icmp(..) | Ports::None => (0, 0),
        };
        let ends = [(self.source, from), (self.destination, to)];
        let [low, high] = if ends[0] <= ends[1] { ends } else { [ends[1], ends[0]] };
        seeded_hash(seed, &(low, high, self.protocol))
    }

    /// The Community ID of the flow, version 1, as in Suricata, Zeek and Wireshark.
    #[must_use]
    pub fn community_id(&self, seed: u16) -> CommunityId {
        CommunityId::new(self, seed)
    }
}

/// A hash that is the same in every process with the same seed.
pub(crate) fn seeded_hash(seed: u64, value: &impl Hash) -> u64 {
    FixedState::with_seed(seed).hash_one(value)
}

#[cfg(test)]
mod tests;
