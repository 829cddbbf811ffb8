//! Signals, heard by a thread of their own.

use std::{
    io, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::Context as _;
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2},
    iterator::Signals,
};

use crate::terminal;

/// What signals have asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// INT or TERM: end in order.
    pub(crate) stop: AtomicBool,
    /// USR1: print statistics.
    pub(crate) statistics: AtomicBool,
    /// USR2: flush.
    pub(crate) flush: AtomicBool,
}

/// Starts to hear signals, on a thread that first does what `prepare` says. `on_stop` is called at the first INT or TERM.
/// `on_abort` is called at the second; if it agrees, the process exits at once with code 1, and files keep their hidden
/// names.
pub(crate) fn hear(
    prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    on_stop: impl Fn() + Send + 'static,
    on_abort: impl Fn() -> bool + Send + 'static,
) -> anyhow::Result<Arc<Asked>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGUSR2]).context("signals cannot be heard")?;
    let asked = Arc::new(Asked::default());
    let shared = Arc::clone(&asked);
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
                    SIGUSR1 => shared.statistics.store(true, Ordering::Relaxed),
                    SIGUSR2 => shared.flush.store(true, Ordering::Relaxed),
                    _ if shared.stop.swap(true, Ordering::Relaxed) => {
                        if on_abort() {
                            terminal::clear_live_line();
                            eprintln!(
                                "mirror: stopped at once: files are incomplete and keep their hidden names"
                            );
                            process::exit(crate::FAILED.into());
                        }
                    }
                    _ => on_stop(),
                }
            }
        })
        .context("thread for signals")?;
    is_ready.recv().context("thread for signals")?.context("thread for signals")?;
    Ok(asked)
}
