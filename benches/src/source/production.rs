//! Production beside a mirror source: what of it arrives, and what of its copies.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use mirror_user::agent::{SourceOptions, SourceReport};

use super::{
    bed::{Hosts, Sessions, end, sum},
    goal, less,
    load::{Carried, Load, Server},
    more,
};
use crate::{
    options::Options,
    progress::Progress,
    report::schema::{Goal, Report},
    stats::{count, ratio, spread},
};

/// Everything is mirrored, at a rate that leaves the host time.
const PACED: [(&str, Load); 2] = [
    ("TCP at 1 Gbit/s", Load::Tcp { rate: Some(1_000_000_000) }),
    ("50,000 datagrams of 128 bytes a second", DATAGRAMS),
];
const DATAGRAMS: Load = Load::Udp { rate: 50_000, payload: 128 };
/// A connection as fast as it can.
const SATURATING: Load = Load::Tcp { rate: None };
/// The limit of outer bits a second beside that.
const LIMIT: u64 = 100_000_000;
/// Rounds of a full run with a limit.
const PAIRS: usize = 21;
/// Frames that wait in a carrier at most, so that it drops most of a burst.
const SHORT_QUEUE: u32 = 8;
/// Seconds of a round.
const SECONDS: u64 = 2;

pub(super) fn run(options: &Options, progress: &Progress, report: &mut Report) -> Result<()> {
    let hosts = Hosts::raise()?;
    let server = Server::start(&hosts)?;
    let run = Run { hosts, _server: server, options, progress };
    run.paced(report)?;
    run.limited(report)?;
    run.overloaded(report)
}

struct Run<'a> {
    /// Dropped after the server.
    _server: Server,
    hosts: Hosts,
    options: &'a Options,
    progress: &'a Progress,
}

/// A round beside a source.
struct Mirrored {
    carried: Carried,
    account: SourceReport,
    /// Copies at the target.
    arrived: u64,
    /// Outer bits a second at the target, in the middle of the round.
    bits: f64,
}

