//! Reassembly of fragmented outer frames: fragments in, whole outer frames out.
//!
//! A pure state machine: the caller gives bytes and times, it does no I/O and reads no clock. One
//! [`Reassembler`] serves all workers of a run, because the fragments of a datagram may arrive on different
//! queues.
//!
//! # Rules
//!
//! - The key is source, destination, protocol and id (RFC 791 section 3.2); over IPv6 without the protocol,
//!   because only the first fragment's counts (RFC 8200 section 4.5). Only a fragment header right after the
//!   IPv6 header is supported.
//! - A fragment that overlaps another, or contradicts the end of the datagram, fails the datagram and its
//!   later fragments (RFC 5722, here for IPv4 too). An exact duplicate does not: it is counted with the
//!   datagram and otherwise ignored, as RFC 8200 section 4.5 allows.
//! - An atomic fragment (RFC 6946) is a whole datagram, whatever else has its id.
//! - A reassembled datagram must have the length of its UDP header, and agree with its UDP checksum if it has
//!   one: ids repeat after 65,536 datagrams, and a fragment of another datagram may take the place of a lost
//!   one (RFC 4963).
//! - For the same reason the timeout is [`TIMEOUT`], not the 15 s of RFC 791 or the 30 s of Linux's
//!   `ipfrag_time`, and a datagram also expires after [`MAX_DISTANCE`] fragments of its source, like Linux's
//!   `ipfrag_max_dist`. The fragments of a datagram are sent together, a mirror does not retransmit, and 2 s
//!   is also the lifetime of an entry in the XDP program.
//!
//! # Id 0 over IPv4
//!
//! AWS sends id 0 without the don't-fragment flag and without a UDP checksum: if they are fragmented, all
//! datagrams of a source have one key. Then only an unbroken run is reassembled: from the first fragment to
//! the last, in sequence, on one queue, nothing else of the key in between, each within [`RUN_GAP`] of the
//! one before. Anything else rejects all of it as [`Reject::Ambiguous`], and fragments within [`RUN_GAP`]
//! after it too, because a delayed fragment would fit the next run.
//!
//! This does not detect the loss of exactly the end of one datagram and the beginning of another of the same
//! length, which is what a full ring causes. So with id 0 and without a UDP checksum the inner packet is
//! checked: if it is whole and its checksum is wrong, the datagram is [`Reject::Ambiguous`] as well. The cost
//! is that packets mirrored with a wrong checksum are lost here. Packets that the mirror session truncated
//! have no checksum to verify.
//!
//! # Memory
//!
//! All of it is allocated at the start, and touched when first used. When it is full, the oldest datagram of
//! the source that holds most is discarded, if that is more than a 64th of all; otherwise the oldest of all.
//! So the flood of one source costs only that source, and a flood from spoofed sources costs the oldest
//! datagrams.

mod blocks;
mod fragment;
mod inner;
mod list;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt};

use foldhash::fast::RandomState;

use self::{
    blocks::{BLOCK, Blocks, NONE},
    fragment::{Address, Fragment, Key, MAX_LEN},
    list::{Ends, Links},
};
use crate::{
    account::{Reject, Rejected, Rejections},
    tunnels::Tunnels,
    wire::udp,
};

/// How long an incomplete datagram is kept, in ns.
pub const TIMEOUT: u64 = 2_000_000_000;
/// After so many fragments of its source a datagram expires, before ids repeat.
pub const MAX_DISTANCE: u64 = 16_384;
/// With id 0: the longest time between two fragments, and how long an anomaly lasts, in ns. Reordering on a
/// path is shorter; a later fragment counts as lost.
pub const RUN_GAP: u64 = 100_000_000;
/// The most fragments of one datagram: 65,535 bytes in an MTU of 576.
pub const MAX_FRAGMENTS: usize = 128;

/// Memory of a run for fragments, in bytes: those that are held, and each worker's buffer of reassembled
/// datagrams.
pub const MEMORY: usize = 16 << 20;

