//! The moment in which the worker of one process stops and that of another begins.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::event::{EventfdFlags, eventfd};

/// How often a worker that waits looks whether the run ends meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// What workers of two processes share: an eventfd, whose value is the time at which the first has stopped,
/// or from which on frames have passed to the host.
pub(crate) fn new_signal() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Says that a worker has stopped, and that nobody has taken frames since this time, CLOCK_MONOTONIC in ns.
pub(crate) fn announce(signal: &OwnedFd, now: u64) {
    if let Err(error) = rustix::io::write(signal, &now.max(1).to_ne_bytes()) {
        tracing::error!(%error, "the process that takes over waits in vain for a worker to stop");
    }
}

/// Waits for the announcement, and returns its time; `None` if the run ends before.
pub(crate) fn await_announcement(signal: &OwnedFd, ends: impl Fn() -> bool) -> Option<u64> {
    let mut value = [0; 8];
    loop {
        match rustix::io::read(signal, &mut value) {
            Ok(_) => return Some(u64::from_ne_bytes(value)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if !ends() => {}
            Err(error) => {
                tracing::debug!(%error, "waiting for the worker of another process");
                return None;
            }
        }
        let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(signal.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::debug!(%error, "waiting for the worker of another process");
                return None;
            }
        }
    }
}
