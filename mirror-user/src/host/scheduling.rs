//! How the kernel schedules a thread: sched(7). Minimum kernel version: 3.14 (sched_setattr(2)).
#![expect(
    unsafe_code,
    reason = "sched_setattr(2) and sched_getattr(2) take pointers, and have no safe wrapper"
)]

use std::{fs, io, thread, time::Duration};

use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How a thread competes for its CPU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheduling {
    /// `SCHED_FIFO` with this priority, 1 to 99: it runs as soon as it is ready, before all ordinary threads.
    Fifo(u32),
    /// `SCHED_OTHER` with this nice level, -20 to 19.
    Ordinary { nice: i32 },
    /// Another policy, by its number.
    Other(u32),
}

const FIFO: u32 = libc::SCHED_FIFO.cast_unsigned();
const OTHER: u32 = libc::SCHED_OTHER.cast_unsigned();
/// Threads that it starts have `SCHED_OTHER` and nice level 0. Once set, only CAP_SYS_NICE removes it.
const RESET_ON_FORK: u64 = libc::SCHED_FLAG_RESET_ON_FORK as u64;

impl Scheduling {
    /// All ordinary threads yield to it; the kernel's own real-time threads do not.
    pub(crate) const LOWEST_REALTIME: Self = Self::Fifo(1);

    /// That of the calling thread.
    pub(crate) fn own() -> io::Result<Self> {
        Self::of(Pid::from_raw(0))
    }

