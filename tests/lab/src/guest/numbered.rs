//! Mirrored frames that bear a number, outside as AWS sends them.

use std::net::Ipv4Addr;

use super::plan::Frames;
use crate::{
    aws_twin,
    error::Result,
    frames::{ENCAPSULATION, Outer, inner_udp},
};

/// The first VNI; flows alternate between it and the next.
pub(super) const VNI: u32 = 100;
/// The first outer source; flows alternate between it and the next.
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 254);
/// Ethernet, IPv4 and UDP of an inner frame.
const INNER_HEADERS: usize = 42;

/// Frames to be sent and what must come of them.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) outer: Vec<Vec<u8>>,
    /// Frames a second.
    pub(super) pace: u32,
}

impl Sent {
    pub(super) fn count(&self) -> u64 {
        self.outer.len() as u64
    }

    /// The same frames, all with this VNI.
    pub(super) fn of_vni(mut self, vni: u32) -> Self {
        let [_, vni @ ..] = vni.to_be_bytes();
        for outer in &mut self.outer {
            // The last four bytes before the inner frame are VNI and reserved (RFC 7348, section 5).
            outer[ENCAPSULATION - 4..ENCAPSULATION - 1].copy_from_slice(&vni);
        }
        self
    }

    /// The inner frames, in the order sent.
    pub(super) fn inner(&self) -> Vec<Vec<u8>> {
        self.outer.iter().map(|outer| outer[ENCAPSULATION..].to_vec()).collect()
    }
}

/// The frames, addressed to this card.
pub(super) fn frames(frames: &Frames, to: [u8; 6]) -> Result<Sent> {
    let mut sent = match frames {
        Frames::None => Sent::default(),
        Frames::Aws => Sent { outer: aws_twin::aws_twin()?, pace: 2_000 },
        Frames::Numbered { count, sizes, flows, pace } => {
            let frame = |number: u32| {
                let size = sizes.get(number as usize % sizes.len().max(1)).copied().unwrap_or(INNER_HEADERS);
                numbered(number, size, number % (*flows).max(1))
            };
            Sent { outer: (0..*count).map(frame).collect::<Result<_>>()?, pace: *pace }
        }
    };
    for frame in &mut sent.outer {
        frame[..to.len()].copy_from_slice(&to);
    }
    Ok(sent)
}

fn numbered(number: u32, size: usize, flow: u32) -> Result<Vec<u8>> {
    let [.., low] = number.to_be_bytes();
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(size.saturating_sub(INNER_HEADERS).max(payload.len()), low);
    let port = |base: u16| base + (flow % 10_000) as u16;
    let source = Ipv4Addr::from_bits(SOURCE.to_bits() + flow % 2);
    let outer = Outer::aws(source, TARGET, 0xff80 | (flow % 128) as u16, VNI + flow % 2);
    outer.encapsulate(&inner_udp(
        (Ipv4Addr::new(10, 10, 0, 1).into(), port(10_000)),
        (Ipv4Addr::new(10, 10, 0, 2).into(), 9),
        &payload,
    )?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_frame_differs_and_has_its_size_and_its_card() {
        let plan = Frames::Numbered { count: 700, sizes: vec![50, 8_950], flows: 64, pace: 1 };
        let sent = frames(&plan, [2, 0, 0, 0, 0, 9]).unwrap();
        let inner: BTreeSet<_> = sent.inner().into_iter().collect();
        assert_eq!(inner.len(), 700);
        assert_eq!((sent.outer[0].len(), sent.outer[1].len()), (100, 9_000));
        assert!(sent.outer.iter().all(|frame| frame.starts_with(&[2, 0, 0, 0, 0, 9])));
        let plan = Frames::Numbered { count: 2, sizes: vec![50], flows: 2, pace: 1 };
        let [of_100, other] = &frames(&plan, [2; 6]).unwrap().of_vni(VNI).outer[..] else {
            panic!("two frames")
        };
        assert_eq!(*of_100, frames(&plan, [2; 6]).unwrap().outer[0]);
        assert_eq!(of_100[46..50], other[46..50]);
    }
}
