//! Debian's apt client with its own lists and caches: fetches and unpacks packages of other suites and
//! architectures without installing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{host, process};

/// Debian's archive, for hosts whose own sources do not name one.
const ARCHIVE: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One or more suites, seen through a separate apt configuration.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
    architectures: Vec<&'static str>,
}

impl Apt {
    /// Lists for these suites and architectures, kept in `folder`. Package names without an architecture mean
    /// the first one.
    ///
    /// # Errors
    /// If this host has no apt or no keyring of Debian's, or `folder` cannot be written.
    pub(crate) fn new(folder: &Path, suites: &[&str], architectures: &[&'static str]) -> Result<Self> {
        ensure!(
            host::program("apt-get").is_some() && host::program("dpkg").is_some(),
            "kernels and cross compilers are Debian's packages, fetched by its apt client: this host has none"
        );
        ensure!(
            Path::new(KEYRING).is_file(),
            "{KEYRING} is missing: install debian-archive-keyring, by which Debian's packages are checked"
        );
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let apt = Self { folder: folder.to_owned(), architectures: architectures.to_vec() };
        let targets = process::output_quietly(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE)",
        ]));
        let text = sources(suites, architectures, &mirrors(&targets.unwrap_or_default()));
        let list = apt.sources_list();
        fs::write(&list, text).with_context(|| format!("cannot write {}", list.display()))?;
        Ok(apt)
    }

    /// The file that lists the archives, in the form of sources.list(5).
    pub(crate) fn sources_list(&self) -> PathBuf {
        self.folder.join("sources.list")
    }

    /// A program of apt that sees only these lists, and no installed packages.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        let mut options = vec![
            format!("Dir::Etc::sourcelist={}", self.sources_list().display()),
            "Dir::Etc::sourceparts=/dev/null".into(),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            "Dir::State::status=/dev/null".into(),
            "Acquire::Languages=none".into(),
            // apt's own user cannot enter directories below the build's.
            "APT::Sandbox::User=root".into(),
            format!("APT::Architecture={}", self.architectures[0]),
        ];
        options.extend(self.architectures.iter().map(|name| format!("APT::Architectures::={name}")));
        for option in options {
            command.arg("-o").arg(option);
        }
        command
    }

    /// Fetches the lists.
    ///
    /// # Errors
    /// If an archive cannot be reached or is not signed as it must be.
    pub(crate) fn update(&self) -> Result<()> {
        process::output(self.command("apt-get").args(["-q", "-q", "update"])).map(drop)
    }

    /// Package names with this prefix.
    ///
    /// # Errors
    /// If apt fails.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = process::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// The version that would be fetched; `None` if there is no such package.
    ///
    /// # Errors
    /// If apt fails.
    pub(crate) fn version(&self, package: &str) -> Result<Option<String>> {
        let shown = process::output(self.command("apt-cache").args(["policy", package]))?;
        let candidate = shown.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        Ok(candidate.filter(|version| *version != "(none)").map(str::to_owned))
    }

    /// Fetches these packages without their dependencies, and unpacks them below `root`.
    ///
    /// # Errors
    /// If one is not to be had or cannot be unpacked.
    pub(crate) fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let debs = self.folder.join("debs");
        // Otherwise leftovers of an interrupted run would be unpacked, too.
        if debs.exists() {
            fs::remove_dir_all(&debs).with_context(|| format!("cannot empty {}", debs.display()))?;
        }
        fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
        let mut download = self.command("apt-get");
        download.args(["-q", "-q", "download"]).args(packages).current_dir(&debs);
        eprintln!("fetching {}", packages.join(" "));
        process::output(&mut download)?;
        unpack_all(&debs, root)?;
        fs::remove_dir_all(&debs).with_context(|| format!("cannot empty {}", debs.display()))
    }

    /// Fetches the source of a package, as its authors released it, and unpacks it below `root`. Returns its
    /// directory.
    ///
    /// # Errors
    /// As [`Self::unpack`].
    pub(crate) fn unpack_source(&self, package: &str, root: &Path) -> Result<PathBuf> {
        let fetched = self.folder.join("sources");
        for folder in [fetched.as_path(), root] {
            if folder.exists() {
                fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
            }
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let mut source = self.command("apt-get");
        source.args(["-q", "-q", "source", "--download-only", package]).current_dir(&fetched);
        eprintln!("fetching the source of {package}");
        process::output(&mut source)?;
        let archive = entries(&fetched)?
            .into_iter()
            .find(|path| path.to_string_lossy().contains(".orig.tar.") && !is_signature(path))
            .with_context(|| format!("no source of {package} in {}", fetched.display()))?;
        process::output(Command::new("tar").arg("-x").arg("-C").arg(root).arg("-f").arg(&archive))?;
        entries(root)?.pop().with_context(|| format!("nothing in {}", archive.display()))
    }

    /// Fetches these packages with all dependencies, and unpacks those that `wanted` accepts below `root`.
    ///
    /// # Errors
    /// As [`Self::unpack`].
    pub(crate) fn unpack_with_dependencies(
        &self,
        packages: &[&str],
        wanted: impl Fn(&str) -> bool,
        root: &Path,
    ) -> Result<()> {
        let mut download = self.command("apt-get");
        download.args(["-q", "-q", "--yes", "--download-only", "--no-install-recommends", "install"]);
        download.args(packages);
        eprintln!("fetching {} and what they need", packages.join(" "));
        process::output(&mut download)?;
        let archives = self.folder.join("cache/archives");
        for deb in debs_in(&archives)? {
            let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if wanted(&name) {
                unpack_one(&deb, root)?;
            }
            fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn is_signature(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "asc")
}

fn debs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut debs: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    debs.sort_unstable();
    Ok(debs)
}

fn unpack_all(debs: &Path, root: &Path) -> Result<()> {
    let debs = debs_in(debs)?;
    if debs.is_empty() {
        bail!("apt fetched nothing");
    }
    debs.iter().try_for_each(|deb| unpack_one(deb, root))
}

fn unpack_one(deb: &Path, root: &Path) -> Result<()> {
    process::output(Command::new("dpkg").arg("-x").arg(deb).arg(root)).map(drop)
}

/// The mirrors that this host uses for Debian's packages.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    archive: String,
    security: String,
}

