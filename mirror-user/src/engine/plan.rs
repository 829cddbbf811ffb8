//! From what is wanted and what the host has to what will be done.

use nix::{sched::sched_getaffinity, unistd::Pid};

use super::{BindMode, EngineError, Mode, Queues, Wait, builder::Options};
use crate::{
    host::{
        interface::Interface,
        kernel::KernelVersion,
        limits::{Capabilities, Capability},
    },
    xsk::{FRAME_HEADROOM, HEADROOM},
};

/// What a run will do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// One entry an interface.
    pub interfaces: Vec<InterfacePlan>,
    /// CPUs for the workers of all interfaces, used in turn.
    pub cpus: Vec<usize>,
}

/// What a run will do on one interface.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InterfacePlan {
    /// The interface as the host knows it.
    pub interface: Interface,
    /// RX queues it has.
    pub rx_queues: u32,
    /// The most RX queues it may have while a program is attached: some drivers add queues for one.
    pub most_queues: u32,
    /// Queues that will be read.
    pub queues: Vec<QueuePlan>,
    /// Modes to try, in order.
    pub modes: Vec<Mode>,
    /// Whether the driver may hand over frames in several buffers (`xdp.frags`).
    pub frags: bool,
    /// Whether frames may come in several descriptors (`XDP_USE_SG`, kernel 6.6).
    pub scatter_gather: bool,
    /// How frames get into the UMEM: copy or zero-copy.
    pub bind: BindMode,
    /// Descriptors of each queue's RX ring.
    pub rx_ring: u32,
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// Bytes of a chunk in front of a frame beside those that XDP keeps for itself.
    pub headroom: u32,
    /// Chunks of each queue's UMEM.
    pub chunks: u32,
    /// What is not as good as it could be.
    pub warnings: Vec<String>,
}

/// A queue and the CPU of its worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct QueuePlan {
    /// RX queue index.
    pub queue: u32,
    /// CPU the worker is pinned to.
    pub cpu: usize,
}

impl Plan {
    /// The CPU of a worker, counted over all interfaces.
    pub(super) fn cpu(&self, worker: usize) -> usize {
        cpu(&self.cpus, worker)
    }

    /// Bytes of frame memory over all queues.
    #[must_use]
    pub fn umem_bytes(&self) -> u64 {
        self.interfaces
            .iter()
            .map(|plan| plan.queues.len() as u64 * u64::from(plan.chunks) * u64::from(plan.chunk_size))
            .sum()
    }

    /// The most bytes an outer frame can have on any of the interfaces: [`WorkerContext::max_frame`].
    ///
    /// [`WorkerContext::max_frame`]: crate::sink::WorkerContext::max_frame
    #[must_use]
    pub fn max_frame(&self) -> usize {
        self.interfaces.iter().map(InterfacePlan::max_frame).max().unwrap_or(0)
    }
}

impl InterfacePlan {
    /// The most bytes an outer frame can have.
    pub(super) fn max_frame(&self) -> usize {
        let in_one_chunk = self.chunk_size - HEADROOM;
        let most = self.interface.mtu.saturating_add(LINK_OVERHEAD).max(in_one_chunk);
        (if self.scatter_gather { most } else { in_one_chunk }) as usize
    }
}

/// Bytes around an MTU: an Ethernet header and two VLAN tags.
pub(crate) const LINK_OVERHEAD: u32 = 14 + 8;
/// The most MTU that mainline drivers take without multi-buffer XDP on 4 KiB pages.
pub(crate) const SINGLE_BUFFER_MTU: u32 = 3498;
/// The most MTU whose frames fit one chunk.
pub(crate) const ONE_CHUNK_MTU: u32 = 4096 - HEADROOM - LINK_OVERHEAD;
const FRAGS_SINCE: KernelVersion = KernelVersion { major: 5, minor: 18, patch: 0 };
const SCATTER_GATHER_SINCE: KernelVersion = KernelVersion { major: 6, minor: 6, patch: 0 };

pub(super) fn make(options: &Options) -> Result<Plan, EngineError> {
    check_capabilities()?;
    let kernel = KernelVersion::running()?;
    let cpus = choose_cpus(&options.cpus)?;
    let available = cpus.len();
    let mut workers = 0;
    let mut plans = Vec::with_capacity(options.interfaces.len());
    for name in &options.interfaces {
        let interface = Interface::named(name)?;
        if let Some(hook) = interface.xdp_hook()? {
            let holder = format!(
                "{:?} mode, id {}{}",
                hook.mode,
                hook.program,
                hook.name.map(|name| format!(", {name}")).unwrap_or_default()
            );
            return Err(EngineError::HookHeld { interface: name.clone(), holder });
        }
        let rx_queues = interface.rx_queues()?;
        let mut plan = layout(options, interface, rx_queues, kernel)?;
        for queue in &mut plan.queues {
            queue.cpu = cpu(&cpus, workers);
            workers += 1;
        }
        if workers > available && options.wait != Wait::Poll {
            plan.warnings.push(format!(
                "{name}: {workers} workers that never sleep share {available} CPUs and starve each other; wait by \
                 polling, or read fewer queues"
            ));
        }
        plans.push(plan);
    }
    Ok(Plan { interfaces: plans, cpus })
}

fn cpu(cpus: &[usize], worker: usize) -> usize {
    worker.checked_rem(cpus.len()).map_or(0, |place| cpus[place])
}

