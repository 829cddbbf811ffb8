//! `cargo xtask dist --check`: what lintian and rpmlint say of the packages, what they need, and what
//! installing, upgrading and purging each leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::packages::Packages;
use super::source::Source;
use crate::{host, process};

/// The pages that name what the `.rpm` needs.
const PAGES: [&str; 2] = ["docs/packages.md", "docs/deploy.md"];

/// Runs commands over a copy of this host's files, and lists what they have changed for good.
const CHANGES: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 copy "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o "lowerdir=/,upperdir=upper,workdir=work" copy root
mount --bind "$3" root/mnt
mount -t proc proc root/proc
mount -t tmpfs run root/run
mount -t tmpfs dev root/dev
for node in null zero urandom; do
    touch "root/dev/$node"
    mount --bind "/dev/$node" "root/dev/$node"
done
chroot root sh -ec "$2" >&2
umount -R root/mnt root/proc root/run root/dev
find upper '(' ! -type d -o -name mirror ')' -printf '/%P\n'
"#;

/// Neither enabled nor started, and of use; then enabled, as users do.
const INSTALLED: &str = r#"
mirror --version
mirror config check /etc/mirror/mirror.toml
test "$(stat -c %U:%a /var/lib/mirror)" = mirror:750
test "$(systemctl is-enabled mirror.service)" = disabled
test -z "$(find /etc/systemd/system -name 'mirror*')"
test -s /usr/share/man/man1/mirror-ingest.1.gz
echo capture > /var/lib/mirror/kept.pcapng
systemctl --quiet enable mirror.service mirror@ens6.service
"#;

/// What installing and purging may change: the database of packages, and users, who stay with their files.
const LEFT: [&str; 12] = [
    "/etc/group",
    "/etc/gshadow",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/subgid",
    "/etc/subuid",
    "/etc/.pwd.lock",
    "/var/cache/",
    "/var/lib/dpkg/",
    "/var/lib/rpm/",
    "/var/log/",
    "/root/.rpmdb/",
];

/// Checks both packages, and the upgrade of each to a later version.
///
/// # Errors
/// If one is not as it should be.
pub(super) fn run(packages: &Packages, next: &Packages) -> Result<()> {
    ensure!(host::is_root(), "installing packages takes root; run\n  {}", host::as_root("dist --check"));
    process::check(Command::new("lintian").args(["--fail-on", "error,warning"]).arg(&packages.deb))?;
    let config = host::workspace().join("packaging/rpm/rpmlint.toml");
    process::check(Command::new("rpmlint").arg("--config").arg(config).arg(&packages.rpm))?;
    let needed =
        process::output(Command::new("rpm").args(["--query", "--requires", "--package"]).arg(&packages.rpm))?;
    let needed: BTreeSet<_> = needed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        // What rpm itself has to know, and the package's own configuration.
        .filter(|name| !name.starts_with("rpmlib(") && !name.starts_with("config("))
        .collect();
    for page in PAGES {
        let text = fs::read_to_string(host::workspace().join(page)).with_context(|| page.to_owned())?;
        let unnamed: Vec<_> = needed.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
        ensure!(unnamed.is_empty(), "{page} does not name what the .rpm needs: {unnamed:?}");
    }
    let dist = host::target_dir().join("dist");
    let place = |path: &Path| {
        let below = path.strip_prefix(&dist).with_context(|| format!("{} is elsewhere", path.display()))?;
        Ok::<_, anyhow::Error>(format!("/mnt/{}", below.display()))
    };
    let is_next = format!("test \"$(mirror --version)\" = \"mirror {}\"", Source::NEXT);
    leaves_nothing(&format!(
        "dpkg --install {}\n{INSTALLED}\ndpkg --install {}\n{is_next}\ndpkg --remove mirror\n\
         test -e /etc/mirror/mirror.toml\ndpkg --purge mirror",
        place(&packages.deb)?,
        place(&next.deb)?
    ))?;
    // Its names of other packages are those of Amazon Linux.
    leaves_nothing(&format!(
        "rpm --install --nodeps {}\n{INSTALLED}\n\
         rpm --upgrade --nodeps {}\n{is_next}\nrpm --erase --nodeps mirror",
        place(&packages.rpm)?,
        place(&next.rpm)?
    ))?;
    eprintln!(
        "dist: both packages are clean, and installed, upgraded and purged without a trace but captures"
    );
    Ok(())
}

/// Runs commands that install a package and remove it, over a copy of this host's files; the packages are in
/// `/mnt`.
fn leaves_nothing(commands: &str) -> Result<()> {
    let dist = host::target_dir().join("dist");
    let copy = dist.join("copy");
    fs::create_dir_all(&copy).with_context(|| format!("cannot create {}", copy.display()))?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "sh", "-c", CHANGES, "sh"]);
    let changed = process::output(command.arg(&copy).arg(commands).arg(&dist))?;
    let left: BTreeSet<_> = changed.lines().filter(|path| !is_permitted(path)).collect();
    let expected = BTreeSet::from(["/var/lib/mirror", "/var/lib/mirror/kept.pcapng"]);
    ensure!(left == expected, "after the package was purged there is {left:?}");
    Ok(())
}

/// Copies of these with a dash are of before the last change.
fn is_permitted(path: &str) -> bool {
    LEFT.iter().any(|left| {
        path.strip_prefix(left).is_some_and(|rest| left.ends_with('/') || rest.is_empty() || rest == "-")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_left_is_named() {
        assert!(is_permitted("/etc/passwd-") && is_permitted("/var/lib/dpkg/status"));
        assert!(!is_permitted("/etc/passwd.new") && !is_permitted("/etc/mirror/mirror.toml"));
    }

    #[test]
    fn the_pages_name_what_the_rpm_needs() {
        let read = |name: &str| fs::read_to_string(host::workspace().join(name)).unwrap();
        let manifest = read("packaging/package.toml");
        let (_, needs) = manifest.split_once("[package.metadata.generate-rpm.requires]\n").unwrap();
        let names: Vec<_> = needs.lines().filter_map(|line| line.split_once(" = ")).collect();
        assert_eq!(names.len(), 3);
        for page in PAGES {
            let text = read(page);
            let names = names.iter().filter(|(name, _)| !text.contains(&format!("`{name}`")));
            assert_eq!(names.count(), 0, "{page}");
        }
        assert!(manifest.contains(&format!("glibc = \">= {}\"", crate::pins::GLIBC)));
        assert!(manifest.contains(&format!("libc6 (>= {})", crate::pins::GLIBC)));
    }
}
