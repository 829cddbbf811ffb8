//! The worker of one RX queue: pinned to a CPU, alone with its socket.

use std::{
    hint, mem,
    os::fd::OwnedFd,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;

use super::{
    hand_over::{announce, await_announcement},
    orders::{Order, Orders, Yield},
    priority::Saturation,
    setup::build,
};
use crate::{
    account::WorkerCounters,
    engine::{Event, Wait},
    error::panic_message,
    host::clock,
    pipeline::{Pipeline, SinkSlot},
    sink::{SinkFactory, WorkerContext},
    xsk::{BatchTime, Pieces, Received, Several, Socket, StampedTimes, Stamps, Statistics, Times},
};

/// Sinks get their tick twice as often as promised, so that a promise of 100 ms holds.
const TICK: Duration = Duration::from_millis(50);
/// The ring counts as drained when it was found empty this many times in a row, [`DRAIN_PAUSE`] apart: a
/// softirq that had the program when it was detached may still deliver.
const DRAIN_ROUNDS: u32 = 4;
const DRAIN_PAUSE: Duration = Duration::from_millis(5);
/// How long a ring may take to run dry. Only a program that another process keeps attached refills it for
/// longer.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// The least that a worker sleeps on a timer: about as long as a wake-up takes.
const NAP: Duration = Duration::from_micros(25);
/// It sleeps until about this part of its ring is full.
const NAP_PART: u32 = 8;
/// From so many frames since its last sleep on, it sleeps on the timer.
const NAP_FRAMES: u32 = 16;
/// The smallest RX ring with which it does: it holds the frames of three such sleeps at 15 million a second.
const NAP_RING: u32 = 1024;
/// How long a worker rests, at most, where others need its CPU more: many times what two context switches
/// take.
const REST: Duration = Duration::from_micros(500);
/// Frames a second at which its ring does not fill up meanwhile.
const REST_RATE: u32 = 8_000_000;
/// How much later than asked for the kernel may end a sleep, in ns. Its default is 50 µs.
const TIMER_SLACK: u64 = 1_000;

/// Commands of the engine to its workers.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// The program is detached: empty the ring and finish.
    pub(crate) drain: AtomicBool,
    /// Counts the flushes asked for.
    pub(crate) flush: AtomicU64,
}

/// Counters that a worker publishes while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) counters: WorkerCounters,
    pub(crate) statistics: Statistics,
    /// When; `None` before the first time.
    pub(crate) at: Option<Instant>,
    /// For how long nobody took frames while the worker of another process handed over.
    pub(crate) pause: Option<Duration>,
    /// The socket's [position](Socket::position) with these counters.
    pub(crate) position: u32,
}

/// How a worker works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingConfig {
    pub(crate) wait: Wait,
    /// The most frames a batch takes.
    pub(crate) batch: usize,
    /// Whether the XDP program stamps the frames.
    pub(crate) stamp: bool,
    /// Descriptors of the RX ring.
    pub(crate) rx_ring: u32,
    /// Whether the host has CPUs without a worker, for the kernel's half of the work.
    pub(crate) spare_cpus: bool,
}

impl RingConfig {
    /// How long the worker rests where others need its CPU more.
    fn rest(&self) -> Duration {
        REST.min(Duration::from_secs(1) * self.rx_ring / REST_RATE)
    }

    /// How long the worker sleeps on the timer, if so many frames came in the time since it last began to;
    /// zero if it did not. Each sleep costs two context switches: the fewer the better, as long as a worker
    /// that is late finds room in the ring.
    fn nap(&self, frames: u32, since: Duration) -> Duration {
        let part = self.rx_ring / NAP_PART;
        // Up to a quarter of what a ring has room for at the highest rate.
        let longest = (self.rest() / 4).max(NAP);
        since.saturating_mul(part).checked_div(frames).unwrap_or(NAP).clamp(NAP, longest)
    }
}

