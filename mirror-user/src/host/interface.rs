//! One network interface, as the kernel and its driver describe it.

use std::{collections::BTreeMap, io, os::fd::OwnedFd};

use neli::{
    attr::Attribute,
    consts::rtnl::{Iff, Ifla, RtAddrFamily, Rtm},
    rtnl::{Ifinfomsg, IfinfomsgBuilder, RtattrBuilder},
    types::RtBuffer,
};
use nix::sys::socket::SockProtocol;
use serde::{Deserialize, Serialize};

use super::{
    Channels, DriverInfo, HostError, Rings, Rss,
    ethtool::Ethtool,
    netlink::Netlink,
    read_text,
    statistics::{add_driver, standard},
    xdp::{self, XdpFeatures, XdpHook},
};

/// An interface of the calling thread's network namespace, as it was when it was looked up.
///
/// The methods query the kernel at each call. They must be called from the same network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index, which survives a renaming.
    pub index: u32,
    /// The largest layer-3 packet it takes, in bytes: a frame is 14 bytes longer, and 4 more with a VLAN tag.
    pub mtu: u32,
    /// Its address, where it has one of Ethernet's length.
    pub mac: Option<[u8; 6]>,
    /// Whether it is set up (IFF_UP), with or without a carrier.
    pub up: bool,
    /// Whether it has a carrier (IFF_LOWER_UP); not while it is down.
    pub carrier: bool,
    /// Whether it is the loopback (IFF_LOOPBACK), by which this host receives what it sends.
    pub loopback: bool,
    /// Its kind in rtnetlink, such as `veth` or `vxlan`; `None` for physical devices and virtio.
    pub kind: Option<String>,
    /// For veth and others that are on top of another link: its index, if that is in the same namespace.
    pub peer_index: Option<u32>,
    /// The driver, where it answers ethtool.
    pub driver: Option<DriverInfo>,
}

/// The other end of a veth pair.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its MTU in bytes, which decides whether an XDP program can be attached to this end.
    pub mtu: u32,
    /// Its TX queues; this end needs at least as many RX queues.
    pub tx_queues: Option<u32>,
}

