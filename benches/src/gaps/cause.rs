//! Gaps: times in which a worker did not have its CPU, and what had it.

use std::collections::BTreeMap;

use super::{
    Micros,
    samples::{PERIOD, Sample},
    schedule::{IDLE, Switch},
};

/// The least: a quarter of the time in which 4 million frames a second fill a ring of 4096.
const LEAST: Micros = 250;
/// Causes without a task: the CPU did not run, as nothing else had it and nothing was on time; and the worker
/// had no work, or was not woken.
const HOST: &str = "the host";
pub(super) const ASLEEP: &str = "asleep";

/// A time in which the worker did not run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Gap {
    pub(super) from: Micros,
    pub(super) to: Micros,
    /// The task that had the CPU for most of it, `the host` or `asleep`.
    pub(super) cause: String,
}

/// Losses by the cause of the gap in which they were.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Losses {
    pub(super) by_cause: BTreeMap<String, u64>,
    /// In no gap.
    pub(super) outside: u64,
}

/// All gaps, in their sequence: those of the trace, and those in which a sample was late, since then the CPU
/// ran neither the worker nor a thread that comes before it.
pub(super) fn gaps(worker: &str, switches: &[Switch], samples: &[Sample]) -> Vec<Gap> {
    let late = || samples.iter().filter(|sample| sample.at - sample.due >= LEAST);
    let is_late = |from, to| late().any(|sample| sample.due < to && sample.at > from);
    let cause = |from: Micros, to: Micros| {
        let cause = if is_late(from, to) { HOST } else { ASLEEP };
        most_of(switches, worker, from, to).unwrap_or_else(|| cause.to_owned())
    };
    let mut gaps = Vec::new();
    let mut since = None;
    for switch in switches {
        if switch.task != worker {
            since = since.or(Some(switch.at));
        } else if let Some(from) = since.take()
            && switch.at - from >= LEAST
        {
            gaps.push(Gap { from, to: switch.at, cause: cause(from, switch.at) });
        }
    }
    for sample in late() {
        if !gaps.iter().any(|gap| gap.from < sample.at && gap.to > sample.due) {
            gaps.push(Gap { from: sample.due, to: sample.at, cause: cause(sample.due, sample.at) });
        }
    }
    gaps.sort_by_key(|gap| gap.from);
    gaps
}

/// The task other than the worker and the idle one that had half of this time or more.
fn most_of(switches: &[Switch], worker: &str, from: Micros, to: Micros) -> Option<String> {
    let mut had = BTreeMap::<&str, Micros>::new();
    // That before the first that is later has the CPU at `from`.
    let first = switches.partition_point(|switch| switch.at <= from).saturating_sub(1);
    let ends = switches.iter().skip(first + 1).map(|switch| switch.at).chain([Micros::MAX]);
    for (switch, end) in switches.iter().skip(first).zip(ends).take_while(|(switch, _)| switch.at < to) {
        *had.entry(&switch.task).or_default() += end.min(to).saturating_sub(switch.at.max(from));
    }
    let (task, time) = had.into_iter().max_by_key(|(_, time)| *time)?;
    (time * 2 >= to - from && task != worker && !task.starts_with(IDLE)).then(|| task.to_owned())
}

/// The time from the first sample to the last.
pub(super) fn span(samples: &[Sample]) -> Micros {
    let ends = samples.first().zip(samples.last());
    ends.map_or(0, |(first, last)| last.at - first.at)
}

/// What was lost between samples, by gap. The ring stays full for some time after one: losses of the next
/// period are its, too.
pub(super) fn losses(gaps: &[Gap], samples: &[Sample]) -> Losses {
    let mut losses = Losses::default();
    for pair in samples.windows(2) {
        let [before, sample] = pair else { continue };
        let lost = sample.lost - before.lost;
        if lost == 0 {
            continue;
        }
        let share = |gap: &Gap| (gap.to + PERIOD).min(sample.at).saturating_sub(gap.from.max(before.at));
        // A worker that was asleep had an empty ring: rather another gap.
        let within = gaps
            .iter()
            .filter(|gap| gap.from < sample.at && gap.to + PERIOD > before.at)
            .max_by_key(|gap| (gap.cause != ASLEEP, share(gap)));
        match within {
            Some(gap) => *losses.by_cause.entry(gap.cause.clone()).or_default() += lost,
            None => losses.outside += lost,
        }
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: &str = "q0-rx0";

    fn switches(of: &[(Micros, &str)]) -> Vec<Switch> {
        of.iter().map(|(at, task)| Switch { at: *at, task: (*task).into() }).collect()
    }

    fn sample(due: Micros, at: Micros, lost: u64) -> Sample {
        Sample { due, at, lost }
    }

    fn gap(from: Micros, to: Micros, cause: &str) -> Gap {
        Gap { from, to, cause: cause.into() }
    }

    #[test]
    fn each_gap_has_its_cause() {
        let switches = switches(&[
            (0, WORKER),
            // Short, as each nap is.
            (1000, "swapper/1"),
            (1050, WORKER),
            // Another task, which could not be preempted.
            (2000, "verifier"),
            (4900, "sampler"),
            (5000, WORKER),
            // Not woken, while samples were on time.
            (10_000, "swapper/1"),
            (10_900, "sampler"),
            (10_910, "swapper/1"),
            (12_000, WORKER),
            // Idle, and late.
            (20_000, "swapper/1"),
            (27_000, "sampler"),
            (27_010, WORKER),
            (40_000, "swapper/1"),
        ]);
        let samples = [
            sample(3000, 4900, 0),
            sample(10_900, 10_900, 0),
            sample(20_900, 27_000, 0),
            // While the worker had the CPU.
            sample(30_000, 30_500, 0),
        ];
        let expected = [
            gap(2000, 5000, "verifier"),
            gap(10_000, 12_000, ASLEEP),
            gap(20_000, 27_010, HOST),
            gap(30_000, 30_500, HOST),
        ];
        assert_eq!(gaps(WORKER, &switches, &samples), expected);
    }

    #[test]
    fn losses_are_of_the_gap_before_them_or_of_none() {
        let gaps = [gap(0, 2500, ASLEEP), gap(2600, 5000, HOST), gap(5100, 5400, "kworker")];
        let samples = [
            sample(1000, 1000, 7),
            sample(2000, 2000, 7),
            sample(3000, 5000, 107),
            sample(5500, 5500, 110),
            sample(6500, 6500, 110),
            sample(7500, 7500, 115),
        ];
        let by_cause = BTreeMap::from([(HOST.to_owned(), 103)]);
        assert_eq!(losses(&gaps, &samples), Losses { by_cause, outside: 5 });
    }
}
