//! VLAN tags that tell VNIs apart, for readers that know nothing of VXLAN.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use foldhash::fast::RandomState;

use crate::wire::{
    ethernet::ethertype,
    vlan::{MAX_VID, TAG_LEN},
};

/// Bytes of the two addresses, after which a tag stands.
const ADDRESSES: usize = 12;

/// Which VNI has which VLAN: the lowest free one, 1 to 4094, for each VNI in the order in which they come.
#[derive(Clone, Debug, Default)]
pub(super) struct Vlans(Arc<Mutex<Vec<u32>>>);

impl Vlans {
    /// Gives these VNIs their VLANs beforehand, in order.
    pub(super) fn of(vnis: impl IntoIterator<Item = u32>) -> Self {
        let vlans = Self::default();
        for vni in vnis {
            vlans.vid(vni);
        }
        vlans
    }

    /// The VLAN of a VNI; `None` when all are given to others.
    fn vid(&self, vni: u32) -> Option<u16> {
        let mut vnis = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let position = vnis.iter().position(|known| *known == vni).or_else(|| {
            (vnis.len() < MAX_VID.into()).then(|| {
                vnis.push(vni);
                vnis.len() - 1
            })
        });
        position.and_then(|position| u16::try_from(position + 1).ok())
    }

    /// Each VNI with its VLAN.
    pub(super) fn all(&self) -> Vec<(u32, u16)> {
        let vnis = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        vnis.into_iter().zip(1..).collect()
    }
}

/// A member's view of the VLANs, which takes no lock for a VNI it knows.
#[derive(Debug)]
pub(super) struct Tagger {
    vlans: Vlans,
    known: HashMap<u32, u16, RandomState>,
}

impl Tagger {
    pub(super) fn new(vlans: Vlans) -> Self {
        Self { vlans, known: HashMap::with_capacity_and_hasher(MAX_VID.into(), RandomState::default()) }
    }

    /// A frame in three parts, the second of them the tag of its VNI; `None` where there is no VLAN left.
    pub(super) fn tagged<'f>(
        &mut self,
        vni: u32,
        frame: &'f [u8],
    ) -> Option<(&'f [u8], [u8; TAG_LEN], &'f [u8])> {
        let vid = match self.known.get(&vni) {
            Some(vid) => *vid,
            None => {
                let vid = self.vlans.vid(vni)?;
                self.known.insert(vni, vid);
                vid
            }
        };
        let [a, b] = ethertype::VLAN.to_be_bytes();
        let [c, d] = vid.to_be_bytes();
        // Every inner frame has an Ethernet header.
        let (addresses, rest) = frame.split_at(frame.len().min(ADDRESSES));
        Some((addresses, [a, b, c, d], rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vnis_have_vlans_in_their_order_the_same_for_all_members() {
        let vlans = Vlans::of([700, 800]);
        let mut taggers = [Tagger::new(vlans.clone()), Tagger::new(vlans.clone())];
        let frame = [[1; 6].as_slice(), &[2; 6], &[8, 0, 0x45]].concat();
        let tag = |tagger: &mut Tagger, vni| tagger.tagged(vni, &frame).map(|(_, tag, _)| tag);
        assert_eq!(tag(&mut taggers[0], 900), Some([0x81, 0, 0, 3]));
        assert_eq!(tag(&mut taggers[1], 800), Some([0x81, 0, 0, 2]));
        assert_eq!(tag(&mut taggers[1], 900), Some([0x81, 0, 0, 3]));
        let (addresses, _, rest) = taggers[0].tagged(700, &frame).unwrap();
        assert_eq!((addresses, rest), (&frame[..12], &frame[12..]));
        assert_eq!(vlans.all(), [(700, 1), (800, 2), (900, 3)]);
    }

    #[test]
    fn vnis_beyond_4094_have_no_vlan_and_the_others_keep_theirs() {
        let vlans = Vlans::of(0..5000);
        let mut tagger = Tagger::new(vlans.clone());
        assert!(tagger.tagged(4093, &[0; 14]).is_some_and(|(_, tag, _)| tag == [0x81, 0, 0x0f, 0xfe]));
        assert_eq!((tagger.tagged(4094, &[0; 14]), vlans.all().len()), (None, 4094));
    }
}
