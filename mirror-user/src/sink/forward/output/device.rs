//! An interface that is there: AF_XDP in copy mode, which every driver has.

use super::{
    super::{builder::OpenError, vlan::Tagger},
    Refusal, Transmit, link_mtu,
};
use crate::{
    host::interface::{Interface, LinkState},
    sink::handoff::{Outcome, record},
    wire::{ethernet, vlan},
    xsk::Transmitter,
};

/// The queue that is sent on; the kernel has AF_XDP senders choose one.
const QUEUE: u32 = 0;

/// See the module.
pub(in super::super) struct Device {
    transmitter: Transmitter,
    state: LinkState,
    name: String,
    tagger: Option<Tagger>,
    /// Bytes of the longest frame that the interface takes, without a tag of ours.
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
                "{name}: its other end, {peer}, is in this network namespace: this host itself receives what \
                is forwarded there, and may answer it; `ip link set dev {} netns NAME` moves it to its \
                reader",
                crate::escape::shell(&peer)
            );
        }
        let longest = longest(interface.mtu);
        let transmitter = Transmitter::open(interface.index, QUEUE, longest).map_err(OpenError::Xsk)?;
        Ok(Self { transmitter, state: LinkState::open(name)?, name: name.to_owned(), tagger, longest })
    }

    /// A frame of this length, without a tag of ours.
    fn send_one(&mut self, len: usize, parts: &[&[u8]], outcome: &mut Outcome) {
        if len > self.longest || len + vlan::TAG_LEN > self.transmitter.max_frame() {
            return outcome.refuse(Refusal::TooLarge, 1);
        }
        if !self.transmitter.put(parts) {
            self.flush(outcome);
            if !self.transmitter.put(parts) {
                outcome.refuse(Refusal::NoBuffer, 1);
            }
        }
    }

    fn flush(&mut self, outcome: &mut Outcome) {
        let burst = self.transmitter.flush();
        outcome.written += burst.sent;
        outcome.refuse(Refusal::NoBuffer, burst.dropped);
        if let Some(error) = &burst.error {
            outcome.refuse(Refusal::of(error), burst.refused);
        }
    }
}

impl Transmit for Device {
    fn send(&mut self, records: &[u8], outcome: &mut Outcome) {
        // Out of the way of what sends.
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

    fn look(&mut self) -> Result<(), String> {
        self.longest = longest(link_mtu(&mut self.state, &self.name)?);
        Ok(())
    }
}

/// Bytes of the longest frame at an MTU: a VLAN tag is not counted in it.
fn longest(mtu: u32) -> usize {
    mtu as usize + ethernet::HEADER_LEN
}