    /// That of a thread of this process, by its ID; 0 is the calling thread.
    pub(crate) fn of(thread: Pid) -> io::Result<Self> {
        let mut attributes = empty();
        // SAFETY: the kernel writes at most `size` bytes to `attributes`, and that is its size.
        let result = unsafe {
            libc::syscall(libc::SYS_sched_getattr, thread.as_raw(), &raw mut attributes, attributes.size, 0)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(match attributes.sched_policy {
            FIFO => Self::Fifo(attributes.sched_priority),
            OTHER => Self::Ordinary { nice: attributes.sched_nice },
            other => Self::Other(other),
        })
    }

    /// Sets it for the calling thread. Threads that it starts later do not inherit it.
    pub(crate) fn set_own(self) -> io::Result<()> {
        self.set(Pid::from_raw(0))
    }

    fn set(self, thread: Pid) -> io::Result<()> {
        let mut attributes = empty();
        attributes.sched_flags = RESET_ON_FORK;
        match self {
            Self::Fifo(priority) => {
                attributes.sched_policy = FIFO;
                attributes.sched_priority = priority;
            }
            Self::Ordinary { nice } => {
                attributes.sched_policy = OTHER;
                attributes.sched_nice = nice;
            }
            Self::Other(policy) => attributes.sched_policy = policy,
        }
        // SAFETY: the kernel reads at most `size` bytes from `attributes`, and that is its size.
        let result =
            unsafe { libc::syscall(libc::SYS_sched_setattr, thread.as_raw(), &raw const attributes, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Bytes of the first version of the structure, which every kernel takes.
const SIZE: u32 = 48;
const _: () = assert!(size_of::<libc::sched_attr>() == SIZE as usize);

fn empty() -> libc::sched_attr {
    libc::sched_attr {
        size: SIZE,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    }
}

/// Sets this process's limits of real-time scheduling (getrlimit(2)): RLIMIT_RTPRIO, so that threads may have
/// the lowest real-time priority after they have dropped CAP_SYS_NICE; and RLIMIT_RTTIME, so that SIGXCPU is
/// sent when one has run for `longest` without sleeping, and SIGKILL after ten times that. The library does
/// not call it; it is for the start of a program, which then handles SIGXCPU by [`end_realtime`]. A process
/// that was started with a real-time policy is left as it is.
///
/// # Errors
///
/// What the kernel said. Without CAP_SYS_RESOURCE it does not raise RLIMIT_RTPRIO; RLIMIT_RTTIME is set then.
pub fn limit_realtime(longest: Duration) -> io::Result<()> {
    if !matches!(Scheduling::own()?, Scheduling::Ordinary { .. }) {
        return Ok(());
    }
    let microseconds = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    let at_most = |limit: Option<u64>, most: u64| Some(limit.map_or(most, |limit| limit.min(most)));
    let Rlimit { current, maximum } = getrlimit(Resource::Rttime);
    setrlimit(
        Resource::Rttime,
        Rlimit {
            current: at_most(current, microseconds),
            maximum: at_most(maximum, microseconds.saturating_mul(10)),
        },
    )?;
    let Rlimit { current, maximum } = getrlimit(Resource::Rtprio);
    let at_least_one = |limit: Option<u64>| limit.map(|limit| limit.max(1));
    let limit = Rlimit { current: at_least_one(current), maximum: at_least_one(maximum) };
    Ok(setrlimit(Resource::Rtprio, limit)?)
}

/// Whether RLIMIT_RTPRIO lets threads without CAP_SYS_NICE have the lowest real-time priority.
pub(crate) fn limit_permits_realtime() -> bool {
    getrlimit(Resource::Rtprio).current.is_none_or(|limit| limit >= 1)
}

/// Whether a thread of this process may have the real-time priority that workers have by default. Tried on a
/// thread of its own.
///
/// # Errors
///
/// What the kernel said.
pub fn try_realtime() -> io::Result<()> {
    let tried = thread::Builder::new().spawn(|| Scheduling::LOWEST_REALTIME.set_own())?;
    tried.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

/// Sets each `SCHED_FIFO` thread of this process to ordinary scheduling, so that one that does not stop
/// running cannot starve the host. Returns how many there were. RLIMIT_RTPRIO is 0 afterwards, so that
/// without CAP_SYS_NICE none returns to it. For the handler of SIGXCPU, which the kernel sends when a
/// real-time thread has run for RLIMIT_RTTIME without sleeping.
///
/// # Errors
///
/// When `/proc/self/task` cannot be read, or the kernel refuses.
pub fn end_realtime() -> io::Result<usize> {
    let limit = getrlimit(Resource::Rtprio);
    setrlimit(Resource::Rtprio, Rlimit { current: Some(0), ..limit })?;
    let mut ended = 0;
    for entry in fs::read_dir("/proc/self/task")? {
        let Some(thread) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let thread = Pid::from_raw(thread);
        match Scheduling::of(thread) {
            Ok(Scheduling::Fifo(_)) => {
                Scheduling::Ordinary { nice: 0 }.set(thread)?;
                ended += 1;
            }
            Ok(_) => {}
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_has_the_scheduling_that_it_sets() {
        thread::spawn(|| {
            let before = Scheduling::own().unwrap();
            // Raising a nice level needs no privileges.
            let Scheduling::Ordinary { nice } = before else { panic!("{before:?}") };
            let nicer = Scheduling::Ordinary { nice: nice + 1 };
            nicer.set_own().unwrap();
            assert_eq!(Scheduling::own().unwrap(), nicer);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn real_time_is_not_inherited_and_ends_for_all_threads_at_once() {
        let (ready, is_ready) = mpsc::channel();
        let (end, is_ended) = mpsc::channel::<()>();
        let realtime = thread::spawn(move || {
            let set = Scheduling::Fifo(1).set_own();
            let child = thread::spawn(|| Scheduling::own().unwrap()).join().unwrap();
            assert!(matches!(child, Scheduling::Ordinary { .. }), "{child:?}");
            ready.send(set).unwrap();
            is_ended.recv().unwrap_err();
            Scheduling::own().unwrap()
        });
        let set = is_ready.recv().unwrap();
        let ended = end_realtime().unwrap();
        assert_eq!(ended, usize::from(set.is_ok()));
        drop(end);
        let after = realtime.join().unwrap();
        match set {
            Ok(()) => assert_eq!(after, Scheduling::Ordinary { nice: 0 }),
            // Without CAP_SYS_NICE.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{after:?}"),
        }
    }
}