/// Every interface of the calling thread's network namespace, by index.
///
/// # Errors
///
/// When rtnetlink refuses.
pub fn interfaces() -> Result<Vec<Interface>, HostError> {
    let links = links()?;
    let mut found: Vec<_> = links.iter().filter_map(Interface::of_link).collect();
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// Whether an interface may have this name (`dev_valid_name`).
pub(crate) fn may_be_name(name: &str) -> bool {
    let odd = |letter: char| {
        matches!(letter, '/' | ':' | '\0') || letter.is_ascii_whitespace() || letter == '\u{b}'
    };
    (1..16).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(odd)
}

impl Interface {
    /// Looks an interface up.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchInterface`], which lists the ones there are, or when rtnetlink refuses.
    pub fn named(name: &str) -> Result<Self, HostError> {
        let found = match link(name) {
            Ok(link) => Self::of_link(&link),
            Err(HostError::Netlink { source, .. }) if absent(&source) => None,
            Err(error) => return Err(error),
        };
        if let Some(interface) = found {
            return Ok(interface);
        }
        let there = interfaces()?.into_iter().map(|interface| interface.name).collect();
        Err(HostError::NoSuchInterface { name: name.to_owned(), there })
    }

    fn of_link(link: &Ifinfomsg) -> Option<Self> {
        let attributes = link.rtattrs().get_attr_handle();
        let name = attributes.get_attr_payload_as_with_len::<String>(Ifla::Ifname).ok()?;
        let mac = attributes.get_attribute(Ifla::Address);
        let mac = mac.and_then(|mac| mac.rta_payload().as_ref().try_into().ok());
        let kind = attributes.get_nested_attributes::<u16>(Ifla::Linkinfo).ok();
        let kind = kind.and_then(|info| info.get_attr_payload_as_with_len::<String>(IFLA_INFO_KIND).ok());
        let elsewhere = attributes.get_attribute(Ifla::LinkNetnsid).is_some();
        let peer_index = attributes.get_attr_payload_as::<u32>(Ifla::Link).ok().filter(|_| !elsewhere);
        let driver = Ethtool::open(&name).and_then(|ethtool| ethtool.driver()).ok();
        Some(Self {
            index: u32::try_from(*link.ifi_index()).ok()?,
            mtu: attributes.get_attr_payload_as(Ifla::Mtu).ok()?,
            mac,
            up: link.ifi_flags().contains(Iff::UP),
            carrier: state(link) == State::Up,
            loopback: link.ifi_flags().contains(Iff::LOOPBACK),
            kind,
            peer_index,
            driver: driver.filter(|driver| !driver.name.is_empty()),
            name,
        })
    }

    /// How many RX queues it has: each takes one AF_XDP socket.
    ///
    /// # Errors
    ///
    /// If neither the driver, sysfs nor rtnetlink reports it.
    pub fn rx_queues(&self) -> Result<u32, HostError> {
        if let Ok(channels) = self.channels() {
            let queues = channels.rx + channels.combined;
            if queues > 0 {
                return Ok(queues);
            }
        }
        if self.sysfs_is_ours() {
            let directory = format!("/sys/class/net/{}/queues", self.name);
            let read = |source| HostError::Read { path: directory.clone().into(), source };
            let mut queues = 0;
            for entry in std::fs::read_dir(&directory).map_err(read)? {
                queues += u32::from(entry.map_err(read)?.file_name().as_encoded_bytes().starts_with(b"rx-"));
            }
            if queues > 0 {
                return Ok(queues);
            }
        }
        // The queues allocated, of which fewer may be in use: the last resort.
        let link = link(&self.name)?;
        let queues = link.rtattrs().get_attr_handle().get_attr_payload_as::<u32>(Ifla::NumRxQueues);
        queues.map_err(|error| HostError::Unexpected {
            what: "the number of RX queues",
            text: error.to_string(),
        })
    }

    /// The most RX queues that its driver can have; 0 if it does not report it.
    #[must_use]
    pub fn most_rx_queues(&self) -> u32 {
        self.channels().map_or(0, |channels| channels.max_rx.saturating_add(channels.max_combined))
    }

    /// The other end of a veth pair; `None` for others, and where that end is in another network namespace.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        let index = self.peer_index.filter(|_| self.kind.as_deref() == Some("veth"))?;
        let peer = interfaces().ok()?.into_iter().find(|one| one.index == index)?;
        let channels = peer.channels().ok();
        Some(Peer { mtu: peer.mtu, tx_queues: channels.map(|now| now.tx + now.combined), name: peer.name })
    }

    /// The feature bits that a virtio device and its driver agreed on, by number (virtio 1.2 section 5.1.3);
    /// `None` for other devices, and where sysfs shows another network namespace.
    #[must_use]
    pub fn virtio_features(&self) -> Option<Vec<u32>> {
        if !self.sysfs_is_ours() {
            return None;
        }
        // A text of one `0` or `1` for each feature bit, bit 0 first.
        let bits = read_text(format!("/sys/class/net/{}/device/features", self.name)).ok()?;
        let set = bits.bytes().zip(0..).filter(|&(bit, _)| bit == b'1');
        bits.bytes().all(|bit| bit == b'0' || bit == b'1').then(|| set.map(|(_, number)| number).collect())
    }

    /// The program on its XDP hook, if any.
    ///
    /// # Errors
    ///
    /// When rtnetlink refuses.
    pub fn xdp_hook(&self) -> Result<Option<XdpHook>, HostError> {
        Ok(XdpHook::of_link(&link(&self.name)?))
    }

    /// The XDP features that its driver reports; `None` before 6.3. Minimum kernel version: 6.3.
    ///
    /// # Errors
    ///
    /// When generic netlink refuses.
    pub fn xdp_features(&self) -> Result<Option<XdpFeatures>, HostError> {
        XdpFeatures::of_index(self.index)
    }

    /// All its counters: the standard ones of `rtnl_link_stats64`, and the driver's own as `ethtool -S` names
    /// them. [`super::statistics`] knows which of them count losses.
    ///
    /// # Errors
    ///
    /// When rtnetlink or the driver refuses; a driver without counters of its own is no error.
    pub fn statistics(&self) -> Result<BTreeMap<String, u64>, HostError> {
        self.counters()?.read()
    }

    /// A reader of its counters that stays in this thread's network namespace, for any thread.
    ///
    /// # Errors
    ///
    /// When its sockets cannot be opened.
    pub(crate) fn counters(&self) -> Result<CounterReader, HostError> {
        let refused = |source| HostError::Netlink { what: "open a socket", source };
        Ok(CounterReader {
            netlink: Netlink::open(SockProtocol::NetlinkRoute, 0).map_err(refused)?,
            ethtool: Ethtool::open(&self.name).map_err(refused)?,
            interface: self.name.clone(),
        })
    }

    /// Its channels, now and at most.
    ///
    /// # Errors
    ///
    /// When the driver has none or refuses.
    pub fn channels(&self) -> Result<Channels, HostError> {
        self.ethtool("channels", Ethtool::channels)
    }

    /// The descriptors of its RX rings, now and at most.
    ///
    /// # Errors
    ///
    /// When the driver has none or refuses.
    pub fn rings(&self) -> Result<Rings, HostError> {
        self.ethtool("ring sizes", Ethtool::rings)
    }

    /// How it spreads flows over queues.
    ///
    /// # Errors
    ///
    /// When the driver does not or refuses.
    pub fn rss(&self) -> Result<Rss, HostError> {
        self.ethtool("RSS", Ethtool::rss)
    }

    /// Its offloads by the kernel's names: `rx-gro`, `rx-lro`, `rx-gro-hw`, ….
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn offloads(&self) -> Result<BTreeMap<String, bool>, HostError> {
        self.ethtool("offloads", Ethtool::features)
    }

    fn ethtool<T>(
        &self,
        what: &'static str,
        ask: impl FnOnce(&Ethtool) -> io::Result<T>,
    ) -> Result<T, HostError> {
        let answer = Ethtool::open(&self.name).and_then(|ethtool| ask(&ethtool));
        answer.map_err(|source| HostError::Ethtool { interface: self.name.clone(), what, source })
    }

    /// Whether `/sys/class/net` shows this very interface: a thread may be in another network namespace than
    /// the one `/sys` was mounted in, where the same name can be another interface.
    pub(crate) fn sysfs_is_ours(&self) -> bool {
        let read = |file: &str| read_text(format!("/sys/class/net/{}/{file}", self.name)).ok();
        let same_index = read("ifindex").is_some_and(|index| index == self.index.to_string());
        let mac = self.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
        same_index && mac.is_none_or(|mac| read("address").is_some_and(|address| address == mac))
    }
}