/// Places for datagrams; each has at least one fragment, which takes at least one block.
const DATAGRAMS: usize = 8192;
/// The most and the least blocks: 10 MiB and 512 KiB.
const BLOCKS: (usize, usize) = (20 * 1024, 1024);
/// Datagrams of a source that holds more than this share of blocks and places are discarded first.
const SHARE: usize = 64;

/// The result for a fragment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is held, or counted among the [rejected](Reassembler::take_rejected).
    Taken,
    /// It completes its datagram, whose frame was appended to the buffer.
    Complete {
        /// Received frames of the datagram, duplicates included.
        frames: u64,
    },
}

/// Holds fragments until their datagrams are complete.
///
/// # Examples
///
/// ```
/// use mirror_user::{Tunnels, reassembly::{Outcome, Reassembler}};
///
/// let mut reassembler = Reassembler::new(Tunnels::default(), 1);
/// let mut whole = Vec::new();
/// // Too short for a frame.
/// assert_eq!(reassembler.insert(&[0; 13], 13, 0, 1, &mut whole), Outcome::Taken);
/// assert_eq!(reassembler.take_rejected().short, 1);
/// ```
pub struct Reassembler {
    tunnels: Tunnels,
    blocks: Blocks,
    /// The fragment that starts at each block.
    pieces: Vec<Piece>,
    datagrams: Vec<Datagram>,
    /// Free places of [`datagrams`](Self::datagrams).
    vacant: Vec<u32>,
    by_key: HashMap<Key, u32, RandomState>,
    sources: Vec<Source>,
    vacant_sources: Vec<u32>,
    by_source: HashMap<Address, u32, RandomState>,
    /// Sources that hold more than their share: at most [`SHARE`].
    greedy: Vec<u32>,
    share: usize,
    age: Ends,
    now: u64,
    /// Nothing with id 0 is reassembled until then: memory for its state had run out.
    no_runs_until: u64,
    rejected: Rejections,
    held: u64,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u32,
    len: u32,
    /// The next by offset.
    after: u32,
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    source: u32,
    state: State,
    /// Arrival of its first fragment, or when its state was last confirmed.
    since: u64,
    /// Arrival of its latest fragment.
    touched: u64,
    /// Fragments of its source by then.
    seen: u64,
    /// The fragments held, by offset.
    pieces: u32,
    last: u32,
    count: usize,
    blocks: usize,
    /// Frames held.
    frames: u64,
    /// Bytes held. With id 0: where the next fragment must begin, 0 for a first one.
    bytes: usize,
    total: Option<usize>,
    /// Of the first fragment: bytes of the headers in front of its payload, where the IP header starts, the
    /// protocol.
    headers: usize,
    network: usize,
    protocol: u8,
    /// With id 0: the queue it arrives on.
    queue: u32,
    age: Links,
    kin: Links,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    /// Its later fragments are rejected for this reason.
    Closed(Reject),
    /// Id 0, and its fragments cannot be attributed, until then.
    Ambiguous {
        until: u64,
    },
}

#[derive(Debug)]
struct Source {
    address: Address,
    /// Blocks and places held.
    held: usize,
    datagrams: usize,
    /// Fragments of the source so far.
    seen: u64,
    kin: Ends,
}

impl Reassembler {
    /// A reassembler for these tunnels, and for this many workers, each with a buffer of at most [`JOINED`]
    /// bytes.
    #[must_use]
    pub fn new(tunnels: impl Into<Tunnels>, workers: usize) -> Self {
        let fixed = tables_memory() + workers.saturating_mul(JOINED);
        let blocks = MEMORY.saturating_sub(fixed) / (BLOCK + size_of::<Piece>() + size_of::<u32>());
        Self::with_blocks(tunnels.into(), blocks.clamp(BLOCKS.1, BLOCKS.0), DATAGRAMS)
    }

