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

    fn send_one(&self, parts: &[IoSlice<'_>], len: usize) -> io::Result<()> {
        match self.tap.send(parts) {
            Ok(sent) if sent == len => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(error) => Err(error),
        }
    }
}

impl Output for TapDevice {
    fn send(&mut self, records: &[u8], settled: &mut Settled) {
        for frame in record::frames(records) {
            let inner = frame.inner().first();
            let sent = match &mut self.tagger {
                None => self.send_one(&[IoSlice::new(inner)], inner.len()),
                Some(tagger) => {
                    let Some((addresses, tag, rest)) = tagger.tagged(frame.vni(), inner) else {
                        settled.refuse(Refusal::NoVlan, 1);
                        continue;
                    };
                    let parts = [addresses, &tag, rest].map(IoSlice::new);
                    self.send_one(&parts, inner.len() + tag.len())
                }
            };
            match sent {
                Ok(()) => settled.written += 1,
                Err(error) => settled.refuse(Refusal::of(&error), 1),
            }
        }
    }

    fn look(&mut self) -> Result<(), String> {
        link_mtu(&mut self.state, &self.name).map(drop)
    }
}