// linux/if_link.h: nested in IFLA_LINKINFO.
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;

/// Every link's message.
pub(super) fn links() -> Result<Vec<Ifinfomsg>, HostError> {
    let refused = |source| HostError::Netlink { what: "list the interfaces", source };
    let mut netlink = Netlink::open(SockProtocol::NetlinkRoute, 0).map_err(refused)?;
    list(&mut netlink).map_err(refused)
}

/// Every link's message, over a given socket.
pub(super) fn list(netlink: &mut Netlink) -> io::Result<Vec<Ifinfomsg>> {
    netlink.request(Rtm::Getlink, true, &request(RtBuffer::new())?)
}

/// One link's message.
fn link(name: &str) -> Result<Ifinfomsg, HostError> {
    let ask = || link_over(&mut Netlink::open(SockProtocol::NetlinkRoute, 0)?, name);
    ask().map_err(look_up)
}

fn look_up(source: io::Error) -> HostError {
    HostError::Netlink { what: "look up the interface", source }
}

/// One link's message, over a given socket.
pub(super) fn link_over(netlink: &mut Netlink, name: &str) -> io::Result<Ifinfomsg> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let mut attributes = RtBuffer::new();
    let attribute = RtattrBuilder::default().rta_type(Ifla::Ifname).rta_payload(name).build();
    attributes.push(attribute.map_err(io::Error::other)?);
    let answers = netlink.request(Rtm::Getlink, false, &request(attributes)?)?;
    answers.into_iter().next().ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Queries whether one interface can carry frames, and its MTU, over a socket in the network namespace in
/// which it was opened, from any thread.
#[derive(Debug)]
pub(crate) struct LinkState {
    netlink: Netlink,
    interface: String,
    /// Another interface of the same name is not meant.
    index: u32,
}

impl LinkState {
    pub(crate) fn open(interface: &str) -> Result<Self, HostError> {
        let refused = |source| HostError::Netlink { what: "open a socket", source };
        let mut netlink = Netlink::open(SockProtocol::NetlinkRoute, 0).map_err(refused)?;
        let link = link_over(&mut netlink, interface).map_err(look_up)?;
        let index = u32::try_from(*link.ifi_index()).unwrap_or(0);
        Ok(Self { netlink, interface: interface.to_owned(), index })
    }

    /// The socket, the interface's name and its index, for another process.
    pub(crate) fn into_parts(self) -> (OwnedFd, String, u32) {
        (self.netlink.into_socket(), self.interface, self.index)
    }

    /// Of [parts](Self::into_parts).
    pub(crate) fn of_parts(socket: OwnedFd, interface: String, index: u32) -> Self {
        Self { netlink: Netlink::on(socket), interface, index }
    }

    /// Whether it is up and has a carrier, and its MTU; `None` where it is not there.
    pub(crate) fn look(&mut self) -> Result<Option<(bool, u32)>, HostError> {
        match link_over(&mut self.netlink, &self.interface) {
            Ok(link) if u32::try_from(*link.ifi_index()) != Ok(self.index) => Ok(None),
            Ok(link) => {
                let mtu = link.rtattrs().get_attr_handle().get_attr_payload_as(Ifla::Mtu).unwrap_or(0);
                Ok(Some((state(&link) == State::Up, mtu)))
            }
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(look_up(error)),
        }
    }
}

