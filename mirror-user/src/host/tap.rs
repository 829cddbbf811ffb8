//! TAP devices: interfaces on which the host receives what this process writes, or on which this process
//! receives what the host sends (`Documentation/networking/tuntap.rst`).

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
    qdisc,
};

/// The largest MTU a TAP device takes: 65535 less an Ethernet header.
const MAX_MTU: u16 = 65_521;
/// Frames that wait to be read; what comes when there are as many is dropped, and counted in `tx_dropped`.
pub(crate) const QUEUE: u32 = 4096;

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
    /// How it is read; `None` for one that is written only.
    pub reading: Option<TapReading>,
}

/// How a TAP device is read. It has no queueing discipline, so that its counter `tx_dropped` has all that is
/// lost before.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TapReading {
    /// Frames that may wait to be read. Each can have 64 KiB.
    pub queue: u32,
    /// Whether each frame comes behind a [`VnetHeader`](crate::agent::segment::VnetHeader): then those that
    /// the kernel has yet to segment come whole, of UDP from kernel 6.2 on, and without checksums. Otherwise
    /// the kernel does both, in the context of the sender.
    pub vnet_headers: bool,
}

impl TapReading {
    /// With virtio headers, and room for 4096 frames.
    #[must_use]
    pub fn new() -> Self {
        Self { queue: QUEUE, vnet_headers: true }
    }
}

impl Default for TapReading {
    fn default() -> Self {
        Self::new()
    }
}

impl TapOptions {
    /// A device of this MTU, for readers only, removed when it is closed.
    #[must_use]
    pub fn new(mtu: u16) -> Self {
        Self { mtu, persist: false, to_host: false, reading: None }
    }

    /// A device of the largest MTU that is read, and not written: nothing is received from it.
    #[must_use]
    pub fn to_read(reading: TapReading) -> Self {
        Self { mtu: MAX_MTU, persist: false, to_host: true, reading: Some(reading) }
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
        let TapOptions { mtu, persist, to_host, reading } = options;
        let failed = |source: io::Error| HostError::Tap {
            name: name.to_owned(),
            source: shortage().unwrap_or(source),
        };
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(failed(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let mut builder =
            DeviceBuilder::new().name(name).layer(Layer::L2).packet_information(false).enable(false);
        if let Some(TapReading { queue, vnet_headers }) = reading {
            // The offloads are those of vnet headers.
            builder = builder.with(|linux| {
                linux.tx_queue_len(queue).offload(vnet_headers);
            });
        }
        let device = builder.build_sync().map_err(failed)?;
        device.set_mtu(mtu.min(MAX_MTU)).map_err(failed)?;
        ipv6_off(name);
        // Before it is up, and so before the first frame.
        let discard = Discard::unless(to_host, name)?;
        let index = if_nametoindex(name).map_err(|errno| failed(errno.into()))?;
        if reading.is_some() {
            qdisc::remove(index).map_err(failed)?;
        }
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

    /// Reads a frame, behind its virtio header if it has one, and returns the length of both. What does not
    /// fit is cut off. Does not block.
    ///
    /// # Errors
    ///
    /// EAGAIN when there is none; EINVAL for a frame that cannot be described in such a header, and is lost;
    /// EIO while the device is down, EBADFD when it was deleted.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.device, buffer)?)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}
