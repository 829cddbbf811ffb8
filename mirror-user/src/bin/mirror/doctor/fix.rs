//! `--fix`: the remedies that are settings of the host, as files that set them at each start.
//!
//! Those of an interface go into a drop-in of the service, as commands before its start: udev and DHCP
//! clients set MTU and channels of the interfaces that they know, each host in its own way, and before that.

use std::path::Path;

use mirror_user::{
    doctor::Report,
    escape::systemd,
    host::settings::{Assignment, Setting},
};

const SYSCTL: &str = "/etc/sysctl.d/60-mirror.conf";
/// The first line of each file.
const HEAD: &str =
    "# What this host lacks for mirror. By `mirror doctor --fix`; `--undo` takes back what `--apply` set.";
/// Where the commands of drop-ins are.
const PROGRAMS: &str = "/usr/sbin";

/// A setting, and the file that keeps it over a boot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) assignment: Assignment,
    pub(super) file: String,
}

/// A file as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    pub(super) path: String,
    pub(super) text: String,
    /// The command that has it read.
    pub(super) read_by: &'static str,
}

impl Kept {
    pub(super) fn of(setting: Setting, value: &str, file: String) -> Self {
        Self { assignment: Assignment::of(setting, value), file }
    }

    /// The program that the file calls, if it does.
    pub(super) fn program(&self) -> Option<String> {
        self.assignment.setting.interface()?;
        self.assignment.command().first().map(|program| format!("{PROGRAMS}/{program}"))
    }

    fn line(&self) -> String {
        let Assignment { setting, value, .. } = &self.assignment;
        if let Setting::Sysctl { name } = setting {
            return format!("{} = {value}", name.name());
        }
        let words = self.assignment.command();
        let words: Vec<_> = words.iter().map(|word| systemd(word)).collect();
        // A setting that is so already fails in older versions of ethtool, and one that cannot be set is
        // named by the run itself.
        format!("ExecStartPre=-+{PROGRAMS}/{}", words.join(" "))
    }
}

/// The settings that a report's remedies change, the first of two of the same; interfaces are set in the
/// drop-in of this unit.
pub(super) fn kept(report: &Report, unit: &str) -> Vec<Kept> {
    let mut all: Vec<Kept> = Vec::new();
    for assignment in report.findings.iter().flat_map(|finding| &finding.settings) {
        if all.iter().any(|one| one.assignment.setting == assignment.setting) {
            continue;
        }
        let file = match assignment.setting.interface() {
            None => SYSCTL.to_owned(),
            Some(_) => drop_in(unit),
        };
        all.push(Kept { assignment: assignment.clone(), file });
    }
    all
}

fn drop_in(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}.d/60-host.conf")
}

/// The unit that is started with a configuration file.
pub(super) fn unit(configuration: Option<&Path>) -> String {
    // As in `mirror@.service`; systemd.unit(5) has the letters.
    let is_instance = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.".contains(&byte))
    };
    let name = configuration
        .filter(|path| path.parent() == Some(Path::new("/etc/mirror")))
        .and_then(|path| path.file_name()?.to_str()?.strip_suffix(".toml"));
    match name {
        Some(name) if name != "mirror" && is_instance(name) => format!("mirror@{name}.service"),
        _ => "mirror.service".to_owned(),
    }
}

/// The files that keep these.
pub(super) fn files(all: &[Kept]) -> Vec<Planned> {
    let mut paths: Vec<&str> = all.iter().map(|kept| kept.file.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    // That of the host first.
    paths.sort_by_key(|path| *path != SYSCTL);
    let planned = |path: &str| {
        let lines: Vec<_> = all.iter().filter(|kept| kept.file == path).map(Kept::line).collect();
        let (section, read_by) =
            if path == SYSCTL { ("", "sysctl --system") } else { ("[Service]\n", "systemctl daemon-reload") };
        Planned { path: path.to_owned(), text: format!("{HEAD}\n{section}{}\n", lines.join("\n")), read_by }
    };
    paths.into_iter().map(planned).collect()
}

#[cfg(test)]
mod tests {
    use mirror_user::doctor::Facts;

    use super::*;

    fn of_profile(text: &str) -> Vec<Planned> {
        let facts: Facts = serde_json::from_str(text).unwrap();
        files(&kept(&Report::of(facts), "mirror.service"))
    }

    #[test]
    fn remedies_that_are_settings_become_files() {
        let files = of_profile(include_str!("../../../../tests/profiles/ena-in-box-mtu-9001-channels.json"));
        let texts: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
        assert_eq!(
            texts,
            [
                (SYSCTL, &*format!("{HEAD}\nvm.nr_hugepages = 68\n")),
                (
                    "/etc/systemd/system/mirror.service.d/60-host.conf",
                    &*format!(
                        "{HEAD}\n[Service]\n\
                         ExecStartPre=-+/usr/sbin/ip link set dev ens6 mtu 3498\n\
                         ExecStartPre=-+/usr/sbin/ethtool -L ens6 combined 2\n\
                         ExecStartPre=-+/usr/sbin/ethtool -G ens6 rx 16384\n"
                    )
                ),
            ]
        );
    }

    #[test]
    fn states_of_a_moment_are_in_no_file() {
        let files = of_profile(include_str!("../../../../tests/profiles/hook-held.json"));
        assert!(files.iter().all(|file| !file.text.contains("xdp off")), "{files:?}");
        let down = of_profile(include_str!("../../../../tests/profiles/down.json"));
        assert!(down.iter().all(|file| !file.text.contains(" up")), "{down:?}");
    }

    #[test]
    fn names_are_quoted_as_systemd_reads_them() {
        let setting = Setting::Mtu { interface: "a%$'\"\\\u{1b}".to_owned() };
        let kept = Kept::of(setting, "3498", drop_in("mirror.service"));
        assert_eq!(kept.line(), "ExecStartPre=-+/usr/sbin/ip link set dev \"a%%$$'\\\"\\\\\\x1b\" mtu 3498");
    }

    #[test]
    fn each_configuration_has_the_drop_in_of_its_unit() {
        let of = |path: &str| unit(Some(Path::new(path)));
        assert_eq!(unit(None), "mirror.service");
        assert_eq!(of("/etc/mirror/mirror.toml"), "mirror.service");
        assert_eq!(of("/etc/mirror/tenant-7.toml"), "mirror@tenant-7.service");
        assert_eq!(of("/etc/mirror/a b.toml"), "mirror.service");
        assert_eq!(of("/home/me/tenant-7.toml"), "mirror.service");
    }
}
