//! Names of the files of a capture, as in tcpdump: a time, and a number before the suffix of a compressed
//! file.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use jiff::{Zoned, fmt::strtime};

use super::{compress::Compression, rotation::Rotation};
use crate::sink::origin::{OriginKey, OriginNames};

/// Which frames a file holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SeriesKey {
    /// All frames.
    All,
    /// Frames of one origin.
    Origin(OriginKey),
    /// Frames of origins without a file.
    Other,
}

/// Makes file names from the name that the user gave.
#[derive(Clone, Debug)]
pub(super) struct Names {
    path: PathBuf,
    /// The file's name without the suffix of a compressed file.
    stem: OsString,
    compression: Compression,
    /// Whether conversions of strftime(3) are replaced by a time.
    timed: bool,
    /// Minimum digits of a number; with 0 the first file has no number.
    digits: usize,
    origins: OriginNames,
}

/// Why a name cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum NameError {
    #[error("the name is not UTF-8, so it cannot hold a time; give another name")]
    NotUtf8,
    #[error("{0}; see strftime(3), and write %% for a percent sign")]
    Conversion(jiff::Error),
    #[error("the time in it would hold a slash, as in {0}; use conversions without one")]
    Slash(String),
    #[error("the directory's name holds a conversion; only the file's name can")]
    Directory,
}

impl Names {
    pub(super) fn new(path: &Path, rotation: &Rotation) -> Result<Self, NameError> {
        let name = path.file_name().unwrap_or_default();
        let compression = Compression::of(name);
        let names = Self {
            path: path.to_owned(),
            stem: compression.without_suffix(name),
            compression,
            timed: rotation.every.is_some(),
            digits: rotation.files.filter(|_| rotation.size.is_some()).map_or(0, digits),
            origins: OriginNames::default(),
        };
        if names.timed {
            let directory = path.parent().unwrap_or(Path::new(""));
            if directory.as_os_str().as_encoded_bytes().contains(&b'%') {
                return Err(NameError::Directory);
            }
            let name = names.at(&Zoned::now())?;
            if name.as_encoded_bytes().contains(&b'/') {
                return Err(NameError::Slash(name.to_string_lossy().into_owned()));
            }
        }
        Ok(names)
    }

