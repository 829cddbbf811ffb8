//! Veth pairs for readers: what is sent at the near end is received at the far end, on which they listen.
//!
//! The near end of a pair that ends with the run is in a network namespace without a name, which only this
//! process has open. The kernel removes both with it, also when the process is killed: nothing has to be
//! recorded, no privilege has to be kept for the end, and no host's stack, firewall or network manager ever
//! has the near end. A pair that stays has its near end in this thread's namespace, under a free name
//! `mirror0`, `mirror1`, … of the kernel's choice.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use neli::{
    consts::rtnl::{Iff, Ifla, RtAddrFamily, Rtm},
    rtnl::{Ifinfomsg, IfinfomsgBuilder, Rtattr, RtattrBuilder},
    types::{Buffer, RtBuffer},
};
use nix::sys::socket::SockProtocol;

use super::{
    HostError,
    discard::Discard,
    ethtool::Ethtool,
    interface::{
        IFLA_INFO_DATA, IFLA_INFO_KIND, LinkState, absent, ipv6_off, link_by_index, link_over,
        set_up_without_arp,
    },
    limits::shortage,
    namespace::{NetworkNamespace, Place},
    netlink::Netlink,
};

/// `VETH_INFO_PEER` of `linux/veth.h`: the other end, as a message like that of the first.
const VETH_INFO_PEER: u16 = 1;
/// The kernel puts the first free number there.
const NEAR_NAME: &str = "mirror%d";
/// One of each: one thread sends, and a reader sees its frames in sequence.
const QUEUES: u32 = 1;
/// How long the kernel may take to remove the pair of a run that has ended: some 50 ms usually.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(10);

/// How a pair is made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VethOptions {
    /// MTU of both ends in bytes; a VLAN tag fits besides.
    pub mtu: u16,
    /// Whether it stays after the run.
    pub persist: bool,
    /// Whether the network stack at the far end receives what is sent, as a bridge or a virtual machine
    /// needs. Otherwise a program at tc ingress drops it, behind AF_PACKET readers and before the stack.
    pub to_host: bool,
    /// Where the far end is; `None` for the calling thread's namespace.
    pub netns: Option<NetworkNamespace>,
}

impl VethOptions {
    /// A pair of this MTU in the calling thread's namespace, for readers only, removed with this value.
    #[must_use]
    pub fn new(mtu: u16) -> Self {
        Self { mtu, persist: false, to_host: false, netns: None }
    }
}

/// A pair, both ends up, without ARP, IPv6, addresses and offloads. It is removed when this value is dropped
/// or the process ends, unless it existed before or is persistent.
#[derive(Debug)]
pub struct Veth {
    /// Where the near end is: for [`Place::In`], the pair ends with it.
    near_at: Option<Place>,
    near: End,
    far: End,
    /// Where the far end is. Opened when it is needed: a descriptor of ours would keep another namespace from
    /// ending.
    netns: Option<NetworkNamespace>,
    /// Of the far end; `None` in another namespace, likewise.
    far_state: Option<Mutex<LinkState>>,
    /// Until the pair is removed, or the process ends.
    _discard: Option<Discard>,
}

/// An end, by what identifies it in its namespace.
#[derive(Clone, Debug)]
struct End {
    index: u32,
    name: String,
}

/// What has the name of a far end.
enum Found {
    Nothing,
    /// A pair that a run made to stay: its far and near end.
    Ours(End, End),
    /// Ours, but with the near end elsewhere: of another run, or of one that has just ended.
    InUse,
    /// Something else.
    Other,
}

