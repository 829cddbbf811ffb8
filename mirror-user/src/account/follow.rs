//! The account of a run that several processes have in turn: each adds what those before it have counted.

use std::{collections::HashMap, mem};

use super::report::{
    Directions, ForwardPathReport, InterfaceReport, Losses, MemberReport, Origin, QueueReport, ReaderReport,
    Report, Restarts, SinkReport, Upgrades, XdpReport,
};
use super::stats::SinkState;
use crate::sink::Counters;

impl Report {
    /// Adds the account of the process that had the run before. This one's is of what it took itself; its
    /// times and the interfaces' own counters are those of the run already.
    ///
    /// Quantiles of the latency cannot be added: they stay those of this process.
    pub fn follow(&mut self, before: &Self) {
        let (own, theirs) = (self.frames.decapsulated, before.frames.decapsulated);
        let mut sinks = mem::take(&mut self.sinks);
        for sink in &mut sinks {
            match before.sinks.iter().find(|other| other.name == sink.name) {
                Some(other) => sink.follow(other),
                None => sink.absent += theirs,
            }
        }
        let is_gone = |other: &&SinkReport| !sinks.iter().any(|sink| sink.name == other.name);
        let gone = before.sinks.iter().filter(is_gone);
        let gone = gone.map(|sink| SinkReport { removed: true, absent: sink.absent + own, ..sink.clone() });
        let gone: Vec<_> = gone.collect();
        sinks.extend(gone);
        let ended = before
            .sinks
            .iter()
            .filter(|sink| matches!(sink.state, SinkState::Ended | SinkState::Failed))
            .map(|sink| {
                let reason = sink.reason.as_deref().unwrap_or("it ended early");
                format!("sink {}, before an upgrade: {reason}", sink.name)
            });
        let warnings: Vec<_> = before.warnings.iter().cloned().chain(ended).collect();
        let own_warnings = mem::take(&mut self.warnings);
        self.warnings = own_warnings.iter().filter(|one| !warnings.contains(one)).cloned().collect();
        self.warnings.splice(..0, warnings);
        self.sinks = sinks;
        let mut interfaces = mem::take(&mut self.interfaces);
        add(&mut interfaces, &before.interfaces, |one| &one.name, InterfaceReport::follow);
        self.interfaces = interfaces;
        self.frames.add(&before.frames);
        self.follow_origins(before);
        let Upgrades { count, longest_pause_ns, cold, cold_s, cold_frames } = &mut self.upgrades;
        *count += before.upgrades.count;
        *longest_pause_ns = before.upgrades.longest_pause_ns.max(*longest_pause_ns);
        *cold += before.upgrades.cold;
        *cold_s += before.upgrades.cold_s;
        *cold_frames += before.upgrades.cold_frames;
        let Restarts { count, longest_s, lost_frames } = &mut self.restarts;
        *count += before.restarts.count;
        *longest_s = before.restarts.longest_s.max(*longest_s);
        *lost_frames += before.restarts.lost_frames;
    }

