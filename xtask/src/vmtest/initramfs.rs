//! The root file system of a guest: a shell's tools, `ip`, `ethtool`, our programs, one kernel's modules, the
//! plan.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use super::modules::Module;
use crate::process;

/// Path in the guest and bytes.
pub(crate) type Placed = (String, Vec<u8>);

/// The part of a guest that does not depend on its kernel.
#[derive(Debug)]
pub(crate) struct Base {
    /// A static busybox of the guest's machine.
    pub(crate) busybox: PathBuf,
    /// Its applets.
    pub(crate) applets: Vec<String>,
    pub(crate) programs: Vec<Placed>,
    /// Path in the guest, and a host path that exists under its own name in the guest.
    pub(crate) libraries: Vec<(String, PathBuf)>,
    /// Path in the guest and target of the link.
    pub(crate) links: Vec<(String, String)>,
}

/// Applets that would hide the real programs.
const NOT_BUSYBOX: [&str; 4] = ["busybox", "ip", "modprobe", "setpriv"];

/// What differs between guests of one machine.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub(super) init: &'a str,
    pub(super) modules: &'a [Module],
    pub(super) plan: &'a str,
    /// Path in the guest and text.
    pub(super) files: &'a [(String, String)],
}

/// The init script: mounts, modules, the plan, the papers as a tar on a separate port, the end.
pub(super) const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin:/sbin HOME=/ MIRROR_GUEST=1
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp; mount -t tmpfs tmp /papers; chmod 1777 /tmp
mkdir -p /dev/pts; mount -t devpts pts /dev/pts
mount -t tracefs trace /sys/kernel/tracing; mount -t bpf bpf /sys/fs/bpf
for port in results papers; do
    for word in $(cat /proc/cmdline); do
        case $word in $port=*) eval "$port=/dev/${word#*=}"; stty -F "/dev/${word#*=}" raw -echo ;; esac
    done
done
while read -r module; do insmod "/modules/$module.ko" || echo "no module $module"; done </modules/order
sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
echo "guest: up after $(cut -d' ' -f1 /proc/uptime) s"
mirror-lab guest /plan.json "$results" /papers
echo "guest: plan ended with $? after $(cut -d' ' -f1 /proc/uptime) s"
dmesg >/papers/dmesg.txt
tar -C /papers -czf - . >"$papers"
sync
poweroff -f
"#;

impl Base {
    /// busybox lists its own applets; one of another machine cannot be run, but has the same.
    pub(crate) fn applets_of(busybox: &Path) -> Result<Vec<String>> {
        let listed = process::output(Command::new(busybox).arg("--list"))?;
        let ours = listed.lines().filter(|applet| !NOT_BUSYBOX.contains(applet));
        Ok(ours.map(str::to_owned).collect())
    }

    /// Writes the archive for a kernel with these modules, and a plan.
    ///
    /// # Errors
    /// If something cannot be read or the archive cannot be written.
    pub(super) fn write(&self, to: &Path, contents: &Contents<'_>) -> Result<()> {
        let Contents { init, modules, plan, files } = contents;
        let file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let busybox = read(&self.busybox)?;
        let libraries: Vec<_> =
            self.libraries.iter().map(|(path, host)| Ok((path, read(host)?))).collect::<Result<_>>()?;
        let write = || {
            let mut archive = Archive::new(BufWriter::new(file));
            for folder in ["proc", "sys", "dev", "run/netns", "tmp", "papers", "etc", "root", "var/run"] {
                archive.folder(folder)?;
            }
            archive.program("init", init.as_bytes())?;
            archive.program("bin/busybox", &busybox)?;
            for applet in &self.applets {
                archive.link(&format!("bin/{applet}"), "busybox")?;
            }
            for (path, bytes) in &self.programs {
                archive.program(path, bytes)?;
            }
            for (path, bytes) in &libraries {
                archive.program(path, bytes)?;
            }
            for (path, target) in &self.links {
                archive.link(path, target)?;
            }
            archive.file("etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")?;
            archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")?;
            for (path, text) in *files {
                archive.program(path, text.as_bytes())?;
            }
            let mut order = String::new();
            for module in *modules {
                archive.file(&format!("modules/{}.ko", module.name), &module.bytes)?;
                order.push_str(&module.name);
                order.push('\n');
            }
            archive.file("modules/order", order.as_bytes())?;
            archive.file("plan.json", plan.as_bytes())?;
            archive.finish()
        };
        write().with_context(|| format!("cannot write {}", to.display()))
    }
}
