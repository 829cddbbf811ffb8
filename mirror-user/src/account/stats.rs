//! A sink's statistics, and how it ended.

use std::fmt::Display;

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// The most reasons a sink may name for drops, and for failures.
pub const MAX_REASONS: usize = 8;

/// The state of the frames offered to a sink. A literal ends in `..SinkStats::default()`: fields may be
/// added.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SinkStats {
    /// Frames that the sink has delivered.
    pub written: u64,
    /// Frames the sink dropped, by reason.
    pub dropped: Reasons,
    /// Frames lost to an error, by reason.
    pub failed: Reasons,
    /// Frames the sink still holds.
    pub pending: u64,
}

impl SinkStats {
    /// All frames that the sink accounts for.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.written + self.dropped.total() + self.failed.total() + self.pending
    }

    /// Adds other statistics.
    pub fn add(&mut self, other: &Self) {
        let Self { written, dropped, failed, pending } = other;
        self.written += written;
        self.pending += pending;
        dropped.iter().for_each(|(reason, frames)| self.dropped.add(reason, frames));
        failed.iter().for_each(|(reason, frames)| self.failed.add(reason, frames));
    }
}

/// A count for each of a few named reasons, in the order of their first use. Does not allocate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reasons(ArrayVec<(&'static str, u64), MAX_REASONS>);

impl Reasons {
    /// Adds to the count of a reason. Beyond [`MAX_REASONS`] different reasons, the last one takes the rest.
    pub fn add(&mut self, reason: &'static str, frames: u64) {
        if let Some((_, count)) = self.0.iter_mut().find(|(known, _)| *known == reason) {
            *count += frames;
        } else if self.0.try_push((reason, frames)).is_err() {
            self.0[MAX_REASONS - 1].1 += frames;
        }
    }

    /// Sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }
}

/// How a sink ended.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SinkState {
    /// Cleanly; in the report of a run under way, it is running.
    #[default]
    Done,
    /// It has not: its output lacks space, inodes or file descriptors, and is retried.
    Waiting,
    /// Early, with an error; see the reason.
    Ended,
    /// By a panic.
    Failed,
}

/// What keeps a sink from taking frames.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SinkHalt {
    /// The state of the sink: waiting, ended or failed.
    pub state: SinkState,
    /// The cause, and the remedy.
    pub reason: String,
}

impl SinkHalt {
    /// Its output cannot take frames for now.
    pub fn waiting(reason: impl Display) -> Self {
        Self { state: SinkState::Waiting, reason: reason.to_string() }
    }

    /// An error has ended it.
    pub fn ended(reason: impl Display) -> Self {
        Self { state: SinkState::Ended, reason: reason.to_string() }
    }

    /// A panic has ended it.
    pub fn failed(reason: impl Display) -> Self {
        Self { state: SinkState::Failed, reason: reason.to_string() }
    }

    /// Whether it is final.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.state != SinkState::Waiting
    }
}
