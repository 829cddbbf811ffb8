//! Which flow an inner frame belongs to.
//!
//! A flow is identified by addresses, protocol and ports, both directions alike: [`Flow::hash`] and
//! [`Flow::community_id`] do not change when the two ends do. Parts of a fragmented packet carry no ports but
//! for the first; what holds them together is a [`Fragment`].

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

/// What an inner frame says of the flow it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Packet {
    /// Its flow. Without ports where the frame is a later fragment, or ends before them.
    pub flow: Flow,
    /// For a part of a fragmented packet: of which.
    pub fragment: Option<Fragment>,
}

/// Addresses, protocol, and ports where there are any.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol (IANA "Protocol Numbers"), behind any IPv6 extension headers.
    pub protocol: u8,
    /// What the protocol has beside addresses.
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
    /// Another protocol, a later fragment, or a frame that was cut before them.
    None,
}

/// The packet that a fragment is a part of (RFC 791 section 3.2, RFC 8200 section 4.5).
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
    /// Whether it is the one that has the ports.
    pub is_first: bool,
}

impl Packet {
    /// Reads an inner Ethernet frame, up to two VLAN tags and IPv6 extension headers included; `None` where
    /// it holds no IP, or ends within its header. Takes any bytes.
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
    /// A hash of the flow, the same for both directions and, with the same seed, in every process, so that a
    /// run that is started anew sends a flow where the run before did. Who knows the seed can choose flows
    /// that collide. Control messages hash without type and code: an echo and its reply, and an error, are
    /// between the same two addresses.
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

    /// The Community ID of the flow, version 1, by which Suricata, Zeek and Wireshark name it.
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
