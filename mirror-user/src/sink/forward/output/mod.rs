//! Outputs of members, by kind of target.

mod device;
mod pcap_over_ip;
mod tap;
mod vxlan;

use std::{io, time::Duration};

pub(super) use device::Device;
pub(super) use pcap_over_ip::{PcapOverIp, StreamOptions, listen};
pub(super) use tap::TapDevice;
pub(super) use vxlan::{Tunnel, raw_socket};

use super::not_sent::NotSent;
use crate::{
    escape::shell,
    host::{egress::Egress, interface::LinkState},
    sink::handoff::Outcome,
    xsk,
};

pub(super) use xsk::new_socket;

/// Sends frames to a target. Does not block for long: it counts frames that it cannot send.
pub(super) trait Transmit: Send + 'static {
    /// Sends the frames of a block, in sequence, and adds the outcome of each.
    fn send(&mut self, records: &[u8], outcome: &mut Outcome);

    /// Checks whether it can send now; called ten times a second, and after frames that were not sent because
    /// the target is down. The error is the reason.
    fn check(&mut self) -> Result<(), String>;

    /// The interface that it sends on, if the kernel may send there, too.
    fn egress(&self) -> Option<Egress> {
        None
    }

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

/// Warns that the host receives what is sent to a device that was made for readers.
pub(super) fn warn_of_host(name: &str) {
    tracing::warn!("{name}: this host itself receives what is forwarded there, and may answer it");
}

/// The command that sets an interface up.
fn set_up(name: &str) -> String {
    format!("ip link set dev {} up", shell(name))
}

/// The MTU of an interface that is up; or why it is not, with the command that sets it up.
fn link_mtu(state: &mut LinkState, set_up: &str) -> Result<u32, String> {
    match state.look() {
        Ok(Some((true, mtu))) => Ok(mtu),
        Ok(Some((false, _))) => Err(format!("the interface is down or has no carrier; run `{set_up}`")),
        Ok(None) => Err("the interface was deleted; restart the run when it exists".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
