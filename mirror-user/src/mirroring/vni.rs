//! VXLAN network identifiers of sessions that have none of their own.

use std::collections::{BTreeMap, BTreeSet};

use sha1::{Digest as _, Sha1};

use super::{MAX_VNI, Mirroring};

impl Mirroring {
    /// The VXLAN network identifier of each session, by its id. Where a session has none, AWS draws one; here
    /// it is 24 bits of a hash of the id (SHA-1), or the next that no other session has, so that a source and
    /// a target that know the same sessions agree.
    #[must_use]
    pub fn vnis(&self) -> BTreeMap<&str, u32> {
        let mut vnis: BTreeMap<_, _> =
            self.sessions.iter().filter_map(|session| Some((session.id.as_str(), session.vni?))).collect();
        let mut taken: BTreeSet<_> = vnis.values().copied().collect();
        // By id, so that the sequence in a file makes no difference.
        let without: BTreeSet<_> =
            self.sessions.iter().filter(|session| session.vni.is_none()).map(|it| it.id.as_str()).collect();
        for id in without {
            let first = derived(id);
            // There are far fewer sessions than identifiers.
            let vni = (first..=MAX_VNI).chain(1..first).find(|vni| !taken.contains(vni)).unwrap_or(first);
            taken.insert(vni);
            vnis.insert(id, vni);
        }
        vnis
    }
}

/// 24 bits of a hash, but 0, which a reader may take for "none".
fn derived(id: &str) -> u32 {
    let [a, b, c, ..] = Sha1::digest(id)[..] else { return 1 };
    u32::from_be_bytes([0, a, b, c]).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::session;
    use super::*;

    fn set_up(sessions: &[(&str, Option<u32>)]) -> Mirroring {
        let sessions = sessions.iter().map(|&(id, vni)| {
            let mut session = session(id, 1);
            session.vni = vni;
            session
        });
        Mirroring { sessions: sessions.collect(), ..Mirroring::default() }
    }

    #[test]
    fn a_session_without_an_identifier_has_the_same_one_wherever_it_stands() {
        let (one, other) = ("tms-0a", "tms-0b");
        let first = set_up(&[(one, None), (other, None)]);
        let second = set_up(&[(other, None), (one, None)]);
        assert_eq!(first.vnis(), second.vnis());
        // The first bytes of `printf tms-0a | sha1sum`.
        assert_eq!(first.vnis()[one], 0x93_6b_94);
        assert_ne!(first.vnis()[one], first.vnis()[other]);
    }

    #[test]
    fn one_that_is_taken_is_not_derived_again() {
        let taken = derived("tms-0a");
        let vnis = set_up(&[("tms-0a", None), ("tms-0c", Some(taken))]);
        assert_eq!(vnis.vnis()["tms-0a"], taken + 1);
        assert_eq!(vnis.vnis()["tms-0c"], taken);
    }

    #[test]
    fn after_the_last_comes_the_first() {
        let id =
            (0..).map(|number| format!("tms-{number}")).find(|id| derived(id) > MAX_VNI - 10_000).unwrap();
        let ids: Vec<_> = (derived(&id)..=MAX_VNI).map(|vni| (format!("tms-x{vni}"), vni)).collect();
        let mut sessions: Vec<_> = ids.iter().map(|(id, vni)| (id.as_str(), Some(*vni))).collect();
        sessions.push((&id, None));
        assert_eq!(set_up(&sessions).vnis()[id.as_str()], 1);
    }
}
