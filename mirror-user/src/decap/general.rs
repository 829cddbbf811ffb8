//! Every shape that is taken, header by header, and a reason for each that is not.
//!
//! What is not for us is told apart before what is wrong: protocol, fragment, port, then the lengths. The XDP program
//! judges in the same order, so that a capture file and a live interface give the same account of the same frames.

use super::{Layout, MOST_MIRRORED, Network};
use crate::{
    account::Reject,
    batch::{HeadBuffer, Segments},
    wire::{
        self,
        ethernet::{self, ethertype},
        ipv4, ipv6, udp,
        vlan::{self, MAX_TAGS},
        vxlan,
    },
};

/// UDP destination port of GENEVE (RFC 8926 section 3.3).
const GENEVE_PORT: u16 = 6081;

impl From<wire::Error> for Reject {
    fn from(error: wire::Error) -> Self {
        match error {
            wire::Error::Truncated { .. } => Self::Short,
            wire::Error::Malformed(_) => Self::BadOuter,
        }
    }
}

/// The outer network header: where it is, how long, and how many bytes it says there are after it.
struct Outer<'a> {
    network: Network,
    header_len: usize,
    told: Told,
    payload: &'a [u8],
}

/// How many bytes there are after an outer network header, as it says.
enum Told {
    Bytes(usize),
    /// It says 0, as a packet does that is larger than its 16 bits can tell (BIG TCP), or whose segments the NIC is still to
    /// make: what is there counts.
    Nothing,
    /// Fewer than are in the header itself.
    Nonsense,
}

#[inline(never)]
pub(super) fn decapsulate(captured: &Segments<'_>, wire_len: u32, ports: &[u16]) -> Result<Layout, Reject> {
    walk(captured, wire_len, ports).map_err(|reason| match reason {
        Reject::Short if captured.len() < wire_len as usize => Reject::Snapped,
        reason => reason,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the longest outer headers are 106 bytes, lengths are 16 bits"
)]
fn walk(captured: &Segments<'_>, wire_len: u32, ports: &[u16]) -> Result<Layout, Reject> {
    // Every header that is read lies in the head, wherever the frame is cut.
    let mut buffer = HeadBuffer::default();
    let bytes = captured.head(&mut buffer);
    let frame = ethernet::Frame::new_checked(bytes)?;
    let (ethertype, payload) = untag(frame.ethertype(), frame.payload())?;
    let at = bytes.len() - payload.len();
    let outer = match ethertype {
        ethertype::IPV4 => outer_ipv4(payload, at as u8)?,
        ethertype::IPV6 => outer_ipv6(payload, at as u8)?,
        _ => return Err(Reject::NotTunnel),
    };
    let datagram = udp::Datagram::new_checked(outer.payload)?;
    let port = datagram.destination_port();
    if !ports.contains(&port) {
        return Err(if port == GENEVE_PORT { Reject::Geneve } else { Reject::NotTunnel });
    }

    let udp = at + outer.header_len;
    // A source that tells a wire length below what it hands over is not believed.
    let on_wire = captured.len().max(wire_len as usize) - udp;
    let told = match outer.told {
        Told::Bytes(told) if told <= on_wire => told,
        Told::Nothing => on_wire,
        Told::Bytes(_) | Told::Nonsense => return Err(Reject::BadOuter),
    };
    let udp_len = match usize::from(datagram.length()) {
        // The same in UDP (RFC 2675 section 4).
        0 => told,
        udp_len => udp_len,
    };
    if udp_len < udp::HEADER_LEN || udp_len > told {
        return Err(Reject::BadOuter);
    }

    let datagram_end = (udp + udp_len).min(captured.len());
    let packet = vxlan::Packet::new_checked(&bytes[udp + udp::HEADER_LEN..datagram_end.min(bytes.len())])?;
    if !packet.has_vni() {
        return Err(Reject::NoVniFlag);
    }
    if packet.next_protocol().is_some_and(|next| next != vxlan::gpe::ETHERNET) {
        return Err(Reject::NotEthernet);
    }
    let inner = ethernet::Frame::new_checked(packet.payload())?;
    let before_cut = udp_len - udp::HEADER_LEN - vxlan::HEADER_LEN;
    let told = told_len(&inner).filter(|told| told.headers + told.packet > before_cut);
    let impossible_len = told.as_ref().is_some_and(|told| told.packet > MOST_MIRRORED);
    let wire_len = match told {
        Some(told) if !impossible_len => told.headers + told.packet,
        _ => before_cut,
    };
    Ok(Layout {
        vni: packet.vni(),
        network: outer.network,
        udp: udp as u8,
        inner_start: (udp + udp::HEADER_LEN + vxlan::HEADER_LEN) as u32,
        inner_end: datagram_end as u32,
        wire_len: wire_len as u32,
        reserved_bits: packet.has_reserved_bits(),
        impossible_len,
    })
}

fn outer_ipv4(bytes: &[u8], at: u8) -> Result<Outer<'_>, Reject> {
    let packet = ipv4::Packet::new_checked(bytes)?;
    if packet.protocol() != udp::PROTOCOL {
        return Err(Reject::NotTunnel);
    }
    if packet.is_fragment() {
        return Err(Reject::Fragment);
    }
    let header_len = packet.header_len();
    Ok(Outer {
        network: Network::Ipv4 { at },
        header_len,
        told: match usize::from(packet.total_len()) {
            0 => Told::Nothing,
            total_len => total_len.checked_sub(header_len).map_or(Told::Nonsense, Told::Bytes),
        },
        payload: packet.payload(),
    })
}

