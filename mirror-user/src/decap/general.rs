//! Every shape that is accepted, header by header, and the reason of each rejection.
//!
//! Traffic that is not ours is recognised before errors are: protocol, fragment, port, then the lengths. The
//! XDP program checks in the same sequence, so that a capture file and an interface give the same counters
//! for the same frames.

use crate::{
    account::Reject,
    frame::{HeadBuffer, Headers, Layout, Network, Oddities, Segments},
    tunnels::{Encapsulation, Tunnels},
    wire::{
        self,
        ethernet::{self, ethertype},
        geneve, ipv4, ipv6, udp,
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

/// A network header: its place, its length, and the declared length of its payload.
struct Outer<'a> {
    network: Network,
    header_len: usize,
    /// Declared bytes after the header. If it declares 0, those on the wire: packets too large for 16 bits do
    /// so (BIG TCP), and packets that a NIC has yet to segment.
    declared: usize,
    payload: &'a [u8],
}

/// The bytes that headers are read from, and where the frame ends.
#[derive(Clone, Copy)]
struct Head<'a> {
    bytes: &'a [u8],
    /// Captured bytes of the frame, of which `bytes` may be the first.
    captured: usize,
}

/// A UDP datagram in a frame.
struct Datagram {
    network: Network,
    /// Offset of the header.
    at: usize,
    /// Declared length, header included.
    len: usize,
}

#[inline(never)]
pub(super) fn decapsulate(
    captured: &Segments<'_>,
    wire_len: u32,
    tunnels: &Tunnels,
) -> Result<Layout, Reject> {
    // Every header that is read lies in the head, wherever the frame is cut.
    let mut buffer = HeadBuffer::default();
    let head = Head { bytes: captured.head(&mut buffer), captured: captured.len() };
    // A wire length below the captured length is ignored.
    let on_wire = head.captured.max(wire_len as usize);
    let cut = head.captured < on_wire;
    let frame = ethernet::Frame::new_checked(head.bytes).map_err(|error| why(error, cut))?;
    let (ethertype, payload) = untag(frame.ethertype(), frame.payload()).map_err(|error| why(error, cut))?;
    let at = head.bytes.len() - payload.len();
    let outer = network(ethertype, payload, at, on_wire).map_err(|reason| why(reason, cut))?;
    let datagram = udp::Datagram::new_checked(outer.payload).map_err(|error| why(error, cut))?;
    let port = datagram.destination_port();
    let encapsulation = match tunnels.encapsulation(port) {
        Some(encapsulation) => encapsulation,
        None if port == geneve::PORT => return Err(Reject::Geneve),
        None => return Err(Reject::NotTunnel),
    };
    let datagram = outer.datagram(&datagram, at, on_wire)?;
    match encapsulation {
        Encapsulation::Vxlan => head.vxlan(&datagram),
        Encapsulation::Geneve => head.geneve(&datagram, tunnels),
    }
}

/// Where the inner frame of a whole UDP datagram to one of these tunnels starts; `None` if it holds none.
pub(crate) fn inner_start(datagram: &[u8], tunnels: &Tunnels) -> Option<usize> {
    let port = udp::Datagram::new_checked(datagram).ok()?.destination_port();
    let head = Head { bytes: datagram, captured: datagram.len() };
    let whole = Datagram { network: Network::Ipv4 { at: 0 }, at: 0, len: datagram.len() };
    let layout = match tunnels.encapsulation(port)? {
        Encapsulation::Vxlan => head.vxlan(&whole),
        Encapsulation::Geneve => head.geneve(&whole, tunnels),
    };
    layout.ok().map(|layout| layout.inner_start.into())
}

impl Outer<'_> {
    /// The datagram behind this header, which starts at `at`, of a frame or a packet that ends at `end`.
    fn datagram(&self, header: &udp::Datagram<'_>, at: usize, end: usize) -> Result<Datagram, Reject> {
        let udp = at + self.header_len;
        let len = match usize::from(header.length()) {
            // The same in UDP (RFC 2675 section 4).
            0 => self.declared,
            len => len,
        };
        if self.declared > end - udp || len < udp::HEADER_LEN || len > self.declared {
            return Err(Reject::BadOuter);
        }
        Ok(Datagram { network: self.network, at: udp, len })
    }
}

impl<'a> Head<'a> {
    /// The payload of a datagram as far as it is here, and whether more of it was on the wire.
    fn payload(self, datagram: &Datagram) -> (&'a [u8], bool) {
        let end = datagram.at + datagram.len;
        let here = end.min(self.captured);
        (&self.bytes[datagram.at + udp::HEADER_LEN..here.min(self.bytes.len())], here < end)
    }

    #[expect(clippy::inline_always, reason = "as `network`")]
    #[inline(always)]
    fn vxlan(self, datagram: &Datagram) -> Result<Layout, Reject> {
        let (payload, cut) = self.payload(datagram);
        let packet = vxlan::Packet::new_checked(payload).map_err(|error| why(error, cut))?;
        if !packet.has_vni() {
            return Err(Reject::NoVniFlag);
        }
        if packet.next_protocol().is_some_and(|next| next != vxlan::gpe::ETHERNET) {
            return Err(Reject::NotEthernet);
        }
        let odd = Oddities::NONE.with(Oddities::RESERVED_BITS, packet.has_reserved_bits());
        let layout = self.ethernet(datagram, vxlan::HEADER_LEN, packet.payload(), cut)?;
        Ok(Layout { vni: packet.vni(), odd, ..layout })
    }

