//! TAP devices: interfaces on which the host receives what this process writes
//! (`Documentation/networking/tuntap.rst`).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::net::if_::if_nametoindex;
use tun_rs::{DeviceBuilder, Layer};

use super::{
    HostError,
    discard::Discard,
    interface::{ipv6_off, set_up_without_arp},
    limits::shortage,
};

/// The largest MTU a TAP device takes: 65535 less an Ethernet header.
const MAX_MTU: u16 = 65_521;

/// A TAP device, up, without ARP, IPv6 and addresses. The kernel removes it when this value is dropped or the
/// process ends, unless it existed before or is persistent.
pub struct Tap {
    device: OwnedFd,
    /// Until the device is closed, or the process ends.
    _discard: Option<Discard>,
}

/// How a TAP device is made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TapOptions {
    /// MTU in bytes, by which readers size their buffers; longer frames are written all the same.
    pub mtu: u16,
    /// Whether it stays when it is closed.
    pub persist: bool,
    /// Whether the host's own network stack receives what is written, as a bridge or a virtual machine needs.
    /// Otherwise a program at tc ingress drops it, behind AF_PACKET readers and before the stack, because the
    /// host would answer packets to its own addresses.
    pub to_host: bool,
}

impl TapOptions {
    /// A device of this MTU, for readers only, removed when it is closed.
    #[must_use]
    pub fn new(mtu: u16) -> Self {
        Self { mtu, persist: false, to_host: false }
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}

impl Tap {
    /// Makes the device, or opens a persistent one of that name. Needs CAP_NET_ADMIN, and CAP_BPF unless
    /// [`to_host`](TapOptions::to_host).
    ///
    /// # Errors
    ///
    /// [`HostError::Tap`]: the name is taken by another interface or process, or a privilege is missing.
    /// [`HostError::Discard`]: its traffic would reach the host.
    pub fn open(name: &str, options: TapOptions) -> Result<Self, HostError> {
        let TapOptions { mtu, persist, to_host } = options;
        let failed = |source: io::Error| HostError::Tap {
            name: name.to_owned(),
            source: shortage().unwrap_or(source),
        };
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(failed(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let builder =
            DeviceBuilder::new().name(name).layer(Layer::L2).packet_information(false).enable(false);
        let device = builder.build_sync().map_err(failed)?;
        device.set_mtu(mtu.min(MAX_MTU)).map_err(failed)?;
        ipv6_off(name);
        // Before it is up, and so before the first frame.
        let discard = Discard::unless(to_host, name)?;
        let index = if_nametoindex(name).map_err(|errno| failed(errno.into()))?;
        set_up_without_arp(index).map_err(failed)?;
        device.set_nonblocking(true).map_err(failed)?;
        // Last, so that a start that failed leaves nothing behind.
        if persist {
            device.persist().map_err(failed)?;
        }
        let device = device.as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(Self { device, _discard: discard })
    }

    /// A device that another process has opened, and keeps until this one is done with it.
    pub(crate) fn of_another_process(device: OwnedFd) -> Self {
        Self { device, _discard: None }
    }

    /// Writes a frame, given in parts.
    ///
    /// # Errors
    ///
    /// EIO while the device is down, EBADFD when it was deleted.
    pub fn send(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.device, parts)?)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}
