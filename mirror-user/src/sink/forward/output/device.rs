//! An interface, existing or made for this: AF_XDP in copy mode, which works with every driver.

use std::{os::fd::OwnedFd, sync::Arc};

use super::{
    super::{
        error::OpenError,
        parts::{TargetParts, no_parts},
        vlan::Tagger,
    },
    NotSent, Transmit, link_mtu, new_socket, set_up, warn_of_host,
};
use crate::{
    escape::shell,
    host::{
        egress::Egress,
        interface::{Interface, LinkState},
        namespace::NetworkNamespace,
        veth::{Veth, VethOptions},
    },
    sink::handoff::{Outcome, record},
    wire::{ethernet, vlan},
    xsk::{SocketError, Transmitter},
};

/// The TX queue; AF_XDP needs one.
const QUEUE: u32 = 0;

/// See the module.
pub(in super::super) struct Device {
    transmitter: Transmitter,
    state: LinkState,
    /// The command that sets it up.
    set_up: String,
    tagger: Option<Tagger>,
    /// Longest frame of the interface, in bytes, without our tag.
    longest: usize,
    at: At,
}

/// What a device is.
enum At {
    Interface(String),
    /// The near end of a pair. Dropped behind what was opened there.
    Veth(Arc<Veth>),
    /// The same, of a pair that another process holds, with the state of the far end if that is here.
    VethOfAnotherProcess {
        far: Option<LinkState>,
    },
}

impl Device {
    /// `socket` gives new AF_XDP sockets.
    pub(in super::super) fn open(
        name: &str,
        socket: impl FnMut() -> Result<OwnedFd, SocketError>,
        tagger: Option<Tagger>,
    ) -> Result<Self, OpenError> {
        let interface = Interface::named(name)?;
        if interface.loopback {
            return Err(OpenError::Loopback);
        }
        if let Some(peer) = interface.peer() {
            let peer = peer.name;
            tracing::warn!(
                "{name}: its peer, {peer}, is in this network namespace: this host itself receives what is \
                forwarded there, and may answer it; `ip link set dev {} netns NAME` moves it to its reader, \
                and a target `veth:NAME` is received by its reader only",
                shell(&peer)
            );
        }
        let longest = longest(interface.mtu);
        let transmitter =
            Transmitter::open(socket, interface.index, QUEUE, longest).map_err(OpenError::Xsk)?;
        let set_up = set_up(name);
        let at = At::Interface(name.to_owned());
        Ok(Self { transmitter, state: LinkState::open(name)?, set_up, tagger, longest, at })
    }

    /// The near end of a veth pair, whose far end has this name.
    pub(in super::super) fn open_veth(
        veth: Arc<Veth>,
        name: &str,
        options: &VethOptions,
        tagger: Option<Tagger>,
    ) -> Result<Self, OpenError> {
        if options.to_host {
            warn_of_host(name);
        }
        let longest = longest(options.mtu.into());
        let (transmitter, state) = veth.at_near_end(|index, near| {
            let transmitter = Transmitter::open(new_socket, index, QUEUE, longest).map_err(OpenError::Xsk)?;
            Ok::<_, OpenError>((transmitter, LinkState::open(near)?))
        })??;
        let set_up = set_up_far_end(name, options);
        Ok(Self { transmitter, state, set_up, tagger, longest, at: At::Veth(veth) })
    }

    /// The near end of a veth pair that another process holds.
    pub(in super::super) fn of_veth_parts(
        name: &str,
        options: &VethOptions,
        parts: &mut TargetParts,
        tagger: Option<Tagger>,
    ) -> Result<Self, OpenError> {
        let (index, near) = parts.interface.take().ok_or_else(no_parts)?;
        let longest = longest(options.mtu.into());
        let transmitter =
            Transmitter::open(|| parts.xdp_socket(), index, QUEUE, longest).map_err(OpenError::Xsk)?;
        // Last of all, behind the sockets that were not needed.
        let netlink = parts.descriptors.pop().ok_or_else(no_parts)?;
        let state = LinkState::of_parts(netlink, near, index);
        let far = options.netns.is_none().then(|| LinkState::open(name)).transpose()?;
        let set_up = set_up_far_end(name, options);
        Ok(Self { transmitter, state, set_up, tagger, longest, at: At::VethOfAnotherProcess { far } })
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
        let mut mtu = link_mtu(&mut self.state, &self.set_up)?;
        let far = match &mut self.at {
            At::Interface(_) => None,
            At::Veth(veth) => veth.far_mtu(),
            At::VethOfAnotherProcess { far } => {
                far.as_mut().and_then(|far| far.look().ok().flatten()).map(|(_, mtu)| mtu)
            }
        };
        mtu = mtu.min(far.unwrap_or(mtu));
        self.longest = longest(mtu);
        Ok(())
    }

    fn egress(&self) -> Option<Egress> {
        match &self.at {
            At::Interface(name) => Some(Egress::Interface(name.clone())),
            At::Veth(veth) => Some(Egress::Veth(Arc::downgrade(veth))),
            At::VethOfAnotherProcess { .. } => None,
        }
    }
}

/// The command that sets the far end of a pair up.
fn set_up_far_end(name: &str, options: &VethOptions) -> String {
    match &options.netns {
        None => set_up(name),
        Some(NetworkNamespace::Named(namespace)) => {
            format!("ip -n {} link set dev {} up", shell(namespace), shell(name))
        }
        Some(other) => format!("nsenter -t {other} -n {}", set_up(name)),
    }
}

/// Longest frame at an MTU, in bytes, without a VLAN tag.
fn longest(mtu: u32) -> usize {
    mtu as usize + ethernet::HEADER_LEN
}