    /// Not inlined, so that it takes no registers from VXLAN.
    #[inline(never)]
    fn geneve(self, datagram: &Datagram, tunnels: &Tunnels) -> Result<Layout, Reject> {
        let (payload, cut) = self.payload(datagram);
        let packet = geneve::Packet::new_checked(payload).map_err(|error| match error {
            wire::Error::Malformed(_) => Reject::BadGeneve,
            wire::Error::Truncated { .. } => why(error, cut),
        })?;
        if packet.is_control() {
            return Err(Reject::GeneveControl);
        }
        let odd = Oddities::NONE
            .with(Oddities::RESERVED_BITS, packet.has_reserved_bits())
            .with(Oddities::CRITICAL_OPTION, packet.has_unknown_critical_option());
        let layout = match packet.protocol() {
            geneve::ETHERNET => {
                let layout = self.ethernet(datagram, packet.header_len(), packet.payload(), cut)?;
                Layout { vni: packet.vni(), ..layout }
            }
            protocol @ (ethertype::IPV4 | ethertype::IPV6) => {
                let at = datagram.at + udp::HEADER_LEN + packet.header_len();
                let end = datagram.at + datagram.len;
                let nested = vxlan_over_ip(protocol, packet.payload(), at, end, tunnels)
                    .map_err(|reason| why(reason, cut))?;
                self.vxlan(&nested)?
            }
            _ => return Err(Reject::GenevePayload),
        };
        let odd = odd.with(Oddities::RESERVED_BITS, layout.odd.contains(Oddities::RESERVED_BITS));
        let headers = layout.headers.with_geneve(datagram.at + udp::HEADER_LEN);
        Ok(Layout { headers, odd, ..layout })
    }

    /// The Ethernet frame behind a tunnel header of this length.
    #[expect(clippy::inline_always, reason = "as `network`")]
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the longest outer headers are 426 bytes, lengths are 16 bits"
    )]
    fn ethernet(
        self,
        datagram: &Datagram,
        header_len: usize,
        payload: &[u8],
        cut: bool,
    ) -> Result<Layout, Reject> {
        let inner = ethernet::Frame::new_checked(payload).map_err(|error| why(error, cut))?;
        let inner_start = datagram.at + udp::HEADER_LEN + header_len;
        let end = datagram.at + datagram.len;
        let inner_len = end.min(self.captured) - inner_start;
        Ok(Layout {
            vni: 0,
            inner_len: inner_len as u32,
            wire_len: declared_len(&inner).unwrap_or(0).max(end - inner_start) as u32,
            inner_start: inner_start as u16,
            odd: Oddities::NONE,
            headers: Headers::new(datagram.network, datagram.at),
        })
    }
}

/// The VXLAN datagram of an IP packet inside GENEVE, at `at` of the frame and within the datagram that ends
/// at `end`. Its port is that of RFC 7348, which mirror sessions send to, or one that is listed.
fn vxlan_over_ip(
    ethertype: u16,
    bytes: &[u8],
    at: usize,
    end: usize,
    tunnels: &Tunnels,
) -> Result<Datagram, Reject> {
    let packet = network(ethertype, bytes, at, end).map_err(|reason| match reason {
        Reject::NotTunnel => Reject::GenevePayload,
        // The reassembler has the outer packets only.
        Reject::Fragment => Reject::GeneveFragment,
        reason => reason,
    })?;
    let datagram = udp::Datagram::new_checked(packet.payload)?;
    let port = datagram.destination_port();
    if port != vxlan::PORT && tunnels.encapsulation(port) != Some(Encapsulation::Vxlan) {
        return Err(Reject::GenevePayload);
    }
    packet.datagram(&datagram, at, end)
}

/// The network header at `at`, of a frame or a packet that ends at `end`.
#[expect(clippy::inline_always, reason = "used in few places: out of line, results go through memory")]
#[inline(always)]
fn network(ethertype: u16, bytes: &[u8], at: usize, end: usize) -> Result<Outer<'_>, Reject> {
    match ethertype {
        ethertype::IPV4 => outer_ipv4(bytes, at, end),
        ethertype::IPV6 => outer_ipv6(bytes, at, end),
        _ => Err(Reject::NotTunnel),
    }
}

/// Why a header cannot be read; `cut`: the frame was truncated.
fn why(error: impl Into<Reject>, cut: bool) -> Reject {
    match error.into() {
        Reject::Short if cut => Reject::Snapped,
        reason => reason,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "behind at most 350 bytes")]
fn outer_ipv4(bytes: &[u8], at: usize, end: usize) -> Result<Outer<'_>, Reject> {
    let packet = ipv4::Packet::new_checked(bytes)?;
    if packet.protocol() != udp::PROTOCOL {
        return Err(Reject::NotTunnel);
    }
    if packet.is_fragment() {
        return Err(Reject::Fragment);
    }
    let header_len = packet.header_len();
    let declared = match usize::from(packet.total_len()) {
        0 => end - at - header_len,
        total_len if total_len < header_len => return Err(Reject::BadOuter),
        total_len => total_len - header_len,
    };
    Ok(Outer { network: Network::Ipv4 { at: at as u16 }, header_len, declared, payload: packet.payload() })
}

#[expect(clippy::cast_possible_truncation, reason = "behind at most 350 bytes")]
fn outer_ipv6(bytes: &[u8], at: usize, end: usize) -> Result<Outer<'_>, Reject> {
    let packet = ipv6::Packet::new_checked(bytes)?;
    let declared = match (packet.next_header(), usize::from(packet.payload_len())) {
        (udp::PROTOCOL, 0) => end - at - ipv6::HEADER_LEN,
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
