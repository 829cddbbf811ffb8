//! Handing a running engine over to another process, which goes on with its sockets and their frames.
//!
//! 1. The first process [offers](super::Running::offer) what it has: a description, and descriptors.
//! 2. The second one makes a [plan](super::EngineBuilder::take_over) of its own and
//!    [prepares](super::Engine::prepare): it maps the rings, and loads its program with its lists. Until
//!    here either can give up, and the first simply continues.
//! 3. The first one [hands over](super::Running::hand_over): each of its workers stops between two batches,
//!    and says so to the one that follows it. The second [goes on](super::Prepared::go): it puts the
//!    sockets into its XSKMAP, its program replaces the first one's, atomically, and its workers take frames
//!    as soon as their predecessors have stopped.
//! 4. The first one [retires](super::Running::retire): it completes its outputs. The second
//!    [continues](super::Running::continue_account) its account.
//!
//! Frames wait in the rings meanwhile. What the rings cannot hold the kernel counts, in the same sockets.
//! Minimum kernel version: 6.4, from which on the rings of a bound socket can be mapped again.
//!
//! On older kernels, and where a socket's own sizes are to change, the hand-over is cold
//! ([`SocketsPass::OpenedAnew`]): the second process opens sockets of its own, and binds them when the first
//! one has emptied and closed its. Meanwhile frames pass to the host, and the first one's program, attached
//! until it is replaced, counts them. Minimum kernel version: 5.9.
//!
//! A run can also be kept for the time after its process has been killed ([`SocketsPass::Kept`]): a service
//! manager holds the descriptors of an offer and a [`KeptAccount`](super::KeptAccount) that is renewed now and
//! then, and starts the second process. Minimum kernel version: 6.4.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{Bind, InterfacePlan, XdpMode, worker};
use crate::{
    host::{clock::monotonic, kernel::KernelVersion},
    xdp::{Link, MapParts},
    xsk::{SocketParts, Statistics},
};

/// The schema of the description. A process that knows another one cannot take over.
const SCHEMA: &str = "mirror.handover/1";
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Why a run cannot be handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// The kernel does not let another process map the rings.
    #[error("the kernel maps the rings of a bound socket only once ({running}; needs 6.4)")]
    Kernel {
        /// The running kernel.
        running: KernelVersion,
    },
    /// The run is not in a state to be handed over.
    #[error("{reason}")]
    State {
        /// Why.
        reason: String,
    },
    /// The system refused descriptors.
    #[error("{what}: {source}")]
    System {
        /// Of what.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The other process's description is not as expected.
    #[error("the description of the other process: {reason}")]
    Description {
        /// What is wrong.
        reason: String,
    },
}

/// Whether the other process goes on with the sockets.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketsPass {
    /// It does: no frame is lost. Minimum kernel version: 6.4.
    #[default]
    Over,
    /// It opens its own. Frames pass to the host from the time on from which the first process takes no more
    /// until those are bound; how many, and for how long, is in the [report](crate::account::Upgrades).
    OpenedAnew,
    /// It does, after the first one has ended, at whatever moment: a third process has kept the descriptors.
    /// The [report](crate::account::Restarts) has what is not known of the first one's frames. Minimum kernel
    /// version: 6.4.
    Kept,
}

/// What a running engine hands over.
#[derive(Debug)]
pub struct Offer {
    handed: Handed,
    descriptors: Vec<OwnedFd>,
    /// Of each worker, in sequence: where it says that it has stopped.
    pub(super) signals: Vec<OwnedFd>,
}

impl Offer {
    pub(super) fn new(sockets: SocketsPass, elapsed: Duration, started: SystemTime) -> Self {
        let (schema, interfaces) = (SCHEMA.to_owned(), Vec::new());
        let release = RELEASE.to_owned();
        let at = Some(monotonic());
        let handed = Handed { schema, release, sockets, elapsed, at, started, interfaces, ports: 0 };
        Self { handed, descriptors: Vec::new(), signals: Vec::new() }
    }

