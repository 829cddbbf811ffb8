//! Forwarding in the kernel: the targets' maps, and the two tracepoints that count what became of frames.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex, PoisonError},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, xdp::DevMap},
    programs::RawTracePoint,
};
use mirror_ebpf::{
    flow::Assignment,
    mirror::{self as abi, Fate},
};

use super::{
    ProgramSetupError, btf::Btf, kernel_before, origins::Origins, receiving::Receiving, take,
    tunnels::Tunnels,
};
use crate::{
    account::{ForwardedOrigins, NotSent},
    error::with_causes,
    flow::members::MemberTable,
    host::{egress::Egress, kernel::since},
    select::split::Split,
};

/// The fields by which devices are recognised, in the sequence of [`abi::Path`].
pub(super) const FIELDS: [(&str, &[&str]); 3] =
    [("net_device", &["ifindex"]), ("net_device", &["nd_net", "net"]), ("net", &["ns", "inum"])];

/// Interfaces that take redirected frames as long as this lives.
pub(crate) struct Targets {
    egress: Vec<Egress>,
    table: Option<Arc<MemberTable>>,
    seed: u64,
    _receiving: Vec<Receiving>,
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Targets").field("egress", &self.egress).finish_non_exhaustive()
    }
}

impl Targets {
    /// Prepares the far ends of pairs. Of several interfaces each has the flows that the table assigns to it.
    /// The seed is that of hashes of flows.
    pub(crate) fn prepare(
        egress: Vec<Egress>,
        table: Option<Arc<MemberTable>>,
        seed: u64,
    ) -> Result<Self, ProgramSetupError> {
        let far = |egress: &Egress| {
            let receiving = egress.at_far_end(Receiving::at).map_err(ProgramSetupError::host)?;
            Ok(receiving.transpose()?.flatten())
        };
        let receiving =
            egress.iter().filter_map(|egress| far(egress).transpose()).collect::<Result<_, _>>()?;
        Ok(Self { egress, table, seed, _receiving: receiving })
    }

    /// By which flows are assigned, if there are several interfaces.
    pub(super) fn table(&self) -> Option<&Arc<MemberTable>> {
        self.table.as_ref()
    }

    /// Whether some are tunnels.
    pub(super) fn have_tunnels(&self) -> bool {
        self.egress.iter().any(|egress| matches!(egress, Egress::Tunnel(_)))
    }
}

/// From which interface to which.
#[derive(Clone, Debug)]
pub(crate) struct ForwardTo {
    /// Index of the interface that is read.
    pub(crate) from: u32,
    pub(crate) targets: Arc<Targets>,
    /// Most origins that are counted apart, if any are to be counted.
    pub(crate) origins: Option<usize>,
    /// Which frames are forwarded; `None` for all.
    pub(crate) split: Option<Arc<Split>>,
}

impl ForwardTo {
    /// By what the tracepoint recognises frames of ours.
    pub(super) fn path(&self) -> Result<abi::Path, ProgramSetupError> {
        const TYPES: &str = "/sys/kernel/btf/vmlinux";
        let failed = |source| ProgramSetupError::Kernel { path: TYPES, source };
        let bytes = fs::read(TYPES).map_err(failed)?;
        let btf = Btf::parse(&bytes).ok_or(ProgramSetupError::Types)?;
        let mut path = abi::Path::default();
        for (place, (structure, field)) in path.iter_mut().zip(FIELDS) {
            *place = btf.offset_of(structure, field).ok_or(ProgramSetupError::Types)?;
        }
        path[abi::PATH_FROM..].copy_from_slice(&device(self.from)?);
        Ok(path)
    }

    /// Seed of the program's hashes.
    pub(super) fn seed(&self) -> u64 {
        self.targets.seed
    }

    /// Size of the map of origins.
    pub(super) fn origins(&self) -> Option<u32> {
        self.origins.map(|most| u32::try_from(most).unwrap_or(u32::MAX))
    }
}

/// What identifies an interface of the calling thread's network namespace.
fn device(index: u32) -> Result<abi::Device, ProgramSetupError> {
    const NAMESPACE: &str = "/proc/thread-self/ns/net";
    let failed = |source| ProgramSetupError::Kernel { path: NAMESPACE, source };
    let inode = fs::metadata(NAMESPACE).map_err(failed)?.ino();
    Ok([u32::try_from(inode).map_err(|_| ProgramSetupError::Types)?, index])
}

/// The targets' maps and the counts of their frames.
pub(super) struct Forwarding {
    targets: Arc<Targets>,
    /// Held so that frames are forwarded.
    _map: DevMap<MapData>,
    /// With several targets.
    assignment: Option<Mutex<Assigned>>,
    tunnels: Option<Mutex<Tunnels>>,
    /// Why the kernel does not say what becomes of frames where it does not: before 5.13, or without BTF.
    fates: Result<PerCpuArray<MapData, abi::FateCounts>, String>,
    origins: Option<Origins>,
}

/// Frames given to a target.
pub(crate) struct Sent {
    pub(crate) sent: u64,
    pub(crate) not_sent: NotSent,
}

