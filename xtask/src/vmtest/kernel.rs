//! The kernels of guests: their names here, and where Debian has them.

use std::fmt;

/// A kernel by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// As in Amazon Linux 2.
    V5_10,
    /// As in the first releases of Amazon Linux 2023.
    V6_1,
    /// As in later releases of Amazon Linux 2023 and in Debian 13.
    V6_12,
    /// The newest that Debian has for its stable release.
    Newest,
    /// 6.12 for aarch64, with pages of 4 KiB.
    Arm64,
    /// The same with pages of 16 KiB, the largest that Debian builds a kernel for.
    Arm64Pages16K,
}

/// The machine of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// Debian's name for it.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }
}

impl Kernel {
    const EACH: [Self; 6] =
        [Self::V5_10, Self::V6_1, Self::V6_12, Self::Newest, Self::Arm64, Self::Arm64Pages16K];

    /// The kernels for every change.
    pub(super) const DEFAULT: [Self; 3] = [Self::V5_10, Self::V6_1, Self::Newest];

    /// The kernels for which this machine can build without a cross compiler.
    pub(super) const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::Newest];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
            Self::Arm64 => "arm64",
            Self::Arm64Pages16K => "arm64-16k",
        }
    }

    /// From a word of the command line.
    pub(super) fn parse(word: &str) -> Result<Self, String> {
        let found = Self::EACH.into_iter().find(|kernel| kernel.name() == word);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::EACH.map(Self::name).into();
            format!("the kernels are {}", names.join(", "))
        })
    }

    pub(super) fn machine(self) -> Machine {
        match self {
            Self::Arm64 | Self::Arm64Pages16K => Machine::Aarch64,
            Self::V5_10 | Self::V6_1 | Self::V6_12 | Self::Newest => Machine::X86_64,
        }
    }

    /// Suites to search; the first that has it is used.
    pub(super) fn suites(self) -> &'static [&'static str] {
        match self {
            Self::V5_10 => &["bullseye"],
            Self::V6_1 => &["bookworm"],
            Self::V6_12 => &["bookworm-backports", "trixie"],
            Self::Newest => &["trixie-backports", "trixie"],
            Self::Arm64 | Self::Arm64Pages16K => &["bookworm-backports", "trixie"],
        }
    }

    /// Suffix of its package names.
    fn flavour(self) -> &'static str {
        match self {
            Self::V5_10 | Self::V6_1 | Self::V6_12 | Self::Newest => "-amd64",
            Self::Arm64 => "-cloud-arm64",
            Self::Arm64Pages16K => "-arm64-16k",
        }
    }

    /// Prefix of its version.
    fn version(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10.",
            Self::V6_1 => "6.1.",
            Self::V6_12 | Self::Arm64 | Self::Arm64Pages16K => "6.12.",
            Self::Newest => "",
        }
    }

    /// Whether it has features of this version; the newest has all.
    pub(super) fn at_least(self, major: u32, minor: u32) -> bool {
        let version = match self {
            Self::V5_10 => (5, 10),
            Self::V6_1 => (6, 1),
            Self::V6_12 | Self::Arm64 | Self::Arm64Pages16K => (6, 12),
            Self::Newest => return true,
        };
        version >= (major, minor)
    }

    /// The newest release of this kernel among names of packages.
    pub(super) fn newest_of(self, names: &[String]) -> Option<&str> {
        let releases = names.iter().filter_map(|name| {
            let release = name.strip_prefix("linux-image-")?;
            let version = release.strip_suffix(self.flavour())?;
            let plain = version.starts_with(self.version()) && is_version(version);
            plain.then_some((numbers(version), release))
        });
        releases.max().map(|(_, release)| release)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// `5.10.0-35` and `6.12.95+deb12`, but not the name of another flavour.
fn is_version(version: &str) -> bool {
    version.starts_with(|c: char| c.is_ascii_digit())
        && version.replace("deb", "").chars().all(|c| c.is_ascii_digit() || ".+-".contains(c))
}

fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_parsed_as_it_is_printed() {
        for kernel in Kernel::EACH {
            assert_eq!(Kernel::parse(kernel.name()), Ok(kernel));
        }
        assert!(Kernel::parse("6").unwrap_err().contains("6.12"));
    }

    #[test]
    fn the_newest_release_of_the_flavour_is_taken_by_its_numbers() {
        let names = [
            "linux-image-5.10.0-9-amd64",
            "linux-image-5.10.0-35-amd64",
            "linux-image-5.10.0-36-cloud-amd64",
            "linux-image-5.10.0-36-rt-amd64",
            "linux-image-5.10.0-37-amd64-unsigned",
            "linux-image-5.10.0-37-amd64-dbg",
            "linux-image-6.12.9+deb12-amd64",
            "linux-image-6.12.95+deb12-amd64",
            "linux-image-7.3.4+deb13-amd64",
            "linux-image-7.3.4+deb13-cloud-arm64",
            "linux-image-6.12.94+deb12-cloud-arm64",
            "linux-image-amd64",
        ]
        .map(str::to_owned);
        let newest = |kernel: Kernel| kernel.newest_of(&names);
        assert_eq!(newest(Kernel::V5_10), Some("5.10.0-35-amd64"));
        assert_eq!(newest(Kernel::V6_1), None);
        assert_eq!(newest(Kernel::V6_12), Some("6.12.95+deb12-amd64"));
        assert_eq!(newest(Kernel::Newest), Some("7.3.4+deb13-amd64"));
        assert_eq!(newest(Kernel::Arm64), Some("6.12.94+deb12-cloud-arm64"));
    }

    #[test]
    fn features_depend_on_the_version() {
        assert!(!Kernel::V5_10.at_least(5, 11));
        assert!(Kernel::V6_1.at_least(5, 18));
        assert!(!Kernel::V6_1.at_least(6, 6));
        assert!(Kernel::Newest.at_least(7, 0));
    }
}
