//! VXLAN (RFC 7348) over a raw socket, so that the outer source port can vary by flow.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::Arc,
};

use arrayvec::ArrayVec;
use etherparse::UdpHeader;
use mirror_ebpf::flow;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, setsockopt, socket,
        sockopt,
    },
};

use super::{
    super::{error::OpenError, parts::TargetParts},
    NotSent, Transmit,
};
use crate::{
    flow::frame_hash,
    host::{
        burst::{BURST, Burst},
        egress::{Egress, TunnelEgress},
    },
    sink::handoff::{Outcome, record},
    wire::{
        encapsulation::{MAX_LEN, Style, ip_header, pseudo_header},
        udp, vxlan,
    },
};

/// Send buffer of the socket, in bytes; the kernel doubles it and applies its own limit.
const SEND_BUFFER: usize = 4 << 20;

/// See the module.
pub(in super::super) struct Tunnel {
    socket: OwnedFd,
    to: SocketAddr,
    /// The source address, as of the last check.
    from: IpAddr,
    vni: Option<u32>,
    /// Seed of source ports.
    seed: u64,
    /// For the kernel path.
    egress: Option<Arc<TunnelEgress>>,
}

/// Outer headers and the inner frame.
type Message<'f> = (ArrayVec<u8, MAX_LEN>, &'f [u8]);

impl Tunnel {
    pub(in super::super) fn open(to: SocketAddr, vni: Option<u32>, seed: u64) -> Result<Self, OpenError> {
        let mut tunnel = Self::on(raw_socket(to)?, to, vni, seed)?;
        tunnel.egress = Some(Arc::new(TunnelEgress::open(to, vni)?));
        Ok(tunnel)
    }

    /// Over a socket that another process has opened.
    pub(in super::super) fn of_parts(
        to: SocketAddr,
        vni: Option<u32>,
        seed: u64,
        parts: &mut TargetParts,
    ) -> Result<Self, OpenError> {
        Self::on(parts.take()?, to, vni, seed)
    }

    fn on(socket: OwnedFd, to: SocketAddr, vni: Option<u32>, seed: u64) -> Result<Self, OpenError> {
        let from = local_address(to).map_err(no_route)?;
        Ok(Self { socket, to, from, vni, seed, egress: None })
    }

    fn flush(&self, burst: &mut Burst, messages: &mut ArrayVec<Message<'_>, BURST>, outcome: &mut Outcome) {
        burst.send(self.socket.as_fd(), messages, |sent| match sent {
            Ok(sent) => outcome.written += sent,
            Err(error) => outcome.not_sent(NotSent::of(&error), 1),
        });
        messages.clear();
    }

    /// The outer headers of an inner frame; `None` if both are too long for an IP packet.
    fn headers(&self, vni: u32, inner: &[u8]) -> Option<ArrayVec<u8, MAX_LEN>> {
        let vxlan = vxlan::header(self.vni.unwrap_or(vni));
        let length = u16::try_from(udp::HEADER_LEN + vxlan.len() + inner.len()).ok()?;
        let (source_port, destination_port) = (source_port(inner, self.seed), self.to.port());
        let mut udp = UdpHeader { source_port, destination_port, length, checksum: 0 };
        let mut headers = ArrayVec::new();
        // The kernel adds the checksum of IPv4.
        headers.try_extend_from_slice(&ip_header(self.from, self.to.ip(), length, Style::FORWARDED)?).ok()?;
        if let (IpAddr::V6(from), IpAddr::V6(to)) = (self.from, self.to.ip()) {
            // Over IPv6 receivers may refuse a checksum of zero (RFC 6935 section 5).
            let sum = pseudo_header(from, to)
                .add_2bytes(length.to_be_bytes())
                .add_slice(&udp.to_bytes())
                .add_slice(&vxlan)
                .add_slice(inner);
            udp.checksum = sum.to_ones_complement_with_no_zero().to_be();
        }
        headers.try_extend_from_slice(&udp.to_bytes()).ok()?;
        headers.try_extend_from_slice(&vxlan).ok()?;
        Some(headers)
    }
}

/// The outer source port of an inner flow, the same in both directions.
fn source_port(inner: &[u8], seed: u64) -> u16 {
    flow::source_port(frame_hash(inner, seed))
}

/// A raw socket (raw(7)) to a destination. Needs CAP_NET_RAW.
pub(in super::super) fn raw_socket(to: SocketAddr) -> Result<OwnedFd, OpenError> {
    let failed = |what| {
        move |errno: Errno| OpenError::Socket {
            what,
            source: errno.into(),
            remedy: if errno == Errno::EPERM { "; run it as root" } else { "" },
        }
    };
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    // With this protocol we write the headers, and nothing is received (raw(7)).
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Raw, flags, SockProtocol::Raw).map_err(failed("raw socket"))?;
    setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER).map_err(failed("send buffer"))?;
    // Otherwise a packet dropped by a queueing discipline would count as sent (ip(7), IP_RECVERR).
    if to.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true)
    }
    .map_err(failed("error queue"))?;
    // Raw sockets have no port.
    let mut far = to;
    far.set_port(0);
    let far = SockaddrStorage::from(far);
    connect(socket.as_raw_fd(), &far).map_err(|errno| no_route(errno.into()))?;
    Ok(socket)
}

fn no_route(source: io::Error) -> OpenError {
    OpenError::Socket { what: "no route", source, remedy: "; see `ip route get`" }
}

/// The host's source address for a destination.
fn local_address(to: SocketAddr) -> io::Result<IpAddr> {
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

impl Transmit for Tunnel {
    fn send(&mut self, records: &[u8], outcome: &mut Outcome) {
        // Once per block: it holds pointers and is not `Send`.
        let mut burst = Burst::new();
        let mut messages = ArrayVec::new();
        for frame in record::frames(records) {
            let inner = frame.inner().first();
            match self.headers(frame.vni(), inner) {
                Some(headers) => messages.push((headers, inner)),
                None => outcome.not_sent(NotSent::TooLarge, 1),
            }
            if messages.is_full() {
                self.flush(&mut burst, &mut messages, outcome);
            }
        }
        self.flush(&mut burst, &mut messages, outcome);
    }

    fn check(&mut self) -> Result<(), String> {
        self.from =
            local_address(self.to).map_err(|error| format!("no route: {error}; see `ip route get`"))?;
        Ok(())
    }

    fn egress(&self) -> Option<Egress> {
        self.egress.as_ref().map(|egress| Egress::Tunnel(Arc::downgrade(egress)))
    }
}
