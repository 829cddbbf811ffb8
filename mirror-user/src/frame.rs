//! Frames: as a source lends them, as decapsulation finds the inner one in them, and in the batches that a
//! sink is lent, still where the NIC or the file reader put them.

use std::{
    borrow::Cow,
    fmt, iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use arrayvec::ArrayVec;

use crate::{
    tunnels::Encapsulation,
    wire::{
        geneve::{self, Gateway},
        ipv4, ipv6, udp, vxlan,
    },
};

/// The most frames a batch holds; the builder's batch size is at most this.
pub const MAX_BATCH: usize = 256;

/// A frame as a source lends it, before decapsulation: the outer Ethernet frame, without FCS.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// The first slice, nearly always all of the frame. Readers try it first, within the bounds check that
    /// they need anyway, so that frames in several slices cost the others nothing.
    first: &'a [u8],
    /// All slices, of a frame in several.
    several: Option<&'a Slices<'a>>,
    wire_len: u32,
    time: u64,
}

impl<'a> Captured<'a> {
    /// A frame in one slice: the captured bytes, from the outer Ethernet header on; its length on the wire in
    /// bytes, which is more if the source truncated it; and its receive time, CLOCK_REALTIME in ns since the
    /// epoch.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8], wire_len: u32, time: u64) -> Self {
        Self { first: bytes, several: None, wire_len, time }
    }

    /// A frame in several slices, as one in several descriptors is. It may be split anywhere, also within its
    /// headers.
    #[inline]
    #[must_use]
    pub fn in_several(bytes: &'a Slices<'a>, wire_len: u32, time: u64) -> Self {
        Self { first: bytes.first(), several: Some(bytes), wire_len, time }
    }

    /// The captured bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> Segments<'a> {
        match self.several {
            None => Segments { first: self.first, rest: &[], left: 0 },
            Some(slices) => slices.segments(),
        }
    }

    /// Number of captured bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.several.map_or(self.first.len(), |slices| slices.len)
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the frame on the wire, in bytes.
    #[inline]
    #[must_use]
    pub fn wire_len(&self) -> u32 {
        self.wire_len
    }

    /// Receive time, CLOCK_REALTIME in ns since the epoch.
    #[inline]
    #[must_use]
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Its first slice, which nearly always is all of it.
    #[inline]
    pub(crate) fn first(&self) -> &'a [u8] {
        self.first
    }

    /// Whether it is in several pieces.
    #[inline]
    pub(crate) fn is_in_several(&self) -> bool {
        self.several.is_some()
    }
}

/// The slices of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a> {
    slices: &'a [&'a [u8]],
    /// Bytes in all of them.
    len: usize,
}

impl<'a> Slices<'a> {
    /// A frame of these.
    #[must_use]
    pub fn new(slices: &'a [&'a [u8]]) -> Self {
        Self { slices, len: slices.iter().map(|slice| slice.len()).sum() }
    }

    fn first(&self) -> &'a [u8] {
        self.slices.first().copied().unwrap_or_default()
    }

    fn segments(&self) -> Segments<'a> {
        let first = self.first();
        Segments { first, rest: self.slices.get(1..).unwrap_or_default(), left: self.len - first.len() }
    }

    /// Number of slices.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn count(&self) -> usize {
        self.slices.len()
    }

    /// Bytes in all of them.
    #[cfg(feature = "af-xdp")]
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Bytes of a frame as one or more slices.
///
/// A frame in one descriptor has one slice. A jumbo frame has several, and may be split anywhere: a sink that
/// copies iterates over them, one that reads headers uses [`head`](Self::head).
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    first: &'a [u8],
    rest: &'a [&'a [u8]],
    /// Bytes of `rest` that belong to it.
    left: usize,
}

/// Buffer for the headers of a frame that is split within them.
#[derive(Debug, Default)]
pub struct HeadBuffer(ArrayVec<u8, { Segments::HEAD }>);

impl<'a> Segments<'a> {
    /// The least that [`head`](Self::head) returns of a longer frame, in bytes: all headers that are read
    /// here fit.
    pub const HEAD: usize = 512;