impl Veth {
    /// Makes a pair whose far end has this name, or opens a persistent one. Needs CAP_NET_ADMIN,
    /// CAP_SYS_ADMIN unless it is persistent and without `netns`, and CAP_BPF unless
    /// [`to_host`](VethOptions::to_host).
    ///
    /// # Errors
    ///
    /// [`HostError::Veth`]: a privilege is missing, or the kernel refuses. [`HostError::NameTaken`]: by an
    /// interface that no run made, or by that of another run. [`HostError::Namespace`]: it is not there.
    /// [`HostError::Discard`]: its traffic would reach the host.
    pub fn open(name: &str, options: &VethOptions) -> Result<Self, HostError> {
        let failed = |source: io::Error| HostError::Veth {
            name: name.to_owned(),
            source: shortage().unwrap_or(source),
        };
        let far_at = options.netns.as_ref().map_or(Ok(Place::Here), Place::open)?;
        let deadline = Instant::now() + PATIENCE;
        let (far, near, near_at, made) = loop {
            let taken = |in_use| HostError::NameTaken { name: name.to_owned(), in_use };
            match find(name, &far_at).map_err(failed)? {
                Found::Ours(far, near) => break (far, near, Place::Here, None),
                Found::Other => return Err(taken(false)),
                Found::InUse if Instant::now() > deadline => return Err(taken(true)),
                Found::InUse => thread::sleep(PAUSE),
                Found::Nothing => {
                    let near_at =
                        if options.persist { Place::Here } else { Place::unnamed().map_err(failed)? };
                    match make(name, &far_at, &near_at, options.mtu) {
                        Ok((far, near)) => {
                            let made = options.persist.then(|| Unfinished(near.index));
                            break (far, near, near_at, made);
                        }
                        // Another process was first.
                        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                        Err(error) => return Err(failed(error)),
                    }
                }
            }
        };
        let mark = mark(name);
        let near = near_at
            .enter(|| {
                near.set_up(&mark, options.mtu)?;
                Ok(near)
            })
            .and_then(|result| result)
            .map_err(failed)?;
        let set_up = far_at.enter(|| {
            far.prepare(&mark, options.mtu).map_err(failed)?;
            // Before it is up, and so before the first frame.
            let discard = Discard::unless(options.to_host, name)?;
            set_up_without_arp(far.index).map_err(failed)?;
            let state = options.netns.is_none().then(|| LinkState::open(name)).transpose()?;
            Ok((discard, state))
        });
        let (discard, far_state) = set_up.map_err(failed).and_then(|result| result)?;
        // From here on it may stay.
        if let Some(made) = made {
            made.keep();
        }
        let near_at = matches!(near_at, Place::In(_)).then_some(near_at);
        let netns = options.netns.clone();
        Ok(Self { near_at, near, far, netns, far_state: far_state.map(Mutex::new), _discard: discard })
    }

    /// Runs a closure in the namespace of the near end, with its index and name: what is to be sent there is
    /// opened in it.
    pub(crate) fn at_near_end<T: Send>(
        &self,
        inside: impl FnOnce(u32, &str) -> T + Send,
    ) -> Result<T, HostError> {
        let End { index, name } = &self.near;
        let here = Place::Here;
        let entered = self.near_at.as_ref().unwrap_or(&here).enter(|| inside(*index, name));
        entered.map_err(|source| HostError::Veth { name: name.clone(), source })
    }

    /// Runs a closure in the namespace of the far end, with its index.
    pub(crate) fn at_far_end<T: Send>(&self, inside: impl FnOnce(u32) -> T + Send) -> Result<T, HostError> {
        let End { index, name } = &self.far;
        let place = self.netns.as_ref().map_or(Ok(Place::Here), Place::open)?;
        place.enter(|| inside(*index)).map_err(|source| HostError::Veth { name: name.clone(), source })
    }

    /// The MTU of the far end, which takes no longer frames; `None` in another namespace, or where it was
    /// deleted.
    pub(crate) fn far_mtu(&self) -> Option<u32> {
        let mut state = self.far_state.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        state.look().ok().flatten().map(|(_, mtu)| mtu)
    }
}

impl Drop for Veth {
    /// The kernel removes the pair a while after the namespace is closed. Waiting for that here, with the
    /// far end's traffic still kept from the host, means that it is gone when the run has ended.
    fn drop(&mut self) {
        if self.near_at.take().is_none() {
            return;
        }
        let Some(far) = &mut self.far_state else { return };
        let far = far.get_mut().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + PATIENCE;
        while matches!(far.look(), Ok(Some(_))) && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
    }
}

/// A pair that is to stay, until it is complete.
struct Unfinished(u32);

impl Unfinished {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let message = link_message(Some(self.0), RtBuffer::new());
        if let Err(error) = message.and_then(|message| route()?.change(Rtm::Dellink, message)) {
            tracing::warn!("an unfinished veth pair was not removed: {error}");
        }
    }
}

impl End {
    fn set_up(&self, mark: &str, mtu: u16) -> io::Result<()> {
        self.prepare(mark, mtu)?;
        set_up_without_arp(self.index)
    }

    /// All that is set before it is up.
    fn prepare(&self, mark: &str, mtu: u16) -> io::Result<()> {
        let attributes =
            [attribute(Ifla::Ifalias, mark)?, attribute(Ifla::Mtu, u32::from(mtu))?].into_iter().collect();
        route()?.change(Rtm::Newlink, link_message(Some(self.index), attributes)?)?;
        ipv6_off(&self.name);
        // Readers see frames as they were sent, neither joined nor with checksums that nobody has checked.
        Ethtool::open(&self.name)?.offloads_off()
    }
}

