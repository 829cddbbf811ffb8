//! Which origin has which series of files, where each has its own: senders choose VNIs, and one that made up
//! thousands must neither leave none for the tenants that follow, nor fill a directory.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use lru::LruCache;

use crate::sink::origin::OriginKey;

/// The series of all that have none of their own.
pub(super) const OTHERS: usize = 0;
/// Origins without a file that are remembered to have come once.
const SEEN_ONCE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// How long until one more file may go from one origin to another, beyond as many as there are files at the
/// start.
const PAUSE: Duration = Duration::from_secs(1);

/// The series of origins, 1 to the bound, the first free one for each in the order in which they come. When
/// all are taken, the origin that has been silent longest gives up its own to one that has shown to be more
/// than a single packet: its second packet earns it.
#[derive(Debug)]
pub(super) struct Origins {
    known: LruCache<OriginKey, Place, RandomState>,
    seen_once: LruCache<OriginKey, (), RandomState>,
    /// Blocks so far.
    block: u64,
    /// How many may be given up now, and when there was last one more.
    allowance: usize,
    since: Instant,
    given_up: u64,
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
            given_up: 0,
        }
    }

    /// How many series there may be.
    pub(super) fn series(&self) -> usize {
        self.known.cap().get() + 1
    }

    pub(super) fn has_file(&self, origin: OriginKey) -> bool {
        self.known.contains(&origin)
    }

    pub(super) fn begin_block(&mut self) {
        self.block += 1;
    }

    /// The series of an origin that has one. All of a block are asked for before any [newcomer](Self::find),
    /// which takes none of theirs.
    pub(super) fn get(&mut self, origin: OriginKey) -> Option<usize> {
        let place = self.known.get_mut(&origin)?;
        place.block = self.block;
        Some(place.series)
    }

    /// The series of an origin that has none yet, of which the block has so many packets: a new one, or what
    /// another has given up, or that of all others.
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
        let Some(oldest) = oldest.filter(|place| place.block != block && self.may_give_up()) else {
            return OTHERS;
        };
        self.given_up += 1;
        if self.given_up == 1 {
            tracing::warn!(
                "{} origins have a file of their own, which is all (--max-origins): from now on the one that \
                has been silent longest gives up its own",
                self.known.cap()
            );
        }
        self.known.push(origin, Place { series: oldest.series, block });
        oldest.series
    }

    fn may_give_up(&mut self) -> bool {
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
    fn a_second_packet_earns_the_file_of_the_longest_silent() {
        let mut origins = Origins::new(2);
        let mut of = |vni, packets| series(&mut origins, vni, packets);
        assert_eq!([of(1, 1), of(2, 1), of(1, 1)], [1, 2, 1]);
        assert_eq!(of(3, 1), OTHERS, "once is not enough");
        assert_eq!(of(3, 1), 2, "2 has been silent longest");
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
    fn what_a_block_has_packets_for_is_not_given_up_in_it() {
        let mut origins = Origins::new(1);
        origins.begin_block();
        assert_eq!(origins.find(key(1), 5), 1);
        assert_eq!(origins.find(key(2), 5), OTHERS);
        origins.begin_block();
        assert_eq!(origins.find(key(2), 5), 1);
    }
}
