//! A fragment in a frame: its datagram, and its place in it.

use crate::{
    account::Reject,
    decap::untag,
    tunnels::Tunnels,
    wire::{
        ethernet::{self, ethertype},
        ipv4, ipv6, udp,
    },
};

/// What the fragments of a datagram have in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) id: u32,
    /// IPv4 alone (RFC 791 section 3.2): over IPv6 fragments of one packet may differ in it, and that of the
    /// first counts (RFC 8200 section 4.5).
    protocol: u8,
}

impl Key {
    /// Whether the id identifies nothing: senders that do not expect fragmentation set it to 0 in every
    /// datagram (RFC 6864 section 4.1). Without the don't-fragment flag, as AWS does, all datagrams then have
    /// one key.
    pub(super) fn is_shared(&self) -> bool {
        self.id == 0 && matches!(self.source, Address::V4(_))
    }
}

/// An address, in a form that differs between the two families.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// A fragment whose headers agree with each other and with the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub(super) key: Key,
    /// From the Ethernet header to the end of the IP header; over IPv6 without the fragment header.
    pub(super) headers: &'a [u8],
    /// Where in `headers` the IP header starts.
    pub(super) network: usize,
    /// Protocol of the datagram, according to this fragment.
    pub(super) protocol: u8,
    /// Where in the datagram the payload belongs, in bytes.
    pub(super) offset: usize,
    /// Whether it is not the last.
    pub(super) more: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Reads a frame that decapsulation found to be a fragment.
    ///
    /// A frame that was truncated by the capture is [`Reject::Short`]: it cannot be reassembled.
    pub(super) fn parse(bytes: &'a [u8], wire_len: usize) -> Result<Self, Reject> {
        let frame = ethernet::Frame::new_checked(bytes)?;
        let (ethertype, packet) = untag(frame.ethertype(), frame.payload())?;
        let network = bytes.len() - packet.len();
        let cut = wire_len.saturating_sub(bytes.len());
        let fragment = match ethertype {
            ethertype::IPV4 => Self::ipv4(bytes, network, cut)?,
            ethertype::IPV6 => Self::ipv6(bytes, network, cut)?,
            _ => return Err(Reject::NotTunnel),
        };
        let Self { more, payload, offset, .. } = fragment;
        // All but the last are whole units of 8 bytes (RFC 791 section 3.2, RFC 8200 section 4.5). No sender
        // makes empty ones.
        let is_malformed = payload.is_empty() || more && payload.len() % 8 != 0;
        // The limit of the length fields: RFC 791 section 3.1 includes the header, RFC 8200 section 4.5 does
        // not.
        let before = if ethertype == ethertype::IPV4 { fragment.headers.len() - network } else { 0 };
        if is_malformed || before + offset + payload.len() > MAX_LEN {
            return Err(Reject::BadOuter);
        }
        Ok(fragment)
    }

    fn ipv4(bytes: &'a [u8], network: usize, cut: usize) -> Result<Self, Reject> {
        let packet = ipv4::Packet::new_checked(&bytes[network..])?;
        let declared =
            usize::from(packet.total_len()).checked_sub(packet.header_len()).ok_or(Reject::BadOuter)?;
        Ok(Self {
            key: Key {
                source: Address::V4(packet.source().octets()),
                destination: Address::V4(packet.destination().octets()),
                id: packet.identification().into(),
                protocol: packet.protocol(),
            },
            headers: &bytes[..network + packet.header_len()],
            network,
            protocol: packet.protocol(),
            offset: usize::from(packet.fragment_offset()) * UNIT,
            more: packet.has_more_fragments(),
            payload: first(packet.payload(), declared, cut)?,
        })
    }

    fn ipv6(bytes: &'a [u8], network: usize, cut: usize) -> Result<Self, Reject> {
        let packet = ipv6::Packet::new_checked(&bytes[network..])?;
        let header = ipv6::FragmentHeader::new_checked(packet.payload())?;
        let declared = usize::from(packet.payload_len());
        let declared = declared.checked_sub(ipv6::FRAGMENT_HEADER_LEN).ok_or(Reject::BadOuter)?;
        Ok(Self {
            key: Key {
                source: Address::V6(packet.source().octets()),
                destination: Address::V6(packet.destination().octets()),
                id: header.identification(),
                protocol: 0,
            },
            headers: &bytes[..network + ipv6::HEADER_LEN],
            network,
            protocol: header.next_header(),
            offset: usize::from(header.offset()) * UNIT,
            more: header.has_more(),
            payload: first(header.payload(), declared, cut)?,
        })
    }

    pub(super) fn is_first(&self) -> bool {
        self.offset == 0
    }

    pub(super) fn end(&self) -> usize {
        self.offset + self.payload.len()
    }

    /// Whether a first fragment belongs to one of these tunnels. It holds the UDP header, because the first 8
    /// bytes are never split.
    pub(super) fn is_tunnel(&self, tunnels: &Tunnels) -> bool {
        self.protocol == udp::PROTOCOL
            && udp::Datagram::new_checked(self.payload)
                .is_ok_and(|datagram| tunnels.contains(datagram.destination_port()))
    }
}

/// Bytes of a unit of the fragment offset.
const UNIT: usize = 8;
/// The most that a length of 16 bits declares.
pub(super) const MAX_LEN: usize = 65_535;

/// The declared bytes, if they are there; `cut` more were on the wire.
fn first(bytes: &[u8], declared: usize, cut: usize) -> Result<&[u8], Reject> {
    let reason = if declared <= bytes.len() + cut { Reject::Short } else { Reject::BadOuter };
    bytes.get(..declared).ok_or(reason)
}
