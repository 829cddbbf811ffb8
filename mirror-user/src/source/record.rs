//! Records of a capture, as its formats find them.

use std::ops::Range;

use super::error::CaptureError;

/// What the window starts with.
#[derive(Debug)]
pub(super) enum Step {
    /// Part of a record; all of it is within the limits.
    Incomplete,
    /// Something of this length that holds no packet.
    Skip { len: usize },
    /// A record of this length, with a packet.
    Packet { len: usize, packet: Packet },
    /// Something of this length that contradicts itself or the format.
    Broken { len: usize, error: CaptureError },
    /// The same, but the length itself may be wrong, and is not held. `is_loss`: whether a packet
    /// is lost even if the length is right.
    Unsure { len: usize, error: CaptureError, is_loss: bool },
}

/// A packet, as its record has it.
#[derive(Debug)]
pub(super) struct Packet {
    /// Where the frame lies in the record.
    pub(super) data: Range<usize>,
    pub(super) wire_len: u32,
    pub(super) time: u64,
    pub(super) link_type: u16,
}

/// Where a frame lies in the input's buffer.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) bytes: Range<usize>,
    pub(super) wire_len: u32,
    pub(super) time: u64,
}
