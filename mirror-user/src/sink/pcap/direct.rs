//! Writes past the page cache (`O_DIRECT`), by a thread of its own: while it writes one buffer, the next is
//! filled.

use std::{
    fs::File,
    io::{self, IoSlice},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use memmap2::MmapMut;

/// What offsets, lengths and memory are aligned to: any file system's and disk's blocks.
pub(super) const ALIGNMENT: u64 = 4096;
/// Bytes in a buffer: a huge page, which the disk takes as one piece. Of small pages each is a piece, and a
/// request has few.
pub(super) const BUFFER: usize = 2 << 20;
const BUFFERS: usize = 2;
/// A disk is slow if the fastest of so many writes took longer than this, at 200 MB/s: memory is of more use
/// then, because the page cache outlasts a burst of traffic. Others took longer because the thread waited for
/// its CPU.
const SLOW: Duration = Duration::from_millis(10);
const WRITES: u32 = 64;
const NAME: &str = "mirror-pcap-io";

/// The thread of a capture, which is started when it is first needed.
#[derive(Default)]
pub(super) enum Direct {
    #[default]
    NotNeeded,
    Started(DirectWriter),
    /// There is no memory or no thread for it, or the disk is slow.
    Off,
}

impl Direct {
    /// The writer; `None` if writes are better made through the page cache.
    pub(super) fn writer(&mut self) -> Option<&mut DirectWriter> {
        match self {
            Self::NotNeeded => match DirectWriter::start() {
                Ok(writer) => *self = Self::Started(writer),
                Err(error) => {
                    tracing::warn!(%error, "no direct writes: through the page cache instead");
                    *self = Self::Off;
                }
            },
            Self::Started(writer) if writer.is_slow() && writer.in_flight() == 0 => {
                tracing::info!("the disk takes less than 200 MB/s: captures go through the page cache");
                *self = Self::Off;
            }
            Self::Started(_) | Self::Off => {}
        }
        if let Self::Started(writer) = self { Some(writer) } else { None }
    }
}

/// The thread, and the buffers.
pub(super) struct DirectWriter {
    requests: Sender<Request>,
    done: Receiver<Done>,
    free: Vec<Buffer>,
    /// Bytes that were submitted and not waited for.
    in_flight: u64,
    speed: Speed,
}

/// How fast the last whole buffers were written.
#[derive(Clone, Copy, Debug, Default)]
struct Speed {
    writes: u32,
    fastest: Option<Duration>,
    is_slow: bool,
}

impl Speed {
    fn add(&mut self, time: Duration) {
        self.writes += 1;
        self.fastest = Some(self.fastest.map_or(time, |fastest| fastest.min(time)));
        if self.writes == WRITES {
            *self = Self { is_slow: self.fastest.is_some_and(|fastest| fastest > SLOW), ..Self::default() };
        }
    }
}

/// Memory in a huge page, where there are any; at an aligned address anyway.
struct Buffer {
    memory: MmapMut,
    start: usize,
}

struct Request {
    file: Arc<File>,
    buffer: Buffer,
    len: usize,
    at: u64,
}

/// How many bytes were written before the error, if any.
struct Done {
    buffer: Buffer,
    len: usize,
    written: usize,
    time: Duration,
    result: io::Result<()>,
}

impl Buffer {
    fn new() -> io::Result<Self> {
        let memory = MmapMut::map_anon(2 * BUFFER)?;
        let start = memory.as_ptr().align_offset(BUFFER).min(BUFFER);
        #[cfg(target_os = "linux")]
        if let Err(error) = memory.advise_range(memmap2::Advice::HugePage, start, BUFFER) {
            tracing::debug!(%error, "no huge pages for direct writes");
        }
        Ok(Self { memory, start })
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..BUFFER]
    }
}

