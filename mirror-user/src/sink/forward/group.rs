//! Assigns frames to members of a group.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use lru::LruCache;

use super::seed::Seed;
use crate::{
    flow::{Fragment, Packet, ends, members::MemberTable, seeded_hash},
    sink::origin::OriginKey,
};

/// Origins whose fragmented packets are remembered; the one idle longest is evicted for another.
const ORIGINS: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Fragmented packets remembered per origin.
const FRAGMENTED: usize = 128;
/// How long a receiver waits for the other fragments of a packet, as Linux does (`ipfrag_time`).
const AGE: Duration = Duration::from_secs(30);

/// Assigns frames to the members that are up.
#[derive(Debug)]
pub(super) struct Group {
    table: Arc<MemberTable>,
    fragments: Mutex<Fragments>,
}

impl Group {
    /// A group of at most [`MAX_MEMBERS`](crate::flow::members::MAX_MEMBERS), all of them up.
    pub(super) fn new(names: &[String], seed: Seed) -> Self {
        Self { table: Arc::new(MemberTable::new(names, seed.value)), fragments: Mutex::new(Fragments::new()) }
    }

    /// The table by which flows are assigned.
    pub(super) fn table(&self) -> &Arc<MemberTable> {
        &self.table
    }

    pub(super) fn set(&self, member: usize, up: bool) {
        self.table.set(member, up);
    }

    /// The member for a frame, of those that are up: that of its flow. When a member goes down only its flows
    /// move, and they return when it is up again.
    pub(super) fn member(&self, origin: impl FnOnce() -> OriginKey, frame: &[u8]) -> Option<usize> {
        self.table.member(self.flow(origin, frame))
    }

    /// The hash of a frame's flow; for a later fragment that of the first, if it was seen.
    fn flow(&self, origin: impl FnOnce() -> OriginKey, frame: &[u8]) -> u64 {
        let seed = self.table.seed();
        let Some(Packet { flow, fragment }) = Packet::of(frame) else {
            return seeded_hash(seed, &ends(frame));
        };
        match fragment {
            None => flow.hash(seed),
            Some(fragment) => {
                let mut fragments = self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
                let (origin, now) = (origin(), Instant::now());
                if fragment.is_first {
                    fragments.remember(origin, fragment, flow.hash(seed), now);
                }
                // Without the first, a later one is assigned as the two hosts' frames without ports.
                fragments.find(origin, fragment, now).unwrap_or_else(|| flow.hash(seed))
            }
        }
    }
}

/// The flows of fragmented packets, separate for each origin: tenants may use the same addresses and ids, and
/// one that sends many must not evict those of others.
#[derive(Debug)]
struct Fragments(LruCache<OriginKey, VecDeque<Seen>, RandomState>);

/// A first fragment.
#[derive(Clone, Copy, Debug)]
struct Seen {
    fragment: Fragment,
    flow: u64,
    at: Instant,
}

impl Fragments {
    fn new() -> Self {
        Self(LruCache::with_hasher(ORIGINS, RandomState::default()))
    }

    fn remember(&mut self, origin: OriginKey, fragment: Fragment, flow: u64, now: Instant) {
        let seen = self.0.get_or_insert_mut(origin, || VecDeque::with_capacity(FRAGMENTED));
        if seen.len() == FRAGMENTED {
            seen.pop_front();
        }
        seen.push_back(Seen { fragment, flow, at: now });
    }

    /// The flow of the latest first fragment of the same packet.
    fn find(&mut self, origin: OriginKey, fragment: Fragment, now: Instant) -> Option<u64> {
        let first = Fragment { is_first: true, ..fragment };
        let of_age = |seen: &&Seen| now.saturating_duration_since(seen.at) < AGE;
        let seen = self.0.get(&origin)?.iter().rev().take_while(of_age).find(|seen| seen.fragment == first);
        seen.map(|seen| seen.flow)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};

    use super::*;

    fn group(members: usize) -> Group {
        Group::new(&(0..members).map(|n| format!("tap:m{n}")).collect::<Vec<_>>(), Seed::given(7))
    }

    fn origin(vni: u32) -> OriginKey {
        OriginKey::new([10, 9, 0, 1].into(), vni)
    }

