//! Changes of a running engine: what it selects, and which sinks it has.

use std::{
    mem,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::{
    EngineError,
    interface::{LiveInterface, PATIENCE},
    worker::{Order, Worker},
};
use crate::{
    account::{Report, SinkHalt, SinkReport},
    error::panic_message,
    select::Selection,
    sink::{Sink, SinkError, SinkFactory, WorkerContext},
    xdp::ProgramSetupError,
};

/// A change of a running engine, see [`Running::change`](super::Running::change).
#[derive(Default)]
#[must_use]
pub struct Change {
    pub(super) selection: Option<Selection>,
    pub(super) remove: Vec<String>,
    pub(super) reselect: Vec<(String, Arc<Selection>)>,
    pub(super) add: Vec<Arc<dyn SinkFactory>>,
}

impl Change {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects these frames instead of those that were selected so far.
    pub fn select(mut self, selection: impl Into<Selection>) -> Self {
        self.selection = Some(selection.into());
        self
    }

    /// Gives the sink of this name these frames of the run, which it may have had
    /// [others](crate::sink::selected) of, or all. Its output goes on.
    pub fn select_for(mut self, name: impl Into<String>, selection: impl Into<Selection>) -> Self {
        self.reselect.push((name.into(), Arc::new(selection.into())));
        self
    }

    /// Removes the sink of this name. What it holds is written, then its output is completed.
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.remove.push(name.into());
        self
    }

    /// Adds a sink. It may have the name of one that is removed, and continues its counts in the report.
    pub fn sink(mut self, sink: impl SinkFactory + 'static) -> Self {
        self.add.push(Arc::new(sink));
        self
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let add: Vec<_> = self.add.iter().map(SinkFactory::name).collect();
        f.debug_struct("Change")
            .field("selection", &self.selection)
            .field("remove", &self.remove)
            .field("reselect", &self.reselect)
            .field("add", &add)
            .finish()
    }
}

/// Why a running engine could not be changed. It continues as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is no sink of this name to remove, or to select frames for.
    #[error("there is no sink {name}")]
    NoSuchSink {
        /// The name.
        name: String,
    },
    /// There is a sink of this name already.
    #[error("there is a sink {name} already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The kernel forwards frames of this interface: what workers select and deliver does not apply to them.
    #[error("{interface}: the kernel forwards frames, and that does not change during a run")]
    ForwardedInKernel {
        /// The interface.
        interface: String,
    },
    /// A sink could not be prepared.
    #[error("sink {sink}: {source}")]
    Sink {
        /// The sink.
        sink: String,
        /// Why.
        source: SinkError,
    },
    /// The XDP program's lists of VNIs and sources could not be changed.
    #[error("{interface}: {source}")]
    Lists {
        /// The interface.
        interface: String,
        /// Why.
        source: ProgramSetupError,
    },
    /// A worker could not build a sink.
    #[error(transparent)]
    Worker(#[from] EngineError),
    /// A worker did not answer.
    #[error("{interface} queue {queue}: the worker does not answer")]
    NoAnswer {
        /// The interface.
        interface: String,
        /// Its RX queue.
        queue: u32,
    },
}

/// The sinks of a run, by their positions in reports.
#[derive(Default)]
pub(super) struct Sinks {
    places: Vec<Place>,
    /// Removed, and not completed yet.
    leaving: Vec<(usize, Arc<dyn SinkFactory>)>,
}

/// The place of a sink.
struct Place {
    /// [`Removed`] after it was removed.
    sink: Arc<dyn SinkFactory>,
    is_free: bool,
}

/// What changes, by position.
#[derive(Default)]
pub(super) struct Positions {
    pub(super) remove: Vec<usize>,
    pub(super) reselect: Vec<(usize, Arc<Selection>)>,
    pub(super) add: Vec<(usize, Arc<dyn SinkFactory>)>,
}

impl Sinks {
    pub(super) fn new(sinks: Vec<Arc<dyn SinkFactory>>) -> Self {
        let place = |sink| Place { sink, is_free: false };
        Self { places: sinks.into_iter().map(place).collect(), leaving: Vec::new() }
    }

