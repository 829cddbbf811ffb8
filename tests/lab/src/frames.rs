//! Frames by header values: what the mirror sends, with every field settable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6Header, PacketBuilder,
    TcpHeader, UdpHeader,
};

use crate::error::{LabError, Result};

/// IANA's port of VXLAN (RFC 7348 section 5).
pub const VXLAN_PORT: u16 = 4789;
/// The I flag: the VNI is valid (RFC 7348 section 5).
pub const VXLAN_FLAG_VNI: u8 = 0x08;
/// Tag protocol of IEEE 802.1Q.
pub const TPID_8021Q: u16 = 0x8100;
/// Tag protocol of IEEE 802.1ad, the outer tag of QinQ.
pub const TPID_8021AD: u16 = 0x88a8;
/// Bytes of encapsulation: Ethernet without tags, IPv4 without options, UDP, VXLAN.
pub const ENCAPSULATION: usize = 50;

/// MAC address of the mirror target, to which samples are sent; the second end of a
/// [`VethPair`](crate::VethPair) has it.
pub const TARGET_MAC: [u8; 6] = [0x06, 0xe2, 0x43, 0x00, 0x00, 0x02];

/// Everything outside the inner frame. [`Outer::aws`] has the values that AWS was seen to send; a test
/// changes those it is about.
#[derive(Clone, Debug)]
pub struct Outer {
    /// Source hardware address.
    pub source_mac: [u8; 6],
    /// Destination hardware address.
    pub destination_mac: [u8; 6],
    /// VLAN tags, outermost first: tag protocol and tag control information.
    pub tags: Vec<(u16, u16)>,
    /// IPv4 or IPv6.
    pub ip: OuterIp,
    /// IP protocol in the last header before the transport.
    pub protocol: u8,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// Whether the UDP checksum is filled in; else it is 0, as RFC 7348 section 5 recommends.
    pub udp_checksum: bool,
    /// First byte of the VXLAN header.
    pub vxlan_flags: u8,
    /// The three reserved bytes after the flags and the one after the VNI.
    pub vxlan_reserved: [u8; 4],
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
}

/// The outer network header.
#[derive(Clone, Debug)]
pub enum OuterIp {
    /// IPv4.
    V4 {
        /// Source address.
        source: Ipv4Addr,
        /// Destination address.
        destination: Ipv4Addr,
        /// Time to live.
        ttl: u8,
        /// Identification.
        id: u16,
        /// Don't-fragment flag.
        dont_fragment: bool,
        /// More-fragments flag.
        more_fragments: bool,
        /// Fragment offset in units of 8 bytes.
        fragment_offset: u16,
        /// Options: up to 40 bytes, a multiple of 4.
        options: Vec<u8>,
    },
    /// IPv6.
    V6 {
        /// Source address.
        source: Ipv6Addr,
        /// Destination address.
        destination: Ipv6Addr,
        /// Hop limit.
        hop_limit: u8,
        /// Extension headers in sequence: the number that announces each, and its bytes, whose first is
        /// overwritten with the number of the next header where that is its place (all but ESP).
        extensions: Vec<(u8, Vec<u8>)>,
    },
}

impl Outer {
    /// The values of AWS: TOS 0, id 0, no fragment bits, TTL 255, no UDP checksum, flags 0x08, reserved bytes
    /// 0.
    pub fn aws(source: Ipv4Addr, destination: Ipv4Addr, source_port: u16, vni: u32) -> Self {
        Self {
            source_mac: [0x06, 0x1d, 0x3c, 0x00, 0x00, 0x01],
            destination_mac: TARGET_MAC,
            tags: Vec::new(),
            ip: OuterIp::V4 {
                source,
                destination,
                ttl: 255,
                id: 0,
                dont_fragment: false,
                more_fragments: false,
                fragment_offset: 0,
                options: Vec::new(),
            },
            protocol: IpNumber::UDP.0,
            source_port,
            destination_port: VXLAN_PORT,
            udp_checksum: false,
            vxlan_flags: VXLAN_FLAG_VNI,
            vxlan_reserved: [0; 4],
            vni,
        }
    }

    /// As [`Outer::aws`] between two addresses of this lab, for tests to which no address matters.
    pub fn sample(vni: u32) -> Self {
        Self::aws(Ipv4Addr::new(10, 10, 10, 252), Ipv4Addr::new(10, 10, 10, 1), 0xff80, vni)
    }

