//! From the options and the host's facts to what a run does.

use nix::{sched::sched_getaffinity, unistd::Pid};

use super::{
    Bind, EngineError, Mode, Obstacle, OptionsError, Queues, Wait, Warning, XdpMode,
    facts::{Host, LINK_OVERHEAD},
    layout::{Layout, Refusal, Wanted, layout, umem_bytes},
    options::Options,
};
use crate::{
    host::{
        interface::Interface,
        kernel::{self, KernelVersion},
        limits::{Capabilities, Capability},
    },
    reassembly::MAX_JOINED,
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
    /// Whether fragments are reassembled.
    pub reassemble: bool,
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
    /// Whether every RX queue was asked for, so that a frame on one without a socket is lost.
    pub all_queues: bool,
    /// Modes to try, in order.
    pub modes: Vec<XdpMode>,
    /// Whether the driver may hand over frames in several buffers (`xdp.frags`), in native mode.
    pub frags: bool,
    /// Whether sockets take frames in several descriptors (`XDP_USE_SG`, kernel 6.6 and later): where a frame
    /// may be larger than a chunk takes, or come in several buffers.
    pub scatter_gather: bool,
    /// How frames get into the UMEM: copy or zero-copy.
    pub bind: Bind,
    /// Descriptors of each queue's RX ring.
    pub rx_ring: u32,
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// Bytes of a chunk in front of a frame beside those that XDP keeps for itself.
    pub headroom: u32,
    /// Chunks of each queue's UMEM.
    pub chunks: u32,
    /// What is not as good as it could be.
    pub warnings: Vec<Warning>,
    /// The facts that the decision was made by.
    pub(super) host: Host,
    /// What is known to keep the driver from native mode.
    pub(super) obstacles: Vec<Obstacle>,
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
        self.interfaces.iter().map(|plan| umem_bytes(plan.queues.len(), plan.chunks, plan.chunk_size)).sum()
    }

    /// The most bytes an outer frame can have on any of the interfaces: [`WorkerContext::max_frame`].
    ///
    /// [`WorkerContext::max_frame`]: crate::sink::WorkerContext::max_frame
    #[must_use]
    pub fn max_frame(&self) -> usize {
        let on_the_wire = self.interfaces.iter().map(InterfacePlan::max_frame).max();
        on_the_wire.unwrap_or(0).max(if self.reassemble { MAX_JOINED } else { 0 })
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

pub(super) fn make(options: &Options) -> Result<Plan, EngineError> {
    check_capabilities()?;
    let kernel = KernelVersion::running()?;
    let cpus = choose_cpus(&options.cpus)?;
    let available = cpus.len();
    let mut workers = 0;
    let mut plans = Vec::with_capacity(options.interfaces.len());
    for name in &options.interfaces {
        let interface = Interface::named(name)?;
        let inherited = options.inheritance.as_ref().and_then(|left| left.program_on(name));
        if let Some(hook) = interface.xdp_hook()?
            && inherited != Some(hook.program)
        {
            return Err(EngineError::HookHeld { interface: name.clone(), hook });
        }
        let rx_queues = interface.rx_queues()?;
        let mut plan = one(options, interface, rx_queues, kernel)?;
        for queue in &mut plan.queues {
            queue.cpu = cpu(&cpus, workers);
            workers += 1;
        }
        if workers > available && options.wait != Wait::Poll {
            plan.warnings.push(Warning::BusyWorkers { workers, cpus: available });
        }
        plans.push(plan);
    }
    if let Some(inheritance) = &options.inheritance {
        inheritance.check(&plans)?;
    }
    Ok(Plan { interfaces: plans, cpus, reassemble: options.reassemble })
}

fn cpu(cpus: &[usize], worker: usize) -> usize {
    worker.checked_rem(cpus.len()).map_or(0, |place| cpus[place])
}

/// One interface's plan, without CPUs.
fn one(
    options: &Options,
    interface: Interface,
    rx_queues: u32,
    kernel: KernelVersion,
) -> Result<InterfacePlan, EngineError> {
    let most_queues = interface.most_rx_queues().max(rx_queues);
    let host = host(&interface, rx_queues, kernel);
    let wanted = Wanted {
        mode: options.mode,
        bind: options.bind,
        chunk_size: options.chunk_size,
        scatter_gather: options.scatter_gather,
        queues: &options.queues,
    };
    let layout = layout(&host, &wanted).map_err(|refusal| refused(&interface.name, refusal))?;
    let warnings = warnings(&interface, options.mode, &layout);
    let Layout { modes, frags, scatter_gather, bind, chunk_size, obstacles, .. } = layout;
    let queues: Vec<u32> = match &options.queues {
        Queues::All => (0..rx_queues).collect(),
        Queues::List(list) => list.clone(),
    };
    Ok(InterfacePlan {
        rx_queues,
        most_queues,
        queues: queues.into_iter().map(|queue| QueuePlan { queue, cpu: 0 }).collect(),
        all_queues: options.queues == Queues::All,
        modes,
        frags,
        scatter_gather,
        bind,
        rx_ring: options.rx_ring,
        chunk_size,
        headroom: FRAME_HEADROOM,
        chunks: options.umem_frames.unwrap_or_else(|| options.default_umem_frames()),
        warnings,
        host,
        obstacles,
        interface,
    })
}

/// The facts of this host that the layout depends on. Those that cannot be read are unknown.
pub(super) fn host(interface: &Interface, rx_queues: u32, kernel: KernelVersion) -> Host {
    Host {
        kernel: Some(kernel),
        page_size: kernel::page_size(),
        cpus: kernel::possible_cpus().ok(),
        interface: interface.name.clone(),
        mtu: interface.mtu,
        driver: interface.driver.clone(),
        peer: interface.peer(),
        rx_queues,
        channels: interface.channels().ok(),
        xdp_features: interface.xdp_features().ok().flatten(),
        virtio_features: interface.virtio_features(),
    }
}

fn refused(interface: &str, refusal: Refusal) -> EngineError {
    match refusal {
        Refusal::Mtu(mtu) => EngineError::Mtu(mtu),
        Refusal::Options(error) => EngineError::Options(error),
        Refusal::NoSuchQueue { queue, queues } => {
            EngineError::NoSuchQueue { interface: interface.to_owned(), queue, queues }
        }
    }
}

/// What is worse than could be expected from the options.
fn warnings(interface: &Interface, mode: Mode, layout: &Layout) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if mode == Mode::Auto && layout.modes == [XdpMode::Generic] {
        warnings.extend(layout.obstacles.iter().cloned().map(Warning::Generic));
    }
    warnings.extend(layout.warnings.iter().cloned());
    if !interface.up {
        warnings.push(Warning::Down);
    } else if !interface.carrier {
        warnings.push(Warning::NoCarrier);
    }
    warnings
}

fn check_capabilities() -> Result<(), EngineError> {
    let held = Capabilities::effective()?;
    let mut missing: Vec<_> = [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .filter(|one| !held.has(*one) && !held.has(Capability::SysAdmin))
        .collect();
    missing.extend([Capability::NetAdmin, Capability::NetRaw].into_iter().filter(|one| !held.has(*one)));
    if missing.is_empty() { Ok(()) } else { Err(EngineError::Capabilities { missing }) }
}

/// The CPUs asked for, or all the process may use, from the last one down.
fn choose_cpus(wanted: &[usize]) -> Result<Vec<usize>, EngineError> {
    let failed = |errno: nix::errno::Errno| EngineError::Cpus(errno.into());
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(failed)?;
    let allowed: Vec<usize> =
        (0..nix::sched::CpuSet::count()).rev().filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    if let Some(&cpu) = wanted.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(OptionsError::Cpu { cpu, allowed: allowed.into_iter().rev().collect() }.into());
    }
    Ok(if wanted.is_empty() { allowed } else { wanted.to_vec() })
}
