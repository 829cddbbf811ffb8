//! A TAP device: a write for each frame.

use std::io::{self, IoSlice};

use super::{super::vlan::Tagger, Output, Refusal, link_mtu};
use crate::{
    host::{
        HostError,
        interface::LinkState,
        tap::{Tap, TapOptions},
    },
    sink::handoff::{Settled, record},
};

/// See the module.
pub(in super::super) struct TapDevice {
    tap: Tap,
    state: LinkState,
    name: String,
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
            tracing::warn!("{name}: this host itself receives what is forwarded there, and may answer it");
        }
        Ok(Self { tap, state: LinkState::open(name)?, name: name.to_owned(), tagger })
    }

    fn send_one<const N: usize>(&self, parts: [&[u8]; N], settled: &mut Settled) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        match self.tap.send(&parts.map(IoSlice::new)) {
            Ok(sent) if sent == len => settled.written += 1,
            Ok(_) => settled.refuse(Refusal::of(&io::ErrorKind::WriteZero.into()), 1),
            Err(error) => settled.refuse(Refusal::of(&error), 1),
        }
    }
}

impl Output for TapDevice {
    fn send(&mut self, records: &[u8], settled: &mut Settled) {
        // Out of the way of what sends.
        let Some(mut tagger) = self.tagger.take() else {
            for frame in record::frames(records) {
                self.send_one([frame.inner().first()], settled);
            }
            return;
        };
        tagger.each(records, settled, |parts, settled| self.send_one(parts, settled));
        self.tagger = Some(tagger);
    }

    fn look(&mut self) -> Result<(), String> {
        link_mtu(&mut self.state, &self.name).map(drop)
    }
}
