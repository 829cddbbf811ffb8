//! Root only as long as needed: every thread gives up its capabilities before its first frame.

use std::{io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use anyhow::Context as _;
use caps::{CapSet, Capability, CapsHashSet};
use mirror_user::{
    engine::{ThreadHook, Wait},
    host::kernel::KernelVersion,
};
use nix::unistd::{getegid, geteuid};

/// Since 5.19 maps are read through their descriptor alone (kernel commit c8644cd0efe7).
const MAPS_BY_DESCRIPTOR: KernelVersion = KernelVersion { major: 5, minor: 19, patch: 0 };

/// The capabilities a run keeps.
#[derive(Clone, Debug)]
pub(crate) struct Keep(CapsHashSet);

impl Keep {
    /// What a run needs after its start. At its end files are completed in two directories: the capture's, which is held
    /// open until then, and the report's, which is found by its path again.
    pub(crate) fn for_run(wait: Wait, capture: Option<&Path>, report: Option<&Path>) -> anyhow::Result<Self> {
        let mut keep = CapsHashSet::new();
        if KernelVersion::running()? < MAPS_BY_DESCRIPTOR {
            keep.insert(Capability::CAP_BPF);
        }
        if wait == Wait::BusyPoll {
            // To put the interface's settings back at the end.
            keep.insert(Capability::CAP_NET_ADMIN);
        }
        for directory in [capture, report].into_iter().flatten() {
            if !allowed_by_mode(directory, WRITE | SEARCH)
                .with_context(|| format!("{}", directory.display()))?
            {
                // To give a file its final name where only root's override may.
                keep.insert(Capability::CAP_DAC_OVERRIDE);
            }
        }
        if let Some(directory) = report
            && !reachable_by_mode(directory).with_context(|| format!("{}", directory.display()))?
        {
            keep.insert(Capability::CAP_DAC_OVERRIDE);
        }
        Ok(Self(keep))
    }

    /// For the engine's threads.
    pub(crate) fn hook(&self) -> ThreadHook {
        let keep = self.clone();
        Arc::new(move || keep.drop_others())
    }

    /// Gives up all other capabilities of the calling thread, for itself and for whatever it might execute.
    pub(crate) fn drop_others(&self) -> io::Result<()> {
        let held = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
        let keep: CapsHashSet = self.0.intersection(&held).copied().collect();
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

const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;

/// Whether the mode bits alone let this process walk to a directory.
fn reachable_by_mode(directory: &Path) -> io::Result<bool> {
    for above in directory.canonicalize()?.ancestors().skip(1) {
        if !allowed_by_mode(above, SEARCH)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the mode bits alone let this process do that with a directory.
fn allowed_by_mode(directory: &Path, wanted: u32) -> io::Result<bool> {
    let directory = directory.metadata()?;
    let shift = if directory.uid() == geteuid().as_raw() {
        6
    } else if directory.gid() == getegid().as_raw() {
        3
    } else {
        0
    };
    Ok(directory.mode() >> shift & wanted == wanted)
}
