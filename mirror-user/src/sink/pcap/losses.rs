//! Counts lost frames by origin, for the statistics.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;

use crate::sink::origin::OriginKey;

/// Origins whose losses are counted separately; others are counted together. A worker takes the lock at its
/// ticks, or when its own table is full.
const MAX_ORIGINS: usize = 4096;

/// Sums by origin, bounded.
#[derive(Debug)]
pub(super) struct Sums {
    by_origin: HashMap<OriginKey, u64, RandomState>,
    rest: u64,
    max: usize,
}

impl Sums {
    fn new(max: usize) -> Self {
        let by_origin = HashMap::with_capacity_and_hasher(max, RandomState::default());
        Self { by_origin, rest: 0, max }
    }

    fn add(&mut self, origin: OriginKey, frames: u64) {
        let has_room = self.by_origin.len() < self.max;
        match self.by_origin.get_mut(&origin) {
            Some(sum) => *sum += frames,
            None if has_room => {
                self.by_origin.insert(origin, frames);
            }
            None => self.rest += frames,
        }
    }

    /// Each origin with its sum.
    pub(super) fn by_origin(&self) -> impl Iterator<Item = (OriginKey, u64)> {
        self.by_origin.iter().map(|(origin, frames)| (*origin, *frames))
    }

    /// The sum of other origins.
    pub(super) fn rest(&self) -> u64 {
        self.rest
    }
}

/// Frames lost while a part was written.
pub(super) enum Lost {
    /// Of all origins, or of all without a file of their own.
    All(Sums),
    /// Of one origin.
    Of(OriginKey, u64),
}

/// Losses that are in no statistics yet.
#[derive(Clone, Debug)]
pub(super) struct Losses(Arc<Mutex<Sums>>);

impl Losses {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Sums::new(MAX_ORIGINS))))
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        // Sums are valid even after a panic under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, origin: OriginKey, frames: u64) {
        self.lock().add(origin, frames);
    }

    /// Takes all, for a file with frames of all origins.
    pub(super) fn take(&self) -> Sums {
        std::mem::replace(&mut *self.lock(), Sums::new(MAX_ORIGINS))
    }

    /// Puts back what was taken, if it could not be written.
    pub(super) fn put_back(&self, lost: Lost) {
        let mut all = self.lock();
        match lost {
            Lost::All(sums) => {
                sums.by_origin().for_each(|(origin, frames)| all.add(origin, frames));
                all.rest += sums.rest;
            }
            Lost::Of(origin, frames) => all.add(origin, frames),
        }
    }

    /// Takes those of one origin, for a file of its own.
    pub(super) fn take_of(&self, origin: OriginKey) -> u64 {
        self.lock().by_origin.remove(&origin).unwrap_or(0)
    }

    /// Takes those of origins that have no file of their own.
    pub(super) fn take_others(&self, has_file: impl Fn(OriginKey) -> bool) -> Sums {
        let mut all = self.lock();
        let mut others = Sums::new(0);
        others.rest = std::mem::take(&mut all.rest);
        all.by_origin.retain(|origin, frames| {
            let stays = has_file(*origin);
            if !stays {
                others.by_origin.insert(*origin, *frames);
            }
            stays
        });
        others
    }
}

/// Frames a worker has dropped since its last tick.
#[derive(Debug)]
pub(super) struct Dropped {
    run: Option<(OriginKey, u64)>,
    sums: Sums,
    losses: Losses,
}

/// Capacity of a worker's own table.
const BETWEEN_TICKS: usize = 64;

impl Dropped {
    pub(super) fn new(losses: Losses) -> Self {
        Self { run: None, sums: Sums::new(BETWEEN_TICKS), losses }
    }

    /// Memory of one, in bytes.
    pub(super) fn memory() -> usize {
        let places = (BETWEEN_TICKS * 8 / 7 + 1).next_power_of_two();
        places * (size_of::<(OriginKey, u64)>() + 1)
    }

    /// Counts a frame. Frames of one origin come in runs.
    pub(super) fn add(&mut self, origin: OriginKey) {
        match &mut self.run {
            Some((of, frames)) if *of == origin => *frames += 1,
            _ => {
                self.end_run();
                self.run = Some((origin, 1));
            }
        }
    }

    fn end_run(&mut self) {
        if let Some((of, frames)) = self.run.take() {
            if self.sums.by_origin.len() == BETWEEN_TICKS && !self.sums.by_origin.contains_key(&of) {
                self.hand_over();
            }
            self.sums.add(of, frames);
        }
    }

    fn hand_over(&mut self) {
        let mut all = self.losses.lock();
        for (origin, frames) in self.sums.by_origin.drain() {
            all.add(origin, frames);
        }
    }

    /// Adds the sums to the shared losses.
    pub(super) fn deposit(&mut self) {
        if self.run.is_some() || !self.sums.by_origin.is_empty() {
            self.end_run();
            self.hand_over();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(vni: u32) -> OriginKey {
        OriginKey::new([10, 0, 0, 1].into(), vni)
    }

    #[test]
    fn dropped_frames_are_taken_once_and_tables_stay_in_bounds() {
        let losses = Losses::new();
        let mut worker = Dropped::new(losses.clone());
        for vni in 0..10_000 {
            worker.add(key(vni));
            worker.add(key(vni));
        }
        worker.add(key(7));
        worker.deposit();
        assert_eq!(losses.take_of(key(7)), 3);
        let others = losses.take_others(|origin| origin == key(8));
        let named: u64 = others.by_origin().map(|(_, frames)| frames).sum();
        assert_eq!(named + others.rest(), 20_000 - 2 - 2);
        assert_eq!(losses.take().by_origin().collect::<Vec<_>>(), [(key(8), 2)]);
        assert_eq!(losses.take().rest(), 0);
    }
}
