//! -Z: root changes to another user before any file is created.

use anyhow::Context as _;
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

use crate::Usage;

/// The user to change to, if any: as with tcpdump, only root changes, and not to itself.
///
/// # Errors
///
/// There is no such user.
pub(crate) fn to_change_to(name: Option<&str>) -> anyhow::Result<Option<User>> {
    let Some(name) = name else { return Ok(None) };
    let user = User::from_name(name).with_context(|| format!("-Z {name}: cannot read the user database"))?;
    let user = user.ok_or_else(|| Usage(format!("-Z {name}: there is no such user; see `getent passwd`")))?;
    Ok((geteuid().is_root() && !user.uid.is_root()).then_some(user))
}

/// Changes groups, group and user of the whole process. Must be called before it has threads that dropped
/// their privileges.
pub(crate) fn change_to(user: &User) -> anyhow::Result<()> {
    let name = std::ffi::CString::new(user.name.as_str()).context("the user's name")?;
    initgroups(&name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .with_context(|| format!("-Z {}: cannot change to this user", user.name))
}

/// Names the user in the error of an action that was done as that user.
pub(crate) fn naming<T>(user: Option<&User>, result: anyhow::Result<T>) -> anyhow::Result<T> {
    match user {
        Some(user) => result.with_context(|| format!("as user {}, see -Z", user.name)),
        None => result,
    }
}
