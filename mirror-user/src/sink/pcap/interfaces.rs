//! Which interface of a pcapng file stands for which origin.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;

use crate::sink::origin::OriginKey;

/// The interfaces of a file in the order of their numbers, shared by workers and writer.
///
/// A worker takes the lock when it meets an origin for the first time, and not at all once the table is full.
#[derive(Clone, Debug)]
pub(super) struct Interfaces {
    shared: Arc<Mutex<Shared>>,
    /// Named interfaces at most; the one after the last stands for all further origins.
    max: usize,
}

#[derive(Debug)]
struct Shared {
    origins: Vec<OriginKey>,
    numbers: HashMap<OriginKey, u32, RandomState>,
}

impl Interfaces {
    pub(super) fn new(max: usize) -> Self {
        let shared = Shared {
            origins: Vec::with_capacity(max),
            numbers: HashMap::with_capacity_and_hasher(max, RandomState::default()),
        };
        Self { shared: Arc::new(Mutex::new(shared)), max }
    }

    /// How many numbers there can be, the one for the rest included.
    pub(super) fn numbers(&self) -> usize {
        self.max + 1
    }

    /// How many numbers may have been given by now.
    #[cfg(feature = "af-xdp")]
    pub(super) fn in_use(&self) -> usize {
        let origins = self.lock().origins.len();
        // Once the table is full, the number for the rest may be.
        if origins == self.max { self.numbers() } else { origins }
    }

    /// What stands behind a number that [`InterfaceCache::number`] gave; `None` for the rest.
    pub(super) fn origin(&self, number: usize) -> Option<OriginKey> {
        self.lock().origins.get(number).copied()
    }

    /// Whole values are inserted under this lock, so one poisoned by a panic is as good as any.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's own view of the table.
#[derive(Debug)]
pub(super) struct InterfaceCache {
    table: Interfaces,
    known: HashMap<OriginKey, u32, RandomState>,
    /// All that the table will ever hold is known.
    complete: bool,
    /// Frames of one origin come in runs.
    last: Option<(OriginKey, u32)>,
}

impl InterfaceCache {
    pub(super) fn new(table: Interfaces) -> Self {
        let known = HashMap::with_capacity_and_hasher(table.max, RandomState::default());
        Self { table, known, complete: false, last: None }
    }

    /// The number of an origin's interface.
    pub(super) fn number(&mut self, key: OriginKey) -> u32 {
        match self.last {
            Some((last, number)) if last == key => number,
            _ => {
                let known = self.known.get(&key).copied();
                let number = known.unwrap_or_else(|| self.meet(key));
                self.last = Some((key, number));
                number
            }
        }
    }

    fn meet(&mut self, key: OriginKey) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the builder keeps the bound far below 2^32")]
        let number = |count: usize| count as u32;
        let rest = number(self.table.max);
        if self.complete {
            return rest;
        }
        let mut shared = self.table.lock();
        if let Some(&found) = shared.numbers.get(&key) {
            self.known.insert(key, found);
            return found;
        }
        if shared.origins.len() == self.table.max {
            // Emptied first, so that extending stays within what was allocated.
            self.known.clear();
            self.known.extend(&shared.numbers);
            self.complete = true;
            return rest;
        }
        let fresh = number(shared.origins.len());
        shared.origins.push(key);
        shared.numbers.insert(key, fresh);
        self.known.insert(key, fresh);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(vni: u32) -> OriginKey {
        OriginKey::new([10, 0, 0, 1].into(), vni)
    }

    #[test]
    fn workers_agree_on_numbers() {
        let table = Interfaces::new(8);
        let mut workers = [InterfaceCache::new(table.clone()), InterfaceCache::new(table.clone())];
        assert_eq!([5, 6, 5].map(|vni| workers[0].number(key(vni))), [0, 1, 0]);
        assert_eq!([6, 7, 5].map(|vni| workers[1].number(key(vni))), [1, 2, 0]);
        assert_eq!(workers[0].number(key(7)), 2);
        assert_eq!(table.origin(2), Some(key(7)));
    }

    #[test]
    fn past_the_bound_all_share_one_number_and_known_ones_keep_theirs() {
        let table = Interfaces::new(2);
        let mut workers = [InterfaceCache::new(table.clone()), InterfaceCache::new(table.clone())];
        assert_eq!([1, 2, 3, 4].map(|vni| workers[0].number(key(vni))), [0, 1, 2, 2]);
        // The second worker never met 1 and 2 before the table was full.
        assert_eq!([9, 1, 2, 3].map(|vni| workers[1].number(key(vni))), [2, 0, 1, 2]);
        assert_eq!((table.origin(2), table.numbers()), (None, 3));
    }

    #[test]
    fn a_full_table_costs_no_memory_however_many_origins_follow() {
        let table = Interfaces::new(64);
        let mut worker = InterfaceCache::new(table);
        let allocated = allocation_counter::measure(|| {
            for vni in 0..100_000 {
                worker.number(key(vni));
            }
        });
        assert_eq!(allocated.count_total, 0, "{allocated:?}");
    }
}