    /// Whether the sockets go with it.
    #[must_use]
    pub fn sockets(&self) -> SocketsPass {
        self.handed.sockets
    }

    /// `maps` are those of the program, if it is kept.
    pub(super) fn add_interface(
        &mut self,
        interface: HandedInterface,
        link: OwnedFd,
        maps: Option<MapParts>,
    ) {
        self.handed.interfaces.push(interface);
        self.descriptors.push(link);
        self.descriptors.extend(maps.into_iter().flat_map(|MapParts { counters, xsks }| [counters, xsks]));
    }

    /// `parts` are those of the socket, if it goes with the offer.
    pub(super) fn add_queue(&mut self, parts: Option<SocketParts>) -> io::Result<()> {
        self.descriptors.extend(parts.into_iter().flat_map(|SocketParts { socket, umem }| [socket, umem]));
        if self.sockets() != SocketsPass::Kept {
            let signal = worker::new_signal()?;
            self.descriptors.push(signal.try_clone()?);
            self.signals.push(signal);
        }
        Ok(())
    }

    pub(super) fn add_ports(&mut self, sockets: Vec<OwnedFd>) {
        self.handed.ports = sockets.len();
        self.descriptors.extend(sockets);
    }

    /// The description, as text of one line.
    ///
    /// # Errors
    ///
    /// A name that JSON cannot express.
    pub fn description(&self) -> Result<String, HandOverError> {
        serde_json::to_string(&self.handed)
            .map_err(|error| HandOverError::Description { reason: error.to_string() })
    }

    /// The descriptors that belong to it, in sequence.
    pub fn descriptors(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.descriptors.iter().map(OwnedFd::as_fd)
    }
}

/// What another process hands over, as received.
#[derive(Debug)]
pub struct Inheritance {
    handed: Handed,
    interfaces: Vec<Vec<OwnedFd>>,
    ports: Vec<OwnedFd>,
}

impl Inheritance {
    /// From the description and the descriptors of an [`Offer`].
    ///
    /// # Errors
    ///
    /// It is of another version, or the descriptors are not those that it describes.
    pub fn new(description: &str, descriptors: Vec<OwnedFd>) -> Result<Self, HandOverError> {
        let wrong = |reason: String| HandOverError::Description { reason };
        /// Fields of later versions have no meaning here.
        #[derive(Deserialize)]
        struct Version {
            schema: String,
        }
        let Version { schema } =
            serde_json::from_str(description).map_err(|error| wrong(error.to_string()))?;
        if schema != SCHEMA {
            return Err(wrong(format!("{schema}, and this release has {SCHEMA}")));
        }
        let handed: Handed = serde_json::from_str(description).map_err(|error| wrong(error.to_string()))?;
        // What the maps of its program hold is part of no schema.
        if handed.sockets == SocketsPass::Kept && handed.release != RELEASE {
            return Err(wrong(format!("it is of release {}, and this is {RELEASE}", handed.release)));
        }
        let mut left = descriptors.into_iter();
        let mut take = |count: usize| {
            let taken: Vec<_> = left.by_ref().take(count).collect();
            if taken.len() == count { Ok(taken) } else { Err(wrong("descriptors are missing".to_owned())) }
        };
        let (own, of_queue) =
            (handed.sockets.descriptors_of_interface(), handed.sockets.descriptors_of_queue());
        let interfaces = handed.interfaces.iter().map(|one| take(own + one.queues.len() * of_queue));
        let interfaces = interfaces.collect::<Result<_, _>>()?;
        let ports = take(handed.ports)?;
        if left.next().is_some() {
            return Err(wrong("there are more descriptors than described".to_owned()));
        }
        Ok(Self { handed, interfaces, ports })
    }

