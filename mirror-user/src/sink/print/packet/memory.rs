//! State of earlier packets: tables of a fixed size, whose keys senders choose.
//!
//! A table consists of small sets; a key's hash selects its set. If a set is full, the origin with the most
//! entries in it loses the one idle longest, so a flood of one origin does not evict others. An entry that is
//! idle for a day is ignored. A lost entry costs no more than starting tcpdump in mid-stream: the next packet
//! creates a new one.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    net::IpAddr,
};

use foldhash::quality::RandomState;

use super::{app::Call, tcp::Base};
use crate::{frame::Frame, sink::origin::OriginKey};

/// The most remote procedure calls remembered.
const CALLS: usize = 1024;
/// The most connections remembered.
const CONNECTIONS: usize = 32 * 1024;
/// Entries of a set.
const WAYS: usize = 8;
/// Idle time after which an entry is ignored, in s.
const MAX_SILENCE: u32 = 24 * 60 * 60;
const NS: u64 = 1_000_000_000;

/// All tables, and the current packet.
#[derive(Debug)]
pub(in super::super) struct Memory {
    hasher: RandomState,
    /// The origin of the current packet, and its hash.
    origin: OriginKey,
    origin_hash: u64,
    /// Its time, in s.
    now: u32,
    connections: Table<Base>,
    calls: Table<Call>,
}

impl Default for Memory {
    fn default() -> Self {
        let (hasher, origin) = (RandomState::default(), OriginKey::default());
        let origin_hash = hasher.hash_one(origin);
        let (connections, calls) = (Table::new(CONNECTIONS), Table::new(CALLS));
        Self { hasher, origin, origin_hash, now: 0, connections, calls }
    }
}

impl Memory {
    /// Sets the current packet.
    pub(in super::super) fn turn_to(&mut self, frame: &Frame<'_>) {
        // Consecutive packets often have the same origin.
        if let Some(another) = self.origin.another(frame) {
            self.origin = another;
            self.origin_hash = self.hasher.hash_one(self.origin);
        }
        // Times are compared with each other only; these wrap in 2106.
        #[expect(clippy::cast_possible_truncation, reason = "differences are taken modulo 2^32")]
        let now = (frame.time() / NS) as u32;
        self.now = now;
    }

    /// The connection between these endpoints, and whether it is new.
    pub(super) fn connection(&mut self, ends: [(u16, IpAddr); 2]) -> (&mut Base, bool) {
        let [(port, address), (other_port, other)] = ends;
        let key = self.key([address, other], u32::from(port) << 16 | u32::from(other_port));
        self.connections.entry(key, self.origin_hash, self.now)
    }

    /// Remembers a call of this number, from the first of these hosts to the second.
    pub(super) fn remember_call(&mut self, hosts: [IpAddr; 2], number: u32, call: Call) {
        *self.calls.entry(self.key(hosts, number), self.origin_hash, self.now).0 = call;
    }

    /// The call of this number.
    pub(super) fn call(&self, hosts: [IpAddr; 2], number: u32) -> Option<Call> {
        self.calls.get(self.key(hosts, number), self.now)
    }

    fn key(&self, addresses: [IpAddr; 2], number: u32) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        // Word by word, which is cheaper than the types' `Hash`.
        hasher.write_u64(self.origin_hash);
        hasher.write_u32(number);
        match addresses.into() {
            (IpAddr::V4(address), IpAddr::V4(other)) => {
                hasher.write_u64(u64::from(address.to_bits()) << 32 | u64::from(other.to_bits()));
            }
            _ => addresses.map(to_v6).into_iter().for_each(|bits| hasher.write_u128(bits)),
        }
        hasher.finish()
    }
}

