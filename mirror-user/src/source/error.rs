//! What a capture file can have against being read.

use std::io;

use pcap_parser::Linktype;

use super::{MAX_BLOCK, MAX_FRAME};

/// Why a capture cannot be read any further. Frames before it have been delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// It could not be opened.
    #[error("cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// The system refused to read.
    #[error("reading failed at byte {at}: {source}")]
    Read {
        /// Bytes read so far.
        at: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It ends within a header or a record: the writer was killed, the disk was full, or a copy is incomplete.
    #[error("cut short at byte {at}, within the {what} that starts at byte {start}")]
    CutShort {
        /// Where it ends, in bytes from its start.
        at: u64,
        /// Where the incomplete part starts, in bytes from the start of the capture.
        start: u64,
        /// What is incomplete.
        what: &'static str,
    },
    /// It is no capture, or of a kind that is not read.
    #[error(
        "no capture file: starts with {0:#010x}, which is neither pcap nor pcapng; convert it with `editcap -F pcapng`"
    )]
    UnknownFormat(u32),
    /// It is compressed.
    #[error("compressed with {tool}; run `{tool} -dc FILE | mirror replay -r -`")]
    Compressed {
        /// The tool that unpacks it.
        tool: &'static str,
    },
    /// Its frames are of a link layer that is not read.
    #[error(
        "frame at byte {at} has link type {link_type} ({name}), and only Ethernet, Linux cooked (SLL, SLL2) and raw IP are \
         read; capture on the interface that receives the mirror: `tcpdump -i INTERFACE -w FILE udp port 4789`"
    )]
    LinkType {
        /// Where its record starts, in bytes from the start of the capture.
        at: u64,
        /// Number of the link type (tcpdump.org, "Link-layer header types").
        link_type: u16,
        /// Its name, as far as it is known.
        name: String,
    },
    /// A header contradicts itself or the format.
    #[error("malformed at byte {at}: {what}")]
    Malformed {
        /// Where the header starts, in bytes from the start of the capture.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A block or frame is longer than any real one; most likely what comes before it is damaged.
    #[error(
        "{what} at byte {at} claims {len} bytes, more than the {most} that are read; the capture is damaged there, and \
         `editcap` or `pcapfix` may recover what follows"
    )]
    TooLarge {
        /// Where it starts, in bytes from the start of the capture.
        at: u64,
        /// Block or frame.
        what: &'static str,
        /// The length it claims, in bytes.
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

    pub(super) fn link_type(at: u64, link_type: u16) -> Self {
        Self::LinkType { at, link_type, name: Linktype(i32::from(link_type)).to_string() }
    }
}
