//! An existing interface: AF_XDP in copy mode, which works with every driver.

use super::{
    super::{error::OpenError, vlan::Tagger},
    NotSent, Transmit, link_mtu,
};
use crate::{
    host::interface::{Interface, LinkState},
    sink::handoff::{Outcome, record},
    wire::{ethernet, vlan},
    xsk::Transmitter,
};

/// The TX queue; AF_XDP needs one.
const QUEUE: u32 = 0;

/// See the module.
pub(in super::super) struct Device {
    transmitter: Transmitter,
    state: LinkState,
    name: String,
    tagger: Option<Tagger>,
    /// Longest frame of the interface, in bytes, without our tag.
    longest: usize,
}

impl Device {
    pub(in super::super) fn open(name: &str, tagger: Option<Tagger>) -> Result<Self, OpenError> {
        let interface = Interface::named(name)?;
        if interface.loopback {
            return Err(OpenError::Loopback);
        }
        if let Some(peer) = interface.peer() {
            let peer = peer.name;
            tracing::warn!(
                "{name}: its peer, {peer}, is in this network namespace: this host itself receives what is \
                forwarded there, and may answer it; `ip link set dev {} netns NAME` moves it to its reader",
                crate::escape::shell(&peer)
            );
        }
        let longest = longest(interface.mtu);
        let transmitter = Transmitter::open(interface.index, QUEUE, longest).map_err(OpenError::Xsk)?;
        Ok(Self { transmitter, state: LinkState::open(name)?, name: name.to_owned(), tagger, longest })
    }

    /// Sends a frame of this length, without our tag.
    fn send_one(&mut self, len: usize, parts: &[&[u8]], outcome: &mut Outcome) {
        if len > self.longest || len + vlan::TAG_LEN > self.transmitter.max_frame() {
            return outcome.not_sent(NotSent::TooLarge, 1);
        }
        if !self.transmitter.put(parts) {
            self.flush(outcome);
            if !self.transmitter.put(parts) {
                outcome.not_sent(NotSent::NoBuffer, 1);
            }
        }
    }

    fn flush(&mut self, outcome: &mut Outcome) {
        let burst = self.transmitter.flush();
        outcome.written += burst.sent;
        outcome.not_sent(NotSent::NoBuffer, burst.dropped);
        if let Some(error) = &burst.error {
            outcome.not_sent(NotSent::of(error), burst.refused);
        }
    }
}

impl Transmit for Device {
    fn send(&mut self, records: &[u8], outcome: &mut Outcome) {
        // Taken out, because `send_one` borrows `self`.
        if let Some(mut tagger) = self.tagger.take() {
            tagger.each(records, outcome, |parts @ [addresses, _, rest], outcome| {
                self.send_one(addresses.len() + rest.len(), &parts, outcome);
            });
            self.tagger = Some(tagger);
        } else {
            for frame in record::frames(records) {
                self.send_one(frame.inner_len(), &[frame.inner().first()], outcome);
            }
        }
        self.flush(outcome);
    }

    fn check(&mut self) -> Result<(), String> {
        self.longest = longest(link_mtu(&mut self.state, &self.name)?);
        Ok(())
    }
}

/// Longest frame at an MTU, in bytes, without a VLAN tag.
fn longest(mtu: u32) -> usize {
    mtu as usize + ethernet::HEADER_LEN
}