    /// The most origins are those of one process: the others are counted together.
    fn follow_origins(&mut self, before: &Self) {
        let key = |origin: &Origin| (origin.source, origin.vni, origin.endpoint);
        if let (Some(own), Some(others)) = (&mut self.sessions, &before.sessions) {
            for session in own {
                let other = others.iter().find(|other| other.id == session.id);
                session.frames += other.map_or(0, |other| other.frames);
            }
        }
        let mut known: HashMap<_, Origin> =
            before.origins.iter().map(|origin| (key(origin), origin.clone())).collect();
        for origin in mem::take(&mut self.origins) {
            match known.get_mut(&key(&origin)) {
                Some(sum) => {
                    let before = sum.clone();
                    // What is known of the session is what this process knows.
                    *sum = Origin {
                        encapsulation: before.encapsulation,
                        attachment: before.attachment,
                        frames: origin.frames + before.frames,
                        inner_bytes: origin.inner_bytes + before.inner_bytes,
                        at_least: origin.at_least || before.at_least,
                        directions: origin.directions.map(|directions| directions.after(&before)),
                        ..origin
                    };
                }
                None => drop(known.insert(key(&origin), origin)),
            }
        }
        let mut origins: Vec<_> = known.into_values().collect();
        origins.sort_by(|a, b| b.frames.cmp(&a.frames).then_with(|| key(a).cmp(&key(b))));
        let rest = origins.split_off(origins.len().min(Counters::DEFAULT_MAX_ORIGINS));
        self.origins = origins;
        let other = &mut self.origins_other;
        other.origins = other.origins.max(before.origins_other.origins).max(rest.len() as u64);
        for (frames, inner_bytes) in rest
            .iter()
            .map(|origin| (origin.frames, origin.inner_bytes))
            .chain([(before.origins_other.frames, before.origins_other.inner_bytes)])
        {
            other.frames += frames;
            other.inner_bytes += inner_bytes;
        }
    }
}

impl Directions {
    /// With those that another process has counted of this origin, if it knew directions.
    fn after(self, before: &Origin) -> Self {
        let unknown = Self { unknown: before.frames, ..Self::default() };
        let before = before.directions.unwrap_or(unknown);
        Self {
            ingress: self.ingress + before.ingress,
            egress: self.egress + before.egress,
            unknown: self.unknown + before.unknown,
        }
    }
}

/// Adds entries to those of the same key, and those without one behind them.
fn add<T: Clone, K: PartialEq + ?Sized>(
    entries: &mut Vec<T>,
    others: &[T],
    key: impl Fn(&T) -> &K,
    add: impl Fn(&mut T, &T),
) {
    for other in others {
        match entries.iter_mut().find(|entry| key(entry) == key(other)) {
            Some(entry) => add(entry, other),
            None => entries.push(other.clone()),
        }
    }
}

fn add_losses(losses: &mut Losses, others: &Losses) {
    for (reason, frames) in others {
        *losses.entry(reason.clone()).or_default() += frames;
    }
}

/// The sum, if both are known.
fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one? + other?)
}

impl SinkReport {
    fn follow(&mut self, before: &Self) {
        self.absent += before.absent;
        self.deselected += before.deselected;
        self.offered += before.offered;
        self.written += before.written;
        self.pending += before.pending;
        self.vlans_given_up += before.vlans_given_up;
        add_losses(&mut self.dropped, &before.dropped);
        add_losses(&mut self.failed, &before.failed);
        add(&mut self.members, &before.members, |member| &member.target, MemberReport::follow);
    }
}

impl MemberReport {
    fn follow(&mut self, before: &Self) {
        self.written += before.written;
        self.pending += before.pending;
        add_losses(&mut self.dropped, &before.dropped);
        add_losses(&mut self.failed, &before.failed);
        self.readers = match (self.readers, before.readers) {
            (Some(own), Some(other)) => Some(ReaderReport {
                came: own.came + other.came,
                disconnected: own.disconnected + other.disconnected,
            }),
            (own, other) => own.or(other),
        };
    }
}

impl InterfaceReport {
    fn follow(&mut self, before: &Self) {
        self.unstamped += before.unstamped;
        self.xdp.follow(&before.xdp);
        match (&mut self.forward_path, &before.forward_path) {
            (Some(path), Some(other)) => path.follow(other),
            (None, Some(other)) => self.forward_path = Some(other.clone()),
            (_, None) => {}
        }
        add(&mut self.queues, &before.queues, |queue| &queue.queue, QueueReport::follow);
    }
}

