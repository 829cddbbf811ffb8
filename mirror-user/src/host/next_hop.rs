//! The next hop towards a remote end: its route and neighbour, as rtnetlink has them.

use std::{
    io::{self, Cursor},
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
};

use etherparse::PacketBuilder;
use neli::{
    FromBytesWithInput as _, Size as _, ToBytes as _,
    consts::rtnl::{Ifla, Nda, Nud, RtAddrFamily, RtScope, RtTable, Rta, Rtm, Rtn, Rtprot},
    rtnl::{Ndmsg, NdmsgBuilder, RtattrBuilder, Rtmsg, RtmsgBuilder},
    types::Buffer,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use super::{
    HostError,
    interface::{absent, link_by_index},
    netlink::Netlink,
};
use crate::wire::encapsulation::Style;

// linux/rtnetlink.h.
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;

/// How frames for a remote end leave this host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NextHop {
    /// The index of the interface.
    pub(crate) index: u32,
    /// The host's address that they are sent from.
    pub(crate) source: IpAddr,
    /// The MAC address of the interface.
    pub(crate) mac: [u8; 6],
    /// The MAC address of the neighbour: the remote end, or the gateway.
    pub(crate) neighbour: [u8; 6],
    /// The longest IP packet that interface and route take, in bytes.
    pub(crate) mtu: u32,
}

/// Follows the next hop towards a remote end, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct NextHopWatch {
    to: IpAddr,
    /// The interface of the route when it was opened.
    index: u32,
    requests: Mutex<Netlink>,
    /// A raw socket, not connected: its source address would stay that of the route at that time.
    prompt: OwnedFd,
}

/// A route as the kernel would take it.
struct Route {
    /// Whether it leads to this host itself.
    is_local: bool,
    index: u32,
    source: IpAddr,
    /// The gateway, or the remote end itself.
    neighbour: IpAddr,
    /// `None` for that of the interface.
    mtu: Option<u32>,
}

impl NextHopWatch {
    /// Needs a route, and CAP_NET_RAW.
    ///
    /// # Errors
    ///
    /// [`HostError::NextHop`].
    pub(crate) fn open(to: IpAddr) -> Result<Self, HostError> {
        let open = || {
            let mut requests = Netlink::open(SockProtocol::NetlinkRoute, 0)?;
            let Route { index, .. } = route(&mut requests, to)?;
            Ok(Self { to, index, requests: Mutex::new(requests), prompt: raw_socket(to)? })
        };
        open().map_err(|source| HostError::NextHop { to: to.to_string(), source })
    }

    /// The interface by which the remote end was reached when this was opened.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The next hop by that interface at present; or why there is none. Has the kernel resolve or confirm the
    /// neighbour where that is due. Does not block.
    pub(crate) fn look(&self) -> Result<NextHop, String> {
        self.look_by(|index| index == self.index)
    }

    /// The same by whichever interface.
    pub(crate) fn look_everywhere(&self) -> Result<NextHop, String> {
        self.look_by(|_| true)
    }

    fn look_by(&self, may_leave_by: impl Fn(u32) -> bool) -> Result<NextHop, String> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        self.find(&mut requests, may_leave_by).unwrap_or_else(|error| Err(error.to_string()))
    }

    fn find(
        &self,
        requests: &mut Netlink,
        may_leave_by: impl Fn(u32) -> bool,
    ) -> io::Result<Result<NextHop, String>> {
        let Route { index, source, neighbour, mtu, .. } = match route(requests, self.to) {
            Ok(Route { is_local: true, .. }) => return Ok(Err("it is this host itself".to_owned())),
            Ok(route) => route,
            Err(error) => return Ok(Err(format!("no route: {error}"))),
        };
        if !may_leave_by(index) {
            return Ok(Err("its route leaves by another interface than at the start".to_owned()));
        }
        let link = match link_by_index(requests, index) {
            Err(error) if absent(&error) => return Ok(Err("the interface was deleted".to_owned())),
            link => link?,
        };
        let attributes = link.rtattrs().get_attr_handle();
        let mac = attributes.get_attribute(Ifla::Address);
        let Some(mac) = mac.and_then(|mac| mac.rta_payload().as_ref().try_into().ok()) else {
            return Ok(Err("its route leaves by an interface without a MAC address".to_owned()));
        };
        let link_mtu = attributes.get_attr_payload_as::<u32>(Ifla::Mtu).map_err(io::Error::other)?;
        let mtu = mtu.unwrap_or(link_mtu).min(link_mtu);
        let entry = find_neighbour(requests, index, neighbour)?;
        if entry.is_none_or(|entry| entry.is_due) {
            self.prompt(source);
        }
        Ok(match entry.and_then(|entry| entry.mac) {
            Some(neighbour) => Ok(NextHop { index, source, mac, neighbour, mtu }),
            None => Err(format!("its neighbour {neighbour} is not resolved")),
        })
    }

    /// Sends a packet by the kernel's own stack, which then resolves or confirms the neighbour: frames that
    /// are redirected do not have it do that, and the request for it (NTF_USE) takes a privilege. An echo
    /// reply that nobody has asked for is not answered (RFC 1122 section 3.2.2.6, RFC 4443 section 4.2).
    fn prompt(&self, source: IpAddr) {
        let ttl = Style::FORWARDED.ttl;
        let mut packet = Vec::new();
        let written = match (source, self.to) {
            (IpAddr::V4(source), IpAddr::V4(to)) => {
                let builder = PacketBuilder::ipv4(source.octets(), to.octets(), ttl);
                builder.icmpv4_echo_reply(0, 0).write(&mut packet, &[])
            }
            (IpAddr::V6(source), IpAddr::V6(to)) => {
                let builder = PacketBuilder::ipv6(source.octets(), to.octets(), ttl);
                builder.icmpv6_echo_reply(0, 0).write(&mut packet, &[])
            }
            _ => return,
        };
        let sent = written.map_err(io::Error::other).and_then(|()| {
            let to = SockaddrStorage::from(SocketAddr::new(self.to, 0));
            sendto(self.prompt.as_raw_fd(), &packet, &to, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from)
        });
        // It is sent again at the next look, if that is still due.
        if let Err(error) = sent {
            tracing::debug!(%error, "the neighbour towards {} is not confirmed", self.to);
        }
    }
}

