//! Tables for each verdict, properties over generated and damaged packets, and etherparse as a second
//! opinion.

mod geneve;
mod properties;
mod tables;

use std::sync::LazyLock;

use mirror_lab::frames::{Outer, OuterIp};

use crate::{frame::Captured, tunnels::Tunnels, wire::vxlan};

/// Tag control information of every VLAN tag: priority 1, VLAN 7.
const CONTROL: u16 = 0x2007;

static TUNNELS: LazyLock<Tunnels> = LazyLock::new(|| [vxlan::PORT, 8472].into());

/// A packet to be built; the default is what AWS sends (FF80-FFFF source port, TTL 255, no checksums).
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) tags: Vec<u16>,
    pub(crate) v6: bool,
    /// 32-bit words of IPv4 options.
    pub(crate) options: usize,
    pub(crate) fragment: u16,
    pub(crate) source_port: u16,
    pub(crate) port: u16,
    pub(crate) checksum: u16,
    pub(crate) vxlan: [u8; 8],
    pub(crate) inner: Vec<u8>,
    pub(crate) padding: usize,
}

impl Default for Packet {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            v6: false,
            options: 0,
            fragment: 0,
            source_port: 0xff80,
            port: vxlan::PORT,
            checksum: 0,
            vxlan: [8, 0, 0, 0, 0x54, 0xfa, 0x11, 0],
            inner: inner_ipv4(60, 60),
            padding: 0,
        }
    }
}

/// An inner frame of `present` bytes after the Ethernet header whose IPv4 header declares `total_len`.
pub(crate) fn inner_ipv4(present: usize, total_len: u16) -> Vec<u8> {
    let mut frame = vec![0xee; 14];
    frame[12..].copy_from_slice(&[8, 0]);
    let mut packet = vec![0xdd; present.max(20)];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&total_len.to_be_bytes());
    frame.extend_from_slice(&packet[..present]);
    frame
}

/// The same for IPv6.
fn inner_ipv6(present: usize, payload_len: u16) -> Vec<u8> {
    let mut frame = vec![0xee; 14];
    frame[12..].copy_from_slice(&[0x86, 0xdd]);
    let mut packet = vec![0xdd; present.max(40)];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&payload_len.to_be_bytes());
    frame.extend_from_slice(&packet[..present]);
    frame
}

/// Inserts VLAN tags into a frame.
fn tagged(mut frame: Vec<u8>, tpids: &[u16]) -> Vec<u8> {
    for tpid in tpids.iter().rev() {
        let [high, low] = tpid.to_be_bytes();
        let [priority, id] = CONTROL.to_be_bytes();
        frame.splice(12..12, [high, low, priority, id]);
    }
    frame
}

impl Packet {
    fn udp_at(&self) -> usize {
        14 + 4 * self.tags.len() + if self.v6 { 40 } else { 20 + 4 * self.options }
    }

    fn inner_at(&self) -> usize {
        self.udp_at() + 16
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [vxlan_flags, r0, r1, r2, v0, v1, v2, r3] = self.vxlan;
        let sample = if self.v6 {
            Outer::sample_v6(0, &[]).between([0x20; 16], [0x21; 16])
        } else {
            Outer::sample(0).between([10, 10, 10, 252], [10, 10, 10, 20])
        };
        let mut outer = Outer {
            tags: self.tags.iter().map(|&tpid| (tpid, CONTROL)).collect(),
            source_port: self.source_port,
            destination_port: self.port,
            vxlan_flags,
            vxlan_reserved: [r0, r1, r2, r3],
            vni: u32::from_be_bytes([0, v0, v1, v2]),
            ..sample
        };
        if let OuterIp::V4 { options, dont_fragment, more_fragments, fragment_offset, .. } = &mut outer.ip {
            options.resize(self.options * 4, 1);
            *dont_fragment = self.fragment & 0x4000 != 0;
            *more_fragments = self.fragment & 0x2000 != 0;
            *fragment_offset = self.fragment & 0x1fff;
        }
        let mut bytes = outer.encapsulate(&self.inner).unwrap();
        // Any value, right or wrong.
        bytes[self.udp_at() + 6..][..2].copy_from_slice(&self.checksum.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xaa, self.padding));
        bytes
    }

    fn damaged(&self, damage: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = self.bytes();
        damage(&mut bytes);
        bytes
    }
}

fn whole(bytes: &[u8]) -> Captured<'_> {
    Captured::new(bytes, u32::try_from(bytes.len()).unwrap(), 0)
}