/// What marks both ends of a pair as ours (`ip link show` has it as the alias).
fn mark(name: &str) -> String {
    format!("mirror veth:{name}")
}

/// What has this name in that namespace.
fn find(name: &str, far_at: &Place) -> io::Result<Found> {
    let look = || match link_over(&mut route()?, name) {
        Ok(link) => Ok(Some(Ends::of(&link))),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(error),
    };
    let mark = mark(name);
    let far = match far_at.enter(look)?? {
        None => return Ok(Found::Nothing),
        Some(Some(far)) if far.mark == mark => far,
        Some(_) => return Ok(Found::Other),
    };
    let near = match link_by_index(&mut route()?, far.peer) {
        Ok(link) => Ends::of(&link),
        Err(error) if absent(&error) => None,
        Err(error) => return Err(error),
    };
    Ok(match near {
        Some(near) if near.mark == mark && near.peer == far.end.index => Found::Ours(far.end, near.end),
        _ => Found::InUse,
    })
}

/// An end of a veth pair, as rtnetlink describes it.
struct Ends {
    end: End,
    /// The index of the other end in its namespace.
    peer: u32,
    mark: String,
}

impl Ends {
    /// `None` for other kinds of interface.
    fn of(link: &Ifinfomsg) -> Option<Self> {
        let attributes = link.rtattrs().get_attr_handle();
        let info = attributes.get_nested_attributes::<u16>(Ifla::Linkinfo).ok()?;
        let kind = info.get_attr_payload_as_with_len::<String>(IFLA_INFO_KIND).ok()?;
        let text = |kind| attributes.get_attr_payload_as_with_len::<String>(kind).ok();
        let index = u32::try_from(*link.ifi_index()).ok()?;
        Some(Self {
            end: End { index, name: text(Ifla::Ifname)? },
            peer: attributes.get_attr_payload_as(Ifla::Link).ok()?,
            mark: text(Ifla::Ifalias).unwrap_or_default(),
        })
        .filter(|_| kind == "veth")
    }
}

/// Makes the pair, down, in one request; the far end and the near one.
fn make(name: &str, far_at: &Place, near_at: &Place, mtu: u16) -> io::Result<(End, End)> {
    let here;
    let near_at_file = match near_at {
        Place::In(file) => file,
        Place::Here => {
            here = File::open("/proc/thread-self/ns/net")?;
            &here
        }
    };
    let end = |name: &str| {
        let attributes = [
            attribute(Ifla::Ifname, name)?,
            attribute(Ifla::Mtu, u32::from(mtu))?,
            attribute(Ifla::NumTxQueues, QUEUES)?,
            attribute(Ifla::NumRxQueues, QUEUES)?,
        ];
        Ok::<_, io::Error>(attributes.into_iter().collect::<RtBuffer<_, _>>())
    };
    let mut near = end(NEAR_NAME)?;
    near.push(attribute(Ifla::NetNsFd, near_at_file.as_raw_fd())?);
    let peer: RtBuffer<u16, Buffer> =
        [attribute(VETH_INFO_PEER, link_message(None, near)?)?].into_iter().collect();
    let info: RtBuffer<u16, Buffer> =
        [attribute(IFLA_INFO_KIND, "veth")?, attribute(IFLA_INFO_DATA, peer)?].into_iter().collect();
    let mut far = end(name)?;
    far.push(attribute(Ifla::Linkinfo, info)?);
    let far = far_at.enter(|| {
        let mut netlink = route()?;
        netlink.create(Rtm::Newlink, link_message(None, far)?)?;
        Ends::of(&link_over(&mut netlink, name)?).ok_or_else(gone)
    })??;
    let near = near_at.enter(|| Ends::of(&link_by_index(&mut route()?, far.peer)?).ok_or_else(gone))??;
    Ok((far.end, near.end))
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}

fn route() -> io::Result<Netlink> {
    Netlink::open(SockProtocol::NetlinkRoute, 0)
}

fn link_message(index: Option<u32>, attributes: RtBuffer<Ifla, Buffer>) -> io::Result<Ifinfomsg> {
    let index = i32::try_from(index.unwrap_or(0)).map_err(io::Error::other)?;
    let message = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index)
        .ifi_change(Iff::empty())
        .rtattrs(attributes);
    message.build().map_err(io::Error::other)
}

fn attribute<T, P>(kind: T, payload: P) -> io::Result<Rtattr<T, Buffer>>
where
    T: neli::Size,
    P: neli::Size + neli::ToBytes,
{
    RtattrBuilder::default().rta_type(kind).rta_payload(payload).build().map_err(io::Error::other)
}
