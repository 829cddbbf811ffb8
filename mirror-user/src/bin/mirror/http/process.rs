//! What the kernel says of this process, for the metrics that every exporter has.

use std::time::{Duration, SystemTime};

use mirror_user::host::limits::OpenFiles;
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike as _,
    },
    unistd::{SysconfVar, sysconf},
};

/// This process at a moment. What could not be read is absent.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcessFacts {
    pub(super) cpu: Option<Duration>,
    /// Bytes.
    pub(super) resident: Option<u64>,
    /// Bytes.
    pub(super) virtual_memory: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) most_files: Option<u64>,
    /// Since the epoch.
    pub(super) started: Option<Duration>,
}

impl ProcessFacts {
    /// Reads `/proc`, which the HTTP thread may not.
    pub(super) fn read(started: SystemTime) -> Self {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|page| u64::try_from(page).ok());
        let bytes = |nth: usize| Some(statm.split(' ').nth(nth)?.parse::<u64>().ok()? * page?);
        let cpu = getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
            let both = usage.user_time() + usage.system_time();
            Duration::from_micros(u64::try_from(both.num_microseconds()).unwrap_or_default())
        });
        Self {
            cpu,
            resident: bytes(1),
            virtual_memory: bytes(0),
            open_files: OpenFiles::in_use().ok(),
            most_files: OpenFiles::read().soft,
            started: started.duration_since(SystemTime::UNIX_EPOCH).ok(),
        }
    }
}
