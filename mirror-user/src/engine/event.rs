//! Events of a run.

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
    /// about 2 s when a program is attached. Ingest resumes with the carrier; frames sent meanwhile are not
    /// counted.
    InterfaceNoCarrier {
        /// Its name.
        interface: String,
    },
    /// The interface can receive again.
    InterfaceUp {
        /// Its name.
        interface: String,
    },
    /// The interface was deleted, or moved to another network namespace. No more frames come from it.
    InterfaceDeleted {
        /// Its name.
        interface: String,
        /// Whether the run continues with the others, by [`OnInterfaceLost`](super::OnInterfaceLost).
        goes_on: bool,
    },
    /// An interface has the name of one that was deleted. It is not read until the run is started again.
    InterfaceReturned {
        /// Its name.
        interface: String,
    },
    /// All queues were asked for, and some have no socket, because they were added after the start. Frames on
    /// them pass to the host until the run is started again.
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
    /// For 5 s every packet to a tunnel port was addressed to another host, and passed to the kernel.
    /// Reported once.
    NotLocal {
        /// The interface.
        interface: String,
        /// Such frames so far.
        frames: u64,
    },
    /// A worker panicked; further frames of its queue count as abandoned.
    WorkerDied {
        /// The interface that it read.
        interface: String,
        /// The RX queue that it read.
        queue: u32,
        /// The message of the panic.
        reason: String,
    },
}

impl Event {
    /// Whether this ends the run: it is to be [stopped](super::Running::stop).
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
