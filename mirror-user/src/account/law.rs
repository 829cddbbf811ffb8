//! Checking the laws: no term is derived from another.

use std::collections::BTreeMap;

use super::report::{Accounting, Report, SinkReport};

impl Report {
    /// Compares both sides of every law over the terms in the report.
    pub(crate) fn close(&mut self) {
        let mut laws = BTreeMap::new();
        let mut explained = 0;
        let mut seen = 0;
        for interface in &self.interfaces {
            let xdp = &interface.xdp;
            let judged = xdp.passed.total() + xdp.dropped.total();
            laws.insert(
                format!("{}: seen", interface.name),
                difference(xdp.seen, xdp.redirected + xdp.forwarded + judged),
            );
            let received: u64 = interface.queues.iter().map(|queue| queue.received).sum();
            let lost = interface.dropped_by_kernel() + interface.lost_at_restart();
            laws.insert(
                format!("{}: redirected", interface.name),
                difference(xdp.redirected, received + lost),
            );
            let sent = interface.forwarded_explained();
            if interface.forward_path.as_ref().is_some_and(|path| path.path == "kernel") || xdp.forwarded > 0
            {
                laws.insert(format!("{}: forwarded", interface.name), difference(xdp.forwarded, sent));
            }
            seen += xdp.seen;
            explained += judged + lost + sent;
        }
        let frames = &self.frames;
        if !self.files.is_empty() {
            let read: u64 = self.files.iter().map(|file| file.packets).sum();
            laws.insert("files".to_owned(), difference(read, frames.received));
        }
        if self.interfaces.is_empty() {
            seen = frames.received;
        } else {
            let received: u64 = self
                .interfaces
                .iter()
                .flat_map(|interface| &interface.queues)
                .map(|queue| queue.received)
                .sum();
            laws.insert("rings".to_owned(), difference(received, frames.received));
        }
        let sorted =
            frames.decapsulated + frames.rejected.total() + frames.abandoned + frames.fragments_consumed;
        laws.insert("received".to_owned(), difference(frames.received, sorted));
        explained += sorted;
        for (position, sink) in self.sinks.iter().enumerate() {
            let SinkReport { name, absent, deselected, offered, written, dropped, failed, pending, .. } =
                sink;
            let key = |law| format!("sink {position} {name}: {law}");
            laws.insert(key("decapsulated"), difference(frames.decapsulated, absent + deselected + offered));
            let kept = written + dropped.values().sum::<u64>() + failed.values().sum::<u64>() + pending;
            laws.insert(key("offered"), difference(*offered, kept));
        }
        let residue = laws.values().map(|left: &i64| left.unsigned_abs()).sum();
        self.accounting = Accounting { seen, explained, residue, laws };
    }
}