    /// How long the run has lasted.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let Handed { elapsed, at, .. } = &self.handed;
        let since = at.map(|at| Duration::from_nanos(monotonic().saturating_sub(at)));
        *elapsed + since.unwrap_or_default()
    }

    /// Whether the sockets come with it.
    #[must_use]
    pub fn sockets(&self) -> SocketsPass {
        self.handed.sockets
    }

    /// When it was started.
    pub(super) fn started(&self) -> SystemTime {
        self.handed.started
    }

    /// The kernel's id of the program that is attached to an interface.
    pub(super) fn program_on(&self, interface: &str) -> Option<u32> {
        self.interface(interface).map(|(handed, _)| handed.program)
    }

    /// Sockets that hold the tunnel ports.
    pub(super) fn ports(&self) -> io::Result<Vec<OwnedFd>> {
        self.ports.iter().map(OwnedFd::try_clone).collect()
    }

    fn interface(&self, name: &str) -> Option<(&HandedInterface, &[OwnedFd])> {
        let mut all = self.handed.interfaces.iter().zip(&self.interfaces);
        all.find(|(handed, _)| handed.name == name).map(|(handed, descriptors)| (handed, &**descriptors))
    }

    /// Fails unless the plans are those of the other process.
    pub(super) fn check(&self, plans: &[InterfacePlan]) -> Result<(), TakeOverError> {
        let missing = |name: &str| TakeOverError {
            interface: name.to_owned(),
            what: "the interface",
            theirs: "captured".to_owned(),
            ours: "not".to_owned(),
            of_socket: false,
        };
        if let Some(left) = self
            .handed
            .interfaces
            .iter()
            .find(|handed| !plans.iter().any(|plan| plan.interface.name == handed.name))
        {
            return Err(missing(&left.name));
        }
        for plan in plans {
            let name = &plan.interface.name;
            let Some((handed, _)) = self.interface(name) else {
                let TakeOverError { theirs, ours, .. } = missing(name);
                return Err(TakeOverError { theirs: ours, ours: theirs, ..missing(name) });
            };
            handed.check(plan, self.handed.sockets)?;
        }
        Ok(())
    }

    /// What is left of an interface that was [checked](Self::check).
    pub(super) fn of(&self, interface: &str) -> io::Result<InheritedInterface> {
        let (handed, descriptors) = self.interface(interface).ok_or(io::ErrorKind::NotFound)?;
        let mut descriptors = descriptors.iter().map(OwnedFd::try_clone);
        let mut next = || descriptors.next().unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        let link = Link::of(next()?);
        let is_kept = self.handed.sockets == SocketsPass::Kept;
        let maps = if is_kept { Some(MapParts { counters: next()?, xsks: next()? }) } else { None };
        let mut workers = Vec::with_capacity(handed.queues.len());
        if self.handed.sockets != SocketsPass::OpenedAnew {
            for _ in &handed.queues {
                let parts = SocketParts { socket: next()?, umem: next()? };
                workers.push(worker::Inherited { parts, signal: (!is_kept).then(&mut next).transpose()? });
            }
        }
        let HandedInterface { mode, counters, queues, earlier, .. } = handed;
        Ok(InheritedInterface {
            link,
            maps,
            mode: *mode,
            counters: counters.clone(),
            queues: queues.clone(),
            earlier: earlier.clone(),
            workers,
        })
    }

    /// Waits until the workers of the other process have closed their sockets. Returns since when frames have
    /// passed to the host, CLOCK_MONOTONIC in ns.
    pub(super) fn await_closed(&self) -> io::Result<u64> {
        /// They empty their rings. After this time the sockets are closed, or a bind says that they are not.
        const PATIENCE: Duration = Duration::from_secs(5);
        let begun = monotonic();
        let deadline = Instant::now() + PATIENCE;
        let signals = self.signals()?;
        let since = signals
            .iter()
            .filter_map(|signal| worker::await_announcement(signal, || Instant::now() >= deadline));
        Ok(since.min().unwrap_or(begun))
    }

    /// Where the workers of the other process say that they have stopped; none of a process that has ended.
    pub(super) fn signals(&self) -> io::Result<Vec<OwnedFd>> {
        if self.handed.sockets == SocketsPass::Kept {
            return Ok(Vec::new());
        }
        let of_queue = self.handed.sockets.descriptors_of_queue();
        let signals =
            self.interfaces.iter().flat_map(|one| one[1..].iter().skip(of_queue - 1).step_by(of_queue));
        signals.map(OwnedFd::try_clone).collect()
    }
}