impl Forwarding {
    /// After the XDP program was loaded, which refers to the maps.
    pub(super) fn open(
        ebpf: &mut Ebpf,
        to: &ForwardTo,
        path: Result<abi::Path, ProgramSetupError>,
    ) -> Result<Self, ProgramSetupError> {
        let fates = path.and_then(|_| watch(ebpf, &to.targets)).map_err(|error| with_causes(&error));
        let mut map: DevMap<MapData> = take(ebpf, abi::MAP_TARGETS)?;
        for (member, egress) in (0..).zip(&to.targets.egress) {
            // The kernel looks the index up in the namespace of the thread that sets it.
            egress
                .enter(|index| map.set(member, index, None, 0))
                .map_err(ProgramSetupError::host)?
                .map_err(|source| ProgramSetupError::Target { source: source.into() })?;
        }
        let assignment =
            to.targets.table().map(|table| Assigned::open(ebpf, table)).transpose()?.map(Mutex::new);
        let tunnels = Tunnels::open(ebpf, &to.targets.egress)?.map(Mutex::new);
        let origins = to.origins.map(|_| Origins::open(ebpf)).transpose()?;
        Ok(Self { targets: Arc::clone(&to.targets), _map: map, assignment, tunnels, fates, origins })
    }

    /// Why it is not known what becomes of frames, if so.
    pub(super) fn unknown(&self) -> Option<&str> {
        self.fates.as_ref().err().map(String::as_str)
    }

    /// What the tracepoints have counted, by target; `None` without them.
    pub(super) fn sent(&self) -> Result<Option<Vec<Sent>>, ProgramSetupError> {
        let Ok(fates) = &self.fates else { return Ok(None) };
        let of_member = |member: u32| {
            let values = fates.get(&member, 0).map_err(ProgramSetupError::map(abi::MAP_FATES))?;
            let of = |fate: Fate| values.iter().map(|cpu| cpu[fate as usize]).sum();
            let not_sent = NotSent {
                refused: of(Fate::Refused),
                down: of(Fate::Down),
                no_program: of(Fate::NoProgram),
                too_large: of(Fate::TooLarge),
                other: of(Fate::Other),
            };
            Ok(Sent { sent: of(Fate::Sent), not_sent })
        };
        (0..)
            .zip(&self.targets.egress)
            .map(|(member, _)| of_member(member))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Frames by origin; empty unless they are counted.
    pub(super) fn origins(&self) -> Result<ForwardedOrigins, ProgramSetupError> {
        self.origins.as_ref().map_or(Ok(ForwardedOrigins::default()), Origins::read)
    }

    /// Updates the table of the program and its next hops.
    pub(super) fn follow_members(&self) -> Result<(), ProgramSetupError> {
        if let Some(tunnels) = &self.tunnels {
            tunnels.lock().unwrap_or_else(PoisonError::into_inner).follow()?;
        }
        match self.targets.table().zip(self.assignment.as_ref()) {
            Some((table, assigned)) => assigned.lock().unwrap_or_else(PoisonError::into_inner).follow(table),
            None => Ok(()),
        }
    }
}

/// The program's copy of a [`MemberTable`].
struct Assigned {
    map: Array<MapData, Assignment>,
    generation: u64,
}

impl Assigned {
    fn open(ebpf: &mut Ebpf, table: &MemberTable) -> Result<Self, ProgramSetupError> {
        let mut assigned = Self { map: take(ebpf, abi::MAP_ASSIGNMENT)?, generation: table.generation() };
        assigned.write(table)?;
        Ok(assigned)
    }

    fn follow(&mut self, table: &MemberTable) -> Result<(), ProgramSetupError> {
        // Read first: a change during the copy is copied the next time.
        let generation = table.generation();
        if generation != self.generation {
            self.write(table)?;
            self.generation = generation;
        }
        Ok(())
    }

    fn write(&mut self, table: &MemberTable) -> Result<(), ProgramSetupError> {
        self.map.set(0, *table.assignment(), 0).map_err(ProgramSetupError::map(abi::MAP_ASSIGNMENT))
    }
}

/// Attaches both tracepoints. Minimum kernel version: 5.13.
fn watch(
    ebpf: &mut Ebpf,
    targets: &Targets,
) -> Result<PerCpuArray<MapData, abi::FateCounts>, ProgramSetupError> {
    if kernel_before(since::MAP_ID_IN_TRACEPOINT) {
        return Err(ProgramSetupError::NoMapId);
    }
    let name = abi::MAP_TARGETS;
    let Some(Map::DevMap(map)) = ebpf.map(name) else {
        return Err(ProgramSetupError::Missing { kind: "map", name });
    };
    let id = map.info().map_err(ProgramSetupError::map(name))?.id();
    let points = [
        (abi::PROGRAM_FORWARD_ERR, abi::TRACEPOINT_REDIRECT_ERR),
        (abi::PROGRAM_FORWARD_SENT, abi::TRACEPOINT_DEVMAP_XMIT),
    ];
    for (name, _) in points {
        tracepoint(ebpf, name)?.load().map_err(ProgramSetupError::verify)?;
    }
    let name = abi::MAP_TARGETS_ID;
    let mut place: Array<MapData, u32> = take(ebpf, name)?;
    place.set(0, id, 0).map_err(ProgramSetupError::map(name))?;
    let name = abi::MAP_DEVICES;
    let mut devices: HashMap<MapData, abi::Device, u32> = take(ebpf, name)?;
    for (member, egress) in (0_u32..).zip(&targets.egress) {
        let device = egress.enter(device).map_err(ProgramSetupError::host)??;
        devices.insert(device, member, 0).map_err(ProgramSetupError::map(name))?;
    }
    for (name, tracepoint_name) in points {
        tracepoint(ebpf, name)?.attach(tracepoint_name).map_err(ProgramSetupError::verify)?;
    }
    take(ebpf, abi::MAP_FATES)
}

pub(super) fn tracepoint<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut RawTracePoint, ProgramSetupError> {
    ebpf.program_mut(name)
        .ok_or(ProgramSetupError::Missing { kind: "program", name })?
        .try_into()
        .map_err(ProgramSetupError::verify)
}

#[cfg(test)]
mod tests;