fn to_v6(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[derive(Debug)]
struct Table<V> {
    /// Allocated at the first entry: often there is none.
    sets: Vec<[Entry<V>; WAYS]>,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry<V> {
    /// The key's hash with a secret seed, so collisions cannot be forged. 0 if the slot is empty.
    key: u64,
    origin: u64,
    seen: u32,
    value: V,
}

impl<V: Copy + Default> Table<V> {
    /// A table of that many sets, which is a power of 2.
    fn new(entries: usize) -> Self {
        Self { sets: Vec::new(), len: entries / WAYS }
    }

    /// The value of a key.
    fn get(&self, key: u64, now: u32) -> Option<V> {
        let set = self.sets.get(self.place(key))?;
        let known = set.iter().find(|entry| entry.key == key.max(1))?;
        (silence(known.seen, now) <= MAX_SILENCE).then_some(known.value)
    }

    /// The set of a key.
    fn place(&self, key: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "some of its bits are enough")]
        let place = key as usize % self.len;
        place
    }

    /// The entry with this key, and whether it is new.
    fn entry(&mut self, key: u64, origin: u64, now: u32) -> (&mut V, bool) {
        if self.sets.is_empty() {
            self.sets.resize(self.len, [Entry::default(); WAYS]);
        }
        let place = self.place(key);
        let key = key.max(1);
        let set = &mut self.sets[place];
        let known = set.iter().position(|entry| entry.key == key);
        let way = known.unwrap_or_else(|| victim(set, now));
        let entry = &mut set[way];
        // Packets of several queues are not sorted by time.
        let is_new = known.is_none() || silence(entry.seen, now) > MAX_SILENCE;
        if is_new {
            *entry = Entry { key, origin, seen: now, value: V::default() };
        }
        entry.seen = now;
        (&mut entry.value, is_new)
    }
}

/// The entry of a set to evict.
fn victim<V>(set: &[Entry<V>; WAYS], now: u32) -> usize {
    let weight = |entry: &Entry<V>| {
        if entry.key == 0 {
            return (WAYS + 1, 0);
        }
        let share = set.iter().filter(|other| other.key != 0 && other.origin == entry.origin).count();
        (share, silence(entry.seen, now))
    };
    (0..WAYS).max_by_key(|&way| weight(&set[way])).unwrap_or(0)
}

/// Seconds since an entry was used; 0 if a later packet has used it.
fn silence(seen: u32, now: u32) -> u32 {
    let passed = now.wrapping_sub(seen);
    if passed < u32::MAX / 2 { passed } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: u64 = 1;
    const STRANGER: u64 = 2;

    fn key(number: u64) -> u64 {
        RandomState::default().hash_one(number)
    }

    #[test]
    fn what_was_left_is_found_again() {
        let mut table = Table::<u32>::new(1024);
        let (value, is_new) = table.entry(7, TENANT, 10);
        assert!(is_new);
        *value = 9;
        assert_eq!(table.entry(7, TENANT, 20), (&mut 9, false));
        assert_eq!(table.entry(7, TENANT, 5), (&mut 9, false), "out of order");
        assert_eq!(table.entry(8, TENANT, 20), (&mut 0, true));
    }

    #[test]
    fn an_entry_that_is_silent_for_a_day_begins_anew() {
        let mut table = Table::<u32>::new(1024);
        *table.entry(7, TENANT, 10).0 = 9;
        assert_eq!(table.entry(7, TENANT, 10 + MAX_SILENCE), (&mut 9, false));
        assert_eq!(table.entry(7, TENANT, 11 + 2 * MAX_SILENCE), (&mut 0, true));
    }

    #[test]
    fn a_flood_of_one_origin_takes_nothing_from_another() {
        let mut table = Table::<u32>::new(1024);
        *table.entry(7, TENANT, 0).0 = 9;
        for number in 0..100_000 {
            table.entry(key(number), STRANGER, 1);
        }
        assert_eq!(table.entry(7, TENANT, 2), (&mut 9, false));
        assert_eq!(table.sets.len(), 1024 / WAYS);
    }

    #[test]
    fn the_longest_silent_of_an_origin_gives_way_first() {
        let mut table = Table::<u32>::new(WAYS);
        let ways = u32::try_from(WAYS).unwrap();
        for number in 0..=ways {
            table.entry(u64::from(number) + 1, TENANT, number);
        }
        assert!(!table.entry(2, TENANT, ways).1);
        assert!(table.entry(1, TENANT, ways).1);
    }
}
