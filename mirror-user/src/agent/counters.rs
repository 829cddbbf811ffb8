//! What has become of the frames of a carrier.

use serde::Serialize;

use crate::sink::forward::NotSent;

/// Counters of a carrier. Those of the agent's thread are of one moment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CarrierCounters {
    /// The carrier's name.
    pub carrier: String,
    /// Frames lost because the carrier's queue was full; `None` if the kernel did not say.
    pub carrier_dropped: Option<u64>,
    /// What became of the others.
    #[serde(flatten)]
    pub frames: FrameCounters,
}

/// What became of the frames that came out of a carrier. Between two bursts,
/// `segments = sent + oversize + send_failed`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FrameCounters {
    /// Frames that were read, super-frames among them.
    pub read: u64,
    /// Frames that could not be read: the kernel had no header for their kind of segmentation.
    pub unreadable: u64,
    /// Frames that were not segmented, or whose checksum was not completed, because they were not what their
    /// header said. They are copied as they were read.
    pub inconsistent: u64,
    /// Packets that they were made into.
    pub segments: u64,
    /// Of those, how many were sent.
    pub sent: u64,
    /// Of those sent, or not sent for another reason, how many were cut because of the MTU. The packet length
    /// does not count.
    pub truncated: u64,
    /// Not sent: longer than the MTU, and not to be truncated.
    pub oversize: u64,
    /// Not sent, by reason.
    pub send_failed: SendFailed,
}

/// Why copies were not sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SendFailed {
    /// The target has no route, or its next hop no MAC address.
    pub unresolved: u64,
    /// The interface's MTU became less, for up to 0.1 s.
    pub too_large: u64,
    /// The socket's buffer or the interface's queue was full.
    pub no_buffer: u64,
    /// The interface was down or deleted.
    pub down: u64,
    /// Another error.
    pub io: u64,
}

impl SendFailed {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { unresolved, too_large, no_buffer, down, io } = self;
        unresolved + too_large + no_buffer + down + io
    }

    pub(super) fn add(&mut self, reason: NotSent) {
        *match reason {
            NotSent::TooLarge => &mut self.too_large,
            NotSent::NoBuffer => &mut self.no_buffer,
            NotSent::Down => &mut self.down,
            NotSent::NoVlan | NotSent::Io => &mut self.io,
        } += 1;
    }
}
