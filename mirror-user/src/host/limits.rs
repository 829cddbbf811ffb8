//! Limits and capabilities of this process.

use std::{fmt, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use serde::{Deserialize, Serialize};

use super::{HostError, read_text};

/// RLIMIT_MEMLOCK of this process in bytes; `None` is unlimited.
///
/// UMEM pages count against it unless the process holds CAP_IPC_LOCK; BPF maps did before kernel 5.11.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Memlock {
    /// What holds now.
    pub soft: Option<u64>,
    /// How far the process may raise it by itself.
    pub hard: Option<u64>,
}

impl Memlock {
    /// Reads `/proc/self/limits`.
    ///
    /// # Errors
    ///
    /// When the file is not readable or has no such line.
    pub fn read() -> Result<Self, HostError> {
        Self::parse(&read_text("/proc/self/limits")?)
    }

    /// Raises the limit as far as this process may, and returns it: to unlimited with CAP_SYS_RESOURCE, else
    /// to the hard limit. The library does not call it; it is for the start of a program.
    ///
    /// # Errors
    ///
    /// When the limit cannot be read or the soft one not be raised to the hard one. That the hard limit stays
    /// is no error.
    pub fn raise() -> Result<Self, HostError> {
        use nix::sys::resource::{RLIM_INFINITY, Resource::RLIMIT_MEMLOCK, getrlimit, setrlimit};
        let failed =
            |errno: nix::errno::Errno| HostError::Read { path: "setrlimit(2)".into(), source: errno.into() };
        if setrlimit(RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err() {
            let (_, hard) = getrlimit(RLIMIT_MEMLOCK).map_err(failed)?;
            setrlimit(RLIMIT_MEMLOCK, hard, hard).map_err(failed)?;
        }
        Self::read()
    }

    fn parse(limits: &str) -> Result<Self, HostError> {
        let unexpected =
            |text: &str| HostError::Unexpected { what: "the limit of locked memory", text: text.to_owned() };
        let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        let line = line.ok_or_else(|| unexpected(limits))?;
        let mut values = line.split_whitespace().map(|word| match word {
            "unlimited" => Ok(None),
            number => number.parse().map(Some),
        });
        let mut value = || values.next().and_then(Result::ok).ok_or_else(|| unexpected(line));
        Ok(Self { soft: value()?, hard: value()? })
    }
}

/// RLIMIT_NOFILE of this process; `None` is unlimited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct OpenFiles {
    /// What holds now.
    pub soft: Option<u64>,
    /// How far the process may raise it by itself.
    pub hard: Option<u64>,
}

impl OpenFiles {
    /// Asks the kernel.
    #[must_use]
    pub fn read() -> Self {
        let limit = getrlimit(Resource::Nofile);
        Self { soft: limit.current, hard: limit.maximum }
    }

    /// Raises the soft limit to `files`, at most to the hard limit, and never lowers it. The library does not
    /// call it; it is for the start of a program.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn raise(files: u64) -> Result<Self, HostError> {
        let Self { soft, hard } = Self::read();
        let wanted = hard.map_or(files, |hard| files.min(hard));
        if soft.is_some_and(|soft| soft < wanted) {
            setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: hard })
                .map_err(|errno| HostError::Read { path: "setrlimit(2)".into(), source: errno.into() })?;
        }
        Ok(Self::read())
    }

    /// How many this process has open.
    ///
    /// # Errors
    ///
    /// When `/proc/self/fd` cannot be read.
    pub fn in_use() -> Result<u64, HostError> {
        let path = "/proc/self/fd";
        let read = |source| HostError::Read { path: path.into(), source };
        // Its own is among them.
        Ok((std::fs::read_dir(path).map_err(read)?.count() as u64).saturating_sub(1))
    }
}

/// RLIMIT_AS of this process.
#[derive(Clone, Copy, Debug)]
pub struct AddressSpace;

impl AddressSpace {
    /// The most bytes that may be mapped; `None` is unlimited.
    #[must_use]
    pub fn limit() -> Option<u64> {
        getrlimit(Resource::As).current
    }

    /// Bytes that are mapped, from `/proc/self/statm`.
    ///
    /// # Errors
    ///
    /// When that cannot be read.
    pub fn in_use() -> Result<u64, HostError> {
        let text = read_text("/proc/self/statm")?;
        let pages = text.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
        match pages {
            Some(pages) => Ok(pages * u64::from(super::kernel::page_size())),
            None => Err(HostError::Unexpected { what: "the size of this process", text }),
        }
    }
}

/// The resource that the process lacks at this moment: descriptors, or memory for a socket. Libraries that
/// cannot open a socket to look a name up report another errno: if_nametoindex(3) returns ENOENT.
pub(crate) fn shortage() -> Option<io::Error> {
    use rustix::{
        io::Errno,
        net::{AddressFamily, SocketFlags, SocketType, socket_with},
    };
    match socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None) {
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)) => Some(errno.into()),
        _ => None,
    }
}

