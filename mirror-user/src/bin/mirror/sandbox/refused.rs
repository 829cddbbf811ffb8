//! Filters of seccomp(2), and the answers to the calls they deny.
//!
//! A denied call is passed to a supervisor thread (`SECCOMP_RET_USER_NOTIF`, kernel 5.0), which makes it
//! return EPERM and logs it once. With `SECCOMP_RET_ERRNO` nothing could be logged. With `SECCOMP_RET_TRAP`,
//! a blocked SIGSYS kills the process, and the C library blocks all signals while it starts threads and
//! processes, which are among the denied calls.
//!
//! Besides tests, the only unsafe code of this command: seccomp(2) has no safe wrapper that supports these
//! flags.

use std::{
    collections::HashSet,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    mem,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use libc::{c_int, c_long};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use seccompiler::{BpfProgram, sock_filter};
use syscalls::Sysno;

use super::ThreadKind;

/// Installs filters, and answers denied calls.
pub(super) struct Supervisor {
    listeners: Sender<(ThreadKind, OwnedFd)>,
    wake: PipeWriter,
}

impl Supervisor {
    /// Starts the supervisor thread, which first calls `prepare`. `log` is called once for each kind and
    /// denied call.
    pub(super) fn start(
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
        log: impl Fn(ThreadKind, &str) + Send + 'static,
    ) -> io::Result<Self> {
        let (listeners, new) = unbounded();
        let (woken, wake) = io::pipe()?;
        let (ready, is_ready) = bounded(1);
        thread::Builder::new().name("mirror-sandbox".to_owned()).spawn(move || {
            let prepared = prepare();
            let failed = prepared.is_err();
            // The starting thread waits.
            drop(ready.send(prepared));
            if !failed {
                supervise(woken, &new, log);
            }
        })?;
        is_ready.recv().map_err(io::Error::other)??;
        Ok(Self { listeners, wake })
    }

    /// Filters the calls of the calling thread and of those it will start, for good. `no_new_privs` must be
    /// set.
    pub(super) fn filter(&self, kind: ThreadKind, program: &BpfProgram) -> io::Result<()> {
        let listener = install(program)?;
        self.listeners.send((kind, listener)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        (&self.wake).write_all(&[0])
    }
}

/// Answers until no filtered thread is left.
fn supervise(mut woken: PipeReader, new: &Receiver<(ThreadKind, OwnedFd)>, log: impl Fn(ThreadKind, &str)) {
    let mut listeners: Vec<(ThreadKind, OwnedFd)> = Vec::new();
    let mut logged = HashSet::new();
    let mut more_may_come = true;
    while more_may_come || !listeners.is_empty() {
        let polled = listeners.iter().map(|(_, listener)| listener.as_fd());
        let polled = polled.chain(more_may_come.then_some(woken.as_fd()));
        let mut polled: Vec<_> = polled.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            // Denied calls then return ENOSYS.
            Err(error) => return tracing::error!(%error, "sandbox: denied system calls are no longer logged"),
        }
        let mut events: Vec<_> =
            polled.iter().map(|one| one.revents().unwrap_or(PollFlags::empty())).collect();
        if more_may_come && events.pop().is_some_and(|events| !events.is_empty()) {
            more_may_come = !matches!(woken.read(&mut [0; 64]), Ok(0));
            listeners.extend(new.try_iter());
        }
        // New listeners were not polled.
        let mut events = events.into_iter();
        listeners.retain(|(kind, listener)| {
            let Some(events) = events.next() else { return true };
            if !events.contains(PollFlags::POLLIN) {
                // Its thread has ended.
                return events.is_empty();
            }
            match answer(listener.as_fd()) {
                Ok(Some(call)) => {
                    let name = name(call);
                    // After the answer: the thread may hold a lock that logging needs.
                    if logged.insert((*kind, name.clone())) {
                        log(*kind, &name);
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "sandbox: a denied system call"),
            }
            true
        });
    }
}

fn name(call: c_int) -> String {
    let known = usize::try_from(call).ok().and_then(Sysno::new);
    known.map_or_else(|| format!("{call:#x}"), |call| call.to_string())
}

/// Answers a pending call, and returns its number, unless the C library only probes for it.
fn answer(listener: BorrowedFd<'_>) -> io::Result<Option<c_int>> {
    // SAFETY: all fields are integers, for which zeros are valid; the kernel requires zeros.
    let mut request: libc::seccomp_notif = unsafe { mem::zeroed() };
    // SAFETY: this request writes one `seccomp_notif` to the pointer, which is to one that lives until the
    // call returns.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let call = request.data.nr;
    // Its flags are in memory, which a filter cannot read; on ENOSYS the C library falls back to clone(2).
    let is_query = c_long::from(call) == libc::SYS_clone3;
    let errno = if is_query { libc::ENOSYS } else { libc::EPERM };
    let mut response = libc::seccomp_notif_resp { id: request.id, val: 0, error: -errno, flags: 0 };
    // SAFETY: this request reads one `seccomp_notif_resp` from the pointer, which is to one that lives until
    // the call returns.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((!is_query).then_some(call))
}

/// Installs a filter whose denied calls are passed on, and returns its listener.
fn install(program: &BpfProgram) -> io::Result<OwnedFd> {
    // The compiler has no such action; another stands for it.
    let refuses = |instruction: &&mut sock_filter| {
        u32::from(instruction.code) == libc::BPF_RET | libc::BPF_K && instruction.k == libc::SECCOMP_RET_TRAP
    };
    let mut program = program.clone();
    for instruction in program.iter_mut().filter(refuses) {
        instruction.k = libc::SECCOMP_RET_USER_NOTIF;
    }
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr().cast() };
    // Before 5.16 a filter enables Speculative Store Bypass Disable, which slows each load after a store in a
    // worker. It protects a thread's memory from itself, and all threads here share their memory.
    const FLAGS: libc::c_ulong =
        libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: seccomp(2) reads `len` instructions from `filter`, which live until the call returns, and
    // writes nothing. The `sock_filter` of seccompiler has the layout of the kernel's, as libc's has.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, FLAGS, &raw const program) };
    let fd = RawFd::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: with SECCOMP_FILTER_FLAG_NEW_LISTENER the call returns a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether this kernel supports such filters.
pub(super) fn available() -> io::Result<()> {
    let action = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: seccomp(2) reads a u32 from the pointer, which lives until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
