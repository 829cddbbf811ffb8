//! What a member sends with.

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

/// Why a frame was not sent, in the order of the losses of the hand-off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// It is longer than the interface, or the way to the other end, takes.
    TooLarge,
    /// The kernel, or the reader, had no room for it.
    NoBuffer,
    /// The interface is down or gone; the other end is not there.
    Down,
    /// There was no VLAN left for its VNI.
    NoVlan,
    /// Another error.
    Io,
}

/// The names of the refusals in reports.
pub(super) const LOSSES_HERE: &[Loss; LOSSES] = &[
    Loss::Dropped("too_large"),
    Loss::Dropped("no_buffer"),
    Loss::Dropped("down"),
    Loss::Dropped("no_vlan"),
    Loss::Failed("io"),
];

impl Refusal {
    /// What an error of a send means for the frame.
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
    pub(super) fn refuse(&mut self, refusal: Refusal, frames: u64) {
        self.lost[refusal as usize] += frames;
    }
}

/// One way out. Never waits for long: what it cannot send it counts.
pub(super) trait Transmit: Send + 'static {
    /// Sends the frames of a block, in order, and settles each.
    fn send(&mut self, records: &[u8], outcome: &mut Outcome);

    /// Whether it could send now, as the kernel or the other end has it; asked ten times a second, and when
    /// it refused frames as down. The reason where it could not.
    fn look(&mut self) -> Result<(), String>;

    /// Sends what it still holds.
    ///
    /// # Errors
    ///
    /// What kept it from that.
    fn finish(&mut self, patience: Duration) -> io::Result<()> {
        let _ = patience;
        Ok(())
    }
}

/// The MTU of an interface by which frames can leave; or why they cannot, and what mends it.
fn link_mtu(state: &mut LinkState, name: &str) -> Result<u32, String> {
    match state.look() {
        Ok(Some((true, mtu))) => Ok(mtu),
        Ok(Some((false, _))) => Err(format!(
            "the interface is down, or the other end of its cable; run `ip link set dev {} up`",
            shell(name)
        )),
        Ok(None) => Err("the interface was deleted; start the run again once it is there".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