    /// With these names of origins.
    pub(super) fn of_origins(self, origins: OriginNames) -> Self {
        Self { origins, ..self }
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// The path that the user gave.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether names contain the time of a file.
    pub(super) fn hold_a_time(&self) -> bool {
        self.timed && self.stem.as_encoded_bytes().contains(&b'%')
    }

    /// The name of files started at this time, without number and suffix.
    pub(super) fn at(&self, time: &Zoned) -> Result<OsString, NameError> {
        if !self.timed {
            return Ok(self.stem.clone());
        }
        let format = self.stem.to_str().ok_or(NameError::NotUtf8)?;
        strtime::format(format, time).map(OsString::from).map_err(NameError::Conversion)
    }

    /// The path of a file, from the result of [`at`](Self::at).
    pub(super) fn path_of(&self, timed: &OsStr, key: SeriesKey, number: u32) -> PathBuf {
        let mut name = match key {
            SeriesKey::All => timed.to_owned(),
            SeriesKey::Origin(origin) => before_extension(timed, &safe(&self.origins.name(origin))),
            SeriesKey::Other => before_extension(timed, "other"),
        };
        let digits = self.digits;
        if number > 0 || digits > 0 {
            // Otherwise it would read as a part of the origin's address.
            if !matches!(key, SeriesKey::All) && Path::new(timed).extension().is_none() {
                name.push("-");
            }
            name.push(format!("{number:0digits$}"));
        }
        name.push(self.compression.suffix());
        self.path.with_file_name(name)
    }
}

/// The path of one of the parts of a capture, see [`PcapParts`](super::PcapParts): its number, counted from
/// 0, is before the extension, and has the digits of the last one. The only part has the path itself.
#[must_use]
pub fn part_path(path: &Path, part: usize, parts: usize) -> PathBuf {
    if parts < 2 {
        return path.to_owned();
    }
    let name = path.file_name().unwrap_or_default();
    let compression = Compression::of(name);
    // As many digits for each, so that no number of a rotated file makes it another part's name.
    let digits = digits(u32::try_from(parts).unwrap_or(u32::MAX));
    let mut longer = before_extension(&compression.without_suffix(name), &format!("{part:0digits$}"));
    longer.push(compression.suffix());
    path.with_file_name(longer)
}

/// Digits of the largest number of this many files, counted from 0 as in tcpdump; a single file has none.
fn digits(files: u32) -> usize {
    files.saturating_sub(1).checked_ilog10().map_or(0, |digits| digits as usize + 1)
}

/// An origin's name without the colons of IPv6 addresses, which scp(1) and some file systems do not accept.
fn safe(name: &str) -> String {
    name.replace(':', "-")
}

fn before_extension(name: &OsStr, word: &str) -> OsString {
    let path = Path::new(name);
    let mut longer = path.file_stem().unwrap_or_default().to_owned();
    longer.push("-");
    longer.push(word);
    if let Some(extension) = path.extension() {
        longer.push(".");
        longer.push(extension);
    }
    longer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(size: bool, every: bool, files: Option<u32>) -> Rotation {
        Rotation {
            size: size.then_some(1_000_000),
            every: every.then_some(std::time::Duration::from_secs(60)),
            by_packets: false,
            files,
        }
    }

    fn names(path: &str, rotation: &Rotation) -> Result<Names, String> {
        Names::new(Path::new(path), rotation).map_err(|error| error.to_string())
    }

    fn numbered(path: &str, files: Option<u32>, numbers: &[u32]) -> Vec<String> {
        let names = names(path, &rotation(true, false, files)).unwrap();
        let timed = names.at(&Zoned::now()).unwrap();
        numbers
            .iter()
            .map(|&number| names.path_of(&timed, SeriesKey::All, number).to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_second_file_and_later_ones_have_a_number_after_the_name() {
        assert_eq!(
            numbered("d/out.pcapng", None, &[0, 1, 12]),
            ["d/out.pcapng", "d/out.pcapng1", "d/out.pcapng12"]
        );
    }

    #[test]
    fn numbers_of_a_ring_have_the_digits_of_the_last_one_and_a_ring_of_one_has_no_number() {
        assert_eq!(numbered("o", Some(1), &[0]), ["o"]);
        assert_eq!(numbered("o", Some(10), &[0, 9]), ["o0", "o9"]);
        assert_eq!(numbered("o", Some(11), &[0, 10]), ["o00", "o10"]);
        assert_eq!(numbered("o", Some(1000), &[0, 999]), ["o000", "o999"]);
    }

    #[test]
    fn the_suffix_of_a_compressed_file_is_last() {
        assert_eq!(numbered("o.pcapng.gz", None, &[0, 1]), ["o.pcapng.gz", "o.pcapng1.gz"]);
        assert_eq!(numbered("o.zst", Some(20), &[0, 1]), ["o00.zst", "o01.zst"]);
    }

    #[test]
    fn names_contain_a_time_only_if_files_rotate_by_time() {
        let time: Zoned = "2026-02-03T04:05:06+00:00[UTC]".parse().unwrap();
        let at = |rotation| {
            let names = names("d/o-%Y%m%d_%H%M%S%%.pcap.gz", &rotation).unwrap();
            names.path_of(&names.at(&time).unwrap(), SeriesKey::All, 0).to_str().unwrap().to_owned()
        };
        assert_eq!(at(rotation(false, true, Some(20))), "d/o-20260203_040506%.pcap.gz");
        assert_eq!(at(rotation(true, true, Some(20))), "d/o-20260203_040506%.pcap00.gz");
        assert_eq!(at(rotation(true, false, None)), "d/o-%Y%m%d_%H%M%S%%.pcap.gz");
    }

    #[test]
    fn a_name_that_cannot_hold_a_time_is_refused() {
        let refused = |path| names(path, &rotation(false, true, None)).unwrap_err();
        assert!(refused("o-%D").contains("slash"));
        assert!(refused("%Y/o").contains("directory"));
        assert!(refused("o-%!").contains("strftime"), "{}", refused("o-%!"));
    }

    #[test]
    fn an_origin_is_before_the_extension_without_colons() {
        let names = names("o.pcapng.gz", &rotation(true, false, None)).unwrap();
        let timed = names.at(&Zoned::now()).unwrap();
        let name = |of| names.path_of(&timed, of, 2).to_str().unwrap().to_owned();
        let v4 = OriginKey::new([10, 0, 0, 1].into(), 7);
        assert_eq!(name(SeriesKey::Origin(v4)), "o-vni-7@10.0.0.1.pcapng2.gz");
        let v6 = OriginKey::new("2001:db8::1".parse().unwrap(), 7);
        assert_eq!(name(SeriesKey::Origin(v6)), "o-vni-7@2001-db8--1.pcapng2.gz");
        assert_eq!(name(SeriesKey::Other), "o-other.pcapng2.gz");
    }

    #[test]
    fn a_part_has_its_number_before_the_extension_and_the_only_one_has_none() {
        let part = |path, part, parts| part_path(Path::new(path), part, parts).to_str().unwrap().to_owned();
        assert_eq!(part("d/o.pcapng", 0, 1), "d/o.pcapng");
        assert_eq!(part("d/o.pcapng", 1, 2), "d/o-1.pcapng");
        assert_eq!(part("o.pcap.gz", 0, 10), "o-0.pcap.gz");
        assert_eq!(part("o.zst", 7, 11), "o-07.zst");
        assert_eq!(part("o-%H.pcapng", 3, 4), "o-%H-3.pcapng");
    }

    #[test]
    fn no_two_files_of_different_parts_have_the_same_name() {
        for path in ["o", "o.pcapng", "o.gz", "o-%H", "o-1"] {
            for (parts, files) in [(2, None), (11, None), (11, Some(5)), (12, Some(20))] {
                let rotation = rotation(true, true, files);
                let mut all = std::collections::HashSet::new();
                for part in 0..parts {
                    let names = Names::new(&part_path(Path::new(path), part, parts), &rotation).unwrap();
                    let timed = names.at(&Zoned::now()).unwrap();
                    for number in 0..files.unwrap_or(120) {
                        let name = names.path_of(&timed, SeriesKey::All, number);
                        assert!(all.insert(name.clone()), "{path}, {parts} parts: {}", name.display());
                    }
                }
            }
        }
    }

    /// Compared with tcpdump on a capture of 3.1 MB.
    #[cfg(unix)]
    #[test]
    fn names_are_those_of_tcpdump() {
        use std::process::Command;

        let dir = tempfile::tempdir().unwrap();
        let mut capture = [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat();
        for second in 0..3_000_u32 {
            capture.extend([second, 0, 1_000, 1_000].map(u32::to_le_bytes).concat());
            capture.extend([0; 1_000]);
        }
        let input = dir.path().join("in");
        std::fs::write(&input, capture).unwrap();
        for (files, written) in
            [(None, 4), (Some(9), 4), (Some(10), 4), (Some(11), 4), (Some(3), 3), (Some(1), 1)]
        {
            let out = tempfile::tempdir().unwrap();
            let path = out.path().join("out-%H.pcap");
            let mut tcpdump = Command::new("tcpdump");
            tcpdump.args(["-n", "-C", "1", "-Z", "root", "-r"]).arg(&input).arg("-w").arg(&path);
            files.inspect(|files| {
                tcpdump.args(["-W", &files.to_string()]);
            });
            assert!(tcpdump.status().expect("tcpdump is needed as a witness").success());
            let names = Names::new(&path, &rotation(true, false, files)).unwrap();
            let timed = names.at(&Zoned::now()).unwrap();
            let ours: Vec<_> =
                (0..written).map(|number| names.path_of(&timed, SeriesKey::All, number)).collect();
            let mut theirs: Vec<_> =
                std::fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            theirs.sort();
            assert_eq!(theirs, ours, "-W {files:?}");
        }
    }
}
