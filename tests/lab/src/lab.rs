//! A lab: one at a time on a host, and everything in it is removed in any case.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
    process::{self, Command},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    command::run,
    error::{LabError, Result},
    namespace::Namespace,
};

/// Prefix of the namespaces of all labs; the process id and a role follow.
const PREFIX: &str = "mir-";
/// The holder of this file's lock has the lab.
const LOCK: &str = "/run/lock/mirror-lab.lock";
/// How long processes of a removed namespace get to end before the lab says it could not be removed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A set of network namespaces, removed with all that is in them when it is dropped, also while a panic
/// unwinds.
///
/// Labs run one at a time on a host, over all processes and threads: [`Lab::new`] waits for the one before.
/// So do not make a second one on a thread that still holds a first.
#[derive(Debug)]
pub struct Lab {
    namespaces: Mutex<Vec<Namespace>>,
    /// Kept for its drop; the kernel releases it also when the process is killed.
    _lock: Flock<File>,
}

impl Lab {
    /// Waits for the previous lab to end, removes leftovers of crashed ones, and returns an empty lab.
    ///
    /// # Errors
    ///
    /// Without root, or where leftovers cannot be removed.
    pub fn new() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::Unexpected(
                "the lab makes network namespaces and needs root; run it with sudo".to_owned(),
            ));
        }
        let lock = lock()?;
        sweep(&lock)?;
        Ok(Self { namespaces: Mutex::default(), _lock: lock })
    }

    /// Creates a namespace; its name is made of the process id and the role, which is unique in the lab. IPv6
    /// is off in it and its loopback is up.
    ///
    /// # Errors
    ///
    /// As [`run`]: the role is taken, or the kernel refuses.
    pub fn namespace(&self, role: &str) -> Result<Namespace> {
        let namespace = Namespace::create(&format!("{PREFIX}{}-{role}", process::id()));
        // One that failed half way is listed by name, too: `teardown` passes over what is not there.
        let listed = Namespace::existing(&format!("{PREFIX}{}-{role}", process::id()));
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if !namespaces.contains(&listed) {
            namespaces.push(listed);
        }
        namespace
    }

    /// Removes everything now and says whether that worked; dropping does the same and prints what did not.
    ///
    /// # Errors
    ///
    /// The first thing that could not be removed; the rest is removed nevertheless.
    pub fn teardown(self) -> Result<()> {
        self.remove_all()
    }

    fn remove_all(&self) -> Result<()> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first_error = Ok(());
        for namespace in namespaces.drain(..).rev() {
            first_error = first_error.and(remove(&namespace));
        }
        first_error
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.remove_all() {
            eprintln!("lab: {error}");
        }
    }
}

fn lock() -> Result<Flock<File>> {
    let path = Path::new(LOCK);
    let open = || OpenOptions::new().write(true).create(true).truncate(false).open(path);
    // `/run/lock` is not on every host.
    let file = match path.parent().map(fs::create_dir_all) {
        Some(Err(error)) => Err(error),
        _ => open(),
    };
    let file = file.map_err(|error| LabError::file(path, error))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| LabError::file(path, error))
}

/// Removes leftovers of labs that crashed. Taking the lock proves that no lab is alive, so every namespace
/// with our prefix is a leftover, even if its process id is in use again.
fn sweep(_lock: &Flock<File>) -> Result<()> {
    list()?.iter().try_for_each(|name| remove(&Namespace::existing(name)))
}

/// Names of all namespaces of labs on this host.
///
/// # Errors
///
/// As [`run`].
pub fn list() -> Result<Vec<String>> {
    let listed = run(Command::new("ip").args(["netns", "list"]))?;
    let names = listed.lines().filter_map(|line| line.split_ascii_whitespace().next());
    Ok(names.filter(|name| is_ours(name)).map(str::to_owned).collect())
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(pid, _)| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
}

fn remove(namespace: &Namespace) -> Result<()> {
    if !namespace.path().exists() {
        return Ok(());
    }
    end_processes(namespace)?;
    // A socket somewhere may keep the namespace alive behind its name; its interfaces must go all the same. A
    // veth takes its other end along, so some are gone when their turn comes.
    for link in links(namespace)? {
        if let Err(error) = namespace.ip(&format!("link delete dev {link}"))
            && links(namespace)?.contains(&link)
        {
            return Err(error);
        }
    }
    run(Command::new("ip").args(["netns", "delete", namespace.name()])).map(drop)
}

/// Interfaces of a namespace but its loopback.
fn links(namespace: &Namespace) -> Result<Vec<String>> {
    let listed = namespace.ip("-brief link show")?;
    let names = listed.lines().filter_map(|line| line.split(['@', ' ']).next());
    Ok(names.filter(|name| *name != "lo" && !name.is_empty()).map(str::to_owned).collect())
}

fn end_processes(namespace: &Namespace) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = run(Command::new("ip").args(["netns", "pids", namespace.name()]))?;
        // Our own number stands there when a thread of ours has joined; that thread is for its owner to end.
        let others: Vec<_> = listed
            .lines()
            .filter_map(|pid| pid.trim().parse().ok())
            .filter(|pid| *pid != own_pid())
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(LabError::Unexpected(format!(
                "processes {others:?} in namespace {} do not end",
                namespace.name()
            )));
        }
        for pid in others {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(LabError::io(format!("cannot end process {pid}"), error)),
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn own_pid() -> i32 {
    Pid::this().as_raw()
}