/// A worker that is ready to run.
pub(crate) struct RingWorker {
    pub(crate) config: RingConfig,
    /// Interface and queue that it reads.
    pub(crate) place: (Arc<str>, u32),
    pub(crate) socket: Socket,
    pub(crate) pipeline: Pipeline,
    pub(crate) control: Arc<Control>,
    pub(crate) orders: Arc<Orders>,
    /// Where the worker of another process says that it has stopped; this one begins then.
    pub(crate) after: Option<OwnedFd>,
    /// How to make way for another.
    pub(crate) yields: Option<Yield>,
    /// Sinks that were built for a change to come, by their places.
    pub(crate) built: Vec<(usize, Option<SinkSlot>)>,
    /// What they are built with.
    pub(crate) cx: WorkerContext,
    pub(crate) published: Arc<Mutex<Published>>,
    pub(crate) events: Sender<Event>,
    pub(crate) saturation: Saturation,
}

/// The closed account of a worker.
#[derive(Clone, Debug)]
pub(crate) struct RingOutcome {
    pub(crate) counters: WorkerCounters,
    pub(crate) statistics: Statistics,
    /// Frames without a stamp although the XDP program writes stamps: the driver has no metadata area.
    pub(crate) unstamped: u64,
    /// Why the worker died, if it did.
    pub(crate) died: Option<String>,
}

impl RingWorker {
    /// Works until the program is detached, then empties the ring and finishes the sinks.
    pub(crate) fn run(mut self) -> RingOutcome {
        let started = Instant::now();
        if let Err(error) = nix::sys::prctl::set_timerslack(TIMER_SLACK) {
            tracing::debug!(%error, "PR_SET_TIMERSLACK: the worker sleeps longer than planned");
        }
        let mut progress = Progress {
            busy: Duration::ZERO,
            next_tick: started + TICK,
            flushed: self.control.flush.load(Ordering::Relaxed),
            stamps: Stamps::new(clock::monotonic(), clock::realtime_offset()),
            spent: false,
            empty_rounds: 0,
            since_pause: 0,
            napped: None,
            draining_since: None,
        };
        self.follow(&mut progress);
        let mut died = None;
        // Unwind safety: after a panic the pipeline takes no more frames; what it counted stands.
        while let Err(payload) =
            panic::catch_unwind(AssertUnwindSafe(|| self.work(&mut progress, died.is_some(), started)))
        {
            let reason = panic_message(&*payload);
            let (interface, queue) = &self.place;
            tracing::error!(
                interface = &**interface,
                queue,
                reason,
                "worker panicked; further frames of this queue count as abandoned"
            );
            died = Some(died_of(interface, *queue, &reason));
            let event = Event::WorkerDied { interface: interface.to_string(), queue: *queue, reason };
            // An engine that was dropped has no receiver.
            let _ = self.events.send(event);
        }
        let statistics = self.socket.statistics().unwrap_or_else(|error| {
            tracing::error!(%error, "XDP_STATISTICS cannot be read: the kernel's drops are missing from the \
                account");
            Statistics::default()
        });
        if let Some(Yield { to, passing_since }) = self.yields.take() {
            let since = match passing_since {
                // Only then its queue takes another.
                Some(since) => {
                    drop(self.socket);
                    since
                }
                None => clock::monotonic(),
            };
            announce(&to, since);
            // What is left to do must not keep the CPU from the one that takes the frames now.
            self.saturation.retire();
        }
        self.orders.close();
        let (frames, sinks) = self.pipeline.finish();
        let counters = WorkerCounters {
            frames,
            sinks,
            busy_ns: nanoseconds(progress.busy),
            elapsed_ns: nanoseconds(started.elapsed()),
            saturated: self.saturation.times(),
        };
        // For reports of a run that continues without this worker. A blocking lock is fine here: no frames
        // come any more.
        let mut shown = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        (shown.counters, shown.statistics, shown.at) = (counters.clone(), statistics, Some(Instant::now()));
        drop(shown);
        RingOutcome { counters, statistics, unstamped: progress.stamps.missing, died }
    }

