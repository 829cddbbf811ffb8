//! Which member of a group has a flow: a table that workers and XDP programs read.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use mirror_ebpf::{
    flow::{Assignment, NO_MEMBER, SLOTS, hash, slot},
    mirror,
};

use super::seeded_hash;

/// The most members of a group.
pub(crate) const MAX_MEMBERS: usize = mirror::MAX_MEMBERS as usize;

/// The members of a group, and which of them has each slot of flows.
///
/// Of the members that are up, a slot has the one with the highest score for it (rendezvous hashing): when a
/// member goes down only its slots move, and they return when it is up again.
#[derive(Debug)]
pub(crate) struct MemberTable {
    seed: u64,
    /// A seed for each member, from its name, so that the sequence of members does not matter.
    seeds: Vec<u64>,
    /// A bit for each member that is up.
    up: Mutex<u64>,
    slots: Box<[AtomicU8]>,
    generation: AtomicU64,
}

impl MemberTable {
    /// A table of at most [`MAX_MEMBERS`], all of them up.
    pub(crate) fn new(names: &[String], seed: u64) -> Self {
        let all = if names.len() >= MAX_MEMBERS { u64::MAX } else { (1 << names.len()) - 1 };
        let table = Self {
            seed,
            seeds: names.iter().map(|name| seeded_hash(seed, name)).collect(),
            up: Mutex::new(all),
            slots: (0..SLOTS).map(|_| AtomicU8::new(NO_MEMBER)).collect(),
            generation: AtomicU64::new(0),
        };
        table.assign(all);
        table
    }

    /// The seed of the hash by which a flow has a slot.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Records that a member is up or down.
    pub(crate) fn set(&self, member: usize, up: bool) {
        let mut all = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        let bit = 1 << member;
        let now = if up { *all | bit } else { *all & !bit };
        if now != *all {
            *all = now;
            self.assign(now);
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn assign(&self, up: u64) {
        for (slot, place) in (0_u64..).zip(&self.slots) {
            let there = (0_u8..).zip(&self.seeds).filter(|(member, _)| up & 1 << member != 0);
            let member = there.max_by_key(|(_, seed)| hash(self.seed, &[slot, **seed]));
            place.store(member.map_or(NO_MEMBER, |(member, _)| member), Ordering::Relaxed);
        }
    }

    /// The member for a flow of this hash; `None` if none is up.
    pub(crate) fn member(&self, hash: u64) -> Option<usize> {
        let member = self.slots[slot(hash)].load(Ordering::Relaxed);
        (member != NO_MEMBER).then_some(member.into())
    }

    /// Changes with every change of the table.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A copy of the table, as XDP programs have it.
    pub(crate) fn assignment(&self) -> Box<Assignment> {
        let mut copy = Box::new([NO_MEMBER; SLOTS]);
        copy.iter_mut().zip(&self.slots).for_each(|(place, slot)| *place = slot.load(Ordering::Relaxed));
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(members: usize) -> MemberTable {
        MemberTable::new(&(0..members).map(|n| format!("veth:m{n}")).collect::<Vec<_>>(), 7)
    }

    fn shares(table: &MemberTable, members: usize) -> Vec<usize> {
        let assignment = table.assignment();
        (0..members).map(|n| assignment.iter().filter(|member| usize::from(**member) == n).count()).collect()
    }

    #[test]
    fn slots_spread_evenly_over_any_number_of_members() {
        for (members, tolerance) in [(1, 0), (2, 3), (4, 5), (16, 12), (MAX_MEMBERS, 25)] {
            let even = SLOTS / members;
            for share in shares(&table(members), members) {
                assert!(
                    share.abs_diff(even) * 100 <= even * tolerance,
                    "{share} of {even}, {members} members"
                );
            }
        }
    }

    #[test]
    fn only_the_slots_of_a_member_that_is_down_move_and_they_return() {
        let table = table(5);
        let before = (table.generation(), table.assignment());
        table.set(3, false);
        let without = table.assignment();
        for (before, without) in before.1.iter().zip(without.iter()) {
            assert!(*without != 3 && (before == without || *before == 3));
        }
        assert_ne!(table.generation(), before.0);
        table.set(3, false);
        assert_eq!(table.assignment(), without);
        table.set(3, true);
        assert_eq!(table.assignment(), before.1);
        (0..5).for_each(|member| table.set(member, false));
        assert_eq!((table.member(1), shares(&table, 5)), (None, vec![0; 5]));
    }
}