    /// Those that add to a report, by position.
    pub(super) fn all(&self) -> Vec<Arc<dyn SinkFactory>> {
        self.places.iter().map(|place| Arc::clone(&place.sink)).collect()
    }

    /// Finds the positions of what is removed, changed and added. A sink that is added continues a removed
    /// one of its name.
    pub(super) fn positions(&self, change: &Change) -> Result<Positions, ChangeError> {
        let position = |name: &str| self.places.iter().position(|place| place.sink.name() == name);
        let mut found = Positions::default();
        let present = |name: &String, removed: &[usize]| {
            let there = position(name).filter(|at| !self.places[*at].is_free && !removed.contains(at));
            there.ok_or_else(|| ChangeError::NoSuchSink { name: name.clone() })
        };
        for name in &change.remove {
            found.remove.push(present(name, &found.remove)?);
        }
        for (name, selection) in &change.reselect {
            found.reselect.push((present(name, &found.remove)?, Arc::clone(selection)));
        }
        let mut next = self.places.len();
        for sink in &change.add {
            let name = sink.name();
            let at = position(name).unwrap_or(next);
            let is_free = self.places.get(at).is_none_or(|place| place.is_free || found.remove.contains(&at));
            if !is_free || found.add.iter().any(|(_, other)| other.name() == name) {
                return Err(ChangeError::NameTaken { name: name.to_owned() });
            }
            next += usize::from(at == next);
            found.add.push((at, Arc::clone(sink)));
        }
        Ok(found)
    }

    /// Takes over what the workers have changed.
    pub(super) fn change(&mut self, positions: Positions) {
        for at in positions.remove {
            let place = &mut self.places[at];
            let removed = Removed { name: place.sink.name().to_owned(), halt: None };
            self.leaving.push((at, mem::replace(&mut place.sink, Arc::new(removed))));
            place.is_free = true;
        }
        for (at, sink) in positions.add {
            let place = Place { sink, is_free: false };
            match self.places.get_mut(at) {
                Some(free) => *free = place,
                None => self.places.push(place),
            }
        }
    }

    /// The names of removed sinks that are not completed.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &str> {
        self.leaving.iter().map(|(_, sink)| sink.name())
    }

    /// Whether removed sinks are to be [completed](Self::complete).
    pub(super) fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Completes the outputs of removed sinks, once they have left every worker.
    pub(super) fn complete(&mut self, report: &Report) {
        for (at, sink) in mem::take(&mut self.leaving) {
            // Unwind safety: the report is only read.
            let halt = match panic::catch_unwind(AssertUnwindSafe(|| sink.close(report))) {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => SinkHalt::ended(error),
                Err(payload) => SinkHalt::failed(panic_message(&*payload)),
            };
            let name = sink.name().to_owned();
            tracing::error!(sink = name, reason = halt.reason, "a removed sink could not be completed");
            let place = &mut self.places[at];
            if place.is_free {
                place.sink = Arc::new(Removed { name, halt: Some(halt) });
            }
        }
    }
}

/// In the place of a sink that was removed.
struct Removed {
    name: String,
    /// Why its output could not be completed.
    halt: Option<SinkHalt>,
}

impl SinkFactory for Removed {
    fn name(&self) -> &str {
        &self.name
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Err(SinkError::other("this sink was removed"))
    }

    fn report(&self, entry: &mut SinkReport, _: &mut Report) {
        entry.removed = true;
    }

    fn halted(&self) -> Option<SinkHalt> {
        self.halt.clone()
    }
}

