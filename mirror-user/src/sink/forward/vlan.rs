//! VLAN tags in place of VNIs, for readers without VXLAN.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;
use lru::LruCache;

use super::not_sent::NotSent;
use crate::{
    sink::handoff::{Outcome, record},
    wire::{
        ethernet::ethertype,
        vlan::{MAX_VID, TAG_LEN},
    },
};

/// Bytes of the two addresses before a tag.
const ADDRESSES: usize = 12;

/// The VLAN of each VNI: each new VNI gets the lowest free one, 1 to 4094. When all are in use, it gets that
/// of the VNI idle longest: otherwise a sender that forges thousands of VNIs would use up the VLANs of
/// others.
#[derive(Clone, Debug)]
pub(super) struct Vlans(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    /// Permanent assignments.
    fixed: HashMap<u32, u16, RandomState>,
    /// The others, by time of their last frame.
    others: Option<LruCache<u32, u16, RandomState>>,
    /// How often a VLAN was reassigned.
    reassigned: u64,
}

impl Vlans {
    /// Assigns VLANs to these VNIs permanently, in sequence, as long as there are VLANs.
    pub(super) fn of(vnis: impl IntoIterator<Item = u32>) -> Self {
        let mut fixed = HashMap::with_hasher(RandomState::default());
        for vni in vnis {
            if fixed.len() < MAX_VID.into() {
                let next = number(fixed.len());
                fixed.entry(vni).or_insert(next);
            }
        }
        // Allocated at the start.
        let room = NonZeroUsize::new(usize::from(MAX_VID) - fixed.len());
        let others = room.map(|room| LruCache::with_hasher(room, RandomState::default()));
        Self(Arc::new(Mutex::new(Table { fixed, others, reassigned: 0 })))
    }

    /// Each VNI with a VLAN, sorted by VLAN.
    pub(super) fn all(&self) -> Vec<(u32, u16)> {
        let table = self.lock();
        let others = table.others.iter().flatten();
        let mut all: Vec<_> = table.fixed.iter().chain(others).map(|(vni, vid)| (*vni, *vid)).collect();
        all.sort_unstable_by_key(|(_, vid)| *vid);
        all
    }

    /// How often a VLAN was reassigned.
    pub(super) fn reassigned(&self) -> u64 {
        self.lock().reassigned
    }

    /// Values are valid even after a panic under this lock, so poisoning is ignored.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The VLAN of a VNI; `None` if all are assigned permanently to others.
    fn vid(&mut self, vni: u32) -> Option<u16> {
        if let Some(vid) = self.fixed.get(&vni) {
            return Some(*vid);
        }
        let others = self.others.as_mut()?;
        if let Some(vid) = others.get(&vni) {
            return Some(*vid);
        }
        let vid = if others.len() < others.cap().get() {
            number(self.fixed.len() + others.len())
        } else {
            self.reassigned += 1;
            if self.reassigned == 1 {
                tracing::warn!(
                    vni,
                    "all VLANs are in use: from now on a new VNI takes the VLAN of the VNI that has been \
                    idle longest; VNIs that are accepted by number keep theirs"
                );
            }
            others.peek_lru().map(|(_, vid)| *vid)?
        };
        others.push(vni, vid);
        Some(vid)
    }
}

/// The VLAN after this many.
#[expect(clippy::cast_possible_truncation, reason = "there are never more than MAX_VID")]
fn number(given: usize) -> u16 {
    given as u16 + 1
}

/// Tags the frames of a member.
#[derive(Debug)]
pub(super) struct Tagger {
    vlans: Vlans,
    /// For each frame of the current block.
    vids: Vec<Option<u16>>,
}

impl Tagger {
    pub(super) fn new(vlans: Vlans) -> Self {
        Self { vlans, vids: Vec::new() }
    }

