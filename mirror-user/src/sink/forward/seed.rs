//! The seed of the hash that spreads flows. A sender that knew it could choose flows that all go to one
//! member.

use std::{
    fmt, fs,
    hash::{BuildHasher as _, RandomState},
};

use sha1::{Digest as _, Sha1};

/// Files with the host's id, machine-id(5); the second is from before systemd.
const FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
/// Label of the hash: the id itself must not be disclosed (machine-id(5)).
const LABEL: &[u8] = b"mirror: seed of forwarded flows, 1";

/// The seed for members of a group, and for source ports of a VXLAN tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seed {
    pub(crate) value: u64,
    /// Random: the next run spreads flows differently.
    pub(super) is_random: bool,
}

impl Seed {
    pub(super) fn given(value: u64) -> Self {
        Self { value, is_random: false }
    }

    /// The same in every run on this host, if it has an id.
    pub(crate) fn of_host() -> Self {
        Self::by(|file| fs::read_to_string(file).ok())
    }

    fn by(read: impl Fn(&str) -> Option<String>) -> Self {
        // 32 hexadecimal digits; "uninitialized" in an image that was not booted.
        let is_id = |id: &String| id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
        let id = FILES.into_iter().filter_map(read).map(|id| id.trim().to_owned()).find(is_id);
        let Some(id) = id else {
            return Self { value: RandomState::new().hash_one(0), is_random: true };
        };
        let digest = Sha1::new().chain_update(LABEL).chain_update(id).finalize();
        let value = digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        Self::given(value)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_own_seed_and_without_an_id_it_is_random() {
        let of = |id: &str| Seed::by(|file| (file == FILES[0]).then(|| id.to_owned()));
        let (one, other) =
            (of("0123456789abcdef0123456789abcdef\n"), of("0123456789abcdef0123456789abcdee\n"));
        assert_eq!(one, of("0123456789abcdef0123456789abcdef"));
        assert!(one != other && !one.is_random);
        // The label is fixed: runs of every version agree.
        assert_eq!(one.value, 5_269_409_452_506_400_148);
        for id in ["", "uninitialized\n"] {
            assert!(of(id).is_random);
        }
        assert_ne!(Seed::by(|_| None).value, Seed::by(|_| None).value);
    }
}
