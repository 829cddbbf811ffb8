//! The writer thread: writes packets of blocks to a stream or to files.

use std::{sync::Arc, time::Instant};

use super::{
    files::{Fault, Files, RunEnd},
    format::Format,
    held::HeldBlock,
    losses::{Losses, Lost},
    part::{CaptureFormat, CapturePart, PacketEnd},
    split::Split,
};
use crate::sink::{
    SinkError,
    handoff::{
        Block, BlockReturn, Consumer, Failure, LOSSES, Loss, NO_SPACE, Outcome, OutputState, Waiting,
        may_pass,
    },
    origin::OriginKey,
};

/// Why a frame is not written: an error, a wait, or the end of the last file.
pub(super) const LOSSES_HERE: &[Loss] =
    &[Loss::Failed("io"), Loss::Dropped(NO_SPACE), Loss::Dropped("after_last_file")];
const IO: usize = 0;
const WAITED: usize = 1;
const AFTER_LAST: usize = 2;

/// The output of a capture.
pub(super) enum CaptureOutput {
    Stream(Box<CapturePart>),
    Files(Box<Files>),
}

/// The state of the writer thread.
pub(super) struct Writer {
    output: CaptureOutput,
    capture: CaptureFormat,
    /// Layout of the packets in blocks.
    blocks: Format,
    /// Losses, for the statistics; classic files have none.
    losses: Losses,
    state: Arc<OutputState>,
    waiting: Waiting,
    /// Bytes that did not fit at the last attempt.
    lacks: u64,
    /// Frames written.
    frames: u64,
    /// The packets of a block.
    packets: Vec<PacketEnd>,
    /// Lists of packets for the next blocks.
    spare: Vec<Vec<PacketEnd>>,
    /// Sorts them, with a file per origin.
    split: Option<Split>,
    /// By the numbers of the current block: packets of an origin, and its series of files.
    counts: Vec<usize>,
    series_of: Vec<usize>,
}

impl Writer {
    pub(super) fn new(
        output: CaptureOutput,
        capture: CaptureFormat,
        blocks: Format,
        losses: Losses,
        state: Arc<OutputState>,
    ) -> Self {
        let split = match &output {
            CaptureOutput::Files(files) => {
                files.origins().map(|origins| Split::new(capture.format, origins.series()))
            }
            CaptureOutput::Stream(_) => None,
        };
        Self {
            output,
            capture,
            blocks,
            losses,
            waiting: Waiting::new(Arc::clone(&state)),
            state,
            lacks: 0,
            frames: 0,
            packets: Vec::new(),
            spare: Vec::new(),
            split,
            counts: Vec::new(),
            series_of: Vec::new(),
        }
    }

    /// Begins a wait, or ends the output; files still get their statistics.
    fn fail(&mut self, fault: Fault) {
        let waits = match &self.output {
            CaptureOutput::Files(files) => files.waits_after(&fault),
            CaptureOutput::Stream(part) => may_pass(&fault.error) && !part.takes_no_more(),
        };
        let Fault { what, error, lacks } = fault;
        if waits {
            self.lacks = lacks;
            self.waiting.wait_after(&what, &error);
        } else {
            self.state.fail(Failure::new(what, &error, self.frames));
        }
    }

    /// The output accepts packets.
    fn succeed(&mut self) {
        if self.waiting.is_on() {
            let what = match &self.output {
                CaptureOutput::Stream(part) => part.name(),
                CaptureOutput::Files(files) => files.name(),
            };
            self.waiting.end(&what);
        }
    }

    fn rotate_if_due(&mut self) {
        if self.waiting.is_paused() {
            return;
        }
        if let CaptureOutput::Files(files) = &mut self.output {
            let rotated = files.rotate_if_due(&self.capture, &self.losses);
            self.settle(rotated);
        }
    }

