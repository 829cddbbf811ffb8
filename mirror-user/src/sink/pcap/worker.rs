//! The sink of one worker: frames into blocks, in the form in which they end up in the file.

use std::time::Instant;

use super::{
    NAME,
    format::{Format, PacketHead},
    headers,
    interfaces::{InterfaceCache, Interfaces},
    losses::Dropped,
};
use crate::{
    batch::{Batch, Frame, HeadBuffer},
    sink::{Sink, SinkError, SinkStats, handoff::Lane, origin::OriginKey},
};

/// What a worker's sink is made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) format: Format,
    pub(super) outer: bool,
    pub(super) snaplen: u32,
    pub(super) headers_only: bool,
}

pub(super) struct PcapSink {
    settings: Settings,
    interfaces: InterfaceCache,
    lane: Lane,
    /// Frames let go since the last tick, by interface, and whether there are any.
    lost: Vec<u64>,
    has_lost: bool,
    dropped: Dropped,
}

impl PcapSink {
    pub(super) fn new(settings: Settings, interfaces: Interfaces, lane: Lane, dropped: Dropped) -> Self {
        let lost = vec![0; interfaces.numbers()];
        Self { settings, interfaces: InterfaceCache::new(interfaces), lane, lost, has_lost: false, dropped }
    }

    /// What was let go goes to the statistics.
    fn deposit(&mut self) {
        if self.has_lost {
            self.dropped.take_over(&mut self.lost);
            self.has_lost = false;
        }
    }

    fn put(&mut self, frame: &Frame<'_>) {
        let Settings { format, outer, snaplen, headers_only } = self.settings;
        let (data, original) =
            if outer { (frame.outer(), frame.outer_wire_len()) } else { (frame.inner(), frame.wire_len()) };
        let interface = match format {
            Format::Pcapng => self.interfaces.number(OriginKey::of(frame)),
            Format::Pcap => 0,
        };
        let here = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut captured = here.min(snaplen);
        if headers_only {
            captured = captured.min(headers_len(frame, outer));
        }
        let head = PacketHead { interface, time: frame.time(), captured, original: original.max(here) };
        match self.lane.push(format.packet_len(captured as usize), interface) {
            Some(out) => format.put_packet(out, head, data),
            None => {
                self.lost[interface as usize] += 1;
                self.has_lost = true;
            }
        }
    }
}

/// Bytes of a frame up to where its payload begins.
fn headers_len(frame: &Frame<'_>, outer: bool) -> u32 {
    let (_, layout) = frame.parts();
    let inner = headers::len(frame.inner().head(&mut HeadBuffer::default()));
    let before = if outer { layout.inner_start } else { 0 };
    before + u32::try_from(inner).unwrap_or(u32::MAX - before)
}

impl Sink for PcapSink {
    fn name(&self) -> &str {
        NAME
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.lane.begin_batch()?;
        for frame in batch {
            self.put(frame);
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) {
        self.lane.tick(now);
        self.deposit();
    }

    fn flush(&mut self) {
        self.lane.flush();
    }

    fn stats(&self) -> SinkStats {
        self.lane.stats()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let finished = self.lane.finish();
        self.deposit();
        finished
    }
}

/// Also when the worker dies: the statistics are about every frame that came.
impl Drop for PcapSink {
    fn drop(&mut self) {
        self.deposit();
    }
}
