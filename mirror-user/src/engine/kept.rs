//! The account of a run whose process was killed, and whose sockets were kept.
//!
//! A process that may be killed at any moment leaves an account now and then. What its workers took after the
//! last one is known by number only, from the indices of the RX rings: it is lost, as far as anybody knows.
//! Frames that were in the rings are taken by the next process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    account::{Report, Restarts, XdpReport},
    host::clock::monotonic,
};

/// The account of a process as it stands, for the one that goes on with its sockets if it is killed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeptAccount {
    /// When, CLOCK_MONOTONIC in ns: that of the host.
    at: u64,
    /// Of this process alone.
    own: Report,
    /// Of those before it.
    before: Option<Report>,
    queues: Vec<Position>,
}

/// Up to where the RX ring of a queue was read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Position {
    pub(super) interface: String,
    pub(super) queue: u32,
    pub(super) position: u32,
}

/// That account, continued.
#[derive(Debug)]
pub(super) struct Recovered {
    own: Report,
    before: Option<Report>,
}

impl KeptAccount {
    pub(super) fn new(own: Report, before: Option<Report>, queues: Vec<Position>) -> Self {
        Self { at: monotonic(), own, before, queues }
    }

    /// When it was made, CLOCK_MONOTONIC of the host in ns.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Ends it, where workers begin at these positions.
    pub(super) fn recover(self, begun: &[Position]) -> Recovered {
        let Self { at, mut own, before, queues } = self;
        let gone = Duration::from_nanos(monotonic().saturating_sub(at));
        own.end_abruptly(queues.iter().filter_map(|there| there.taken_until(begun)), gone);
        Recovered { own, before }
    }
}

impl Position {
    /// How many frames were taken from the ring after it, until a worker began at one of these: interface,
    /// queue, number.
    fn taken_until(&self, begun: &[Self]) -> Option<(&str, u32, u64)> {
        let Self { interface, queue, position } = self;
        let here = begun.iter().find(|other| (&other.interface, other.queue) == (interface, *queue))?;
        // Each frame has one descriptor.
        Some((interface, *queue, here.position.wrapping_sub(*position).into()))
    }
}

impl Recovered {
    /// What the program of an interface has counted in all.
    pub(super) fn set_program(&mut self, interface: &str, counted: XdpReport) {
        if let Some(interface) = self.own.interfaces.iter_mut().find(|other| other.name == interface) {
            let XdpReport { redirect_failed, no_socket_at_start, no_socket_at_upgrade, .. } = interface.xdp;
            interface.xdp =
                XdpReport { redirect_failed, no_socket_at_start, no_socket_at_upgrade, ..counted };
        }
    }

    /// How it ended.
    pub(super) fn restarts(&self) -> Restarts {
        self.own.restarts
    }

    /// With those before it.
    pub(super) fn report(&self) -> Report {
        let mut report = self.own.clone();
        self.before.iter().for_each(|before| report.follow(before));
        report
    }
}
