//! Finds outputs that would write to the same file.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Component, Path, PathBuf},
};

use mirror_user::{escape, hidden_file::directory_of};

use crate::Usage;

/// A file that is to be written.
pub(crate) struct Output<'a> {
    /// The flag that names it.
    pub(crate) flag: &'static str,
    pub(crate) path: &'a Path,
    /// Whether numbered files follow it.
    pub(crate) is_series: bool,
    /// Whether it may be written in parts, with a number before the extension.
    pub(crate) has_parts: bool,
}

impl<'a> Output<'a> {
    /// One file.
    pub(crate) fn single(flag: &'static str, path: &'a Path) -> Self {
        Self { flag, path, is_series: false, has_parts: false }
    }

    /// Whether another file has the name of one that belongs to this output, besides its own.
    fn may_have(&self, own: &FileIdentity, other: &FileIdentity) -> bool {
        (self.is_series && other.follows(own)) || (self.has_parts && other.is_part_of(own, self.is_series))
    }
}

/// Rejects two outputs to the same file: the second would fail, at its start or only at its end.
pub(crate) fn distinct(outputs: &[Output<'_>]) -> Result<(), Usage> {
    let identities: Vec<_> = outputs.iter().map(|output| FileIdentity::of(output.path)).collect();
    for (nth, (output, identity)) in outputs.iter().zip(&identities).enumerate() {
        for (earlier, other) in outputs.iter().zip(&identities).take(nth) {
            let named = |output: &Output<'_>| format!("{} {}", output.flag, escape::path(output.path));
            if identity.is(other) {
                return Err(Usage(format!("{} and {} name the same file", named(earlier), named(output))));
            }
            if earlier.may_have(other, identity) || output.may_have(identity, other) {
                return Err(Usage(format!(
                    "{} and {}: one is among the names of the other's numbered files",
                    named(earlier),
                    named(output)
                )));
            }
        }
    }
    Ok(())
}

/// The identity of a file, which need not exist yet.
#[derive(Debug, PartialEq)]
struct FileIdentity {
    directory: Directory,
    name: OsString,
    /// The file that has the name already; hard links give one file several names.
    existing: Option<Id>,
    /// Devices such as `/dev/null` may be written to by several outputs.
    is_device: bool,
}

/// Device and inode.
type Id = (u64, u64);

#[derive(Debug, PartialEq)]
enum Directory {
    Existing {
        id: Id,
        /// Whether names that differ only by case are the same file.
        folds_case: bool,
    },
    /// It does not exist, so nothing can be written to it: its normalized path.
    Missing(PathBuf),
}

impl FileIdentity {
    fn of(path: &Path) -> Self {
        let parent = directory_of(path);
        let directory = match id_of(parent) {
            Some(id) => Directory::Existing { id, folds_case: folds_case(parent) },
            None => Directory::Missing(normal(parent)),
        };
        let name = path.file_name().unwrap_or_default().to_owned();
        Self { directory, name, existing: id_of(path), is_device: is_device(path) }
    }

    fn is(&self, other: &Self) -> bool {
        if self.is_device && other.is_device {
            return false;
        }
        let same_file = self.existing.is_some() && self.existing == other.existing;
        same_file
            || (self.directory == other.directory && self.folded(&self.name) == self.folded(&other.name))
    }

    /// Whether its name is that of the other with a number appended, before .gz or .zst.
    fn follows(&self, first: &Self) -> bool {
        let (name, first_name) = (self.folded(&self.name), self.folded(&first.name));
        let (Some(name), Some(first_name)) = (name.to_str(), first_name.to_str()) else { return false };
        let rest = [".gz", ".zst", ""]
            .iter()
            .find_map(|ending| name.strip_suffix(ending)?.strip_prefix(first_name.strip_suffix(ending)?));
        self.directory == first.directory
            && rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Whether its name is that of the other with the number of a part, as of [`part_path`], and with one of
    /// a series if there is one.
    ///
    /// [`part_path`]: mirror_user::sink::pcap::part_path
    fn is_part_of(&self, whole: &Self, is_series: bool) -> bool {
        let (name, whole_name) = (self.folded(&self.name), self.folded(&whole.name));
        let (Some(name), Some(whole_name)) = (name.to_str(), whole_name.to_str()) else { return false };
        let is_part = |name: &str, whole_name: &str| {
            let whole_name = Path::new(whole_name);
            let stem = whole_name.file_stem().and_then(OsStr::to_str)?;
            let extension = whole_name.extension().and_then(OsStr::to_str);
            let numbered = name.strip_prefix(stem)?.strip_prefix('-')?;
            let rest = numbered.trim_start_matches(|letter: char| letter.is_ascii_digit());
            let number = extension.map_or(Some(rest), |extension| {
                rest.strip_prefix('.').and_then(|rest| rest.strip_prefix(extension))
            })?;
            let has_number = number.bytes().all(|byte| byte.is_ascii_digit());
            Some(rest.len() < numbered.len() && has_number && (is_series || number.is_empty()))
        };
        self.directory == whole.directory
            && [".gz", ".zst", ""]
                .iter()
                .find_map(|ending| is_part(name.strip_suffix(ending)?, whole_name.strip_suffix(ending)?))
                .unwrap_or(false)
    }

    fn folded(&self, name: &OsStr) -> OsString {
        match (&self.directory, name.to_str()) {
            (Directory::Existing { folds_case: true, .. }, Some(text)) => text.to_lowercase().into(),
            _ => name.to_owned(),
        }
    }
}

/// Without `.` and, as far as possible without the file system, `..`.
fn normal(path: &Path) -> PathBuf {
    let mut all = std::env::current_dir().unwrap_or_default();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                all.pop();
            }
            other => all.push(other),
        }
    }
    all
}

