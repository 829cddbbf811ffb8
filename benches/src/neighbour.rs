//! A busy neighbour: frames lost while another thread wants the worker's CPU all of the time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use mirror_lab::Traffic;
use mirror_user::engine::Priority;
use nix::time::{ClockId, clock_gettime};

use crate::{
    bed::{Bed, MTU},
    options::Options,
    progress::Progress,
    receiver::{Kind, Receiver, Wait, default_sizes, pin},
    report::schema::{Goal, Neighbour, Report},
    stats::{mega, ratio, spread},
    trial::{Sample, lost_by, measure},
};

/// Frames a second.
const RATE: u64 = 1_000_000;
/// The engine with its defaults, and the share of frames that it may lose.
const DEFAULT: Priority = Priority::Auto;
const MOST_LOST: f64 = 0.001;
/// The share of the CPU that the neighbour must have: it makes progress.
const LEAST_OF_NEIGHBOUR: f64 = 0.05;
/// What is compared with the default.
const PRIORITIES: [Priority; 2] = [DEFAULT, Priority::Normal];
/// The second one has a writer thread on the worker's CPU, too.
const KINDS: [Kind; 2] = [Kind::Counters, Kind::Pcap];

fn name(priority: Priority) -> &'static str {
    if priority == DEFAULT { "default" } else { "normal" }
}

/// Rounds and the seconds of each, for a priority.
fn extent(options: &Options, priority: Priority) -> (usize, u64) {
    match (options.quick, priority) {
        (true, _) => (options.rounds, 2),
        (false, DEFAULT) => (5, 60),
        (false, _) => (5, 10),
    }
}

/// Measures all kinds and priorities, one after the other in each round.
///
/// # Errors
///
/// If the bed or a receiver cannot be created, or a residue is left.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let bed = Bed::new(1, MTU)?;
    let sizes = default_sizes(&bed)?;
    let traffic = Traffic { cpus: vec![options.kernel_cpu], rate: Some(RATE), ..Traffic::default() };
    let progress = Progress::start();
    let mut samples = BTreeMap::<_, Vec<_>>::new();
    let rounds = PRIORITIES.map(|priority| extent(options, priority).0).into_iter().max().unwrap_or_default();
    for round in 0..rounds {
        progress.show(format_args!("busy neighbour: round {} of {rounds}", round + 1));
        for (place, priority) in PRIORITIES.into_iter().enumerate() {
            for kind in KINDS {
                options.go_on()?;
                let (_, seconds) = extent(options, priority);
                let cpus = vec![options.worker_cpu];
                let receiver = Receiver { kind, wait: Wait::Poll, priority, sizes, cpus: cpus.clone() };
                let neighbour = Spinning::start(cpus)?;
                let sample = measure(&bed, &receiver, &traffic, RATE * seconds)?;
                let share = neighbour.finish()?;
                samples.entry((kind, place)).or_default().push((sample, share));
            }
        }
    }
    for ((kind, place), own) in &samples {
        let priority = PRIORITIES[*place];
        let lost = || own.iter().map(|(sample, _)| ratio(sample.lost(), sample.offered));
        let of = |figure: fn(&Sample) -> u64| own.iter().map(|(sample, _)| figure(sample)).sum();
        report.neighbour.push(Neighbour {
            receiver: kind.to_string(),
            priority: name(priority).into(),
            mpps: mega(RATE),
            rounds: own.len(),
            seconds: extent(options, priority).1,
            offered: of(|sample| sample.offered),
            lost: of(Sample::lost),
            lost_by: lost_by(own.iter().map(|(sample, _)| sample)),
            lost_share: spread(lost()),
            worst_lost_share: lost().fold(0.0, f64::max),
            neighbour_cpu: spread(own.iter().map(|(_, share)| *share)),
        });
    }
    for neighbour in report.neighbour.iter().filter(|neighbour| neighbour.priority == name(DEFAULT)) {
        let what = format!("share of frames lost beside a busy neighbour, {}", neighbour.receiver);
        report.goals.push(Goal::at_most(what, MOST_LOST, neighbour.lost_share));
        let what = format!("share of the CPU that the neighbour has meanwhile, {}", neighbour.receiver);
        report.goals.push(Goal::at_least(what, LEAST_OF_NEIGHBOUR, neighbour.neighbour_cpu));
    }
    Ok(())
}

/// A thread that wants a CPU all of the time, at ordinary priority.
struct Spinning {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Result<f64>>,
}

impl Spinning {
    fn start(cpus: Vec<usize>) -> Result<Self> {
        let end = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&end);
        let spin = move || {
            pin(&cpus);
            let start = Instant::now();
            while !ends.load(Ordering::Relaxed) {}
            let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("time of a thread")?;
            Ok(Duration::from(used).as_secs_f64() / start.elapsed().as_secs_f64())
        };
        let thread = thread::Builder::new().name("neighbour".into()).spawn(spin).context("a thread")?;
        Ok(Self { end, thread })
    }

    /// Its share of the CPU, 0 to 1.
    fn finish(self) -> Result<f64> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the neighbour panicked"))?
    }
}
