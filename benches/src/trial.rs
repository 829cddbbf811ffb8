//! One measurement: a receiver, traffic, and the result.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use mirror_lab::{Generated, Generator, Traffic, generator};

use crate::{bed::Bed, receiver::Receiver, search, stats::ratio};

/// Frames of the warm-up, which fill memory and caches.
const WARM_UP: u64 = 1 << 17;

/// Result of a measurement.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Frames sent, those of the warm-up too.
    pub offered: u64,
    /// Frames lost, by stage.
    pub lost_by: BTreeMap<&'static str, u64>,
    /// Frames a second that the generator sent.
    pub sent_rate: f64,
    /// Frames a second that were received: those sent minus those lost.
    pub received_rate: f64,
    /// Busy time of the workers for a frame, in ns; 0 where there is no worker.
    pub busy_ns_per_frame: f64,
    /// Ticks of the kernel's clock on the CPU that sends: in softirq, and all.
    pub softirq_ticks: (u64, u64),
    /// Latency by fraction of the frames, in ns, if measured.
    pub latency: Vec<(f64, u64)>,
}

impl Sample {
    /// Frames lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_by.values().sum()
    }

    /// As a trial of a search.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate far below 2^63")]
    pub fn trial(&self) -> search::Trial {
        search::Trial { offered: self.offered, lost: self.lost(), rate: self.sent_rate as u64 }
    }
}

/// Frames lost over all samples, by stage.
#[must_use]
pub fn lost_by<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (stage, frames) in samples.into_iter().flat_map(|sample| &sample.lost_by) {
        *sums.entry((*stage).to_owned()).or_insert(0) += frames;
    }
    sums
}

/// Sends `frames` to a receiver that is started for it and ended after it.
///
/// # Errors
///
/// If the receiver cannot be started, or a residue is left.
pub fn measure(bed: &Bed, receiver: &Receiver, traffic: &Traffic, frames: u64) -> Result<Sample> {
    let generator = bed.generator(traffic.clone())?;
    let live = receiver.start(bed)?;
    let warm_up = generator.send(WARM_UP)?;
    let cpu = traffic.cpus.first().copied().unwrap_or_default();
    let before = cpu_ticks(cpu)?;
    let sent = send(&generator, traffic.rate, frames)?;
    let ticks = cpu_ticks(cpu)?;
    let offered = warm_up.total() + sent.iter().map(Generated::total).sum::<u64>();
    let account = live.finish(offered)?;
    let mean_rate = mean(sent.iter().map(|sent| sent.sending_rate));
    Ok(Sample {
        offered,
        sent_rate: mean_rate,
        received_rate: mean_rate * (1.0 - ratio(account.lost(), offered)),
        busy_ns_per_frame: ratio(account.busy_ns, account.received),
        softirq_ticks: (ticks.softirq - before.softirq, ticks.all - before.all),
        latency: account.latency,
        lost_by: account.lost_by,
    })
}

/// One system call at a time: the rate of sending is measured within one, and a pause between two would be
/// made up for by a burst.
fn send(generator: &Generator, rate: Option<u64>, frames: u64) -> mirror_lab::Result<Vec<Generated>> {
    let longest = rate.map_or(generator::ONE_CALL, |rate| rate * generator::ONE_LIMITED_CALL);
    let calls = frames.div_ceil(longest).max(1);
    (0..calls).map(|_| generator.send(frames / calls)).collect()
}

/// Harmonic, because each part sent the same number of frames.
pub(crate) fn mean(rates: impl ExactSizeIterator<Item = f64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let count = rates.len() as f64;
    count / rates.map(|rate| 1.0 / rate).sum::<f64>()
}

/// How a CPU has spent its time, in ticks of USER_HZ (proc_stat(5)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTicks {
    pub(crate) softirq: u64,
    /// The hypervisor ran something else.
    pub(crate) steal: u64,
    pub(crate) all: u64,
}

pub(crate) fn cpu_ticks(cpu: usize) -> Result<CpuTicks> {
    const SOFTIRQ: usize = 6;
    const STEAL: usize = 7;
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let name = format!("cpu{cpu}");
    let fields: Vec<u64> = stat
        .lines()
        .filter_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))
        .flat_map(|fields| fields.split_ascii_whitespace().map_while(|field| field.parse().ok()))
        .collect();
    let field = |at: usize| fields.get(at).copied().with_context(|| format!("no {name} in /proc/stat"));
    Ok(CpuTicks { softirq: field(SOFTIRQ)?, steal: field(STEAL)?, all: fields.iter().sum() })
}
