//! Queues without a socket: those that a driver or `ethtool -L` adds during a run.

use std::time::{Duration, Instant};

use super::Event;

/// Between two reports of the same loss.
const PAUSE: Duration = Duration::from_secs(10);

/// What is known of an interface's queues while it is read.
#[derive(Debug)]
pub(super) struct QueueWatch {
    /// Whether all of them were asked for: otherwise a queue without a socket is the user's choice.
    wants_all: bool,
    /// RX queues when the sockets were made.
    read: u32,
    /// RX queues at the last check.
    seen: u32,
    /// Frames without a socket before there was any.
    at_start: u64,
    /// Frames without a socket when those there were were taken away, for another process to open its own.
    withdrawn: Option<u64>,
    /// Frames without a socket at the last report.
    reported: u64,
    next_report: Option<Instant>,
}

impl QueueWatch {
    pub(super) fn new(wants_all: bool) -> Self {
        Self { wants_all, read: 0, seen: 0, at_start: 0, withdrawn: None, reported: 0, next_report: None }
    }

    /// Each of the `read` queues has its socket. Frames without one until now are no loss.
    pub(super) fn begin(&mut self, no_socket: u64, read: u32) {
        (self.read, self.seen) = (read, read);
        self.at_start = no_socket;
        self.reported = no_socket;
    }

    /// Frames that passed to the host before the sockets were there.
    pub(super) fn at_start(&self) -> u64 {
        self.at_start
    }

    /// The sockets are about to be closed, after so many frames without one.
    pub(super) fn withdraw(&mut self, no_socket: u64) {
        self.withdrawn.get_or_insert(no_socket);
    }

    /// Of so many frames without a socket, those since then; `None` before.
    pub(super) fn since_withdrawn(&self, no_socket: u64) -> Option<u64> {
        Some(no_socket.saturating_sub(self.withdrawn?))
    }

    /// The event to report for this many frames without a socket so far and RX queues now.
    pub(super) fn check(&mut self, interface: &str, no_socket: u64, queues: u32) -> Option<Event> {
        if !self.wants_all || self.withdrawn.is_some() {
            return None;
        }
        let changed = std::mem::replace(&mut self.seen, queues) != queues;
        let now = Instant::now();
        let lost = no_socket > self.reported && self.next_report.is_none_or(|next| now >= next);
        let differs = changed && queues != self.read;
        if !lost && !differs {
            return None;
        }
        if lost {
            self.reported = no_socket;
            self.next_report = Some(now + PAUSE);
        }
        Some(Event::QueuesUnread {
            interface: interface.to_owned(),
            queues,
            read: self.read,
            frames: no_socket.saturating_sub(self.at_start),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(queues: u32, frames: u64) -> Option<Event> {
        Some(Event::QueuesUnread { interface: "ens5".to_owned(), queues, read: 2, frames })
    }

    fn watch(wants_all: bool) -> QueueWatch {
        let mut watch = QueueWatch::new(wants_all);
        watch.begin(7, 2);
        watch
    }

    #[test]
    fn frames_before_the_sockets_are_no_loss() {
        assert_eq!(watch(true).check("ens5", 7, 2), None);
    }

    #[test]
    fn frames_without_a_socket_are_reported_once_per_pause() {
        let mut watch = watch(true);
        assert_eq!(watch.check("ens5", 10, 2), event(2, 3));
        assert_eq!(watch.check("ens5", 20, 2), None);
        watch.next_report = None;
        assert_eq!(watch.check("ens5", 20, 2), event(2, 13));
    }

    #[test]
    fn queues_that_come_later_are_reported_once_before_any_frame_is_lost() {
        let mut watch = watch(true);
        assert_eq!(watch.check("ens5", 7, 4), event(4, 0));
        assert_eq!(watch.check("ens5", 7, 4), None);
        assert_eq!(watch.check("ens5", 7, 2), None);
    }

    #[test]
    fn frames_after_the_sockets_were_withdrawn_are_told_apart() {
        let mut watch = watch(true);
        assert_eq!(watch.since_withdrawn(9), None);
        watch.withdraw(9);
        watch.withdraw(20);
        assert_eq!((watch.since_withdrawn(12), watch.check("ens5", 12, 2)), (Some(3), None));
    }

    #[test]
    fn unread_queues_are_no_loss_where_a_list_was_chosen() {
        assert_eq!(watch(false).check("ens5", 1_000, 8), None);
    }
}
