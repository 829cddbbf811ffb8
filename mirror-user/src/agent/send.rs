//! Sends copies by the interface that leads to the target.
//!
//! Over AF_PACKET: with the kernel's own headers the identification would not be 0, and copies could be
//! fragmented. They pass the interface's queueing discipline, so that they wait with production, not before
//! it.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use arrayvec::ArrayVec;
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockType, bind, setsockopt, socket, sockopt},
};

use super::{
    AgentError, FrameCounters, Oversize, SessionOut,
    outer::{Ends, MAX_OUTER, Outer, source_port},
    segment::{MAX_HEADERS, Segments, VnetHeader},
};
use crate::{
    flow::frame_hash,
    host::{
        burst::{BURST, Burst},
        next_hop::{NextHop, NextHopWatch},
    },
    log_limit::LogLimit,
    sink::forward::NotSent,
};

/// How often the next hop is looked up.
const LOOKS: Duration = Duration::from_millis(100);
/// How long a path waits for its next hop at most: one that answers does so within a few ms.
const RESOLVED_WITHIN: Duration = Duration::from_millis(200);
/// Between two looks meanwhile.
const RESOLVING: Duration = Duration::from_millis(2);
/// Send buffer of the socket, in bytes; the kernel doubles it and applies its own limit.
const SEND_BUFFER: usize = 4 << 20;
/// TC_PRIO_BULK of `linux/pkt_sched.h`: the last band of `pfifo_fast` and `prio`.
const BULK: libc::c_int = 2;

/// Outer headers and those of the segment, and the rest of it.
type Message<'f> = (ArrayVec<u8, { MAX_OUTER + MAX_HEADERS }>, &'f [u8]);

/// A burst.
type Messages<'f> = ArrayVec<Message<'f>, BURST>;

/// The way to a target.
#[derive(Debug)]
pub(super) struct Path {
    to: SocketAddr,
    next_hop: NextHopWatch,
    socket: OwnedFd,
    /// The interface that the socket sends by.
    index: u32,
    interface: String,
}

impl Path {
    /// Needs a route, and CAP_NET_RAW. Waits for the next hop's MAC address: until it is known, copies are
    /// lost.
    pub(super) fn open(to: SocketAddr) -> Result<Self, AgentError> {
        let next_hop = NextHopWatch::open(to.ip())?;
        let begin = Instant::now();
        while next_hop.look().is_err() && begin.elapsed() < RESOLVED_WITHIN {
            thread::sleep(RESOLVING);
        }
        let (socket, index) = (packet_socket()?, next_hop.index());
        let interface = send_by(&socket, index)?;
        Ok(Self { to, next_hop, socket, index, interface })
    }

    /// The next hop at present, from now on by its interface.
    fn follow(&mut self) -> Result<NextHop, String> {
        let hop = self.next_hop.look_everywhere()?;
        if hop.index != self.index {
            self.interface = send_by(&self.socket, hop.index).map_err(|error| error.to_string())?;
            self.index = hop.index;
        }
        Ok(hop)
    }
}

/// Sends the copies of a session.
#[derive(Debug)]
pub(super) struct Sender {
    session: SessionOut,
    path: Path,
    /// `None` while there is no next hop.
    outer: Option<Outer>,
    looked: Option<Instant>,
    /// Others can cause many changes.
    log: LogLimit,
}

impl Sender {
    pub(super) fn open(session: SessionOut) -> Result<Self, AgentError> {
        let path = Path::open(session.to)?;
        Ok(Self { session, path, outer: None, looked: None, log: LogLimit::default() })
    }

    /// Goes on with another session, and another path if it has another target.
    pub(super) fn replace(&mut self, session: SessionOut, path: Option<Path>) {
        self.session = session;
        if let Some(path) = path {
            self.path = path;
        }
        // A port alone may differ.
        self.path.to = session.to;
        (self.outer, self.looked) = (None, None);
    }

    /// Looks the next hop up if that is due.
    pub(super) fn look(&mut self, now: Instant) {
        if self.looked.is_some_and(|looked| now.duration_since(looked) < LOOKS) {
            return;
        }
        let (is_first, was_resolved) = (self.looked.is_none(), self.outer.is_some());
        self.looked = Some(now);
        let to = self.path.to;
        let before = self.path.index;
        let outer = self
            .path
            .follow()
            .and_then(|hop| self.outer(hop).ok_or_else(|| "its addresses are of two families".to_owned()));
        if let Some(lines) = self.log.left_out(now) {
            tracing::warn!("{to}: {lines} more lines about it were not logged");
        }
        if self.path.index != before && self.log.passes(now) {
            tracing::info!("{to}: its route has changed, copies leave by {}", self.path.interface);
        }
        match &outer {
            Ok(_) if !was_resolved && !is_first && self.log.passes(now) => {
                tracing::info!("{to}: copies are sent again");
            }
            Err(reason) if (was_resolved || is_first) && self.log.passes(now) => {
                tracing::warn!("{to}: {reason}; until then no copies are sent");
            }
            _ => {}
        }
        self.outer = outer.ok();
    }

