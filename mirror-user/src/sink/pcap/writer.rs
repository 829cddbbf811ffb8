//! The writer thread: packets of whole blocks to a stream, or to the files that they belong to.

use std::sync::Arc;

use super::{
    files::{Fault, Files, RunEnd},
    format::Format,
    losses::Losses,
    names::Of,
    part::{Form, Packet, Part},
    split::Split,
};
use crate::sink::{
    SinkError,
    handoff::{Block, Consumer, Failure, Fate, LOSSES, Loss, Owner, Settled},
};

/// What may become of a frame here, other than that it is written: it could not be.
pub(super) const LOSSES_HERE: &[Loss] = &[Loss::Failed("io")];

/// Where the packets go.
pub(super) enum Output {
    Stream(Box<Part>),
    Files(Box<Files>),
}

/// The state of the writer thread.
pub(super) struct Writer {
    output: Output,
    form: Form,
    /// Layout of the packets in blocks.
    blocks: Format,
    losses: Losses,
    fate: Arc<Fate>,
    /// Frames written.
    frames: u64,
    /// The packets of a block.
    packets: Vec<Packet>,
    /// Sorts them where each origin has a file.
    split: Option<Split>,
}

impl Writer {
    pub(super) fn new(output: Output, form: Form, blocks: Format, losses: Losses, fate: Arc<Fate>) -> Self {
        let split = match &output {
            Output::Files(files) => files.origins().map(|origins| Split::new(form.format, origins)),
            Output::Stream(_) => None,
        };
        Self { output, form, blocks, losses, fate, frames: 0, packets: Vec::new(), split }
    }

    /// Nothing more is written but, in files, the statistics.
    fn fail(&self, fault: Fault) {
        let Fault { what, error } = fault;
        self.fate.fail(Failure::new(what, &error, self.frames));
    }

    fn turn(&mut self) {
        if let Output::Files(files) = &mut self.output
            && !self.fate.has_failed()
            && let Err(fault) = files.turn(&self.form, |interface| self.losses.since_last(interface))
        {
            self.fail(fault);
        }
    }

    /// Writes the packets of a block. Gives how many.
    fn write(&mut self, block: &Block, owner: &Owner) -> u64 {
        let Self { output, form, losses, packets, split, .. } = self;
        let (files, split) = match (output, split) {
            (Output::Stream(part), _) => {
                let (written, result) =
                    part.packets(form, block.bytes(), packets, block.marks(), || owner.has_given_up());
                let fault = result.err().map(|error| Fault { what: part.name(), error });
                return self.account(written, fault);
            }
            (Output::Files(files), None) => {
                let lost = |interface| losses.since_last(interface);
                let (written, result) = files.packets(0, form, block.bytes(), packets, block.marks(), lost);
                return self.account(written, result.err());
            }
            (Output::Files(files), Some(split)) => (files, split),
        };
        split.sort(block.bytes(), packets);
        let (mut written, mut fault) = (0, None);
        // Those that are lost are left here, to be counted.
        packets.clear();
        for segment in split.segments() {
            let (bytes, sorted) = split.contents(segment);
            let mut done = 0;
            if fault.is_none() {
                let of = form.interfaces.origin(segment.base).filter(|_| segment.base < split.origins());
                let series = files.series_of(segment.base, of.map_or(Of::Other, Of::Origin));
                let lost = |interface| losses.since_last(interface);
                let result;
                (done, result) = files.packets(series, form, bytes, sorted, block.marks(), lost);
                fault = result.err();
            }
            written += done;
            packets.extend(&sorted[done..]);
        }
        let lost = std::mem::take(&mut self.packets);
        lost.iter().for_each(|packet| self.losses.add_failed(packet.interface));
        self.packets = lost;
        self.packets.clear();
        self.account(written, fault)
    }

    /// So many packets, from the first on, are written; the others of the block are lost.
    fn account(&mut self, written: usize, fault: Option<Fault>) -> u64 {
        for packet in self.packets.iter().skip(written) {
            self.losses.add_failed(packet.interface);
        }
        self.frames += written as u64;
        if let Some(fault) = fault {
            self.fail(fault);
        }
        written as u64
    }
}

impl Consumer for Writer {
    fn begin(&mut self) {
        // If it cannot be written, the first worker to bring frames is told.
        let begun = match &mut self.output {
            Output::Stream(part) => {
                part.begin(&self.form).map_err(|error| Fault { what: part.name(), error })
            }
            Output::Files(files) => files.begin(&self.form),
        };
        if let Err(fault) = begun {
            self.fail(fault);
        }
    }

    fn take(&mut self, block: &Block, owner: &Owner) -> Settled {
        self.turn();
        self.packets.clear();
        let found = self.blocks.packets(block.bytes());
        self.packets.extend(found.map(|(end, interface)| Packet { end, interface }));
        let gave_up = owner.has_given_up() || self.fate.has_failed();
        let written = if gave_up { self.account(0, None) } else { self.write(block, owner) };
        let mut lost = [0; LOSSES];
        lost[0] = block.frames() - written;
        Settled { written, lost }
    }

    fn idle(&mut self) {
        self.turn();
    }

    fn complete(mut self, lost_in_kernel: u64) -> Result<(), SinkError> {
        let cause = self.fate.failure();
        let form = &self.form;
        let lost = |interface| self.losses.since_last(interface);
        let ended = match &mut self.output {
            Output::Stream(_) if cause.is_some() => Ok(()),
            Output::Stream(part) => {
                part.end(form, lost, Some(lost_in_kernel)).map_err(|error| Fault { what: part.name(), error })
            }
            Output::Files(files) => {
                files.complete(form, lost, RunEnd { lost_in_kernel, has_failed: cause.is_some() })
            }
        };
        match (cause, ended) {
            (None, Ok(())) => Ok(()),
            (None, Err(fault)) => {
                self.fail(fault);
                self.fate.failure().map_or(Ok(()), Err)
            }
            (Some(cause), Ok(())) => Err(cause),
            (Some(cause), Err(Fault { what, error })) => {
                Err(SinkError::other(format!("{cause}; then {what}: {error}")))
            }
        }
    }

    fn abandon(self) -> Result<(), SinkError> {
        match &self.output {
            Output::Stream(_) => Ok(()),
            Output::Files(files) => files.abandon(),
        }
    }
}