impl XdpReport {
    fn follow(&mut self, before: &Self) {
        let Self {
            seen,
            redirected,
            redirect_failed,
            passed,
            no_socket_at_start,
            no_socket_at_upgrade,
            dropped,
            forwarded,
            forwarded_outer_bytes,
            forwarded_inner_bytes,
        } = self;
        *seen += before.seen;
        *redirected += before.redirected;
        *redirect_failed = sum(*redirect_failed, before.redirect_failed);
        passed.add(&before.passed);
        *no_socket_at_start += before.no_socket_at_start;
        *no_socket_at_upgrade += before.no_socket_at_upgrade;
        dropped.add(&before.dropped);
        *forwarded += before.forwarded;
        *forwarded_outer_bytes += before.forwarded_outer_bytes;
        *forwarded_inner_bytes += before.forwarded_inner_bytes;
    }
}

impl ForwardPathReport {
    fn follow(&mut self, before: &Self) {
        add(
            &mut self.targets,
            &before.targets,
            |target| &target.name,
            |target, before| {
                target.sent = sum(target.sent, before.sent);
                target.not_sent =
                    target.not_sent.take().zip(before.not_sent.as_ref()).map(|(mut own, other)| {
                        own.add(other);
                        own
                    });
            },
        );
    }
}

impl QueueReport {
    fn follow(&mut self, before: &Self) {
        #[expect(clippy::cast_precision_loss, reason = "ratios for people")]
        let busy_ns = |queue: &Self| queue.busy_ns_per_frame * queue.received as f64;
        let busy = busy_ns(self) + busy_ns(before);
        self.received += before.received;
        if self.received > 0 {
            #[expect(clippy::cast_precision_loss, reason = "ratios for people")]
            let received = self.received as f64;
            self.busy_ns_per_frame = busy / received;
        }
        self.rx_dropped += before.rx_dropped;
        self.rx_ring_full += before.rx_ring_full;
        self.rx_invalid_descs += before.rx_invalid_descs;
        self.fill_ring_empty += before.fill_ring_empty;
        self.oversize = sum(self.oversize, before.oversize);
        self.saturated += before.saturated;
        self.lost_at_restart += before.lost_at_restart;
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::SystemTime};

    use super::*;
    use crate::account::SessionReport;

    /// 100 seen: 90 redirected, 10 passed; of the redirected all are received, unless some wait in the ring.
    fn part(waiting: u64, from_before: u64, sinks: &[&str]) -> Report {
        let mut report = Report::new("af_xdp", SystemTime::UNIX_EPOCH);
        let mut interface = InterfaceReport { name: "ens6".into(), ..InterfaceReport::default() };
        interface.xdp.seen = 100;
        interface.xdp.redirected = 90;
        interface.xdp.redirect_failed = Some(0);
        interface.xdp.passed.not_tunnel = 10;
        let received = 90 - waiting + from_before;
        let (busy_ns_per_frame, oversize) = (10.0, Some(0));
        interface.queues =
            vec![QueueReport { received, busy_ns_per_frame, oversize, ..QueueReport::default() }];
        report.interfaces.push(interface);
        report.frames.received = received;
        report.frames.decapsulated = received;
        for sink in sinks {
            let (offered, written) = (received, received - 1);
            let dropped = [("no_block".into(), 1)].into();
            let name = (*sink).to_owned();
            report.sinks.push(SinkReport { name, offered, written, dropped, ..SinkReport::default() });
        }
        report.origins.push(Origin::new(Ipv4Addr::LOCALHOST.into(), 7, received, 60 * received));
        report
    }

    #[test]
    fn the_laws_hold_for_two_processes_together_and_not_for_each() {
        let (mut first, mut second) = (part(5, 0, &["a"]), part(0, 5, &["a"]));
        first.close();
        second.close();
        assert_eq!((first.accounting.residue, second.accounting.residue), (5, 5));
        second.follow(&first);
        second.close();
        assert_eq!(second.accounting.residue, 0, "{:?}", second.accounting);
        let [interface] = &second.interfaces[..] else { panic!("one interface") };
        assert_eq!((interface.xdp.seen, interface.queues[0].received), (200, 180));
        assert!((interface.queues[0].busy_ns_per_frame - 10.0).abs() < 1e-9);
        assert_eq!((second.origins.len(), second.origins[0].frames), (1, 180));
        assert_eq!((second.sinks[0].written, second.sinks[0].dropped["no_block"]), (178, 2));
    }