    fn with_blocks(tunnels: Tunnels, blocks: usize, datagrams: usize) -> Self {
        let hasher = RandomState::default();
        Self {
            tunnels,
            blocks: Blocks::new(u32::try_from(blocks).unwrap_or(NONE)),
            pieces: vec![Piece { offset: 0, len: 0, after: NONE }; blocks],
            datagrams: Vec::with_capacity(datagrams),
            vacant: Vec::with_capacity(datagrams),
            by_key: HashMap::with_capacity_and_hasher(datagrams, hasher.clone()),
            sources: Vec::with_capacity(datagrams),
            vacant_sources: Vec::with_capacity(datagrams),
            by_source: HashMap::with_capacity_and_hasher(datagrams, hasher),
            greedy: Vec::with_capacity(SHARE),
            share: (blocks + datagrams) / SHARE,
            age: Ends::EMPTY,
            now: 0,
            no_runs_until: 0,
            rejected: [0; Reject::COUNT],
            held: 0,
        }
    }

    /// Processes a frame that decapsulation has found to be a fragment; any other is counted as rejected.
    /// `wire_len` is its length before a capture truncated it, `now` a time in ns that does not go back by
    /// much.
    ///
    /// A completed datagram is appended to `joined` as one frame: Ethernet header, VLAN tags and IP header of
    /// its first fragment, with lengths, flags and checksum of a whole packet, then UDP. Its time is that of
    /// its last fragment.
    pub fn insert(
        &mut self,
        frame: &[u8],
        wire_len: u32,
        queue: u32,
        now: u64,
        joined: &mut Vec<u8>,
    ) -> Outcome {
        self.expire(now);
        match Fragment::parse(frame, wire_len as usize) {
            Err(reason) => self.reject(reason, 1),
            Ok(whole) if whole.is_first() && !whole.more => {
                put_headers(joined, whole.headers, whole.network, whole.protocol, whole.payload.len());
                joined.extend_from_slice(whole.payload);
                return Outcome::Complete { frames: 1 };
            }
            Ok(fragment) if fragment.key.is_shared() => return self.insert_in_run(&fragment, queue, joined),
            Ok(fragment) => return self.insert_by_id(&fragment, joined),
        }
        Outcome::Taken
    }

    /// Rejects datagrams that have expired; all of them, if time has gone back by more than the timeout
    /// (another capture file).
    pub fn expire(&mut self, now: u64) {
        if now.saturating_add(TIMEOUT) < self.now {
            self.clear();
            self.no_runs_until = 0;
            self.now = now;
        }
        self.now = self.now.max(now);
        while let Some(oldest) = self.datagrams.get(self.age.oldest as usize)
            && self.now.saturating_sub(oldest.since) >= TIMEOUT
        {
            self.fail(self.age.oldest, Reject::FragmentTimeout);
        }
    }

    /// Rejects all fragments that are held: the run is over.
    pub fn clear(&mut self) {
        while self.age.oldest != NONE {
            self.fail(self.age.oldest, Reject::FragmentTimeout);
        }
    }

    /// Frames rejected since the last call.
    pub fn take_rejected(&mut self) -> Rejected {
        Rejected::from(&self.take_rejections())
    }

    /// The same, as workers count.
    pub(crate) fn take_rejections(&mut self) -> Rejections {
        std::mem::replace(&mut self.rejected, [0; Reject::COUNT])
    }

