//! A mirror source: interfaces whose packets are mirrored as their sessions say.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant, SystemTime},
};

use mirror_ebpf::{
    source::RuleSet,
    wire::{ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER, UDP_HEADER, VXLAN_HEADER, VXLAN_PORT},
};

use super::{
    AgentError, AgentOptions, AgentThread, Carrier, CarrierCounters, Oversize, SessionOut,
    report::{DirectionReport, InterfaceReport, SessionReport, SourceReport},
    rules::{Place, rule_set},
};
use crate::{
    host::interface::Interface,
    mirroring::{Direction, Mirroring, Session, Severity, TargetKind},
    tc::{Classifiers, Hook, Order},
    xdp::ProgramSetupError,
};

/// What a softirq takes that had a program when it was detached.
const IN_FLIGHT: Duration = Duration::from_millis(20);
/// The lowest limit of bits a second: the programs count in 64 bits.
const LEAST_RATE: u64 = 1000;
/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(1);

/// How a source mirrors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceOptions {
    /// Addresses of targets, by id: they go before those that the set-up knows of the target's interface. Of
    /// several, the first is taken.
    pub targets: BTreeMap<String, Vec<SocketAddr>>,
    /// What becomes of a packet that does not fit into one packet to the target.
    pub oversize: Oversize,
    /// The most bits a second that the copies of an interface have, with their outer headers; `None` for no
    /// limit, at least 1000.
    pub max_rate: Option<u64>,
    /// The most copies of an interface a second; `None` for no limit.
    pub max_pps: Option<u64>,
    /// How the programs are attached; `None` for tcx if the kernel has that (6.6), else clsact.
    pub hook: Option<Hook>,
    /// Whether the programs see packets behind those of others, not before them.
    pub last: bool,
    /// Frames that wait in a carrier at most. Default: 4096.
    pub queue: u32,
    /// How the thread runs.
    pub thread: AgentOptions,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            targets: BTreeMap::new(),
            oversize: Oversize::default(),
            max_rate: None,
            max_pps: None,
            hook: None,
            last: false,
            queue: 4096,
            thread: AgentOptions::default(),
        }
    }
}

/// Why a source does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The set-up has errors.
    #[error("{}", .0.join("\n"))]
    SetUp(Vec<String>),
    /// Nothing mirrors an interface.
    #[error("{0}: no session has this source; see `mirror filter show`")]
    NoSession(String),
    /// A target's address is not known.
    #[error(
        "{target}: no address known; give one, as --target {target}=ADDR, or its interface's description"
    )]
    NoAddress {
        /// The target.
        target: String,
    },
    /// An interface whose packets have no Ethernet header.
    #[error("{0}: its packets have no Ethernet header, which a mirrored packet begins with")]
    NotEthernet(String),
    /// The interfaces differ from those of the start.
    #[error("{interface}: its sessions are {now}, and were {before} at the start; restart to change that")]
    OtherSessions {
        /// The source.
        interface: String,
        /// Their ids now.
        now: String,
        /// Their ids at the start.
        before: String,
    },
    /// A carrier or the thread.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The tc programs.
    #[error("{interface}: {source}")]
    Program {
        /// The interface.
        interface: String,
        /// Why.
        source: ProgramSetupError,
    },
    /// The interface.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
}

/// A running source. Dropping it detaches its programs, and removes its carriers.
#[derive(Debug)]
pub struct Source {
    // Programs are detached before the carriers go.
    interfaces: Vec<Mirrored>,
    thread: AgentThread,
    options: SourceOptions,
    started: Instant,
    started_at: SystemTime,
    beaten: Instant,
}

/// An interface with its sessions.
#[derive(Debug)]
struct Mirrored {
    /// Its id as a source.
    id: String,
    /// Its name.
    interface: String,
    programs: Classifiers,
    /// In the sequence of their carriers, which are those of the interfaces before and then these.
    sessions: Vec<Carried>,
}