impl SocketsPass {
    /// The link, and two maps of a program that is kept.
    fn descriptors_of_interface(self) -> usize {
        match self {
            Self::Over | Self::OpenedAnew => 1,
            Self::Kept => 3,
        }
    }

    /// Socket and UMEM, if they go with an offer, and the signal of a process that has not ended.
    fn descriptors_of_queue(self) -> usize {
        match self {
            Self::Over => 3,
            Self::OpenedAnew => 1,
            Self::Kept => 2,
        }
    }
}

/// An interface that another process leaves.
pub(super) struct InheritedInterface {
    pub(super) link: Link,
    /// Of a process that has ended.
    pub(super) maps: Option<MapParts>,
    pub(super) mode: XdpMode,
    /// The interface's own counters when that process began.
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) queues: Vec<u32>,
    /// See [`HandedInterface::earlier`].
    pub(super) earlier: Vec<Statistics>,
    /// By queue; none if each is to open its own socket.
    pub(super) workers: Vec<worker::Inherited>,
}

/// The description of an offer.
#[derive(Debug, Deserialize, Serialize)]
struct Handed {
    schema: String,
    #[serde(default)]
    release: String,
    sockets: SocketsPass,
    elapsed: Duration,
    /// When that was, CLOCK_MONOTONIC of the host in ns.
    #[serde(default)]
    at: Option<u64>,
    started: SystemTime,
    interfaces: Vec<HandedInterface>,
    /// Sockets that hold tunnel ports.
    ports: usize,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct HandedInterface {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) program: u32,
    pub(super) mode: XdpMode,
    pub(super) bind: Bind,
    pub(super) rx_ring: u32,
    pub(super) chunk_size: u32,
    pub(super) chunks: u32,
    pub(super) scatter_gather: bool,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) queues: Vec<u32>,
    /// Of each queue: what the kernel has counted in sockets that the run had before the present one.
    #[serde(default)]
    pub(super) earlier: Vec<Statistics>,
}

/// Why a process cannot take a run over with its own options: they need other sockets, or another program.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{interface}: {what} cannot change in this upgrade: now {theirs}, wanted {ours}")]
#[non_exhaustive]
pub struct TakeOverError {
    /// The interface.
    pub interface: String,
    /// What differs.
    pub what: &'static str,
    /// As it is.
    pub theirs: String,
    /// As this process would have it.
    pub ours: String,
    /// Whether it is a property of sockets: with [`SocketsPass::OpenedAnew`] it can change.
    pub of_socket: bool,
}