    /// Frames that are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// The most memory that it takes, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.pieces.len() * (BLOCK + size_of::<Piece>() + size_of::<u32>()) + tables_memory()
    }

    /// Any order: the id identifies the datagram.
    fn insert_by_id(&mut self, fragment: &Fragment<'_>, joined: &mut Vec<u8>) -> Outcome {
        let mut found = self.by_key.get(&fragment.key).copied();
        if let Some(place) = found {
            let Datagram { source, seen, .. } = self.datagrams[place as usize];
            if self.sources[source as usize].seen - seen > MAX_DISTANCE {
                self.fail(place, Reject::FragmentTimeout);
                found = None;
            }
        }
        let state = found.map(|place| self.datagrams[place as usize].state);
        if fragment.is_first() {
            if !fragment.is_tunnel(&self.tunnels) {
                // All its fragments are not ours.
                let place = found.or_else(|| self.open(fragment, 0, 0));
                self.close(place, Reject::NotTunnel);
                self.reject(Reject::NotTunnel, 1);
                return Outcome::Taken;
            }
            if let (Some(place), Some(State::Closed(Reject::NotTunnel))) = (found, state) {
                self.fail(place, Reject::NotTunnel);
                found = None;
            }
        }
        match (found, state) {
            (Some(_), Some(State::Closed(reason))) => {
                self.reject(reason, 1);
                Outcome::Taken
            }
            (Some(place), _) => self.add_by_id(place, fragment, joined),
            (None, _) => {
                if let Some(place) = self.open(fragment, 0, stored_len(fragment)) {
                    self.store(place, fragment, NONE);
                }
                Outcome::Taken
            }
        }
    }

    fn add_by_id(&mut self, place: u32, fragment: &Fragment<'_>, joined: &mut Vec<u8>) -> Outcome {
        let before = match self.fit(place, fragment) {
            Fit::After(before) => before,
            Fit::Duplicate => {
                self.touch(place);
                self.datagrams[place as usize].frames += 1;
                self.held += 1;
                return Outcome::Taken;
            }
            Fit::Overlap => {
                self.close(Some(place), Reject::Overlap);
                self.reject(Reject::Overlap, 1);
                return Outcome::Taken;
            }
        };
        if self.datagrams[place as usize].count == MAX_FRAGMENTS {
            self.close(Some(place), Reject::TableFull);
            self.reject(Reject::TableFull, 1);
            return Outcome::Taken;
        }
        if !self.make_room(0, stored_len(fragment), Some(place)) {
            self.reject(Reject::TableFull, 1);
            return Outcome::Taken;
        }
        self.store(place, fragment, before);
        let datagram = &self.datagrams[place as usize];
        if datagram.total != Some(datagram.bytes) {
            return Outcome::Taken;
        }
        let frames = datagram.frames;
        match self.join(place, joined) {
            Ok(()) => {
                self.release(place);
                Outcome::Complete { frames }
            }
            Err(reason) => {
                self.close(Some(place), reason);
                Outcome::Taken
            }
        }
    }

    /// Id 0: in sequence, or not at all.
    fn insert_in_run(&mut self, fragment: &Fragment<'_>, queue: u32, joined: &mut Vec<u8>) -> Outcome {
        let mut found = self.by_key.get(&fragment.key).copied();
        if let Some(place) = found {
            let Datagram { state, touched, bytes, queue: other, .. } = self.datagrams[place as usize];
            let next = (fragment.offset, queue) == (bytes, if bytes == 0 { queue } else { other });
            let late = self.now.saturating_sub(touched) > RUN_GAP;
            match state {
                State::Ambiguous { until } if bytes == 0 && fragment.is_first() && self.now >= until => {
                    self.release(place);
                    found = None;
                }
                State::Ambiguous { until } => {
                    let until = if next { until } else { self.now + RUN_GAP };
                    self.stay_ambiguous(place, fragment, queue, until);
                    return Outcome::Taken;
                }
                _ if late => {
                    self.fail(place, Reject::FragmentTimeout);
                    found = None;
                }
                State::Closed(reason) if next && bytes > 0 => {
                    self.reject(reason, 1);
                    self.touch(place);
                    self.datagrams[place as usize].bytes = fragment.end();
                    if !fragment.more {
                        self.release(place);
                    }
                    return Outcome::Taken;
                }
                State::Open if next => return self.add_in_run(place, fragment, queue, joined),
                State::Open | State::Closed(_) => {
                    self.doubt(place, fragment, queue);
                    return Outcome::Taken;
                }
            }
        }
        debug_assert!(found.is_none(), "all others have returned");
        if !fragment.is_first() || self.now < self.no_runs_until {
            match self.open(fragment, queue, 0) {
                Some(place) => self.doubt(place, fragment, queue),
                None => self.reject(Reject::Ambiguous, 1),
            }
        } else if !fragment.is_tunnel(&self.tunnels) {
            let place = self.open(fragment, queue, 0);
            self.close(place, Reject::NotTunnel);
            if let Some(place) = place {
                self.datagrams[place as usize].bytes = fragment.end();
            }
            self.reject(Reject::NotTunnel, 1);
        } else if let Some(place) = self.open(fragment, queue, stored_len(fragment)) {
            self.store(place, fragment, NONE);
        }
        Outcome::Taken
    }

    fn add_in_run(
        &mut self,
        place: u32,
        fragment: &Fragment<'_>,
        queue: u32,
        joined: &mut Vec<u8>,
    ) -> Outcome {
        let Datagram { last, count, .. } = self.datagrams[place as usize];
        if count == MAX_FRAGMENTS {
            self.doubt(place, fragment, queue);
            return Outcome::Taken;
        }
        if !self.make_room(0, stored_len(fragment), Some(place)) {
            self.reject(Reject::TableFull, 1);
            return Outcome::Taken;
        }
        self.store(place, fragment, last);
        if fragment.more {
            return Outcome::Taken;
        }
        let frames = self.datagrams[place as usize].frames;
        if self.join(place, joined).is_ok() {
            self.release(place);
            return Outcome::Complete { frames };
        }
        // Later fragments may belong to either datagram.
        self.close(Some(place), Reject::Ambiguous);
        let until = self.now + RUN_GAP;
        let datagram = &mut self.datagrams[place as usize];
        (datagram.state, datagram.bytes) = (State::Ambiguous { until }, 0);
        Outcome::Taken
    }

    /// Rejects what is held of a run, and the fragment that broke it.
    fn doubt(&mut self, place: u32, fragment: &Fragment<'_>, queue: u32) {
        self.close(Some(place), Reject::Ambiguous);
        self.stay_ambiguous(place, fragment, queue, self.now + RUN_GAP);
    }

    fn stay_ambiguous(&mut self, place: u32, fragment: &Fragment<'_>, queue: u32, until: u64) {
        self.reject(Reject::Ambiguous, 1);
        self.age.remove(&mut self.datagrams, |datagram| &mut datagram.age, place);
        self.age.push(&mut self.datagrams, |datagram| &mut datagram.age, place);
        let now = self.now;
        let datagram = &mut self.datagrams[place as usize];
        datagram.state = State::Ambiguous { until };
        (datagram.since, datagram.touched) = (now, now);
        // The end of the current datagram is still to come.
        datagram.bytes = if fragment.more { fragment.end() } else { 0 };
        datagram.queue = queue;
    }

    /// The place of a fragment among those that are held.
    fn fit(&self, place: u32, fragment: &Fragment<'_>) -> Fit {
        let datagram = &self.datagrams[place as usize];
        let (offset, end) = (fragment.offset, fragment.end());
        let furthest = match datagram.last {
            NONE => 0,
            last => self.pieces[last as usize].end(),
        };
        let (mut before, mut after) = (NONE, datagram.pieces);
        if offset >= furthest {
            (before, after) = (datagram.last, NONE);
        }
        while after != NONE && self.pieces[after as usize].end() <= offset {
            (before, after) = (after, self.pieces[after as usize].after);
        }
        let overlapped = (after != NONE).then(|| self.pieces[after as usize]);
        let overlapped = overlapped.filter(|piece| (piece.offset as usize) < end);
        let contradicts = match datagram.total {
            Some(total) => end > total || (end == total) == fragment.more,
            None => !fragment.more && furthest > end,
        };
        match overlapped {
            _ if contradicts => Fit::Overlap,
            None => Fit::After(before),
            Some(piece) if piece.offset as usize == offset && piece.end() == end => {
                // A last fragment would have set the end.
                let is_last = datagram.total == Some(end);
                let skip = if offset == 0 { datagram.headers } else { 0 };
                let held = self.blocks.read(after, skip, fragment.payload.len());
                let same = held.flatten().eq(fragment.payload);
                if same && is_last != fragment.more { Fit::Duplicate } else { Fit::Overlap }
            }
            Some(_) => Fit::Overlap,
        }
    }

    /// Inserts a fragment after the piece `before`. `make_room` was called before.
    fn store(&mut self, place: u32, fragment: &Fragment<'_>, before: u32) {
        let headers = if fragment.is_first() { fragment.headers } else { &[] };
        let Some(first) = self.blocks.store([headers, fragment.payload]) else {
            // Unreachable: `make_room` came before.
            self.reject(Reject::TableFull, 1);
            return;
        };
        let blocks = Blocks::for_len(headers.len() + fragment.payload.len());
        let datagram = &mut self.datagrams[place as usize];
        let link = match before {
            NONE => &mut datagram.pieces,
            before => &mut self.pieces[before as usize].after,
        };
        let after = std::mem::replace(link, first);
        if after == NONE {
            datagram.last = first;
        }
        #[expect(clippy::cast_possible_truncation, reason = "both are below 65,536")]
        let (offset, len) = (fragment.offset as u32, fragment.payload.len() as u32);
        self.pieces[first as usize] = Piece { offset, len, after };
        if fragment.is_first() {
            datagram.headers = headers.len();
            (datagram.network, datagram.protocol) = (fragment.network, fragment.protocol);
        }
        if !fragment.more {
            datagram.total = Some(fragment.end());
        }
        datagram.blocks += blocks;
        datagram.bytes += fragment.payload.len();
        datagram.count += 1;
        datagram.frames += 1;
        self.held += 1;
        self.touch(place);
        let source = self.datagrams[place as usize].source;
        self.charge(source, blocks);
    }

    fn touch(&mut self, place: u32) {
        let datagram = &mut self.datagrams[place as usize];
        let source = &mut self.sources[datagram.source as usize];
        source.seen += 1;
        (datagram.touched, datagram.seen) = (self.now, source.seen);
    }

    /// Appends the whole frame, if its length is possible.
    fn join(&self, place: u32, joined: &mut Vec<u8>) -> Result<(), Reject> {
        let datagram = &self.datagrams[place as usize];
        let Datagram { pieces, headers, network, protocol, bytes, .. } = *datagram;
        let start = joined.len();
        let mut head = [0; MAX_HEADERS];
        let head = &mut head[..headers.min(MAX_HEADERS)];
        let mut filled = 0;
        for part in self.blocks.read(pieces, 0, head.len()) {
            head[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        // The headers of the first may be longer than those of the last.
        let before = if matches!(datagram.key.source, Address::V4(_)) { headers - network } else { 0 };
        if before + bytes > MAX_LEN {
            return Err(Reject::BadOuter);
        }
        put_headers(joined, head, network, protocol, bytes);
        let transport = joined.len();
        let (mut piece, mut skip) = (pieces, headers);
        while piece != NONE {
            let Piece { len, after, .. } = self.pieces[piece as usize];
            for part in self.blocks.read(piece, std::mem::take(&mut skip), len as usize) {
                joined.extend_from_slice(part);
            }
            piece = after;
        }
        if is_whole(&datagram.key, protocol, &joined[transport..], &self.tunnels) {
            Ok(())
        } else {
            joined.truncate(start);
            Err(Reject::Ambiguous)
        }
    }

    /// A new datagram with room for its first fragment; `None`, and the fragment is counted, if nothing can
    /// be freed.
    fn open(&mut self, fragment: &Fragment<'_>, queue: u32, len: usize) -> Option<u32> {
        if !self.make_room(1, len, None) {
            self.reject(Reject::TableFull, 1);
            return None;
        }
        let source = self.source(fragment.key.source);
        let datagram = Datagram {
            key: fragment.key,
            source,
            state: State::Open,
            since: self.now,
            touched: self.now,
            seen: self.sources[source as usize].seen,
            pieces: NONE,
            last: NONE,
            count: 0,
            blocks: 0,
            frames: 0,
            bytes: 0,
            total: None,
            headers: 0,
            network: 0,
            protocol: 0,
            queue,
            age: Links::NONE,
            kin: Links::NONE,
        };
        let place = put(&mut self.datagrams, &mut self.vacant, datagram);
        self.by_key.insert(fragment.key, place);
        self.age.push(&mut self.datagrams, |datagram| &mut datagram.age, place);
        let source_of = &mut self.sources[source as usize];
        source_of.datagrams += 1;
        source_of.kin.push(&mut self.datagrams, |datagram| &mut datagram.kin, place);
        self.charge(source, 1);
        Some(place)
    }

    fn source(&mut self, address: Address) -> u32 {
        if let Some(known) = self.by_source.get(&address) {
            return *known;
        }
        let source = Source { address, held: 0, datagrams: 0, seen: 0, kin: Ends::EMPTY };
        let place = put(&mut self.sources, &mut self.vacant_sources, source);
        self.by_source.insert(address, place);
        place
    }

    /// Frees a datagram's fragments but keeps its place: its later fragments have this reason too.
    fn close(&mut self, place: Option<u32>, reason: Reject) {
        let Some(place) = place else { return };
        let frames = self.drop_pieces(place);
        self.reject(reason, frames);
        let datagram = &mut self.datagrams[place as usize];
        (datagram.state, datagram.bytes, datagram.total) = (State::Closed(reason), 0, None);
    }

    /// Removes a datagram; its frames are rejected for this reason.
    fn fail(&mut self, place: u32, reason: Reject) {
        let frames = self.drop_pieces(place);
        self.reject(reason, frames);
        self.release(place);
    }

    /// Frees the fragments of a datagram, and returns their number.
    fn drop_pieces(&mut self, place: u32) -> u64 {
        let datagram = &mut self.datagrams[place as usize];
        let mut piece = std::mem::replace(&mut datagram.pieces, NONE);
        datagram.last = NONE;
        datagram.count = 0;
        let blocks = std::mem::take(&mut datagram.blocks);
        let frames = std::mem::take(&mut datagram.frames);
        let source = datagram.source;
        while piece != NONE {
            self.blocks.release(piece);
            piece = self.pieces[piece as usize].after;
        }
        self.held -= frames;
        self.discharge(source, blocks);
        frames
    }

    /// Removes a datagram whose frames are accounted for.
    fn release(&mut self, place: u32) {
        self.drop_pieces(place);
        let Datagram { key, source, .. } = self.datagrams[place as usize];
        self.by_key.remove(&key);
        self.age.remove(&mut self.datagrams, |datagram| &mut datagram.age, place);
        let kin = &mut self.sources[source as usize].kin;
        kin.remove(&mut self.datagrams, |datagram| &mut datagram.kin, place);
        self.vacant.push(place);
        self.discharge(source, 1);
        let source_of = &mut self.sources[source as usize];
        source_of.datagrams -= 1;
        if source_of.datagrams == 0 {
            self.by_source.remove(&source_of.address);
            self.vacant_sources.push(source);
        }
    }

    /// Frees places and blocks until there are enough; false if that removed the datagram they were for.
    fn make_room(&mut self, datagrams: usize, len: usize, current: Option<u32>) -> bool {
        let blocks = if len == 0 { 0 } else { Blocks::for_len(len) };
        while self.datagrams.capacity() - self.by_key.len() < datagrams || self.blocks.left() < blocks {
            let greediest = self.greedy.iter().max_by_key(|source| self.sources[**source as usize].held);
            let victim =
                greediest.map_or(self.age.oldest, |source| self.sources[*source as usize].kin.oldest);
            let Some(Datagram { state, .. }) = self.datagrams.get(victim as usize) else { return false };
            if matches!(state, State::Ambiguous { .. }) {
                self.no_runs_until = self.now + RUN_GAP;
            }
            self.fail(victim, Reject::TableFull);
            if current == Some(victim) {
                return false;
            }
        }
        true
    }

    fn charge(&mut self, source: u32, units: usize) {
        let held = &mut self.sources[source as usize].held;
        let before = *held;
        *held += units;
        if before <= self.share && *held > self.share {
            self.greedy.push(source);
        }
    }

    fn discharge(&mut self, source: u32, units: usize) {
        let held = &mut self.sources[source as usize].held;
        let before = *held;
        *held -= units;
        if before > self.share && *held <= self.share {
            self.greedy.retain(|greedy| *greedy != source);
        }
    }

    fn reject(&mut self, reason: Reject, frames: u64) {
        self.rejected[reason as usize] += frames;
    }
}

impl fmt::Debug for Reassembler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reassembler")
            .field("datagrams", &self.by_key.len())
            .field("sources", &self.by_source.len())
            .field("held", &self.held)
            .field("blocks_left", &self.blocks.left())
            .finish_non_exhaustive()
    }
}

