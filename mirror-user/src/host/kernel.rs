//! The running kernel's version.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::HostError;

/// A kernel's version, which tells its features where they are not reported otherwise.
///
/// Distributions carry features back to older versions, so an older version may have a feature nevertheless.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KernelVersion {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
    /// The third number, 0 where the release names none.
    pub patch: u16,
}

impl KernelVersion {
    /// The first release of a series, to compare with.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// The running kernel's version, from uname(2).
    ///
    /// # Errors
    ///
    /// When uname(2) fails or its release is not a version.
    pub fn running() -> Result<Self, HostError> {
        release()?.parse()
    }
}

/// The first releases with what a run uses.
pub(crate) mod since {
    use super::KernelVersion;

    /// AF_XDP.
    pub(crate) const AF_XDP: KernelVersion = KernelVersion::new(4, 18);
    /// `XDP_USE_NEED_WAKEUP`.
    pub(crate) const NEED_WAKEUP: KernelVersion = KernelVersion::new(5, 4);
    /// CAP_BPF and CAP_PERFMON; CAP_SYS_ADMIN before.
    pub(crate) const CAP_BPF: KernelVersion = KernelVersion::new(5, 8);
    /// `BPF_LINK_TYPE_XDP`, kernel commit aa8d3a716b59.
    pub(crate) const BPF_LINK: KernelVersion = KernelVersion::new(5, 9);
    /// `SO_PREFER_BUSY_POLL`.
    pub(crate) const BUSY_POLL: KernelVersion = KernelVersion::new(5, 11);
    /// `bpf_ktime_get_coarse_ns`.
    pub(crate) const COARSE_CLOCK: KernelVersion = KernelVersion::new(5, 11);
    /// Before, BPF maps count against RLIMIT_MEMLOCK (kernel commit d5299b67dd59 and its series).
    pub(crate) const MAPS_IN_CGROUP: KernelVersion = KernelVersion::new(5, 11);
    /// Before, the fifth argument of the tracepoint `xdp_redirect_err` is the map's address, kernel commit
    /// e6a4750ffe9d.
    pub(crate) const MAP_ID_IN_TRACEPOINT: KernelVersion = KernelVersion::new(5, 13);
    /// Before, virtio_net wants a queue for each CPU (kernel commit 97c2c69e1926).
    pub(crate) const VIRTIO_SHARED_QUEUES: KernelVersion = KernelVersion::new(5, 13);
    /// `NETDEV_A_DEV_XDP_FEATURES`, by which drivers report XDP features.
    pub(crate) const XDP_FEATURES: KernelVersion = KernelVersion::new(6, 3);
    /// Rings of a bound AF_XDP socket can be mapped again, by another process too (kernel commit
    /// 5f5a7d8d8bd4, "xsk: allow remap of fill and/or completion rings").
    pub(crate) const RINGS_MAPPED_AGAIN: KernelVersion = KernelVersion::new(6, 4);
    /// From here on frames of several buffers can be redirected to AF_XDP, and one that is larger than a
    /// chunk comes in several descriptors (`XDP_USE_SG`, kernel commit 804627751b42). Programs for such
    /// frames load from 5.18 on, but `xdp_do_redirect` then drops them with EOPNOTSUPP before any counter of
    /// ours.
    pub(crate) const SCATTER_GATHER: KernelVersion = KernelVersion::new(6, 6);
}

/// The running kernel's whole release, as `uname -r` prints it.
///
/// # Errors
///
/// When uname(2) fails or its release is not UTF-8.
pub fn release() -> Result<String, HostError> {
    let name = nix::sys::utsname::uname()
        .map_err(|errno| HostError::Read { path: "uname(2)".into(), source: errno.into() })?;
    name.release().to_str().map(str::to_owned).ok_or_else(|| HostError::Unexpected {
        what: "the kernel's release",
        text: name.release().to_string_lossy().into_owned(),
    })
}

impl FromStr for KernelVersion {
    type Err = HostError;

    /// Reads the numbers a release starts with: `6.1.148-173.267.amzn2023.x86_64` is 6.1.148.
    fn from_str(release: &str) -> Result<Self, HostError> {
        let unexpected = || HostError::Unexpected { what: "the kernel's release", text: release.to_owned() };
        let mut numbers = release.splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse::<u16>()
        });
        let mut needed = || numbers.next().and_then(Result::ok).ok_or_else(unexpected);
        let (major, minor) = (needed()?, needed()?);
        Ok(Self { major, minor, patch: numbers.next().and_then(Result::ok).unwrap_or(0) })
    }
}

/// Bytes of a memory page; 4096 where sysconf(3) does not report it.
#[must_use]
pub fn page_size() -> u32 {
    use nix::unistd::{SysconfVar, sysconf};
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u32::try_from(size).ok()).unwrap_or(4096)
}

/// How many CPUs the kernel has room for (`nr_cpu_ids`), by which drivers count their queues: the last of
/// `/sys/devices/system/cpu/possible`, and one.
///
/// # Errors
///
/// When the file is not readable or has no list.
pub fn possible_cpus() -> Result<u32, HostError> {
    let text = super::read_text("/sys/devices/system/cpu/possible")?;
    let last = text.rsplit([',', '-']).next().and_then(|last| last.trim().parse::<u32>().ok());
    last.and_then(|last| last.checked_add(1)).ok_or(HostError::Unexpected { what: "the list of CPUs", text })
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Serialize for KernelVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KernelVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_the_distributions_in_use_parse() {
        for (release, expected) in [
            ("5.10.240-238.966.amzn2.x86_64", (5, 10, 240)),
            ("6.1.148-173.267.amzn2023.x86_64", (6, 1, 148)),
            ("6.12.40-63.114.amzn2023.aarch64", (6, 12, 40)),
            ("6.8.0-1036-aws", (6, 8, 0)),
            ("6.19-rc3", (6, 19, 0)),
            ("6.1", (6, 1, 0)),
            ("4.14.0+", (4, 14, 0)),
        ] {
            let version: KernelVersion = release.parse().unwrap();
            assert_eq!((version.major, version.minor, version.patch), expected, "{release}");
        }
    }

    #[test]
    fn an_invalid_release_is_an_error_that_quotes_it() {
        for text in ["", "6", "linux", ".1.2", "99999999.1"] {
            let error = text.parse::<KernelVersion>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn versions_compare_by_number_not_by_letter() {
        assert!("5.9.16".parse::<KernelVersion>().unwrap() < KernelVersion::new(5, 10));
        assert!("5.10.0".parse::<KernelVersion>().unwrap() >= KernelVersion::new(5, 10));
    }

    #[test]
    fn the_kernel_has_room_for_the_cpus_there_are() {
        let there = std::thread::available_parallelism().unwrap().get();
        assert!(possible_cpus().unwrap() as usize >= there);
    }

    #[test]
    fn the_running_kernel_has_a_version() {
        assert!(KernelVersion::running().unwrap() >= KernelVersion::new(4, 0));
    }
}
