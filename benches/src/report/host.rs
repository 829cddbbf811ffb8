//! The host of a run.

use std::{fs, path::Path, process::Command};

use nix::{
    sys::utsname,
    unistd::{SysconfVar, sysconf},
};

use super::schema::Host;

/// This host, with the driver and the XDP mode of the interface under test; empty without one.
#[must_use]
pub fn facts(driver: &str, mode: &str) -> Host {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let (kernel, machine) = kernel_and_machine();
    Host {
        cpu: cpu_model(&cpuinfo).unwrap_or(&machine).to_owned(),
        cpus: cpus_online(),
        kernel: format!("{kernel} {machine}"),
        os: pretty_name(&os_release).unwrap_or("unknown").to_owned(),
        driver: driver.to_owned(),
        mode: mode.to_owned(),
        commit: commit(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_or_else(|| "unknown".into()),
        rustc: env!("BUILT_BY").to_owned(),
    }
}

fn kernel_and_machine() -> (String, String) {
    utsname::uname().map_or_else(
        |_| ("unknown".into(), String::new()),
        |name| (name.release().to_string_lossy().into_owned(), name.machine().to_string_lossy().into_owned()),
    )
}

fn cpus_online() -> usize {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    online.and_then(|cpus| usize::try_from(cpus).ok()).unwrap_or_default()
}

/// Of the first CPU. Arm has no such line.
fn cpu_model(cpuinfo: &str) -> Option<&str> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim())
    })
}

/// From the text of os-release(5).
fn pretty_name(os_release: &str) -> Option<&str> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']))
}

/// The commit of the work tree that `folder` is in; nothing without git or outside of a repository.
fn commit(folder: &Path) -> Option<String> {
    // Root may run this in another user's clone, whose index it must not write.
    let trusted = format!("safe.directory={}", folder.parent()?.display());
    let output = Command::new("git")
        .args(["--no-optional-locks", "-c", &trusted, "-C"])
        .arg(folder)
        // Tags would hide the commit.
        .args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| commit.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named_after_the_first_model_line() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) Platinum 8124M CPU @ \
            3.00GHz\n\
            processor\t: 1\nmodel name\t: other\n";
        assert_eq!(cpu_model(cpuinfo), Some("Intel(R) Xeon(R) Platinum 8124M CPU @ 3.00GHz"));
        assert_eq!(cpu_model("processor\t: 0\nCPU implementer\t: 0x41\n"), None);
    }

    #[test]
    fn the_distribution_is_named_as_it_names_itself() {
        let os_release = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(os_release), Some("Debian GNU/Linux 12 (bookworm)"));
    }

    #[test]
    fn outside_of_a_repository_there_is_no_commit_and_no_error() {
        assert_eq!(commit(tempfile::tempdir().unwrap().path()), None);
    }

    #[test]
    fn this_host_has_a_name_for_everything() {
        let host = facts("veth", "native");
        assert!(host.cpus > 0 && host.rustc.starts_with("rustc "), "{host:?}");
        for fact in [&host.cpu, &host.kernel, &host.os, &host.commit] {
            assert!(!fact.is_empty(), "{host:?}");
        }
    }
}