#[derive(Clone, Debug)]
struct Carried {
    session: String,
    target: String,
    out: SessionOut,
    place: Place,
}

impl Source {
    /// Opens carriers, starts the thread, and attaches the programs. `interfaces` are ids of sources with the
    /// names of the host's interfaces. Needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON. Minimum
    /// kernel version: 5.5.
    ///
    /// # Errors
    ///
    /// As each variant of [`SourceError`] says. Nothing is left then.
    pub fn start(
        mirroring: &Mirroring,
        interfaces: &[(String, String)],
        options: SourceOptions,
    ) -> Result<Self, SourceError> {
        check(mirroring)?;
        let mut carriers = Vec::new();
        let mut prepared = Vec::new();
        for (id, name) in interfaces {
            let host = Interface::named(name)?;
            if host.loopback || host.mac.is_none() {
                return Err(SourceError::NotEthernet(name.clone()));
            }
            let mut sessions = Vec::new();
            for (session, out) in outs(mirroring, id, &options)? {
                let carrier = Carrier::open(&carrier_name(carriers.len()), out, options.queue)?;
                let place = Place {
                    place: u32::try_from(sessions.len()).unwrap_or(u32::MAX),
                    carrier: carrier.ifindex(),
                    overhead: overhead(out.to.ip()),
                };
                let (session, target) = (session.id.clone(), session.target.clone());
                sessions.push(Carried { session, target, out, place });
                carriers.push(carrier);
            }
            prepared.push((id, name, sessions));
        }
        let thread = AgentThread::start(carriers, options.thread.clone())?;
        let order = if options.last { Order::Last } else { Order::First };
        let mut source = Self {
            interfaces: Vec::new(),
            thread,
            options,
            started: Instant::now(),
            started_at: SystemTime::now(),
            beaten: Instant::now(),
        };
        for (id, interface, sessions) in prepared {
            let failed = |source| SourceError::Program { interface: interface.clone(), source };
            let programs = Classifiers::attach(interface, source.options.hook, order).map_err(failed)?;
            let (id, interface) = (id.clone(), interface.clone());
            source.interfaces.push(Mirrored { id, interface, programs, sessions });
        }
        source.set_rules(mirroring)?;
        Ok(source)
    }

    /// Goes on with another set-up of the same sources and sessions: filters, targets, lengths and VNIs may
    /// differ. Each packet is judged by the old rules or by the new ones, and counters go on.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); all stays as it was then, but for [`SourceError::Program`]: targets, lengths
    /// and VNIs are the new ones.
    pub fn reload(&mut self, mirroring: &Mirroring) -> Result<(), SourceError> {
        check(mirroring)?;
        let mut all = Vec::new();
        for live in &self.interfaces {
            let wanted = outs(mirroring, &live.id, &self.options)?;
            let ids = |ids: Vec<&str>| if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
            let mut now: Vec<_> = wanted.iter().map(|(session, _)| session.id.as_str()).collect();
            let mut before: Vec<_> = live.sessions.iter().map(|carried| carried.session.as_str()).collect();
            now.sort_unstable();
            before.sort_unstable();
            if now != before {
                let (interface, now, before) = (live.id.clone(), ids(now), ids(before));
                return Err(SourceError::OtherSessions { interface, now, before });
            }
            let of = |carried: &Carried| {
                let found = wanted.iter().find(|(session, _)| session.id == carried.session);
                found.map(|(session, out)| (session.target.clone(), *out))
            };
            all.extend(live.sessions.iter().filter_map(of));
        }
        let outs: Vec<_> = all.iter().map(|(_, out)| *out).collect();
        self.thread.replace(&outs)?;
        let carried = self.interfaces.iter_mut().flat_map(|live| &mut live.sessions);
        for (carried, (target, out)) in carried.zip(all) {
            (carried.target, carried.out, carried.place.overhead) = (target, out, overhead(out.to.ip()));
        }
        self.set_rules(mirroring)
    }

