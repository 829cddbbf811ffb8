//! Targets that one process opens, with privileges, for a forwarder of another one without.
//!
//! A [`HeldTarget`] keeps the device as long as the other process has its [`TargetParts`], of which the
//! lifeline tells each when the other is done or has ended.

use std::{
    fmt, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    builder::{mtu, tap_options, veth_options},
    error::OpenError,
    output::{Transmit, listen, new_socket, raw_socket},
    target::Target,
};
use crate::{
    host::{interface::LinkState, tap::Tap, veth::Veth},
    sink::handoff::Outcome,
    xsk::{SOCKETS, SocketError},
};

/// What a forwarder of another process sends with.
#[derive(Debug)]
pub struct TargetParts {
    /// The interface of frames in its network namespace, by index and name, if that is another namespace.
    pub interface: Option<(u32, String)>,
    /// Sockets and devices, as the kind of target needs them.
    pub descriptors: Vec<OwnedFd>,
    /// Hangs up when the process that holds the target ends; and there, once this is dropped.
    pub lifeline: OwnedFd,
}

/// A target that is open for another process.
pub struct HeldTarget {
    lifeline: OwnedFd,
    _device: Device,
}

/// What is removed with the target.
enum Device {
    Nothing,
    Tap { _device: Tap },
    Veth { _pair: Veth },
}

impl fmt::Debug for HeldTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldTarget").field("lifeline", &self.lifeline).finish_non_exhaustive()
    }
}

/// To poll for the end of the other process's use.
impl AsFd for HeldTarget {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lifeline.as_fd()
    }
}

impl HeldTarget {
    /// Opens what the target needs privileges for; `max_frame` as of
    /// [`ForwardBuilder::max_frame`](super::ForwardBuilder::max_frame).
    ///
    /// # Errors
    ///
    /// Why it cannot be opened; or it is of a kind that needs no privileges.
    pub fn open(target: &Target, max_frame: usize) -> Result<(Self, TargetParts), OpenError> {
        let mtu = mtu(max_frame);
        let (device, interface, descriptors) = match target {
            Target::Tap { name, .. } => {
                let tap = Tap::open(name, tap_options(target, mtu))?;
                let descriptor = tap.as_fd().try_clone_to_owned().map_err(failed)?;
                (Device::Tap { _device: tap }, None, vec![descriptor])
            }
            Target::Veth { name, .. } => {
                let pair = Veth::open(name, &veth_options(target, mtu))?;
                let (mut descriptors, state) = pair
                    .at_near_end(|_, near| Ok::<_, OpenError>((xdp_sockets()?, LinkState::open(near)?)))??;
                let (socket, near, index) = state.into_parts();
                descriptors.push(socket);
                (Device::Veth { _pair: pair }, Some((index, near)), descriptors)
            }
            Target::Device { .. } => (Device::Nothing, None, xdp_sockets()?),
            Target::Vxlan { to, .. } => (Device::Nothing, None, vec![raw_socket(*to)?]),
            Target::PcapListen { at, .. } => (Device::Nothing, None, vec![listen(*at)?.into()]),
            Target::PcapSocket { .. } | Target::PcapConnect { .. } => {
                return Err(no_parts());
            }
        };
        let (lifeline, other) = UnixStream::pair().map_err(failed)?;
        let parts = TargetParts { interface, descriptors, lifeline: other.into() };
        Ok((Self { lifeline: lifeline.into(), _device: device }, parts))
    }
}

impl TargetParts {
    /// The next descriptor.
    pub(super) fn take(&mut self) -> Result<OwnedFd, OpenError> {
        let missing = || failed(io::Error::new(io::ErrorKind::UnexpectedEof, "a descriptor is missing"));
        let first = self.descriptors.splice(..self.descriptors.len().min(1), []).next();
        first.ok_or_else(missing)
    }

    /// The next descriptor, as a new AF_XDP socket.
    pub(super) fn xdp_socket(&mut self) -> Result<OwnedFd, SocketError> {
        self.take().map_err(|error| SocketError::Socket(io::Error::other(error)))
    }
}

/// An output to a target that another process holds.
pub(super) struct Lent {
    output: Box<dyn Transmit>,
    lifeline: OwnedFd,
}

impl Lent {
    pub(super) fn new(output: Box<dyn Transmit>, lifeline: OwnedFd) -> Self {
        Self { output, lifeline }
    }
}

impl Transmit for Lent {
    fn send(&mut self, records: &[u8], outcome: &mut Outcome) {
        self.output.send(records, outcome);
    }

    /// What keeps the frames of a device from the host ends with the process that holds it.
    fn check(&mut self) -> Result<(), String> {
        let mut polled = [PollFd::new(self.lifeline.as_fd(), PollFlags::empty())];
        match poll(&mut polled, PollTimeout::ZERO) {
            Ok(0) => self.output.check(),
            Ok(_) => Err("the process that holds the device has ended; restart the run".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn finish(&mut self, patience: Duration) -> io::Result<()> {
        self.output.finish(patience)
    }
}

/// The error of a target that has no parts.
pub(super) fn no_parts() -> OpenError {
    failed(io::ErrorKind::Unsupported.into())
}

fn xdp_sockets() -> Result<Vec<OwnedFd>, OpenError> {
    (0..SOCKETS).map(|_| new_socket().map_err(OpenError::Xsk)).collect()
}

fn failed(source: io::Error) -> OpenError {
    OpenError::Socket { what: "a target of another process", source, remedy: "" }
}