fn outer_ipv6(bytes: &[u8], at: u8) -> Result<Outer<'_>, Reject> {
    let packet = ipv6::Packet::new_checked(bytes)?;
    match packet.next_header() {
        udp::PROTOCOL => Ok(Outer {
            network: Network::Ipv6 { at },
            header_len: ipv6::HEADER_LEN,
            told: match usize::from(packet.payload_len()) {
                0 => Told::Nothing,
                payload_len => Told::Bytes(payload_len),
            },
            payload: packet.payload(),
        }),
        ipv6::FRAGMENT => Err(Reject::Fragment),
        next if ipv6::is_extension(next) => Err(Reject::Extension),
        _ => Err(Reject::NotTunnel),
    }
}

/// Looks through VLAN tags, up to [`MAX_TAGS`].
pub(crate) fn untag(mut ethertype: u16, mut payload: &[u8]) -> Result<(u16, &[u8]), wire::Error> {
    for _ in 0..MAX_TAGS {
        if !vlan::announces_tag(ethertype) {
            break;
        }
        let tag = vlan::Tag::new_checked(payload)?;
        (ethertype, payload) = (tag.ethertype(), tag.payload());
    }
    Ok((ethertype, payload))
}

/// Bytes of an inner frame.
struct Inner {
    /// Of Ethernet, tags included.
    headers: usize,
    /// Of the IP packet, as it tells.
    packet: usize,
}

/// Length of the inner frame as its IP header tells: the mirror truncates frames and leaves the header as it was.
///
/// Only the fields up to the length need to be there. A length too small for its own header tells nothing: 0 in TCP
/// segments that the sender had yet to cut up, for example.
fn told_len(inner: &ethernet::Frame<'_>) -> Option<Inner> {
    let (ethertype, payload) = untag(inner.ethertype(), inner.payload()).ok()?;
    let tags = inner.payload().len() - payload.len();
    let packet = match (ethertype, payload) {
        (ethertype::IPV4, [first, _, high, low, ..]) if first >> 4 == 4 => {
            let total_len = usize::from(u16::from_be_bytes([*high, *low]));
            (total_len >= ipv4::HEADER_LEN).then_some(total_len)?
        }
        (ethertype::IPV6, [first, _, _, _, high, low, ..]) if first >> 4 == 6 => {
            ipv6::HEADER_LEN + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => return None,
    };
    Some(Inner { headers: ethernet::HEADER_LEN + tags, packet })
}