    fn outer(&self, hop: NextHop) -> Option<Outer> {
        let NextHop { index: _, source: from, mac, neighbour, mtu } = hop;
        Outer::new(&Ends { mac, neighbour, from, to: self.path.to }, self.session.vni, mtu)
    }

    /// Sends the segments of these frames, each behind its virtio header, in sequence.
    pub(super) fn send<'f>(
        &self,
        frames: impl Iterator<Item = &'f mut [u8]>,
        seed: u64,
        burst: &mut Burst,
        counters: &mut FrameCounters,
    ) {
        let mut messages = Messages::new();
        for read in frames {
            counters.read += 1;
            let Some((vnet, frame)) = VnetHeader::split(read) else {
                counters.unreadable += 1;
                continue;
            };
            let port = source_port(frame_hash(frame, seed));
            let mut segments = Segments::of(vnet, frame);
            counters.inconsistent += u64::from(segments.is_inconsistent());
            counters.segments += segments.left() as u64;
            let Some(outer) = &self.outer else {
                counters.send_failed.unresolved += segments.left() as u64;
                continue;
            };
            while segments.left() > 0 {
                if messages.is_full() {
                    self.flush(&mut messages, burst, counters);
                }
                if !self.add(outer, &mut segments, port, &mut messages, counters) {
                    counters.oversize += 1;
                }
            }
        }
        self.flush(&mut messages, burst, counters);
    }

    /// Adds the next segment to the burst; whether it did, and the segment was not too long.
    fn add<'f>(
        &self,
        outer: &Outer,
        segments: &mut Segments<'f>,
        port: u16,
        messages: &mut Messages<'f>,
        counters: &mut FrameCounters,
    ) -> bool {
        messages.push((ArrayVec::new(), &[]));
        let Some((headers, rest)) = messages.last_mut() else { return false };
        headers.try_extend_from_slice(outer.headers()).unwrap_or_default();
        let begin = headers.len();
        *rest = segments.next_into(headers).unwrap_or_default();
        let len = headers.len() - begin + rest.len();
        let wanted = self.session.packet_length.map_or(len, |most| len.min(most.into()));
        if wanted > outer.room() && self.session.oversize == Oversize::Drop {
            messages.pop();
            return false;
        }
        let kept = wanted.min(outer.room());
        counters.truncated += u64::from(kept < wanted);
        headers.truncate(begin + kept);
        *rest = &rest[..rest.len().min(kept - (headers.len() - begin))];
        outer.complete(headers, rest, port);
        true
    }

    fn flush(&self, messages: &mut Messages<'_>, burst: &mut Burst, counters: &mut FrameCounters) {
        burst.send(self.path.socket.as_fd(), messages, |sent| match sent {
            Ok(sent) => counters.sent += sent,
            Err(error) => counters.send_failed.add(NotSent::of(&error)),
        });
        messages.clear();
    }
}

fn failed(what: &'static str) -> impl Fn(Errno) -> AgentError {
    move |errno| AgentError::Socket { what, source: errno.into() }
}

/// A packet socket (packet(7)) that receives nothing: its protocol is 0. Needs CAP_NET_RAW.
fn packet_socket() -> Result<OwnedFd, AgentError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(failed("packet socket"))?;
    setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER).map_err(failed("send buffer"))?;
    setsockopt(&socket, sockopt::Priority, &BULK).map_err(failed("priority"))?;
    Ok(socket)
}

/// Has a packet socket send by an interface, and returns its name. Needs no privilege.
fn send_by(socket: &OwnedFd, index: u32) -> Result<String, AgentError> {
    let (name, address) = link(index).map_err(failed("interfaces"))?;
    bind(socket.as_raw_fd(), &address).map_err(failed("bind"))?;
    Ok(name)
}

/// Name and address of an interface.
fn link(index: u32) -> Result<(String, LinkAddr), Errno> {
    let links = getifaddrs()?.filter_map(|it| Some((it.interface_name, *it.address?.as_link_addr()?)));
    links.into_iter().find(|(_, link)| u32::try_from(link.ifindex()) == Ok(index)).ok_or(Errno::ENODEV)
}
