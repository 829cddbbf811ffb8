//! The packets of a block by the file that they go to, where each origin has its own.

use super::{
    format::{self, Format},
    part::Packet,
};

/// Sorts blocks, in memory of its own.
#[derive(Debug)]
pub(super) struct Split {
    /// Of the files; blocks are pcapng, because it alone tells interfaces apart.
    format: Format,
    /// Origins with a file of their own.
    origins: usize,
    bytes: Vec<u8>,
    packets: Vec<Packet>,
    /// By first interface: of the packets before they are sorted, their count and bytes, then where the next goes.
    series: Vec<(usize, usize)>,
    parts: Vec<Segment>,
}

/// Packets of one file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    /// The first interface that may be in it.
    pub(super) base: usize,
    packets: (usize, usize),
    bytes: (usize, usize),
}

impl Split {
    pub(super) fn new(format: Format, origins: usize) -> Self {
        let series = vec![(0, 0); origins + 1];
        Self { format, origins, bytes: Vec::new(), packets: Vec::new(), series, parts: Vec::new() }
    }

    pub(super) fn origins(&self) -> usize {
        self.origins
    }

    /// Sorts the packets of a block; those of one file keep their order.
    pub(super) fn sort(&mut self, block: &[u8], packets: &[Packet]) {
        let Self { format, origins, bytes, packets: sorted, series, parts } = self;
        let (format, origins) = (*format, *origins);
        let length = |packet: &[u8]| match format {
            Format::Pcapng => packet.len(),
            Format::Pcap => format::classic_len(packet),
        };
        let each = || {
            let mut start = 0;
            packets.iter().map(move |packet| {
                let bytes = &block[start..packet.end];
                start = packet.end;
                (packet.interface, (packet.interface as usize).min(origins), bytes)
            })
        };
        series.fill((0, 0));
        for (_, base, packet) in each() {
            series[base].0 += 1;
            series[base].1 += length(packet);
        }
        parts.clear();
        let mut at = (0, 0);
        for (base, next) in series.iter_mut().enumerate().filter(|(_, (count, _))| *count > 0) {
            let end = (at.0 + next.0, at.1 + next.1);
            parts.push(Segment { base, packets: (at.0, end.0), bytes: (at.1, end.1) });
            *next = at;
            at = end;
        }
        sorted.resize(at.0, Packet { end: 0, interface: 0 });
        bytes.resize(at.1, 0);
        for (interface, base, packet) in each() {
            let (index, start) = series[base];
            let end = start + length(packet);
            let out = &mut bytes[start..end];
            match format {
                Format::Pcapng => {
                    out.copy_from_slice(packet);
                    #[expect(clippy::cast_possible_truncation, reason = "at most the interface itself")]
                    format::renumber(out, interface - base as u32);
                }
                Format::Pcap => format::to_classic(packet, out),
            }
            sorted[index] = Packet { end, interface };
            series[base] = (index + 1, end);
        }
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = Segment> + use<'_> {
        self.parts.iter().copied()
    }

    /// The bytes of a segment and its packets.
    pub(super) fn contents(&self, segment: Segment) -> (&[u8], &[Packet]) {
        let Segment { bytes, packets, .. } = segment;
        (&self.bytes[bytes.0..bytes.1], &self.packets[packets.0..packets.1])
    }
}
