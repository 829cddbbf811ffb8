//! The writer thread: whole blocks to a file or a stream, what the format wants between and after them.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    format::{self, Format, Statistics},
    interfaces::Interfaces,
};
use crate::{
    hidden_file::HiddenFile,
    sink::{
        SinkError,
        handoff::{Block, Consumer, Failure, Fate, LOSSES, Loss, Owner, Settled},
        pipe::{self, Pipe, Torn},
    },
};

/// What may become of a frame here, other than that it is written: it could not be.
pub(super) const LOSSES_HERE: &[Loss] = &[Loss::Failed("io")];

/// Where the bytes go.
pub(super) enum Output {
    File(HiddenFile),
    Stream(Pipe),
}

impl Output {
    fn name(&self) -> String {
        match self {
            Self::File(file) => file.path().display().to_string(),
            Self::Stream(pipe) => pipe.name().to_owned(),
        }
    }
}

/// What finished workers counted.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedTallies(Arc<Mutex<Tallies>>);

impl SharedTallies {
    pub(super) fn deposit(&self, tallies: &Tallies) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(tallies);
    }

    fn sum(&self) -> Tallies {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Frames per interface, for the statistics blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    /// Frames that reached the sink, by interface.
    pub(super) received: Vec<u64>,
    /// Of these, frames that were let go or lost, by interface.
    pub(super) lost: Vec<u64>,
}

impl Tallies {
    pub(super) fn new(interfaces: usize) -> Self {
        Self { received: vec![0; interfaces], lost: vec![0; interfaces] }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.received, &other.received), (&mut self.lost, &other.lost)] {
            mine.resize(mine.len().max(theirs.len()), 0);
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }
}

/// The state of the writer thread.
pub(super) struct Writer {
    output: Output,
    format: Format,
    snaplen: u32,
    interfaces: Interfaces,
    tallies: SharedTallies,
    fate: Arc<Fate>,
    /// ns since the epoch.
    start: u64,
    /// Interfaces described so far.
    described: usize,
    /// Bytes up to the end of the last whole packet or block.
    whole: u64,
    /// Frames written.
    frames: u64,
    /// Frames lost in writing, by interface.
    lost: Vec<u64>,
}

impl Writer {
    pub(super) fn new(
        output: Output,
        format: Format,
        snaplen: u32,
        interfaces: Interfaces,
        tallies: SharedTallies,
        fate: Arc<Fate>,
    ) -> Self {
        let lost = vec![0; interfaces.numbers()];
        Self {
            output,
            format,
            snaplen,
            interfaces,
            tallies,
            fate,
            start: now(),
            described: 0,
            whole: 0,
            frames: 0,
            lost,
        }
    }

    /// Describes the interfaces below a number that are not described yet.
    fn describe(&mut self, interfaces: usize) {
        if self.format != Format::Pcapng {
            return;
        }
        if self.described >= interfaces {
            return;
        }
        let description =
            |number| format::interface_description(self.interfaces.origin(number), self.snaplen);
        let descriptions: Vec<u8> = (self.described..interfaces).flat_map(description).collect();
        if self.append(&descriptions) {
            self.described = interfaces;
        }
    }

    /// Writes what is no packet; whether that worked.
    fn append(&mut self, bytes: &[u8]) -> bool {
        match self.write(bytes, || false) {
            Ok(()) => {
                self.whole += bytes.len() as u64;
                true
            }
            Err(torn) => {
                self.fail(&torn.error);
                false
            }
        }
    }

    /// Writes all of it, and says how much was taken if that does not work.
    fn write(&mut self, bytes: &[u8], stop: impl Fn() -> bool) -> Result<(), Torn> {
        match &mut self.output {
            Output::File(hidden) => pipe::write(&mut hidden.file(), bytes, stop),
            Output::Stream(pipe) => pipe.write(bytes, stop),
        }
    }

