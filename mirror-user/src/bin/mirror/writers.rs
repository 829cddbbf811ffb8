//! How many threads write a capture, and on which CPUs.

use std::{collections::BTreeSet, io};

use mirror_user::{engine::Plan, settings::Writers};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// What the number of writers depends on: the queues that are read, and the CPUs left for other threads.
#[derive(Clone, Debug)]
pub(crate) struct WriterPlan {
    queues: usize,
    /// CPUs that this process may use and no worker is pinned to.
    free_cpus: BTreeSet<usize>,
}

impl WriterPlan {
    /// For capture files as a source, which one thread reads.
    pub(crate) fn single() -> Self {
        Self { queues: 1, free_cpus: BTreeSet::new() }
    }

    /// For a run on interfaces. Must be called on a thread that is not pinned.
    pub(crate) fn of(plan: &Plan) -> io::Result<Self> {
        let workers: Vec<_> = plan.interfaces.iter().flat_map(|interface| &interface.queues).collect();
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut free: BTreeSet<_> =
            (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
        workers.iter().for_each(|queue| {
            free.remove(&queue.cpu);
        });
        Ok(Self { queues: workers.len(), free_cpus: free })
    }

    /// How many writers a capture has: at most one for each queue, since a queue's frames stay together.
    pub(crate) fn count(&self, wanted: Writers) -> usize {
        let wanted = match wanted {
            Writers::Auto => self.free_cpus.len(),
            Writers::Count(wanted) => usize::try_from(wanted).unwrap_or(usize::MAX),
        };
        wanted.min(self.queues).max(1)
    }

    /// Warns if there are fewer than were asked for.
    pub(crate) fn warn_if_fewer(&self, wanted: Writers) {
        let count = self.count(wanted);
        if let Writers::Count(wanted) = wanted
            && usize::try_from(wanted).is_ok_and(|wanted| wanted > count)
        {
            tracing::warn!(
                target: "mirror",
                "--writers {wanted}: {} queues are read, so the capture has {count} writers",
                self.queues
            );
        }
    }

    /// The CPUs that this many writers keep to; empty if they run wherever the scheduler puts them. A single
    /// writer does, and so do more writers than there are free CPUs: those would wait for each other.
    pub(crate) fn cpus(&self, writers: usize) -> BTreeSet<usize> {
        if writers > 1 && writers <= self.free_cpus.len() { self.free_cpus.clone() } else { BTreeSet::new() }
    }
}

/// Makes the calling thread, and those that it starts, run on these CPUs; on none in particular if there are
/// none.
pub(crate) fn keep_to(cpus: &BTreeSet<usize>) {
    if cpus.is_empty() {
        return;
    }
    let mut set = CpuSet::new();
    let kept = cpus
        .iter()
        .try_for_each(|cpu| set.set(*cpu))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    if let Err(error) = kept {
        // A capture is complete without it.
        tracing::warn!(target: "mirror", %error, "a writer cannot be kept off the CPUs of workers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(queues: usize, free: impl IntoIterator<Item = usize>) -> WriterPlan {
        WriterPlan { queues, free_cpus: free.into_iter().collect() }
    }

    #[test]
    fn there_is_a_writer_at_least_and_one_for_each_queue_at_most() {
        let (auto, count) = (Writers::Auto, Writers::Count);
        assert_eq!([1, 2, 4, 9].map(|wanted| plan(4, []).count(count(wanted))), [1, 2, 4, 4]);
        let with_free = |queues, free: usize| plan(queues, 10..10 + free).count(auto);
        assert_eq!([with_free(4, 0), with_free(4, 1), with_free(4, 3), with_free(4, 9)], [1, 1, 3, 4]);
        assert_eq!([auto, count(1), count(7)].map(|wanted| WriterPlan::single().count(wanted)), [1, 1, 1]);
    }

    #[test]
    fn several_writers_keep_off_the_workers_cpus_if_each_finds_a_free_one() {
        let plan = plan(8, [0, 1, 2]);
        let free = BTreeSet::from([0, 1, 2]);
        assert_eq!([2, 3].map(|writers| plan.cpus(writers)), [free.clone(), free]);
        assert!([1, 4].iter().all(|writers| plan.cpus(*writers).is_empty()));
    }

    #[test]
    fn a_thread_is_kept_to_the_cpus_and_not_by_none() {
        let own = || sched_getaffinity(Pid::from_raw(0)).unwrap();
        let allowed = own();
        let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap()).unwrap();
        let kept = std::thread::spawn(move || {
            keep_to(&BTreeSet::new());
            let before = own();
            keep_to(&BTreeSet::from([first]));
            (before, own())
        });
        let (before, after) = kept.join().unwrap();
        let mut only = CpuSet::new();
        only.set(first).unwrap();
        assert_eq!((before, after), (allowed, only));
    }
}
