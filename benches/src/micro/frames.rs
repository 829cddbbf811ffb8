//! Outer frames of every shape that decapsulation handles, first the one that mirrors nearly always send.

use anyhow::{Context as _, Result};
use mirror_lab::frames::{ENCAPSULATION, Outer, OuterIp, TPID_8021Q, inner_of_len};
use mirror_user::{Captured, Frame, Tunnels, decap};

/// A batch of frames of one shape in memory.
pub(super) const BATCH: usize = 64;

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
}

impl Shape {
    /// All of them.
    pub const EACH: [Self; 6] =
        [Self::Ipv4, Self::Vlan, Self::Ipv4Options, Self::Ipv6, Self::InnerVlan, Self::InnerTruncated];

    /// Its name in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Vlan => "vlan",
            Self::Ipv4Options => "ipv4-options",
            Self::Ipv6 => "ipv6",
            Self::InnerVlan => "inner-vlan",
            Self::InnerTruncated => "inner-truncated",
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
            Self::Ipv4 | Self::Vlan | Self::Ipv4Options | Self::Ipv6 => inner_of_len(inner_len)?,
        };
        Ok(outer.encapsulate(&inner)?)
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

/// The same, decapsulated.
///
/// # Errors
///
/// If one cannot be decapsulated, which would falsify the figure.
pub(super) fn decapsulated(frames: &[Captured<'static>]) -> Result<Vec<Frame<'static>>> {
    let tunnels = Tunnels::default();
    let decapsulate = |captured: &Captured<'static>| decap::decapsulate_frame(*captured, &tunnels);
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
            for len in [114, 512, 1450] {
                let frames = shape.frames(len, 3, 2).unwrap();
                assert!(frames.iter().all(|frame| frame.bytes().len() == len), "{shape:?} {len}");
                let vnis: Vec<_> = decapsulated(&frames).unwrap().iter().map(Frame::vni).collect();
                assert_eq!(vnis, [1, 2, 1], "{shape:?}");
            }
        }
    }

    #[test]
    fn only_the_truncated_shape_is_truncated() {
        for shape in Shape::EACH {
            let frames = decapsulated(&shape.frames(114, 1, 1).unwrap()).unwrap();
            assert_eq!(frames[0].is_truncated(), shape == Shape::InnerTruncated, "{shape:?}");
        }
    }
}