/// Left minus right; counts of frames stay far below 2^63.
fn difference(left: u64, right: u64) -> i64 {
    left.wrapping_sub(right).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::super::{
        NotSent,
        report::{FileReport, ForwardPathReport, ForwardTargetReport, InterfaceReport, QueueReport},
    };
    use super::*;

    /// 100 seen: 10 passed, 5 refused, 85 redirected; of these 3 dropped, 2 ring full, 80 received; 70
    /// decapsulated, two of them reassembled from two fragments each, and 3 fragments of a datagram that
    /// failed.
    fn balanced() -> Report {
        let mut report = Report::new("af_xdp", std::time::SystemTime::UNIX_EPOCH);
        let mut interface = InterfaceReport { name: "ens5".into(), ..InterfaceReport::default() };
        interface.xdp.seen = 100;
        interface.xdp.redirected = 85;
        interface.xdp.redirect_failed = Some(0);
        interface.xdp.passed.not_tunnel = 10;
        interface.xdp.dropped.vni = 5;
        interface.queues =
            vec![QueueReport { received: 80, rx_dropped: 3, rx_ring_full: 2, ..QueueReport::default() }];
        report.interfaces.push(interface);
        report.frames.received = 80;
        report.frames.decapsulated = 70;
        report.frames.fragments_consumed = 2;
        report.frames.reassembled = 2;
        report.frames.rejected.short = 5;
        report.frames.rejected.overlap = 3;
        report.sinks.push(SinkReport {
            name: "pcap".into(),
            absent: 2,
            deselected: 3,
            offered: 65,
            written: 55,
            dropped: [("no_block".into(), 10)].into(),
            ..SinkReport::default()
        });
        report
    }

    #[test]
    fn balanced_accounts_leave_no_residue() {
        let mut report = balanced();
        report.close();
        assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
        assert_eq!((report.accounting.seen, report.accounting.explained), (100, 100));
    }

    #[test]
    fn a_miscount_of_any_term_shows() {
        let miscounts: [fn(&mut Report); 18] = [
            |r| r.interfaces[0].xdp.seen += 1,
            |r| r.interfaces[0].xdp.redirected -= 1,
            |r| r.interfaces[0].xdp.redirect_failed = Some(1),
            |r| r.interfaces[0].xdp.passed.fragment += 1,
            |r| r.interfaces[0].xdp.dropped.source += 1,
            |r| r.interfaces[0].queues[0].rx_ring_full += 1,
            |r| r.interfaces[0].queues[0].received -= 1,
            |r| r.frames.received += 1,
            |r| r.frames.abandoned += 1,
            |r| r.frames.decapsulated -= 1,
            |r| r.frames.fragments_consumed += 1,
            |r| r.frames.rejected.fragment_timeout += 1,
            |r| r.frames.rejected.overlap -= 1,
            |r| r.frames.rejected.ambiguous += 1,
            |r| r.frames.rejected.table_full += 1,
            |r| r.sinks[0].absent -= 1,
            |r| r.sinks[0].deselected += 1,
            |r| r.sinks[0].pending += 1,
        ];
        for (number, miscount) in miscounts.into_iter().enumerate() {
            let mut report = balanced();
            miscount(&mut report);
            report.close();
            assert_ne!(report.accounting.residue, 0, "miscount {number} went unseen");
        }
    }

    /// The same, and 30 forwarded: 20 sent, 10 not; and 5 without a target.
    fn forwarded() -> Report {
        let mut report = balanced();
        let interface = &mut report.interfaces[0];
        interface.xdp.seen += 35;
        interface.xdp.forwarded = 30;
        interface.xdp.dropped.no_target = 5;
        interface.forward_path = Some(ForwardPathReport {
            path: "kernel".into(),
            targets: vec![
                target(15, NotSent { down: 4, no_program: 3, ..NotSent::default() }),
                target(5, NotSent { too_large: 2, refused: 1, ..NotSent::default() }),
            ],
            ..ForwardPathReport::default()
        });
        report
    }

    fn target(sent: u64, not_sent: NotSent) -> ForwardTargetReport {
        ForwardTargetReport { name: "dev:out".into(), sent: Some(sent), not_sent: Some(not_sent) }
    }

    #[test]
    fn forwarded_frames_are_explained_by_what_became_of_them() {
        let mut report = forwarded();
        report.close();
        assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
        assert_eq!((report.accounting.seen, report.accounting.explained), (135, 135));
        let miscounts: [fn(&mut InterfaceReport); 4] = [
            |i| i.xdp.forwarded += 1,
            |i| i.xdp.dropped.no_target -= 1,
            |i| i.forward_path.as_mut().unwrap().targets[1].sent = Some(4),
            |i| i.forward_path.as_mut().unwrap().targets[0].not_sent.as_mut().unwrap().other = 1,
        ];
        for (number, miscount) in miscounts.into_iter().enumerate() {
            let mut report = forwarded();
            miscount(&mut report.interfaces[0]);
            report.close();
            assert_ne!(report.accounting.residue, 0, "miscount {number} went unseen");
        }
    }

    #[test]
    fn forwarded_frames_of_which_the_kernel_says_nothing_are_residue() {
        let mut report = forwarded();
        let path = report.interfaces[0].forward_path.as_mut().unwrap();
        path.targets.iter_mut().for_each(|target| (target.sent, target.not_sent) = (None, None));
        report.close();
        assert_eq!(report.accounting.residue, 30, "{:?}", report.accounting);
    }

    #[test]
    fn completed_datagrams_are_not_frames_received() {
        let mut report = balanced();
        report.frames.reassembled += 7;
        report.close();
        assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
    }

    #[test]
    fn opposite_errors_do_not_cancel_out() {
        let mut report = balanced();
        report.interfaces[0].xdp.seen += 1;
        report.frames.received += 1;
        report.close();
        assert!(report.accounting.residue >= 2, "{:?}", report.accounting);
    }

    #[test]
    fn a_redirect_failure_the_kernel_could_not_attribute_is_left_as_residue() {
        let mut report = balanced();
        report.interfaces[0].xdp.redirect_failed = None;
        report.interfaces[0].xdp.redirected += 1;
        report.interfaces[0].xdp.passed.not_tunnel -= 1;
        report.close();
        assert_eq!(report.accounting.residue, 1, "{:?}", report.accounting);
    }

    #[test]
    fn frames_read_from_files_are_seen() {
        let mut report = balanced();
        report.interfaces.clear();
        report.files = vec![FileReport { packets: 80, ..FileReport::default() }];
        report.close();
        assert_eq!((report.accounting.seen, report.accounting.residue), (80, 0));
        report.files[0].packets += 1;
        report.close();
        assert_eq!(report.accounting.residue, 1, "a packet that was read and not received");
    }
}
