//! Allocations per frame of a worker in steady state: none.

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

/// Frames of the measurement. They fit the blocks of a worker, so that none is waited for or dropped.
const FRAMES: u64 = 65_536;
const NAME: &str = "dispatch/counters+pcap/114";

/// Counts allocations of a worker with counters and a capture, after its first batch. `measure` calls its
/// argument and returns the number of allocations of this thread.
///
/// # Errors
///
/// If a sink cannot be built, or did not write every frame, which would falsify the figure.
pub fn in_steady_state(measure: impl FnOnce(&mut dyn FnMut()) -> u64) -> Result<u64> {
    let frames = Shape::Ipv4.frames(114, BATCH, 8)?;
    // As for a file: blocks are written when full, not at each tick.
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

/// Counts with the probe; the report says if there is none.
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
    let allocations: u32 = text.trim().parse().with_context(|| format!("the probe printed {text:?}"))?;
    let per_frame = Spread::of(per_frame(allocations.into(), FRAMES));
    report.goals.push(Goal::at_most("allocations per frame in steady state", 0.0, per_frame));
    report.micro.push(Micro { name: NAME.to_owned(), unit: "allocations".to_owned(), per_frame });
    Ok(())
}
