//! One complete pcap or pcapng stream: an output stream, or one file of a capture.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    compress::Encoder,
    direct::{ALIGNMENT, BUFFER, Direct, DirectWriter},
    format::{self, Format, Interface, Statistics},
    held::{HeldBlock, HeldBlocks},
    idb_table::IdbTable,
    losses::Lost,
};
use crate::{
    hidden_file::HiddenFile,
    sink::{
        origin::{OriginKey, OriginNames},
        pipe::{self, PartialWrite, Pipe},
    },
};

/// Smaller units of a file system are not worth waiting for.
const LEAST_UNIT: u64 = 64 << 10;
/// Bytes of blocks that are held for direct writes: those of two buffers that are being written, of one that
/// is not full, and of the last block.
const DIRECT_MEMORY: u64 = 7 << 20;
/// Less than this is written through the page cache.
const LEAST_DIRECT: u64 = 256 << 10;

/// Format and snap length of a capture, and what its origins are called, the same for all its parts.
pub(super) struct CaptureFormat {
    pub(super) format: Format,
    pub(super) snaplen: u32,
    pub(super) names: OriginNames,
}

/// The output of a part.
pub(super) enum PartOutput {
    File(HiddenFile),
    Stream(Pipe),
}

/// A packet in the bytes of a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PacketEnd {
    /// Offset of its end.
    pub(super) end: usize,
    /// Number of its origin in the block; 0 if the block has no origins.
    pub(super) origin: u32,
}

pub(super) struct CapturePart {
    out: PartOutput,
    encoder: Option<Encoder>,
    /// A failed write left bytes that cannot be removed, or removed bytes that later ones depend on.
    is_damaged: bool,
    /// The statistics are written, so no packets may follow.
    has_statistics: bool,
    is_ended: bool,
    interfaces: IdbTable,
    /// ns since the epoch.
    start: u64,
    /// Interfaces described so far.
    described: usize,
    /// Bytes up to the end of the last whole packet or block, before compression.
    len: u64,
    /// The same as stored in the file.
    stored: u64,
    /// Packets by interface.
    delivered: Vec<u64>,
    frames: u64,
    /// Blocks to be written together; `None` if each is written at once.
    held: Option<HeldBlocks>,
    /// The file for writes past the page cache, where its file system takes them.
    direct: Option<Arc<File>>,
}

impl CapturePart {
    /// A part with at most this many named interfaces.
    pub(super) fn new(out: PartOutput, encoder: Option<Encoder>, max_interfaces: usize) -> Self {
        Self {
            out,
            encoder,
            is_damaged: false,
            has_statistics: false,
            is_ended: false,
            interfaces: IdbTable::new(max_interfaces),
            start: now(),
            described: 0,
            len: 0,
            stored: 0,
            delivered: Vec::new(),
            frames: 0,
            held: None,
            direct: None,
        }
    }

    /// Holds blocks, at most this many bytes of them, until they fill a unit: of the file system if it has
    /// large ones, as tmpfs with huge pages, or of direct writes if it takes them.
    pub(super) fn holding(mut self, most: u64) -> Self {
        let (PartOutput::File(file), None) = (&self.out, &self.encoder) else { return self };
        let fits = |unit: &u64| (LEAST_UNIT..=most / 2).contains(unit);
        if let Some(unit) = file.unit().filter(fits) {
            self.held = Some(HeldBlocks::new(unit));
        } else if DIRECT_MEMORY <= most {
            self.direct = file
                .direct(ALIGNMENT)
                .unwrap_or_else(|error| {
                    tracing::debug!(%error, "cannot open the capture for direct writes");
                    None
                })
                .map(Arc::new);
            self.held = self.direct.is_some().then(|| HeldBlocks::new(BUFFER as u64));
        }
        self
    }

    /// Whether packets of a block with these origins can be held: nothing else is to be written before them.
    pub(super) fn may_hold(&self, origins: &[OriginKey]) -> bool {
        self.held.is_some()
            && !self.is_void()
            && !self.takes_no_more()
            && self.described == self.interfaces.len()
            && origins.iter().all(|origin| self.interfaces.has(*origin))
    }

    pub(super) fn hold(&mut self, capture: &CaptureFormat, mut block: HeldBlock) {
        let Some(held) = &mut self.held else { return };
        if capture.format == Format::Pcapng {
            let places = block.packets.iter().map(|packet| (packet.end, packet.origin));
            let (bytes, origins) = block.block.parts();
            self.interfaces.renumber(bytes, places, origins);
        }
        held.push(block);
    }

    pub(super) fn held(&self) -> Option<&HeldBlocks> {
        self.held.as_ref().filter(|held| !held.is_empty())
    }

