//! Why a capture cannot be read.

use std::io;

use super::limits::{MAX_BLOCK, MAX_FRAME};

/// Why a capture cannot be read any further, after the frames before that place have been delivered; or what
/// was skipped, see [`Unread`](super::Unread).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// It could not be opened.
    #[error("cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// A read failed.
    #[error("reading failed at byte {at}: {source}")]
    Read {
        /// Bytes read so far.
        at: u64,
        /// The error of the system.
        source: io::Error,
    },
    /// It ends within a header or a record: its writer was killed, the disk was full, or the copy is
    /// incomplete.
    #[error("cut short at byte {at}, within the {what} that starts at byte {start}")]
    CutShort {
        /// Where it ends, in bytes from its start.
        at: u64,
        /// Where the incomplete part starts, in bytes from the start of the capture.
        start: u64,
        /// What is incomplete.
        what: &'static str,
    },
    /// It is not a capture, or of an unsupported format.
    #[error(
        "not a capture file: starts with {0:#010x}, which is neither pcap nor pcapng; convert it with \
        `editcap -F pcapng`"
    )]
    UnknownFormat(u32),
    /// It is empty.
    #[error("empty file; check whether its capture was started")]
    Empty,
    /// It is compressed with an unsupported tool, or twice.
    #[error("compressed with {tool}; run `{tool} -dc FILE | mirror replay -r -`")]
    Compressed {
        /// The tool that unpacks it.
        tool: &'static str,
    },
    /// The compressed data is damaged, or ends early.
    #[error("{tool} data {} near byte {packed_at}, {at} bytes unpacked: {source}", wrong(source))]
    Packed {
        /// The tool that unpacks it.
        tool: &'static str,
        /// Bytes unpacked so far.
        at: u64,
        /// Approximate position in the compressed file, in bytes from its start.
        packed_at: u64,
        /// The error of the decoder.
        source: io::Error,
    },
    /// A header contradicts itself or the format.
    #[error("malformed at byte {at}: {what}")]
    Malformed {
        /// Where the header starts, in bytes from the start of the capture.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A block or frame is longer than any real one; most likely the capture is damaged before it.
    #[error(
        "{what} at byte {at} declares {len} bytes, more than the maximum of {most}; the capture is damaged \
        there, and `editcap` or `pcapfix` may recover what follows"
    )]
    TooLarge {
        /// Where it starts, in bytes from the start of the capture.
        at: u64,
        /// Block or frame.
        what: &'static str,
        /// The length it declares, in bytes.
        len: u64,
        /// The most that is read, in bytes.
        most: usize,
    },
}

impl CaptureError {
    pub(super) fn malformed(at: u64, what: &'static str) -> Self {
        Self::Malformed { at, what }
    }

    pub(super) fn block_too_large(at: u64, len: usize) -> Self {
        Self::TooLarge { at, what: "block", len: len as u64, most: MAX_BLOCK }
    }

    pub(super) fn frame_too_large(at: u64, len: usize) -> Self {
        Self::TooLarge { at, what: "frame", len: len as u64, most: MAX_FRAME }
    }
}

/// A decoder's error in a word.
fn wrong(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::UnexpectedEof { "cut short" } else { "damaged" }
}
