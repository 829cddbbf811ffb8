//! The writer thread: writes packets of blocks to a stream or to files.

use std::sync::Arc;

use super::{
    files::{Fault, Files, RunEnd},
    format::Format,
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
        if let CaptureOutput::Files(files) = &mut self.output
            && let Err(fault) = files.rotate_if_due(&self.capture, &self.losses)
        {
            self.fail(fault);
        }
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

    /// Writes the packets of a block. Returns how many.
    fn write(&mut self, block: &mut Block, block_return: &BlockReturn) -> u64 {
        if self.split.is_some() {
            return self.write_sorted(block);
        }
        let Self { output, capture, losses, packets, .. } = self;
        let (bytes, origins) = block.parts();
        let (written, fault) = match output {
            CaptureOutput::Stream(part) => {
                let (written, result) =
                    part.packets(capture, bytes, packets, origins, || block_return.is_discarded());
                (written, result.err().map(|error| Fault::new(part.name(), error)))
            }
            CaptureOutput::Files(files) => {
                let (written, result) = files.packets(0, capture, bytes, packets, origins, losses);
                (written, result.err())
            }
        };
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

    fn take(&mut self, block: &mut Block, block_return: &BlockReturn) -> Outcome {
        self.rotate_if_due();
        self.packets.clear();
        let found = self.blocks.packets(block.bytes());
        self.packets.extend(found.map(|(end, origin)| PacketEnd { end, origin }));
        let written = if block_return.is_discarded() || self.waiting.is_paused() {
            self.count_lost(0, block.parts().1);
            0
        } else {
            self.write(block, block_return)
        };
        let mut lost = [0; LOSSES];
        if let CaptureOutput::Files(files) = &mut self.output {
            lost[AFTER_LAST] = files.take_after_last();
        }
        let rest = block.frames() - written - lost[AFTER_LAST];
        lost[if self.waiting.charge(rest) { WAITED } else { IO }] = rest;
        Outcome { written, lost }
    }

    fn idle(&mut self) {
        self.rotate_if_due();
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

    fn abandon(self) -> Result<(), SinkError> {
        match &self.output {
            CaptureOutput::Stream(_) => Ok(()),
            CaptureOutput::Files(files) => files.abandon(),
        }
    }
}
