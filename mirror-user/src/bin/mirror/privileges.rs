//! Root only as long as needed: every thread drops its capabilities before its first frame.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::Context as _;
use caps::{CapSet, Capability, CapsHashSet};
use mirror_user::escape;
use mirror_user::{engine::Wait, host::kernel::KernelVersion};
use nix::unistd::{getegid, geteuid};

/// Since 5.19 maps are read through their descriptor alone (kernel commit c8644cd0efe7).
const MAPS_BY_DESCRIPTOR: KernelVersion = KernelVersion { major: 5, minor: 19, patch: 0 };

/// Before, BPF takes CAP_SYS_ADMIN.
const BPF_CAPABILITY: KernelVersion = KernelVersion { major: 5, minor: 8, patch: 0 };

/// The capabilities that a thread retains.
#[derive(Clone, Debug)]
pub(crate) struct RetainedCaps(CapsHashSet);

impl RetainedCaps {
    /// For the threads that end a run: the main thread, the signal thread, and capture writers. They complete
    /// files in `directories`, for which root may need CAP_DAC_OVERRIDE; not after a change of user, who must
    /// be able to write there.
    pub(crate) fn to_end_a_run<'a>(
        wait: Wait,
        changed_user: bool,
        directories: impl Iterator<Item = &'a Path>,
    ) -> anyhow::Result<Self> {
        let Self(mut keep) = Self::to_complete_files(changed_user, directories)?;
        if KernelVersion::running()? < MAPS_BY_DESCRIPTOR {
            keep.insert(Capability::CAP_BPF);
        }
        if wait == Wait::BusyPoll {
            // To restore the interface's settings at the end.
            keep.insert(Capability::CAP_NET_ADMIN);
            if changed_user {
                // Their files belong to root.
                keep.insert(Capability::CAP_DAC_OVERRIDE);
            }
        }
        Ok(Self(keep))
    }

    /// The same for a run without interfaces.
    pub(crate) fn to_complete_files<'a>(
        changed_user: bool,
        directories: impl Iterator<Item = &'a Path>,
    ) -> anyhow::Result<Self> {
        let mut keep = CapsHashSet::new();
        for directory in directories.filter(|_| !changed_user) {
            if !writable_by_mode(directory).with_context(|| format!("{}", escape::path(directory)))? {
                // Only CAP_DAC_OVERRIDE lets root give a file its final name here.
                keep.insert(Capability::CAP_DAC_OVERRIDE);
            }
        }
        Ok(Self(keep))
    }

    /// To open files for reading whose mode does not let this user.
    pub(crate) fn to_read_others_files() -> Self {
        Self([Capability::CAP_DAC_READ_SEARCH].into())
    }

    /// For the monitor: devices, sockets and programs of targets, in whichever network namespace; and the
    /// configuration file.
    pub(crate) fn to_open_targets() -> Self {
        Self(
            [
                Capability::CAP_BPF,
                Capability::CAP_DAC_READ_SEARCH,
                Capability::CAP_NET_ADMIN,
                Capability::CAP_NET_RAW,
                // To enter namespaces, those of other users' processes included; and for BPF before 5.8.
                Capability::CAP_SYS_ADMIN,
                Capability::CAP_SYS_PTRACE,
            ]
            .into(),
        )
    }

    /// For a mirror source: rules and sessions change, interfaces come back, and programs are detached.
    pub(crate) fn to_mirror() -> anyhow::Result<Self> {
        let mut keep = CapsHashSet::from([
            Capability::CAP_BPF,
            // The files that it reads again may be others'.
            Capability::CAP_DAC_OVERRIDE,
            Capability::CAP_NET_ADMIN,
            Capability::CAP_NET_RAW,
            Capability::CAP_PERFMON,
        ]);
        if KernelVersion::running()? < BPF_CAPABILITY {
            keep.insert(Capability::CAP_SYS_ADMIN);
        }
        Ok(Self(keep))
    }

    /// For the engine's threads, workers included, which parse untrusted packets: none.
    pub(crate) fn nothing() -> Self {
        Self(CapsHashSet::new())
    }

    /// Drops all other capabilities of the calling thread, also for programs it executes.
    pub(crate) fn drop_others(&self) -> io::Result<()> {
        let held = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
        let keep: CapsHashSet = self.0.intersection(&held).copied().collect();
        // Dropping needs CAP_SETPCAP, and after a change of user nothing is effective.
        caps::set(None, CapSet::Effective, &held).map_err(io::Error::other)?;
        if held.contains(&Capability::CAP_SETPCAP) {
            for capability in caps::runtime::thread_all_supported().difference(&keep) {
                caps::drop(None, CapSet::Bounding, *capability).map_err(io::Error::other)?;
            }
        }
        let none = CapsHashSet::new();
        caps::set(None, CapSet::Ambient, &none).map_err(io::Error::other)?;
        caps::set(None, CapSet::Inheritable, &none).map_err(io::Error::other)?;
        caps::set(None, CapSet::Effective, &keep).map_err(io::Error::other)?;
        caps::set(None, CapSet::Permitted, &keep).map_err(io::Error::other)?;
        nix::sys::prctl::set_no_new_privs().map_err(io::Error::from)
    }
}

