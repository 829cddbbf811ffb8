//! Super-frames (GSO) as a TAP device with virtio headers has them (`linux/virtio_net.h`).

use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader,
    PacketBuilder, TcpHeader, TcpOptionElement, VlanId, checksum::Sum16BitWords,
};

use crate::error::{LabError, Result};

/// Length of the virtio header, in bytes.
pub const VNET_HEADER: usize = 10;
/// Length of the TCP header, in bytes: it has timestamps.
pub const TCP_HEADER: usize = 32;

/// What a super-frame is made of.
#[derive(Clone, Debug)]
pub struct SuperFrame {
    /// VLAN tags: up to 2.
    pub tags: usize,
    /// IPv4 or IPv6.
    pub is_v4: bool,
    /// Words of 4 bytes of IPv4 options, up to 10, or IPv6 hop-by-hop options: none if 0.
    pub options: usize,
    /// TCP or UDP.
    pub is_tcp: bool,
    /// Payload of a segment, in bytes.
    pub size: u16,
    /// All payload.
    pub payload: Vec<u8>,
    /// IPv4's identification.
    pub id: u16,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP's flags.
    pub flags: u8,
    /// Whether the checksum is left to be completed.
    pub is_partial: bool,
}

impl SuperFrame {
    /// Length of Ethernet header and tags, in bytes.
    pub fn network(&self) -> usize {
        14 + 4 * self.tags
    }

    /// The frame behind its virtio header.
    ///
    /// # Errors
    ///
    /// Where a part is too long.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let Self { tags, is_v4, is_tcp, size, payload, flags, is_partial, .. } = self;
        let unfit = |error: &dyn std::fmt::Display| LabError::Unexpected(format!("a super-frame: {error}"));
        let builder = PacketBuilder::ethernet2([0x02; 6], [0x04; 6]);
        let (outer, inner) = (VlanId::try_new(7), VlanId::try_new(8));
        let (outer, inner) = (outer.map_err(|error| unfit(&error))?, inner.map_err(|error| unfit(&error))?);
        let ip = self.ip()?;
        let builder = match tags {
            0 => builder.ip(ip),
            1 => builder.single_vlan(outer).ip(ip),
            _ => builder.double_vlan(outer, inner).ip(ip),
        };
        let mut frame = Vec::new();
        let written = if *is_tcp {
            let mut tcp = TcpHeader::new(40_000, 443, self.sequence, 500);
            tcp.set_options(&[TcpOptionElement::Timestamp(1, 2)]).map_err(|error| unfit(&error))?;
            builder.tcp_header(tcp).write(&mut frame, payload)
        } else {
            builder.udp(40_000, 443).write(&mut frame, payload)
        };
        written.map_err(|error| unfit(&error))?;
        let (header, csum_offset): (_, u16) = if *is_tcp { (TCP_HEADER, 16) } else { (8, 6) };
        let transport = frame.len() - payload.len() - header;
        if *is_tcp {
            frame[transport + 13] = *flags;
        }
        let gso_type = match (is_tcp, is_v4) {
            (true, true) => 1,
            (true, false) => 4,
            (false, _) => 5,
        };
        let length = |len: usize| u16::try_from(len).map_err(|error| unfit(&error));
        let (mut flags, mut start, mut offset) = (0, 0, 0);
        if *is_partial {
            let addresses = if *is_v4 { 12..20 } else { 8..40 };
            let addresses = self.network() + addresses.start..self.network() + addresses.end;
            let sum = Sum16BitWords::new()
                .add_slice(&frame[addresses])
                .add_2bytes([0, if *is_tcp { IpNumber::TCP.0 } else { IpNumber::UDP.0 }])
                .add_2bytes(length(frame.len() - transport)?.to_be_bytes());
            let at = transport + usize::from(csum_offset);
            frame[at..at + 2].copy_from_slice(&(!sum.ones_complement()).to_ne_bytes());
            (flags, start, offset) = (1, length(transport)?, csum_offset);
        }
        let mut bytes = vec![flags, gso_type];
        for field in [length(transport + header)?, *size, start, offset] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.append(&mut frame);
        Ok(bytes)
    }

    fn ip(&self) -> Result<IpHeaders> {
        let unfit = |error: &dyn std::fmt::Display| LabError::Unexpected(format!("IP options: {error}"));
        if self.is_v4 {
            let mut header = Ipv4Header::new(0, 64, IpNumber::TCP, [10, 0, 0, 1], [10, 0, 0, 2])
                .map_err(|error| unfit(&error))?;
            header.identification = self.id;
            let options = vec![1; self.options * 4];
            header.options = options.as_slice().try_into().map_err(|error| unfit(&error))?;
            return Ok(IpHeaders::Ipv4(header, Ipv4Extensions::default()));
        }
        let header =
            Ipv6Header { source: [1; 16], destination: [2; 16], hop_limit: 64, ..Ipv6Header::default() };
        let mut extensions = Ipv6Extensions::default();
        if self.options > 0 {
            // Of PadN.
            let mut data = vec![0; 6 + 8 * self.options];
            (data[0], data[1]) = (1, u8::try_from(data.len() - 2).map_err(|error| unfit(&error))?);
            let options = Ipv6RawExtHeader::new_raw(IpNumber::TCP, &data).map_err(|error| unfit(&error))?;
            extensions.hop_by_hop_options = Some(options);
        }
        Ok(IpHeaders::Ipv6(header, extensions))
    }
}
