//! Assigns series of files to origins. Senders choose VNIs: one that forges thousands must neither use up the
//! files of other tenants nor fill a directory.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use lru::LruCache;

use crate::sink::origin::OriginKey;

/// The series of all origins without one of their own.
pub(super) const OTHERS: usize = 0;
/// Origins without a file of which one frame was seen.
const SEEN_ONCE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Interval at which one more file may be reassigned, after as many as there are files at once.
const PAUSE: Duration = Duration::from_secs(1);

/// The series of origins, from 1 to the bound; each new origin gets the first free one. When all are in use,
/// an origin with a second packet takes the series of the origin that has been idle longest.
#[derive(Debug)]
pub(super) struct Origins {
    known: LruCache<OriginKey, Place, RandomState>,
    seen_once: LruCache<OriginKey, (), RandomState>,
    /// Blocks so far.
    block: u64,
    /// How many may be reassigned now, and when that was last raised.
    allowance: usize,
    since: Instant,
    reassigned: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    series: usize,
    /// The block that last had a packet.
    block: u64,
}

impl Origins {
    pub(super) fn new(max: usize) -> Self {
        let max = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        Self {
            known: LruCache::with_hasher(max, RandomState::default()),
            seen_once: LruCache::with_hasher(SEEN_ONCE, RandomState::default()),
            block: 0,
            allowance: max.get(),
            since: Instant::now(),
            reassigned: 0,
        }
    }

    /// The most series.
    pub(super) fn series(&self) -> usize {
        self.known.cap().get() + 1
    }

    pub(super) fn has_file(&self, origin: OriginKey) -> bool {
        self.known.contains(&origin)
    }

    pub(super) fn begin_block(&mut self) {
        self.block += 1;
    }

    /// The series of an origin that has one. Call it for all origins of a block before [`find`](Self::find),
    /// which does not take the series of these.
    pub(super) fn get(&mut self, origin: OriginKey) -> Option<usize> {
        let place = self.known.get_mut(&origin)?;
        place.block = self.block;
        Some(place.series)
    }

    /// The series of an origin that has none, with this many packets in the block: a new one, a reassigned
    /// one, or [`OTHERS`].
    pub(super) fn find(&mut self, origin: OriginKey, packets: usize) -> usize {
        let block = self.block;
        if self.known.len() < self.known.cap().get() {
            let series = self.known.len() + 1;
            self.known.push(origin, Place { series, block });
            return series;
        }
        if packets < 2 && self.seen_once.pop(&origin).is_none() {
            self.seen_once.push(origin, ());
            return OTHERS;
        }
        let oldest = self.known.peek_lru().map(|(_, place)| *place);
        let Some(oldest) = oldest.filter(|place| place.block != block && self.may_reassign()) else {
            return OTHERS;
        };
        self.reassigned += 1;
        if self.reassigned == 1 {
            tracing::warn!(
                "all {} files for origins are in use: from now on a new origin takes the file of the one \
                that has been idle longest",
                self.known.cap()
            );
        }
        self.known.push(origin, Place { series: oldest.series, block });
        oldest.series
    }

    fn may_reassign(&mut self) -> bool {
        let earned = usize::try_from(self.since.elapsed().as_secs() / PAUSE.as_secs()).unwrap_or(usize::MAX);
        if earned > 0 {
            self.allowance = self.known.cap().get().min(self.allowance.saturating_add(earned));
            self.since = Instant::now();
        }
        let may = self.allowance > 0;
        self.allowance -= usize::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(vni: u32) -> OriginKey {
        OriginKey::new([10, 0, 0, 1].into(), vni)
    }

    fn series(origins: &mut Origins, vni: u32, packets: usize) -> usize {
        origins.begin_block();
        origins.get(key(vni)).unwrap_or_else(|| origins.find(key(vni), packets))
    }

    #[test]
    fn a_second_packet_takes_the_file_of_the_origin_idle_longest() {
        let mut origins = Origins::new(2);
        let mut of = |vni, packets| series(&mut origins, vni, packets);
        assert_eq!([of(1, 1), of(2, 1), of(1, 1)], [1, 2, 1]);
        assert_eq!(of(3, 1), OTHERS, "once is not enough");
        assert_eq!(of(3, 1), 2, "2 has been idle longest");
        assert_eq!(of(4, 2), 1, "two in one block");
        assert_eq!(of(3, 1), 2);
        assert!(!origins.has_file(key(1)) && origins.has_file(key(4)));
    }

    #[test]
    fn a_flood_takes_no_more_files_than_the_allowance_and_single_packets_none() {
        let mut origins = Origins::new(8);
        let mut own_files = |vnis: std::ops::Range<u32>, packets| {
            vnis.filter(|vni| series(&mut origins, *vni, packets) != OTHERS).count()
        };
        assert_eq!(own_files(0..100_000, 1), 8, "the first ones");
        let taken = own_files(200_000..300_000, 2);
        assert!((8..20).contains(&taken), "{taken}");
    }

    #[test]
    fn a_file_with_packets_in_a_block_is_not_reassigned_in_that_block() {
        let mut origins = Origins::new(1);
        origins.begin_block();
        assert_eq!(origins.find(key(1), 5), 1);
        assert_eq!(origins.find(key(2), 5), OTHERS);
        origins.begin_block();
        assert_eq!(origins.find(key(2), 5), 1);
    }
}