/// Has every worker of these interfaces build the sinks, then change; or none of them.
pub(super) fn change_workers(
    interfaces: &[LiveInterface],
    positions: &Positions,
    selection: Option<&Arc<Selection>>,
) -> Result<(), ChangeError> {
    let workers = || interfaces.iter().flat_map(LiveInterface::live_workers);
    let builds: Vec<_> = workers()
        .map(|worker| {
            let (built, is_built) = bounded(1);
            worker.orders.give(Order::Build { sinks: positions.add.clone(), built });
            (worker, is_built)
        })
        .collect();
    let built = builds.into_iter().try_for_each(|(worker, is_built)| {
        // One that has ended takes no frames, so it needs no sinks.
        answer(worker, &is_built)?.map_or(Ok(()), |built| built.map_err(ChangeError::from))
    });
    if let Err(error) = built {
        workers().for_each(|worker| worker.orders.give(Order::Discard));
        return Err(error);
    }
    let changes: Vec<_> = workers()
        .map(|worker| {
            let (changed, is_changed) = bounded(1);
            let (remove, reselect) = (positions.remove.clone(), positions.reselect.clone());
            worker.orders.give(Order::Change { remove, reselect, selection: selection.cloned(), changed });
            (worker, is_changed)
        })
        .collect();
    // From here on there is no way back: a worker that is late changes later.
    for (worker, is_changed) in changes {
        if let Err(error) = answer(worker, &is_changed) {
            tracing::error!("{error}; it changes when it does");
        }
    }
    Ok(())
}

/// A worker's answer; `None` of one that has ended.
fn answer<T>(worker: &Worker, answers: &Receiver<T>) -> Result<Option<T>, ChangeError> {
    match answers.recv_timeout(PATIENCE) {
        Ok(answer) => Ok(Some(answer)),
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => {
            Err(ChangeError::NoAnswer { interface: worker.interface.to_string(), queue: worker.place.queue })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink;

    fn named(name: &str) -> Arc<dyn SinkFactory> {
        Arc::new(sink::for_each(name.to_owned(), |_| Ok(())))
    }

    fn sinks(names: &[&str]) -> Sinks {
        Sinks::new(names.iter().map(|name| named(name)).collect())
    }

    fn change(remove: &[&str], add: &[&str]) -> Change {
        let change = remove.iter().fold(Change::new(), |change, name| change.remove(*name));
        add.iter().fold(change, |change, name| change.sink(named(name)))
    }

    fn positions(sinks: &Sinks, change: &Change) -> Result<(Vec<usize>, Vec<usize>), String> {
        let found = sinks.positions(change).map_err(|error| error.to_string())?;
        Ok((found.remove, found.add.into_iter().map(|(at, _)| at).collect()))
    }

    #[test]
    fn a_sink_that_is_added_continues_a_removed_one_of_its_name_and_no_other() {
        let mut sinks = sinks(&["a", "b"]);
        assert_eq!(positions(&sinks, &change(&["a"], &["c", "a", "d"])), Ok((vec![0], vec![2, 0, 3])));
        for (remove, add, refused) in [
            (&["c"][..], &[][..], "there is no sink c"),
            (&["a", "a"], &[], "there is no sink a"),
            (&[], &["b"], "there is a sink b already"),
            (&["a"], &["c", "c"], "there is a sink c already"),
        ] {
            assert_eq!(positions(&sinks, &change(remove, add)), Err(refused.to_owned()));
        }
        let remove = sinks.positions(&change(&["a"], &[])).unwrap();
        sinks.change(remove);
        assert_eq!(positions(&sinks, &change(&["a"], &[])), Err("there is no sink a".to_owned()));
        assert_eq!(positions(&sinks, &change(&[], &["a"])), Ok((vec![], vec![0])));
    }

    #[test]
    fn a_removed_sink_is_completed_once_and_an_error_of_that_stays_in_the_report() {
        let mut sinks = sinks(&["fine"]);
        let add = sinks.positions(&Change::new().sink(Failing)).unwrap();
        sinks.change(add);
        let remove = sinks.positions(&change(&["fine", "failing"], &[])).unwrap();
        sinks.change(remove);
        assert!(sinks.has_leaving());
        let report = Report::new("af_xdp", std::time::SystemTime::UNIX_EPOCH);
        sinks.complete(&report);
        assert!(!sinks.has_leaving());
        let halts: Vec<_> = sinks.all().iter().map(|sink| sink.halted().map(|halt| halt.reason)).collect();
        assert_eq!(halts, [None, Some("no space".to_owned())]);
    }

    struct Failing;

    impl SinkFactory for Failing {
        fn name(&self) -> &str {
            "failing"
        }

        fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
            Err(SinkError::other("not built in this test"))
        }

        fn close(&self, _: &Report) -> Result<(), SinkError> {
            Err(SinkError::other("no space"))
        }
    }
}
