//! Compressed captures: gzip (RFC 1952) and Zstandard (RFC 8878), recognised by their first bytes and
//! unpacked member by member.
//!
//! A decoder's memory is bounded by its window, its output by the caller's buffer. Where much input gives
//! hardly any output, control returns to the reader now and then.

use std::{
    fmt,
    io::{self, BufRead, ErrorKind, Read},
    mem,
};

use flate2::bufread::GzDecoder;

/// Bytes of the compressed stream held at once.
const BUFFER: usize = 64 * 1024;

/// Bytes of it that may be decoded without any output before control returns to the reader.
const WITHOUT_YIELD: usize = 1 << 20;

/// Bytes that identify a member's kind.
const MAGIC: usize = 4;

/// The largest window that a Zstandard frame may ask for, as `zstd -d` has it: 128 MiB.
#[cfg(feature = "zstd")]
const ZSTD_WINDOW_LOG: u32 = 27;

/// A stream, unpacked if it is compressed.
pub(crate) struct Unpacked<R> {
    state: State<R>,
    kind: Option<Kind>,
    damage: Option<Damage>,
}

/// Where a compressed stream is damaged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damage {
    pub(super) tool: &'static str,
    /// Bytes of the compressed stream that had been consumed.
    pub(super) packed_at: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Gzip,
    #[cfg(feature = "zstd")]
    Zstd,
}

enum State<R> {
    /// Too few bytes so far to recognise it.
    Unknown(Packed<R>),
    Plain(Packed<R>),
    Gzip(Box<GzDecoder<Packed<R>>>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::stream::read::Decoder<'static, Packed<R>>>),
    /// A member has ended, and another may follow.
    Between(Packed<R>),
    /// The end.
    Ended,
}

impl<R> fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacked").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<R> Unpacked<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { state: State::Unknown(Packed::new(reader)), kind: None, damage: None }
    }

    /// How the stream is compressed, as far as is known.
    pub(super) fn compression(&self) -> Option<&'static str> {
        self.kind.map(Kind::tool)
    }

    /// Where the stream is damaged, if that is why the last read failed.
    pub(super) fn damage(&self) -> Option<Damage> {
        self.damage
    }
}

impl Kind {
    fn tool(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
        }
    }

    /// From the first bytes of a member.
    fn of(magic: &[u8]) -> Option<Self> {
        match magic {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // A frame, or a skippable frame (RFC 8878 sections 3.1.1 and 3.1.2).
            #[cfg(feature = "zstd")]
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Whether a stream with this end may have been truncated within the first bytes of a member.
    fn begins(self, end: &[u8]) -> bool {
        match self {
            Self::Gzip => end == [0x1f],
            #[cfg(feature = "zstd")]
            Self::Zstd => matches!(end, [0x28] | [0x28, 0xb5] | [0x28, 0xb5, 0x2f]),
        }
    }

    /// A decoder at the start of a member.
    fn open<R: Read>(self, packed: Packed<R>) -> io::Result<State<R>> {
        match self {
            Self::Gzip => Ok(State::Gzip(Box::new(GzDecoder::new(packed)))),
            #[cfg(feature = "zstd")]
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(State::Zstd(Box::new(decoder)))
            }
        }
    }
}

impl<R: Read> Unpacked<R> {
    fn packed(&mut self) -> Option<&mut Packed<R>> {
        match &mut self.state {
            State::Unknown(packed) | State::Plain(packed) | State::Between(packed) => Some(packed),
            State::Gzip(decoder) => Some(decoder.get_mut()),
            #[cfg(feature = "zstd")]
            State::Zstd(decoder) => Some(decoder.get_mut()),
            State::Ended => None,
        }
    }

