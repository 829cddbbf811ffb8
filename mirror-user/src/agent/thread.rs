//! The thread that reads carriers and sends copies.
//!
//! It looks on a timer: a reader that sleeps in poll(2) is woken by production, at its cost, for each packet.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    AgentError, Carrier, CarrierCounters, FrameCounters, SessionOut,
    carrier::{Buffer, Reader},
    send::Path,
};
use crate::{
    engine::ThreadHook,
    host::{affinity::pin, burst::Burst, interface::CounterReader, scheduling::Scheduling},
    sink::forward::Seed,
};

/// How long the thread empties its carriers at most, when it is stopped.
const DRAIN: Duration = Duration::from_secs(5);

/// How the thread runs.
#[derive(Clone)]
#[non_exhaustive]
pub struct AgentOptions {
    /// Its nice level, up to 19. Default: 10, so that production goes first.
    pub nice: i32,
    /// The CPU that it runs on. Default: any.
    pub cpu: Option<usize>,
    /// How long it sleeps when it has emptied all carriers, 0.2 to 1 ms. A carrier must have room for what
    /// comes meanwhile. Default: 0.5 ms.
    pub interval: Duration,
    /// Seed of the hash that source ports are of. Default: that of the host.
    pub seed: Option<u64>,
    /// Called on the thread before its first frame; the place to drop capabilities. None are needed later.
    pub ready: Option<ThreadHook>,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self { nice: 10, cpu: None, interval: Duration::from_micros(500), seed: None, ready: None }
    }
}

impl fmt::Debug for AgentOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nice, cpu, interval, seed: _, ready: _ } = self;
        f.debug_struct("AgentOptions")
            .field("nice", nice)
            .field("cpu", cpu)
            .field("interval", interval)
            .finish_non_exhaustive()
    }
}

/// A running agent. Dropping it stops it, as [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct AgentThread {
    shared: Arc<Shared>,
    changes: Sender<Change>,
    /// In the sequence in which they were given.
    carriers: Mutex<Vec<Open>>,
    thread: Option<JoinHandle<Vec<Reader>>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// By carrier, of the end of a pass.
    counters: Mutex<Vec<FrameCounters>>,
}

/// A carrier of the thread.
#[derive(Debug)]
struct Open {
    name: String,
    session: SessionOut,
    /// The kernel's counters.
    interface: CounterReader,
}

/// Sessions of all carriers, with a path where their target is another one.
pub(super) struct Plan(Vec<(SessionOut, Option<Path>)>);

/// What changes between two passes.
struct Change {
    plan: Plan,
    added: Vec<Reader>,
    /// Which are emptied, and then given back.
    ended: Vec<usize>,
    done: Sender<Vec<Reader>>,
}

impl AgentThread {
    /// Starts the thread, and returns when it is ready.
    ///
    /// # Errors
    ///
    /// [`AgentError::Thread`]: CPU or nice level are refused, or what [`ready`](AgentOptions::ready) said.
    pub fn start(carriers: Vec<Carrier>, options: AgentOptions) -> Result<Self, AgentError> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            counters: Mutex::new(vec![FrameCounters::default(); carriers.len()]),
        });
        let (carriers, readers) = carriers.into_iter().map(open).unzip();
        let (changes, changed) = bounded(1);
        let (ready, is_ready) = bounded(1);
        // Its file may be out of reach for a thread that is ready.
        let seed = options.seed.unwrap_or_else(|| Seed::of_host().value);
        let run = {
            let shared = Arc::clone(&shared);
            move || {
                let set_up = set_up(&options);
                let is_set_up = set_up.is_ok();
                // Nobody waits for it who would not see that the thread has ended.
                let _ = ready.send(set_up);
                if is_set_up { run(readers, seed, options.interval, &shared, &changed) } else { readers }
            }
        };
        let failed = |what| move |source| AgentError::Thread { what, source };
        let thread = thread::Builder::new().name("agent".to_owned()).spawn(run).map_err(failed("start"))?;
        is_ready.recv().map_err(|_| AgentError::Ended)??;
        Ok(Self { shared, changes, carriers: Mutex::new(carriers), thread: Some(thread) })
    }

    /// Counters of each carrier, in the sequence in which they were given.
    #[must_use]
    pub fn counters(&self) -> Vec<CarrierCounters> {
        let frames = lock(&self.shared.counters).clone();
        let mut carriers = lock(&self.carriers);
        carriers.iter_mut().zip(frames).map(|(carrier, frames)| carrier.counters(frames)).collect()
    }

    /// Sends to other sessions from now on, one for each carrier in the sequence in which they were given.
    /// Counters go on. With another target it needs CAP_NET_RAW, in the carriers' network namespace.
    ///
    /// # Errors
    ///
    /// [`AgentError::Sessions`]: not one for each carrier. [`AgentError::Host`] and [`AgentError::Socket`]: a
    /// new target has no route, or a privilege is missing. [`AgentError::Ended`]. All stay as they were.
    pub fn replace(&mut self, sessions: &[SessionOut]) -> Result<(), AgentError> {
        let carriers = lock(&self.carriers).len();
        if sessions.len() != carriers {
            return Err(AgentError::Sessions { sessions: sessions.len(), carriers });
        }
        let mut sessions = sessions.iter();
        let plan = self.plan(|_| sessions.next().copied())?;
        self.change(plan, Vec::new(), |_| false).map(drop)
    }

    /// What the carriers send from a [`change`](Self::change) on: `session_of` is asked for each by its name,
    /// and `None` is what it has. See [`replace`](Self::replace).
    pub(super) fn plan(
        &self,
        mut session_of: impl FnMut(&str) -> Option<SessionOut>,
    ) -> Result<Plan, AgentError> {
        let with_path = |carrier: &Open| {
            let session = session_of(&carrier.name).unwrap_or(carrier.session);
            let is_elsewhere = session.to.ip() != carrier.session.to.ip();
            Ok((session, is_elsewhere.then(|| Path::open(session.to)).transpose()?))
        };
        lock(&self.carriers).iter().map(with_path).collect::<Result<_, _>>().map(Plan)
    }

    /// Follows a plan, with further carriers. Those of the names that `is_ended` says are emptied, for up to
    /// 5 s, and removed; returns their last counters. First let nothing more be redirected to them.
    ///
    /// # Errors
    ///
    /// [`AgentError::Ended`].
    pub(super) fn change(
        &mut self,
        plan: Plan,
        added: Vec<Carrier>,
        is_ended: impl Fn(&str) -> bool,
    ) -> Result<Vec<CarrierCounters>, AgentError> {
        let mut carriers = lock(&self.carriers);
        let sessions: Vec<_> = plan.0.iter().map(|(session, _)| *session).collect();
        let is_ended = |(at, carrier): (usize, &Open)| is_ended(&carrier.name).then_some(at);
        let ended: Vec<_> = carriers.iter().enumerate().filter_map(is_ended).collect();
        let (opened, added): (Vec<_>, _) = added.into_iter().map(open).unzip();
        let (done, is_done) = bounded(1);
        let change = Change { plan, added, ended: ended.clone(), done };
        self.changes.send(change).map_err(|_| AgentError::Ended)?;
        // The devices are there until their counters are read.
        let readers = is_done.recv().map_err(|_| AgentError::Ended)?;
        for (carrier, session) in carriers.iter_mut().zip(sessions) {
            carrier.session = session;
        }
        carriers.extend(opened);
        let mut counters = Vec::new();
        for (at, reader) in ended.into_iter().rev().zip(readers) {
            counters.push(carriers.remove(at).counters(reader.counters()));
        }
        Ok(counters)
    }

    /// Whether the thread runs. Nothing is sent when it has panicked.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Sends what is in the carriers, for up to 5 s, removes them, and returns the last counters. First let
    /// nothing more be redirected to them.
    #[must_use]
    pub fn stop(mut self) -> Vec<CarrierCounters> {
        // Until the counters are read.
        let _readers = self.end();
        self.counters()
    }

    fn end(&mut self) -> Option<Vec<Reader>> {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.take()?.join().ok()
    }
}

