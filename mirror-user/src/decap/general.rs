//! Every shape that is taken, header by header, and a reason for each that is not.
//!
//! What is not for us is told apart before what is wrong: protocol, fragment, port, then the lengths. The XDP
//! program judges in the same order, so that a capture file and a live interface give the same account of the
//! same frames.

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

/// The outer network header: where it is, how long, and how many bytes it says there are after it.
struct Outer<'a> {
    network: Network,
    header_len: usize,
    /// Bytes after the header as the header says. Where it says 0, those that there were: so do packets that
    /// are larger than 16 bits can tell (BIG TCP), and those that a NIC is still to make segments of.
    told: usize,
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
    // A source that tells a wire length below what it hands over is not believed.
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
        0 => outer.told,
        udp_len => udp_len,
    };
    if outer.told > on_wire - udp || udp_len < udp::HEADER_LEN || udp_len > outer.told {
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
        wire_len: told_len(&inner).unwrap_or(0).max(before_cut) as u32,
        reserved_bits: packet.has_reserved_bits(),
    })
}

/// Why a header cannot be read, in a frame of which a part was cut off or not.
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
    let told = match usize::from(packet.total_len()) {
        0 => on_wire - at - header_len,
        total_len if total_len < header_len => return Err(Reject::BadOuter),
        total_len => total_len - header_len,
    };
    Ok(Outer { network: Network::Ipv4 { at: at as u16 }, header_len, told, payload: packet.payload() })
}

#[expect(clippy::cast_possible_truncation, reason = "behind at most two tags")]
fn outer_ipv6(bytes: &[u8], at: usize, on_wire: usize) -> Result<Outer<'_>, Reject> {
    let packet = ipv6::Packet::new_checked(bytes)?;
    let told = match (packet.next_header(), usize::from(packet.payload_len())) {
        (udp::PROTOCOL, 0) => on_wire - at - ipv6::HEADER_LEN,
        (udp::PROTOCOL, payload_len) => payload_len,
        (ipv6::FRAGMENT, _) => return Err(Reject::Fragment),
        (next, _) if ipv6::is_extension(next) => return Err(Reject::Extension),
        _ => return Err(Reject::NotTunnel),
    };
    let (network, payload) = (Network::Ipv6 { at: at as u16 }, packet.payload());
    Ok(Outer { network, header_len: ipv6::HEADER_LEN, told, payload })
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

/// Length of the inner frame as its IP header tells: the mirror truncates frames and leaves the header as it
/// was.
///
/// Only the fields up to the length need to be there. A length too small for its own header tells nothing: 0
/// in TCP segments that the sender had yet to cut up, for example.
fn told_len(inner: &ethernet::Frame<'_>) -> Option<usize> {
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
