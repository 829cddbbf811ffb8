//! Keeps the host from answering mirrored packets that pass to it.

use std::net::{Ipv6Addr, UdpSocket};

/// Unread UDP sockets on the tunnel ports: what the XDP program passes (fragments, frames of queues without a socket)
/// would otherwise draw an ICMP port-unreachable for each, sent to the mirror source.
#[derive(Debug)]
pub(super) struct HeldPorts {
    _sockets: Vec<UdpSocket>,
}

impl HeldPorts {
    /// Holds the ports that are free; one that is taken has somebody who keeps the host quiet.
    pub(super) fn hold(ports: &[u16]) -> Self {
        let hold = |port: &u16| {
            // One IPv6 socket takes IPv4 as well, unless IPv6 is off.
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, *port))
                .or_else(|_| UdpSocket::bind(("0.0.0.0", *port)))
                .inspect_err(|error| tracing::debug!(port, %error, "tunnel port not held"))
                .ok()
        };
        Self { _sockets: ports.iter().filter_map(hold).collect() }
    }
}
