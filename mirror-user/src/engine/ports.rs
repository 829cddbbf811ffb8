//! Keeps the host from answering mirrored packets that pass to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::tunnels::Tunnels;

/// Unread UDP sockets on the tunnel ports: what the XDP program passes (fragments, frames of queues without a
/// socket) would otherwise draw an ICMP port-unreachable for each, sent to the mirror source.
#[derive(Debug)]
pub(super) struct HeldPorts {
    _sockets: Vec<UdpSocket>,
}

impl HeldPorts {
    /// Holds the ports that are free; one that is taken has somebody who keeps the host quiet.
    pub(super) fn hold(tunnels: &Tunnels) -> Self {
        // With net.ipv6.bindv6only=0, the default, the IPv6 socket takes IPv4 as well, and the second bind
        // finds it taken.
        let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        let hold = |address: (IpAddr, u16)| {
            UdpSocket::bind(address)
                .inspect_err(|error| tracing::debug!(?address, %error, "tunnel port not held"))
                .ok()
        };
        let addresses = tunnels.ports().flat_map(|port| any.map(|any| (any, port)));
        Self { _sockets: addresses.filter_map(hold).collect() }
    }
}