    /// The first slice.
    #[inline]
    #[must_use]
    pub fn first(&self) -> &'a [u8] {
        self.first
    }

    /// Bytes in all slices together.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.len() + self.left
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slices in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let rest = self.rest.iter().scan(self.left, |left, slice| {
            let part = &slice[..slice.len().min(*left)];
            *left -= part.len();
            Some(part)
        });
        iter::once(self.first).chain(rest)
    }

    /// The start of the frame in one piece: all of it, or at least [`HEAD`](Self::HEAD) bytes. They are
    /// copied into `buffer` only where they lie in several slices.
    #[inline]
    #[must_use]
    pub fn head<'b>(&self, buffer: &'b mut HeadBuffer) -> &'b [u8]
    where
        'a: 'b,
    {
        if self.left == 0 || self.first.len() >= Self::HEAD { self.first } else { self.gather(buffer) }
    }

    #[cold]
    fn gather<'b>(&self, HeadBuffer(buffer): &'b mut HeadBuffer) -> &'b [u8] {
        buffer.clear();
        for slice in self.iter() {
            let part = slice.len().min(buffer.remaining_capacity());
            // It fits: `part` is at most the remaining capacity.
            let _ = buffer.try_extend_from_slice(&slice[..part]);
        }
        buffer
    }

    /// Fills `out` from its start, and returns the number of bytes copied.
    #[inline]
    pub(crate) fn copy_to(&self, out: &mut [u8]) -> usize {
        let first = self.first.len().min(out.len());
        out[..first].copy_from_slice(&self.first[..first]);
        if self.left == 0 { first } else { first + self.copy_rest_to(&mut out[first..]) }
    }

    #[cold]
    fn copy_rest_to(&self, out: &mut [u8]) -> usize {
        let mut at = 0;
        for slice in self.iter().skip(1) {
            let part = slice.len().min(out.len() - at);
            out[at..at + part].copy_from_slice(&slice[..part]);
            at += part;
        }
        at
    }

    /// All of the frame in one piece, copied where it is in several.
    #[must_use]
    pub fn to_contiguous(&self) -> Cow<'a, [u8]> {
        if self.left == 0 {
            return Cow::Borrowed(self.first);
        }
        let mut bytes = Vec::with_capacity(self.len());
        self.iter().for_each(|slice| bytes.extend_from_slice(slice));
        Cow::Owned(bytes)
    }

    /// The bytes from `start` to `end`, both within it.
    #[cold]
    fn range(&self, start: usize, end: usize) -> Self {
        if let Some(first) = self.first.get(start..) {
            let first = &first[..first.len().min(end - start)];
            return Self { first, rest: self.rest, left: end - start - first.len() };
        }
        let mut before = start - self.first.len();
        let mut rest = self.rest;
        while let [first, behind @ ..] = rest {
            if before < first.len() {
                let first = &first[before..];
                let first = &first[..first.len().min(end - start)];
                return Self { first, rest: behind, left: end - start - first.len() };
            }
            before -= first.len();
            rest = behind;
        }
        Self { first: &[], rest: &[], left: 0 }
    }
}

/// The outer network protocol, and where its header starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Network {
    /// IPv4 (RFC 791) at this offset.
    Ipv4 {
        /// Bytes from the start of the frame.
        at: u16,
    },
    /// IPv6 (RFC 8200) at this offset.
    Ipv6 {
        /// Bytes from the start of the frame.
        at: u16,
    },
}

/// What decapsulation found. Every offset lies within the captured bytes, the headers within their first
/// [`Segments::HEAD`].
///
/// Where VXLAN comes in GENEVE, it is the VXLAN's: the IP and UDP headers around that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    pub(crate) vni: u32,
    /// Captured bytes of the inner frame.
    pub(crate) inner_len: u32,
    /// Length of the inner frame before truncation, as its IP header declares; never less than was sent.
    pub(crate) wire_len: u32,
    /// Offset of the inner frame. 16 bits, because the options of GENEVE may take 252 bytes (RFC 8926 section
    /// 3.4), with other headers before and after them.
    pub(crate) inner_start: u16,
    pub(crate) odd: Oddities,
    pub(crate) headers: Headers,
}