    /// The same over IPv6, between two documentation addresses (RFC 3849), with these extension headers. The
    /// UDP checksum is 0, as RFC 6935 lets tunnels.
    pub fn sample_v6(vni: u32, extensions: &[(u8, Vec<u8>)]) -> Self {
        Self {
            ip: OuterIp::V6 {
                source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfc),
                destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
                hop_limit: 255,
                extensions: extensions.to_vec(),
            },
            ..Self::sample(vni)
        }
    }

    /// The same between other addresses of the same family.
    ///
    /// # Panics
    ///
    /// Where they are of another one.
    #[must_use]
    pub fn between(mut self, from: impl Into<IpAddr>, to: impl Into<IpAddr>) -> Self {
        match (from.into(), to.into(), &mut self.ip) {
            (IpAddr::V4(from), IpAddr::V4(to), OuterIp::V4 { source, destination, .. }) => {
                (*source, *destination) = (from, to);
            }
            (IpAddr::V6(from), IpAddr::V6(to), OuterIp::V6 { source, destination, .. }) => {
                (*source, *destination) = (from, to);
            }
            (from, to, _) => panic!("{from} and {to} are not of this packet's family"),
        }
        self
    }

    /// The whole frame around an inner one.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if a value does not fit its field.
    pub fn encapsulate(&self, inner: &[u8]) -> Result<Vec<u8>> {
        if self.vni >> 24 != 0 {
            return Err(LabError::Unexpected(format!("VNI {} does not fit 24 bits", self.vni)));
        }
        let [r0, r1, r2, r3] = self.vxlan_reserved;
        let [_, v0, v1, v2] = self.vni.to_be_bytes();
        let mut payload = vec![self.vxlan_flags, r0, r1, r2, v0, v1, v2, r3];
        payload.extend_from_slice(inner);
        self.frame_of_udp(&payload)
    }

    /// The whole frame around a UDP payload of any kind.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if a value does not fit its field.
    pub fn frame_of_udp(&self, payload: &[u8]) -> Result<Vec<u8>> {
        let (source_port, destination_port) = (self.source_port, self.destination_port);
        let plain = UdpHeader::without_ipv4_checksum(source_port, destination_port, payload.len());
        let mut udp = plain.map_err(unfit)?;
        let (ethertype, network) = match &self.ip {
            OuterIp::V4 { .. } => (EtherType::IPV4, self.ipv4(&mut udp, payload)?),
            OuterIp::V6 { .. } => (EtherType::IPV6, self.ipv6(&mut udp, payload)?),
        };
        let mut frame = Vec::with_capacity(14 + 4 * self.tags.len() + network.len() + 8 + payload.len());
        let first = self.tags.first().map_or(ethertype, |(protocol, _)| EtherType(*protocol));
        let ethernet =
            Ethernet2Header { source: self.source_mac, destination: self.destination_mac, ether_type: first };
        frame.extend_from_slice(&ethernet.to_bytes());
        for (place, (_, control)) in self.tags.iter().enumerate() {
            let next = self.tags.get(place + 1).map_or(ethertype.0, |(protocol, _)| *protocol);
            frame.extend_from_slice(&control.to_be_bytes());
            frame.extend_from_slice(&next.to_be_bytes());
        }
        frame.extend_from_slice(&network);
        frame.extend_from_slice(&udp.to_bytes());
        frame.extend_from_slice(payload);
        Ok(frame)
    }

    fn ipv4(&self, udp: &mut UdpHeader, payload: &[u8]) -> Result<Vec<u8>> {
        let OuterIp::V4 {
            source,
            destination,
            ttl,
            id,
            dont_fragment,
            more_fragments,
            fragment_offset,
            options,
        } = &self.ip
        else {
            return Ok(Vec::new());
        };
        let mut header = Ipv4Header {
            identification: *id,
            dont_fragment: *dont_fragment,
            more_fragments: *more_fragments,
            fragment_offset: IpFragOffset::try_new(*fragment_offset).map_err(unfit)?,
            time_to_live: *ttl,
            protocol: IpNumber(self.protocol),
            source: source.octets(),
            destination: destination.octets(),
            ..Ipv4Header::default()
        };
        header.options = Ipv4Options::try_from(options.as_slice()).map_err(unfit)?;
        header.set_payload_len(8 + payload.len()).map_err(unfit)?;
        header.header_checksum = header.calc_header_checksum();
        if self.udp_checksum {
            udp.checksum = udp.calc_checksum_ipv4(&header, payload).map_err(unfit)?;
        }
        Ok(header.to_bytes().to_vec())
    }

    fn ipv6(&self, udp: &mut UdpHeader, payload: &[u8]) -> Result<Vec<u8>> {
        let OuterIp::V6 { source, destination, hop_limit, extensions } = &self.ip else {
            return Ok(Vec::new());
        };
        let extension_bytes: usize = extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        let length = 8 + payload.len() + extension_bytes;
        let header = Ipv6Header {
            payload_length: u16::try_from(length).map_err(unfit)?,
            next_header: IpNumber(extensions.first().map_or(self.protocol, |(number, _)| *number)),
            hop_limit: *hop_limit,
            source: source.octets(),
            destination: destination.octets(),
            ..Ipv6Header::default()
        };
        if self.udp_checksum {
            udp.checksum = udp.calc_checksum_ipv6(&header, payload).map_err(unfit)?;
        }
        let mut bytes = header.to_bytes().to_vec();
        for (place, (number, extension)) in extensions.iter().enumerate() {
            let start = bytes.len();
            bytes.extend_from_slice(extension);
            let next = extensions.get(place + 1).map_or(self.protocol, |(next, _)| *next);
            if *number != IpNumber::ENCAPSULATING_SECURITY_PAYLOAD.0
                && let Some(first) = bytes.get_mut(start)
            {
                *first = next;
            }
        }
        Ok(bytes)
    }
}

