//! A capture as a source of batches.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    ops::Range,
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
};
use crate::batch::{Captured, MAX_BATCH};

/// The longest frame that is read, in bytes: libpcap's own limit, `MAXIMUM_SNAPLEN`.
pub const MAX_FRAME: usize = 256 * 1024;

/// The longest block of a pcapng that is read, in bytes.
pub const MAX_BLOCK: usize = 16 * 1024 * 1024;

/// Reads a capture, classic pcap or pcapng, as a stream.
///
/// Classic pcap in both byte orders, of µs and ns, and with Kuznetzov's "modified" records; pcapng with any number of
/// sections, of either byte order, with time resolutions and offsets, enhanced, simple and obsolete packet blocks.
/// Link types are Ethernet, and Linux cooked (`tcpdump -i any`) and raw IP, which are given an Ethernet header: the
/// hardware addresses in it are as good as the capture's.
///
/// Memory is bounded: 256 KiB, and up to 32 MiB where a pcapng holds blocks of up to [`MAX_BLOCK`].
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
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// A frame's place in the input's buffer.
#[derive(Clone, Debug)]
struct Record {
    bytes: Range<usize>,
    wire_len: u32,
    time: u64,
}

/// What a window starts with.
#[derive(Debug)]
pub(super) enum Step {
    /// Part of a record; all of it is within the limits.
    Incomplete,
    /// Something of this length that holds no frame.
    Skip { len: usize },
    /// A record of this length, with a frame.
    Frame { len: usize, packet: Packet },
}

/// A frame as its record has it.
#[derive(Debug)]
pub(super) struct Packet {
    /// Where the frame lies in the record.
    pub(super) data: Range<usize>,
    pub(super) wire_len: u32,
    pub(super) time: u64,
    pub(super) link: Link,
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

    /// Whether there is none, for now.
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
    /// Anything that may keep its reader waiting.
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
    /// Of what is no regular file (a pipe, a FIFO, a terminal) a thread does the reading, so that
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
    // To open a FIFO waits for its writer.
    let path = path.to_owned();
    Pipe::spawn(move || File::open(path)).map(Kind::Pipe)
}

impl<R: Read> CaptureReader<R> {
    /// Reads a capture from anywhere. A reader without a buffer of its own does best.
    pub fn new(reader: R) -> Self {
        Self { input: Input::new(reader), format: None, batch: ArrayVec::new() }
    }

    /// The next frames, up to `most` and [`MAX_BATCH`]; `None` at the end.
    ///
    /// Reads only when it holds no complete frame, so that what comes through a pipe is not held back to fill a batch.
    /// The batch is empty where the reader has a timeout (`TimedOut` or `WouldBlock`) and it passed.
    ///
    /// # Errors
    ///
    /// Why the capture cannot be read any further; the frames before that place have been delivered by earlier calls.
    pub fn next_batch(&mut self, most: usize) -> Result<Option<Captures<'_>>, CaptureError> {
        let most = most.clamp(1, MAX_BATCH);
        self.batch.clear();
        while self.batch.len() < most {
            match self.step() {
                Ok(Some(record)) => self.batch.push(record),
                Ok(None) => {}
                // The same place gives the same answer again, once these frames are on their way.
                Err(_) if !self.batch.is_empty() => break,
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Incomplete(what)) => {
                    let at = self.input.offset() + self.input.window().len() as u64;
                    match self.input.fill() {
                        Ok(Fill::More) => {}
                        Ok(Fill::Nothing) => break,
                        Ok(Fill::End) if self.format.is_some() && self.input.window().is_empty() => {
                            return Ok(None);
                        }
                        Ok(Fill::End) => {
                            return Err(CaptureError::CutShort { at, start: self.input.offset(), what });
                        }
                        Err(source) => return Err(CaptureError::Read { at, source }),
                    }
                }
            }
        }
        Ok(Some(Captures { buffer: self.input.buffer(), records: &self.batch }))
    }

    /// Bytes of memory held for the capture's own.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.input.buffer().len()
    }

    /// Takes what the window starts with.
    fn step(&mut self) -> Result<Option<Record>, Stop> {
        let (window, at) = (self.input.window(), self.input.offset());
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
            Step::Frame { len, packet } => {
                let start = self.input.consume(len);
                let data = start + packet.data.start..start + packet.data.end;
                // The record's own header, and before the first one the input's headroom, are free to be overwritten.
                let bytes = packet.link.make_ethernet(self.input.buffer_mut(), data);
                let wire_len = packet.link.ethernet_wire_len(packet.wire_len);
                Ok(Some(Record { bytes, wire_len, time: packet.time }))
            }
        }
    }
}

/// Why no step could be taken.
enum Stop {
    /// More bytes are needed of this.
    Incomplete(&'static str),
    Error(CaptureError),
}

impl From<CaptureError> for Stop {
    fn from(error: CaptureError) -> Self {
        Self::Error(error)
    }
}

/// Tells the format by its magic number, and how many bytes of the window that took; `None` if it takes more.
fn detect(window: &[u8]) -> Result<Option<(Format, usize)>, CaptureError> {
    let Some(magic) = window.first_chunk().map(|magic| u32::from_le_bytes(*magic)) else { return Ok(None) };
    if Pcap::knows(magic) {
        return Ok(Pcap::read_header(window)?.map(|(pcap, len)| (Format::Pcap(pcap), len)));
    }
    if PcapNg::knows(magic) {
        return Ok(Some((Format::PcapNg(PcapNg::default()), 0)));
    }
    // The first bytes of what is often found around captures, read as above, and how many of them matter.
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
