//! Watches links over rtnetlink: AF_XDP sockets do not report that a link goes up or down or is deleted.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use neli::{
    consts::rtnl::{Ifla, RtAddrFamily, Rtm},
    nl::NlPayload,
    rtnl::Ifinfomsg,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, SockProtocol},
};

use super::{
    HostError,
    interface::{State, list, state},
    netlink::Netlink,
};

/// What happened to a link.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// It can receive: set up, and its carrier is there. New links that are up at once begin so.
    Up {
        /// The link's index.
        index: u32,
    },
    /// It lost its carrier, or was set up without one: it cannot receive. The other end is down, or a driver
    /// resets its link, as igb does for some 2 s when an XDP program is attached or detached.
    NoCarrier {
        /// The link's index.
        index: u32,
    },
    /// It was set down, and cannot receive.
    Down {
        /// The link's index.
        index: u32,
    },
    /// It was deleted, or moved to another network namespace.
    Deleted {
        /// The link's index.
        index: u32,
    },
    /// A link has a name that was [expected](LinkWatch::expect).
    Named {
        /// The link's index.
        index: u32,
        /// The name.
        name: String,
    },
}

/// Watches the links of the network namespace that the opening thread was in.
///
/// It reports changes only, each once, in sequence; when the kernel had to drop messages (ENOBUFS), the state
/// is read again and compared, so that the last report is right, though a link that went down and up in
/// between may go unreported.
#[derive(Debug)]
pub struct LinkWatch {
    /// Subscribed to RTMGRP_LINK.
    events: Netlink,
    /// Requests the state after an overrun, in the same namespace, from any thread.
    requests: Netlink,
    /// Every link, and whether it can receive.
    known: BTreeMap<u32, State>,
    /// Expected names.
    expected: BTreeSet<String>,
    pending: VecDeque<LinkEvent>,
    overruns: u64,
}

impl LinkWatch {
    /// Subscribes, then reads the state to compare with.
    ///
    /// # Errors
    ///
    /// When rtnetlink refuses.
    pub fn open() -> Result<Self, HostError> {
        let open = || {
            let groups = u32::try_from(libc::RTMGRP_LINK).map_err(io::Error::other)?;
            let events = Netlink::open(SockProtocol::NetlinkRoute, groups)?;
            let requests = Netlink::open(SockProtocol::NetlinkRoute, 0)?;
            let mut watch = Self {
                events,
                requests,
                known: BTreeMap::new(),
                expected: BTreeSet::new(),
                pending: VecDeque::new(),
                overruns: 0,
            };
            watch.compare()?;
            watch.pending.clear();
            Ok(watch)
        };
        open().map_err(refused)
    }

    /// Waits up to `timeout` for the next event.
    ///
    /// # Errors
    ///
    /// When rtnetlink fails for another reason than an overrun.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<LinkEvent>, HostError> {
        self.wait(timeout).map_err(refused)
    }

    /// Reports the first link that has this name, now or later, once, as [`LinkEvent::Named`].
    ///
    /// # Errors
    ///
    /// When rtnetlink fails.
    pub fn expect(&mut self, name: &str) -> Result<(), HostError> {
        self.expected.insert(name.to_owned());
        self.compare().map_err(refused)
    }

    /// How often the kernel had to drop messages, and the state was read again.
    #[must_use]
    pub const fn overruns(&self) -> u64 {
        self.overruns
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<Option<LinkEvent>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: a wait of 0 ms until the last microseconds have passed would spin.
            let left = PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) if Instant::now() >= deadline => return Ok(None),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => self.read()?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        match self.events.receive::<Rtm, Ifinfomsg>(MsgFlags::MSG_DONTWAIT) {
            Ok(messages) => {
                for message in messages {
                    if let NlPayload::Payload(link) = message.nl_payload() {
                        self.heard(*message.nl_type(), link);
                    }
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                tracing::debug!("link events were lost: reading the state of all links");
                self.overruns += 1;
                self.compare()
            }
            Err(error) => Err(error),
        }
    }

    fn heard(&mut self, kind: Rtm, link: &Ifinfomsg) {
        // AF_BRIDGE messages are about bridge ports: its "deleted" means that a link left its bridge.
        if *link.ifi_family() != RtAddrFamily::Unspecified {
            return;
        }
        let Ok(index) = u32::try_from(*link.ifi_index()) else { return };
        match kind {
            Rtm::Newlink => {
                self.is_now(index, state(link));
                self.is_named(index, link);
            }
            Rtm::Dellink => self.is_gone(index),
            _ => {}
        }
    }

    fn is_now(&mut self, index: u32, state: State) {
        // A new link that is down is not reported.
        let before = self.known.insert(index, state).unwrap_or(State::Down);
        if before != state {
            self.pending.push_back(match state {
                State::Up => LinkEvent::Up { index },
                State::NoCarrier => LinkEvent::NoCarrier { index },
                State::Down => LinkEvent::Down { index },
            });
        }
    }

    fn is_gone(&mut self, index: u32) {
        if self.known.remove(&index).is_some() {
            self.pending.push_back(LinkEvent::Deleted { index });
        }
    }

    /// A link may get its name when it is made, or later.
    fn is_named(&mut self, index: u32, link: &Ifinfomsg) {
        if self.expected.is_empty() {
            return;
        }
        let name = link.rtattrs().get_attr_handle().get_attr_payload_as_with_len::<String>(Ifla::Ifname);
        if let Ok(name) = name
            && self.expected.remove(&name)
        {
            self.pending.push_back(LinkEvent::Named { index, name });
        }
    }

    /// Reads every link and reports what differs from what is known.
    fn compare(&mut self) -> io::Result<()> {
        let links = list(&mut self.requests)?;
        let now: BTreeMap<u32, State> = links
            .iter()
            .filter_map(|link| Some((u32::try_from(*link.ifi_index()).ok()?, state(link))))
            .collect();
        let gone: Vec<u32> = self.known.keys().filter(|index| !now.contains_key(index)).copied().collect();
        for index in gone {
            self.is_gone(index);
        }
        for (index, state) in now {
            self.is_now(index, state);
        }
        for link in &links {
            if let Ok(index) = u32::try_from(*link.ifi_index()) {
                self.is_named(index, link);
            }
        }
        Ok(())
    }
}

impl AsFd for LinkWatch {
    /// Readable when [`LinkWatch::next`] may have something to report.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

fn refused(source: io::Error) -> HostError {
    HostError::Netlink { what: "watch the links", source }
}