    /// Nothing more of the blocks held will be written.
    pub(super) fn give_up_held(&mut self, capture: &CaptureFormat, direct: &mut Direct) {
        if self.direct.is_some()
            && let Some(writer) = direct.writer()
            && let Err(error) = self.wait_for_direct(capture, writer)
        {
            tracing::debug!(%error, "a direct write of the capture failed");
            // More may be in the file, after a hole.
            self.direct = None;
            self.cut(0, false);
        }
        self.cut_held();
        self.held.iter_mut().for_each(HeldBlocks::give_up);
    }

    /// Cuts off a packet that is not whole.
    fn cut_held(&mut self) {
        if let Some(held) = self.held.as_mut().filter(|held| held.torn() > 0) {
            held.cut();
            self.cut(0, false);
        }
    }

    /// Blocks that were held and of which nothing more will be written.
    pub(super) fn take_finished(&mut self, into: &mut Vec<HeldBlock>) {
        self.held.iter_mut().for_each(|held| held.take_finished(into));
    }

    /// Writes the whole units of the blocks held, or all of them. After an error the file ends with its last
    /// whole packet, and the rest is still held.
    pub(super) fn write_held(
        &mut self,
        capture: &CaptureFormat,
        all: bool,
        direct: &mut Direct,
    ) -> io::Result<()> {
        if self.held.as_ref().is_some_and(HeldBlocks::has_discarded) {
            self.give_up_held(capture, direct);
            return Ok(());
        }
        let file = self.direct.clone();
        let result = match file.as_ref().and_then(|file| Some((file, direct.writer()?))) {
            Some((file, writer)) => self.write_direct(capture, all, file, writer),
            None => self.write_through(capture, all),
        };
        if result.is_err() {
            self.cut_held();
        }
        result
    }

    /// Writes past the page cache, buffer by buffer, what fills blocks of the disk from an aligned offset on.
    /// What is before it, and with `all` the rest, goes through the page cache. Unless all is written, some
    /// of it may be in flight at the end.
    fn write_direct(
        &mut self,
        capture: &CaptureFormat,
        all: bool,
        file: &Arc<File>,
        writer: &mut DirectWriter,
    ) -> io::Result<()> {
        while let Some(held) = self.held.as_ref() {
            let (at, len) = (self.stored + held.torn(), held.bytes() - writer.in_flight());
            let at = at + writer.in_flight();
            let before = at.next_multiple_of(ALIGNMENT) - at;
            let blocks = (len.saturating_sub(before) / ALIGNMENT * ALIGNMENT).min(BUFFER as u64);
            let is_due = blocks == BUFFER as u64 || all && blocks >= LEAST_DIRECT;
            let done = if is_due && before > 0 {
                self.write_some(capture, before)?;
                continue;
            } else if is_due && writer.has_buffer() {
                if let Err(error) = writer.submit(file, &held.slices(writer.in_flight(), blocks), at) {
                    return self.end_direct(capture, all, writer, &error);
                }
                continue;
            } else if writer.in_flight() > 0 && (is_due || all) {
                Some(writer.wait())
            } else {
                writer.ended()
            };
            let Some((written, result)) = done else { break };
            self.advance(capture, written);
            if let Err(error) = result {
                return self.end_direct(capture, all, writer, &error);
            }
        }
        if all { self.write_through(capture, true) } else { Ok(()) }
    }

    /// Waits for what is in flight.
    fn wait_for_direct(&mut self, capture: &CaptureFormat, writer: &mut DirectWriter) -> io::Result<()> {
        let mut result = Ok(());
        while writer.in_flight() > 0 {
            let (written, ended) = writer.wait();
            if result.is_ok() {
                self.advance(capture, written);
                result = ended;
            }
        }
        result
    }

    /// After an error the rest goes through the page cache: a disk may be full to within a block.
    fn end_direct(
        &mut self,
        capture: &CaptureFormat,
        all: bool,
        writer: &mut DirectWriter,
        error: &io::Error,
    ) -> io::Result<()> {
        tracing::debug!(%error, "a direct write of the capture failed");
        self.direct = None;
        while writer.in_flight() > 0 {
            // Behind a hole: it does not count.
            let _ = writer.wait();
        }
        if let (Some(held), PartOutput::File(hidden)) = (&self.held, &self.out) {
            hidden.file().set_len(self.stored + held.torn())?;
        }
        self.write_through(capture, all)
    }

    /// Writes whole units, or all, through the page cache.
    fn write_through(&mut self, capture: &CaptureFormat, all: bool) -> io::Result<()> {
        let mut left = self.held.as_ref().map_or(0, |held| held.due(self.stored, all));
        while left > 0 {
            left -= self.write_some(capture, left)?;
        }
        Ok(())
    }