/// Whether a link is up with a carrier, and the id of the program on its XDP hook; `None` where it is not
/// there.
///
/// # Errors
///
/// When rtnetlink refuses.
pub(crate) fn link_and_program(index: u32) -> Result<Option<(bool, Option<u32>)>, HostError> {
    let refused = |source| HostError::Netlink { what: "open a socket", source };
    let mut netlink = Netlink::open(SockProtocol::NetlinkRoute, 0).map_err(refused)?;
    match link_by_index(&mut netlink, index) {
        Ok(link) => {
            let program = xdp::program_of(&link).map(|(_, program)| program);
            Ok(Some((state(&link) == State::Up, program)))
        }
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(look_up(error)),
    }
}

/// Reads the counters of one interface over sockets of its own.
#[derive(Debug)]
pub(crate) struct CounterReader {
    netlink: Netlink,
    ethtool: Ethtool,
    interface: String,
}

impl CounterReader {
    /// See [`Interface::statistics`].
    pub(crate) fn read(&mut self) -> Result<BTreeMap<String, u64>, HostError> {
        let link = link_over(&mut self.netlink, &self.interface).map_err(look_up)?;
        let attributes = link.rtattrs().get_attr_handle();
        let values = attributes.get_attribute(Ifla::Stats64).map(|stats| stats.payload().as_ref());
        let mut all = standard(values.unwrap_or_default());
        match self.ethtool.statistics() {
            Ok(own) => add_driver(&mut all, own),
            Err(source) if unsupported(&source) => {}
            Err(source) => {
                return Err(HostError::Ethtool {
                    interface: self.interface.clone(),
                    what: "counters",
                    source,
                });
            }
        }
        Ok(all)
    }
}

/// One link's message by its index, which survives a renaming.
pub(super) fn link_by_index(netlink: &mut Netlink, index: u32) -> io::Result<Ifinfomsg> {
    let message = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(i32::try_from(index).map_err(io::Error::other)?)
        .rtattrs(RtBuffer::new())
        .build();
    let answers = netlink.request(Rtm::Getlink, false, &message.map_err(io::Error::other)?)?;
    answers.into_iter().next().ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

fn request(attributes: RtBuffer<Ifla, neli::types::Buffer>) -> io::Result<Ifinfomsg> {
    let message = IfinfomsgBuilder::default().ifi_family(RtAddrFamily::Unspecified).rtattrs(attributes);
    message.build().map_err(io::Error::other)
}

/// Sets a link's MTU, in bytes.
pub(super) fn set_mtu(index: u32, mtu: u32) -> io::Result<()> {
    let mtu = RtattrBuilder::default().rta_type(Ifla::Mtu).rta_payload(mtu).build();
    let message = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(i32::try_from(index).map_err(io::Error::other)?)
        .ifi_change(Iff::empty())
        .rtattrs([mtu.map_err(io::Error::other)?].into_iter().collect())
        .build();
    Netlink::open(SockProtocol::NetlinkRoute, 0)?.change(Rtm::Newlink, message.map_err(io::Error::other)?)
}

/// Sets a link up with ARP off.
pub(super) fn set_up_without_arp(index: u32) -> io::Result<()> {
    let wanted = Iff::UP | Iff::NOARP;
    let message = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(i32::try_from(index).map_err(io::Error::other)?)
        .ifi_flags(wanted)
        .ifi_change(wanted)
        .rtattrs(RtBuffer::new())
        .build();
    Netlink::open(SockProtocol::NetlinkRoute, 0)?.change(Rtm::Newlink, message.map_err(io::Error::other)?)
}

/// Whether a link can carry frames, and if not, why. Not by IFF_RUNNING, which is up to a second late (the
/// kernel's link watch).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Set up, with a carrier.
    Up,
    /// Set up, without a carrier: no cable, the other end is down, or the driver is resetting the link.
    NoCarrier,
    /// Set down by its owner.
    Down,
}

/// The state by IFF_UP and IFF_LOWER_UP, of which the kernel shows the latter only with the former.
pub(super) fn state(link: &Ifinfomsg) -> State {
    match link.ifi_flags() {
        flags if !flags.contains(Iff::UP) => State::Down,
        flags if flags.contains(Iff::LOWERUP) => State::Up,
        _ => State::NoCarrier,
    }
}

/// Turns IPv6 off, before the interface is up: otherwise readers would see the host's router solicitations
/// and the like.
pub(super) fn ipv6_off(name: &str) {
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1") {
        Ok(()) => {}
        // A kernel without IPv6 has no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // As in a container: a few packets of the host's own are better than no device.
        Err(error) => {
            tracing::warn!("{name}: IPv6 stays on, its reader may see the host's own packets: {error}");
        }
    }
}

pub(super) fn absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}

fn unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}
