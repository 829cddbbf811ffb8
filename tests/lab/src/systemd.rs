//! systemd as PID 1 of a container: a copy of this host's files in memory, in a network namespace of a lab,
//! with process ids, mounts and control groups of its own. Units are tested in it, and this host has none of
//! them.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};

use crate::{
    command::{end, run},
    error::{LabError, Result},
    namespace::Namespace,
};

/// How long systemd may take to start, and its control group to become empty.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Makes the container's files in the folder `$1`, and becomes its first process.
const START: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 lab "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o "lowerdir=/,upperdir=upper,workdir=work" lab root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=0755 dev dev
mkdir dev/net dev/pts dev/shm
for node in null zero full random urandom tty net/tun; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
rm -rf etc/systemd/system
mkdir etc/systemd/system old
# Without what starts a whole host.
for target in sysinit basic network-online; do
    printf '[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\n' \
        > "etc/systemd/system/$target.target"
done
pivot_root . old
umount -l /old
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target --show-status=no
"#;

/// A container with systemd as its PID 1; killed, with all that is in it, when this is dropped.
#[derive(Debug)]
pub struct Systemd {
    unshare: Child,
    /// systemd, as this host numbers it.
    init: Pid,
    /// Of the container, in the hierarchy of version 2.
    control_group: PathBuf,
    folder: PathBuf,
}

impl Systemd {
    /// Starts one in a namespace, with the journal. `name` is unique in the lab.
    ///
    /// # Errors
    ///
    /// As [`run`], and if systemd does not start.
    pub fn boot(namespace: &Namespace, name: &str) -> Result<Self> {
        let control_group = unified_hierarchy()?.join(format!("{}-{name}", namespace.name()));
        let folder = std::env::temp_dir().join(format!("{}-{name}", namespace.name()));
        for made in [&control_group, &folder] {
            DirBuilder::new().mode(0o700).create(made).map_err(|error| LabError::file(made, error))?;
        }
        let enter = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", control_group.display());
        // First, because `ip netns exec` has a /sys without control groups.
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh", "ip", "netns", "exec", namespace.name(), "unshare"]);
        command.args(["--cgroup", "--mount", "--pid", "--fork", "--uts", "--ipc"]);
        command.args(["--kill-child", "sh", "-c", START, "sh"]).arg(&folder);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let unshare =
            command.spawn().map_err(|error| LabError::io("cannot start a container".to_owned(), error))?;
        let mut systemd = Self { unshare, init: Pid::from_raw(0), control_group, folder };
        systemd.wait_for_init()?;
        systemd.ctl(&["start", "systemd-journald.service"])?;
        Ok(systemd)
    }

    /// Waits until systemd takes commands.
    fn wait_for_init(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let scope = self.control_group.join("init.scope/cgroup.procs");
        loop {
            let first = fs::read_to_string(&scope).ok().and_then(|pids| pids.lines().next()?.parse().ok());
            if let Some(pid) = first {
                self.init = Pid::from_raw(pid);
                if self.path("/run/systemd/private").exists() {
                    return Ok(());
                }
            }
            if let Ok(Some(status)) = self.unshare.try_wait() {
                return Err(LabError::Unexpected(format!("the container ended: {status}")));
            }
            if Instant::now() > deadline {
                return Err(LabError::Unexpected("systemd does not start in a container".to_owned()));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Where a file of the container is, seen from this host.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// A control group of the container, seen from this host.
    #[must_use]
    pub fn control_group(&self, inside: &str) -> PathBuf {
        self.control_group.join(inside.trim_start_matches('/'))
    }

    /// Writes a file of the container, and the directories that it is in.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`].
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(inside);
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory).map_err(|error| LabError::file(directory, error))?;
        fs::write(&path, content).map_err(|error| LabError::file(&path, error))
    }

    /// Copies a program into the container.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`].
    pub fn install(&self, program: &Path, inside: &str) -> Result<()> {
        let path = self.path(inside);
        fs::copy(program, &path).map_err(|error| LabError::file(&path, error))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(|error| LabError::file(&path, error))
    }

    /// A command that will run in the container.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd=/"]);
        command.args(["--target", &self.init.to_string(), program]);
        command
    }

    /// `systemctl …`; gives what it printed.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        run(self.command("systemctl").args(arguments))
    }

    /// The same for what may fail.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if it cannot be started.
    pub fn try_ctl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command("systemctl");
        let output = command.args(arguments).stdin(Stdio::null()).output();
        output.map_err(|error| LabError::io("cannot start nsenter".to_owned(), error))
    }

    /// A property of a unit, as `systemctl show` has it.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        self.ctl(&["show", "--value", "--property", name, unit]).map(|value| value.trim().to_owned())
    }

    /// The journal of a unit: each line with its priority before it.
    ///
    /// # Errors
    ///
    /// As [`run`], and [`LabError::Unexpected`] for what is no journal.
    pub fn journal(&self, unit: &str) -> Result<Vec<(u8, String)>> {
        self.command("journalctl").arg("--sync").output().ok();
        let shown = run(self.command("journalctl").args(["--unit", unit, "--output", "json"]))?;
        let entry = |line: &str| {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            let text = |name: &str| entry[name].as_str().map(str::to_owned);
            Some((text("PRIORITY")?.parse().ok()?, text("MESSAGE")?))
        };
        let entries: Option<Vec<_>> = shown.lines().map(entry).collect();
        entries.ok_or_else(|| LabError::Unexpected(format!("a journal: {shown}")))
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // The first process takes all others of its process ids with it.
        if self.init.as_raw() > 0 {
            let _ = nix::sys::signal::kill(self.init, Signal::SIGKILL);
        }
        end(&mut self.unshare);
        let deadline = Instant::now() + PATIENCE;
        while remove_tree(&self.control_group).is_err() && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Removes a control group with those in it, none of which may have a process.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// Where control groups of version 2 are mounted.
fn unified_hierarchy() -> Result<PathBuf> {
    let mounts =
        fs::read_to_string("/proc/mounts").map_err(|error| LabError::io("mounts".to_owned(), error))?;
    let unified = mounts.lines().find_map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        (fields.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(fields[1]))
    });
    unified.ok_or_else(|| LabError::Unexpected("no control groups of version 2 are mounted".to_owned()))
}
