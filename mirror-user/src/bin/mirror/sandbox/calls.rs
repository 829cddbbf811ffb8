//! Which system calls each kind of thread may make.
//!
//! Lists are by name, so that one serves all architectures; names that an architecture does not have are
//! ignored. They should cover what Rust's standard library and any common C library call on their own, and
//! what outputs need, and nothing that executes programs, maps code, traces, signals, mounts or changes
//! credentials.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use syscalls::Sysno;

use super::ThreadKind;

/// Calls that are allowed with any arguments.
const OF_ALL: &[&str] = &[
    // Memory.
    "brk",
    "madvise",
    "mremap",
    "munmap",
    // Threads that wait, wake and end.
    "exit",
    "exit_group",
    "futex",
    "futex_waitv",
    "futex_wait",
    "futex_wake",
    "futex_requeue",
    "get_robust_list",
    "getpid",
    "getppid",
    "gettid",
    "membarrier",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    // Time.
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "gettimeofday",
    "nanosleep",
    "time",
    "times",
    // Open descriptors, standard error for the log among them.
    "close",
    "close_range",
    "dup",
    "fadvise64",
    "fcntl",
    "fstat",
    "fstatfs",
    "lseek",
    "pread64",
    "preadv",
    "preadv2",
    "read",
    "readahead",
    "readv",
    "write",
    "writev",
    // Waiting for them.
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd2",
    "pipe2",
    "poll",
    "ppoll",
    "pselect6",
    "select",
    // Files to read, opened as below: a backtrace reads names from the executable, timestamps read the time
    // zone.
    "access",
    "faccessat",
    "faccessat2",
    "getcwd",
    "getdents64",
    "lstat",
    "newfstatat",
    "readlink",
    "readlinkat",
    "stat",
    "statfs",
    "statx",
    // Machine and process information.
    "getcpu",
    "getegid",
    "geteuid",
    "getgid",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getuid",
    "sysinfo",
    "uname",
];

/// Open sockets: AF_XDP and netlink of the engine, and those that forward.
const ON_SOCKETS: &[&str] = &[
    "getpeername",
    "getsockname",
    "getsockopt",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
];

/// To accept clients of a socket that listens already.
const TO_ACCEPT: &[&str] = &["accept", "accept4"];

/// To send by another interface.
const TO_BIND: &[&str] = &["bind"];

/// A saturated worker may lower its priority until it has emptied its ring.
const TO_SCHEDULE: &[&str] = &["sched_setattr"];

/// To accept readers, and to connect to listening ones.
const TO_SOCKETS: &[&str] = &[
    "accept", "accept4", "bind", "connect", "listen", // The name of a Unix socket.
    "unlink", "unlinkat",
];

/// Files that are written, renamed and removed; Landlock restricts where.
const ON_FILES: &[&str] = &[
    "chmod",
    "copy_file_range",
    "creat",
    "fallocate",
    "fchmod",
    "fchmodat",
    "fchown",
    "fdatasync",
    "flock",
    "fsync",
    "ftruncate",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "open",
    "openat",
    "openat2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "splice",
    "sync_file_range",
    "syncfs",
    "truncate",
    "umask",
    "unlink",
    "unlinkat",
    "utimensat",
];

/// To cut an incomplete record off standard output when its disk is full.
const TO_CUT_BACK: &[&str] = &["ftruncate"];