/// From what `apt-get indextargets` prints for each index: the URI of its repository and the release.
fn mirrors(targets: &str) -> Mirrors {
    let find = |folder: &str| {
        targets
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(|uri| uri.trim_end_matches('/'))
            .find(|uri| uri.ends_with(folder))
            .map(str::to_owned)
    };
    Mirrors {
        archive: find("/debian").unwrap_or_else(|| ARCHIVE.into()),
        security: find("/debian-security").unwrap_or_else(|| SECURITY.into()),
    }
}

/// The lines of sources.list(5). Stable suites and older ones get security updates from a separate archive.
fn sources(suites: &[&str], architectures: &[&str], mirrors: &Mirrors) -> String {
    let options = format!("[arch={} signed-by={KEYRING}]", architectures.join(","));
    let mut text = String::new();
    for suite in suites {
        let mut line = |uri: &str, suite: &str| {
            for kind in ["deb", "deb-src"] {
                text.push_str(&format!("{kind} {options} {uri} {suite} main\n"));
            }
        };
        line(&mirrors.archive, suite);
        if !suite.contains('-') {
            line(&mirrors.security, &format!("{suite}-security"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_the_one_that_the_host_uses() {
        let targets = "http://mirror.example/pub/debian/ bookworm-backports\n\
                       http://mirror.example/pub/debian-security/ bookworm-security\n\
                       https://other.example/repo/ stable\n";
        let found = mirrors(targets);
        assert_eq!(found.archive, "http://mirror.example/pub/debian");
        assert_eq!(found.security, "http://mirror.example/pub/debian-security");
        assert_eq!(mirrors("").archive, ARCHIVE);
    }

    #[test]
    fn stable_suites_come_with_their_security_updates_and_backports_without() {
        let mirrors =
            Mirrors { archive: "http://a/debian".into(), security: "http://a/debian-security".into() };
        let text = sources(&["bookworm", "bookworm-backports"], &["amd64", "arm64"], &mirrors);
        let options = format!("[arch=amd64,arm64 signed-by={KEYRING}]");
        assert_eq!(
            text,
            [
                "http://a/debian bookworm",
                "http://a/debian-security bookworm-security",
                "http://a/debian bookworm-backports",
            ]
            .map(|suite| format!("deb {options} {suite} main\ndeb-src {options} {suite} main\n"))
            .concat()
        );
    }
}
