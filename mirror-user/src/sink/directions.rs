//! Frames by direction, as the sources of their sessions saw them.

use std::{collections::HashMap, hash::BuildHasher};

use super::origin::OriginKey;
use crate::{
    account::Directions,
    frame::{Batch, HeadBuffer},
    mirroring::{Direction, SessionTable},
};

/// Frames of an origin whose direction is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    ingress: u64,
    egress: u64,
}

impl Seen {
    pub(super) fn add(&mut self, more: Self) {
        self.ingress += more.ingress;
        self.egress += more.egress;
    }

    /// Takes these out of frames of which no direction is known.
    pub(super) fn among(self, all: Directions) -> Directions {
        let Self { ingress, egress } = self;
        Directions { ingress, egress, unknown: all.unknown.saturating_sub(ingress + egress) }
    }
}

/// Counts the frames of a batch that are of one of these sessions.
pub(super) fn count<H: BuildHasher>(
    sessions: &SessionTable,
    batch: &Batch<'_>,
    counts: &mut HashMap<OriginKey, Seen, H>,
) {
    let mut end_run = |origin: OriginKey, run: Seen| {
        if run.ingress + run.egress > 0 {
            counts.entry(origin).or_default().add(run);
        }
    };
    // Frames of one origin come in runs: one session is looked up per run.
    let (mut origin, mut session, mut run) = (OriginKey::default(), None, Seen::default());
    for frame in batch {
        if let Some(another) = origin.another(frame) {
            end_run(origin, run);
            session = sessions.session_of(another.vni(), another.source());
            (origin, run) = (another, Seen::default());
        }
        let Some(session) = session else { continue };
        match session.direction(frame.inner().head(&mut HeadBuffer::default())) {
            Some(Direction::Ingress) => run.ingress += 1,
            Some(Direction::Egress) => run.egress += 1,
            None => {}
        }
    }
    end_run(origin, run);
}