impl Run<'_> {
    fn alone(&self, load: Load) -> Result<Carried> {
        self.options.go_on()?;
        load.send(&self.hosts, SECONDS)
    }

    /// The same with everything mirrored.
    fn mirrored(&self, load: Load, options: SourceOptions) -> Result<Mirrored> {
        self.options.go_on()?;
        let at_start = self.hosts.arrived()?;
        let source = self.hosts.mirror(Sessions::All, options)?;
        let (carried, bits) = load.send_beside(&self.hosts, SECONDS, |time| {
            // iperf3 has connected by then, and goes on longer.
            thread::sleep(time / 4);
            let (before, start) = (self.hosts.arrived()?, Instant::now());
            thread::sleep(time / 2);
            let since = self.hosts.arrived()?.since(before);
            Ok(count(since.outer_bytes() * 8) / start.elapsed().as_secs_f64())
        })?;
        let account = end(source)?;
        // What is in the last veth's ring.
        thread::sleep(Duration::from_millis(10));
        let arrived = self.hosts.arrived()?.since(at_start).copies;
        Ok(Mirrored { carried, account, arrived, bits })
    }

    /// Without a source and with one, by turns first.
    fn pair(&self, round: usize, load: Load, options: SourceOptions) -> Result<(Carried, Mirrored)> {
        if round.is_multiple_of(2) {
            let alone = self.alone(load)?;
            return Ok((alone, self.mirrored(load, options)?));
        }
        let mirrored = self.mirrored(load, options)?;
        Ok((self.alone(load)?, mirrored))
    }

    fn paced(&self, report: &mut Report) -> Result<()> {
        for (name, load) in PACED {
            let (mut goodput, mut copied) = (Vec::new(), Vec::new());
            let rounds = self.options.rounds;
            for round in 0..rounds {
                self.progress.show(format_args!("mirror source, {name}: round {} of {rounds}", round + 1));
                let round = self.mirrored(load, SourceOptions::default())?;
                goodput.push(round.carried.bits / count(load.asked().unwrap_or_default()));
                copied.push(ratio(round.arrived, round.segments_of_cloned()?));
            }
            let what = format!("{name}, all mirrored: goodput over what is asked for");
            more(report, &what, "", &goodput, Some(0.99));
            let what = format!("{name}, all mirrored: copies at the target over segments");
            more(report, &what, "", &copied, Some(0.999));
        }
        Ok(())
    }

    /// Pairs with a source and without, and as many of two without.
    fn limited(&self, report: &mut Report) -> Result<()> {
        let rounds = if self.options.quick { self.options.rounds } else { PAIRS };
        let (mut with, mut without, mut bits) = (Vec::new(), Vec::new(), Vec::new());
        let mut gigabits = Vec::new();
        for round in 0..rounds {
            self.progress.show(format_args!("mirror source, saturated: round {} of {rounds}", round + 1));
            let mut options = SourceOptions::default();
            options.max_rate = Some(LIMIT);
            // Each is first in a third of the rounds: what a host can do drifts.
            let (mut mirrored, mut alone) = (None, Vec::new());
            for place in 0..3 {
                if place == round % 3 {
                    mirrored = Some(self.mirrored(SATURATING, options.clone())?);
                } else {
                    alone.push(self.alone(SATURATING)?.bits);
                }
            }
            let (Some(mirrored), &[one, other]) = (mirrored, alone.as_slice()) else { continue };
            with.push(mirrored.carried.bits / one);
            without.push(other / one);
            bits.push(mirrored.bits / 1e6);
            gigabits.push(one / 1e9);
        }
        let same = spread(without.iter().copied()).median;
        let what = "goodput of a saturating connection, without a source";
        more(report, what, "Gbit/s", &gigabits, None);
        let what = format!("that with --max-rate {}M ÷ without a source", LIMIT / 1_000_000);
        // Or no less than the noise of two without.
        more(report, &what, "", &with, Some(0.95_f64.min(same - 0.03)));
        more(report, "the same without ÷ without", "", &without, None);
        let what = "outer bits at the target meanwhile";
        more(report, what, "Mbit/s", &bits, Some(95.0));
        let most = Goal::at_most(goal(what, "Mbit/s"), 105.0, spread(bits.iter().copied()));
        report.goals.push(most);
        Ok(())
    }

    /// With carriers that drop, and a connection whose copies are more than the thread can send.
    fn overloaded(&self, report: &mut Report) -> Result<()> {
        let rounds = self.options.rounds;
        let (mut more_lost, mut dropped) = (Vec::new(), Vec::new());
        let (mut goodput, mut copied) = (Vec::new(), Vec::new());
        let share = |carried: Carried| ratio(carried.lost, carried.sent);
        for round in 0..rounds {
            self.progress.show(format_args!("mirror source, overload: round {} of {rounds}", round + 1));
            let mut options = SourceOptions::default();
            options.queue = SHORT_QUEUE;
            let (alone, mirrored) = self.pair(round, DATAGRAMS, options)?;
            more_lost.push(share(mirrored.carried) - share(alone));
            dropped.push(mirrored.dropped()?);
            let (alone, mirrored) = self.pair(round, SATURATING, SourceOptions::default())?;
            goodput.push(mirrored.carried.bits / alone.bits);
            copied.push(1.0 - mirrored.dropped()?);
        }
        let what =
            "share of datagrams that production loses, with a carrier that drops less without a source";
        less(report, what, "", &more_lost, Some(0.0));
        // Or it was no overload.
        more(report, "share of the copies that this carrier drops", "", &dropped, Some(0.001));
        let what = "goodput of a saturating connection, all mirrored without a limit ÷ without a source";
        more(report, what, "", &goodput, None);
        more(report, "share of its packets that carriers take", "", &copied, None);
        Ok(())
    }
}

impl Mirrored {
    /// Segments of everything that was cloned, by those of the frames that were read.
    fn segments_of_cloned(&self) -> Result<u64> {
        let lost = sum(&self.account, |session| session.carrier.carrier_dropped.unwrap_or_default())?;
        let segments = sum(&self.account, |session| session.carrier.frames.segments)?;
        let read = sum(&self.account, |session| session.carrier.frames.read)?;
        Ok(segments + lost * segments.checked_div(read).unwrap_or_default())
    }

    /// The share of the clones that carriers dropped.
    fn dropped(&self) -> Result<f64> {
        let dropped = sum(&self.account, |session| session.carrier.carrier_dropped.unwrap_or_default())?;
        Ok(ratio(dropped, sum(&self.account, |session| session.cloned)?))
    }
}
