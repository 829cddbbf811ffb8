//! The addresses of an interface, followed over rtnetlink.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr},
};

use neli::{
    consts::rtnl::{Ifa, Ifla, RtAddrFamily, RtScope, Rtm},
    rtnl::{Ifaddrmsg, IfaddrmsgBuilder},
};
use nix::sys::socket::SockProtocol;

use super::{HostError, interface::link_by_index, netlink::Netlink};

/// What frames for an interface are addressed to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Addresses {
    /// `None` where it has no MAC address of Ethernet's length.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) v4: Vec<Ipv4Addr>,
    pub(crate) v6: Vec<Ipv6Addr>,
}

impl fmt::Display for Addresses {
    /// The MAC address, then `and` the IP addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = self.mac.map_or_else(
            || "no MAC address".to_owned(),
            |mac| mac.map(|byte| format!("{byte:02x}")).join(":"),
        );
        f.write_str(&mac)?;
        let v4 = self.v4.iter().map(Ipv4Addr::to_string);
        let all: Vec<_> = v4.chain(self.v6.iter().map(Ipv6Addr::to_string)).collect();
        if all.is_empty() { f.write_str(", any IP address") } else { write!(f, " and {}", all.join(", ")) }
    }
}

/// Follows the addresses of one interface, by its index, in the network namespace of the thread that opened
/// it.
#[derive(Debug)]
pub(crate) struct AddressWatch {
    /// Receives notifications of changes, with any link.
    events: Netlink,
    /// Requests the present state.
    requests: Netlink,
    index: u32,
    known: Addresses,
}

impl AddressWatch {
    /// Subscribes, then reads.
    pub(crate) fn open(index: u32) -> Result<Self, HostError> {
        let open = || {
            let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
            let groups = u32::try_from(groups).map_err(io::Error::other)?;
            let events = Netlink::open(SockProtocol::NetlinkRoute, groups)?;
            let requests = Netlink::open(SockProtocol::NetlinkRoute, 0)?;
            let mut watch = Self { events, requests, index, known: Addresses::default() };
            watch.known = watch.read()?;
            Ok(watch)
        };
        open().map_err(refused)
    }

    /// The addresses as last read.
    pub(crate) fn known(&self) -> &Addresses {
        &self.known
    }

    /// The addresses, if they have changed since the last call. Does not block.
    pub(crate) fn changed(&mut self) -> Result<Option<&Addresses>, HostError> {
        if !self.events.drain().map_err(refused)? {
            return Ok(None);
        }
        let now = self.read().map_err(refused)?;
        if now == self.known {
            return Ok(None);
        }
        self.known = now;
        Ok(Some(&self.known))
    }

    fn read(&mut self) -> io::Result<Addresses> {
        let mut addresses = Addresses::default();
        let link = link_by_index(&mut self.requests, self.index)?;
        let attributes = link.rtattrs().get_attr_handle();
        let mac = attributes.get_attribute(Ifla::Address);
        addresses.mac = mac.and_then(|mac| mac.rta_payload().as_ref().try_into().ok());
        let all = IfaddrmsgBuilder::default()
            .ifa_family(RtAddrFamily::Unspecified)
            .ifa_prefixlen(0)
            .ifa_scope(RtScope::Universe)
            .ifa_index(0)
            .build()
            .map_err(io::Error::other)?;
        let answers: Vec<Ifaddrmsg> = self.requests.request(Rtm::Getaddr, true, &all)?;
        for address in answers.iter().filter(|address| *address.ifa_index() == self.index) {
            let attributes = address.rtattrs().get_attr_handle();
            // IFA_ADDRESS is the other end's on a point-to-point link, rtnetlink(7).
            let bytes =
                attributes.get_attribute(Ifa::Local).or_else(|| attributes.get_attribute(Ifa::Address));
            let bytes: &[u8] = bytes.map(|bytes| bytes.rta_payload().as_ref()).unwrap_or_default();
            if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
                addresses.v4.push(v4.into());
            } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
                addresses.v6.push(v6.into());
            }
        }
        Ok(addresses)
    }
}

fn refused(source: io::Error) -> HostError {
    HostError::Netlink { what: "read the interface's addresses", source }
}
