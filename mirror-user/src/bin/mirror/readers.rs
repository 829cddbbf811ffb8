//! The wait of a replay for the readers of its streams.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use mirror_user::{escape, sink::forward::Target};

use crate::{outputs::Outputs, terminal};

/// Waits until each stream has a reader, because a replay is short and packets without a reader are lost.
/// Returns whether a signal ended the wait, so that nothing is read.
pub(crate) fn wait(at_most: Option<Duration>, quiet: bool, outputs: &Outputs, stop: &AtomicBool) -> bool {
    const POLL: Duration = Duration::from_millis(20);
    let start = Instant::now();
    let shown = |target: &Target| escape::line(&target.to_string()).into_owned();
    // Targets that connect need a reader that listens already.
    let missing = || outputs.without_readers().filter(|target| at_most.is_some() || target.listens());
    if !quiet {
        for target in missing() {
            terminal::say!("{}: waiting for its first reader", shown(target));
        }
    }
    while missing().next().is_some() {
        if stop.load(Ordering::Relaxed) {
            for target in missing() {
                terminal::say!(
                    "mirror: {}: stopped by a signal while waiting for a reader; nothing was read",
                    shown(target)
                );
            }
            return true;
        }
        if at_most.is_some_and(|most| start.elapsed() >= most) {
            for target in missing() {
                tracing::warn!("{target}: no reader connected within --wait-reader");
            }
            return false;
        }
        thread::sleep(POLL);
    }
    false
}
