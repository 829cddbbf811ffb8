//! GENEVE (RFC 8926) as an AWS Gateway Load Balancer sends it, with every field settable; and a twin of
//! mirrored traffic behind one.

use std::net::Ipv4Addr;

use crate::{
    aws_twin::aws_twin,
    error::{LabError, Result},
    frames::{Outer, OuterIp},
};

/// IANA's port of GENEVE (RFC 8926 section 3.3).
pub const PORT: u16 = 6081;
/// Ethertype of an Ethernet frame in GENEVE.
pub const ETHERNET: u16 = 0x6558;
/// Option class of Amazon.
pub const AMAZON: u16 = 0x0108;
/// Bytes before the mirrored frame: Ethernet, IPv4, UDP, GENEVE with 32 bytes of options, IPv4, UDP, VXLAN.
pub const ENCAPSULATION: usize = 118;

/// The endpoint of every frame of [`geneve_twin`].
pub const ENDPOINT: u64 = 0x0a1b_2c3d_4e5f_6071;
/// Its attachment.
pub const ATTACHMENT: u64 = 0x0000_5566_7788_99aa;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A GENEVE header, and the headers in front of it.
#[derive(Clone, Debug)]
pub struct Geneve {
    /// From the load balancer to the mirror target; what it says of VXLAN is not used.
    pub outer: Outer,
    /// Version, 2 bits.
    pub version: u8,
    /// The O and C bits, and six reserved ones.
    pub flags: u8,
    /// Virtual network identifier, 24 bits.
    pub vni: u32,
    /// The byte behind it.
    pub reserved: u8,
    /// Options with their heads, in whole words.
    pub options: Vec<u8>,
}

impl Geneve {
    /// Without options, between two addresses of this lab.
    pub fn plain(vni: u32) -> Self {
        let outer = Outer { source_port: 0xc123, destination_port: PORT, ..Outer::sample(0) };
        let outer = outer.between(Ipv4Addr::new(10, 10, 10, 5), Ipv4Addr::new(10, 10, 10, 1));
        Self { outer, version: 0, flags: 0, vni, reserved: 0, options: Vec::new() }
    }

    /// As a Gateway Load Balancer sends it: the three options in their order, VNI 0.
    pub fn aws(endpoint: u64, attachment: u64, flow_cookie: u32) -> Self {
        let mut geneve = Self::plain(0);
        geneve.add_option(AMAZON, 1, &endpoint.to_be_bytes());
        geneve.add_option(AMAZON, 2, &attachment.to_be_bytes());
        geneve.add_option(AMAZON, 3, &flow_cookie.to_be_bytes());
        geneve
    }

    /// Adds an option, whose data is a multiple of 4 bytes.
    pub fn add_option(&mut self, class: u16, kind: u8, data: &[u8]) {
        self.options.extend_from_slice(&class.to_be_bytes());
        self.options.push(kind);
        self.options.push((data.len() / 4).to_le_bytes()[0]);
        self.options.extend_from_slice(data);
    }

    /// The whole frame around a payload of this ethertype.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if a value does not fit its field.
    pub fn encapsulate(&self, protocol: u16, payload: &[u8]) -> Result<Vec<u8>> {
        let words = self.options.len().div_ceil(4);
        let words = u8::try_from(words).ok().filter(|words| *words < 64).ok_or_else(|| {
            LabError::Unexpected(format!("{} bytes of options do not fit", self.options.len()))
        })?;
        let [_, v0, v1, v2] = self.vni.to_be_bytes();
        let [p0, p1] = protocol.to_be_bytes();
        let mut bytes = vec![self.version << 6 | words, self.flags, p0, p1, v0, v1, v2, self.reserved];
        bytes.extend_from_slice(&self.options);
        bytes.extend_from_slice(payload);
        self.outer.frame_of_udp(&bytes)
    }

    /// The whole frame around one that a mirror session has sent: an inner frame in VXLAN over UDP and IP,
    /// without its Ethernet header.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if a value does not fit its field.
    pub fn encapsulate_mirrored(&self, vxlan: &Outer, inner: &[u8]) -> Result<Vec<u8>> {
        let frame = Outer { tags: Vec::new(), ..vxlan.clone() }.encapsulate(inner)?;
        self.around(&frame, if matches!(vxlan.ip, OuterIp::V4 { .. }) { IPV4 } else { IPV6 })
    }

    /// Around the packet in an Ethernet frame without VLAN tags.
    fn around(&self, frame: &[u8], protocol: u16) -> Result<Vec<u8>> {
        self.encapsulate(protocol, frame.get(14..).unwrap_or_default())
    }
}

/// The frames of [`aws_twin`] behind a Gateway Load Balancer, the same on every call: the same inner frames,
/// VNI and mirror source, with a flow cookie and a source port for each flow.
///
/// # Errors
///
/// None in practice; those of the frame builder.
pub fn geneve_twin() -> Result<Vec<Vec<u8>>> {
    aws_twin()?.iter().map(|frame| behind_balancer(frame)).collect()
}

fn behind_balancer(frame: &[u8]) -> Result<Vec<u8>> {
    // The outer source port of VXLAN tells flows apart.
    let flow = frame.get(34..36).map_or(0, |port| u32::from(port[0]) << 8 | u32::from(port[1]));
    let mut geneve = Geneve::aws(ENDPOINT, ATTACHMENT, flow.wrapping_mul(2_654_435_761));
    geneve.outer.source_port = 49_152 | low16(flow) & 0x3fff;
    geneve.around(frame, IPV4)
}

fn low16(value: u32) -> u16 {
    let [_, _, high, low] = value.to_be_bytes();
    u16::from_be_bytes([high, low])
}
