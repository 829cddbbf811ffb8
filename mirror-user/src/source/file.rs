//! A capture as a source of batches.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::Path,
};

use arrayvec::ArrayVec;

use super::{
    error::CaptureError,
    input::{Fill, Input},
    link::Link,
    pcap::Pcap,
    pcapng::PcapNg,
    pipe::Pipe,
    record::{Packet, Record, Step},
    unpack::Damage,
};
use crate::frame::{Captured, MAX_BATCH};

/// Reads a capture, classic pcap or pcapng, as a stream.
///
/// Classic pcap in both byte orders, of µs and ns, and with Kuznetzov's "modified" records; pcapng with any
/// number of sections, of either byte order, with time resolutions and offsets, enhanced, simple and obsolete
/// packet blocks. Link types are Ethernet, and Linux cooked (`tcpdump -i any`), BSD loopback and raw IP,
/// which are given an Ethernet header, with hardware addresses as far as the capture has them. Packets of
/// other link types are counted, and so are malformed packets and blocks that can be skipped: see [`Unread`].
///
/// Captures compressed with gzip, or with Zstandard if the feature `zstd` is on, are unpacked as they are
/// read. They are recognised by their first bytes, not by name, and may have any number of members or frames.
///
/// Memory is bounded: 256 KiB; up to 32 MiB for a pcapng with blocks of up to
/// [`MAX_BLOCK`](super::MAX_BLOCK); up to 8 MiB for the interfaces of its section and the link types that are
/// not read; for compressed captures 64 KiB more, and a window of 32 KiB with gzip, of up to 128 MiB with
/// Zstandard, as `zstd -d` has.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), mirror_user::source::CaptureError> {
/// let mut reader = mirror_user::source::CaptureReader::open("mirror.pcap")?;
/// while let Some(captures) = reader.next_batch(64)? {
///     for captured in captures.iter() {
///         println!("{} ns: {} bytes", captured.time(), captured.len());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CaptureReader<R> {
    input: Input<R>,
    format: Option<Format>,
    batch: ArrayVec<Record, MAX_BATCH>,
    /// Bytes of a record that is skipped and that are still to be read.
    passing_over: usize,
    /// What was skipped by a length that may be wrong, until the following bytes show whether it is.
    doubt: Option<Doubt>,
    packets: u64,
    unread: Unread,
}

/// What a capture holds that was not lent as a frame. It does not cover what follows the place of an error.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Unread {
    /// Packets of unsupported link types, by the number of the link type (tcpdump.org, "Link-layer header
    /// types").
    pub link_types: BTreeMap<u16, u64>,
    /// Malformed packets and blocks, which were skipped.
    pub broken: u64,
    /// What was wrong with the first of these.
    pub first_broken: Option<CaptureError>,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// What was skipped by a doubtful length.
#[derive(Debug)]
struct Doubt {
    /// Where it starts.
    start: u64,
    error: CaptureError,
    is_loss: bool,
}

impl Unread {
    fn add_broken(&mut self, error: CaptureError) {
        self.broken += 1;
        self.first_broken.get_or_insert(error);
    }

    /// Packets of unsupported link types.
    #[must_use]
    pub fn of_link_types(&self) -> u64 {
        self.link_types.values().sum()
    }
}

/// Frames lent by a reader until it is asked for more.
#[derive(Clone, Copy, Debug)]
pub struct Captures<'a> {
    buffer: &'a [u8],
    records: &'a [Record],
}

impl<'a> Captures<'a> {
    /// The frames, in the order of the capture.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Captured<'a>> + use<'a> {
        let buffer = self.buffer;
        self.records
            .iter()
            .map(move |record| Captured::new(&buffer[record.bytes.clone()], record.wire_len, record.time))
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no frame, for now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// A capture opened by name.
#[derive(Debug)]
pub struct CaptureFile(Kind);

#[derive(Debug)]
enum Kind {
    Regular(File),
    /// Anything whose reads may block.
    Pipe(Pipe),
}

impl Read for CaptureFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Regular(file) => file.read(buffer),
            Kind::Pipe(pipe) => pipe.read(buffer),
        }
    }
}

