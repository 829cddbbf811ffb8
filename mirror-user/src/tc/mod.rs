//! The tc programs of a mirror source: load, attach, rules and counters.
//!
//! A tcx link goes with its process. Where the kernel has none (before 6.6), filters of a clsact qdisc stay
//! when the process is killed; their programs do nothing once its heartbeat has stopped, and
//! [`Classifiers::remove_left`] removes them.

#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ArrayOfMaps, MapData, MapError, PerCpuArray, PerCpuValues},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError},
    },
};
use mirror_ebpf::source::{self as abi, Counts, RuleSet, RuleSetBytes, SessionCounts};
use nix::net::if_::if_nametoindex;

use crate::{
    host::{clock::monotonic, kernel::since, qdisc::remove_empty_clsact},
    mirroring::Direction,
    xdp::{ProgramSetupError, kernel_before, take},
};

/// How the programs of a source are attached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// Links that end with the process (kernel 6.6).
    Tcx,
    /// Filters of a clsact qdisc, with the highest priority.
    Clsact,
}

/// Whether the programs see packets before or after those of others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Order {
    #[default]
    First,
    Last,
}

/// Priority of our filters among those of a clsact qdisc: the highest, and the lowest.
const PRIORITIES: [u16; 2] = [1, 0xffff];
const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// The programs of an interface, attached until this is dropped.
pub(crate) struct Classifiers {
    rules: Mutex<Rules>,
    counts: PerCpuArray<MapData, Counts>,
    sessions: Mutex<PerCpuArray<MapData, SessionCounts>>,
    heartbeat: Mutex<Array<MapData, u64>>,
    hook: Hook,
    /// Dropped, they are detached.
    links: Vec<SchedClassifierLink>,
    /// The interface to which a clsact qdisc was added for them.
    added_clsact: Option<u32>,
    ebpf: Ebpf,
}

/// The rules of both directions.
struct Rules {
    /// The map that the programs read, by direction.
    present: ArrayOfMaps<MapData, RuleSetMap>,
    /// By direction: the one that comes next, and the present one.
    turns: [[RuleSetMap; 2]; abi::DIRECTIONS as usize],
}

type RuleSetMap = Array<MapData, RuleSetBytes>;

impl Hook {
    /// As the report has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl Classifiers {
    /// Attaches programs that mirror nothing yet; without a hook, by tcx if the kernel has that. Needs
    /// CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON. Minimum kernel version: 5.5.
    pub(crate) fn attach(
        interface: &str,
        hook: Option<Hook>,
        order: Order,
    ) -> Result<Self, ProgramSetupError> {
        if hook == Some(Hook::Clsact) {
            return Self::attach_to_clsact(interface, order);
        }
        let mut live = Self::load(0)?;
        match live.attach_by(interface, Hook::Tcx, order) {
            // The kernel does not know the type of attachment.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && hook.is_none() => {}
            attached => return attached.map(|()| live).map_err(ProgramSetupError::Attach),
        }
        tracing::info!(interface, "no tcx (needs kernel 6.6): filters of a clsact qdisc");
        Self::attach_to_clsact(interface, order)
    }

    fn attach_to_clsact(interface: &str, order: Order) -> Result<Self, ProgramSetupError> {
        Self::remove_left(interface).map_err(ProgramSetupError::Attach)?;
        let mut live = Self::load(abi::FLAG_HEARTBEAT)?;
        live.hook = Hook::Clsact;
        live.beat()?;
        match tc::qdisc_add_clsact(interface).map_err(system_error) {
            Ok(()) => live.added_clsact = if_nametoindex(interface).ok(),
            // Another's, or that of a process that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(ProgramSetupError::Attach(error)),
        }
        live.attach_by(interface, Hook::Clsact, order).map_err(ProgramSetupError::Attach)?;
        Ok(live)
    }

    /// Removes filters of a process that was killed. Returns whether there were any.
    pub(crate) fn remove_left(interface: &str) -> io::Result<bool> {
        let mut were_any = false;
        for direction in BOTH {
            match tc::qdisc_detach_program(interface, hook_of(direction), program_of(direction)) {
                Ok(()) => were_any = true,
                Err(error) => {
                    let error = system_error(error);
                    // No such filter, or no clsact qdisc at all.
                    let absent = [Some(libc::ENOENT), Some(libc::EINVAL)].contains(&error.raw_os_error());
                    if !absent && error.kind() != io::ErrorKind::NotFound {
                        return Err(error);
                    }
                }
            }
        }
        Ok(were_any)
    }

    fn load(flags: u32) -> Result<Self, ProgramSetupError> {
        let coarse = if kernel_before(since::COARSE_CLOCK) { 0 } else { abi::FLAG_COARSE_CLOCK };
        let mut ebpf = EbpfLoader::new()
            .override_global(abi::SETTING_FLAGS, &(flags | coarse), true)
            .load(mirror_ebpf::SOURCE_OBJECT)
            .map_err(ProgramSetupError::load)?;
        for direction in BOTH {
            let program = classifier(&mut ebpf, direction).map_err(ProgramSetupError::verify)?;
            program.load().map_err(ProgramSetupError::verify)?;
        }
        let [ingress, egress] = abi::MAP_RULE_SETS
            .map(|[one, other]| Ok::<_, ProgramSetupError>([take(&mut ebpf, one)?, take(&mut ebpf, other)?]));
        let live = Self {
            rules: Mutex::new(Rules {
                present: take(&mut ebpf, abi::MAP_RULES)?,
                turns: [ingress?, egress?],
            }),
            counts: take(&mut ebpf, abi::MAP_COUNTS)?,
            sessions: Mutex::new(take(&mut ebpf, abi::MAP_SESSIONS)?),
            heartbeat: Mutex::new(take(&mut ebpf, abi::MAP_HEARTBEAT)?),
            hook: Hook::Tcx,
            links: Vec::new(),
            added_clsact: None,
            ebpf,
        };
        BOTH.into_iter().try_for_each(|direction| live.set_rules(direction, &RuleSet::default()))?;
        Ok(live)
    }

