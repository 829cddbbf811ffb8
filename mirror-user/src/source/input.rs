//! A stream's bytes, unpacked, in a window that grows with the bytes that arrive, never with a declared
//! length.

use std::io::{self, ErrorKind, Read};

use super::unpack::{Damage, Unpacked};

/// Bytes kept free before the window, so that a frame's first header can be replaced by a longer one in
/// place.
pub(super) const HEADROOM: usize = 16;

/// Size of the window at first; records longer than that make it double.
const WINDOW: usize = 256 * 1024;

/// A window on a stream.
#[derive(Debug)]
pub(super) struct Input<R> {
    reader: Unpacked<R>,
    buffer: Vec<u8>,
    /// The bytes read and not yet consumed; from [`HEADROOM`] at the least.
    start: usize,
    end: usize,
    /// Position of `start` in the stream.
    offset: u64,
}

/// The result of asking for more bytes.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Fill {
    More,
    /// The reader timed out.
    Nothing,
    End,
}

impl<R: Read> Input<R> {
    pub(super) fn new(reader: R) -> Self {
        let reader = Unpacked::new(reader);
        Self { reader, buffer: vec![0; HEADROOM + WINDOW], start: HEADROOM, end: HEADROOM, offset: 0 }
    }

    /// Reads once. May move the window to the front first, so earlier positions in [`buffer`](Self::buffer)
    /// are invalid.
    pub(super) fn fill(&mut self) -> io::Result<Fill> {
        if self.end == self.buffer.len() {
            if self.start > HEADROOM {
                self.buffer.copy_within(self.start..self.end, HEADROOM);
                self.end -= self.start - HEADROOM;
                self.start = HEADROOM;
            } else {
                // The caller refuses records over a limit before it asks for their bytes, so this ends there.
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(Fill::End),
                Ok(read) => {
                    self.end += read;
                    return Ok(Fill::More);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                    return Ok(Fill::Nothing);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R> Input<R> {
    /// How the stream is compressed, as far as is known.
    pub(super) fn compression(&self) -> Option<&'static str> {
        self.reader.compression()
    }

    /// Where the compressed stream is damaged, if that is why reading failed.
    pub(super) fn damage(&self) -> Option<Damage> {
        self.reader.damage()
    }

    /// The bytes in the window.
    pub(super) fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Position of the window in the stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Advances by `bytes` of the window; returns the position in [`buffer`](Self::buffer) where they start.
    pub(super) fn consume(&mut self, bytes: usize) -> usize {
        let at = self.start;
        self.start += bytes;
        self.offset += bytes as u64;
        debug_assert!(self.start <= self.end, "consumed {bytes} bytes that are not there");
        at
    }

    /// All bytes that are held, consumed or not.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// The same, mutable.
    pub(super) fn buffer_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_moves_and_grows_without_losing_a_byte() {
        let stream: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_be_bytes()[3] ^ n.to_be_bytes()[2]).collect();
        let mut input = Input::new(&stream[..]);
        let mut seen = Vec::new();
        // Ever larger pieces: each must arrive whole.
        for piece in [1, 1000, 300_000, 70_000, 900_000] {
            while input.window().len() < piece {
                assert_eq!(input.fill().unwrap(), Fill::More);
            }
            assert_eq!(input.offset(), seen.len() as u64);
            let at = input.consume(piece);
            assert!(at >= HEADROOM);
            seen.extend_from_slice(&input.buffer()[at..at + piece]);
        }
        assert_eq!(seen, stream[..seen.len()]);
    }
}