/// Huge pages of 2 MiB, the size a UMEM is mapped with where there are any.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HugePages {
    /// Pages in the pool (`vm.nr_hugepages`).
    pub total: u64,
    /// Pages that are free.
    pub free: u64,
}

impl HugePages {
    /// Bytes of one page.
    pub const SIZE: u64 = 2 << 20;

    /// Reads `/sys/kernel/mm/hugepages/hugepages-2048kB`.
    ///
    /// # Errors
    ///
    /// When the kernel has no huge pages of this size.
    pub fn read() -> Result<Self, HostError> {
        let number = |file: &str| {
            let text = read_text(format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{file}"))?;
            text.parse().map_err(|_| HostError::Unexpected { what: "a number of huge pages", text })
        };
        Ok(Self { total: number("nr_hugepages")?, free: number("free_hugepages")? })
    }
}

/// A set of capabilities, see capabilities(7).
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Capabilities(u64);

/// Capabilities that ingest can make use of, with their numbers from `linux/capability.h`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Capability {
    /// Attaches XDP programs, binds AF_XDP sockets, sets ethtool values.
    NetAdmin = 12,
    /// Creates AF_XDP sockets.
    NetRaw = 13,
    /// Locks memory over RLIMIT_MEMLOCK.
    IpcLock = 14,
    /// Implies BPF and PERFMON before kernel 5.8.
    SysAdmin = 21,
    /// Raises RLIMIT_MEMLOCK over its hard limit.
    SysResource = 24,
    /// Attaches raw tracepoints, with [`Capability::Bpf`]. Minimum kernel version: 5.8.
    Perfmon = 38,
    /// Loads programs and creates maps. Minimum kernel version: 5.8.
    Bpf = 39,
}

impl Capability {
    const ALL: [Self; 7] = [
        Self::NetAdmin,
        Self::NetRaw,
        Self::IpcLock,
        Self::SysAdmin,
        Self::SysResource,
        Self::Perfmon,
        Self::Bpf,
    ];

    /// The kernel's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

impl Capabilities {
    /// The effective set of the calling thread, from `/proc/thread-self/status`.
    ///
    /// # Errors
    ///
    /// When the file is not readable or has no such line.
    pub fn effective() -> Result<Self, HostError> {
        Self::parse(&read_text("/proc/thread-self/status")?)
    }

    fn parse(status: &str) -> Result<Self, HostError> {
        let unexpected =
            |text: &str| HostError::Unexpected { what: "a capability set", text: text.to_owned() };
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let line = line.ok_or_else(|| unexpected(status))?;
        u64::from_str_radix(line.trim(), 16).map(Self).map_err(|_| unexpected(line))
    }

    /// Whether the set holds `capability`.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u32) != 0
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Capability::ALL.into_iter().filter(|&c| self.has(c)).map(Capability::name);
        write!(f, "{:#x} ", self.0)?;
        f.debug_set().entries(known).finish()
    }
}

impl Serialize for Capabilities {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Capabilities {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max processes             7823                 7823                 processes \n\
        Max locked memory         8388608              unlimited            bytes     \n\
        Max address space         unlimited            unlimited            bytes     \n";

    #[test]
    fn the_limit_of_locked_memory_is_found_among_the_others() {
        assert_eq!(Memlock::parse(LIMITS).unwrap(), Memlock { soft: Some(8_388_608), hard: None });
    }

    #[test]
    fn limits_without_locked_memory_are_an_error() {
        assert!(Memlock::parse("Max processes 1 1\n").is_err());
        assert!(Memlock::parse("Max locked memory 1\n").is_err());
        assert!(Memlock::parse("Max locked memory many more bytes\n").is_err());
    }

    #[test]
    fn this_process_has_a_limit_of_locked_memory() {
        Memlock::read().unwrap();
    }

    #[test]
    fn the_limit_of_locked_memory_goes_up_to_the_hard_one_at_least() {
        use nix::sys::resource::{Resource::RLIMIT_MEMLOCK, getrlimit, setrlimit};
        let (_, hard) = getrlimit(RLIMIT_MEMLOCK).unwrap();
        setrlimit(RLIMIT_MEMLOCK, 64 << 10, hard).unwrap();
        assert_eq!(Memlock::read().unwrap().soft, Some(64 << 10));
        let raised = Memlock::raise().unwrap();
        assert_eq!(raised.soft, raised.hard);
        assert!(raised.soft != Some(64 << 10), "{raised:?}");
    }

    #[test]
    fn effective_capabilities_are_distinguished_from_permitted_ones() {
        let status =
            "Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000003000\nCapBnd:\tffffffffffffffff\n";
        let set = Capabilities::parse(status).unwrap();
        assert!(set.has(Capability::NetAdmin) && set.has(Capability::NetRaw));
        assert!(!set.has(Capability::IpcLock) && !set.has(Capability::Bpf));
    }

    #[test]
    fn a_capability_set_survives_json() {
        let set = Capabilities::parse("CapEff:\t000001fffeffffff").unwrap();
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(json, "\"000001fffeffffff\"");
        assert_eq!(serde_json::from_str::<Capabilities>(&json).unwrap(), set);
    }
}
