//! Where frames are lost at the default ring: what each millisecond lost, beside what the worker's CPU did.

mod cause;
mod samples;
mod schedule;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mirror_lab::{Generated, Traffic, generator::ONE_CALL};
use mirror_user::engine::Priority;

use self::{cause::ASLEEP, samples::Sampler, schedule::Recording};
use crate::{
    bed::{Bed, MTU},
    options::Options,
    progress::Progress,
    receiver::{Kind, Receiver, Wait, default_sizes},
    report::schema::{Gaps, Goal, Report, Spread},
    stats::ratio,
    trial::{cpu_ticks, mean},
};

/// Times in microseconds of `CLOCK_MONOTONIC`.
type Micros = u64;

/// Frames of the warm-up: the first ones meet caches and memory that are cold.
const WARM_UP: u64 = 1 << 17;
/// A tick of `/proc/stat`: USER_HZ is 100 on every architecture that this runs on.
const TICK_MS: u64 = 10;
/// The name of the worker begins so.
const WORKER: &str = "q0-";
/// The share of the losses that is to be in gaps.
const IN_GAPS: f64 = 0.95;

/// Records each receiver at the generator's full speed.
///
/// # Errors
///
/// If the bed, a receiver or the recording cannot be created, or a residue is left.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let bed = Bed::new(1, MTU)?;
    let progress = Progress::start();
    for kind in [Kind::Counters, Kind::Pcap] {
        options.go_on()?;
        progress.show(format_args!("gaps: {kind}"));
        report.gaps.push(record(&bed, kind, options)?);
    }
    for gaps in report.gaps.iter().filter(|gaps| gaps.lost > 0) {
        let what = format!("share of the losses at full speed inside recorded gaps, {}", gaps.receiver);
        report.goals.push(Goal::at_least(what, IN_GAPS, Spread::of(ratio(gaps.lost_in_gaps(), gaps.lost))));
    }
    Ok(())
}

fn record(bed: &Bed, kind: Kind, options: &Options) -> Result<Gaps> {
    let cpu = options.worker_cpu;
    let seconds = if options.quick { 5 } else { 20 };
    let traffic = Traffic { cpus: vec![options.kernel_cpu], ..Traffic::default() };
    let generator = bed.generator(traffic.clone())?;
    let receiver = Receiver {
        kind,
        wait: Wait::Poll,
        priority: Priority::Auto,
        sizes: default_sizes(bed)?,
        cpus: vec![cpu],
    };
    let live = receiver.start(bed)?;
    let warm_up = generator.send(WARM_UP)?.total();
    let recording = Recording::start(cpu, options.kernel_cpu)?;
    let sampler = Sampler::start(cpu)?;
    let steal_before = cpu_ticks(cpu)?.steal;
    let (mut sent, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < Duration::from_secs(seconds) {
        options.go_on()?;
        sent.push(generator.send(ONE_CALL)?);
    }
    let steal = cpu_ticks(cpu)?.steal - steal_before;
    let samples = sampler.finish()?;
    let switches = recording.finish()?;
    let offered: u64 = sent.iter().map(Generated::total).sum();
    live.finish(warm_up + offered)?;

    let worker = switches.iter().map(|switch| &switch.task).find(|task| task.starts_with(WORKER));
    let worker = worker.context("the worker is not in the trace")?;
    let gaps = cause::gaps(worker, &switches, &samples);
    let losses = cause::losses(&gaps, &samples);
    let away = || gaps.iter().filter(|gap| gap.cause != ASLEEP).map(|gap| gap.to - gap.from);
    Ok(Gaps {
        receiver: kind.to_string(),
        frame_bytes: traffic.frame_len,
        mpps: mean(sent.iter().map(|sent| sent.sending_rate)) / 1e6,
        seconds: begun.elapsed().as_secs_f64(),
        offered,
        lost: losses.outside + losses.by_cause.values().sum::<u64>(),
        lost_by_cause: losses.by_cause,
        gaps: away().count(),
        gaps_share: ratio(away().sum(), cause::span(&samples)),
        longest_us: away().max().unwrap_or_default(),
        steal_ms: steal * TICK_MS,
    })
}
