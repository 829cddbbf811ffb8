//! Sorts the packets of a block by their files, for a file per origin.

use super::{
    format::{self, Format},
    part::PacketEnd,
};

/// Sorts blocks, in its own buffers.
#[derive(Debug)]
pub(super) struct Split {
    /// Format of the files. Blocks are pcapng, because only that has interfaces.
    format: Format,
    bytes: Vec<u8>,
    packets: Vec<PacketEnd>,
    /// By series: number and bytes of its packets, then the position of the next one.
    series: Vec<(usize, usize)>,
    parts: Vec<Segment>,
}

/// Packets of one file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Segment {
    /// The series of files it belongs to.
    series: usize,
    packets: (usize, usize),
    bytes: (usize, usize),
}

impl Split {
    /// For at most this many series.
    pub(super) fn new(format: Format, series: usize) -> Self {
        Self {
            format,
            bytes: Vec::new(),
            packets: Vec::new(),
            series: vec![(0, 0); series],
            parts: Vec::new(),
        }
    }

    /// Sorts the packets of a block by the series of their origins; packets of one file keep their order.
    pub(super) fn sort(&mut self, block: &[u8], packets: &[PacketEnd], series_of: &[usize]) {
        let Self { format, bytes, packets: sorted, series, parts } = self;
        let format = *format;
        let length = |packet: &[u8]| match format {
            Format::Pcapng => packet.len(),
            Format::Pcap | Format::PcapMicros => format::classic_len(packet),
        };
        let each = || {
            let mut start = 0;
            packets.iter().map(move |packet| {
                let bytes = &block[start..packet.end];
                start = packet.end;
                (packet.origin, series_of[packet.origin as usize], bytes)
            })
        };
        series.fill((0, 0));
        for (_, index, packet) in each() {
            series[index].0 += 1;
            series[index].1 += length(packet);
        }
        parts.clear();
        let mut at = (0, 0);
        for (index, next) in series.iter_mut().enumerate().filter(|(_, (count, _))| *count > 0) {
            let end = (at.0 + next.0, at.1 + next.1);
            parts.push(Segment { series: index, packets: (at.0, end.0), bytes: (at.1, end.1) });
            *next = at;
            at = end;
        }
        sorted.resize(at.0, PacketEnd { end: 0, origin: 0 });
        bytes.resize(at.1, 0);
        for (origin, of, packet) in each() {
            let (index, start) = series[of];
            let end = start + length(packet);
            let out = &mut bytes[start..end];
            match format {
                Format::Pcapng => out.copy_from_slice(packet),
                Format::Pcap | Format::PcapMicros => format.to_classic(packet, out),
            }
            sorted[index] = PacketEnd { end, origin };
            series[of] = (index + 1, end);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// A segment's series, its bytes and its packets.
    pub(super) fn segment(&mut self, number: usize) -> (usize, &mut [u8], &[PacketEnd]) {
        let Segment { series, packets, bytes } = self.parts[number];
        (series, &mut self.bytes[bytes.0..bytes.1], &self.packets[packets.0..packets.1])
    }
}