impl CaptureReader<CaptureFile> {
    /// Opens a capture file, or standard input for `-`.
    ///
    /// A thread reads what is not a regular file (a pipe, a FIFO, a terminal), so that
    /// [`next_batch`](Self::next_batch) returns at least every 50 ms.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let path = path.as_ref();
        let kind =
            if path == Path::new("-") { Pipe::spawn(|| Ok(io::stdin())).map(Kind::Pipe) } else { open(path) };
        kind.map(|kind| Self::new(CaptureFile(kind))).map_err(CaptureError::Open)
    }

    /// Reads a regular file that is open already.
    pub(crate) fn of_file(file: File) -> Self {
        Self::new(CaptureFile(Kind::Regular(file)))
    }
}

fn open(path: &Path) -> io::Result<Kind> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if metadata.is_file() {
        return File::open(path).map(Kind::Regular);
    }
    // Opening a FIFO blocks until it has a writer.
    let path = path.to_owned();
    Pipe::spawn(move || File::open(path)).map(Kind::Pipe)
}

impl<R: Read> CaptureReader<R> {
    /// Reads a capture from any reader, best an unbuffered one.
    pub fn new(reader: R) -> Self {
        Self {
            input: Input::new(reader),
            format: None,
            batch: ArrayVec::new(),
            passing_over: 0,
            doubt: None,
            packets: 0,
            unread: Unread::default(),
        }
    }

    /// The next frames, up to `most` and [`MAX_BATCH`]; `None` at the end.
    ///
    /// Reads only when it holds no complete frame, so that frames from a pipe are not held back to fill a
    /// batch. The batch is empty if the reader timed out (`TimedOut` or `WouldBlock`), or if much was
    /// unpacked or skipped that holds no frame.
    ///
    /// # Errors
    ///
    /// Why the capture cannot be read any further; the frames before that place have been delivered by
    /// earlier calls.
    pub fn next_batch(&mut self, most: usize) -> Result<Option<Captures<'_>>, CaptureError> {
        /// Records and blocks without a frame that are skipped before control returns to the caller.
        const PATIENCE: usize = 4096;
        let most = most.clamp(1, MAX_BATCH);
        self.batch.clear();
        let mut passed_over = 0;
        while self.batch.len() < most && passed_over < PATIENCE {
            match self.step() {
                Ok(Some(record)) => self.batch.push(record),
                Ok(None) => passed_over += 1,
                // The next call has the same error, after these frames were lent.
                Err(_) if !self.batch.is_empty() => break,
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Incomplete(what)) => {
                    let at = self.input.offset() + self.input.window().len() as u64;
                    match self.input.fill() {
                        Ok(Fill::More) => {}
                        Ok(Fill::Nothing) => break,
                        Ok(Fill::End) => return self.end(at, what).map(|()| None),
                        Err(source) => return Err(self.failed(at, source)),
                    }
                }
            }
        }
        self.packets += self.batch.len() as u64;
        Ok(Some(Captures { buffer: self.input.buffer(), records: &self.batch }))
    }

    /// Packets so far: frames that were lent, and packets of unsupported link types.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// What was not lent so far.
    #[must_use]
    pub fn unread(&self) -> &Unread {
        &self.unread
    }

    /// What was not lent, at the end of the capture.
    #[must_use]
    pub fn into_unread(self) -> Unread {
        self.unread
    }

    /// `gzip` or `zstd` if the capture is compressed with it, once its first bytes have been read.
    #[must_use]
    pub fn compression(&self) -> Option<&'static str> {
        self.input.compression()
    }

    /// Bytes of memory held for the capture.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.input.buffer().len()
    }

    /// The stream ends at byte `at`: cut short within `what`, unless nothing has begun there.
    fn end(&mut self, at: u64, what: &'static str) -> Result<(), CaptureError> {
        let nothing_begun = self.input.window().is_empty() && self.passing_over == 0;
        match self.doubt.take() {
            Some(Doubt { start, is_loss: false, .. }) if !nothing_begun => {
                return Err(CaptureError::CutShort { at, start, what });
            }
            Some(doubt) if !nothing_begun => return Err(doubt.error),
            Some(doubt) => self.settle(doubt),
            None => {}
        }
        match (&self.format, nothing_begun) {
            (Some(_), true) => Ok(()),
            (None, true) => Err(CaptureError::Empty),
            (_, false) => Err(CaptureError::CutShort { at, start: self.input.offset(), what }),
        }
    }

    /// Reading failed after byte `at`.
    fn failed(&self, at: u64, source: io::Error) -> CaptureError {
        match self.input.damage() {
            Some(Damage { tool, packed_at }) => CaptureError::Packed { tool, at, packed_at, source },
            None => CaptureError::Read { at, source },
        }
    }

    /// The doubtful length was right.
    fn settle(&mut self, doubt: Doubt) {
        if doubt.is_loss {
            self.unread.add_broken(doubt.error);
        }
    }

    /// Processes what the window starts with.
    fn step(&mut self) -> Result<Option<Record>, Stop> {
        if self.passing_over > 0 {
            let now = self.passing_over.min(self.input.window().len());
            self.input.consume(now);
            self.passing_over -= now;
        }
        if self.passing_over > 0 {
            return Err(Stop::Incomplete("record"));
        }
        let (window, at) = (self.input.window(), self.input.offset());
        if self.doubt.is_some() {
            let plausible = match &self.format {
                None => Some(true),
                Some(Format::Pcap(pcap)) => pcap.is_plausible(window),
                Some(Format::PcapNg(section)) => section.is_plausible(window),
            };
            let plausible = plausible.ok_or(Stop::Incomplete("record"))?;
            // Not before the frames in front of it are lent.
            if let Some(doubt) = self.doubt.take_if(|_| plausible || self.batch.is_empty()) {
                if !plausible {
                    return Err(doubt.error.into());
                }
                self.settle(doubt);
            } else {
                return Err(Stop::Incomplete("record"));
            }
            return Ok(None);
        }
        let (step, what) = match &mut self.format {
            None => {
                let (format, len) = detect(window)?.ok_or(Stop::Incomplete("file header"))?;
                self.format = Some(format);
                (Step::Skip { len }, "")
            }
            Some(Format::Pcap(pcap)) => (pcap.step(window, at)?, "record"),
            Some(Format::PcapNg(section)) => (section.step(window, at)?, "block"),
        };
        match step {
            Step::Incomplete => Err(Stop::Incomplete(what)),
            Step::Skip { len } => {
                self.input.consume(len);
                Ok(None)
            }
            Step::Broken { len, error } => {
                self.input.consume(len);
                self.unread.add_broken(error);
                Ok(None)
            }
            Step::Unsure { len, error, is_loss } => {
                self.passing_over = len;
                self.doubt = Some(Doubt { start: at, error, is_loss });
                Ok(None)
            }
            Step::Packet { len, packet } => Ok(self.take(len, packet)),
        }
    }

    /// Consumes a record of this length, and returns its packet if the link type is supported.
    fn take(&mut self, len: usize, packet: Packet) -> Option<Record> {
        let Packet { data, wire_len, time, link_type } = packet;
        let start = self.input.consume(len);
        let Some(link) = Link::from_number(link_type) else {
            *self.unread.link_types.entry(link_type).or_default() += 1;
            self.packets += 1;
            return None;
        };
        // The record's own header, and before the first one the input's headroom, are free to be overwritten.
        let bytes = link.make_ethernet(self.input.buffer_mut(), start + data.start..start + data.end);
        Some(Record { bytes, wire_len: link.ethernet_wire_len(wire_len), time })
    }
}