impl Piece {
    fn end(&self) -> usize {
        self.offset as usize + self.len as usize
    }
}

enum Fit {
    /// After this piece, or before all.
    After(u32),
    Duplicate,
    Overlap,
}

/// Ethernet, two VLAN tags, IPv4 with all its options.
const MAX_HEADERS: usize = 14 + 8 + 60;

/// A worker's buffer of reassembled datagrams, in bytes: two of the largest.
pub const JOINED: usize = 2 * (MAX_HEADERS + MAX_LEN);

/// The most bytes of a reassembled frame.
pub const MAX_JOINED: usize = MAX_HEADERS + MAX_LEN;

/// Memory other than blocks, in bytes. The standard map has a power of two of places, of which it keeps an
/// eighth free, and a byte of state for each.
fn tables_memory() -> usize {
    let places = (DATAGRAMS * 8 / 7 + 1).next_power_of_two();
    DATAGRAMS * (size_of::<Datagram>() + size_of::<Source>() + 2 * size_of::<u32>())
        + places * (size_of::<(Key, u32)>() + size_of::<(Address, u32)>() + 2)
}

/// Bytes of a fragment in blocks: the first is stored with its headers.
fn stored_len(fragment: &Fragment<'_>) -> usize {
    fragment.payload.len() + if fragment.is_first() { fragment.headers.len() } else { 0 }
}