/// Where the headers of a frame are, in one word: for nearly every frame it is the same, so that
/// decapsulation puts a constant there.
///
/// From bit 0: the offset of the network header, 16 bits, and that of UDP; that of GENEVE, 16 bits, 0 without
/// it; and whether the network header is IPv6.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct Headers(u64);

impl Headers {
    const UDP: u32 = 16;
    const GENEVE: u32 = 32;
    const IPV6: u64 = 1 << 48;

    /// Headers without GENEVE, UDP at this offset below 2^16.
    pub(crate) const fn new(network: Network, udp: usize) -> Self {
        let network = match network {
            Network::Ipv4 { at } => at as u64,
            Network::Ipv6 { at } => at as u64 | Self::IPV6,
        };
        Self(network | (udp as u64) << Self::UDP)
    }

    /// The same with a GENEVE header at this offset below 2^16.
    pub(crate) const fn with_geneve(self, at: usize) -> Self {
        Self(self.0 | (at as u64) << Self::GENEVE)
    }

    /// The outer network header.
    pub(crate) fn network(self) -> Network {
        let at = self.at(0);
        if self.0 & Self::IPV6 == 0 { Network::Ipv4 { at } } else { Network::Ipv6 { at } }
    }

    /// Offset of the outer UDP header.
    pub(crate) fn udp(self) -> u16 {
        self.at(Self::UDP)
    }

    /// Offset of the GENEVE header.
    pub(crate) fn geneve(self) -> Option<usize> {
        match self.at(Self::GENEVE) {
            0 => None,
            at => Some(at.into()),
        }
    }

    /// As a number, for a record of a frame.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// From [`bits`](Self::bits).
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a field of 16 bits")]
    fn at(self, shift: u32) -> u16 {
        (self.0 >> shift) as u16
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers")
            .field("network", &self.network())
            .field("udp", &self.udp())
            .field("geneve", &self.geneve())
            .finish()
    }
}

/// What is odd about the headers of a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Oddities(u8);

impl Oddities {
    /// Nothing.
    pub(crate) const NONE: Self = Self(0);
    /// A bit is set that is reserved.
    pub(crate) const RESERVED_BITS: Self = Self(1);
    /// A GENEVE option is unknown, and critical.
    pub(crate) const CRITICAL_OPTION: Self = Self(1 << 1);

    /// As a byte, for a record of a frame.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// From [`bits`](Self::bits).
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// These too, if this is so.
    #[must_use]
    pub(crate) fn with(self, more: Self, is_so: bool) -> Self {
        if is_so { Self(self.0 | more.0) } else { self }
    }

    /// Whether these are among them.
    pub(crate) fn contains(self, some: Self) -> bool {
        self.0 & some.0 == some.0
    }
}

/// The longest frame that a mirror session can have truncated, in bytes: EC2's largest MTU (AWS: "Network MTU
/// for your EC2 instance") behind Ethernet and two VLAN tags.
const MOST_MIRRORED: u32 = 9001 + 14 + 8;

/// One decapsulated frame, lent for the length of one [`Sink::batch`](crate::sink::Sink::batch) call.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    captured: Captured<'a>,
    layout: Layout,
}

impl<'a> Frame<'a> {
    /// `layout` must come from [`decap::decapsulate`](crate::decap::decapsulate) on the same bytes.
    pub(crate) fn new(captured: Captured<'a>, layout: Layout) -> Self {
        Self { captured, layout }
    }

    /// Whether it is in several pieces.
    #[inline]
    pub(crate) fn is_in_several(&self) -> bool {
        self.captured.is_in_several()
    }

    /// The arguments of [`new`](Self::new).
    pub(crate) fn parts(&self) -> (Captured<'a>, Layout) {
        (self.captured, self.layout)
    }

