//! One whole capture: what a reader opens. A stream is one, and so is each of the files that a capture
//! rotates through.

use std::{
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    compress::Encoder,
    format::{self, Format, Interface, Statistics},
    idb_table::IdbTable,
    losses::Sums,
};
use crate::{
    hidden_file::HiddenFile,
    sink::{
        origin::OriginKey,
        pipe::{self, PartialWrite, Pipe},
    },
};

/// What all parts of a capture have in common.
pub(super) struct CaptureFormat {
    pub(super) format: Format,
    pub(super) snaplen: u32,
}

/// Where the bytes go.
pub(super) enum PartOutput {
    File(HiddenFile),
    Stream(Pipe),
}

/// A packet in the bytes of a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PacketEnd {
    /// Where it ends.
    pub(super) end: usize,
    /// Its origin, as the block numbers them; 0 where it does not.
    pub(super) origin: u32,
}

pub(super) struct CapturePart {
    out: PartOutput,
    encoder: Option<Encoder>,
    /// What was cut off is missing to all that would follow it, or could not be cut off.
    is_torn: bool,
    /// The statistics stand behind its packets, and nothing may behind its end.
    has_statistics: bool,
    is_ended: bool,
    interfaces: IdbTable,
    /// ns since the epoch.
    start: u64,
    /// IdbTable described so far.
    described: usize,
    /// Bytes up to the end of the last whole packet or block, as a reader counts them.
    len: u64,
    /// The same as they are in the file, compressed or not.
    stored: u64,
    /// Packets by interface.
    delivered: Vec<u64>,
    frames: u64,
}

/// What was lost while a part was written, by what it holds.
pub(super) enum Lost {
    /// Everybody's, or that of all who have no file of their own.
    All(Sums),
    /// One origin's.
    Of(OriginKey, u64),
}

impl CapturePart {
    /// With so many named interfaces at most.
    pub(super) fn new(out: PartOutput, encoder: Option<Encoder>, max_interfaces: usize) -> Self {
        Self {
            out,
            encoder,
            is_torn: false,
            has_statistics: false,
            is_ended: false,
            interfaces: IdbTable::new(max_interfaces),
            start: now(),
            described: 0,
            len: 0,
            stored: 0,
            delivered: Vec::new(),
            frames: 0,
        }
    }

    /// Its output, as the user knows it.
    pub(super) fn name(&self) -> String {
        match &self.out {
            PartOutput::File(file) => crate::escape::path(file.path()).to_string(),
            PartOutput::Stream(pipe) => pipe.name().to_owned(),
        }
    }

    pub(super) fn file(&self) -> Option<&HiddenFile> {
        match &self.out {
            PartOutput::File(file) => Some(file),
            PartOutput::Stream(_) => None,
        }
    }

    /// Bytes before compression.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Not even its header could be written.
    pub(super) fn is_void(&self) -> bool {
        self.stored == 0
    }

    pub(super) fn has_statistics(&self) -> bool {
        self.has_statistics
    }

    /// Nothing can follow what it has.
    pub(super) fn takes_no_more(&self) -> bool {
        self.is_torn || self.has_statistics || self.is_ended
    }

    /// Writes the header, unless it is there.
    pub(super) fn begin(&mut self, capture: &CaptureFormat) -> io::Result<()> {
        if !self.is_void() {
            return Ok(());
        }
        if let Some(encoder) = self.encoder.as_mut().filter(|_| self.is_torn) {
            encoder.restart()?;
            self.is_torn = false;
        }
        let header = capture.format.file_header(capture.snaplen);
        self.append(&header)
    }

    /// Writes packets of a block with these origins, and what must be described before them. Gives how many
    /// are written, which is all of them unless there is an error too; what is not whole is cut off then.
    pub(super) fn packets(
        &mut self,
        capture: &CaptureFormat,
        bytes: &mut [u8],
        packets: &[PacketEnd],
        origins: &[OriginKey],
        stop: impl Fn() -> bool,
    ) -> (usize, io::Result<()>) {
        if let Err(error) = self.begin(capture) {
            return (0, Err(error));
        }
        // Where the bytes begin, the packet before them ended.
        let before = packets.last().map_or(0, |last| last.end - bytes.len());
        if capture.format == Format::Pcapng {
            let places = packets.iter().map(|packet| (packet.end - before, packet.origin));
            self.interfaces.renumber(bytes, places, origins);
            if let Err(error) = self.describe(capture) {
                return (0, Err(error));
            }
        }
        let end_of = |packets: &[PacketEnd]| packets.last().map_or(0, |last| last.end - before);
        let (written, result) = match self.write(bytes, stop) {
            Ok(()) => {
                self.count(bytes.len());
                (packets.len(), Ok(()))
            }
            // Packets that made it whole stay in the file, and count.
            Err(PartialWrite { taken, is_unclear, error }) => {
                let written = packets.iter().take_while(|packet| packet.end - before <= taken).count();
                let whole = end_of(&packets[..written]);
                self.count(whole);
                self.cut(taken - whole, is_unclear);
                (written, Err(error))
            }
        };
        let written_packets = &packets[..written];
        self.frames += written as u64;
        if capture.format == Format::Pcapng {
            for packet in written_packets {
                self.delivered[self.interfaces.of_block(packet.origin) as usize] += 1;
            }
        }
        (written, result)
    }