impl DirectWriter {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system's error for memory, or for one more thread.
    pub(super) fn start() -> io::Result<Self> {
        let free = (0..BUFFERS).map(|_| Buffer::new()).collect::<io::Result<_>>()?;
        let (requests, inbox) = crossbeam_channel::bounded::<Request>(BUFFERS);
        let (outbox, done) = crossbeam_channel::bounded(BUFFERS);
        // It ends with the sender of requests.
        thread::Builder::new().name(NAME.to_owned()).spawn(move || {
            for request in inbox {
                if outbox.send(request.write()).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { requests, done, free, in_flight: 0, speed: Speed::default() })
    }

    /// Whether the page cache would be of more use.
    pub(super) fn is_slow(&self) -> bool {
        self.speed.is_slow
    }

    /// Bytes that were submitted and not waited for.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(super) fn has_buffer(&self) -> bool {
        !self.free.is_empty()
    }

    /// Begins to write bytes, at most [`BUFFER`], at an aligned offset; their number is aligned, too.
    ///
    /// # Errors
    ///
    /// There is no buffer, or no thread.
    pub(super) fn submit(&mut self, file: &Arc<File>, slices: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        let mut buffer = self.free.pop().ok_or(io::ErrorKind::ResourceBusy)?;
        let len = fill(buffer.bytes(), slices);
        let request = Request { file: Arc::clone(file), buffer, len, at };
        self.requests.send(request).map_err(|_| ended())?;
        self.in_flight += len as u64;
        Ok(())
    }

    /// Waits for the end of the oldest write. Returns how many bytes were written before the error, if any.
    pub(super) fn wait(&mut self) -> (u64, io::Result<()>) {
        match self.done.recv() {
            Ok(done) => self.take_back(done),
            Err(_) => {
                self.in_flight = 0;
                (0, Err(ended()))
            }
        }
    }

    /// The same if it has ended.
    pub(super) fn ended(&mut self) -> Option<(u64, io::Result<()>)> {
        let done = self.done.try_recv().ok()?;
        Some(self.take_back(done))
    }

    fn take_back(&mut self, done: Done) -> (u64, io::Result<()>) {
        let Done { buffer, len, written, time, result } = done;
        self.free.push(buffer);
        self.in_flight -= len as u64;
        if written == BUFFER {
            self.speed.add(time);
        }
        (written as u64, result)
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that writes has ended")
}

/// Copies as much as fits; returns how much.
fn fill(buffer: &mut [u8], slices: &[IoSlice<'_>]) -> usize {
    let mut len = 0;
    for slice in slices {
        let part = &slice[..slice.len().min(buffer.len() - len)];
        buffer[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    len
}

impl Request {
    fn write(mut self) -> Done {
        let begun = Instant::now();
        let (mut written, mut result) = (0, Ok(()));
        while written < self.len && result.is_ok() {
            match write_at(&self.file, &self.buffer.bytes()[written..self.len], self.at + written as u64) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        Done { buffer: self.buffer, len: self.len, written, time: begun.elapsed(), result }
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, at)
}

/// No file is opened past the page cache here.
#[cfg(not(unix))]
fn write_at(_: &File, _: &[u8], _: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_slow_only_if_each_of_many_writes_took_long() {
        let mut speed = Speed::default();
        for _ in 0..2 {
            (0..WRITES).for_each(|_| speed.add(2 * SLOW));
            assert!(speed.is_slow, "{speed:?}");
        }
        speed.add(SLOW / 2);
        (1..WRITES).for_each(|_| speed.add(2 * SLOW));
        assert!(!speed.is_slow, "{speed:?}");
    }

    #[test]
    fn writes_to_a_slow_disk_end_with_the_last_in_flight() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut direct = Direct::default();
        let writer = direct.writer().unwrap();
        writer.submit(&file, &[IoSlice::new(&[1; 4096])], 0).unwrap();
        (0..WRITES).for_each(|_| writer.speed.add(2 * SLOW));
        let writer = direct.writer().expect("a write is in flight");
        assert_eq!(writer.in_flight(), 4096);
        let (written, result) = writer.wait();
        result.unwrap();
        assert_eq!(written, 4096);
        assert!(direct.writer().is_none(), "the page cache from now on");
    }

    #[test]
    fn a_write_that_fails_says_how_much_came_before() {
        let mut writer = DirectWriter::start().unwrap();
        let read_only = Arc::new(File::open("/dev/null").unwrap());
        writer.submit(&read_only, &[IoSlice::new(&[1; 4096])], 0).unwrap();
        let (written, result) = writer.wait();
        assert_eq!((written, result.is_err(), writer.in_flight()), (0, true, 0));
        assert_eq!(writer.free.len(), BUFFERS, "its buffer is free again");
    }
}
