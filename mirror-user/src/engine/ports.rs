//! Keeps the host from answering mirrored packets that pass to it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::OwnedFd,
};

use crate::tunnels::Tunnels;

/// Unread UDP sockets on the tunnel ports: what the XDP program passes (fragments, frames of queues without a
/// socket) would otherwise draw an ICMP port-unreachable for each, sent to the mirror source.
#[derive(Debug)]
pub(super) struct ReservedPorts {
    sockets: Vec<OwnedFd>,
}

impl ReservedPorts {
    /// Binds the ports that are free; the owner of one that is taken keeps the host from answering.
    pub(super) fn reserve(tunnels: &Tunnels) -> Self {
        // With net.ipv6.bindv6only=0, the default, the IPv6 socket takes IPv4 as well, and the second bind
        // finds it taken.
        let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        let bind = |address: (IpAddr, u16)| {
            UdpSocket::bind(address)
                .inspect_err(|error| tracing::debug!(?address, %error, "tunnel port not reserved"))
                .ok()
        };
        let addresses = tunnels.ports().flat_map(|port| any.map(|any| (any, port)));
        Self { sockets: addresses.filter_map(bind).map(OwnedFd::from).collect() }
    }

    /// Those that another process leaves, besides what is free.
    pub(super) fn inherit(tunnels: &Tunnels, left: Vec<OwnedFd>) -> Self {
        let mut ports = Self::reserve(tunnels);
        ports.sockets.extend(left);
        ports
    }

    /// The sockets, for another process.
    pub(super) fn lend(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.iter().map(OwnedFd::try_clone).collect()
    }
}
