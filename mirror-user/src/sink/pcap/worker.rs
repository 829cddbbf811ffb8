//! The sink of one worker: writes frames into blocks, in the format of the file.

use std::time::Instant;

use super::{
    format::{Format, PacketHead},
    headers,
    idb_table::BlockNumbers,
    losses::Dropped,
};
use crate::{
    frame::{Batch, Frame, HeadBuffer},
    sink::{Sink, SinkError, SinkStats, handoff::BlockWriter, origin::OriginKey},
};

/// Settings of a worker's sink.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) format: Format,
    pub(super) outer: bool,
    pub(super) snaplen: u32,
    pub(super) headers_only: bool,
}

pub(super) struct PcapSink {
    settings: Settings,
    numbers: BlockNumbers,
    blocks: BlockWriter,
    dropped: Dropped,
}

impl PcapSink {
    pub(super) fn new(settings: Settings, blocks: BlockWriter, dropped: Dropped) -> Self {
        Self { settings, numbers: BlockNumbers::new(), blocks, dropped }
    }

    fn put(&mut self, frame: &Frame<'_>) {
        let Settings { format, outer, snaplen, headers_only } = self.settings;
        let (data, original) =
            if outer { (frame.outer(), frame.outer_wire_len()) } else { (frame.inner(), frame.wire_len()) };
        let here = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut captured = here.min(snaplen);
        if headers_only {
            captured = captured.min(headers_len(frame, outer));
        }
        let len = format.packet_len(captured as usize);
        let place = match format {
            Format::Pcapng => self.place(len, frame),
            Format::Pcap | Format::PcapMicros => self.blocks.push(len).map(|out| (out, 0)),
        };
        if let Some((out, interface)) = place {
            let head = PacketHead { interface, time: frame.time(), captured, original: original.max(here) };
            format.put_packet(out, head, data);
        }
    }

    /// Reserves bytes for the packet of this frame, with its origin's number in the block; `None` if it is
    /// dropped.
    fn place(&mut self, len: usize, frame: &Frame<'_>) -> Option<(&mut [u8], u32)> {
        let Self { numbers, blocks, dropped, .. } = self;
        if !blocks.make_room(len) {
            dropped.add(OriginKey::of(frame));
            return None;
        }
        let mut number = numbers.number(blocks.block()?, frame);
        if number.is_none() {
            // The block has no room for another origin.
            if !blocks.make_room_in_next(len) {
                dropped.add(OriginKey::of(frame));
                return None;
            }
            number = numbers.number(blocks.block()?, frame);
        }
        Some((blocks.block()?.push(len)?, number?))
    }
}

/// Bytes of a frame before its payload.
fn headers_len(frame: &Frame<'_>, outer: bool) -> u32 {
    let (_, layout) = frame.parts();
    let inner = headers::len(frame.inner().head(&mut HeadBuffer::default()));
    let before = if outer { layout.inner_start.into() } else { 0 };
    u32::try_from(before + inner).unwrap_or(u32::MAX)
}

impl Sink for PcapSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.blocks.begin_batch()?;
        for frame in batch {
            self.put(frame);
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        self.blocks.tick(now);
        self.dropped.deposit();
    }

    fn is_behind(&self) -> bool {
        self.blocks.is_behind()
    }

    fn flush(&mut self) {
        self.blocks.flush();
    }

    fn leave(&mut self) -> bool {
        self.dropped.deposit();
        self.blocks.leave()
    }

    fn stats(&self) -> SinkStats {
        self.blocks.stats()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let finished = self.blocks.finish();
        self.dropped.deposit();
        finished
    }
}

/// Also if the worker panics: the statistics cover every frame.
impl Drop for PcapSink {
    fn drop(&mut self) {
        self.dropped.deposit();
    }
}
