//! Landlock: beneath which directories each kind of thread may write, and to which TCP ports it may connect.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd,
    RestrictSelf, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};
use mirror_user::{escape, hidden_file};

/// The ABI that is used in full; later ones add nothing that is needed here.
pub(super) const WANTED: u32 = 6;
/// The lowest ABI that covers create, write, rename, remove, truncate, and TCP.
pub(super) const PROMISED: u32 = 4;

/// What each ABI added, and with which kernel: `Documentation/userspace-api/landlock.rst`, "Previous
/// limitations".
const ADDED: [(u32, &str); 5] = [
    (2, "renames between directories, which it denies everywhere (5.19)"),
    (3, "truncation (6.2)"),
    (4, "TCP (6.7)"),
    (5, "ioctls of devices (6.10)"),
    (6, "abstract Unix sockets and signals (6.12)"),
];

/// Whether this kernel has Landlock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Support {
    /// Not in this kernel.
    Missing,
    /// In this kernel, but not enabled.
    Disabled,
    /// The ABI.
    Abi(u32),
}

impl Support {
    /// Of the running kernel.
    pub(super) fn of_this_kernel() -> Self {
        // Without flags it restricts nothing, and returns what there is.
        let status = RestrictSelf::default().no_new_privs(false).apply().map(|status| status.landlock);
        match status {
            Ok(LandlockStatus::Available { effective_abi, kernel_abi }) => {
                let known = effective_abi as u32;
                Self::Abi(kernel_abi.and_then(|abi| abi.try_into().ok()).unwrap_or(known))
            }
            Ok(LandlockStatus::NotEnabled) => Self::Disabled,
            Ok(LandlockStatus::NotImplemented) | Err(_) => Self::Missing,
        }
    }

    /// What this kernel does not cover, in words; empty if it covers all.
    pub(super) fn lacks(self) -> Vec<&'static str> {
        let Self::Abi(abi) = self else { return Vec::new() };
        ADDED.iter().filter(|(added, _)| *added > abi).map(|(_, what)| *what).collect()
    }
}

/// Where a kind of thread may write, and which ports it may connect to.
#[derive(Clone, Debug, Default)]
pub(super) struct Writes {
    /// Directories, with everything beneath.
    pub(super) beneath: Vec<PathBuf>,
    /// Single files.
    pub(super) files: Vec<PathBuf>,
    /// TCP ports to connect to.
    pub(super) connect: Vec<u16>,
    /// Whether other processes may be signalled.
    pub(super) signals: bool,
}

impl Writes {
    /// Allows a capture of this path: in its directory, where it is created, renamed and removed. If the path
    /// exists and is no regular file (a FIFO, a device, a symbolic link such as `/dev/stdout`), only the path
    /// itself.
    pub(super) fn add_output(&mut self, path: &Path) {
        let is_special =
            |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
        if is_special(path) {
            self.files.push(path.to_owned());
        } else {
            self.beneath.push(hidden_file::directory_of(path).to_owned());
        }
    }

    /// The ruleset, as far as this kernel supports it. Must be created while the directories can be opened.
    pub(super) fn ruleset(&self) -> Result<RulesetCreated, RulesetError> {
        let scope = Scope::AbstractUnixSocket.into();
        let scope: BitFlags<Scope> = if self.signals { scope } else { scope | Scope::Signal };
        let mut ruleset = Ruleset::default()
            .handle_access(all_writes())?
            .handle_access(AccessNet::from_all(ABI::V4))?
            .scope(scope)?
            .create()?;
        let in_directories = all_writes() & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
        let to_file = AccessFs::WriteFile | AccessFs::Truncate;
        let paths = self.beneath.iter().map(|path| (path, in_directories));
        for (path, access) in paths.chain(self.files.iter().map(|path| (path, to_file))) {
            let rule = PathFd::new(path).map_err(io::Error::other).and_then(|opened| {
                (&mut ruleset).add_rule(PathBeneath::new(opened, access)).map_err(io::Error::other)
            });
            // A missing path cannot be written to, and opening it reports that. A pipe needs no rule, and
            // accepts none.
            if let Err(error) = rule {
                tracing::debug!("{}: no rule of Landlock's: {error}", escape::path(path));
            }
        }
        for port in &self.connect {
            (&mut ruleset).add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        Ok(ruleset)
    }
}

fn all_writes() -> BitFlags<AccessFs> {
    AccessFs::from_write(ABI::V5)
}

/// Confines the calling thread and those it will start, for good.
pub(super) fn restrict(ruleset: &RulesetCreated) -> io::Result<()> {
    ruleset.try_clone()?.restrict_self().map(drop).map_err(io::Error::other)
}