#[cfg(unix)]
fn id_of(path: &Path) -> Option<Id> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(unix)]
fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device())
}

#[cfg(not(unix))]
fn id_of(_: &Path) -> Option<Id> {
    None
}

#[cfg(not(unix))]
fn is_device(_: &Path) -> bool {
    false
}

/// Whether names in a directory are case-insensitive: by its file system, or by an attribute of the directory
/// (`chattr +F`).
#[cfg(target_os = "linux")]
fn folds_case(directory: &Path) -> bool {
    use rustix::fs::{Mode, OFlags, fstatfs, ioctl_getflags, open};
    /// FS_CASEFOLD_FL of `linux/fs.h`.
    const CASEFOLD: u32 = 0x4000_0000;
    /// `linux/magic.h`: FAT, exFAT, CIFS, SMB2, NTFS, HFS+.
    const FOLDING: [u64; 6] = [0x4d44, 0x2011_bab0, 0xff53_4d42, 0xfe53_4d42, 0x7366_746e, 0x482b];
    let Ok(directory) = open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return false;
    };
    // Not every file system has attributes.
    let has_attribute = ioctl_getflags(&directory).is_ok_and(|flags| flags.bits() & CASEFOLD != 0);
    #[expect(clippy::cast_sign_loss, reason = "magic numbers, of as many bits as the architecture has")]
    let kind = fstatfs(&directory).map_or(0, |found| found.f_type as u64 & 0xffff_ffff);
    has_attribute || FOLDING.contains(&kind)
}

/// Other systems are case-insensitive by default.
#[cfg(not(target_os = "linux"))]
fn folds_case(_: &Path) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(outputs: &[(&str, bool)], base: &Path) -> bool {
        let paths: Vec<_> = outputs.iter().map(|(path, series)| (base.join(path), *series)).collect();
        let outputs: Vec<_> = paths
            .iter()
            .map(|(path, series)| Output { is_series: *series, ..Output::single("-w", path) })
            .collect();
        distinct(&outputs).is_err()
    }

    #[test]
    fn names_of_parts_are_taken() {
        let base = tempfile::tempdir().unwrap();
        let clash = |whole: &str, is_series, other: &str| {
            let (whole, other) = (base.path().join(whole), base.path().join(other));
            let parts = Output { flag: "-w", path: &whole, is_series, has_parts: true };
            let one_way = distinct(&[Output { ..parts }, Output::single("--report", &other)]).is_err();
            assert_eq!(distinct(&[Output::single("--report", &other), parts]).is_err(), one_way);
            one_way
        };
        for (whole, other) in
            [("o.pcapng", "o-0.pcapng"), ("o.pcap.gz", "o-12.pcap.gz"), ("o", "o-7"), ("o.p", "o.p")]
        {
            assert!(clash(whole, false, other), "{whole} {other}");
        }
        assert!(clash("o.pcapng", true, "o-0.pcapng3") && clash("o.pcapng", true, "o.pcapng3"));
        for (whole, other) in [
            ("o.pcapng", "o-0.pcapng3"),
            ("o.pcapng", "o-.pcapng"),
            ("o.pcapng", "o-x.pcapng"),
            ("o.pcapng", "o-0.pcap"),
            ("o.pcapng", "o-0.pcapng.gz"),
            ("o.pcapng", "o0.pcapng"),
        ] {
            assert!(!clash(whole, false, other), "{whole} {other}");
        }
    }

    #[test]
    fn the_same_file_is_recognised_however_its_path_is_written() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path();
        fs::create_dir_all(base.join("a/b")).unwrap();
        symlink("a", base.join("link")).unwrap();
        fs::write(base.join("pipe"), "").unwrap();
        fs::hard_link(base.join("pipe"), base.join("a/same")).unwrap();
        for (one, other) in [
            ("x", "x"),
            ("x", "./x"),
            ("x", "a/../x"),
            ("a/x", "link/x"),
            ("a/x", "link/b/../x"),
            ("a/b/x", "a//b/./x"),
            ("nowhere/x", "nowhere/./x"),
            ("nowhere/x", "nowhere/else/../x"),
            ("pipe", "a/same"),
        ] {
            assert!(refused(&[(one, false), (other, false)], base), "{one} {other}");
            assert!(refused(&[(one, false), ("y", false), (other, false)], base), "{one} {other}");
        }
        for (one, other) in [("x", "a/x"), ("x", "y"), ("x", "X"), ("x", "x1"), ("/dev/null", "/dev/null")] {
            assert!(!refused(&[(one, false), (other, false)], base), "{one} {other}");
        }
        for (one, other) in [("x", "x1"), ("x.gz", "x12.gz"), ("a/x", "link/x7")] {
            assert!(refused(&[(one, true), (other, false)], base), "{one} {other}");
            assert!(refused(&[(other, false), (one, true)], base), "{one} {other}");
        }
        for (one, other) in [("x", "xy"), ("x", "a/x1"), ("x.gz", "x1.zst"), ("x1", "x")] {
            assert!(!refused(&[(one, true), (other, false)], base), "{one} {other}");
        }
    }

    #[test]
    fn case_makes_no_difference_where_the_file_system_makes_none() {
        let identity = |name: &str, folds_case| FileIdentity {
            directory: Directory::Existing { id: (1, 2), folds_case },
            name: name.into(),
            existing: None,
            is_device: false,
        };
        assert!(identity("X.pcap", true).is(&identity("x.PCAP", true)));
        assert!(!identity("X.pcap", false).is(&identity("x.pcap", false)));
        assert!(identity("Äx", true).is(&identity("äX", true)));
    }
}
