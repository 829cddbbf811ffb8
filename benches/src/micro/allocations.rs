//! How often a worker allocates a frame once it is under way: never.

use std::{io, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use mirror_user::{
    Dispatch,
    sink::{Counters, Pcap, WorkerContext, pcap::Target},
};

use super::{
    frames::{BATCH, Shape},
    part::MAX_FRAME,
    per_frame, probe,
};
use crate::report::schema::{Goal, Micro, Report, Spread};

/// Frames counted over. Their capture fits the blocks of a worker, so that none is waited for or dropped.
const FRAMES: u64 = 65_536;
const NAME: &str = "dispatch/counters+pcap/114";

/// Counts allocations of a worker with counters and a capture, after its first batch. `measure` calls what it
/// is given and says how often this thread allocated.
///
/// # Errors
///
/// Where a sink cannot be built, or did not write each frame, so that the figure would be of something else.
pub fn in_steady_state(measure: impl FnOnce(&mut dyn FnMut()) -> u64) -> Result<u64> {
    let frames = Shape::Ipv4.frames(114, BATCH, 8)?;
    // As to a file: a block goes out when it is full, and not with each tick.
    let pcap = Pcap::builder(Target::writer("nowhere", io::sink())).unbuffered(false).build()?;
    let dispatch = Dispatch::builder().sink(Counters::default()).sink(pcap);
    let mut dispatch = dispatch.build(&WorkerContext::single(MAX_FRAME))?;
    let mut batch = || {
        dispatch.frames(frames.iter().copied());
        dispatch.tick(Instant::now());
    };
    batch();
    let allocations = measure(&mut || (0..FRAMES / BATCH as u64).for_each(|_| batch()));
    let report = dispatch.finish();
    for sink in &report.sinks {
        ensure!(sink.written == FRAMES + BATCH as u64, "{} wrote {} frames", sink.name, sink.written);
    }
    Ok(allocations)
}

/// Has the probe count; whether there is one is in the report.
pub(super) fn run(report: &mut Report) -> Result<()> {
    let output = match probe::path()? {
        Some(path) => probe::output(Command::new(path).arg(probe::ALLOCATIONS))?,
        None => None,
    };
    let Some(output) = output else {
        super::miss(report, format!("allocations: {} was not built", probe::PROGRAM));
        return Ok(());
    };
    let text = String::from_utf8(output.stdout).context("the probe's output")?;
    let allocations: u32 = text.trim().parse().with_context(|| format!("the probe said {text:?}"))?;
    let per_frame = Spread::of(per_frame(allocations.into(), FRAMES));
    report.goals.push(Goal::at_most("allocations per frame in steady state", 0.0, per_frame));
    report.micro.push(Micro { name: NAME.to_owned(), unit: "allocations".to_owned(), per_frame });
    Ok(())
}
