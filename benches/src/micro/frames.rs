//! Outer frames of every shape that decapsulation handles, first the one that mirrors nearly always send.

use anyhow::{Context as _, Result};
use mirror_lab::{
    frames::{ENCAPSULATION, Outer, OuterIp, TPID_8021Q, inner_of_len},
    geneve::{self, Geneve},
};
use mirror_user::{Captured, Encapsulation, Frame, Tunnels, decap};

/// A batch of frames of one shape in memory.
pub(super) const BATCH: usize = 64;

/// Bytes that GENEVE with the options of a Gateway Load Balancer adds.
const GENEVE: usize = geneve::ENCAPSULATION - ENCAPSULATION;
/// Data of another option.
const OPTION: [u8; 4] = [0; 4];

/// A chain of headers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Ethernet, IPv4 without options, UDP, VXLAN: what AWS sends.
    Ipv4,
    /// The same behind a VLAN tag.
    Vlan,
    /// IPv4 with options.
    Ipv4Options,
    /// IPv6 without extension headers.
    Ipv6,
    /// A VLAN tag in the inner frame.
    InnerVlan,
    /// An inner frame that the mirror session truncated.
    InnerTruncated,
    /// In GENEVE from a Gateway Load Balancer.
    Geneve,
    /// The same with another option, which only the general path reads.
    GeneveOptions,
}

impl Shape {
    /// All of them.
    pub const EACH: [Self; 8] = [
        Self::Ipv4,
        Self::Vlan,
        Self::Ipv4Options,
        Self::Ipv6,
        Self::InnerVlan,
        Self::InnerTruncated,
        Self::Geneve,
        Self::GeneveOptions,
    ];

    /// Its name in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Vlan => "vlan",
            Self::Ipv4Options => "ipv4-options",
            Self::Ipv6 => "ipv6",
            Self::InnerVlan => "inner-vlan",
            Self::InnerTruncated => "inner-truncated",
            Self::Geneve => "geneve",
            Self::GeneveOptions => "geneve-options",
        }
    }

    /// The length at which there is most to do for a byte: that of 64 bytes inside.
    pub(super) const fn short(self) -> usize {
        match self {
            Self::Geneve => 114 + GENEVE,
            Self::GeneveOptions => 114 + GENEVE + OPTION.len() + 4,
            _ => 114,
        }
    }

    /// The tunnels that its frames come through.
    pub(super) fn tunnels(self) -> Tunnels {
        match self {
            Self::Geneve | Self::GeneveOptions => {
                Tunnels::default().with(geneve::PORT, Encapsulation::Geneve)
            }
            _ => Tunnels::default(),
        }
    }

    /// One frame of `len` bytes in all.
    fn frame(self, len: usize, vni: u32) -> Result<Vec<u8>> {
        /// NOP (RFC 791 section 3.1).
        const OPTIONS: [u8; 8] = [1; 8];
        /// Original length of the truncated inner frame, in bytes.
        const WHOLE: usize = 1514;
        const VLAN_TAG: usize = 4;
        /// How much longer an IPv6 header is.
        const IPV6_MORE: usize = 20;

        let mut outer = Outer::sample(vni);
        let more = match self {
            Self::Ipv4 | Self::InnerVlan | Self::InnerTruncated => 0,
            Self::Geneve => GENEVE,
            Self::GeneveOptions => GENEVE + OPTION.len() + 4,
            Self::Vlan => {
                outer.tags = vec![(TPID_8021Q, 7)];
                VLAN_TAG
            }
            Self::Ipv4Options => {
                if let OuterIp::V4 { options, .. } = &mut outer.ip {
                    *options = OPTIONS.to_vec();
                }
                OPTIONS.len()
            }
            Self::Ipv6 => {
                outer = Outer::sample_v6(vni, &[]);
                IPV6_MORE
            }
        };
        let inner_len = len.saturating_sub(ENCAPSULATION + more);
        let inner = match self {
            Self::InnerVlan => {
                let mut inner = inner_of_len(inner_len.saturating_sub(VLAN_TAG))?;
                let tag = [TPID_8021Q.to_be_bytes(), [0, 7]];
                inner.splice(12..12, tag.into_iter().flatten());
                inner
            }
            Self::InnerTruncated => {
                let mut inner = inner_of_len(WHOLE)?;
                inner.truncate(inner_len);
                inner
            }
            Self::Ipv4 | Self::Vlan | Self::Ipv4Options | Self::Ipv6 | Self::Geneve | Self::GeneveOptions => {
                inner_of_len(inner_len)?
            }
        };
        let mut gateway = Geneve::aws(1, 2, 3);
        Ok(match self {
            Self::Geneve => gateway.encapsulate_mirrored(&outer, &inner)?,
            Self::GeneveOptions => {
                gateway.add_option(0x0102, 1, &OPTION);
                gateway.encapsulate_mirrored(&outer, &inner)?
            }
            _ => outer.encapsulate(&inner)?,
        })
    }

    /// This many frames of `len` bytes each, the first of VNI 1 and the others of `vnis` in turn.
    ///
    /// They live as long as the process, so that borrowing from them is simple.
    ///
    /// # Errors
    ///
    /// If the headers do not fit `len`.
    pub(super) fn frames(self, len: usize, count: usize, vnis: u32) -> Result<Vec<Captured<'static>>> {
        (1..=vnis)
            .cycle()
            .take(count)
            .map(|vni| {
                let bytes: &[u8] = self.frame(len, vni)?.leak();
                Ok(Captured::new(bytes, u32::try_from(bytes.len())?, 1))
            })
            .collect()
    }
}

/// Frames of these tunnels, decapsulated.
///
/// # Errors
///
/// If one cannot be decapsulated, which would falsify the figure.
pub(super) fn decapsulated(frames: &[Captured<'static>], tunnels: &Tunnels) -> Result<Vec<Frame<'static>>> {
    let decapsulate = |captured: &Captured<'static>| decap::decapsulate_frame(*captured, tunnels);
    frames
        .iter()
        .map(|captured| {
            decapsulate(captured).ok().context("a frame of the measurement cannot be decapsulated")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_the_requested_length_and_is_decapsulated() {
        for shape in Shape::EACH {
            for len in [shape.short(), 512, 1450] {
                let frames = shape.frames(len, 3, 2).unwrap();
                assert!(frames.iter().all(|frame| frame.bytes().len() == len), "{shape:?} {len}");
                let vnis: Vec<_> =
                    decapsulated(&frames, &shape.tunnels()).unwrap().iter().map(Frame::vni).collect();
                assert_eq!(vnis, [1, 2, 1], "{shape:?}");
            }
        }
    }

    #[test]
    fn only_the_truncated_shape_is_truncated() {
        for shape in Shape::EACH {
            let frames = decapsulated(&shape.frames(shape.short(), 1, 1).unwrap(), &shape.tunnels()).unwrap();
            assert_eq!(frames[0].is_truncated(), shape == Shape::InnerTruncated, "{shape:?}");
        }
    }
}
