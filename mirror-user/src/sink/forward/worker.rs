//! The sink of one worker: passes each frame to the block writer of its member.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::group::Group;
use crate::{
    frame::{Batch, Frame, HeadBuffer},
    sink::{
        Sink, SinkError, SinkStats,
        handoff::{BlockWriter, record},
        members::MemberStats,
        origin::OriginKey,
    },
};

/// No member of the group was up.
const NO_MEMBER: &str = "no_member";

pub(super) struct ForwardSink {
    writers: Vec<BlockWriter>,
    group: Arc<Group>,
    no_member: u64,
    /// Counts that other threads read.
    published: MemberStats,
}

impl ForwardSink {
    pub(super) fn new(writers: Vec<BlockWriter>, group: Arc<Group>, published: MemberStats) -> Self {
        Self { writers, group, no_member: 0, published }
    }

    fn publish(&self, places: &mut [SinkStats]) {
        places.iter_mut().zip(&self.writers).for_each(|(place, writer)| *place = writer.stats());
    }

    fn put(writer: &mut BlockWriter, frame: &Frame<'_>) {
        // The writer counts frames that do not fit.
        if let Some(out) = writer.push(record::len(frame)) {
            record::put(frame, out);
        }
    }
}

impl Sink for ForwardSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.writers.iter_mut().try_for_each(BlockWriter::begin_batch)?;
        if let [writer] = self.writers.as_mut_slice() {
            for frame in batch {
                Self::put(writer, frame);
            }
            return Ok(());
        }
        for frame in batch {
            match self.group.member(|| OriginKey::of(frame), frame.inner().head(&mut HeadBuffer::default())) {
                Some(member) => Self::put(&mut self.writers[member], frame),
                None => self.no_member += 1,
            }
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        self.writers.iter_mut().for_each(|writer| writer.tick(now));
        // If a reader holds the lock, the next tick publishes.
        if let Ok(mut places) = self.published.try_lock() {
            self.publish(&mut places);
        }
    }

    fn is_behind(&self) -> bool {
        self.writers.iter().any(BlockWriter::is_behind)
    }

    fn leave(&mut self) -> bool {
        // Each of them, also after one that has not.
        let waiting = self.writers.iter_mut().filter_map(|writer| (!writer.leave()).then_some(())).count();
        waiting == 0
    }

    fn flush(&mut self) {
        self.writers.iter_mut().for_each(BlockWriter::flush);
    }

    fn stats(&self) -> SinkStats {
        let mut stats = SinkStats::default();
        if self.no_member > 0 {
            stats.dropped.add(NO_MEMBER, self.no_member);
        }
        self.writers.iter().for_each(|writer| stats.add(&writer.stats()));
        stats
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        // All are finished, also after an error of one.
        let ends: Vec<_> = self.writers.iter_mut().map(BlockWriter::finish).collect();
        self.publish(&mut self.published.lock().unwrap_or_else(PoisonError::into_inner));
        ends.into_iter().collect()
    }
}
