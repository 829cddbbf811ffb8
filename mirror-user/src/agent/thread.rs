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
    sessions: Vec<SessionOut>,
    changes: Sender<Vec<(SessionOut, Option<Path>)>>,
    names: Vec<String>,
    /// Kernel's counters of each carrier.
    interfaces: Mutex<Vec<CounterReader>>,
    thread: Option<JoinHandle<Vec<Reader>>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// By carrier, of the end of a pass.
    counters: Mutex<Vec<FrameCounters>>,
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
        let names = carriers.iter().map(|carrier| carrier.name().to_owned()).collect();
        let sessions = carriers.iter().map(Carrier::session).collect();
        let (interfaces, readers) = carriers.into_iter().map(Carrier::into_parts).unzip();
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
        let interfaces = Mutex::new(interfaces);
        Ok(Self { shared, sessions, changes, names, interfaces, thread: Some(thread) })
    }

    /// Counters of each carrier, in the sequence in which they were given.
    #[must_use]
    pub fn counters(&self) -> Vec<CarrierCounters> {
        let frames = lock(&self.shared.counters).clone();
        let mut interfaces = lock(&self.interfaces);
        let carriers = self.names.iter().zip(interfaces.iter_mut()).zip(frames);
        carriers
            .map(|((name, interface), frames)| CarrierCounters {
                carrier: name.clone(),
                carrier_dropped: interface.read().ok().and_then(|all| all.get("tx_dropped").copied()),
                frames,
            })
            .collect()
    }

    /// Sends to other sessions from the next pass on, one for each carrier in the sequence in which they were
    /// given. Counters go on. With another target it needs CAP_NET_RAW, in the carriers' network namespace.
    ///
    /// # Errors
    ///
    /// [`AgentError::Sessions`]: not one for each carrier. [`AgentError::Host`] and [`AgentError::Socket`]: a
    /// new target has no route, or a privilege is missing. [`AgentError::Ended`]. All stay as they were.
    pub fn replace(&mut self, sessions: &[SessionOut]) -> Result<(), AgentError> {
        if sessions.len() != self.sessions.len() {
            let (sessions, carriers) = (sessions.len(), self.sessions.len());
            return Err(AgentError::Sessions { sessions, carriers });
        }
        let with_path = |(session, before): (&SessionOut, &SessionOut)| {
            let is_elsewhere = session.to.ip() != before.to.ip();
            let path = is_elsewhere.then(|| Path::open(session.to)).transpose()?;
            Ok::<_, AgentError>((*session, path))
        };
        let changes = sessions.iter().zip(&self.sessions).map(with_path).collect::<Result<_, _>>()?;
        self.changes.send(changes).map_err(|_| AgentError::Ended)?;
        self.sessions = sessions.to_vec();
        Ok(())
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

fn run(
    mut readers: Vec<Reader>,
    seed: u64,
    interval: Duration,
    shared: &Shared,
    changes: &Receiver<Vec<(SessionOut, Option<Path>)>>,
) -> Vec<Reader> {
    let (mut buffer, mut burst) = (Buffer::new(), Burst::new());
    let mut until = None;
    loop {
        // Before the carriers are found empty.
        let is_last = shared.stop.load(Ordering::Acquire);
        if let Ok(sessions) = changes.try_recv() {
            for (reader, (session, path)) in readers.iter_mut().zip(sessions) {
                reader.replace(session, path);
            }
        }
        let now = Instant::now();
        let mut may_have_more = false;
        for reader in &mut readers {
            reader.look(now);
            may_have_more |= reader.pass(&mut buffer, seed, &mut burst);
        }
        for (published, reader) in lock(&shared.counters).iter_mut().zip(&readers) {
            *published = reader.counters();
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