    fn set_rules(&self, mirroring: &Mirroring) -> Result<(), SourceError> {
        let copies: Vec<_> = self.sessions().map(|carried| carried.out.to).collect();
        for live in &self.interfaces {
            let place_of = |session: &Session| {
                let carried = live.sessions.iter().find(|carried| carried.session == session.id);
                carried.map_or(Place { place: 0, carrier: 0, overhead: 0 }, |carried| carried.place)
            };
            for direction in [Direction::Ingress, Direction::Egress] {
                let rules = RuleSet {
                    byte_time: time_of(self.options.max_rate.map(|bits| bits.max(LEAST_RATE) / 8)),
                    packet_time: time_of(self.options.max_pps),
                    ..rule_set(mirroring, &live.id, direction, place_of, &copies)
                };
                live.programs.set_rules(direction, &rules).map_err(|source| live.failed(source))?;
            }
        }
        Ok(())
    }

    fn sessions(&self) -> impl Iterator<Item = &Carried> {
        self.interfaces.iter().flat_map(|live| &live.sessions)
    }

    /// What is mirrored where, a line for each interface and session.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let order = if self.options.last { "after" } else { "before" };
        let of = |live: &Mirrored| {
            let Mirrored { id, interface, programs, sessions } = live;
            let hook = programs.hook().name();
            let sessions = sessions.iter().map(|Carried { session, target, out, .. }| {
                format!("  {session}: VNI {} to {target} at {}", out.vni, out.to)
            });
            let first = format!("mirroring {id} at {interface}, {hook}, {order} other programs");
            std::iter::once(first).chain(sessions).collect::<Vec<_>>()
        };
        self.interfaces.iter().flat_map(of).collect()
    }

    /// Does what is due: to be called a few times a second. Whether the thread still runs.
    ///
    /// # Errors
    ///
    /// [`SourceError::Program`]: the heartbeat of programs that would outlive this process.
    pub fn turn(&mut self) -> Result<bool, SourceError> {
        if self.beaten.elapsed() >= BEAT {
            self.beaten = Instant::now();
            for live in &self.interfaces {
                live.programs.beat().map_err(|source| live.failed(source))?;
            }
        }
        Ok(self.thread.is_running())
    }

    /// The account as it stands: not at rest, so that packets on their way show as a residue.
    ///
    /// # Errors
    ///
    /// [`SourceError::Program`]: a counter cannot be read.
    pub fn report(&self) -> Result<SourceReport, SourceError> {
        let interfaces = reports(&self.interfaces, &self.thread.counters())?;
        Ok(SourceReport::new(self.started_at, self.started.elapsed(), interfaces))
    }

    /// Detaches the programs, sends what is in the carriers, removes them, and closes the account.
    ///
    /// # Errors
    ///
    /// [`SourceError::Program`]: a counter cannot be read.
    pub fn stop(self) -> Result<SourceReport, SourceError> {
        let Self { mut interfaces, thread: agent, started, started_at, .. } = self;
        interfaces.iter_mut().for_each(|live| live.programs.detach());
        thread::sleep(IN_FLIGHT);
        let interfaces = reports(&interfaces, &agent.stop())?;
        Ok(SourceReport::new(started_at, started.elapsed(), interfaces))
    }
}

/// What has become of packets of each interface. `carriers` are those of all of them.
fn reports(
    interfaces: &[Mirrored],
    carriers: &[CarrierCounters],
) -> Result<Vec<InterfaceReport>, SourceError> {
    let mut carriers = carriers.iter();
    let report = |live: &Mirrored| {
        let direction = |direction| {
            let counts = live.programs.counts(direction).map_err(|source| live.failed(source))?;
            Ok::<_, SourceError>(DirectionReport::of(&counts))
        };
        let mut sessions = Vec::new();
        for (carried, carrier) in live.sessions.iter().zip(carriers.by_ref()) {
            let Carried { session, target, out, place } = carried;
            let counts = live.programs.session_counts(place.place).map_err(|source| live.failed(source))?;
            sessions.push(SessionReport::of(session, target, out, &counts, carrier));
        }
        Ok(InterfaceReport {
            interface: live.id.clone(),
            name: live.interface.clone(),
            hook: live.programs.hook().name().into(),
            ingress: direction(Direction::Ingress)?,
            egress: direction(Direction::Egress)?,
            sessions,
        })
    };
    interfaces.iter().map(report).collect()
}

