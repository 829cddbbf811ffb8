//! The sink of one worker: each frame to the lane of its member.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::{MemberStats, group::Group};
use crate::{
    frame::{Batch, Frame, HeadBuffer},
    sink::{
        Sink, SinkError, SinkStats,
        handoff::{Lane, record},
        origin::OriginKey,
    },
};

/// No member of the group was up.
const NO_MEMBER: &str = "no_member";

pub(super) struct ForwardSink {
    name: Arc<str>,
    lanes: Vec<Lane>,
    group: Arc<Group>,
    no_member: u64,
    /// What others may read of it.
    published: MemberStats,
}

impl ForwardSink {
    pub(super) fn new(name: Arc<str>, lanes: Vec<Lane>, group: Arc<Group>, published: MemberStats) -> Self {
        Self { name, lanes, group, no_member: 0, published }
    }

    fn publish(&self, places: &mut [SinkStats]) {
        places.iter_mut().zip(&self.lanes).for_each(|(place, lane)| *place = lane.stats());
    }

    fn put(lane: &mut Lane, frame: &Frame<'_>) {
        // What does not fit is counted by the lane.
        if let Some(out) = lane.push(record::len(frame)) {
            record::put(frame, out);
        }
    }
}

impl Sink for ForwardSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.lanes.iter_mut().try_for_each(Lane::begin_batch)?;
        if let [lane] = self.lanes.as_mut_slice() {
            for frame in batch {
                Self::put(lane, frame);
            }
            return Ok(());
        }
        let up = self.group.up();
        for frame in batch {
            match self.group.member(up, OriginKey::of(frame), frame.inner().head(&mut HeadBuffer::default()))
            {
                Some(member) => Self::put(&mut self.lanes[member], frame),
                None => self.no_member += 1,
            }
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.tick(now));
        // Where somebody reads just now, the next tick will do.
        if let Ok(mut places) = self.published.try_lock() {
            self.publish(&mut places);
        }
    }

    fn flush(&mut self) {
        self.lanes.iter_mut().for_each(Lane::flush);
    }

    fn stats(&self) -> SinkStats {
        let mut stats = SinkStats::default();
        if self.no_member > 0 {
            stats.dropped.add(NO_MEMBER, self.no_member);
        }
        self.lanes.iter().for_each(|lane| stats.add(&lane.stats()));
        stats
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        // Each comes to its end, whatever the others say.
        let ends: Vec<_> = self.lanes.iter_mut().map(Lane::finish).collect();
        self.publish(&mut self.published.lock().unwrap_or_else(PoisonError::into_inner));
        ends.into_iter().collect()
    }
}
