//! No-drop rates, the latency below them, and a long run.

use anyhow::Result;
use mirror_lab::{Traffic, generator::MIN_RATE};
use mirror_user::engine::Priority;

use crate::{
    bed::{Bed, MTU},
    options::Options,
    progress::Progress,
    raw::Sizes,
    receiver::{Kind, Receiver, Wait, default_sizes},
    report::schema::{Goal, Latency, NoDrop, Report, Soak, Spread},
    search::{Found, Search},
    stats::{count, mega},
    trial::measure,
};

/// Bytes of an outer frame: the shortest in practice, with the most frames.
const FRAME_BYTES: usize = 114;
/// Fractions of the no-drop rate at which latency is measured.
const LOADS: [f64; 3] = [0.1, 0.5, 0.9];
/// The fraction of the no-drop rate in the long run.
const SOAK_LOAD: f64 = 0.8;

/// Durations.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// A trial of the search, in seconds.
    trial: u64,
    /// A measurement of latency, in seconds.
    latency: u64,
    /// The long run, in seconds.
    soak: u64,
    search: Search,
}

impl Times {
    fn of(options: &Options) -> Self {
        if options.quick {
            let search = Search { least: MIN_RATE, resolution: 0.1, trials: 1 };
            Self { trial: 1, latency: 1, soak: 5, search }
        } else {
            let search = Search { least: MIN_RATE, resolution: 0.02, trials: 3 };
            Self { trial: 2, latency: 10, soak: 60, search }
        }
    }
}

/// Measures all of it.
///
/// # Errors
///
/// If the bed or a receiver cannot be created, or a residue is left.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let bed = Bed::new(1, MTU)?;
    // A pause of the worker must not decide the result: a virtual machine's CPU pauses for up to 8 ms several
    // times in ten seconds, and other tools have rings that absorb this. The sweep shows the cost of the
    // length.
    let sizes = default_sizes(&bed)?.longest_ring();
    let ring = "no-drop rate, latency, long run: RX ring, descriptors";
    report.settings.insert(ring.into(), sizes.rx_ring.to_string());
    let run = Rates { options, bed: &bed, sizes, times: Times::of(options) };
    for (kind, wait) in [
        // Frames lost here are lost for good.
        (Kind::Touch, Wait::Spin),
        (Kind::Counters, Wait::Spin),
        (Kind::Counters, Wait::Poll),
        (Kind::Counters, Wait::BusyPoll),
        (Kind::Pcap, Wait::Spin),
        (Kind::Pcap, Wait::Poll),
    ] {
        let found = run.no_drop(kind, wait)?;
        report.no_drop.push(NoDrop {
            receiver: kind.to_string(),
            wait: wait.to_string(),
            frame_bytes: FRAME_BYTES,
            mpps: mega(found.rate),
            generator_bound: found.generator_bound,
            frames: found.frames,
        });
        if kind == Kind::Counters {
            for load in LOADS {
                report.latency.push(run.latency(wait, found, load)?);
            }
        }
        if (kind, wait) == (Kind::Pcap, Wait::Spin) {
            let soak = run.soak(kind, wait, found)?;
            let Soak { seconds, offered, lost, .. } = soak;
            let what = format!("frames lost in {seconds:.0} s at 80 % of the no-drop rate, pcap to memory");
            // A trial without frames proves nothing.
            let measured = if offered == 0 { f64::INFINITY } else { count(lost) };
            report.goals.push(Goal::at_most(what, 0.0, Spread::of(measured)));
            report.soak.push(soak);
        }
    }
    Ok(())
}

struct Rates<'a> {
    options: &'a Options,
    bed: &'a Bed,
    sizes: Sizes,
    times: Times,
}

impl Rates<'_> {
    fn receiver(&self, kind: Kind, wait: Wait) -> Receiver {
        Receiver {
            kind,
            wait,
            priority: Priority::Auto,
            sizes: self.sizes,
            cpus: vec![self.options.worker_cpu],
        }
    }

    fn traffic(&self, rate: Option<u64>) -> Traffic {
        Traffic { frame_len: FRAME_BYTES, rate, cpus: vec![self.options.kernel_cpu], ..Traffic::default() }
    }

    fn no_drop(&self, kind: Kind, wait: Wait) -> Result<Found> {
        let (receiver, progress) = (self.receiver(kind, wait), Progress::start());
        // Full speed is not known in advance.
        let mut fastest = 4_000_000;
        self.times.search.run(|rate| {
            self.options.go_on()?;
            let limit = rate.map_or("full speed".to_owned(), |rate| format!("{:.2} Mpps", mega(rate)));
            progress.show(format_args!("no-drop rate: {kind}, {wait}: {limit}"));
            let frames = rate.unwrap_or(fastest) * self.times.trial;
            let trial = measure(self.bed, &receiver, &self.traffic(rate), frames)?.trial();
            fastest = fastest.max(trial.rate);
            Ok(trial)
        })
    }

    fn latency(&self, wait: Wait, found: Found, load: f64) -> Result<Latency> {
        self.options.go_on()?;
        Progress::start().show(format_args!("latency: {wait}, {:.0} % of the no-drop rate", load * 100.0));
        let rate = part(found.rate, load).max(MIN_RATE);
        let frames = rate * self.times.latency;
        let sample =
            measure(self.bed, &self.receiver(Kind::Latency, wait), &self.traffic(Some(rate)), frames)?;
        let at = |share: f64| {
            let reached = sample.latency.iter().find(|(curve, _)| *curve >= share);
            reached.map_or(0, |(_, ns)| *ns)
        };
        Ok(Latency {
            wait: wait.to_string(),
            load,
            mpps: sample.sent_rate / 1e6,
            frames: sample.offered - sample.lost(),
            lost: sample.lost(),
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: at(1.0),
            curve: sample.latency.iter().map(|(share, ns)| (share * 100.0, *ns)).collect(),
        })
    }

    fn soak(&self, kind: Kind, wait: Wait, found: Found) -> Result<Soak> {
        self.options.go_on()?;
        let seconds = self.times.soak;
        Progress::start().show(format_args!("{kind}, {wait}: {seconds} s at 80 % of the no-drop rate"));
        let rate = part(found.rate, SOAK_LOAD).max(MIN_RATE);
        let sample =
            measure(self.bed, &self.receiver(kind, wait), &self.traffic(Some(rate)), rate * seconds)?;
        Ok(Soak {
            receiver: kind.to_string(),
            wait: wait.to_string(),
            frame_bytes: FRAME_BYTES,
            load: SOAK_LOAD,
            seconds: count(sample.offered) / sample.sent_rate,
            offered: sample.offered,
            lost: sample.lost(),
        })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a rate")]
fn part(rate: u64, load: f64) -> u64 {
    (count(rate) * load) as u64
}