impl Drop for AgentThread {
    fn drop(&mut self) {
        drop(self.end());
    }
}

fn open(carrier: Carrier) -> (Open, Reader) {
    let (name, session) = (carrier.name().to_owned(), carrier.session());
    let (interface, reader) = carrier.into_parts();
    (Open { name, session, interface }, reader)
}

impl Open {
    fn counters(&mut self, frames: FrameCounters) -> CarrierCounters {
        CarrierCounters {
            carrier: self.name.clone(),
            carrier_dropped: self.interface.read().ok().and_then(|all| all.get("tx_dropped").copied()),
            frames,
        }
    }
}

/// Values are valid even after a panic under such a lock, so poisoning is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_up(options: &AgentOptions) -> Result<(), AgentError> {
    let failed = |what| move |source: io::Error| AgentError::Thread { what, source };
    if let Some(cpu) = options.cpu {
        pin(cpu).map_err(failed("its CPU"))?;
    }
    Scheduling::Ordinary { nice: options.nice }.set_own().map_err(failed("its nice level"))?;
    options.ready.as_ref().map_or(Ok(()), |ready| ready()).map_err(failed("made ready"))
}

/// Carriers that end.
struct Ending {
    /// Ascending.
    which: Vec<usize>,
    until: Instant,
    done: Sender<Vec<Reader>>,
}

impl Change {
    /// Makes it, but for the carriers that end.
    fn begin(self, readers: &mut Vec<Reader>, now: Instant) -> Ending {
        let Self { plan: Plan(sessions), added, ended, done } = self;
        for (reader, (session, path)) in readers.iter_mut().zip(sessions) {
            reader.replace(session, path);
        }
        readers.extend(added);
        Ending { which: ended, until: now + DRAIN, done }
    }
}

fn run(
    mut readers: Vec<Reader>,
    seed: u64,
    interval: Duration,
    shared: &Shared,
    changes: &Receiver<Change>,
) -> Vec<Reader> {
    let (mut buffer, mut burst) = (Buffer::new(), Burst::new());
    let mut ending: Option<Ending> = None;
    let mut until = None;
    loop {
        let now = Instant::now();
        // Both before the carriers are found empty.
        let is_last = shared.stop.load(Ordering::Acquire);
        if let Ok(change) = changes.try_recv() {
            ending = Some(change.begin(&mut readers, now));
        }
        let (mut may_have_more, mut is_ended) = (false, true);
        for (at, reader) in readers.iter_mut().enumerate() {
            reader.look(now);
            if reader.pass(&mut buffer, seed, &mut burst) {
                may_have_more = true;
                is_ended &= !ending.as_ref().is_some_and(|ending| ending.which.contains(&at));
            }
        }
        let over =
            ending.take_if(|ending| is_ended || now > ending.until).map(|Ending { which, done, .. }| {
                let removed: Vec<_> = which.iter().rev().map(|at| readers.remove(*at)).collect();
                (removed, done)
            });
        let mut published = lock(&shared.counters);
        published.clear();
        published.extend(readers.iter().map(Reader::counters));
        drop(published);
        if let Some((removed, done)) = over {
            // Nobody waits for it who has not stopped this thread.
            let _ = done.send(removed);
        }
        let is_over = is_last && now > *until.get_or_insert(now + DRAIN);
        if is_last && !may_have_more || is_over {
            return readers;
        }
        if !may_have_more {
            thread::sleep(interval);
        }
    }
}
