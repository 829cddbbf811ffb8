//! Signals, on a thread of their own.

use std::{
    fs, io, process,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::Context as _;
use mirror_user::{escape, hidden_file::HiddenFile, host::scheduling, sink::pcap::Rotator};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ},
    flag,
    iterator::Signals,
};

use crate::{outputs::Outputs, reload::Reloaded, requests::Requests, terminal, upgrade::Upgrades};

/// What signals have requested.
#[derive(Default)]
pub(crate) struct SignalRequests {
    /// INT, TERM, or HUP without a file to rotate: stop cleanly.
    pub(crate) stop: Arc<AtomicBool>,
    /// TERM, of a run that drains: take packets until no more come, then stop.
    pub(crate) drain: AtomicBool,
    /// USR1: print statistics.
    pub(crate) statistics: AtomicBool,
    /// USR2: flush.
    pub(crate) flush: AtomicBool,
    /// INT or TERM has come; `stop` may be set for other reasons, too.
    signalled: AtomicBool,
    /// HUP came before the run had started.
    hup_pending: AtomicBool,
    started: OnceLock<StartedRun>,
    /// Called when a drain begins; unset if the run stops at once.
    on_drain: Action,
    /// HUP and control requests ask for a reload there; unset if the run has no configuration file.
    pub(crate) reload: OnceLock<Requests<Reloaded>>,
    /// Control requests ask for an upgrade there; unset if the run has no monitor.
    pub(crate) upgrade: OnceLock<Upgrades>,
    /// What USR1 and USR2 do at once, if nobody polls `statistics` and `flush`.
    on_statistics: Action,
    on_flush: Action,
}

/// What a signal does at once, on the signal thread.
type Action = OnceLock<Box<dyn Fn() + Send + Sync>>;

/// A run that has started.
struct StartedRun {
    on_stop: Box<dyn Fn() + Send + Sync>,
    on_abort: Box<dyn Fn() + Send + Sync>,
    report: Option<Arc<HiddenFile>>,
    rotators: Mutex<Vec<Rotator>>,
}

impl SignalRequests {
    /// The run has started. From now on the first INT or TERM calls `on_stop`, and the second exits at once
    /// with code 1 (of a run that [drains](Self::drain_first), one later): it calls `on_abort`, files keep
    /// their hidden names, and the empty file of the report is removed. HUP rotates capture files, and
    /// requests a reload; without any to rotate, and without a configuration file, it acts as INT.
    ///
    /// Until then a signal is only remembered: the start does not take long, and a started run stops cleanly.
    pub(crate) fn started(
        &self,
        outputs: &Outputs,
        on_stop: impl Fn() + Send + Sync + 'static,
        on_abort: impl Fn() + Send + Sync + 'static,
    ) {
        self.started.get_or_init(|| StartedRun {
            on_stop: Box::new(on_stop),
            on_abort: Box::new(on_abort),
            report: outputs.report(),
            rotators: Mutex::new(outputs.rotators()),
        });
        self.handle_hup();
    }

    /// The outputs have changed: HUP rotates these capture files from now on.
    pub(crate) fn changed(&self, outputs: &Outputs) {
        if let Some(started) = self.started.get() {
            *started.rotators.lock().unwrap_or_else(PoisonError::into_inner) = outputs.rotators();
        }
    }

    /// The first TERM begins a drain from now on: it calls `on_drain`. The next one, or INT, stops the run.
    pub(crate) fn drain_first(&self, on_drain: impl Fn() + Send + Sync + 'static) {
        self.on_drain.get_or_init(|| Box::new(on_drain));
    }

    /// Begins the drain. Returns `false` if the run does not drain, drains already, or stops.
    pub(crate) fn begin_drain(&self) -> bool {
        let Some(on_drain) = self.on_drain.get() else { return false };
        let begins = !self.stop.load(Ordering::Relaxed) && !self.drain.swap(true, Ordering::Relaxed);
        if begins {
            on_drain();
        }
        begins
    }

    /// USR1 calls this from now on, on the signal thread, and at once if it has come before.
    pub(crate) fn on_statistics(&self, print: impl Fn() + Send + Sync + 'static) {
        self.on_statistics.get_or_init(|| Box::new(print));
        handle(&self.statistics, &self.on_statistics);
    }

    /// The same for USR2.
    pub(crate) fn on_flush(&self, flush: impl Fn() + Send + Sync + 'static) {
        self.on_flush.get_or_init(|| Box::new(flush));
        handle(&self.flush, &self.on_flush);
    }

    /// Handles HUP.
    fn hup(&self) {
        self.hup_pending.store(true, Ordering::Relaxed);
        self.handle_hup();
    }

    /// Rotates or stops, once the run has started.
    fn handle_hup(&self) {
        let Some(started) = self.started.get() else { return };
        if !self.hup_pending.swap(false, Ordering::Relaxed) {
            return;
        }
        let rotators = started.rotators.lock().unwrap_or_else(PoisonError::into_inner);
        rotators.iter().for_each(Rotator::rotate);
        match self.reload.get() {
            Some(reload) => reload.request(()),
            None if rotators.is_empty() => self.end(),
            None => {}
        }
    }