    /// Describes the interfaces that are not described yet.
    fn describe(&mut self, capture: &CaptureFormat) -> io::Result<()> {
        let fresh = self.interfaces.from(self.described);
        if fresh.is_empty() {
            return Ok(());
        }
        let description = |origin: &Option<OriginKey>| {
            format::interface_description(
                origin.map_or(Interface::Others, Interface::Origin),
                capture.snaplen,
            )
        };
        let descriptions: Vec<u8> = fresh.iter().flat_map(description).collect();
        self.append(&descriptions)?;
        self.described = self.interfaces.len();
        self.delivered.resize(self.described, 0);
        Ok(())
    }

    /// Writes what is no packet.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(PartialWrite { taken, is_unclear, error }) = self.write(bytes, || false) {
            self.cut(taken, is_unclear);
            return Err(error);
        }
        self.count(bytes.len());
        Ok(())
    }

    /// So many bytes more are whole.
    fn count(&mut self, bytes: usize) {
        self.len += bytes as u64;
        if self.encoder.is_none() {
            self.stored += bytes as u64;
        }
    }

    /// Writes all of it, and says how much was taken if that does not work.
    fn write(&mut self, bytes: &[u8], stop: impl Fn() -> bool) -> Result<(), PartialWrite> {
        let Some(encoder) = &mut self.encoder else { return self.out.write(bytes, stop) };
        if bytes.is_empty() {
            return Ok(());
        }
        // Of a unit that is not whole nothing can be read.
        let unit = encoder.unit(bytes).map_err(|error| PartialWrite { taken: 0, is_unclear: true, error })?;
        if let Err(partial) = self.out.write(unit, stop) {
            self.is_torn = !encoder.units_stand_alone();
            return Err(PartialWrite { taken: 0, ..partial });
        }
        self.stored += unit.len() as u64;
        Ok(())
    }

    /// A write has failed, `surplus` bytes beyond what is whole: it loses those.
    fn cut(&mut self, surplus: usize, is_unclear: bool) {
        self.is_torn |= is_unclear;
        let cut = match &mut self.out {
            PartOutput::File(hidden) => hidden.file().set_len(self.stored),
            PartOutput::Stream(pipe) => pipe.cut(surplus),
        };
        if let Err(error) = cut {
            self.is_torn = true;
            // That a pipe cannot is no news.
            if let PartOutput::File(hidden) = &self.out {
                tracing::warn!(
                    file = %crate::escape::path(&hidden.hidden_path()),
                    %error,
                    "cannot cut off the packet that is not whole: readers will complain at the end of the \
                    file"
                );
            }
        }
    }

    /// Appends the statistics, given what was lost while this part was written, and in the kernel where that
    /// is known by now; and the end. Where that does not work it may be tried again.
    pub(super) fn end(
        &mut self,
        capture: &CaptureFormat,
        lost: &Lost,
        lost_in_kernel: Option<u64>,
    ) -> io::Result<()> {
        let wants_statistics = capture.format == Format::Pcapng && !self.is_void() && !self.takes_no_more();
        if wants_statistics {
            self.append_statistics(capture, lost, lost_in_kernel)?;
            self.has_statistics = true;
        }
        self.end_encoding()
    }

    /// Has what there is of it end as its compression wants it.
    pub(super) fn end_encoding(&mut self) -> io::Result<()> {
        if self.is_void() || self.is_ended {
            return Ok(());
        }
        let end = self.encoder.as_ref().map_or(&[][..], Encoder::end);
        if let Err(PartialWrite { taken, is_unclear, error }) = self.out.write(end, || false) {
            self.cut(taken, is_unclear);
            return Err(error);
        }
        self.stored += end.len() as u64;
        self.is_ended = true;
        Ok(())
    }

    fn append_statistics(
        &mut self,
        capture: &CaptureFormat,
        lost: &Lost,
        lost_in_kernel: Option<u64>,
    ) -> io::Result<()> {
        // An origin may have had no frame in the file and yet some that were dropped.
        let mut here = vec![0; self.interfaces.len()];
        let mut add = |number: u32, frames| {
            let number = number as usize;
            here.resize(here.len().max(number + 1), 0);
            here[number] += frames;
        };
        match lost {
            Lost::All(sums) => {
                sums.by_origin().for_each(|(origin, frames)| add(self.interfaces.number(origin), frames));
                if sums.rest() > 0 {
                    add(self.interfaces.rest(), sums.rest());
                }
            }
            Lost::Of(_, 0) => {}
            Lost::Of(origin, frames) => add(self.interfaces.number(*origin), *frames),
        }
        self.describe(capture)?;
        if self.described == 0 {
            self.append(&format::interface_description(Interface::Nobody, capture.snaplen))?;
            (self.described, self.delivered, here) = (1, vec![0], vec![0]);
        }
        let end = now();
        let counts = self.delivered.iter().zip(here).enumerate();
        let statistics = |(interface, (&delivered, lost_here))| {
            let statistics = Statistics { start: self.start, end, delivered, lost_here, lost_in_kernel };
            #[expect(clippy::cast_possible_truncation, reason = "the builder keeps the bound far below 2^32")]
            format::interface_statistics(interface as u32, &statistics)
        };
        let statistics: Vec<u8> = counts.flat_map(statistics).collect();
        self.append(&statistics)
    }
}

impl PartOutput {
    fn write(&mut self, bytes: &[u8], stop: impl Fn() -> bool) -> Result<(), PartialWrite> {
        match self {
            Self::File(hidden) => pipe::write(&mut hidden.file(), bytes, stop),
            Self::Stream(pipe) => pipe.write(bytes, stop),
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