    #[test]
    fn sinks_that_only_one_of_them_had_were_absent_from_the_other() {
        let first = part(0, 0, &["a", "old"]);
        let mut second = part(0, 0, &["new", "a"]);
        second.follow(&first);
        second.close();
        assert_eq!(second.accounting.residue, 0, "{:?}", second.accounting);
        let of = |name: &str| second.sinks.iter().find(|sink| sink.name == name).unwrap();
        assert_eq!((of("a").absent, of("new").absent, of("old").absent), (0, 90, 90));
        assert_eq!((of("a").removed, of("new").removed, of("old").removed), (false, false, true));
        // And on to a third.
        let mut third = part(0, 0, &["a"]);
        third.follow(&second);
        third.close();
        assert_eq!(third.accounting.residue, 0, "{:?}", third.accounting);
    }

    #[test]
    fn what_ended_before_an_upgrade_stays_a_warning() {
        let mut first = part(0, 0, &["a"]);
        (first.sinks[0].state, first.sinks[0].reason) = (SinkState::Ended, Some("no space".to_owned()));
        first.warnings.push("slow".to_owned());
        let mut second = part(0, 0, &["a"]);
        second.warnings.extend(["slow", "new"].map(str::to_owned));
        second.follow(&first);
        assert_eq!(second.warnings, ["slow", "sink a, before an upgrade: no space", "new"]);
        assert_eq!(second.sinks[0].state, SinkState::Done);
    }

    #[test]
    fn more_origins_than_one_process_names_are_counted_together() {
        let most = u32::try_from(Counters::DEFAULT_MAX_ORIGINS).unwrap();
        let origins = |from: u32, frames| {
            (from..from + most).map(move |vni| Origin::new(Ipv4Addr::LOCALHOST.into(), vni, frames, 60))
        };
        let (mut first, mut second) = (part(0, 0, &[]), part(0, 0, &[]));
        first.origins = origins(0, 1).collect();
        second.origins = origins(most - 10, 2).collect();
        second.follow(&first);
        assert_eq!((second.origins.len(), second.origins[0].frames), (Counters::DEFAULT_MAX_ORIGINS, 3));
        let listed: u64 = second.origins.iter().map(|origin| origin.frames).sum();
        assert_eq!(listed + second.origins_other.frames, u64::from(3 * most));
        assert_eq!(second.origins_other.origins, u64::from(most - 10));
    }

    #[test]
    fn sessions_and_directions_are_added_and_what_was_counted_without_them_is_unknown() {
        let origin = |session: Option<&str>, frames, directions| {
            let session = session.map(str::to_owned);
            Origin { session, directions, ..Origin::new(Ipv4Addr::LOCALHOST.into(), 7, frames, 60) }
        };
        let seen = |ingress, egress, unknown| Some(Directions { ingress, egress, unknown });
        let with = |origin, frames| {
            let mut report = part(0, 0, &[]);
            report.origins = vec![origin];
            report.sessions = Some(vec![SessionReport::new("tms-1", 7, "eni-1", frames)]);
            report
        };
        let mut report = with(origin(Some("tms-1"), 6, seen(1, 2, 3)), 6);
        report.follow(&with(origin(Some("tms-1"), 15, seen(4, 5, 6)), 15));
        assert_eq!(
            report.origins[0],
            Origin { inner_bytes: 120, ..origin(Some("tms-1"), 21, seen(5, 7, 9)) }
        );
        assert_eq!(report.sessions.as_ref().unwrap()[0].frames, 21);
        let mut before = part(0, 0, &[]);
        before.origins = vec![origin(None, 4, None)];
        report.follow(&before);
        assert_eq!(report.origins[0].directions, seen(5, 7, 13));
        assert_eq!(report.origins[0].session.as_deref(), Some("tms-1"));
    }
}