    /// Writes at most `len` of the next bytes through the page cache. Returns how many.
    fn write_some(&mut self, capture: &CaptureFormat, len: u64) -> io::Result<u64> {
        let (Some(held), PartOutput::File(hidden)) = (&self.held, &self.out) else { return Ok(len) };
        match hidden.file().write_vectored(&held.slices(0, len)) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => {
                self.advance(capture, more as u64);
                Ok(more as u64)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Counts bytes of the blocks held that are in the file now.
    fn advance(&mut self, capture: &CaptureFormat, bytes: u64) {
        let Self { held: Some(held), delivered, .. } = self else { return };
        let written = held.advance(bytes, |packet| {
            if let Some(number) = capture.format.interface(packet) {
                delivered[number as usize] += 1;
            }
        });
        self.frames += written.packets;
        self.len += written.bytes;
        self.stored += written.bytes;
    }

    /// Name of the output, as the user gave it.
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

    /// Whether nothing is written, not even the header.
    pub(super) fn is_void(&self) -> bool {
        self.stored == 0
    }

    pub(super) fn has_statistics(&self) -> bool {
        self.has_statistics
    }

    /// Whether no packets can follow.
    pub(super) fn takes_no_more(&self) -> bool {
        self.is_damaged || self.has_statistics || self.is_ended
    }

    /// Writes the header if it is missing.
    pub(super) fn begin(&mut self, capture: &CaptureFormat) -> io::Result<()> {
        if !self.is_void() {
            return Ok(());
        }
        if let Some(encoder) = self.encoder.as_mut().filter(|_| self.is_damaged) {
            encoder.restart()?;
            self.is_damaged = false;
        }
        let header = capture.format.file_header(capture.snaplen);
        self.append(&header)
    }

    /// Writes packets of a block with these origins, after descriptions of new interfaces. Returns how many
    /// are written: all of them unless there is an error too. An incomplete packet is then truncated.
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
        // The offset of the first byte: the end of the packet before.
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
            // Packets that were written whole stay in the file and count.
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

    /// Writes descriptions of interfaces that have none yet.
    fn describe(&mut self, capture: &CaptureFormat) -> io::Result<()> {
        let fresh = self.interfaces.from(self.described);
        if fresh.is_empty() {
            return Ok(());
        }
        let description = |origin: &Option<OriginKey>| {
            format::interface_description(
                origin.map_or(Interface::Others, Interface::Origin),
                &capture.names,
                capture.snaplen,
            )
        };
        let descriptions: Vec<u8> = fresh.iter().flat_map(description).collect();
        self.append(&descriptions)?;
        self.described = self.interfaces.len();
        self.delivered.resize(self.described, 0);
        Ok(())
    }

    /// Writes other blocks than packets.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(PartialWrite { taken, is_unclear, error }) = self.write(bytes, || false) {
            self.cut(taken, is_unclear);
            return Err(error);
        }
        self.count(bytes.len());
        Ok(())
    }

    /// Counts bytes of whole packets or blocks.
    fn count(&mut self, bytes: usize) {
        self.len += bytes as u64;
        if self.encoder.is_none() {
            self.stored += bytes as u64;
        }
    }

    /// Writes all bytes; the error has the number of bytes written.
    fn write(&mut self, bytes: &[u8], stop: impl Fn() -> bool) -> Result<(), PartialWrite> {
        let Some(encoder) = &mut self.encoder else { return self.out.write(bytes, stop) };
        if bytes.is_empty() {
            return Ok(());
        }
        // An incomplete unit cannot be decoded.
        let unit = encoder.unit(bytes).map_err(|error| PartialWrite { taken: 0, is_unclear: true, error })?;
        if let Err(partial) = self.out.write(unit, stop) {
            self.is_damaged = !encoder.has_independent_units();
            return Err(PartialWrite { taken: 0, ..partial });
        }
        self.stored += unit.len() as u64;
        Ok(())
    }

    /// Truncates the `surplus` bytes of an incomplete packet after a failed write.
    fn cut(&mut self, surplus: usize, is_unclear: bool) {
        self.is_damaged |= is_unclear;
        let cut = match &mut self.out {
            PartOutput::File(hidden) => hidden.file().set_len(self.stored),
            PartOutput::Stream(pipe) => pipe.cut(surplus),
        };
        if let Err(error) = cut {
            self.is_damaged = true;
            // A pipe cannot be truncated.
            if let PartOutput::File(hidden) = &self.out {
                tracing::warn!(
                    file = %crate::escape::path(&hidden.hidden_path()),
                    %error,
                    "cannot truncate the incomplete packet: readers will report an error at the end of the \
                    file"
                );
            }
        }
    }

    /// Appends the statistics, with losses while this part was written and, if known, in the kernel, then the
    /// end. May be called again after an error.
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

    /// Writes the end of the compressed stream.
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
        // An origin may have dropped frames and none in the file.
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
            self.append(&format::interface_description(
                Interface::NoPackets,
                &capture.names,
                capture.snaplen,
            ))?;
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
