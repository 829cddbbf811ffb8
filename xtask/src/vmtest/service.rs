//! `mirror` as a service of systemd, which is PID 1 of a Debian guest.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::kernel::Kernel;
use super::plan::Extent;
use crate::host;

/// Debian 12's own, and one that lets another process take the sockets over.
pub(super) const KERNELS: [Kernel; 2] = [Kernel::V6_1, Kernel::Newest];

/// What is done with the service, a step each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// As the guest knows it.
    pub(super) key: &'static str,
    /// Whether it is for every change; else with `--all` only.
    pub(super) usual: bool,
}

const UPGRADES: &str = "upgrades";

/// In the order in which they are run.
const SCENARIOS: [Scenario; 8] = [
    Scenario { name: "service refuses the default", key: "refuses_default", usual: true },
    Scenario { name: "service starts", key: "starts", usual: true },
    Scenario { name: "service reloads", key: "reloads", usual: true },
    Scenario { name: "service drains and stops", key: "drains", usual: true },
    Scenario { name: "service after kill -9", key: "killed", usual: true },
    Scenario { name: "service with a worker that hangs", key: "worker_hangs", usual: true },
    // Debian 12's kernel is too old to let another process have the sockets: it opens new ones.
    Scenario { name: "service upgrades", key: UPGRADES, usual: true },
    // To systemd the same as a worker that does.
    Scenario { name: "service that hangs", key: "hangs", usual: false },
];

/// The scenarios for every change, or all of them; on a newer kernel only what depends on the kernel.
pub(super) fn scenarios(kernel: Kernel, extent: Extent) -> Vec<Scenario> {
    let wanted = |scenario: &Scenario| scenario.usual || extent == Extent::All;
    let differs = |scenario: &Scenario| kernel == KERNELS[0] || scenario.key == UPGRADES;
    SCENARIOS.into_iter().filter(|scenario| wanted(scenario) && differs(scenario)).collect()
}

/// Files of packages and of the tests, by their paths in the guest.
const UNIT: &str = "packaging/systemd/mirror.service";
const CONFIGURATION: &str = "packaging/mirror.toml";

/// The init script of the initramfs: modules, the disk, what goes on it, systemd.
pub(super) const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module.ko" || echo "no module $module"; done </modules/order
mkdir /disk
mount -t ext4 /dev/vda /disk || { echo "guest: no disk"; poweroff -f; }
cp -a /disk-files/. /disk/
cp /plan.json /disk/vmtest/
echo "guest: systemd after $(cut -d' ' -f1 /proc/uptime) s"
for mount in dev proc sys; do mount --move "/$mount" "/disk/$mount"; done
exec switch_root /disk /sbin/init
"#;

/// What the unit of the tests runs.
const RUN: &str = r#"#!/bin/sh
export MIRROR_GUEST=1
for port in results papers; do
    for word in $(cat /proc/cmdline); do
        case $word in $port=*) eval "$port=/dev/${word#*=}"; stty -F "/dev/${word#*=}" raw -echo ;; esac
    done
done
echo "guest: up after $(cut -d' ' -f1 /proc/uptime) s"
mkdir -p /papers
# Packages make the user themselves.
if [ -x /usr/bin/mirror ]; then
    useradd --system --home-dir /var/lib/mirror --create-home --shell /usr/sbin/nologin mirror
fi
/vmtest/mirror-lab guest /vmtest/plan.json "$results" /papers
echo "guest: plan ended with $? after $(cut -d' ' -f1 /proc/uptime) s"
journalctl --output=short-monotonic >/papers/journal.txt
dmesg >/papers/dmesg.txt
# tar writes to no terminal, and a serial port is one.
tar -C /papers -czf - . | cat >"$papers"
sync
systemctl poweroff --force --force
"#;

const TESTS: &str = "[Unit]
Description=Steps of vmtest

[Service]
Type=oneshot
ExecStart=/vmtest/run
StandardOutput=journal+console
";

/// Programs of the guest, by their names here: where they are on its disk.
pub(super) fn place_of(program: &str) -> Option<&'static str> {
    match program {
        "bin/mirror" => Some("disk-files/usr/bin/mirror"),
        "bin/mirror-lab" => Some("disk-files/vmtest/mirror-lab"),
        _ => None,
    }
}

/// Text files of the disk of every guest with systemd.
pub(super) fn files_of_all() -> Vec<(String, String)> {
    let files = [
        ("vmtest/run", RUN.into()),
        ("etc/systemd/system/vmtest.service", TESTS.into()),
        ("etc/fstab", String::new()),
        ("etc/hostname", "guest\n".into()),
    ];
    files.map(|(path, text)| (format!("disk-files/{path}"), text)).into()
}

/// Unit and configuration as packages have them, for the guest that has no package.
///
/// # Errors
/// If one cannot be read.
pub(super) fn files() -> Result<Vec<(String, String)>> {
    let read = |file: &str| {
        let path = host::workspace().join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let files = [
        ("usr/lib/systemd/system/mirror.service", read(UNIT)?),
        ("vmtest/mirror.toml", read(CONFIGURATION)?),
    ];
    Ok(files.map(|(path, text)| (format!("disk-files/{path}"), text)).into())
}

/// Links of the guest's disk.
pub(super) fn links() -> Vec<(String, String)> {
    let units = "disk-files/etc/systemd/system";
    let wanted = (format!("{units}/multi-user.target.wants/vmtest.service"), "../vmtest.service".to_owned());
    // They would wait for devices, which udev announces.
    let masked = ["getty@.service", "serial-getty@.service", "getty-static.service"];
    let masked = masked.map(|unit| (format!("{units}/{unit}"), "/dev/null".to_owned()));
    masked.into_iter().chain([wanted]).collect()
}

impl Scenario {
    /// The step as the guest reads it, of the service or of its package.
    pub(super) fn json(&self, of: &str) -> Value {
        json!({ of: { "name": self.name, "scenario": self.key } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_change_needs_is_part_of_all_and_goes_by_names_of_its_own() {
        let names =
            |extent| scenarios(KERNELS[0], extent).iter().map(|scenario| scenario.name).collect::<Vec<_>>();
        let (usual, mut all) = (names(Extent::Usual), names(Extent::All));
        assert!(!usual.is_empty() && usual.iter().all(|name| all.contains(name)));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