    fn udp(flow: u32, back: bool) -> Vec<u8> {
        let [_, b, c, d] = flow.to_be_bytes();
        let (client, server) = (([10, b, c, d], 40_000), ([192, 0, 2, 1], 53));
        let ((from, from_port), (to, to_port)) = if back { (server, client) } else { (client, server) };
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 64).udp(from_port, to_port);
        builder.write(&mut frame, b"x").unwrap();
        frame
    }

    #[test]
    fn a_flow_has_one_member_in_both_directions_and_flows_spread_evenly() {
        let group = group(2);
        let mut frames = [0_i32; 2];
        for flow in 0..10_000 {
            let member = group.member(|| origin(1), &udp(flow, false)).unwrap();
            assert_eq!(group.member(|| origin(1), &udp(flow, true)), Some(member));
            frames[member] += 1;
        }
        assert!((frames[0] - frames[1]).abs() <= 500, "{frames:?}");
    }

    #[test]
    fn fragments_go_to_the_member_of_the_first() {
        let group = group(8);
        for flow in 0..200_u16 {
            let whole = udp(flow.into(), false);
            let member = group.member(|| origin(1), &whole);
            let fragment = |offset: u16, payload: &[u8]| {
                let mut header = Ipv4Header::from_slice(&whole[14..]).unwrap().0;
                header.identification = flow;
                header.more_fragments = offset == 0;
                header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
                header.set_payload_len(payload.len()).unwrap();
                assert_eq!(header.protocol, IpNumber::UDP);
                let mut frame = whole[..14].to_vec();
                header.write(&mut frame).unwrap();
                frame.extend_from_slice(payload);
                frame
            };
            assert_eq!(group.member(|| origin(1), &fragment(0, &whole[34..])), member);
            assert_eq!(group.member(|| origin(1), &fragment(185, &[0xff; 40])), member);
        }
    }

    fn first(id: u32) -> Fragment {
        let ends = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        Fragment { source: ends.0, destination: ends.1, protocol: 17, id, is_first: true }
    }

    fn later(id: u32) -> Fragment {
        Fragment { is_first: false, ..first(id) }
    }

    #[test]
    fn an_origin_has_its_own_share_of_the_memory() {
        let (mut fragments, now) = (Fragments::new(), Instant::now());
        fragments.remember(origin(1), first(7), 1, now);
        // The same addresses and id of another tenant.
        fragments.remember(origin(2), first(7), 2, now);
        for id in 0..100_000 {
            fragments.remember(origin(2), first(id), 3, now);
        }
        assert_eq!(fragments.find(origin(1), later(7), now), Some(1));
        assert_eq!(fragments.find(origin(2), later(7), now), None);
        assert_eq!(fragments.find(origin(2), later(99_999), now), Some(3));
        assert_eq!(fragments.find(origin(3), later(7), now), None);
        let held: usize = fragments.0.iter().map(|(_, seen)| seen.len()).sum();
        assert_eq!(held, FRAGMENTED + 1);
        for vni in 0..100_000 {
            fragments.remember(origin(vni), first(7), 4, now);
        }
        assert_eq!(fragments.0.len(), ORIGINS.get());
    }

    #[test]
    fn an_id_that_is_used_again_later_is_of_another_packet() {
        let (mut fragments, begin) = (Fragments::new(), Instant::now());
        fragments.remember(origin(1), first(7), 1, begin);
        assert_eq!(fragments.find(origin(1), later(7), begin + AGE / 2), Some(1));
        assert_eq!(fragments.find(origin(1), later(7), begin + AGE), None);
        fragments.remember(origin(1), first(7), 2, begin + AGE);
        assert_eq!(fragments.find(origin(1), later(7), begin + AGE), Some(2));
    }

    #[test]
    fn another_seed_spreads_flows_differently() {
        let names: Vec<_> = (0..8).map(|n| format!("tap:m{n}")).collect();
        let groups = [Group::new(&names, Seed::given(1)), Group::new(&names, Seed::given(2))];
        let moved = (0..1000).filter(|flow| {
            let [one, other] = groups.each_ref().map(|group| group.member(|| origin(1), &udp(*flow, false)));
            one != other
        });
        assert!(moved.count() > 700);
    }

    #[test]
    fn frames_without_ip_are_assigned_by_their_addresses() {
        let group = group(8);
        let arp = |from: u8, to: u8| [[to; 6].as_slice(), &[from; 6], &[8, 6], &[0; 28]].concat();
        assert_eq!(group.member(|| origin(1), &arp(2, 4)), group.member(|| origin(1), &arp(4, 2)));
        assert!(group.member(|| origin(1), &[1, 2, 3]).is_some());
    }
}