    /// Counts what became of blocks that files held, and returns them.
    fn settle(&mut self, result: Result<(), Fault>) {
        if let CaptureOutput::Files(files) = &self.output {
            // An error tells how many were written before it.
            self.frames += files.finished_packets();
        }
        if let Err(fault) = result {
            self.fail(fault);
        }
        while let CaptureOutput::Files(files) = &mut self.output
            && let Some(block) = files.take_finished()
        {
            self.give_back(block);
        }
    }

    /// Counts what became of a block, and returns it.
    fn give_back(&mut self, block: HeldBlock) {
        let HeldBlock { mut block, block_return, packets, written, .. } = block;
        self.packets = packets;
        self.count_lost(written, block.parts().1);
        let outcome = self.outcome(&block, written as u64);
        block_return.give_back(block, outcome);
        self.spare.push(std::mem::take(&mut self.packets));
    }

    /// The outcome of a block of which this many packets are written.
    fn outcome(&mut self, block: &Block, written: u64) -> Outcome {
        let mut lost = [0; LOSSES];
        if let CaptureOutput::Files(files) = &mut self.output {
            lost[AFTER_LAST] = files.take_after_last();
        }
        let rest = block.frames() - written - lost[AFTER_LAST];
        lost[if self.waiting.charge(rest) { WAITED } else { IO }] = rest;
        Outcome { written, lost }
    }

    /// Checks without a packet whether the wait is over.
    fn check_room(&mut self) {
        // A stream can be tried with a packet only.
        let CaptureOutput::Files(files) = &mut self.output else { return };
        match files.has_room(&self.capture, self.lacks) {
            Ok(true) => self.succeed(),
            Ok(false) => {}
            Err(fault) => self.fail(fault),
        }
    }

    /// Writes the packets of a block to a stream or, with a file per origin, sorted. Returns how many.
    fn write(&mut self, block: &mut Block, block_return: &BlockReturn) -> u64 {
        if self.split.is_some() {
            return self.write_sorted(block);
        }
        let Self { output, capture, packets, .. } = self;
        let CaptureOutput::Stream(part) = output else { return 0 };
        let (bytes, origins) = block.parts();
        let (written, result) =
            part.packets(capture, bytes, packets, origins, || block_return.is_discarded());
        let fault = result.err().map(|error| Fault::new(part.name(), error));
        self.account(written, fault, origins)
    }

    /// Writes each origin's packets to its own series of files.
    fn write_sorted(&mut self, block: &mut Block) -> u64 {
        let (bytes, origins) = block.parts();
        let fault = self.find_series(origins);
        let Self { output, capture, losses, packets, split, series_of, .. } = self;
        let (CaptureOutput::Files(files), Some(split)) = (output, split) else { return 0 };
        if let Err(fault) = fault {
            return self.account(0, Some(fault), origins);
        }
        split.sort(bytes, packets, series_of);
        let (mut written, mut fault) = (0, None);
        // Collects the packets that are lost, to count them.
        packets.clear();
        for number in 0..split.len() {
            let (series, bytes, sorted) = split.segment(number);
            let mut done = 0;
            if fault.is_none() {
                let result;
                (done, result) = files.packets(series, capture, bytes, sorted, origins, losses);
                fault = result.err();
            }
            written += done;
            packets.extend(&sorted[done..]);
        }
        self.count_lost(0, origins);
        self.packets.clear();
        self.account(written, fault, origins)
    }

    /// Finds the series of each origin of a block; completes files of origins that lose theirs.
    fn find_series(&mut self, origins: &[OriginKey]) -> Result<(), Fault> {
        let Self { output, capture, losses, packets, counts, series_of, .. } = self;
        let CaptureOutput::Files(files) = output else { return Ok(()) };
        counts.clear();
        counts.resize(origins.len(), 0);
        packets.iter().for_each(|packet| counts[packet.origin as usize] += 1);
        files.find_series(capture, origins, counts, series_of, losses)
    }

    /// Counts the first `written` packets of a block as written and the others as lost.
    fn account(&mut self, written: usize, fault: Option<Fault>, origins: &[OriginKey]) -> u64 {
        self.count_lost(written, origins);
        self.frames += written as u64;
        match fault {
            Some(fault) => self.fail(fault),
            None => self.succeed(),
        }
        written as u64
    }

