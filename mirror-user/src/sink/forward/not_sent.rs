//! Why frames were not sent.

use std::io;

use nix::errno::Errno;

use crate::sink::handoff::{LOSSES, Loss, Outcome};

/// Why a frame was not sent; the discriminants index the losses of the hand-off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotSent {
    /// It is longer than the MTU of the interface or path.
    TooLarge,
    /// The kernel or the reader had no room.
    NoBuffer,
    /// The interface is down or deleted, or the remote end is unreachable.
    Down,
    /// No VLAN is left for its VNI.
    NoVlan,
    /// Another error.
    Io,
}

/// The names of the reasons in reports.
pub(super) const LOSSES_HERE: &[Loss; LOSSES] = &[
    Loss::Dropped("too_large"),
    Loss::Dropped("no_buffer"),
    Loss::Dropped("down"),
    Loss::Dropped("no_vlan"),
    Loss::Failed("io"),
];

impl NotSent {
    /// The reason for an error of a send.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMSGSIZE) => Self::TooLarge,
            Some(Errno::ENOBUFS | Errno::EAGAIN | Errno::ENOMEM) => Self::NoBuffer,
            Some(
                Errno::EIO
                | Errno::ENETDOWN
                | Errno::ENODEV
                | Errno::ENXIO
                | Errno::EBADFD
                | Errno::ENETUNREACH
                | Errno::EHOSTUNREACH
                | Errno::EHOSTDOWN,
            ) => Self::Down,
            _ => Self::Io,
        }
    }
}

impl Outcome {
    pub(super) fn not_sent(&mut self, reason: NotSent, frames: u64) {
        self.lost[reason as usize] += frames;
    }
}
