//! Runs a program as an unprivileged user with some capabilities, as a service manager does.

use std::{convert::Infallible, os::unix::process::CommandExt as _, process::Command};

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use crate::{
    command::line,
    error::{LabError, Result},
};

/// User and group `nobody`.
const NOBODY: u32 = 65_534;

/// Becomes nobody with these capabilities and no others, `CAP_BPF,CAP_NET_RAW`, and then this command.
///
/// # Errors
///
/// [`LabError::Unexpected`] if a name is none, [`LabError::Io`] if the kernel refuses something.
pub fn exec_with_capabilities(names: &str, command: &mut Command) -> Result<Infallible> {
    let failed = |error: caps::errors::CapsError| LabError::Unexpected(format!("{names}: {error}"));
    let wanted: CapsHashSet = names
        .split(',')
        .map(str::parse::<Capability>)
        .collect::<std::result::Result<_, _>>()
        .map_err(failed)?;
    for capability in caps::all().difference(&wanted) {
        // A capability unknown to this kernel cannot be dropped, and does not exist.
        let _unknown = caps::drop(None, CapSet::Bounding, *capability);
    }
    caps::securebits::set_keepcaps(true).map_err(failed)?;
    let user = |error: nix::Error| LabError::io("becoming nobody", error);
    setgroups(&[]).map_err(user)?;
    setgid(Gid::from_raw(NOBODY)).map_err(user)?;
    setuid(Uid::from_raw(NOBODY)).map_err(user)?;
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable] {
        caps::set(None, set, &wanted).map_err(failed)?;
    }
    for capability in &wanted {
        caps::raise(None, CapSet::Ambient, *capability).map_err(failed)?;
    }
    let error = command.exec();
    Err(LabError::io(line(command), error))
}
