//! The account of a process that was killed.

use std::time::Duration;

use super::report::{Report, Restarts, SinkReport};

/// The reason for which frames failed that a sink held when its process was killed.
const PROCESS_ENDED: &str = "process_ended";

impl Report {
    /// Closes the account that was left last by a process that was killed: what workers and sinks held then
    /// is lost. `queues` has how many frames each worker has taken after that account; `gone` is the time
    /// until another process took frames.
    pub(crate) fn end_abruptly<'a>(
        &mut self,
        queues: impl IntoIterator<Item = (&'a str, u32, u64)>,
        gone: Duration,
    ) {
        let mut lost_frames = 0;
        for (interface, queue, lost) in queues {
            let interface = self.interfaces.iter_mut().find(|other| other.name == interface);
            let queues = interface.into_iter().flat_map(|interface| &mut interface.queues);
            for of_queue in queues.filter(|other| other.queue == queue) {
                of_queue.lost_at_restart += lost;
                lost_frames += lost;
            }
        }
        self.restarts = Restarts { count: 1, longest_s: gone.as_secs_f64(), lost_frames };
        let frames = &mut self.frames;
        let sorted =
            frames.decapsulated + frames.rejected.total() + frames.abandoned + frames.fragments_consumed;
        // Fragments that waited for others.
        frames.rejected.fragment_timeout += frames.received.saturating_sub(sorted);
        self.sinks.iter_mut().for_each(SinkReport::end_abruptly);
    }
}

impl SinkReport {
    fn end_abruptly(&mut self) {
        let lost = self.dropped.values().sum::<u64>() + self.failed.values().sum::<u64>();
        // A writer may have written what its worker had not yet counted: that is lost with the worker's
        // count.
        self.written = self.written.min(self.offered.saturating_sub(lost));
        let held = self.offered.saturating_sub(self.written + lost);
        if held > 0 {
            *self.failed.entry(PROCESS_ENDED.into()).or_default() += held;
        }
        self.pending = 0;
        self.members.iter_mut().for_each(|member| member.pending = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{InterfaceReport, QueueReport};
    use super::*;

    fn left() -> Report {
        let mut report = Report::new("af_xdp", std::time::SystemTime::UNIX_EPOCH);
        let mut interface = InterfaceReport { name: "ens5".into(), ..InterfaceReport::default() };
        (interface.xdp.seen, interface.xdp.redirected) = (100, 100);
        let queue = |queue, received| QueueReport { queue, received, ..QueueReport::default() };
        interface.queues = vec![queue(0, 50), queue(1, 30)];
        report.interfaces.push(interface);
        (report.frames.received, report.frames.decapsulated) = (80, 77);
        report
    }

    fn sink(offered: u64, written: u64, pending: u64) -> SinkReport {
        SinkReport { name: "pcap".into(), offered, written, pending, ..SinkReport::default() }
    }

    #[test]
    fn the_laws_hold_with_what_was_held_and_what_was_taken_after_the_account() {
        let mut report = left();
        // One whose writer is behind its worker's count, and one whose writer is before it.
        report.sinks = vec![sink(77, 60, 10), sink(77, 80, 0)];
        report
            .end_abruptly([("ens5", 0, 13), ("ens5", 1, 7), ("ens6", 0, 1000)], Duration::from_millis(1500));
        report.close();
        assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
        let Restarts { count, longest_s, lost_frames } = report.restarts;
        assert_eq!((count, lost_frames), (1, 20));
        assert!((longest_s - 1.5).abs() < 1e-9);
        assert_eq!(report.frames.rejected.fragment_timeout, 3);
        assert_eq!(report.sinks[0].failed["process_ended"], 17);
        assert_eq!((report.sinks[1].written, report.sinks[1].failed.len()), (77, 0));
    }

    #[test]
    fn a_miscount_of_what_was_taken_shows() {
        let mut report = left();
        report.end_abruptly([("ens5", 0, 12), ("ens5", 1, 7)], Duration::ZERO);
        report.close();
        assert_eq!(report.accounting.residue, 1, "{:?}", report.accounting);
    }
}
