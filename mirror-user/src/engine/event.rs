//! What happens to a run from outside.

/// What a running engine reports.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// [`Stopper::stop`](super::Stopper::stop) was called.
    StopRequested,
    /// All frames asked for with [`count`](super::EngineBuilder::count) have been taken.
    CountReached,
    /// The interface was set down; ingest resumes when it is up.
    InterfaceDown {
        /// Its name.
        interface: String,
    },
    /// The interface has no carrier: the other end is down, or its driver resets the link, as igb does for
    /// about 2 s when a program is attached. Ingest resumes with the carrier; what is sent meanwhile is in
    /// nobody's account.
    InterfaceNoCarrier {
        /// Its name.
        interface: String,
    },
    /// The interface can receive again.
    InterfaceUp {
        /// Its name.
        interface: String,
    },
    /// The interface is gone: deleted, or moved to another network namespace. Nothing more will come from it.
    InterfaceDeleted {
        /// Its name.
        interface: String,
        /// Whether the run goes on with the others, by [`OnInterfaceLost`](super::OnInterfaceLost).
        goes_on: bool,
    },
    /// There is an interface again with the name of one that was deleted. It is not read: only a run that
    /// starts anew does.
    InterfaceReturned {
        /// Its name.
        interface: String,
    },
    /// All queues were asked for, and some have no socket: they came after the start. Frames on them pass to
    /// the host. A run that starts anew reads them.
    QueuesUnread {
        /// The interface.
        interface: String,
        /// RX queues it has now.
        queues: u32,
        /// RX queues that are read, from 0 on.
        read: u32,
        /// Frames so far that came by a queue without a socket.
        frames: u64,
    },
    /// For 5 s all that came to a tunnel port was addressed to others, and passed to the host. Reported once.
    NotLocal {
        /// The interface.
        interface: String,
        /// Such frames so far.
        frames: u64,
    },
    /// A worker died; its frames are abandoned from there on.
    WorkerDied {
        /// The interface that it read.
        interface: String,
        /// The RX queue that it read.
        queue: u32,
        /// What it died of.
        reason: String,
    },
}

impl Event {
    /// Whether there is nothing more to wait for: the run is to be [stopped](super::Running::stop).
    #[must_use]
    pub fn ends_run(&self) -> bool {
        match self {
            Self::StopRequested | Self::CountReached | Self::WorkerDied { .. } => true,
            Self::InterfaceDeleted { goes_on, .. } => !goes_on,
            Self::InterfaceDown { .. }
            | Self::InterfaceNoCarrier { .. }
            | Self::InterfaceUp { .. }
            | Self::InterfaceReturned { .. }
            | Self::QueuesUnread { .. }
            | Self::NotLocal { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_interface_ends_the_run_unless_others_go_on() {
        let deleted = |goes_on| Event::InterfaceDeleted { interface: "ens6".to_owned(), goes_on };
        assert!(deleted(false).ends_run());
        assert!(!deleted(true).ends_run());
        assert!(!Event::InterfaceReturned { interface: "ens6".to_owned() }.ends_run());
        assert!(Event::StopRequested.ends_run());
    }
}