    /// Handles XCPU: a worker has run at real-time priority for too long (RLIMIT_RTTIME), as one does that
    /// hangs in a sink; or the process has used up its CPU time (RLIMIT_CPU), and stops.
    fn out_of_time(&self) {
        match scheduling::end_realtime() {
            Ok(0) => self.end(),
            Ok(_) => tracing::warn!(
                "a worker ran at real-time priority for half a second without sleeping; all workers continue \
                at ordinary priority, so that the host is not starved"
            ),
            Err(error) => tracing::error!(%error, "cannot end the real-time priority of workers"),
        }
    }

    /// Handles TERM.
    fn terminate(&self) {
        if !self.begin_drain() {
            self.end();
        }
    }

    /// Handles INT, and TERM of a run that does not drain, or drains already.
    fn end(&self) {
        let again = self.signalled.swap(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        match self.started.get() {
            None => {}
            Some(started) if again => started.abort(),
            Some(started) => (started.on_stop)(),
        }
    }
}

/// Handles a signal that requests an action.
fn request(requested: &AtomicBool, action: &Action) {
    requested.store(true, Ordering::SeqCst);
    handle(requested, action);
}

/// Does what was requested, if nobody polls for it.
fn handle(requested: &AtomicBool, action: &Action) {
    if let Some(action) = action.get()
        && requested.swap(false, Ordering::SeqCst)
    {
        action();
    }
}

impl StartedRun {
    fn abort(&self) -> ! {
        (self.on_abort)();
        terminal::clear_live_line();
        if let Some(report) = &self.report
            && let Err(error) = report.remove_if_empty()
        {
            terminal::say!(
                "mirror: {}: {error}; remove it, it is empty",
                escape::path(&report.hidden_path())
            );
        }
        terminal::say!("mirror: stopped at once: files are incomplete and keep their hidden names");
        process::exit(crate::exit::FAILED.into());
    }
}

/// Starts the signal thread, which first calls `prepare`. Must be called before anything is created that the
/// signals' default action, to kill the process, would leave behind.
pub(crate) fn spawn_listener(
    prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> anyhow::Result<Arc<SignalRequests>> {
    const FAILED: &str = "cannot start the signal thread";
    const CANNOT_CATCH: &str = "cannot catch signals";
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU]).context(CANNOT_CATCH)?;
    if !hup_is_ignored() {
        signals.add_signal(SIGHUP).context(CANNOT_CATCH)?;
    }
    // A write over the limit of file size then fails, and the sink reports it.
    flag::register(SIGXFSZ, Arc::default()).context(CANNOT_CATCH)?;
    let requests = Arc::new(SignalRequests::default());
    let shared = Arc::clone(&requests);
    let (ready, is_ready) = mpsc::channel();
    thread::Builder::new()
        .name("mirror-signals".to_owned())
        .spawn(move || {
            let prepared = prepare();
            let failed = prepared.is_err();
            if ready.send(prepared).is_err() || failed {
                return;
            }
            for signal in signals.forever() {
                match signal {
                    SIGUSR1 => request(&shared.statistics, &shared.on_statistics),
                    SIGUSR2 => request(&shared.flush, &shared.on_flush),
                    SIGHUP => shared.hup(),
                    SIGXCPU => shared.out_of_time(),
                    SIGTERM => shared.terminate(),
                    _ => shared.end(),
                }
            }
        })
        .context(FAILED)?;
    is_ready.recv().context(FAILED)?.context(FAILED)?;
    Ok(requests)
}

/// Whether HUP was ignored when the process was started, as nohup(1) does.
fn hup_is_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        ignored.is_some_and(|mask| mask & 1 << (SIGHUP - 1) != 0)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn the_first_term_drains_and_the_second_stops() {
        let begun = Arc::new(AtomicU32::new(0));
        let requests = SignalRequests::default();
        let count = Arc::clone(&begun);
        requests.drain_first(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let state = || (requests.drain.load(Ordering::Relaxed), requests.stop.load(Ordering::Relaxed));
        requests.terminate();
        assert_eq!(state(), (true, false));
        assert!(!requests.begin_drain(), "only once");
        requests.terminate();
        assert_eq!((state(), begun.load(Ordering::Relaxed)), ((true, true), 1));
    }

    #[test]
    fn int_never_drains_and_neither_does_term_after_it_or_without_a_drain() {
        let requests = SignalRequests::default();
        requests.drain_first(|| ());
        requests.end();
        requests.terminate();
        assert!(requests.stop.load(Ordering::Relaxed) && !requests.drain.load(Ordering::Relaxed));
        let requests = SignalRequests::default();
        requests.terminate();
        assert!(requests.stop.load(Ordering::Relaxed) && !requests.drain.load(Ordering::Relaxed));
    }
}