/// Inserts at a free place, or a new one.
fn put<T>(all: &mut Vec<T>, vacant: &mut Vec<u32>, value: T) -> u32 {
    if let Some(place) = vacant.pop() {
        all[place as usize] = value;
        return place;
    }
    all.push(value);
    u32::try_from(all.len() - 1).unwrap_or(NONE)
}

/// Appends the headers of a first fragment, changed to those of a whole packet with this many bytes after
/// them.
fn put_headers(joined: &mut Vec<u8>, headers: &[u8], network: usize, protocol: u8, len: usize) {
    let start = joined.len() + network;
    joined.extend_from_slice(headers);
    let header = &mut joined[start..];
    if header[0] >> 4 == 6 {
        header[4..6].copy_from_slice(&length(len));
        header[6] = protocol;
    } else {
        let total = length(header.len() + len);
        header[2..4].copy_from_slice(&total);
        // More-fragments flag and offset.
        header[6] &= 0xc0;
        header[7] = 0;
        header[10..12].fill(0);
        let checksum = !fold(sum(header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A length that is at most [`MAX_LEN`].
fn length(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// Whether a UDP datagram has its declared length, and a correct checksum, if any. If it has none and the id
/// is 0, the inner packet is checked.
fn is_whole(key: &Key, protocol: u8, bytes: &[u8], tunnels: &Tunnels) -> bool {
    let Ok(datagram) = udp::Datagram::new_checked(bytes) else { return false };
    if protocol != udp::PROTOCOL || usize::from(datagram.length()) != bytes.len() {
        return false;
    }
    if datagram.checksum() == 0 {
        return !(key.is_shared() && inner::contradicts(bytes, tunnels));
    }
    let addresses = [key.source, key.destination].map(|address| match address {
        Address::V4(address) => sum(&address),
        Address::V6(address) => sum(&address),
    });
    let length = u64::from(datagram.length()) + u64::from(protocol);
    fold(addresses[0] + addresses[1] + length + sum(bytes)) == 0xffff
}

/// The sum of 16-bit words (RFC 1071), not folded.
fn sum(bytes: &[u8]) -> u64 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let words: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    words + odd.first().map_or(0, |byte| u64::from(*byte) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "nothing is left above 16 bits")]
    let folded = sum as u16;
    folded
}
