//! Every shape that is accepted, header by header, and the reason of each rejection.
//!
//! Traffic that is not ours is recognised before errors are: protocol, fragment, port, then the lengths. The
//! XDP program checks in the same sequence, so that a capture file and an interface give the same counters
//! for the same frames.

use crate::{
    account::Reject,
    frame::{HeadBuffer, Layout, Network, Segments},
    tunnels::{Encapsulation, Tunnels},
    wire::{
        self,
        ethernet::{self, ethertype},
        ipv4, ipv6, udp,
        vlan::{self, MAX_TAGS},
        vxlan,
    },
};

impl From<wire::Error> for Reject {
    fn from(error: wire::Error) -> Self {
        match error {
            wire::Error::Truncated { .. } => Self::Short,
            wire::Error::Malformed(_) => Self::BadOuter,
        }
    }
}

/// The outer network header: its place, its length, and the declared length of its payload.
struct Outer<'a> {
    network: Network,
    header_len: usize,
    /// Declared bytes after the header. If it declares 0, those on the wire: packets too large for 16 bits do
    /// so (BIG TCP), and packets that a NIC has yet to segment.
    declared: usize,
    payload: &'a [u8],
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the longest outer headers are 106 bytes, lengths are 16 bits"
)]
#[inline(never)]
pub(super) fn decapsulate(
    captured: &Segments<'_>,
    wire_len: u32,
    tunnels: &Tunnels,
) -> Result<Layout, Reject> {
    // Every header that is read lies in the head, wherever the frame is cut.
    let mut buffer = HeadBuffer::default();
    let bytes = captured.head(&mut buffer);
    // A wire length below the captured length is ignored.
    let on_wire = captured.len().max(wire_len as usize);
    let cut = captured.len() < on_wire;
    let frame = ethernet::Frame::new_checked(bytes).map_err(|error| why(error, cut))?;
    let (ethertype, payload) = untag(frame.ethertype(), frame.payload()).map_err(|error| why(error, cut))?;
    let at = bytes.len() - payload.len();
    let outer = match ethertype {
        ethertype::IPV4 => outer_ipv4(payload, at, on_wire),
        ethertype::IPV6 => outer_ipv6(payload, at, on_wire),
        _ => return Err(Reject::NotTunnel),
    };
    let outer = outer.map_err(|reason| why(reason, cut))?;
    let datagram = udp::Datagram::new_checked(outer.payload).map_err(|error| why(error, cut))?;
    let port = datagram.destination_port();
    match tunnels.encapsulation(port) {
        Some(Encapsulation::Vxlan) => {}
        None if port == udp::GENEVE_PORT => return Err(Reject::Geneve),
        None => return Err(Reject::NotTunnel),
    }

    let udp = at + outer.header_len;
    let udp_len = match usize::from(datagram.length()) {
        // The same in UDP (RFC 2675 section 4).
        0 => outer.declared,
        udp_len => udp_len,
    };
    if outer.declared > on_wire - udp || udp_len < udp::HEADER_LEN || udp_len > outer.declared {
        return Err(Reject::BadOuter);
    }

    let datagram_end = (udp + udp_len).min(captured.len());
    let cut = datagram_end < udp + udp_len;
    let packet = vxlan::Packet::new_checked(&bytes[udp + udp::HEADER_LEN..datagram_end.min(bytes.len())])
        .map_err(|error| why(error, cut))?;
    if !packet.has_vni() {
        return Err(Reject::NoVniFlag);
    }
    if packet.next_protocol().is_some_and(|next| next != vxlan::gpe::ETHERNET) {
        return Err(Reject::NotEthernet);
    }
    let inner = ethernet::Frame::new_checked(packet.payload()).map_err(|error| why(error, cut))?;
    let before_cut = udp_len - udp::HEADER_LEN - vxlan::HEADER_LEN;
    let inner_start = udp + udp::HEADER_LEN + vxlan::HEADER_LEN;
    Ok(Layout {
        vni: packet.vni(),
        network: outer.network,
        udp: udp as u16,
        inner_start: inner_start as u32,
        inner_len: (datagram_end - inner_start) as u32,
        wire_len: declared_len(&inner).unwrap_or(0).max(before_cut) as u32,
        reserved_bits: packet.has_reserved_bits(),
    })
}

/// Why a header cannot be read; `cut`: the frame was truncated.
fn why(error: impl Into<Reject>, cut: bool) -> Reject {
    match error.into() {
        Reject::Short if cut => Reject::Snapped,
        reason => reason,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "behind at most two tags")]
fn outer_ipv4(bytes: &[u8], at: usize, on_wire: usize) -> Result<Outer<'_>, Reject> {
    let packet = ipv4::Packet::new_checked(bytes)?;
    if packet.protocol() != udp::PROTOCOL {
        return Err(Reject::NotTunnel);
    }
    if packet.is_fragment() {
        return Err(Reject::Fragment);
    }
    let header_len = packet.header_len();
    let declared = match usize::from(packet.total_len()) {
        0 => on_wire - at - header_len,
        total_len if total_len < header_len => return Err(Reject::BadOuter),
        total_len => total_len - header_len,
    };
    Ok(Outer { network: Network::Ipv4 { at: at as u16 }, header_len, declared, payload: packet.payload() })
}

#[expect(clippy::cast_possible_truncation, reason = "behind at most two tags")]
fn outer_ipv6(bytes: &[u8], at: usize, on_wire: usize) -> Result<Outer<'_>, Reject> {
    let packet = ipv6::Packet::new_checked(bytes)?;
    let declared = match (packet.next_header(), usize::from(packet.payload_len())) {
        (udp::PROTOCOL, 0) => on_wire - at - ipv6::HEADER_LEN,
        (udp::PROTOCOL, payload_len) => payload_len,
        (ipv6::FRAGMENT, _) => return Err(Reject::Fragment),
        (next, _) if ipv6::is_extension(next) => return Err(Reject::Extension),
        _ => return Err(Reject::NotTunnel),
    };
    let (network, payload) = (Network::Ipv6 { at: at as u16 }, packet.payload());
    Ok(Outer { network, header_len: ipv6::HEADER_LEN, declared, payload })
}

/// Skips VLAN tags, up to [`MAX_TAGS`].
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

/// Length of the inner frame that its IP header declares: a mirror that truncates a frame does not change the
/// header.
///
/// Only the fields up to the length need to be there. A length below that of its own header is ignored: it is
/// 0 in TCP packets that the sender had yet to segment, for example.
fn declared_len(inner: &ethernet::Frame<'_>) -> Option<usize> {
    let (ethertype, payload) = untag(inner.ethertype(), inner.payload()).ok()?;
    let tags = inner.payload().len() - payload.len();
    let network = match (ethertype, payload) {
        (ethertype::IPV4, [first, _, high, low, ..]) if first >> 4 == 4 => {
            let total_len = usize::from(u16::from_be_bytes([*high, *low]));
            (total_len >= ipv4::HEADER_LEN).then_some(total_len)?
        }
        (ethertype::IPV6, [first, _, _, _, high, low, ..]) if first >> 4 == 6 => {
            ipv6::HEADER_LEN + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => return None,
    };
    Some(ethernet::HEADER_LEN + tags + network)
}