    /// Waits until the worker of another process has stopped, if this one follows it.
    fn follow(&mut self, progress: &mut Progress) {
        let Some(signal) = self.after.take() else { return };
        let stopped = await_announcement(&signal, || self.control.drain.load(Ordering::Acquire));
        self.socket.resume();
        let now = clock::monotonic();
        progress.next_tick = Instant::now();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.pause = stopped.map(|at| Duration::from_nanos(now.saturating_sub(at)));
    }

    fn work(&mut self, progress: &mut Progress, dead: bool, started: Instant) {
        loop {
            let begin = Instant::now();
            let draining =
                self.control.drain.load(Ordering::Acquire) || self.yields.as_ref().is_some_and(Yield::closes);
            if draining && progress.is_patience_over(begin) {
                tracing::error!(
                    "frames keep coming after the program was detached: another process keeps it attached"
                );
                return;
            }
            while let Some(order) = self.orders.take() {
                self.obey(order, dead);
            }
            if self.yields.as_ref().is_some_and(|it| !it.closes()) && !self.socket.is_within_a_frame() {
                return;
            }
            let received = self.socket.receive(self.config.batch);
            if received.is_empty() {
                drop(received);
                self.saturation.rest();
                if draining {
                    progress.empty_rounds += 1;
                    if progress.empty_rounds >= DRAIN_ROUNDS {
                        return;
                    }
                    thread::sleep(DRAIN_PAUSE);
                } else {
                    self.pause(begin, progress);
                }
            } else {
                progress.empty_rounds = 0;
                let must_rest = self.saturation.work(begin);
                progress.since_pause = progress.since_pause.saturating_add(received.len());
                // The frames of a worker that has died are abandoned.
                let pipeline = &mut self.pipeline;
                if dead {
                    pipeline.abandon(received.frame_count());
                } else if self.config.stamp {
                    let (stamps, now) = (&mut progress.stamps, clock::monotonic());
                    process(pipeline, &received, StampedTimes { stamps, now, instead: clock::realtime });
                } else {
                    process(pipeline, &received, BatchTime(clock::realtime()));
                }
                drop(received);
                progress.busy += begin.elapsed();
                if must_rest {
                    thread::sleep(self.config.rest());
                }
                if !progress.spent && self.pipeline.is_spent() {
                    progress.spent = true;
                    // As above.
                    let _ = self.events.send(Event::CountReached);
                }
            }
            if begin >= progress.next_tick {
                self.tick(begin, progress, dead, started);
            }
        }
    }

    /// Carries out an order, between two batches.
    fn obey(&mut self, order: Order, dead: bool) {
        match order {
            Order::Build { sinks, built } => {
                let sink = |(place, factory): (usize, Arc<dyn SinkFactory>)| {
                    build(&*factory, &self.cx).map(|slot| (place, Some(slot)))
                };
                // One that has died has no frames for them.
                let sinks = if dead { Ok(Vec::new()) } else { sinks.into_iter().map(sink).collect() };
                let answer = sinks.map(|sinks| self.built = sinks);
                // Who has given up waiting has no receiver.
                let _ = built.send(answer);
            }
            Order::Change { remove, reselect, selection, changed } => {
                self.pipeline.reselect(reselect);
                let removed = remove.into_iter().map(|place| (place, None));
                self.pipeline.change(selection, removed.chain(mem::take(&mut self.built)));
                self.orders.leaving.store(self.pipeline.settle(), Ordering::Release);
                // As above.
                let _ = changed.send(());
            }
            Order::Discard => self.built.clear(),
            Order::Lend { lent } => {
                // As above.
                let _ = lent.send(self.socket.parts());
            }
            Order::Yield(how) => self.yields = Some(how),
        }
    }