    /// The inner Ethernet frame. It ends where the outer UDP length says; what follows is padding.
    #[expect(
        clippy::inline_always,
        reason = "else what the cold call gives goes through memory for every frame"
    )]
    #[inline(always)]
    #[must_use]
    pub fn inner(&self) -> Segments<'a> {
        let start = usize::from(self.layout.inner_start);
        let end = start + self.inner_len();
        match self.captured.first.get(start..end) {
            Some(first) => Segments { first, rest: &[], left: 0 },
            None => self.captured.bytes().range(start, end),
        }
    }

    /// Captured bytes of the inner frame.
    #[inline]
    #[must_use]
    pub fn inner_len(&self) -> usize {
        self.layout.inner_len as usize
    }

    /// The frame with its outer headers and padding.
    #[inline]
    #[must_use]
    pub fn outer(&self) -> Segments<'a> {
        self.captured.bytes()
    }

    /// VXLAN network identifier, 24 bits (RFC 7348 section 5); that of GENEVE where the frame came in GENEVE
    /// without VXLAN.
    #[must_use]
    pub fn vni(&self) -> u32 {
        self.layout.vni
    }

    /// The protocol whose VNI and addresses these are. Where VXLAN came in GENEVE, as mirrored traffic does
    /// behind an AWS Gateway Load Balancer, it is VXLAN.
    #[must_use]
    pub fn encapsulation(&self) -> Encapsulation {
        let headers = self.layout.headers;
        match headers.geneve() {
            Some(at) if at == usize::from(headers.udp()) + udp::HEADER_LEN => Encapsulation::Geneve,
            _ => Encapsulation::Vxlan,
        }
    }

    /// Whether it came in GENEVE, with or without VXLAN inside.
    #[inline]
    pub(crate) fn is_in_geneve(&self) -> bool {
        self.layout.headers.geneve().is_some()
    }

    /// What the GENEVE header says of the load balancer that sent the frame; `None` without GENEVE.
    #[inline]
    #[must_use]
    pub fn gateway(&self) -> Option<Gateway> {
        self.layout.headers.geneve().and_then(|at| self.read_gateway(at))
    }

    /// By value: a reference would put every frame in memory.
    #[inline(never)]
    fn read_gateway(self, at: usize) -> Option<Gateway> {
        let mut buffer = HeadBuffer::default();
        let bytes = self.captured.bytes();
        let header = bytes.head(&mut buffer).get(at..)?;
        geneve::Packet::new_checked(header).ok().map(|packet| packet.gateway())
    }

    /// Outer source address: the mirror source's primary address (AWS: "Traffic Mirroring packet format").
    /// Where VXLAN came in GENEVE, it is the VXLAN's.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        self.address(ipv4::field::SOURCE.start, ipv6::field::SOURCE.start)
    }

    /// Outer destination address: the mirror target.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        self.address(ipv4::field::DESTINATION.start, ipv6::field::DESTINATION.start)
    }

    /// Outer UDP source port: a hash of the inner flow.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        let at = usize::from(self.layout.headers.udp());
        u16::from_be_bytes(self.array(at + udp::field::SOURCE_PORT.start))
    }

    /// Outer UDP destination port: the tunnel's.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        let at = usize::from(self.layout.headers.udp());
        u16::from_be_bytes(self.array(at + udp::field::DESTINATION_PORT.start))
    }

    /// The VXLAN header, of a frame that came in VXLAN.
    pub(crate) fn vxlan(&self) -> [u8; vxlan::HEADER_LEN] {
        self.array(usize::from(self.layout.inner_start) - vxlan::HEADER_LEN)
    }

    /// Receive time, CLOCK_REALTIME in ns since the epoch. The report's `time` says who took it.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.captured.time
    }

    /// Length of the inner frame before the mirror session truncated it, in bytes, as the inner IP header
    /// declares; never less than the bytes present. This is pcap's `orig_len`. In a batch, a declared length
    /// beyond both the bytes sent and EC2's largest MTU is ignored.
    #[inline]
    #[must_use]
    pub fn wire_len(&self) -> u32 {
        self.layout.wire_len
    }

    /// Length of the outer frame on the wire, in bytes.
    #[must_use]
    pub fn outer_wire_len(&self) -> u32 {
        self.captured.wire_len
    }

    /// Whether its headers have any oddity.
    #[inline]
    pub(crate) fn is_odd(&self) -> bool {
        self.layout.odd != Oddities::NONE
    }

    /// Whether the VXLAN header has a flag or reserved bit set that RFC 7348 requires to be zero, or the
    /// GENEVE header one that RFC 8926 requires to be zero.
    #[must_use]
    pub fn has_reserved_bits(&self) -> bool {
        self.layout.odd.contains(Oddities::RESERVED_BITS)
    }

    /// Whether the GENEVE header has a critical option that is not known here. RFC 8926 section 3.5 has a
    /// tunnel endpoint drop such packets; what only looks at them loses nothing by not knowing an option.
    #[must_use]
    pub fn has_unknown_critical_option(&self) -> bool {
        self.layout.odd.contains(Oddities::CRITICAL_OPTION)
    }

    /// Ignores the length that the inner IP header declares, if it is beyond the bytes sent and beyond what a
    /// mirror session can have truncated. Returns whether it was ignored.
    #[inline]
    pub(crate) fn ignore_impossible_len(&mut self) -> bool {
        let declared = self.layout.wire_len;
        if declared > MOST_MIRRORED {
            self.layout.wire_len = declared.min(self.sent_len());
        }
        self.layout.wire_len < declared
    }

    /// Bytes of the inner frame that the outer header declares. By value: a reference would put every frame
    /// in memory.
    #[cold]
    #[inline(never)]
    fn sent_len(self) -> u32 {
        let (udp, inner_start) = (self.layout.headers.udp(), self.layout.inner_start);
        match u16::from_be_bytes(self.array(usize::from(udp) + udp::field::LENGTH.start)) {
            // Too large for 16 bits, or not segmented yet by a NIC (RFC 2675 section 4).
            0 => {
                let there = u32::try_from(self.captured.len()).unwrap_or(u32::MAX);
                self.captured.wire_len.max(there) - u32::from(inner_start)
            }
            len => u32::from(len) - u32::from(inner_start - udp),
        }
    }

    /// Whether fewer bytes are present than the inner frame had.
    #[inline]
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.layout.wire_len > self.layout.inner_len
    }

    fn address(&self, v4: usize, v6: usize) -> IpAddr {
        match self.layout.headers.network() {
            Network::Ipv4 { at } => IpAddr::V4(Ipv4Addr::from(self.array::<4>(at as usize + v4))),
            Network::Ipv6 { at } => IpAddr::V6(Ipv6Addr::from(self.array::<16>(at as usize + v6))),
        }
    }

    /// Bytes of the outer headers, which decapsulation proved to be there.
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        match self.captured.first.get(at..at + N).and_then(|bytes| bytes.first_chunk()) {
            Some(array) => *array,
            None => self.gathered(at),
        }
    }

    /// The same for a frame that is split within its headers. By value: a reference would put every frame in
    /// memory.
    #[cold]
    #[inline(never)]
    fn gathered<const N: usize>(self, at: usize) -> [u8; N] {
        let mut buffer = HeadBuffer::default();
        let head = self.captured.bytes().head(&mut buffer);
        head.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
    }
}

/// A batch of these is written and read for every frame: each byte more has a cost.
const _: () = assert!(size_of::<Frame<'_>>() <= 64);

/// Frames of one queue, in order of arrival.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    queue: u32,
    frames: &'a [Frame<'a>],
}

impl<'a> Batch<'a> {
    /// A batch of borrowed frames, for workers and for tests of sinks.
    #[must_use]
    pub fn new(queue: u32, frames: &'a [Frame<'a>]) -> Self {
        Self { queue, frames }
    }

    /// RX queue of the frames; 0 for a capture file.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// The frames, in order of arrival.
    #[must_use]
    pub fn frames(&self) -> &'a [Frame<'a>] {
        self.frames
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = &'a Frame<'a>;
    type IntoIter = std::slice::Iter<'a, Frame<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames.iter()
    }
}