impl Mirrored {
    fn failed(&self, source: ProgramSetupError) -> SourceError {
        SourceError::Program { interface: self.interface.clone(), source }
    }
}

/// Removes what a source that was killed has left on an interface: filters of tc, where the kernel has no
/// tcx. Returns whether there was anything.
///
/// # Errors
///
/// [`SourceError::Program`]: the kernel refuses it. Needs CAP_NET_ADMIN.
pub fn clean(interface: &str) -> Result<bool, SourceError> {
    Interface::named(interface)?;
    Classifiers::remove_left(interface).map_err(|source| SourceError::Program {
        interface: interface.to_owned(),
        source: ProgramSetupError::Attach(source),
    })
}

fn check(mirroring: &Mirroring) -> Result<(), SourceError> {
    let errors = mirroring.problems().into_iter().filter(|problem| problem.severity == Severity::Error);
    let errors: Vec<_> = errors.map(|problem| problem.to_string()).collect();
    if errors.is_empty() { Ok(()) } else { Err(SourceError::SetUp(errors)) }
}

/// How the sessions of a source are sent.
fn outs<'m>(
    mirroring: &'m Mirroring,
    id: &str,
    options: &SourceOptions,
) -> Result<Vec<(&'m Session, SessionOut)>, SourceError> {
    let vnis = mirroring.vnis();
    let out = |session: &'m Session| {
        let target = || SourceError::NoAddress { target: session.target.clone() };
        let to = address_of(mirroring, &session.target, options).ok_or_else(target)?;
        let vni = vnis.get(session.id.as_str()).copied().unwrap_or_default();
        let packet_length = session.packet_length.and_then(|length| u16::try_from(length).ok());
        let out = SessionOut { packet_length, oversize: options.oversize, ..SessionOut::new(vni, to) };
        Ok::<_, SourceError>((session, out))
    };
    let all: Vec<_> = mirroring.sessions_of(id).into_iter().map(out).collect::<Result<_, _>>()?;
    if all.is_empty() { Err(SourceError::NoSession(id.to_owned())) } else { Ok(all) }
}

fn address_of(mirroring: &Mirroring, target: &str, options: &SourceOptions) -> Option<SocketAddr> {
    let given = options.targets.get(target).and_then(|all| all.first().copied());
    let known = || match &mirroring.target(target)?.kind {
        TargetKind::NetworkInterface(id) => {
            let address = mirroring.interface(id)?.addresses.first()?;
            Some(SocketAddr::new(*address, VXLAN_PORT))
        }
        TargetKind::NetworkLoadBalancer(_) | TargetKind::GatewayLoadBalancerEndpoint(_) => None,
    };
    given.or_else(known)
}

/// Names of carriers: they say whose they are, and are short enough.
fn carrier_name(number: usize) -> String {
    format!("mirror-src{number}")
}

#[expect(clippy::cast_possible_truncation, reason = "lengths of headers")]
fn overhead(target: IpAddr) -> u32 {
    let ip = if target.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
    (ETHERNET_HEADER + ip + UDP_HEADER + VXLAN_HEADER) as u32
}

/// The time that one of so many a second takes, in 2^-16 ns; 0 without a limit.
fn time_of(a_second: Option<u64>) -> u64 {
    a_second.map_or(0, |rate| (1_000_000_000 << 16) / rate.max(1))
}
