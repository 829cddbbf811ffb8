//! Signals, heard by a thread of their own.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2},
    iterator::Signals,
};

use crate::terminal;

/// What signals other than INT and TERM have asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// USR1: print statistics.
    pub(crate) statistics: AtomicBool,
    /// USR2: flush.
    pub(crate) flush: AtomicBool,
}

/// Starts to hear signals. At the first INT or TERM `stop` is set and `on_stop` called; `on_abort` at the second, before the process
/// exits at once with code 1: files then keep their hidden names.
pub(crate) fn hear(
    stop: Arc<AtomicBool>,
    on_stop: impl Fn() + Send + 'static,
    on_abort: impl Fn() + Send + 'static,
) -> anyhow::Result<Arc<Asked>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGUSR2]).context("signals cannot be heard")?;
    let asked = Arc::new(Asked::default());
    let shared = Arc::clone(&asked);
    thread::Builder::new()
        .name("mirror-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGUSR1 => shared.statistics.store(true, Ordering::Relaxed),
                    SIGUSR2 => shared.flush.store(true, Ordering::Relaxed),
                    _ if stop.swap(true, Ordering::Relaxed) => {
                        on_abort();
                        terminal::clear_live_line();
                        eprintln!(
                            "mirror: stopped at once: files are incomplete and keep their hidden names"
                        );
                        process::exit(crate::FAILED.into());
                    }
                    _ => on_stop(),
                }
            }
        })
        .context("thread for signals")?;
    Ok(asked)
}
