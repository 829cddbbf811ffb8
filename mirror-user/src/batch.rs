//! What a sink is lent: batches of decapsulated frames that still lie where the NIC or the file reader put them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::decap::{Layout, Network};

/// The most frames a batch holds; the builder's batch size is at most this.
pub const MAX_BATCH: usize = 256;

/// A frame as a source lends it, before decapsulation: the outer Ethernet frame, without FCS.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// The bytes at hand, from the outer Ethernet header on.
    pub bytes: &'a [u8],
    /// Length of the frame on the wire, in bytes; more than `bytes.len()` where the source cut it.
    pub wire_len: u32,
    /// Receive time, CLOCK_REALTIME in ns since the epoch.
    pub time: u64,
}

/// Bytes of a frame as one or more slices.
///
/// Every header up to the inner transport header lies in the first slice. A frame in one descriptor has one slice;
/// jumbo frames in several descriptors will have more, so a sink iterates instead of assuming one.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    first: &'a [u8],
}

impl<'a> Segments<'a> {
    /// The first slice, which holds the headers.
    #[must_use]
    pub fn first(&self) -> &'a [u8] {
        self.first
    }

    /// Bytes in all slices together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The slices in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        std::iter::once(self.first)
    }
}

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

    /// What [`new`](Self::new) was given.
    pub(crate) fn parts(&self) -> (Captured<'a>, Layout) {
        (self.captured, self.layout)
    }

    /// The inner Ethernet frame. It ends where the outer UDP length says; what follows is padding.
    #[must_use]
    pub fn inner(&self) -> Segments<'a> {
        let Layout { inner_start, inner_end, .. } = self.layout;
        Segments { first: &self.captured.bytes[inner_start as usize..inner_end as usize] }
    }

    /// The frame as it came, outer headers and padding included.
    #[must_use]
    pub fn outer(&self) -> Segments<'a> {
        Segments { first: self.captured.bytes }
    }

    /// VXLAN network identifier, 24 bits (RFC 7348 section 5).
    #[must_use]
    pub fn vni(&self) -> u32 {
        self.layout.vni
    }

    /// Outer source address: the mirror source's primary address (AWS: "Traffic Mirroring packet format").
    #[must_use]
    pub fn source(&self) -> IpAddr {
        self.address(12, 8)
    }

    /// Outer destination address: the mirror target.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        self.address(16, 24)
    }

    /// Outer UDP source port: a hash of the inner flow.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        let at = self.layout.udp as usize;
        u16::from_be_bytes(self.array(at))
    }

    /// Outer UDP destination port: the tunnel's.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        let at = self.layout.udp as usize;
        u16::from_be_bytes(self.array(at + 2))
    }

    /// The VXLAN header.
    pub(crate) fn vxlan(&self) -> [u8; 8] {
        self.array(self.layout.inner_start as usize - 8)
    }

    /// Receive time, CLOCK_REALTIME in ns since the epoch. Where it was taken, the report's `time` says.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.captured.time
    }

    /// Length of the inner frame before the mirror session truncated it, in bytes, as far as the inner IP header
    /// tells; never less than what is here. This is pcap's `orig_len`.
    #[must_use]
    pub fn wire_len(&self) -> u32 {
        self.layout.wire_len
    }

    /// Length of the outer frame on the wire, in bytes.
    #[must_use]
    pub fn outer_wire_len(&self) -> u32 {
        self.captured.wire_len
    }

    /// Whether the VXLAN header has a flag or reserved bit set that RFC 7348 wants zero and ignored.
    #[must_use]
    pub fn has_reserved_bits(&self) -> bool {
        self.layout.reserved_bits
    }

    /// Whether fewer bytes are here than the inner frame had.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.layout.wire_len > self.layout.inner_end - self.layout.inner_start
    }

    fn address(&self, v4: usize, v6: usize) -> IpAddr {
        match self.layout.network {
            Network::Ipv4 { at } => IpAddr::V4(Ipv4Addr::from(self.array::<4>(at as usize + v4))),
            Network::Ipv6 { at } => IpAddr::V6(Ipv6Addr::from(self.array::<16>(at as usize + v6))),
        }
    }

    /// Bytes of the outer headers, which decapsulation proved to be there.
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.captured.bytes[at..at + N]);
        bytes
    }
}

/// Frames of one queue, in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    queue: u32,
    frames: &'a [Frame<'a>],
}

impl<'a> Batch<'a> {
    /// A batch over frames that somebody else holds: what the worker does, and what a sink's test needs.
    #[must_use]
    pub fn new(queue: u32, frames: &'a [Frame<'a>]) -> Self {
        Self { queue, frames }
    }

    /// RX queue the frames came by; 0 for a capture file.
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