/// Hardware addresses of inner frames.
const INNER_MACS: ([u8; 6], [u8; 6]) =
    ([0x02, 0x85, 0x69, 0xc2, 0xab, 0x02], [0x02, 0x29, 0x23, 0x74, 0xc7, 0x7d]);

/// An inner frame of UDP with right lengths and checksums, IPv4 or IPv6 as the addresses are.
///
/// # Errors
///
/// [`LabError::Unexpected`] if the families differ or the payload does not fit.
pub fn inner_udp(source: (IpAddr, u16), destination: (IpAddr, u16), payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    ip_between(source.0, destination.0)?
        .udp(source.1, destination.1)
        .write_to_vec(&mut frame, payload)
        .map_err(unfit)?;
    Ok(frame)
}

/// An inner frame of TCP with right lengths and checksums; the ports are those of the addresses, not the
/// header's.
///
/// # Errors
///
/// [`LabError::Unexpected`] if the families differ or the payload does not fit.
pub fn inner_tcp(
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    header: TcpFields,
    payload: &[u8],
) -> Result<Vec<u8>> {
    let mut tcp = TcpHeader::new(source.1, destination.1, header.sequence, header.window);
    tcp.ack = true;
    tcp.psh = !payload.is_empty();
    tcp.acknowledgment_number = header.acknowledgment;
    let mut frame = Vec::new();
    ip_between(source.0, destination.0)?.tcp_header(tcp).write_to_vec(&mut frame, payload).map_err(unfit)?;
    Ok(frame)
}

/// The fields of a TCP header that a test may set; ACK is set, PSH if there is a payload.
#[derive(Clone, Copy, Debug)]
pub struct TcpFields {
    /// Sequence number of the first byte.
    pub sequence: u32,
    /// The next byte expected.
    pub acknowledgment: u32,
    /// Window, unscaled.
    pub window: u16,
}

fn ip_between(
    source: IpAddr,
    destination: IpAddr,
) -> Result<etherparse::PacketBuilderStep<etherparse::IpHeaders>> {
    let ethernet = PacketBuilder::ethernet2(INNER_MACS.0, INNER_MACS.1);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ok(ethernet.ipv4(source.octets(), destination.octets(), 64))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Ok(ethernet.ipv6(source.octets(), destination.octets(), 64))
        }
        _ => Err(LabError::Unexpected(format!("{source} and {destination} are of two families"))),
    }
}

/// An inner frame of `len` bytes in all, at least 42: Ethernet, IPv4, UDP to the discard port.
///
/// # Errors
///
/// [`LabError::Unexpected`] if `len` is too short or too long for that.
pub fn inner_of_len(len: usize) -> Result<Vec<u8>> {
    let payload = len
        .checked_sub(42)
        .ok_or_else(|| LabError::Unexpected(format!("{len} bytes do not hold Ethernet, IPv4 and UDP")))?;
    let pattern: Vec<u8> = (0..payload).map(|place| place.to_le_bytes()[0]).collect();
    let end = |last: u8, port: u16| (IpAddr::from([10, 0, 0, last]), port);
    inner_udp(end(1, 49152), end(2, 9), &pattern)
}

pub(crate) fn unfit(error: impl std::fmt::Display) -> LabError {
    LabError::Unexpected(format!("a header value does not fit: {error}"))
}
