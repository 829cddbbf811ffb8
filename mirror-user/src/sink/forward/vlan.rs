//! VLAN tags that tell VNIs apart, for readers that know nothing of VXLAN.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;
use lru::LruCache;

use super::output::Refusal;
use crate::{
    sink::handoff::{Outcome, record},
    wire::{
        ethernet::ethertype,
        vlan::{MAX_VID, TAG_LEN},
    },
};

/// Bytes of the two addresses, after which a tag stands.
const ADDRESSES: usize = 12;

/// Which VNI has which VLAN: the lowest free one, 1 to 4094, for each VNI in the order in which they come.
/// When all are given, that of the VNI which has been silent longest goes to the next that comes: senders
/// choose VNIs, and one that made up thousands would else leave none for the tenants that follow.
#[derive(Clone, Debug)]
pub(super) struct Vlans(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    /// What was asked for keeps its VLAN.
    fixed: HashMap<u32, u16, RandomState>,
    /// The others, by when their last frame came.
    others: Option<LruCache<u32, u16, RandomState>>,
    /// How often a VLAN went from one VNI to another.
    given_up: u64,
}

impl Vlans {
    /// Gives these VNIs their VLANs for good, in order, as far as there are VLANs.
    pub(super) fn of(vnis: impl IntoIterator<Item = u32>) -> Self {
        let mut fixed = HashMap::with_hasher(RandomState::default());
        for vni in vnis {
            if fixed.len() < MAX_VID.into() {
                let next = number(fixed.len());
                fixed.entry(vni).or_insert(next);
            }
        }
        // All of it is allocated at the start.
        let room = NonZeroUsize::new(usize::from(MAX_VID) - fixed.len());
        let others = room.map(|room| LruCache::with_hasher(room, RandomState::default()));
        Self(Arc::new(Mutex::new(Table { fixed, others, given_up: 0 })))
    }

    /// Each VNI that has a VLAN now, by VLAN.
    pub(super) fn all(&self) -> Vec<(u32, u16)> {
        let table = self.lock();
        let others = table.others.iter().flatten();
        let mut all: Vec<_> = table.fixed.iter().chain(others).map(|(vni, vid)| (*vni, *vid)).collect();
        all.sort_unstable_by_key(|(_, vid)| *vid);
        all
    }

    /// How often a VLAN went from one VNI to another.
    pub(super) fn given_up(&self) -> u64 {
        self.lock().given_up
    }

    /// Whole values are put in under this lock, so one poisoned by a panic is as good as any.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The VLAN of a VNI; `None` where others have all of them for good.
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
            self.given_up += 1;
            if self.given_up == 1 {
                tracing::warn!(
                    vni,
                    "every VLAN stands for a VNI: from now on the VNI that has been silent longest gives up \
                    its own; `--vni` chooses VNIs, and keeps their VLANs"
                );
            }
            others.peek_lru().map(|(_, vid)| *vid)?
        };
        others.push(vni, vid);
        Some(vid)
    }
}

/// The VLAN that comes after so many.
#[expect(clippy::cast_possible_truncation, reason = "there are never more than MAX_VID")]
fn number(given: usize) -> u16 {
    given as u16 + 1
}

/// A member's view of the VLANs.
#[derive(Debug)]
pub(super) struct Tagger {
    vlans: Vlans,
    /// For each frame of the block at hand.
    vids: Vec<Option<u16>>,
}

impl Tagger {
    pub(super) fn new(vlans: Vlans) -> Self {
        Self { vlans, vids: Vec::new() }
    }

    /// Hands on the parts of each frame of a block with its tag, and refuses those that get none.
    pub(super) fn each(
        &mut self,
        records: &[u8],
        outcome: &mut Outcome,
        mut send: impl FnMut([&[u8]; 3], &mut Outcome),
    ) {
        let vids = self.vids(record::frames(records).map(|frame| frame.vni()));
        for (frame, vid) in record::frames(records).zip(vids) {
            let Some(vid) = *vid else {
                outcome.refuse(Refusal::NoVlan, 1);
                continue;
            };
            let (addresses, tag, rest) = tagged(frame.inner().first(), vid);
            send([addresses, &tag, rest], outcome);
        }
    }

    /// The VLAN of each of these VNIs, in order; `None` for one that has none. Asked for a whole block at
    /// once, so that members take the lock as seldom as they can.
    fn vids(&mut self, vnis: impl Iterator<Item = u32>) -> &[Option<u16>] {
        let mut table = self.vlans.lock();
        self.vids.clear();
        self.vids.extend(vnis.map(|vni| table.vid(vni)));
        &self.vids
    }
}

/// A frame in three parts, the second of them the tag of this VLAN.
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
    fn vnis_have_vlans_in_their_order_the_same_for_all_members() {
        let vlans = Vlans::of([700, 800]);
        let mut taggers = [Tagger::new(vlans.clone()), Tagger::new(vlans.clone())];
        assert_eq!(vids(&mut taggers[0], [900, 700]), [Some(3), Some(1)]);
        assert_eq!(vids(&mut taggers[1], [800, 900]), [Some(2), Some(3)]);
        assert_eq!(vlans.all(), [(700, 1), (800, 2), (900, 3)]);
    }

    #[test]
    fn a_tag_stands_behind_the_addresses() {
        let frame = [[1; 6].as_slice(), &[2; 6], &[8, 0, 0x45]].concat();
        assert_eq!(tagged(&frame, 0xffe), (&frame[..12], [0x81, 0, 0x0f, 0xfe], &frame[12..]));
    }

    #[test]
    fn a_flood_of_vnis_leaves_a_vlan_to_the_tenant_that_follows_and_to_those_that_keep_sending() {
        const STEADY: u32 = 1;
        let vlans = Vlans::of([700]);
        let mut tagger = Tagger::new(vlans.clone());
        assert_eq!(vids(&mut tagger, [STEADY, 700]), [Some(2), Some(1)]);
        for flood in (1000..21_000).collect::<Vec<_>>().chunks(1000) {
            assert!(vids(&mut tagger, flood.iter().copied()).iter().all(Option::is_some));
            assert_eq!(vids(&mut tagger, [STEADY]), [Some(2)], "who sends keeps its VLAN");
        }
        let tenant = vids(&mut tagger, [9])[0].expect("a VLAN for the tenant");
        assert_eq!(vids(&mut tagger, [9, 700]), [Some(tenant), Some(1)], "what was asked for stays");
        let all = vlans.all();
        assert_eq!((all.len(), all.iter().filter(|(_, vid)| *vid == tenant).count()), (4094, 1));
        assert!(all.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1), "each VLAN once");
        assert_eq!(vlans.given_up(), 20_001 - (4094 - 2));
    }

    #[test]
    fn where_all_are_given_for_good_others_have_none() {
        let vlans = Vlans::of(0..5000);
        let mut tagger = Tagger::new(vlans.clone());
        assert_eq!(vids(&mut tagger, [4093, 4094]), [Some(4094), None]);
        assert_eq!((vlans.all().len(), vlans.given_up()), (4094, 0));
    }
}
