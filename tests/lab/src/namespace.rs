//! A network namespace: commands and closures that run in it.

use std::{
    fs::{self, File},
    panic,
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::{
    command::{run, words},
    error::{LabError, Result},
};

/// A named network namespace of a [`Lab`](crate::Lab), which alone creates and removes it. A clone is one
/// more handle of the same namespace.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Namespace {
    name: Arc<str>,
}

impl Namespace {
    pub(crate) fn create(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let namespace = Self::existing(name);
        // Before any interface is there: neighbour discovery and router solicitation would mix with what is
        // counted.
        for which in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "1")?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    pub(crate) fn existing(name: &str) -> Self {
        Self { name: name.into() }
    }

    /// Its name, as `ip netns` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it, to give to `setns(2)`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&*self.name)
    }

    /// `ip -n NAMESPACE …`, arguments separated by blanks; gives what it printed.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run(Command::new("ip").args(["-n", self.name()]).args(words(arguments)))
    }

    /// `tc -n NAMESPACE …`, arguments separated by blanks; gives what it printed.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn tc(&self, arguments: &str) -> Result<String> {
        run(Command::new("tc").args(["-n", self.name()]).args(words(arguments)))
    }

    /// A command that will run in the namespace, under its own process id: `ip netns exec` becomes the
    /// program.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name(), program]);
        command
    }

    /// Writes a setting below `/proc/sys` that belongs to network namespaces.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the setting is not there or refuses the value.
    pub fn sysctl(&self, setting: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(setting);
        self.enter(|| fs::write(&path, value).map_err(|error| LabError::file(&path, error)))?
    }

    /// Runs a closure on a new thread that lives in the namespace, and gives its value; a panic goes on in
    /// the caller. Sockets stay in the namespace they were made in, so they may be handed out.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the namespace cannot be entered; the closure has not run then.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.join_this_thread()?;
                Ok(inside())
            });
            thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// As [`enter`](Self::enter), with the `/sys` of the namespace, as `ip netns exec` has it: settings of
    /// interfaces lie there. Threads that the closure starts see it, too, and nobody else does.
    ///
    /// # Errors
    ///
    /// As there, and where `/sys` cannot be mounted.
    pub fn enter_with_sysfs<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        self.enter(|| {
            let failed = |error| LabError::io(format!("/sys of namespace {}", self.name()), error);
            unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
            let mount = |source, target, kind, flags| mount(source, target, kind, flags, None::<&str>);
            // Or the mount would show outside.
            mount(None, "/", None, MsFlags::MS_SLAVE | MsFlags::MS_REC).map_err(failed)?;
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty()).map_err(failed)?;
            Ok(inside())
        })?
    }

    /// Moves the calling thread into the namespace for the rest of its life: for threads made for that.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the namespace is gone or the right (CAP_SYS_ADMIN) is missing.
    pub fn join_this_thread(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path).map_err(|error| LabError::file(&path, error))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .map_err(|error| LabError::io(format!("cannot enter namespace {}", self.name()), error))
    }
}