impl RetainedCaps {
    /// Makes no other capability of the calling thread effective; [`inherited`] passes all that is permitted
    /// on. Programs that it executes get nothing beyond that.
    pub(crate) fn lower_others(&self) -> io::Result<()> {
        let held = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
        let keep: CapsHashSet = self.0.intersection(&held).copied().collect();
        let none = CapsHashSet::new();
        caps::set(None, CapSet::Ambient, &none).map_err(io::Error::other)?;
        caps::set(None, CapSet::Inheritable, &none).map_err(io::Error::other)?;
        caps::set(None, CapSet::Effective, &keep).map_err(io::Error::other)?;
        nix::sys::prctl::set_no_new_privs().map_err(io::Error::from)
    }
}

/// Runs an action that starts a program, which gets all permitted capabilities, root or not.
pub(crate) fn inherited<T>(action: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let held = caps::read(None, CapSet::Permitted)?;
    raised(|| {
        caps::set(None, CapSet::Inheritable, &held)?;
        caps::set(None, CapSet::Ambient, &held)?;
        let result = action();
        let none = CapsHashSet::new();
        caps::set(None, CapSet::Ambient, &none)?;
        caps::set(None, CapSet::Inheritable, &none)?;
        result
    })
}

/// Retains the permitted capabilities over the change of user. None is effective until [`raise`], so that
/// files are opened with the user's own permissions.
pub(crate) fn outlast_change_of_user() -> io::Result<()> {
    nix::sys::prctl::set_keepcaps(true).map_err(io::Error::from)
}

/// Makes all permitted capabilities of this thread effective.
pub(crate) fn raise() -> io::Result<()> {
    let held = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    caps::set(None, CapSet::Effective, &held).map_err(io::Error::other)
}

/// Runs an action with all permitted capabilities effective.
pub(crate) fn raised<T>(action: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let before = caps::read(None, CapSet::Effective)?;
    raise()?;
    let result = action();
    caps::set(None, CapSet::Effective, &before)?;
    result
}

/// Runs an action without effective capabilities, as the thread will be once they are dropped.
pub(crate) fn without_any<T>(action: impl FnOnce() -> T) -> io::Result<T> {
    let before = caps::read(None, CapSet::Effective).map_err(io::Error::other)?;
    caps::set(None, CapSet::Effective, &CapsHashSet::new()).map_err(io::Error::other)?;
    let result = action();
    caps::set(None, CapSet::Effective, &before).map_err(io::Error::other)?;
    Ok(result)
}

/// Whether the mode bits alone let this process write to a directory.
fn writable_by_mode(directory: &Path) -> io::Result<bool> {
    const WRITE_AND_SEARCH: u32 = 0o3;
    let directory = directory.metadata()?;
    let shift = if directory.uid() == geteuid().as_raw() {
        6
    } else if directory.gid() == getegid().as_raw() {
        3
    } else {
        0
    };
    Ok(directory.mode() >> shift & WRITE_AND_SEARCH == WRITE_AND_SEARCH)
}