/// Why no step could be taken.
enum Stop {
    /// More bytes of this are needed.
    Incomplete(&'static str),
    Error(CaptureError),
}

impl From<CaptureError> for Stop {
    fn from(error: CaptureError) -> Self {
        Self::Error(error)
    }
}

/// Recognises the format by its magic number, with the length of the file header; `None` if more bytes are
/// needed.
fn detect(window: &[u8]) -> Result<Option<(Format, usize)>, CaptureError> {
    let Some(magic) = window.first_chunk().map(|magic| u32::from_le_bytes(*magic)) else { return Ok(None) };
    if Pcap::knows(magic) {
        return Ok(Pcap::read_header(window)?.map(|(pcap, len)| (Format::Pcap(pcap), len)));
    }
    if PcapNg::knows(magic) {
        return Ok(Some((Format::PcapNg(PcapNg::default()), 0)));
    }
    // First bytes of common compressed formats, read as above, and a mask. Those that are unpacked are here
    // too: they were compressed twice.
    let compressed = [
        ("gzip", 0x8b1f, 0xffff),
        ("xz", 0x587a_37fd, u32::MAX),
        ("zstd", 0xfd2f_b528, u32::MAX),
        ("bzip2", 0x0068_5a42, 0x00ff_ffff),
        ("lz4", 0x184d_2204, u32::MAX),
    ];
    match compressed.into_iter().find(|(_, start, mask)| magic & mask == *start) {
        Some((tool, ..)) => Err(CaptureError::Compressed { tool }),
        None => Err(CaptureError::UnknownFormat(magic.swap_bytes())),
    }
}
