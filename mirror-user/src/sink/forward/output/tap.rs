//! A TAP device: a write for each frame.

use std::io::{self, IoSlice};

use super::{
    super::{error::OpenError, parts::TargetParts, vlan::Tagger},
    NotSent, Transmit, link_mtu, set_up, warn_of_host,
};
use crate::{
    host::{
        HostError,
        interface::LinkState,
        tap::{Tap, TapOptions},
    },
    sink::handoff::{Outcome, record},
};

/// See the module.
pub(in super::super) struct TapDevice {
    tap: Tap,
    state: LinkState,
    /// The command that sets it up.
    set_up: String,
    tagger: Option<Tagger>,
}

impl TapDevice {
    pub(in super::super) fn open(
        name: &str,
        options: TapOptions,
        tagger: Option<Tagger>,
    ) -> Result<Self, HostError> {
        let tap = Tap::open(name, options)?;
        if options.to_host {
            warn_of_host(name);
        }
        Ok(Self { tap, state: LinkState::open(name)?, set_up: set_up(name), tagger })
    }

    /// A device that another process holds.
    pub(in super::super) fn of_parts(
        name: &str,
        parts: &mut TargetParts,
        tagger: Option<Tagger>,
    ) -> Result<Self, OpenError> {
        let tap = Tap::of_another_process(parts.take()?);
        Ok(Self { tap, state: LinkState::open(name)?, set_up: set_up(name), tagger })
    }

    fn send_one<const N: usize>(&self, parts: [&[u8]; N], outcome: &mut Outcome) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        match self.tap.send(&parts.map(IoSlice::new)) {
            Ok(sent) if sent == len => outcome.written += 1,
            Ok(_) => outcome.not_sent(NotSent::of(&io::ErrorKind::WriteZero.into()), 1),
            Err(error) => outcome.not_sent(NotSent::of(&error), 1),
        }
    }
}

impl Transmit for TapDevice {
    fn send(&mut self, records: &[u8], outcome: &mut Outcome) {
        // Taken out, because `send_one` borrows `self`.
        let Some(mut tagger) = self.tagger.take() else {
            for frame in record::frames(records) {
                self.send_one([frame.inner().first()], outcome);
            }
            return;
        };
        tagger.each(records, outcome, |parts, outcome| self.send_one(parts, outcome));
        self.tagger = Some(tagger);
    }

    fn check(&mut self) -> Result<(), String> {
        link_mtu(&mut self.state, &self.set_up).map(drop)
    }
}
