//! The losses of an AF_XDP socket each millisecond, by a thread of the worker's CPU that runs before it.

use std::{
    fs,
    os::fd::{OwnedFd, RawFd},
    process::Command,
    sync::{Arc, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep},
    unistd::gettid,
};
use rustix::{
    net::{
        AddressFamily,
        sockopt::{socket_domain, xdp_statistics},
    },
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

use super::Micros;
use crate::receiver::pin;

/// Between two samples.
pub(super) const PERIOD: Micros = 1000;
/// Workers have 1.
const PRIORITY: &str = "2";

/// The socket's losses up to a moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sample {
    /// When it was due.
    pub(super) due: Micros,
    /// When it was taken: late where the CPU did not run, or what ran could not be preempted.
    pub(super) at: Micros,
    /// `rx_dropped` and `rx_ring_full` of `XDP_STATISTICS` (5.9) since the socket was opened.
    pub(super) lost: u64,
}

/// Takes samples until it is finished or dropped: after an error other parts are measured.
pub(super) struct Sampler {
    wanted: Arc<()>,
    thread: JoinHandle<Result<Vec<Sample>>>,
}

impl Sampler {
    /// Of the only AF_XDP socket of this process.
    pub(super) fn start(cpu: usize) -> Result<Self> {
        let socket = socket()?;
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        let sample = move || {
            pin(&[cpu]);
            be_first()?;
            take(&socket, &is_wanted)
        };
        let thread = thread::Builder::new().name("sampler".into()).spawn(sample).context("a thread")?;
        Ok(Self { wanted, thread })
    }

    pub(super) fn finish(self) -> Result<Vec<Sample>> {
        drop(self.wanted);
        self.thread.join().map_err(|_| anyhow!("the sampler panicked"))?
    }
}

/// Another descriptor of the socket.
fn socket() -> Result<OwnedFd> {
    let process = pidfd_open(getpid(), PidfdFlags::empty()).context("pidfd_open")?;
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        // The descriptor of the directory itself is gone by then, others are no sockets.
        let Ok(copy) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else { continue };
        if socket_domain(&copy).is_ok_and(|family| family == AddressFamily::XDP) {
            return Ok(copy);
        }
    }
    bail!("no AF_XDP socket is open")
}

/// Gives the calling thread a real-time priority above that of workers.
fn be_first() -> Result<()> {
    let thread = gettid().to_string();
    let chrt = Command::new("chrt").args(["--fifo", "--pid", PRIORITY, &thread]).output().context("chrt")?;
    if !chrt.status.success() {
        bail!("chrt: {}", String::from_utf8_lossy(&chrt.stderr).trim());
    }
    Ok(())
}

fn take(socket: &OwnedFd, wanted: &Weak<()>) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut due = now()?;
    while wanted.strong_count() > 0 {
        due += PERIOD;
        let until = TimeSpec::from(Duration::from_micros(due));
        clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &until)
            .context("clock_nanosleep")?;
        let at = now()?;
        let statistics = xdp_statistics(socket).context("XDP_STATISTICS")?;
        let full = statistics.rx_ring_full.context("XDP_STATISTICS without rx_ring_full (5.9)")?;
        samples.push(Sample { due, at, lost: statistics.rx_dropped + full });
        // Those that were missed are not made up for.
        due = due.max(at.saturating_sub(PERIOD));
    }
    Ok(samples)
}

/// `CLOCK_MONOTONIC`, as the trace has it.
#[expect(clippy::cast_possible_truncation, reason = "half a million years")]
fn now() -> Result<Micros> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).context("clock_gettime")?;
    Ok(Duration::from(time).as_micros() as Micros)
}