    /// Nothing more is written but, in a file, the statistics. A file loses the packet that is not whole.
    fn fail(&mut self, error: &io::Error) {
        self.fate.fail(Failure::new(self.output.name(), error, self.frames));
        if let Output::File(hidden) = &self.output
            && let Err(error) = hidden.file().set_len(self.whole)
        {
            tracing::warn!(
                file = %hidden.hidden_path().display(),
                %error,
                "cannot cut off the packet that is not whole: readers will complain at the end of the file"
            );
        }
    }

    fn append_statistics(&mut self, lost_in_kernel: u64) {
        if self.format != Format::Pcapng
            || (self.fate.has_failed() && matches!(self.output, Output::Stream(_)))
        {
            return;
        }
        let tallies = self.tallies.sum();
        // An origin may have had no frame in the file and yet some that were let go.
        let used = tallies.received.iter().rposition(|&frames| frames > 0).map_or(0, |last| last + 1);
        self.describe(used);
        let end = now();
        let statistics = |interface: usize| {
            let count = |counts: &[u64]| counts.get(interface).copied().unwrap_or(0);
            let received = count(&tallies.received);
            let lost_here = count(&tallies.lost) + count(&self.lost);
            let delivered = received.saturating_sub(lost_here);
            let statistics =
                Statistics { start: self.start, end, received, delivered, lost_here, lost_in_kernel };
            #[expect(clippy::cast_possible_truncation, reason = "the builder keeps the bound far below 2^32")]
            format::interface_statistics(interface as u32, &statistics)
        };
        let statistics: Vec<u8> = (0..self.described).flat_map(statistics).collect();
        self.append(&statistics);
    }
}

impl Consumer for Writer {
    fn begin(&mut self) {
        // If it cannot be written, the first worker to bring frames is told.
        self.append(&self.format.file_header(self.snaplen));
    }

    fn take(&mut self, block: &Block, owner: &Owner) -> Settled {
        if !owner.has_given_up() && !self.fate.has_failed() {
            self.describe(block.marks());
        }
        let (mut written, mut end) = (0, 0);
        if !owner.has_given_up() && !self.fate.has_failed() {
            let result = self.write(block.bytes(), || owner.has_given_up());
            (written, end) = match &result {
                Ok(()) => (block.frames(), block.bytes().len()),
                // Packets that made it whole stay in the file, and count.
                Err(torn) => self
                    .format
                    .packets(&block.bytes()[..torn.taken])
                    .fold((0, 0), |(frames, _), (end, _)| (frames + 1, end)),
            };
            self.whole += end as u64;
            self.frames += written;
            if let Err(torn) = result {
                self.fail(&torn.error);
            }
        }
        for (_, interface) in self.format.packets(&block.bytes()[end..]) {
            self.lost[interface as usize] += 1;
        }
        let mut lost = [0; LOSSES];
        lost[0] = block.frames() - written;
        Settled { written, lost }
    }

    fn complete(mut self, lost_in_kernel: u64) -> Result<(), SinkError> {
        self.append_statistics(lost_in_kernel);
        let completed = match &self.output {
            // Not even the header.
            Output::File(hidden) if self.whole == 0 => hidden.remove(),
            Output::File(hidden) => hidden.complete(),
            Output::Stream(_) => Ok(()),
        };
        let completed = completed.map_err(|source| SinkError::Io { what: self.output.name(), source });
        match (self.fate.failure(), completed) {
            (None, completed) => completed,
            (Some(cause), Ok(())) => Err(cause),
            (Some(cause), Err(error)) => Err(SinkError::other(format!("{cause}; then {error}"))),
        }
    }

    /// Keeps what a reader can use, under its hidden name, and nothing else.
    fn abandon(self) -> Result<(), SinkError> {
        let Output::File(hidden) = &self.output else { return Ok(()) };
        if self.frames == 0 {
            return hidden.remove().map_err(|source| SinkError::Io {
                what: hidden.hidden_path().display().to_string(),
                source,
            });
        }
        tracing::warn!(
            file = %hidden.hidden_path().display(),
            frames = self.frames,
            "the capture did not end in order: readable, but neither complete nor renamed"
        );
        Ok(())
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
