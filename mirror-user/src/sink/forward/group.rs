//! Which member of a group a frame goes to.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;

use crate::flow::{Fragment, Packet, stable_hash};

/// Fragmented packets whose flow is remembered at most.
const FRAGMENTED: usize = 8192;

/// The members by their seeds, and which of them are up.
#[derive(Debug)]
pub(super) struct Group {
    /// A number for each member, from its name: where a flow goes does not depend on the order of the members.
    seeds: Vec<u64>,
    /// A bit for each member that is up.
    up: AtomicU64,
    fragments: Mutex<Fragments>,
}

/// The most members a group can have.
pub(super) const MAX_MEMBERS: usize = 64;

impl Group {
    /// A group of at most [`MAX_MEMBERS`], all of them up.
    pub(super) fn new(names: &[String]) -> Self {
        let up = if names.len() >= MAX_MEMBERS { u64::MAX } else { (1 << names.len()) - 1 };
        Self {
            seeds: names.iter().map(stable_hash).collect(),
            up: AtomicU64::new(up),
            fragments: Mutex::new(Fragments::default()),
        }
    }

    pub(super) fn set(&self, member: usize, up: bool) {
        let bit = 1 << member;
        if up {
            self.up.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.up.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// The members that are up, for the length of a batch: so no flow moves within one.
    pub(super) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// The member that gets a frame, of those that are up: the one with the highest score for its flow (rendezvous
    /// hashing), so that when a member goes, its flows move, and when it comes back, they return, and no others.
    pub(super) fn member(&self, up: u64, frame: &[u8]) -> Option<usize> {
        let flow = self.flow(frame);
        let there = self.seeds.iter().enumerate().filter(|(member, _)| up & 1 << member != 0);
        there.max_by_key(|(_, seed)| stable_hash(&(flow, **seed))).map(|(member, _)| member)
    }

    /// What a frame is sent by: its flow; for a later fragment, that of the first, if that has been seen.
    fn flow(&self, frame: &[u8]) -> u64 {
        let Some(Packet { flow, fragment }) = Packet::of(frame) else {
            return stable_hash(&ends(frame));
        };
        match fragment {
            None => flow.hash(),
            Some(fragment) => {
                let mut fragments = self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
                if fragment.is_first {
                    fragments.remember(fragment, flow.hash());
                }
                // A later one that comes before its first goes where the two hosts' frames without ports go.
                fragments.find(fragment).unwrap_or_else(|| flow.hash())
            }
        }
    }
}

/// The two addresses of a frame that holds no IP, and what it holds, both directions alike.
fn ends(frame: &[u8]) -> Option<[&[u8]; 3]> {
    let (to, from, kind) = (frame.get(..6)?, frame.get(6..12)?, frame.get(12..14)?);
    Some(if to <= from { [to, from, kind] } else { [from, to, kind] })
}

/// The flows of fragmented packets, the oldest forgotten first.
#[derive(Debug)]
struct Fragments {
    flows: HashMap<Fragment, u64, RandomState>,
    /// In the order in which they came; where the next one goes.
    order: Vec<Fragment>,
    next: usize,
}

impl Default for Fragments {
    fn default() -> Self {
        let flows = HashMap::with_capacity_and_hasher(2 * FRAGMENTED, RandomState::default());
        Self { flows, order: Vec::with_capacity(FRAGMENTED), next: 0 }
    }
}

impl Fragments {
    fn remember(&mut self, first: Fragment, flow: u64) {
        if self.flows.insert(first, flow).is_some() {
            return;
        }
        if self.order.len() < FRAGMENTED {
            self.order.push(first);
            return;
        }
        let oldest = std::mem::replace(&mut self.order[self.next], first);
        self.flows.remove(&oldest);
        self.next = (self.next + 1) % FRAGMENTED;
    }

    fn find(&self, fragment: Fragment) -> Option<u64> {
        self.flows.get(&Fragment { is_first: true, ..fragment }).copied()
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};

    use super::*;

    fn group(members: usize) -> Group {
        Group::new(&(0..members).map(|n| format!("tap:m{n}")).collect::<Vec<_>>())
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
            let member = group.member(group.up(), &udp(flow, false)).unwrap();
            assert_eq!(group.member(group.up(), &udp(flow, true)), Some(member));
            frames[member] += 1;
        }
        assert!((frames[0] - frames[1]).abs() <= 500, "{frames:?}");
    }

    #[test]
    fn of_a_member_that_goes_the_flows_move_and_no_others_and_they_return() {
        let group = group(5);
        let members = || (0..2000).map(|flow| group.member(group.up(), &udp(flow, false)).unwrap()).collect();
        let before: Vec<_> = members();
        group.set(3, false);
        let without: Vec<_> = members();
        for (before, without) in before.iter().zip(&without) {
            assert!(*without != 3 && (before == without || *before == 3));
        }
        group.set(3, true);
        assert_eq!(members(), before);
        (0..5).for_each(|member| group.set(member, false));
        assert_eq!(group.member(group.up(), &udp(1, false)), None);
    }

    #[test]
    fn fragments_go_where_the_flow_of_the_first_goes() {
        let group = group(8);
        for flow in 0..200_u16 {
            let whole = udp(flow.into(), false);
            let member = group.member(group.up(), &whole);
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
            assert_eq!(group.member(group.up(), &fragment(0, &whole[34..])), member);
            assert_eq!(group.member(group.up(), &fragment(185, &[0xff; 40])), member);
        }
    }

    #[test]
    fn as_many_fragmented_packets_are_remembered_as_there_is_room_for() {
        let mut fragments = Fragments::default();
        let ends = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = |id| Fragment { source: ends.0, destination: ends.1, protocol: 17, id, is_first: true };
        let room = u32::try_from(FRAGMENTED).unwrap();
        for id in 0..3 * room {
            fragments.remember(first(id), id.into());
        }
        assert_eq!((fragments.flows.len(), fragments.order.len()), (FRAGMENTED, FRAGMENTED));
        assert_eq!(fragments.find(first(2 * room - 1)), None);
        assert_eq!(fragments.find(Fragment { is_first: false, ..first(2 * room) }), Some((2 * room).into()));
    }

    #[test]
    fn what_holds_no_ip_goes_by_its_two_addresses() {
        let group = group(8);
        let arp = |from: u8, to: u8| [[to; 6].as_slice(), &[from; 6], &[8, 6], &[0; 28]].concat();
        assert_eq!(group.member(group.up(), &arp(2, 4)), group.member(group.up(), &arp(4, 2)));
        assert!(group.member(group.up(), &[1, 2, 3]).is_some());
    }
}
