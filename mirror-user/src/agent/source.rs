//! A mirror source: interfaces whose packets are mirrored as their sessions say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant, SystemTime},
};

use mirror_ebpf::{
    source::{MAX_COPIES, MAX_PLACES, RuleSet},
    wire::{ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER, UDP_HEADER, VXLAN_HEADER},
};

use super::{
    AgentError, AgentOptions, AgentThread, Carrier, CarrierCounters, Oversize, SessionOut,
    report::{DirectionReport, InterfaceReport, SessionReport, SourceReport},
    rules::{Place, rule_set},
    target::{TargetAddress, address_of},
};
use crate::{
    host::{
        HostError,
        interface::{Interface, link_and_program},
    },
    mirroring::{Direction, Mirroring, Session, Severity},
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
    /// Addresses of targets, by id: they go before those that the set-up knows of the interfaces of a target.
    /// Of several, the first in the zone of the source is taken, or else the first.
    pub targets: BTreeMap<String, Vec<TargetAddress>>,
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
    /// Nothing mirrors an interface at the start.
    #[error("{0}: no session has this source; see `mirror filter show`")]
    NoSession(String),
    /// A target's address is not known.
    #[error(
        "{target}: no address known; give one, as --target {target}=ADDR, or what `aws ec2 \
        describe-network-interfaces` prints of its interfaces"
    )]
    NoAddress {
        /// The target.
        target: String,
    },
    /// An interface whose packets have no Ethernet header.
    #[error("{0}: its packets have no Ethernet header, which a mirrored packet begins with")]
    NotEthernet(String),
    /// Sessions send to more addresses than the programs know as those of copies.
    #[error("copies go to {addresses} addresses: at most {MAX_COPIES}, or copies would be mirrored again")]
    TooManyAddresses {
        /// How many.
        addresses: usize,
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
    Host(#[from] HostError),
}

/// A running source. Dropping it detaches its programs, and removes its carriers.
#[derive(Debug)]
pub struct Source {
    // Programs are detached before the carriers go.
    interfaces: Vec<Mirrored>,
    /// Accounts of those that were lost.
    lost: Vec<InterfaceReport>,
    /// Ids of all sources, and names of their interfaces.
    wanted: Vec<(String, String)>,
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
    index: u32,
    programs: Classifiers,
    sessions: Vec<Carried>,
    /// Accounts of sessions that have ended.
    ended: Vec<SessionReport>,
}

#[derive(Clone, Debug)]
struct Carried {
    session: String,
    target: String,
    out: SessionOut,
    place: Place,
    /// The name of its carrier.
    carrier: String,
}

/// Another set-up, of which nothing is in force yet.
struct Prepared {
    /// Interfaces that are mirrored from now on.
    begun: Vec<Mirrored>,
    /// The sessions of each interface, of those too.
    sessions: Vec<Vec<Carried>>,
    /// Carriers of new sessions.
    added: Vec<Carrier>,
    /// Where their copies go.
    copies: BTreeSet<SocketAddr>,
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
        for (id, name) in interfaces {
            Interface::named(name)?;
            if mirroring.sessions_of(id).is_empty() {
                return Err(SourceError::NoSession(id.clone()));
            }
        }
        let mut source = Self {
            interfaces: Vec::new(),
            lost: Vec::new(),
            wanted: interfaces.to_vec(),
            thread: AgentThread::start(Vec::new(), options.thread.clone())?,
            options,
            started: Instant::now(),
            started_at: SystemTime::now(),
            beaten: Instant::now(),
        };
        source.reload(mirroring)?;
        Ok(source)
    }

    /// Goes on with another set-up of the same sources: their sessions may be others, or none. Each packet is
    /// judged by the old rules or by the new ones, and counters of a session that stays go on; one that is
    /// not there any more ends, and its account stays in the report. An interface that was lost, and is there
    /// again, is mirrored again. Needs what [`start`](Self::start) needs.
    ///
    /// # Errors
    ///
    /// As `start`; all stays as it was then, but for [`SourceError::Program`]: some rules may be the new
    /// ones, and no session has ended.
    pub fn reload(&mut self, mirroring: &Mirroring) -> Result<(), SourceError> {
        check(mirroring)?;
        self.lose_absent()?;
        let Prepared { begun, sessions, added, copies } = self.prepared(mirroring)?;
        let out_of = |name: &str| {
            let mut all = sessions.iter().flatten();
            all.find(|carried| carried.carrier == name).map(|carried| carried.out)
        };
        let plan = self.thread.plan(out_of)?;
        // Those of before are still on their way.
        let before: BTreeSet<_> = self.sessions().map(|carried| carried.out.to).collect();
        let of_both: Vec<_> = copies.iter().chain(before.difference(&copies)).copied().collect();
        self.interfaces.extend(begun);
        let mut ended = BTreeSet::new();
        for (live, wanted) in self.interfaces.iter_mut().zip(sessions) {
            let before = std::mem::replace(&mut live.sessions, wanted);
            for carried in before {
                if live.sessions.iter().all(|it| it.carrier != carried.carrier) {
                    ended.insert(carried.carrier.clone());
                    live.sessions.push(carried);
                }
            }
        }
        let ruled = self.set_rules(mirroring, &of_both);
        if ruled.is_err() {
            // The programs may still clone to them.
            ended.clear();
        }
        let counters = self.thread.change(plan, added, |name| ended.contains(name))?;
        ruled?;
        self.interfaces.iter_mut().try_for_each(|live| live.end(&counters))?;
        if before.is_subset(&copies) {
            return Ok(());
        }
        self.set_rules(mirroring, &copies.into_iter().collect::<Vec<_>>())
    }

    fn prepared(&self, mirroring: &Mirroring) -> Result<Prepared, SourceError> {
        let mut prepared =
            Prepared { begun: Vec::new(), sessions: Vec::new(), added: Vec::new(), copies: BTreeSet::new() };
        for (id, name) in &self.wanted {
            let is_new = self.interfaces.iter().all(|live| live.id != *id || live.interface != *name);
            if is_new && let Some(begun) = self.begun(id, name)? {
                prepared.begun.push(begun);
            }
        }
        let Prepared { begun, sessions: all, added, copies } = &mut prepared;
        for live in self.interfaces.iter().chain(begun.iter()) {
            let mut sessions: Vec<Carried> = Vec::new();
            for (session, out) in outs(mirroring, &live.id, &self.options)? {
                let is_it = |carried: &&Carried| carried.session == session.id;
                let (place, carrier) = match live.sessions.iter().find(is_it) {
                    Some(carried) => (carried.place, carried.carrier.clone()),
                    None => {
                        let carrier = Carrier::open(&self.free_name(added), out, self.options.queue)?;
                        let place = free_place(live.sessions.iter().chain(&sessions));
                        let place = Place { place, carrier: carrier.ifindex(), overhead: 0 };
                        let name = carrier.name().to_owned();
                        added.push(carrier);
                        (place, name)
                    }
                };
                copies.insert(out.to);
                let place = Place { overhead: overhead(out.to.ip()), ..place };
                let (session, target) = (session.id.clone(), session.target.clone());
                sessions.push(Carried { session, target, out, place, carrier });
            }
            all.push(sessions);
        }
        if copies.len() > MAX_COPIES {
            return Err(SourceError::TooManyAddresses { addresses: copies.len() });
        }
        Ok(prepared)
    }

    /// Attaches programs that mirror nothing yet; `None` if it is lost and not there again.
    fn begun(&self, id: &str, name: &str) -> Result<Option<Mirrored>, SourceError> {
        let host = match Interface::named(name) {
            Err(HostError::NoSuchInterface { .. }) if self.lost.iter().any(|lost| lost.name == name) => {
                return Ok(None);
            }
            host => host?,
        };
        if host.loopback || host.mac.is_none() {
            return Err(SourceError::NotEthernet(name.to_owned()));
        }
        let order = if self.options.last { Order::Last } else { Order::First };
        let failed = |source| SourceError::Program { interface: name.to_owned(), source };
        let programs = Classifiers::attach(name, self.options.hook, order).map_err(failed)?;
        let (id, interface, index) = (id.to_owned(), name.to_owned(), host.index);
        Ok(Some(Mirrored { id, interface, index, programs, sessions: Vec::new(), ended: Vec::new() }))
    }

    /// Names of carriers say whose they are, and are short enough.
    fn free_name(&self, added: &[Carrier]) -> String {
        let is_free = |name: &String| {
            self.sessions().all(|carried| carried.carrier != *name)
                && added.iter().all(|carrier| carrier.name() != name)
        };
        (0_usize..).map(|number| format!("mirror-src{number}")).find(is_free).unwrap_or_default()
    }

    fn set_rules(&self, mirroring: &Mirroring, copies: &[SocketAddr]) -> Result<(), SourceError> {
        for live in &self.interfaces {
            let place_of = |session: &Session| {
                let carried = live.sessions.iter().find(|carried| carried.session == session.id);
                carried.map_or(Place { place: 0, carrier: 0, overhead: 0 }, |carried| carried.place)
            };
            for direction in [Direction::Ingress, Direction::Egress] {
                let rules = RuleSet {
                    byte_time: time_of(self.options.max_rate.map(|bits| bits.max(LEAST_RATE) / 8)),
                    packet_time: time_of(self.options.max_pps),
                    ..rule_set(mirroring, &live.id, direction, place_of, copies)
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
            let Mirrored { id, interface, programs, sessions, .. } = live;
            let hook = programs.hook().name();
            let sessions = sessions.iter().map(|Carried { session, target, out, .. }| {
                format!("  {session}: VNI {} to {target} at {}", out.vni, out.to)
            });
            let first = format!("mirroring {id} at {interface}, {hook}, {order} other programs");
            std::iter::once(first).chain(sessions).collect::<Vec<_>>()
        };
        self.interfaces.iter().flat_map(of).collect()
    }

    /// Does what is due: to be called a few times a second. Whether any interface is left to mirror; the
    /// others go on without one that was deleted, or moved to another network namespace.
    ///
    /// # Errors
    ///
    /// [`AgentError::Ended`]: the thread has panicked. [`SourceError::Host`]: the kernel does not say which
    /// interfaces there are. [`SourceError::Program`]: the heartbeat of programs that would outlive this
    /// process. The account is still to be had.
    pub fn turn(&mut self) -> Result<bool, SourceError> {
        if !self.thread.is_running() {
            return Err(AgentError::Ended.into());
        }
        if self.beaten.elapsed() >= BEAT {
            self.beaten = Instant::now();
            for live in &self.interfaces {
                live.programs.beat().map_err(|source| live.failed(source))?;
            }
            self.lose_absent()?;
        }
        Ok(!self.interfaces.is_empty())
    }

    fn lose_absent(&mut self) -> Result<(), SourceError> {
        for at in (0..self.interfaces.len()).rev() {
            if link_and_program(self.interfaces[at].index)?.is_none() {
                let live = self.interfaces.remove(at);
                self.lose(live)?;
            }
        }
        Ok(())
    }

    fn lose(&mut self, mut live: Mirrored) -> Result<(), SourceError> {
        let Mirrored { id, interface, .. } = &live;
        tracing::error!(
            "{interface}: was deleted, or moved to another network namespace; {id} is no longer mirrored. \
            When it is there again, send HUP, or restart"
        );
        live.programs.detach();
        thread::sleep(IN_FLIGHT);
        let is_its = |name: &str| live.sessions.iter().any(|carried| carried.carrier == name);
        let plan = self.thread.plan(|_| None)?;
        let counters = self.thread.change(plan, Vec::new(), is_its)?;
        live.end(&counters)?;
        let report = InterfaceReport { lost: true, ..live.report(&[])? };
        self.lost.push(report);
        Ok(())
    }

    /// The account as it stands: not at rest, so that packets on their way show as a residue.
    ///
    /// # Errors
    ///
    /// [`SourceError::Program`]: a counter cannot be read.
    pub fn report(&self) -> Result<SourceReport, SourceError> {
        let interfaces = reports(&self.interfaces, self.lost.clone(), &self.thread.counters())?;
        Ok(SourceReport::new(self.started_at, self.started.elapsed(), interfaces))
    }

    /// Detaches the programs, sends what is in the carriers, removes them, and closes the account.
    ///
    /// # Errors
    ///
    /// [`SourceError::Program`]: a counter cannot be read.
    pub fn stop(self) -> Result<SourceReport, SourceError> {
        let Self { mut interfaces, lost, thread: agent, started, started_at, .. } = self;
        interfaces.iter_mut().for_each(|live| live.programs.detach());
        thread::sleep(IN_FLIGHT);
        let interfaces = reports(&interfaces, lost, &agent.stop())?;
        Ok(SourceReport::new(started_at, started.elapsed(), interfaces))
    }
}

/// What has become of packets of each interface, behind those that were lost. `carriers` are those of all.
fn reports(
    interfaces: &[Mirrored],
    lost: Vec<InterfaceReport>,
    carriers: &[CarrierCounters],
) -> Result<Vec<InterfaceReport>, SourceError> {
    let live = interfaces.iter().map(|live| live.report(carriers));
    lost.into_iter().map(Ok).chain(live).collect()
}

impl Mirrored {
    /// `carriers` are those of all interfaces.
    fn report(&self, carriers: &[CarrierCounters]) -> Result<InterfaceReport, SourceError> {
        let direction = |direction| {
            let counts = self.programs.counts(direction).map_err(|source| self.failed(source))?;
            Ok::<_, SourceError>(DirectionReport::of(&counts))
        };
        let sessions = self.sessions.iter().filter_map(|carried| self.session(carried, carriers).transpose());
        Ok(InterfaceReport {
            interface: self.id.clone(),
            name: self.interface.clone(),
            hook: self.programs.hook().name().into(),
            lost: false,
            ingress: direction(Direction::Ingress)?,
            egress: direction(Direction::Egress)?,
            sessions: self.ended.iter().cloned().map(Ok).chain(sessions).collect::<Result<_, _>>()?,
        })
    }

    fn session(
        &self,
        carried: &Carried,
        carriers: &[CarrierCounters],
    ) -> Result<Option<SessionReport>, SourceError> {
        let Carried { session, target, out, place, carrier } = carried;
        let Some(carrier) = carriers.iter().find(|it| it.carrier == *carrier) else { return Ok(None) };
        let counts = self.programs.session_counts(place.place).map_err(|source| self.failed(source))?;
        Ok(Some(SessionReport::of(session, target, out, &counts, carrier)))
    }

    /// Closes the accounts of sessions whose carriers have ended: no rule names them any more.
    fn end(&mut self, carriers: &[CarrierCounters]) -> Result<(), SourceError> {
        let has_ended = |carried: &Carried| carriers.iter().any(|it| it.carrier == carried.carrier);
        let (ended, stay): (Vec<_>, _) = std::mem::take(&mut self.sessions).into_iter().partition(has_ended);
        self.sessions = stay;
        for carried in ended {
            if let Some(report) = self.session(&carried, carriers)? {
                self.ended.push(SessionReport { ended: Some(now()), ..report });
            }
            let place = carried.place.place;
            self.programs.reset_session_counts(place).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

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
        let to = address_of(mirroring, session, &options.targets).ok_or_else(target)?;
        let vni = vnis.get(session.id.as_str()).copied().unwrap_or_default();
        let packet_length = session.packet_length.and_then(|length| u16::try_from(length).ok());
        let out = SessionOut { packet_length, oversize: options.oversize, ..SessionOut::new(vni, to) };
        Ok::<_, SourceError>((session, out))
    };
    mirroring.sessions_of(id).into_iter().map(out).collect()
}

/// The first index of counters that none of these has.
fn free_place<'c>(sessions: impl Iterator<Item = &'c Carried>) -> u32 {
    let taken: BTreeSet<_> = sessions.map(|carried| carried.place.place).collect();
    (0..MAX_PLACES).find(|place| !taken.contains(place)).unwrap_or(MAX_PLACES)
}

/// RFC 3339.
fn now() -> String {
    jiff::Timestamp::now().to_string()
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