/// Everything that follows from the facts alone.
fn layout(
    options: &Options,
    interface: Interface,
    rx_queues: u32,
    kernel: KernelVersion,
) -> Result<InterfacePlan, EngineError> {
    let name = || interface.name.clone();
    let most_queues = interface.most_rx_queues().max(rx_queues);
    let queues: Vec<u32> = match &options.queues {
        Queues::All => (0..rx_queues).collect(),
        Queues::List(list) => list.clone(),
    };
    if let Some(&queue) = queues.iter().find(|queue| **queue >= rx_queues) {
        return Err(EngineError::NoSuchQueue { interface: name(), queue, queues: rx_queues });
    }
    let mtu = interface.mtu;
    let mut warnings = Vec::new();
    if options.scatter_gather && kernel < SCATTER_GATHER_SINCE {
        return Err(EngineError::Options(format!(
            "frames in several descriptors need kernel 6.6 or later, this is {kernel}"
        )));
    }
    let fits_one_chunk = mtu <= ONE_CHUNK_MTU || options.scatter_gather;
    if !fits_one_chunk {
        if options.mode != Mode::Generic {
            return Err(EngineError::Mtu {
                interface: name(),
                mtu,
                most: ONE_CHUNK_MTU,
                why: "the most a frame in one 4096-byte chunk takes",
                mend: SINGLE_BUFFER_MTU,
            });
        }
        warnings.push(format!(
            "{}: MTU {mtu}, but frames over {} bytes do not fit a chunk: they will be counted as oversize and lost; \
             `ip link set dev {} mtu {SINGLE_BUFFER_MTU}` keeps them from coming",
            interface.name,
            4096 - HEADROOM,
            interface.name
        ));
    }
    // In generic mode the kernel hands over frames in one piece whatever the MTU.
    let frags = options.scatter_gather || (mtu > SINGLE_BUFFER_MTU && options.mode != Mode::Generic);
    if frags && kernel < FRAGS_SINCE {
        return Err(EngineError::Mtu {
            interface: name(),
            mtu,
            most: SINGLE_BUFFER_MTU,
            why: "the most a driver takes without multi-buffer XDP, which needs kernel 5.18",
            mend: SINGLE_BUFFER_MTU,
        });
    }
    let least_chunk = if mtu + LINK_OVERHEAD + HEADROOM <= 2048 { 2048 } else { 4096 };
    let chunk_size = options.chunk_size.unwrap_or(least_chunk);
    if chunk_size < least_chunk {
        warnings.push(format!(
            "{}: MTU {mtu}, but frames over {} bytes do not fit a chunk of {chunk_size}: they will be counted as \
             oversize and lost",
            interface.name,
            chunk_size - HEADROOM
        ));
    }
    if !interface.up {
        warnings.push(format!(
            "{}: the interface is down; `ip link set dev {} up`, ingest will go on from there",
            interface.name, interface.name
        ));
    }
    if options.bind == BindMode::ZeroCopy && options.mode == Mode::Generic {
        return Err(EngineError::Options(
            "zero-copy needs native mode: leave `--mode generic` or `--bind zerocopy` away".to_owned(),
        ));
    }
    let modes = match options.mode {
        Mode::Auto if options.bind != BindMode::ZeroCopy => vec![Mode::Native, Mode::Generic],
        Mode::Auto | Mode::Native => vec![Mode::Native],
        Mode::Generic => vec![Mode::Generic],
    };
    Ok(InterfacePlan {
        rx_queues,
        most_queues,
        queues: queues.into_iter().map(|queue| QueuePlan { queue, cpu: 0 }).collect(),
        modes,
        frags,
        scatter_gather: options.scatter_gather,
        bind: if options.bind == BindMode::ZeroCopy { BindMode::ZeroCopy } else { BindMode::Copy },
        rx_ring: options.rx_ring,
        chunk_size,
        headroom: FRAME_HEADROOM,
        chunks: options.umem_frames.unwrap_or_else(|| options.default_umem_frames()),
        warnings,
        interface,
    })
}

fn check_capabilities() -> Result<(), EngineError> {
    let held = Capabilities::effective()?;
    let has = |capability| held.has(capability) || held.has(Capability::SysAdmin);
    let mut missing = Vec::new();
    for (capability, name) in [(Capability::Bpf, "CAP_BPF"), (Capability::Perfmon, "CAP_PERFMON")] {
        if !has(capability) {
            missing.push(name);
        }
    }
    for (capability, name) in [(Capability::NetAdmin, "CAP_NET_ADMIN"), (Capability::NetRaw, "CAP_NET_RAW")] {
        if !held.has(capability) {
            missing.push(name);
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(EngineError::Capabilities { missing: missing.join(", ") }) }
}

/// The CPUs asked for, or all the process may use, from the last one down.
fn choose_cpus(wanted: &[usize]) -> Result<Vec<usize>, EngineError> {
    let failed = |source: nix::errno::Errno| EngineError::Thread {
        what: "the CPUs this process may use".to_owned(),
        source: source.into(),
    };
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(failed)?;
    let allowed: Vec<usize> =
        (0..nix::sched::CpuSet::count()).rev().filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    if let Some(cpu) = wanted.iter().find(|cpu| !allowed.contains(cpu)) {
        let allowed = allowed.iter().rev().map(ToString::to_string).collect::<Vec<_>>().join(",");
        return Err(EngineError::Options(format!(
            "CPU {cpu} is not one this process may use; it may use {allowed}"
        )));
    }
    Ok(if wanted.is_empty() { allowed } else { wanted.to_vec() })
}