    fn attach_by(&mut self, interface: &str, hook: Hook, order: Order) -> io::Result<()> {
        for direction in BOTH {
            let options = match (hook, order) {
                (Hook::Tcx, Order::First) => TcAttachOptions::TcxOrder(LinkOrder::first()),
                (Hook::Tcx, Order::Last) => TcAttachOptions::TcxOrder(LinkOrder::last()),
                (Hook::Clsact, order) => TcAttachOptions::Netlink(NlOptions {
                    priority: PRIORITIES[order as usize],
                    ..NlOptions::default()
                }),
            };
            let program = classifier(&mut self.ebpf, direction).map_err(system_error_of)?;
            let link = program.attach_with_options(interface, hook_of(direction), options);
            let link = link.and_then(|id| program.take_link(id)).map_err(system_error_of)?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Detaches the programs, and removes a clsact qdisc that is there for them alone. Counters stay.
    pub(crate) fn detach(&mut self) {
        self.links.clear();
        if let Some(Err(error)) = self.added_clsact.take().map(remove_empty_clsact) {
            // It goes with its interface.
            tracing::debug!(%error, "the clsact qdisc stays");
        }
    }

    pub(crate) fn hook(&self) -> Hook {
        self.hook
    }

    /// Puts rules in the place of those of a direction, in one step: each packet is judged by one of both.
    pub(crate) fn set_rules(&self, direction: Direction, rules: &RuleSet) -> Result<(), ProgramSetupError> {
        let failed = ProgramSetupError::map(abi::MAP_RULES);
        let mut all = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let Rules { present, turns } = &mut *all;
        let index = index_of(direction);
        let turns = &mut turns[index as usize];
        // No program reads it any more: the last exchange has waited for those that did.
        turns[0].set(0, rules.bytes(), 0).map_err(&failed)?;
        present.set(index, &turns[0], 0).map_err(failed)?;
        turns.swap(0, 1);
        Ok(())
    }

    /// What has become of packets of a direction.
    pub(crate) fn counts(&self, direction: Direction) -> Result<Counts, ProgramSetupError> {
        sums(&self.counts, index_of(direction), abi::MAP_COUNTS)
    }

    /// What has become of packets that the session at this place decided.
    pub(crate) fn session_counts(&self, place: u32) -> Result<SessionCounts, ProgramSetupError> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sums(&sessions, place, abi::MAP_SESSIONS)
    }

    /// Has a place be that of another session. No rule may name it.
    pub(crate) fn reset_session_counts(&self, place: u32) -> Result<(), ProgramSetupError> {
        let failed = ProgramSetupError::map(abi::MAP_SESSIONS);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let cpus = sessions.get(&place, 0).map_err(&failed)?.len();
        let zeros = PerCpuValues::try_from(vec![SessionCounts::default(); cpus]);
        let zeros = zeros.map_err(|source| failed(MapError::IoError(source)))?;
        sessions.set(place, zeros, 0).map_err(failed)
    }

    /// Says that this process is there, where the programs would outlive it: due each second.
    pub(crate) fn beat(&self) -> Result<(), ProgramSetupError> {
        if self.hook == Hook::Tcx {
            return Ok(());
        }
        let mut heartbeat = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        heartbeat.set(0, monotonic(), 0).map_err(ProgramSetupError::map(abi::MAP_HEARTBEAT))
    }
}

impl Drop for Classifiers {
    fn drop(&mut self) {
        self.detach();
    }
}

impl std::fmt::Debug for Classifiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifiers").field("hook", &self.hook).finish_non_exhaustive()
    }
}

fn classifier(ebpf: &mut Ebpf, direction: Direction) -> Result<&mut SchedClassifier, ProgramError> {
    let name = program_of(direction);
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    program.try_into()
}

const fn program_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => abi::PROGRAM_INGRESS,
        Direction::Egress => abi::PROGRAM_EGRESS,
    }
}

const fn hook_of(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

const fn index_of(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => abi::INGRESS,
        Direction::Egress => abi::EGRESS,
    }
}

fn sums<const N: usize>(
    map: &PerCpuArray<MapData, [u64; N]>,
    index: u32,
    name: &'static str,
) -> Result<[u64; N], ProgramSetupError> {
    let values = map.get(&index, 0).map_err(ProgramSetupError::map(name))?;
    Ok(std::array::from_fn(|which| values.iter().map(|cpu| cpu[which]).sum()))
}

/// What the system said; aya puts it into several shapes.
fn system_error_of(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        ProgramError::TcError(error) => system_error(error),
        other => io::Error::other(other),
    }
}

fn system_error(error: TcError) -> io::Error {
    match error {
        TcError::IoError(error) => error,
        TcError::NetlinkError(ref netlink) => match netlink.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(error),
        },
        other => io::Error::other(other),
    }
}
