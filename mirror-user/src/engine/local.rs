//! Whether tunnel packets are addressed to this interface. If none is, that is reported.

use std::time::{Duration, Instant};

use super::Event;

/// After how long without a packet for the interface that is reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the destinations of tunnel packets, by the XDP program's counters.
#[derive(Debug, Default)]
pub(super) struct LocalWatch {
    not_local: u64,
    others: u64,
    /// When the first one came since the last local packet.
    since: Option<Instant>,
    reported: bool,
}

impl LocalWatch {
    /// The event to report, once, for these counts of tunnel packets: `not_local` for other addresses,
    /// `others` for the interface.
    pub(super) fn check(
        &mut self,
        interface: &str,
        not_local: u64,
        others: u64,
        now: Instant,
    ) -> Option<Event> {
        let grown = not_local > self.not_local;
        if others > self.others {
            self.since = None;
        } else if grown && self.since.is_none() {
            self.since = Some(now);
        }
        (self.not_local, self.others) = (not_local, others);
        let is_due = grown && self.since.is_some_and(|since| now.duration_since(since) >= PATIENCE);
        if !is_due || self.reported {
            return None;
        }
        self.reported = true;
        Some(Event::NotLocal { interface: interface.to_owned(), frames: not_local })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_reported_once_when_all_of_five_seconds_was_for_others() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut watch = LocalWatch::default();
        assert_eq!(watch.check("ens5", 0, 0, at(0)), None);
        assert_eq!(watch.check("ens5", 0, 0, at(20)), None, "nothing came");
        assert_eq!(watch.check("ens5", 10, 0, at(21)), None);
        assert_eq!(watch.check("ens5", 20, 1, at(24)), None, "one was local");
        assert_eq!(watch.check("ens5", 30, 1, at(25)), None);
        assert_eq!(watch.check("ens5", 40, 1, at(29)), None, "after 4 s");
        assert_eq!(watch.check("ens5", 40, 1, at(31)), None, "nothing more came");
        let event = Some(Event::NotLocal { interface: "ens5".to_owned(), frames: 50 });
        assert_eq!(watch.check("ens5", 50, 1, at(32)), event);
        assert_eq!(watch.check("ens5", 60, 1, at(40)), None, "once");
    }
}
