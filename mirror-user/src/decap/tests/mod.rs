//! Tables for each verdict, properties over generated and damaged packets, and etherparse as a second opinion.

mod properties;
mod tables;

use crate::{frame::Captured, wire::vxlan};

const PORTS: &[u16] = &[vxlan::PORT, 8472];

/// A packet to be put on the wire; the default is what AWS sends (FF80-FFFF source port, TTL 255, no checksums).
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

/// An inner frame of `present` bytes after the Ethernet header whose IPv4 header tells `total_len`.
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

/// Puts VLAN tags into a frame.
fn tagged(mut frame: Vec<u8>, tpids: &[u16]) -> Vec<u8> {
    for tpid in tpids.iter().rev() {
        let [high, low] = tpid.to_be_bytes();
        frame.splice(12..12, [high, low, 0x20, 7]);
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
        let udp_len = u16::try_from(16 + self.inner.len()).unwrap();
        let mut frame = vec![2; 14];
        let mut network = Vec::new();
        if self.v6 {
            frame[12..].copy_from_slice(&[0x86, 0xdd]);
            network.extend_from_slice(&[0x60, 0, 0, 0]);
            network.extend_from_slice(&udp_len.to_be_bytes());
            network.extend_from_slice(&[17, 255]);
            network.extend_from_slice(&[0x20; 16]);
            network.extend_from_slice(&[0x21; 16]);
        } else {
            frame[12..].copy_from_slice(&[8, 0]);
            let words = 5 + u8::try_from(self.options).unwrap();
            network.extend_from_slice(&[0x40 | words, 0]);
            network.extend_from_slice(&(u16::from(words) * 4 + udp_len).to_be_bytes());
            network.extend_from_slice(&[0, 0]);
            network.extend_from_slice(&self.fragment.to_be_bytes());
            network.extend_from_slice(&[255, 17, 0, 0, 10, 10, 10, 252, 10, 10, 10, 20]);
            network.extend(std::iter::repeat_n(1, self.options * 4));
        }
        let mut bytes = tagged(frame, &self.tags);
        bytes.extend_from_slice(&network);
        for field in [self.source_port, self.port, udp_len, self.checksum] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        bytes.extend_from_slice(&self.vxlan);
        bytes.extend_from_slice(&self.inner);
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