/// A call that is allowed if an argument, masked, has a value.
struct Where(&'static str, u8, u64, u64);

const ACCESS_MODE: u64 = libc::O_ACCMODE as u64;
/// What creates or truncates a file. `O_TMPFILE` shares a bit with `O_DIRECTORY`, and needs a mode that
/// writes.
const OPENS_TO_WRITE: u64 = ACCESS_MODE | libc::O_CREAT as u64 | libc::O_TRUNC as u64;
const EXECUTES: u64 = libc::PROT_EXEC as u64;
/// All of an argument of type int.
const INT: u64 = u32::MAX as u64;

/// Files to read.
const READS: &[Where] = &[Where("open", 1, OPENS_TO_WRITE, 0), Where("openat", 2, OPENS_TO_WRITE, 0)];

const WHERE: &[Where] = &[
    Where("mmap", 2, EXECUTES, 0),
    Where("mprotect", 2, EXECUTES, 0),
    // Limits may be read, not set.
    Where("prlimit64", 2, u64::MAX, 0),
    // Names of this thread and of mappings, and its timer slack.
    Where("prctl", 0, INT, libc::PR_SET_NAME as u64),
    Where("prctl", 0, INT, libc::PR_SET_TIMERSLACK as u64),
    Where("prctl", 0, INT, libc::PR_SET_VMA as u64),
    // Terminal or not and its width; readable bytes; blocking or not.
    Where("ioctl", 1, INT, libc::TCGETS),
    Where("ioctl", 1, INT, libc::TIOCGWINSZ),
    Where("ioctl", 1, INT, libc::FIONREAD),
    Where("ioctl", 1, INT, libc::FIONBIO),
    Where("ioctl", 1, INT, libc::FIOCLEX),
];

const FAMILIES: &[Where] = &[
    Where("socket", 0, INT, libc::AF_INET as u64),
    Where("socket", 0, INT, libc::AF_INET6 as u64),
    Where("socket", 0, INT, libc::AF_NETLINK as u64),
    Where("socket", 0, INT, libc::AF_UNIX as u64),
    // Ethtool queries, and whether a link is up.
    Where("ioctl", 1, INT, 0x8946),
    Where("ioctl", 1, INT, 0x8913),
    Where("ioctl", 1, INT, 0x8921),
];

/// To list the interfaces.
const NETLINK: &[Where] = &[Where("socket", 0, INT, libc::AF_NETLINK as u64)];

/// The thread that reads a pipe, started by the file reader, and those that write past the page cache and
/// close deleted files, started by the writer. They inherit these filters.
const THREADS: &[Where] = &[Where("clone", 0, libc::CLONE_THREAD as u64, libc::CLONE_THREAD as u64)];

/// The filter of a kind; `None` if it has none.
pub(super) fn filter(kind: ThreadKind) -> Result<Option<BpfProgram>, BackendError> {
    let (calls, wheres): (&[&[&str]], &[&[Where]]) = match kind {
        ThreadKind::Main | ThreadKind::Supervisor | ThreadKind::Command => return Ok(None),
        // No file is opened, so a backtrace has no names.
        ThreadKind::Control => (&[OF_ALL, ON_SOCKETS, TO_ACCEPT], &[WHERE]),
        ThreadKind::Http => (&[OF_ALL, ON_SOCKETS, TO_ACCEPT], &[WHERE]),
        ThreadKind::Worker => (&[OF_ALL, ON_SOCKETS, TO_SCHEDULE], &[READS, WHERE]),
        ThreadKind::Reader => (&[OF_ALL], &[READS, WHERE, THREADS]),
        ThreadKind::Writer => (&[OF_ALL, ON_FILES], &[READS, WHERE, THREADS]),
        ThreadKind::Printer => (&[OF_ALL, TO_CUT_BACK], &[READS, WHERE]),
        ThreadKind::Agent => (&[OF_ALL, ON_SOCKETS, TO_BIND], &[READS, WHERE, NETLINK]),
        ThreadKind::Forwarder => (&[OF_ALL, ON_SOCKETS, TO_SOCKETS], &[READS, WHERE, FAMILIES]),
    };
    let number = |name: &str| name.parse().ok().map(|call: Sysno| i64::from(call.id()));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    // To this process only, for abort(3).
    let own = Where("tgkill", 0, INT, u64::from(std::process::id()));
    for Where(name, argument, mask, value) in wheres.iter().copied().flatten().chain([&own]) {
        let Some(number) = number(name) else { continue };
        let length = if *mask > INT { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
        let condition = SeccompCondition::new(*argument, length, SeccompCmpOp::MaskedEq(*mask), *value)?;
        rules.entry(number).or_default().push(SeccompRule::new(vec![condition])?);
    }
    for name in calls.iter().copied().flatten() {
        if let Some(number) = number(name) {
            // With any arguments.
            rules.insert(number, Vec::new());
        }
    }
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    // Stands for the action that notifies the supervisor: see `refused`.
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, machine)?.try_into().map(Some)
}
