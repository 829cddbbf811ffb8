//! Puts the files of the packages where a host will have them, and has them packed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::notices;
use super::portable::Portable;
use super::source::Source;
use crate::{host, process};

/// Where a sentence of a script is replaced by the functions of both packages.
const UPGRADE: &str = "@UPGRADE@";

/// The packages that were made.
pub(super) struct Packages {
    pub(super) deb: PathBuf,
    pub(super) rpm: PathBuf,
}

/// Makes both packages.
///
/// # Errors
/// If a file is missing, or one of the tools fails.
pub(super) fn make(source: &Source, portable: &Portable) -> Result<Packages> {
    let Source { version, out: folder, .. } = source;
    let stage = folder.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot empty {}", stage.display()))?;
    }
    Stage { folder: &stage, source }.fill(portable)?;
    let deb = folder.join(format!("mirror_{version}-1_amd64.deb"));
    let mut cargo_deb = host::cargo();
    cargo_deb.current_dir(&stage).args(["deb", "--no-build", "--no-strip", "--output"]).arg(&deb);
    process::check(&mut cargo_deb)?;
    let rpm = folder.join(format!("mirror-{version}-1.x86_64.rpm"));
    let mut cargo_rpm = host::cargo();
    cargo_rpm.current_dir(&stage).args(["generate-rpm", "--arch", "x86_64", "--output"]).arg(&rpm);
    // The rpm of Amazon Linux 2 has no Zstandard.
    cargo_rpm.args(["--payload-compress", "gzip"]);
    process::check(&mut cargo_rpm)?;
    Ok(Packages { deb, rpm })
}

struct Stage<'a> {
    folder: &'a Path,
    source: &'a Source,
}

impl Stage<'_> {
    fn fill(&self, portable: &Portable) -> Result<()> {
        let Source { root, version, .. } = self.source;
        let packaging = root.join("packaging");
        let text = |name: &str| read(&packaging.join(name));
        self.write("Cargo.toml", &text("package.toml")?.replace("@VERSION@", version))?;
        // cargo wants a program, and does not build it.
        self.write("mirror.rs", "fn main() {}\n")?;
        self.write(
            "Cargo.lock",
            &format!("version = 4\n\n[[package]]\nname = \"mirror\"\nversion = \"{version}\"\n"),
        )?;
        let upgrade = text("upgrade-running.sh")?;
        for script in
            ["deb/postinst", "deb/prerm", "deb/postrm", "rpm/pre", "rpm/post", "rpm/preun", "rpm/postun"]
        {
            let name = script.split_once('/').map_or(script, |(_, name)| name);
            self.write(&format!("scripts/{name}"), &text(script)?.replace(UPGRADE, &upgrade))?;
        }
        self.write("copyright", &text("deb/copyright")?)?;
        self.write("lintian-overrides", &text("deb/lintian-overrides")?)?;
        self.write("changelog.Debian", &changelog(version))?;
        for license in ["LICENSE-MIT", "LICENSE-APACHE"] {
            self.write(license, &read(&root.join(license))?)?;
        }
        self.copy(&portable.program, "root/usr/bin/mirror")?;
        self.write("root/etc/mirror/mirror.toml", &text("mirror.toml")?)?;
        for unit in ["mirror.service", "mirror@.service", "mirror-source.service"] {
            self.write(&format!("root/usr/lib/systemd/system/{unit}"), &text(&format!("systemd/{unit}"))?)?;
        }
        for file in list(&packaging.join("systemd/drop-ins"))? {
            self.copy(&file, &format!("root/usr/share/mirror/drop-ins/{}", name_of(&file)))?;
        }
        for page in list(&root.join("docs"))? {
            self.copy(&page, &format!("root/usr/share/doc/mirror/{}", name_of(&page)))?;
        }
        let third_party = notices::of_dependencies(&portable.libpcap_license)?;
        self.write("root/usr/share/doc/mirror/THIRD-PARTY", &third_party)?;
        self.pages()
    }

    /// Man pages and completions, which a test of the command writes.
    fn pages(&self) -> Result<()> {
        let folder = self.folder.join("pages");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut test = host::cargo();
        test.current_dir(&self.source.root).args([
            "test",
            "--locked",
            "--package",
            "mirror-user",
            "--bin",
            "mirror",
            "pages::",
        ]);
        process::check(test.env("MIRROR_PAGES", &folder))?;
        for (file, to) in [
            ("mirror.bash", "bash-completion/completions/mirror"),
            ("mirror.fish", "fish/vendor_completions.d/mirror.fish"),
            ("_mirror", "zsh/site-functions/_mirror"),
        ] {
            self.copy(&folder.join(file), &format!("root/usr/share/{to}"))?;
        }
        for page in list(&folder)?.into_iter().filter(|page| name_of(page).ends_with(".1")) {
            let to = self.copy(&page, &format!("root/usr/share/man/man1/{}", name_of(&page)))?;
            // One package wants them compressed, the other compresses them.
            process::output(Command::new("gzip").args(["-9", "--no-name", "--keep"]).arg(&to))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let to = self.place(name)?;
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))
    }

    fn copy(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let to = self.place(name)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        let mode = if name.contains("/bin/") { 0o755 } else { 0o644 };
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", to.display()))?;
        Ok(to)
    }

    /// The path of a file to be made, in a directory that exists.
    fn place(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(self.folder);
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(path)
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort_unstable();
    Ok(files)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// That of the package; what changed in the program is in its own.
fn changelog(version: &str) -> String {
    format!(
        "mirror ({version}-1) unstable; urgency=medium\n\n  * Version {version}.\n\n -- The mirror \
        contributors <mirror@packages.example.org>  Tue, 01 Dec 2026 00:00:00 +0000\n"
    )
}
