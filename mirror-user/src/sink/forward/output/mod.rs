//! Outputs of members, by kind of target.

mod device;
mod pcap_over_ip;
mod tap;
mod vxlan;

use std::{io, time::Duration};

use nix::errno::Errno;

pub(super) use device::Device;
pub(super) use pcap_over_ip::{PcapOverIp, StreamOptions};
pub(super) use tap::TapDevice;
pub(super) use vxlan::Tunnel;

use crate::{
    escape::shell,
    host::interface::LinkState,
    sink::handoff::{LOSSES, Loss, Outcome},
};

/// Why a frame was not sent; the discriminants index the losses of the hand-off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NotSent {
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
    pub(super) fn of(error: &io::Error) -> Self {
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

/// Sends frames to a target. Does not block for long: it counts frames that it cannot send.
pub(super) trait Transmit: Send + 'static {
    /// Sends the frames of a block, in sequence, and adds the outcome of each.
    fn send(&mut self, records: &[u8], outcome: &mut Outcome);

    /// Checks whether it can send now; called ten times a second, and after frames that were not sent because
    /// the target is down. The error is the reason.
    fn check(&mut self) -> Result<(), String>;

    /// Sends what it still holds.
    ///
    /// # Errors
    ///
    /// Why that failed.
    fn finish(&mut self, patience: Duration) -> io::Result<()> {
        let _ = patience;
        Ok(())
    }
}

/// The MTU of an interface that is up; or why it is not, with the remedy.
fn link_mtu(state: &mut LinkState, name: &str) -> Result<u32, String> {
    match state.look() {
        Ok(Some((true, mtu))) => Ok(mtu),
        Ok(Some((false, _))) => {
            Err(format!("the interface is down or has no carrier; run `ip link set dev {} up`", shell(name)))
        }
        Ok(None) => Err("the interface was deleted; restart the run when it exists".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