    /// Counts the packets from this one on as lost.
    fn count_lost(&self, from: usize, origins: &[OriginKey]) {
        for packet in &self.packets[from.min(self.packets.len())..] {
            if let Some(origin) = origins.get(packet.origin as usize) {
                self.losses.add(*origin, 1);
            }
        }
    }
}

impl Consumer for Writer {
    fn begin(&mut self) {
        // A fault is returned to the first worker that sends frames.
        let begun = match &mut self.output {
            CaptureOutput::Stream(part) => {
                part.begin(&self.capture).map_err(|error| Fault::new(part.name(), error))
            }
            CaptureOutput::Files(files) => files.begin(&self.capture),
        };
        if let Err(fault) = begun {
            self.fail(fault);
        }
    }

    fn take(&mut self, mut block: Block, block_return: Arc<BlockReturn>) {
        self.rotate_if_due();
        self.packets.clear();
        let found = self.blocks.packets(block.bytes());
        self.packets.extend(found.map(|(end, origin)| PacketEnd { end, origin }));
        if block_return.is_discarded() || self.waiting.is_paused() {
            self.count_lost(0, block.parts().1);
        } else if let CaptureOutput::Files(files) = &mut self.output
            && self.split.is_none()
        {
            let packets = std::mem::replace(&mut self.packets, self.spare.pop().unwrap_or_default());
            let block = HeldBlock::new(block, block_return, packets);
            let written = files.block(&self.capture, block, &self.losses);
            if written.is_ok() {
                self.succeed();
            }
            self.settle(written);
            return;
        } else {
            let written = self.write(&mut block, &block_return);
            let outcome = self.outcome(&block, written);
            block_return.give_back(block, outcome);
            return;
        }
        let outcome = self.outcome(&block, 0);
        block_return.give_back(block, outcome);
    }

    fn due(&self) -> Option<Instant> {
        match &self.output {
            CaptureOutput::Files(files) => files.held_until(),
            CaptureOutput::Stream(_) => None,
        }
    }

    fn idle(&mut self) {
        self.rotate_if_due();
        if let CaptureOutput::Files(files) = &mut self.output {
            let written = files.write_all_held(&self.capture);
            self.settle(written);
        }
        if self.waiting.is_on() && !self.waiting.is_paused() {
            self.check_room();
        }
        self.waiting.log_left_out();
    }

    fn complete(mut self, lost_in_kernel: u64) -> Result<(), SinkError> {
        if self.waiting.is_on() && !self.state.has_failed() {
            self.check_room();
        }
        let cause = self.state.failure();
        let has_failed = cause.is_some() || self.waiting.is_on();
        let (capture, losses) = (&self.capture, &self.losses);
        let ended = match &mut self.output {
            CaptureOutput::Stream(_) if has_failed => Ok(()),
            CaptureOutput::Stream(part) => part
                .end(capture, &Lost::All(losses.take()), Some(lost_in_kernel))
                .map_err(|error| Fault::new(part.name(), error)),
            CaptureOutput::Files(files) => {
                files.complete(capture, losses, RunEnd { lost_in_kernel, has_failed })
            }
        };
        match (cause, ended) {
            (None, Ok(())) => Ok(()),
            (None, Err(fault)) => {
                self.fail(fault);
                self.state.failure().map_or(Ok(()), Err)
            }
            (Some(cause), Ok(())) => Err(cause),
            (Some(cause), Err(Fault { what, error, .. })) => {
                Err(SinkError::other(format!("{cause}; then {what}: {error}")))
            }
        }
    }

    fn abandon(mut self) -> Result<(), SinkError> {
        let CaptureOutput::Files(files) = &mut self.output else { return Ok(()) };
        let written = files.write_all_held(&self.capture);
        files
            .abandon()
            .and(written.map_err(|Fault { what, error, .. }| SinkError::Io { what, source: error }))
    }
}
