//! Properties over permuted, damaged and spoofed fragments, a naive reassembler as a second opinion, and
//! tables for each rule that rejects frames.

use std::collections::HashMap;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{
    decap::tests::{Packet, inner_ipv4},
    wire::vxlan,
};

const MS: u64 = 1_000_000;

/// A whole outer frame of `len` inner bytes, each different from the next datagram's.
fn frame(v6: bool, tags: &[u16], options: usize, id: u16, len: usize, identity: u8) -> Vec<u8> {
    let mut inner = inner_ipv4(len, 1);
    inner[14..].fill(identity);
    let packet = Packet { v6, tags: tags.to_vec(), options, inner, ..Packet::default() };
    let mut bytes = packet.bytes();
    let at = 14 + 4 * tags.len();
    if !v6 {
        bytes[at + 4..at + 6].copy_from_slice(&id.to_be_bytes());
        let end = at + 20 + 4 * options;
        bytes[at + 10..at + 12].fill(0);
        let checksum = !fold(sum(&bytes[at..end]));
        bytes[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

/// The fragments of a whole frame, cut at these multiples of 8.
fn cut(whole: &[u8], tags: usize, id: u16, cuts: &[usize]) -> Vec<Vec<u8>> {
    let at = 14 + 4 * tags;
    let v6 = whole[at] >> 4 == 6;
    let header = if v6 { 40 } else { usize::from(whole[at] & 15) * 4 };
    let (headers, payload) = whole.split_at(at + header);
    let bounds = [&[0], cuts, &[payload.len()]].concat();
    let part = |bounds: &[usize]| {
        let (start, end) = (bounds[0], bounds[1]);
        let more = end < payload.len();
        let mut bytes = headers.to_vec();
        if v6 {
            bytes[at + 4..at + 6].copy_from_slice(&u16::try_from(end - start + 8).unwrap().to_be_bytes());
            bytes[at + 6] = 44;
            let place = u16::try_from(start).unwrap() | u16::from(more);
            bytes.extend([17, 0]);
            bytes.extend(place.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(id.to_be_bytes());
        } else {
            let total = u16::try_from(header + end - start).unwrap();
            bytes[at + 2..at + 4].copy_from_slice(&total.to_be_bytes());
            let place = u16::try_from(start / 8).unwrap() | (u16::from(more) << 13);
            bytes[at + 6..at + 8].copy_from_slice(&place.to_be_bytes());
        }
        bytes.extend(&payload[start..end]);
        bytes
    };
    bounds.windows(2).map(part).collect()
}

/// A datagram over IPv4 with an id, in fragments of 1480 bytes.
fn datagram(source: [u8; 4], id: u16, len: usize, identity: u8) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut whole = frame(false, &[], 0, id, len, identity);
    whole[26..30].copy_from_slice(&source);
    whole[24..26].fill(0);
    let checksum = !fold(sum(&whole[14..34]));
    whole[24..26].copy_from_slice(&checksum.to_be_bytes());
    let cuts: Vec<_> = (1..).map(|part| part * 1480).take_while(|cut| *cut < whole.len() - 34).collect();
    let parts = cut(&whole, 0, id, &cuts);
    (whole, parts)
}

/// A reassembler that counts its input.
struct Run {
    reassembler: Reassembler,
    rejected: Rejected,
    received: u64,
    completed: u64,
    whole: Vec<Vec<u8>>,
    now: u64,
}

impl Run {
    fn new() -> Self {
        Self::over(Reassembler::new(Tunnels::default(), 1))
    }

    fn over(reassembler: Reassembler) -> Self {
        let rejected = Rejected::default();
        Self { reassembler, rejected, received: 0, completed: 0, whole: Vec::new(), now: 1 << 60 }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.take_by(bytes, 0);
    }

    fn take_by(&mut self, bytes: &[u8], queue: u32) {
        let mut joined = Vec::new();
        let wire_len = u32::try_from(bytes.len()).unwrap();
        self.received += 1;
        match self.reassembler.insert(bytes, wire_len, queue, self.now, &mut joined) {
            Outcome::Taken => assert!(joined.is_empty()),
            Outcome::Complete { frames } => {
                self.completed += frames;
                self.whole.push(joined);
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.rejected.add(&self.reassembler.take_rejected());
        assert_eq!(self.received, self.completed + self.rejected.total() + self.reassembler.held());
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        self.reassembler.expire(self.now);
        self.settle();
    }

    /// Ends the run: nothing is held, and no memory is lost.
    fn end(mut self) -> (Vec<Vec<u8>>, Rejected) {
        self.reassembler.clear();
        self.settle();
        let reassembler = self.reassembler;
        assert_eq!(reassembler.held(), 0);
        assert_eq!(reassembler.blocks.left(), reassembler.pieces.len());
        assert_eq!(reassembler.vacant.len(), reassembler.datagrams.len());
        assert!(reassembler.by_key.is_empty() && reassembler.by_source.is_empty());
        assert!(reassembler.greedy.is_empty());
        (self.whole, self.rejected)
    }
}

fn cuts_and_order() -> impl Strategy<Value = (Vec<Index>, Vec<Index>)> {
    (vec(any::<Index>(), 1..12), vec(any::<Index>(), 24))
}

/// Distinct multiples of 8 below a length.
fn cuts_of(indices: &[Index], len: usize) -> Vec<usize> {
    let mut cuts: Vec<_> = indices.iter().map(|index| 8 * (1 + index.index((len - 1) / 8))).collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

fn shuffled<T>(mut all: Vec<T>, by: &[Index]) -> Vec<T> {
    for (place, index) in by.iter().enumerate().take(all.len()) {
        let other = index.index(all.len());
        all.swap(place, other);
    }
    all
}

proptest! {
    #[test]
    fn fragments_in_any_order_give_the_datagram_byte_for_byte(
        (cuts, order) in cuts_and_order(),
        v6: bool,
        tags in 0_usize..3,
        options in 0_usize..11,
        len in 40_usize..9000,
        id in 1_u16..,
        duplicate: Option<Index>,
    ) {
        let tags = &[0x88a8, 0x8100][..tags];
        let whole = frame(v6, tags, options, id, len, 7);
        let headers = 14 + 4 * tags.len() + if v6 { 40 } else { 20 + 4 * options };
        let parts = cut(&whole, tags.len(), id, &cuts_of(&cuts, whole.len() - headers));
        let mut parts = shuffled(parts, &order);
        if let Some(duplicate) = duplicate && parts.len() > 1 {
            // Not after the last: that would be the first of another datagram.
            let place = duplicate.index(parts.len() - 1);
            parts.insert(place, parts[place].clone());
        }
        let mut run = Run::new();
        for part in &parts {
            run.take(part);
        }
        let (joined, rejected) = run.end();
        prop_assert_eq!(rejected.total(), 0);
        prop_assert_eq!(joined, [whole]);
    }

    #[test]
    fn interleaved_datagrams_are_distinguished_by_id(
        order in vec(any::<Index>(), 60),
        lens in vec(1500_usize..4000, 2..8),
        v6: bool,
    ) {
        let mut wholes = Vec::new();
        let mut parts = Vec::new();
        for (number, len) in (1_u8..).zip(&lens) {
            let whole = frame(v6, &[], 0, number.into(), *len, number);
            let cuts: Vec<_> = [1480, 2960].into_iter().filter(|cut| *cut < len - 20).collect();
            parts.extend(cut(&whole, 0, number.into(), &cuts));
            wholes.push(whole);
        }
        let mut run = Run::new();
        for part in shuffled(parts, &order) {
            run.take(&part);
        }
        let (mut joined, rejected) = run.end();
        joined.sort();
        wholes.sort();
        prop_assert_eq!(rejected.total(), 0);
        prop_assert_eq!(joined, wholes);
    }

    /// Few sources, few ids, adjacent places: the result of a naive reassembler that keeps everything.
    #[test]
    fn a_naive_reassembler_agrees(
        fragments in vec((1_u16..4, 0_usize..6, 1_usize..4, any::<bool>(), any::<bool>()), 1..80),
    ) {
        let mut naive = Naive::default();
        let mut run = Run::new();
        for (id, start, units, more, other) in fragments {
            let bytes = piece(id, start * 8, units * 8, more, u8::from(other));
            run.take(&bytes);
            naive.take(id, start * 8, &bytes[34..], more);
        }
        prop_assert_eq!(run.completed, naive.completed);
        let (joined, rejected) = run.end();
        prop_assert_eq!(joined.iter().map(|frame| frame[34..].to_vec()).collect::<Vec<_>>(), naive.whole);
        prop_assert_eq!(rejected.overlap, naive.overlap);
        prop_assert_eq!(rejected.ambiguous, naive.ambiguous);
        prop_assert_eq!(rejected.not_tunnel + rejected.bad_outer + rejected.table_full, 0);
    }

    /// Payloads that name their datagram, all of one length. The fragments of each stay in sequence, as on a
    /// path: no header shows that a fragment has overtaken or replaced another.
    #[test]
    fn with_id_0_interleaved_datagrams_are_never_mixed(
        turns in vec(any::<Index>(), 60),
        streams in 2_usize..4,
        duplicates in vec(any::<Index>(), 0..4),
        gaps in vec(prop_oneof![3 => Just(0), 1 => 0..300 * MS], 70),
    ) {
        let wholes: Vec<_> = (0..20).map(|number| datagram([10, 0, 0, 1], 0, 2000, number)).collect();
        let parts_of = |stream| wholes.iter().skip(stream).step_by(streams).flat_map(|(_, parts)| parts);
        let mut queues: Vec<Vec<_>> = (0..streams).map(|stream| parts_of(stream).rev().collect()).collect();
        let mut parts = Vec::new();
        for turn in turns {
            queues.retain(|queue| !queue.is_empty());
            if queues.is_empty() {
                break;
            }
            // Only between datagrams there may be a delay: fragments of a datagram arrive within RUN_GAP.
            let is_quiet = queues.iter().all(|queue| queue.len() % 2 == 0);
            let queue = turn.index(queues.len());
            parts.extend(queues[queue].pop().map(|part| (part, is_quiet)));
        }
        for index in duplicates {
            let place = index.index(parts.len());
            parts.insert(place, (parts[place].0, false));
        }
        let (parts, gaps): (Vec<_>, Vec<_>) = parts
            .iter()
            .zip(gaps)
            .map(|((part, is_quiet), gap)| (*part, if *is_quiet { gap } else { 0 }))
            .unzip();
        check_joins(&wholes, &parts, &gaps)?;
    }

    #[test]
    fn with_id_0_datagrams_are_not_mixed_after_losses(
        kept in vec(prop_oneof![4 => Just(true), 1 => Just(false)], 40),
        gaps in vec(prop_oneof![3 => Just(0), 1 => 0..300 * MS], 40),
    ) {
        let wholes: Vec<_> = (0..20).map(|number| datagram([10, 0, 0, 1], 0, 2000, number)).collect();
        let all = wholes.iter().flat_map(|(_, parts)| parts).enumerate();
        // Except for the end of one and the beginning of the next, see the module's documentation.
        let is_seen = |place: usize| place == 0 || place % 2 == 1 || kept[place - 1];
        let parts: Vec<_> =
            all.filter(|(place, _)| kept[*place] || !is_seen(*place)).map(|(_, part)| part).collect();
        check_joins(&wholes, &parts, &gaps)?;
    }

    #[test]
    fn any_bytes_are_counted_without_a_panic(
        frames in vec((vec(any::<u8>(), 0..80), 0_u32..3, 0_u64..3 * TIMEOUT), 1..60),
        v6: bool,
        edits in vec((any::<Index>(), any::<u8>()), 0..6),
    ) {
        let whole = frame(v6, &[0x8100], 0, 5, 300, 1);
        let parts = cut(&whole, 1, 5, &[64, 128]);
        let mut run = Run::over(Reassembler::with_blocks(Tunnels::default(), 6, 3));
        for (bytes, queue, time) in &frames {
            run.pass(*time / 8);
            run.take_by(bytes, *queue);
            for part in &parts {
                let mut part = part.clone();
                for (index, byte) in &edits {
                    let place = index.index(part.len());
                    part[place] ^= byte & bytes.first().copied().unwrap_or(0);
                }
                run.take_by(&part, *queue);
            }
        }
        run.end();
    }
}

fn check_joins(
    wholes: &[(Vec<u8>, Vec<Vec<u8>>)],
    parts: &[&Vec<u8>],
    gaps: &[u64],
) -> Result<(), TestCaseError> {
    let mut run = Run::new();
    for (part, gap) in parts.iter().zip(gaps) {
        run.pass(*gap);
        run.take(part);
    }
    for whole in run.end().0 {
        prop_assert!(wholes.iter().any(|(sent, _)| *sent == whole), "a mix of datagrams");
    }
    Ok(())
}

/// A fragment of a datagram whose UDP header declares 24 bytes, filled with `fill` after it.
fn piece(id: u16, start: usize, len: usize, more: bool, fill: u8) -> Vec<u8> {
    let mut bytes = frame(false, &[], 0, id, 40, 0);
    bytes.truncate(42);
    bytes[38..40].copy_from_slice(&24_u16.to_be_bytes());
    let udp = bytes.split_off(34);
    bytes[16..18].copy_from_slice(&u16::try_from(20 + len).unwrap().to_be_bytes());
    let place = u16::try_from(start / 8).unwrap() | (u16::from(more) << 13);
    bytes[20..22].copy_from_slice(&place.to_be_bytes());
    bytes.extend(
        udp.into_iter().chain(std::iter::repeat(fill)).skip(if start == 0 { 0 } else { 8 }).take(len),
    );
    bytes
}

/// All fragments of each id in a list.
#[derive(Default)]
struct Naive {
    parts: HashMap<u16, Vec<(usize, Vec<u8>, bool)>>,
    failed: HashMap<u16, bool>,
    whole: Vec<Vec<u8>>,
    completed: u64,
    overlap: u64,
    ambiguous: u64,
}

impl Naive {
    fn take(&mut self, id: u16, start: usize, bytes: &[u8], more: bool) {
        // A first fragment without more to come is a whole datagram.
        if start == 0 && !more {
            self.whole.push(bytes.to_vec());
            self.completed += 1;
            return;
        }
        if let Some(by_overlap) = self.failed.get(&id) {
            *if *by_overlap { &mut self.overlap } else { &mut self.ambiguous } += 1;
            return;
        }
        let parts = self.parts.entry(id).or_default();
        let new = (start, bytes.to_vec(), more);
        let end = start + bytes.len();
        let clashes = parts.iter().any(|part @ (other, bytes, more_there)| {
            let other_end = other + bytes.len();
            let overlaps = start < other_end && *other < end && *part != new;
            let beyond = !more && other_end > end || !more_there && end > other_end;
            let two_ends =
                end == other_end && more != *more_there || !more && !more_there && end != other_end;
            overlaps || beyond || two_ends
        });
        parts.push(new);
        if clashes {
            self.overlap += self.parts.remove(&id).map_or(0, |parts| parts.len() as u64);
            self.failed.insert(id, true);
            return;
        }
        let mut sorted = parts.clone();
        sorted.sort();
        sorted.dedup();
        let contiguous =
            sorted.iter().try_fold(0, |at, (start, bytes, _)| (*start == at).then(|| at + bytes.len()));
        if contiguous.is_some() && sorted.last().is_some_and(|(_, _, more)| !more) {
            let frames = self.parts.remove(&id).map_or(0, |parts| parts.len() as u64);
            let whole: Vec<u8> = sorted.into_iter().flat_map(|(_, bytes, _)| bytes).collect();
            if whole.len() == 24 {
                self.completed += frames;
                self.whole.push(whole);
            } else {
                self.ambiguous += frames;
                self.failed.insert(id, false);
            }
        }
    }
}

#[test]
fn an_overlap_fails_the_datagram_and_its_later_fragments() {
    let (whole, parts) = datagram([10, 0, 0, 1], 5, 4000, 1);
    let mut run = Run::new();
    run.take(&parts[0]);
    // The same place, one byte different.
    let mut other = parts[0].clone();
    *other.last_mut().unwrap() ^= 1;
    run.take(&other);
    run.take(&parts[1]);
    run.take(&parts[2]);
    assert_eq!((run.rejected.overlap, run.whole.len()), (4, 0));
    // The same id, another datagram, after the failed one has expired.
    run.pass(TIMEOUT);
    for part in &parts {
        run.take(part);
    }
    let (joined, rejected) = run.end();
    assert_eq!((joined, rejected.total()), (vec![whole], 4));
}

#[test]
fn datagrams_that_are_incomplete_in_time_or_at_the_end_are_rejected() {
    let (whole, parts) = datagram([10, 0, 0, 1], 5, 2000, 1);
    let mut run = Run::new();
    run.take(&parts[0]);
    run.pass(TIMEOUT - 1);
    assert_eq!(run.rejected.total(), 0);
    run.take(&parts[1]);
    assert_eq!(run.whole, [whole]);
    run.take(&parts[1]);
    run.pass(TIMEOUT);
    assert_eq!(run.rejected.fragment_timeout, 1);
    run.take(&parts[0]);
    assert_eq!(run.end().1.fragment_timeout, 2);
}

#[test]
fn fragments_held_are_rejected_when_time_goes_back_far() {
    let (_, parts) = datagram([10, 0, 0, 1], 5, 2000, 1);
    let mut run = Run::new();
    run.take(&parts[0]);
    run.now -= TIMEOUT + 1;
    run.take(&parts[1]);
    assert_eq!((run.rejected.fragment_timeout, run.whole.len()), (1, 0));
    run.now -= TIMEOUT;
    run.take(&parts[0]);
    assert_eq!(run.whole.len(), 1);
}

#[test]
fn a_lost_fragment_is_not_replaced_by_one_of_a_later_datagram_with_the_same_id() {
    // Of another length than in the UDP header.
    let (_, lost) = datagram([10, 0, 0, 1], 5, 2000, 1);
    let (_, again) = datagram([10, 0, 0, 1], 5, 2008, 2);
    let mut run = Run::new();
    run.take(&lost[1]);
    run.take(&again[0]);
    run.take(&again[1]);
    assert_eq!((run.end().1.ambiguous, 0), (3, 0));

    // Of the same length: after so many of its source that ids repeat.
    let (_, lost) = datagram([10, 0, 0, 1], 5, 2000, 1);
    let (whole, again) = datagram([10, 0, 0, 1], 5, 2000, 2);
    let mut run = Run::new();
    run.take(&lost[1]);
    for number in 0..u16::try_from(MAX_DISTANCE + 2).unwrap() {
        let (_, parts) = datagram([10, 0, 0, 1], 1000 + number / 2, 2000, 3);
        run.take(&parts[usize::from(number % 2)]);
    }
    run.take(&lost[0]);
    assert_eq!(run.rejected.fragment_timeout, 1);
    run.pass(TIMEOUT);
    for part in &again {
        run.take(part);
    }
    assert_eq!(run.whole.last(), Some(&whole));
}

/// Fills in the UDP checksum of a whole frame over IPv4 without tags and options.
fn with_checksum(mut whole: Vec<u8>) -> Vec<u8> {
    let len = u64::try_from(whole.len() - 34).unwrap();
    let checksum = !fold(sum(&whole[26..34]) + 17 + len + sum(&whole[34..]));
    whole[40..42].copy_from_slice(&checksum.to_be_bytes());
    whole
}

#[test]
fn a_udp_checksum_is_verified() {
    let [ours, other] = [1, 2].map(|identity| with_checksum(datagram([10, 0, 0, 1], 5, 2000, identity).0));
    let [a, b] = [&ours, &other].map(|whole| cut(whole, 0, 5, &[1480]));
    let mut run = Run::new();
    run.take(&a[0]);
    run.take(&a[1]);
    assert_eq!(run.whole, [ours]);
    run.take(&a[0]);
    run.take(&b[1]);
    assert_eq!((run.whole.len(), run.rejected.ambiguous), (1, 2));
}

#[test]
fn an_atomic_fragment_is_a_whole_datagram_whatever_else_has_its_id() {
    let whole = frame(true, &[0x8100], 0, 0, 100, 1);
    let other = cut(&frame(true, &[0x8100], 0, 0, 100, 2), 1, 9, &[64]);
    let mut run = Run::new();
    run.take(&other[0]);
    run.take(&cut(&whole, 1, 9, &[])[0]);
    assert_eq!(run.whole, [whole]);
    run.take(&other[1]);
    assert_eq!(run.whole.len(), 2);
    assert_eq!(run.end().1.total(), 0);
}

#[test]
fn fragments_of_other_datagrams_are_not_tunnel_in_any_sequence() {
    for id in [0, 5] {
        let (mut whole, _) = datagram([10, 0, 0, 1], id, 4000, 1);
        whole[36..38].copy_from_slice(&53_u16.to_be_bytes());
        let foreign = cut(&whole, 0, id, &[1480, 2960]);
        let mut run = Run::new();
        for part in &foreign {
            run.take(part);
        }
        assert_eq!((run.rejected.not_tunnel, run.rejected.total()), (3, 3), "id {id}");
        // Its id again, for one of ours.
        let (ours, parts) = datagram([10, 0, 0, 1], id, 4000, 2);
        for part in &parts {
            run.take(part);
        }
        assert_eq!(run.whole, [ours], "id {id}");
    }
    let (mut whole, _) = datagram([10, 0, 0, 1], 5, 4000, 1);
    whole[36..38].copy_from_slice(&53_u16.to_be_bytes());
    let foreign = cut(&whole, 0, 5, &[1480, 2960]);
    let mut run = Run::new();
    for place in [2, 0, 1] {
        run.take(&foreign[place]);
    }
    assert_eq!((run.rejected.not_tunnel, run.rejected.total()), (3, 3));
}

#[test]
fn with_id_0_only_an_unbroken_run_is_reassembled() {
    let [(a, a_parts), (b, b_parts)] = [1, 2].map(|identity| datagram([10, 0, 0, 1], 0, 4000, identity));
    let [a0, a1, a2] = &a_parts[..] else { panic!("three fragments") };
    let [b0, b1, b2] = &b_parts[..] else { panic!("three fragments") };
    let cases: [(&str, &[&Vec<u8>], usize); 7] = [
        ("in sequence", &[a0, a1, a2, b0, b1, b2], 2),
        ("a gap", &[a0, a2, b0, b1, b2], 0),
        ("reordered", &[a0, a2, a1, b0, b1, b2], 0),
        ("a second first", &[a0, b0, a1, b1, a2, b2], 0),
        ("interleaved at the end", &[a0, a1, b0, a2, b1, b2], 0),
        ("a duplicate", &[a0, a0, a1, a2], 0),
        ("the first lost", &[a1, a2, b0, b1, b2], 0),
    ];
    for (name, parts, wanted) in cases {
        let mut run = Run::new();
        for part in parts {
            run.take(part);
        }
        assert_eq!(run.whole.len(), wanted, "{name}");
        assert_eq!(run.rejected.ambiguous, parts.len() as u64 - 3 * wanted as u64, "{name}");
        // And it continues afterwards.
        run.pass(RUN_GAP);
        for part in &a_parts {
            run.take(part);
        }
        assert_eq!(run.whole.last(), Some(&a), "{name}");
    }
    let mut run = Run::new();
    for (part, queue) in [(a0, 0), (a1, 1), (a2, 0)] {
        run.take_by(part, queue);
    }
    assert_eq!((run.whole.len(), run.rejected.ambiguous), (0, 3), "two queues");
    // A run with a delay that is too long, and one without.
    let mut run = Run::new();
    run.take(a0);
    run.pass(RUN_GAP + 1);
    run.take(b0);
    run.take(b1);
    run.pass(RUN_GAP);
    run.take(b2);
    assert_eq!((run.whole, run.rejected.fragment_timeout), (vec![b], 1));
}

#[test]
fn with_id_0_a_delayed_end_does_not_fit_the_next_datagram() {
    let [(_, a), (_, b), (_, c)] = [1, 2, 3].map(|identity| datagram([10, 0, 0, 1], 0, 2000, identity));
    let mut run = Run::new();
    run.take(&a[0]);
    run.take(&b[0]);
    // The anomaly has timed out, but the end of b is still to come.
    run.pass(RUN_GAP);
    run.take(&c[0]);
    run.take(&b[1]);
    run.take(&c[1]);
    assert_eq!((run.whole.len(), run.rejected.ambiguous), (0, 5));
}

#[test]
fn with_id_0_a_mix_is_detected_by_the_inner_checksum() {
    let parts = |identity: u8| {
        let ends = ([10, 0, 0, 1].into(), 7);
        let inner = mirror_lab::frames::inner_udp(ends, ends, &[identity; 1600]).unwrap();
        let whole = mirror_lab::frames::Outer::sample(7).encapsulate(&inner).unwrap();
        cut(&whole, 0, 0, &[1480])
    };
    let (a, b) = (parts(1), parts(2));
    let mut run = Run::new();
    run.take(&a[0]);
    run.take(&b[1]);
    assert_eq!((run.whole.len(), run.rejected.ambiguous), (0, 2));
    run.pass(RUN_GAP);
    run.take(&b[0]);
    run.take(&b[1]);
    assert_eq!(run.whole.len(), 1);
}

#[test]
fn memory_is_bounded_and_the_flood_of_one_source_costs_only_that_source() {
    let reassembler = Reassembler::new([vxlan::PORT], 16);
    assert!(reassembler.memory() + 16 * JOINED <= MEMORY, "{}", reassembler.memory());
    assert!(Reassembler::new([vxlan::PORT], 64).memory() + 64 * JOINED <= MEMORY);
    let mut run = Run::over(reassembler);
    let mut good = 0;
    for number in 0..60_000_u16 {
        // First fragments, then orphans, of one source; every hundredth is a good one of another source, with
        // a delay.
        let (_, flood) = datagram([10, 66, 0, 1], number, 2960, 1);
        run.take(&flood[usize::from(number >= 30_000)]);
        if number % 100 < 2 {
            let (_, parts) = datagram([10, 0, 0, 2], number / 100 + 1, 2000, 2);
            good += u64::from(number % 100);
            run.take(&parts[usize::from(number % 100)]);
        }
        run.pass(10_000);
    }
    assert_eq!(run.whole.len() as u64, good);
    assert_eq!(good, 600);
    assert!(run.rejected.table_full > 40_000, "{:?}", run.rejected);
    run.end();
}

#[test]
fn a_flood_from_spoofed_sources_costs_the_oldest_datagrams() {
    let mut run = Run::new();
    let mut good = 0;
    for number in 0..40_000_u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let (_, flood) = datagram([172, 16, high, low], 7, 2960, 1);
        run.take(&flood[usize::from(low & 1)]);
        if number % 100 < 2 {
            let id = u16::try_from(number / 100 + 1).unwrap();
            let (_, parts) = datagram([10, 0, 0, 2], id, 2000, 2);
            good += u64::from(number % 100);
            run.take(&parts[usize::from(number % 100 == 1)]);
        }
        run.pass(10_000);
    }
    assert_eq!((run.whole.len() as u64, good), (400, 400));
    assert!(run.rejected.table_full > 20_000, "{:?}", run.rejected);
    run.end();
}

#[test]
fn a_datagram_of_too_many_fragments_is_rejected() {
    let whole = frame(false, &[], 0, 5, 8 * (MAX_FRAGMENTS + 2), 1);
    let cuts: Vec<_> = (1..).map(|part| 8 * part).take_while(|cut| *cut < whole.len() - 34).collect();
    let mut run = Run::new();
    for part in cut(&whole, 0, 5, &cuts) {
        run.take(&part);
    }
    assert_eq!(run.rejected.table_full, run.received);
}

#[test]
fn malformed_fragments_are_rejected_by_reason() {
    let (_, parts) = datagram([10, 0, 0, 1], 5, 2000, 1);
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = parts[0].clone();
        edit(&mut bytes);
        bytes
    };
    let mut run = Run::new();
    // 1479 bytes with more to follow; none at all; beyond 65,535; beyond the frame; below the header.
    for total in [[0x05, 0xdb], [0, 20], [0xff, 0xff], [0, 19]] {
        run.take(&edited(&|bytes| bytes[16..18].copy_from_slice(&total)));
    }
    run.take(&edited(&|bytes| bytes[20..22].copy_from_slice(&[0x3f, 0xff])));
    assert_eq!((run.rejected.bad_outer, run.rejected.total()), (5, 5));
    // Truncated by the capture.
    run.received += 1;
    let outcome = run.reassembler.insert(&parts[0][..100], 1514, 0, run.now, &mut Vec::new());
    assert_eq!(outcome, Outcome::Taken);
    run.settle();
    assert_eq!((run.rejected.short, run.rejected.total()), (1, 6));
}