    /// Calls `send` with the parts of each frame of a block and its tag; drops frames without a VLAN.
    pub(super) fn each(
        &mut self,
        records: &[u8],
        outcome: &mut Outcome,
        mut send: impl FnMut([&[u8]; 3], &mut Outcome),
    ) {
        let vids = self.vids(record::frames(records).map(|frame| frame.vni()));
        for (frame, vid) in record::frames(records).zip(vids) {
            let Some(vid) = *vid else {
                outcome.not_sent(NotSent::NoVlan, 1);
                continue;
            };
            let (addresses, tag, rest) = tagged(frame.inner().first(), vid);
            send([addresses, &tag, rest], outcome);
        }
    }

    /// The VLAN of each of these VNIs, in the same sequence; `None` for one that has none. Called once per
    /// block, so that members rarely take the lock.
    fn vids(&mut self, vnis: impl Iterator<Item = u32>) -> &[Option<u16>] {
        let mut table = self.vlans.lock();
        self.vids.clear();
        self.vids.extend(vnis.map(|vni| table.vid(vni)));
        &self.vids
    }
}

/// A frame in three parts, the second of which is the tag.
fn tagged(frame: &[u8], vid: u16) -> (&[u8], [u8; TAG_LEN], &[u8]) {
    let ([a, b], [c, d]) = (ethertype::VLAN.to_be_bytes(), vid.to_be_bytes());
    // Every inner frame has an Ethernet header.
    let (addresses, rest) = frame.split_at(frame.len().min(ADDRESSES));
    (addresses, [a, b, c, d], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vids(tagger: &mut Tagger, vnis: impl IntoIterator<Item = u32>) -> Vec<Option<u16>> {
        tagger.vids(vnis.into_iter()).to_vec()
    }

    #[test]
    fn vnis_have_the_same_vlans_for_all_members() {
        let vlans = Vlans::of([700, 800]);
        let mut taggers = [Tagger::new(vlans.clone()), Tagger::new(vlans.clone())];
        assert_eq!(vids(&mut taggers[0], [900, 700]), [Some(3), Some(1)]);
        assert_eq!(vids(&mut taggers[1], [800, 900]), [Some(2), Some(3)]);
        assert_eq!(vlans.all(), [(700, 1), (800, 2), (900, 3)]);
    }

    #[test]
    fn a_tag_follows_the_addresses() {
        let frame = [[1; 6].as_slice(), &[2; 6], &[8, 0, 0x45]].concat();
        assert_eq!(tagged(&frame, 0xffe), (&frame[..12], [0x81, 0, 0x0f, 0xfe], &frame[12..]));
    }

    #[test]
    fn after_a_flood_of_vnis_new_and_active_tenants_have_vlans() {
        const STEADY: u32 = 1;
        let vlans = Vlans::of([700]);
        let mut tagger = Tagger::new(vlans.clone());
        assert_eq!(vids(&mut tagger, [STEADY, 700]), [Some(2), Some(1)]);
        for flood in (1000..21_000).collect::<Vec<_>>().chunks(1000) {
            assert!(vids(&mut tagger, flood.iter().copied()).iter().all(Option::is_some));
            assert_eq!(vids(&mut tagger, [STEADY]), [Some(2)], "an active VNI keeps its VLAN");
        }
        let tenant = vids(&mut tagger, [9])[0].expect("a VLAN for the tenant");
        assert_eq!(vids(&mut tagger, [9, 700]), [Some(tenant), Some(1)], "permanent assignments stay");
        let all = vlans.all();
        assert_eq!((all.len(), all.iter().filter(|(_, vid)| *vid == tenant).count()), (4094, 1));
        assert!(all.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1), "each VLAN once");
        assert_eq!(vlans.reassigned(), 20_001 - (4094 - 2));
    }

    #[test]
    fn if_all_vlans_are_permanent_other_vnis_have_none() {
        let vlans = Vlans::of(0..5000);
        let mut tagger = Tagger::new(vlans.clone());
        assert_eq!(vids(&mut tagger, [4093, 4094]), [Some(4094), None]);
        assert_eq!((vlans.all().len(), vlans.reassigned()), (4094, 0));
    }
}