/// A socket that sends packets with headers of ours, and receives nothing (raw(7)).
fn raw_socket(to: IpAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, SockType::Raw, flags, SockProtocol::Raw)?)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn family(address: IpAddr) -> RtAddrFamily {
    if address.is_ipv4() { RtAddrFamily::Inet } else { RtAddrFamily::Inet6 }
}

fn route(requests: &mut Netlink, to: IpAddr) -> io::Result<Route> {
    let destination = RtattrBuilder::default().rta_type(Rta::Dst).rta_payload(octets(to));
    let message = RtmsgBuilder::default()
        .rtm_family(family(to))
        .rtm_dst_len(if to.is_ipv4() { 32 } else { 128 })
        .rtm_src_len(0)
        .rtm_tos(0)
        .rtm_table(RtTable::Unspec)
        .rtm_protocol(Rtprot::Unspec)
        .rtm_scope(RtScope::Universe)
        .rtm_type(Rtn::Unspec)
        .rtattrs([destination.build().map_err(io::Error::other)?].into_iter().collect());
    let answers: Vec<Rtmsg> =
        requests.request(Rtm::Getroute, false, &message.build().map_err(io::Error::other)?)?;
    let unreachable = || io::Error::from_raw_os_error(libc::ENETUNREACH);
    let leads_on = |route: &&Rtmsg| matches!(route.rtm_type(), Rtn::Unicast | Rtn::Local);
    let answer = answers.first().filter(leads_on).ok_or_else(unreachable)?;
    let attributes = answer.rtattrs().get_attr_handle();
    let payload = |kind| attributes.get_attribute(kind).map(|attribute| attribute.rta_payload().as_ref());
    // A gateway of the other family comes behind its family.
    let via = payload(Rta::UnrecognizedConst(RTA_VIA)).and_then(|via| address(via.get(2..)?));
    let gateway = payload(Rta::Gateway).and_then(address).or(via);
    let metrics = attributes.get_nested_attributes::<u16>(Rta::Metrics).ok();
    Ok(Route {
        is_local: *answer.rtm_type() == Rtn::Local,
        index: attributes.get_attr_payload_as(Rta::Oif).map_err(|_| unreachable())?,
        source: payload(Rta::Prefsrc).and_then(address).ok_or_else(unreachable)?,
        neighbour: gateway.unwrap_or(to),
        mtu: metrics.and_then(|metrics| metrics.get_attr_payload_as(RTAX_MTU).ok()),
    })
}

/// An entry of the neighbour table.
#[derive(Clone, Copy)]
struct Neighbour {
    /// `None` while it is not resolved.
    mac: Option<[u8; 6]>,
    /// Whether the kernel confirms it only when there is something to send.
    is_due: bool,
}

fn find_neighbour(requests: &mut Netlink, index: u32, neighbour: IpAddr) -> io::Result<Option<Neighbour>> {
    let destination = RtattrBuilder::default().rta_type(Nda::Dst).rta_payload(octets(neighbour));
    let message = NdmsgBuilder::default()
        .ndm_family(family(neighbour))
        .ndm_index(i32::try_from(index).map_err(io::Error::other)?)
        .ndm_state(Nud::empty())
        .ndm_type(Rtn::Unspec)
        .rtattrs([destination.build().map_err(io::Error::other)?].into_iter().collect())
        .build()
        .map_err(io::Error::other)?;
    let mut bytes = Cursor::new(vec![0; message.padded_size()]);
    message.to_bytes(&mut bytes).map_err(io::Error::other)?;
    // As bytes, because neli's message cannot be cloned.
    let answers = match requests.request(Rtm::Getneigh, false, &Buffer::from(bytes.into_inner())) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        answers => answers?,
    };
    let Some(answer) = answers.first().map(Buffer::as_ref) else { return Ok(None) };
    let entry =
        Ndmsg::from_bytes_with_input(&mut Cursor::new(answer), answer.len()).map_err(io::Error::other)?;
    let attributes = entry.rtattrs().get_attr_handle();
    let mac = attributes.get_attribute(Nda::Lladdr);
    Ok(Some(Neighbour {
        mac: mac.and_then(|mac| mac.rta_payload().as_ref().try_into().ok()),
        is_due: entry.ndm_state().intersects(Nud::STALE | Nud::FAILED) || entry.ndm_state().is_empty(),
    }))
}