    /// Advances to the next member, or to the end.
    fn go_on(&mut self) -> io::Result<()> {
        self.state = match mem::replace(&mut self.state, State::Ended) {
            State::Unknown(mut packed) => match packed.peek() {
                Ok(magic) => {
                    self.kind = Kind::of(magic);
                    match self.kind {
                        Some(kind) => kind.open(packed)?,
                        None => State::Plain(packed),
                    }
                }
                Err(error) => {
                    self.state = State::Unknown(packed);
                    return Err(error);
                }
            },
            State::Gzip(decoder) => State::Between(decoder.into_inner()),
            #[cfg(feature = "zstd")]
            State::Zstd(decoder) => State::Between(decoder.finish()),
            State::Between(mut packed) => match packed.peek_behind_zeros() {
                Ok([]) => State::Ended,
                Ok(magic) if self.kind.is_some() && Kind::of(magic) == self.kind => match self.kind {
                    Some(kind) => kind.open(packed)?,
                    None => State::Ended,
                },
                Ok(magic) => {
                    let is_cut = self.kind.is_some_and(|kind| kind.begins(magic));
                    packed.consume(if is_cut { packed.at_hand().len() } else { 0 });
                    self.state = State::Between(packed);
                    return Err(if is_cut {
                        io::Error::new(ErrorKind::UnexpectedEof, "unexpected end of file")
                    } else {
                        io::Error::new(ErrorKind::InvalidData, "unexpected data after the last member")
                    });
                }
                Err(error) => {
                    self.state = State::Between(packed);
                    return Err(error);
                }
            },
            other => other,
        };
        Ok(())
    }

    fn unpack(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.state {
                State::Plain(packed) => return packed.read(buffer),
                State::Gzip(decoder) => decoder.read(buffer)?,
                #[cfg(feature = "zstd")]
                State::Zstd(decoder) => decoder.read(buffer)?,
                State::Ended => return Ok(0),
                State::Unknown(_) | State::Between(_) => 0,
            };
            if read > 0 {
                return Ok(read);
            }
            self.go_on()?;
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some(packed) = self.packed() {
            packed.may_take = WITHOUT_YIELD;
        }
        let result = self.unpack(buffer);
        if let Err(error) = &result
            && error.kind() != ErrorKind::WouldBlock
            && let Some(kind) = self.kind
            && let Some(packed) = self.packed()
            && !packed.failed
        {
            let packed_at = packed.at;
            self.damage = Some(Damage { tool: kind.tool(), packed_at });
        }
        result
    }
}

/// The compressed stream.
struct Packed<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Position of `start` in the stream.
    at: u64,
    /// Bytes that may be read before control returns to the reader.
    may_take: usize,
    /// The reader itself failed.
    failed: bool,
}

impl<R> Packed<R> {
    fn new(reader: R) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { reader, buffer, start: 0, end: 0, at: 0, may_take: WITHOUT_YIELD, failed: false }
    }

    fn at_hand(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

impl<R: Read> Packed<R> {
    /// Reads once, after the bytes in the buffer. Returns how many bytes.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.may_take == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let read = Self::once(&mut self.reader, &mut self.buffer[self.end..], &mut self.failed)?;
        self.end += read;
        self.may_take = self.may_take.saturating_sub(read);
        Ok(read)
    }

    /// One read, repeated after EINTR: decoders can continue after one kind of error only.
    fn once(reader: &mut R, buffer: &mut [u8], failed: &mut bool) -> io::Result<usize> {
        loop {
            match reader.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                    return Err(ErrorKind::WouldBlock.into());
                }
                result => {
                    *failed = result.is_err();
                    return result;
                }
            }
        }
    }

    /// The next bytes, as many as identify a member's kind, if there are that many.
    fn peek(&mut self) -> io::Result<&[u8]> {
        while self.end - self.start < MAGIC {
            if self.fill()? == 0 {
                break;
            }
        }
        let at_hand = self.at_hand();
        Ok(&at_hand[..at_hand.len().min(MAGIC)])
    }

    /// The same after the zeros with which a file may be padded.
    fn peek_behind_zeros(&mut self) -> io::Result<&[u8]> {
        loop {
            let zeros = self.at_hand().iter().take_while(|byte| **byte == 0).count();
            self.consume(zeros);
            if self.start < self.end {
                return self.peek();
            }
            if self.fill()? == 0 {
                return Ok(&[]);
            }
        }
    }
}

impl<R: Read> BufRead for Packed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.fill()?;
        }
        Ok(self.at_hand())
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.at += bytes as u64;
    }
}

/// Uncompressed bytes bypass the buffer.
impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            return Self::once(&mut self.reader, buffer, &mut self.failed);
        }
        let read = self.at_hand().len().min(buffer.len());
        buffer[..read].copy_from_slice(&self.at_hand()[..read]);
        self.consume(read);
        Ok(read)
    }
}