impl HandedInterface {
    fn check(&self, plan: &InterfacePlan, sockets: SocketsPass) -> Result<(), TakeOverError> {
        let queues = |queues: &[u32]| {
            let numbers: Vec<_> = queues.iter().map(u32::to_string).collect();
            numbers.join(",")
        };
        let wanted: Vec<_> = plan.queues.iter().map(|place| place.queue).collect();
        let modes: Vec<_> = plan.modes.iter().map(|mode| mode.name()).collect();
        let has_mode = plan.modes.contains(&self.mode);
        let of_program = [
            ("the interface's index", self.index.to_string(), plan.interface.index.to_string()),
            (
                "the XDP mode",
                self.mode.name().to_owned(),
                if has_mode { self.mode.name().to_owned() } else { modes.join(" or ") },
            ),
        ];
        let of_sockets = [
            ("the queues", queues(&self.queues), queues(&wanted)),
            ("the RX ring", self.rx_ring.to_string(), plan.rx_ring.to_string()),
            ("the size of chunks", self.chunk_size.to_string(), plan.chunk_size.to_string()),
            ("the number of chunks", self.chunks.to_string(), plan.chunks.to_string()),
            ("scatter-gather", self.scatter_gather.to_string(), plan.scatter_gather.to_string()),
            ("the bind mode", self.bind.name().to_owned(), plan.bind.name().to_owned()),
        ];
        let differences = of_program.map(|difference| (difference, false)).into_iter();
        let passes = sockets != SocketsPass::OpenedAnew;
        let of_sockets = of_sockets.map(|difference| (difference, true)).into_iter().filter(|_| passes);
        match differences.chain(of_sockets).find(|((_, theirs, ours), _)| theirs != ours) {
            Some(((what, theirs, ours), of_socket)) => {
                Err(TakeOverError { interface: self.name.clone(), what, theirs, ours, of_socket })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(sockets: SocketsPass, interfaces: Vec<HandedInterface>, ports: usize) -> String {
        let mut offer = Offer::new(sockets, Duration::from_secs(7), SystemTime::UNIX_EPOCH);
        offer.handed.interfaces = interfaces;
        offer.handed.ports = ports;
        offer.description().unwrap()
    }

    fn interface() -> HandedInterface {
        HandedInterface {
            name: "ens6".to_owned(),
            index: 3,
            program: 11,
            mode: XdpMode::Native,
            bind: Bind::Copy,
            rx_ring: 64,
            chunk_size: 2048,
            chunks: 128,
            scatter_gather: false,
            counters: [("rx_dropped".to_owned(), 5)].into(),
            queues: vec![0, 1],
            earlier: Vec::new(),
        }
    }

    fn descriptors(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| worker::new_signal().unwrap()).collect()
    }

    #[test]
    fn an_offer_comes_back_with_each_descriptor_in_its_place() {
        let described = described(SocketsPass::Over, vec![interface()], 1);
        let handed = Inheritance::new(&described, descriptors(8)).unwrap();
        assert_eq!((handed.elapsed().as_secs(), handed.program_on("ens6")), (7, Some(11)));
        assert_eq!(handed.program_on("ens7"), None);
        assert_eq!((handed.ports().unwrap().len(), handed.signals().unwrap().len()), (1, 2));
        let inherited = handed.of("ens6").unwrap();
        assert_eq!((inherited.workers.len(), inherited.counters["rx_dropped"]), (2, 5));
    }

    #[test]
    fn an_offer_without_sockets_has_the_link_and_a_signal_of_each_queue() {
        let described = described(SocketsPass::OpenedAnew, vec![interface()], 1);
        let handed = Inheritance::new(&described, descriptors(4)).unwrap();
        assert_eq!(handed.sockets(), SocketsPass::OpenedAnew);
        assert_eq!((handed.ports().unwrap().len(), handed.signals().unwrap().len()), (1, 2));
        assert!(handed.of("ens6").unwrap().workers.is_empty());
    }

    #[test]
    fn what_is_kept_has_maps_and_no_signals_and_is_for_the_same_release() {
        let described = described(SocketsPass::Kept, vec![interface()], 1);
        let kept = Inheritance::new(&described, descriptors(8)).unwrap();
        assert!(kept.signals().unwrap().is_empty());
        let inherited = kept.of("ens6").unwrap();
        assert!(inherited.maps.is_some());
        assert!(inherited.workers.len() == 2 && inherited.workers.iter().all(|one| one.signal.is_none()));
        let other = described.replace(RELEASE, "0.0.1");
        let error = Inheritance::new(&other, descriptors(8)).unwrap_err().to_string();
        assert!(error.ends_with(&format!("it is of release 0.0.1, and this is {RELEASE}")), "{error}");
    }

    #[test]
    fn too_few_or_too_many_descriptors_and_other_versions_are_refused() {
        let text = described(SocketsPass::Over, vec![interface()], 1);
        for (text, count, reason) in [
            (text.clone(), 7, "descriptors are missing"),
            (text.clone(), 9, "more descriptors than described"),
            (text.replace("handover/1", "handover/2"), 8, "mirror.handover/2, and this release has"),
            ("{}".to_owned(), 0, "missing field"),
            (String::new(), 0, "EOF"),
        ] {
            let error = Inheritance::new(&text, descriptors(count)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