    fn may_nap(&self) -> bool {
        self.config.spare_cpus && self.config.rx_ring >= NAP_RING
    }

    /// Waits for frames, from this time on.
    fn pause(&mut self, now: Instant, progress: &mut Progress) {
        let frames = mem::take(&mut progress.since_pause);
        let napped = progress.napped.take();
        match self.config.wait {
            // Each time it wakes, a real-time worker takes the CPU from the threads of its sinks, and only to
            // drop what they have no blocks for.
            Wait::Poll if self.pipeline.is_behind() => thread::sleep(self.config.rest()),
            // Waking a thread costs the kernel's core microseconds for each batch it delivers, a quarter of
            // its capacity. Where many frames came more will, and a worker that sleeps on a timer need not be
            // woken. Not on a CPU that does both: a worker that wakes on a timer takes it from the kernel's
            // half too often.
            Wait::Poll if frames >= NAP_FRAMES && self.may_nap() => {
                let since = napped.map_or(Duration::ZERO, |napped| now.saturating_duration_since(napped));
                progress.napped = Some(now);
                thread::sleep(self.config.nap(frames, since));
            }
            Wait::Poll => {
                let until_tick = progress.next_tick.saturating_duration_since(now);
                if let Err(error) = self.socket.wait(until_tick.max(Duration::from_millis(1))) {
                    tracing::debug!(%error, "poll");
                    thread::sleep(DRAIN_PAUSE);
                }
            }
            Wait::Spin => hint::spin_loop(),
            Wait::BusyPoll => self.socket.drive(),
        }
    }

    fn tick(&mut self, now: Instant, progress: &mut Progress, dead: bool, started: Instant) {
        progress.next_tick = now + TICK;
        progress.stamps.realtime_offset = clock::realtime_offset();
        if !dead {
            self.pipeline.tick(now);
            self.orders.leaving.store(self.pipeline.settle(), Ordering::Release);
            let flush = self.control.flush.load(Ordering::Relaxed);
            if flush != progress.flushed {
                progress.flushed = flush;
                self.pipeline.flush();
            }
        }
        // A reader holds the lock only to copy; if it is preempted meanwhile, the next tick publishes.
        let mut published = match self.published.try_lock() {
            Ok(published) => published,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        published.at = Some(now);
        published.position = self.socket.position();
        self.pipeline.publish(&mut published.counters);
        published.counters.busy_ns = nanoseconds(progress.busy);
        published.counters.elapsed_ns = nanoseconds(started.elapsed());
        published.counters.saturated = self.saturation.times();
        match self.socket.statistics() {
            Ok(statistics) => published.statistics = statistics,
            Err(error) => tracing::debug!(%error, "XDP_STATISTICS"),
        }
    }
}

/// What ended a run that ended by the death of a worker.
pub(crate) fn died_of(interface: &str, queue: u32, reason: &str) -> String {
    format!("{interface} queue {queue}: the worker {reason}")
}

fn process<T: Times>(pipeline: &mut Pipeline, received: &Received<'_>, times: T) {
    if received.is_in_several() {
        let mut pieces = Pieces::new();
        let mut several = Several::new();
        pipeline.process(received.frames_in_several(times, &mut pieces, &mut several));
    } else {
        pipeline.process(received.frames(times));
    }
}

/// Where a worker is, kept across a panic.
struct Progress {
    busy: Duration,
    next_tick: Instant,
    flushed: u64,
    stamps: Stamps,
    spent: bool,
    empty_rounds: u32,
    /// Frames taken since the worker last waited for some.
    since_pause: u32,
    /// When it last began to sleep on the timer, unless it was woken after that.
    napped: Option<Instant>,
    draining_since: Option<Instant>,
}

impl Progress {
    fn is_patience_over(&mut self, now: Instant) -> bool {
        now.duration_since(*self.draining_since.get_or_insert(now)) >= DRAIN_PATIENCE
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
