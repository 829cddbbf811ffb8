//! A receiver on the test bed: a rung of the ladder, started, stopped and accounted for.

mod engine;
mod loops;
mod window;

use std::{collections::BTreeMap, fmt, sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result};
use mirror_ebpf::bench as floor;
use mirror_lab::{InterfaceCounters, Namespace, XdpProgram, xdp_program::XdpAttach};
use mirror_user::{Engine, engine::Priority, sink::SinkFactory};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use self::{engine::EngineWork, loops::Loops};
use crate::{
    bed::{Bed, RECEIVING},
    raw::{Look, Sizes},
};

/// Kinds of receivers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// An XDP program that drops: the cost of sending, cable and XDP.
    XdpDrop,
    /// A program that redirects, and a loop that only recycles descriptors: the cost of AF_XDP.
    Bare,
    /// The same loop, reading a byte of each frame: the least cost of any decapsulator.
    Touch,
    /// The same over xsk-rs and libxdp.
    XskRs,
    /// Our program with the loop that reads a byte.
    Program,
    /// The engine with a sink that only counts batches.
    Null,
    /// The engine with its counters.
    Counters,
    /// The engine writing pcapng to a memory-backed file.
    Pcap,
    /// The engine forwarding to a TAP device that nobody reads.
    Tap,
    /// The engine forwarding to a `veth:`, on which a reader listens.
    Veth,
    /// The engine forwarding by VXLAN, over a veth.
    Tunnel,
    /// The XDP program counting origins and forwarding to a veth, whose far end drops.
    KernelDrop,
    /// The same to a group of four.
    KernelGroup,
    /// The same into a VXLAN tunnel, whose far end drops.
    KernelTunnel,
    /// The same to a `veth:`, on which a reader listens.
    KernelVeth,
    /// The engine measuring the time from its XDP program to the sink.
    Latency,
}

impl Kind {
    /// The rungs of the ladder, from the bottom up.
    pub const LADDER: [Self; 8] = [
        Self::XdpDrop,
        Self::Bare,
        Self::Touch,
        Self::XskRs,
        Self::Program,
        Self::Null,
        Self::Counters,
        Self::Pcap,
    ];
    /// Those on top of them, which do not build on each other.
    pub const FORWARDS: [Self; 7] = [
        Self::Tap,
        Self::Veth,
        Self::Tunnel,
        Self::KernelDrop,
        Self::KernelGroup,
        Self::KernelTunnel,
        Self::KernelVeth,
    ];

    /// Whether frames are forwarded by the XDP program, so that no worker has any.
    #[must_use]
    pub fn is_in_kernel(self) -> bool {
        matches!(self, Self::KernelDrop | Self::KernelGroup | Self::KernelTunnel | Self::KernelVeth)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::XdpDrop => "xdp_drop",
            Self::Bare => "bare",
            Self::Touch => "touch",
            Self::XskRs => "xsk-rs",
            Self::Program => "program",
            Self::Null => "null",
            Self::Counters => "counters",
            Self::Pcap => "pcap",
            Self::Tap => "forward_tap",
            Self::Veth => "forward_veth",
            Self::Tunnel => "forward_vxlan",
            Self::KernelDrop => "forward_kernel_drop",
            Self::KernelGroup => "forward_kernel_group",
            Self::KernelTunnel => "forward_kernel_vxlan",
            Self::KernelVeth => "forward_kernel_veth",
            Self::Latency => "latency",
        })
    }
}

/// How its workers wait.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Wait {
    /// Never asleep.
    Spin,
    /// In poll(2).
    Poll,
    /// Running the queue's NAPI poll themselves (busy polling).
    BusyPoll,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Spin => "spin",
            Self::Poll => "poll",
            Self::BusyPoll => "busy-poll",
        })
    }
}

/// A complete description of a receiver.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// What it is.
    pub kind: Kind,
    /// How its workers wait.
    pub wait: Wait,
    /// How the engine's workers compete for their CPUs.
    pub priority: Priority,
    /// Its memory.
    pub sizes: Sizes,
    /// The CPU of each queue's worker.
    pub cpus: Vec<usize>,
}

/// The default sizes of the engine, on the bed's cable.
///
/// # Errors
///
/// Where the engine cannot plan.
pub fn default_sizes(bed: &Bed) -> Result<Sizes> {
    let engine = bed.receiver.enter(|| Engine::builder(RECEIVING).build())??;
    let plan = engine.plan().interfaces.first().context("a plan without an interface")?;
    let (rx_ring, umem_frames, chunk_size) = (plan.rx_ring, plan.chunks, plan.chunk_size);
    Ok(Sizes { rx_ring, umem_frames, chunk_size, headroom: plan.headroom })
}

/// The account of the frames, at rest.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Frames that were received.
    pub received: u64,
    /// The others, by the stage that lost them. Frames in neither are `unexplained`.
    pub lost_by: BTreeMap<&'static str, u64>,
    /// Busy time of all workers, in ns.
    pub busy_ns: u64,
    /// Fraction of the frames and their highest latency in ns, for [`Kind::Latency`].
    pub latency: Vec<(f64, u64)>,
}

impl Account {
    /// Counts frames under the stage that lost them.
    fn lose(&mut self, stage: &'static str, frames: u64) {
        if frames > 0 {
            *self.lost_by.entry(stage).or_insert(0) += frames;
        }
    }

    /// Frames that were lost, for any reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_by.values().sum()
    }
}

/// A running receiver. If dropped, it ends without an account.
#[derive(Debug)]
pub struct Live {
    work: Work,
    namespace: Namespace,
    before: InterfaceCounters,
}

#[derive(Debug)]
enum Work {
    Drop(XdpProgram),
    Loops(Loops),
    Engine(Box<EngineWork>),
}

/// Pins the calling thread to these CPUs.
pub(crate) fn pin(cpus: &[usize]) {
    let mut set = CpuSet::new();
    let pinned = cpus.iter().try_for_each(|cpu| set.set(*cpu));
    if let Err(error) = pinned.and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
        eprintln!("bench: cannot pin a thread to CPUs {cpus:?}, figures are unreliable: {error}");
    }
}

/// Time for frames in flight after the generator has ended.
const SETTLE: Duration = Duration::from_millis(10);

impl Receiver {
    /// Starts it on the bed.
    ///
    /// # Errors
    ///
    /// If a part of it cannot be started.
    pub fn start(&self, bed: &Bed) -> Result<Live> {
        let before = InterfaceCounters::read(&bed.receiver, RECEIVING)?;
        let work = match self.kind {
            Kind::XdpDrop => {
                let mut program = XdpProgram::load_floor(floor::PROGRAM_DROP)?;
                program.attach(&bed.receiver, RECEIVING, XdpAttach::Native)?;
                Work::Drop(program)
            }
            Kind::Bare | Kind::Touch | Kind::XskRs | Kind::Program => Work::Loops(Loops::start(self, bed)?),
            Kind::Null
            | Kind::Counters
            | Kind::Pcap
            | Kind::Tap
            | Kind::Veth
            | Kind::Tunnel
            | Kind::KernelDrop
            | Kind::KernelGroup
            | Kind::KernelTunnel
            | Kind::KernelVeth
            | Kind::Latency => Work::Engine(Box::new(EngineWork::start(self, bed)?)),
        };
        Ok(Live { work, namespace: bed.receiver.clone(), before })
    }

    /// Starts the engine on the bed, with this sink in the place of its own.
    ///
    /// # Errors
    ///
    /// If a part of it cannot be started.
    pub fn start_with(&self, bed: &Bed, sink: Arc<dyn SinkFactory>) -> Result<Live> {
        let before = InterfaceCounters::read(&bed.receiver, RECEIVING)?;
        let work = Work::Engine(Box::new(EngineWork::start_with(self, bed, sink)?));
        Ok(Live { work, namespace: bed.receiver.clone(), before })
    }

    fn look(&self) -> Look {
        if self.kind == Kind::Bare { Look::Nothing } else { Look::OneByte }
    }
}

impl Live {
    /// Frames that the engine's sinks have written so far, as of its last tick; `None` without an engine.
    #[must_use]
    pub fn written(&self) -> Option<u64> {
        match &self.work {
            Work::Engine(engine) => Some(engine.written()),
            Work::Drop(_) | Work::Loops(_) => None,
        }
    }

    /// Ends it after it has processed all frames, and accounts for `offered` frames.
    ///
    /// # Errors
    ///
    /// If counters cannot be read, or the engine's accounting has a residue.
    pub fn finish(self, offered: u64) -> Result<Account> {
        let Self { work, namespace, before } = self;
        thread::sleep(SETTLE);
        let after = InterfaceCounters::read(&namespace, RECEIVING)?;
        let entered = after.xdp_packets() - before.xdp_packets();
        let mut account = match work {
            Work::Drop(program) => {
                drop(program);
                let drops = |counters: &InterfaceCounters| counters.over_queues("rx_queue_", "_xdp_drops");
                Account { received: drops(&after) - drops(&before), ..Account::default() }
            }
            Work::Loops(loops) => loops.finish()?,
            Work::Engine(engine) => engine.finish(&namespace)?,
        };
        account.lose(stage::TX, offered.saturating_sub(entered));
        let explained = account.received + account.lost();
        account.lose(stage::UNEXPLAINED, offered.saturating_sub(explained));
        Ok(account)
    }
}

/// Stages that lose frames.
mod stage {
    /// Before the XDP program: the ring of the veth was full.
    pub(super) const TX: &str = "tx";
    /// XDP_STATISTICS: no chunk for them.
    pub(super) const RX_DROPPED: &str = "rx_dropped";
    /// XDP_STATISTICS: no descriptor for them.
    pub(super) const RX_RING_FULL: &str = "rx_ring_full";
    /// The redirect failed for another reason.
    pub(super) const REDIRECT_FAILED: &str = "redirect_failed";
    /// A sink could not take them.
    pub(super) const SINK: &str = "sink";
    /// The target of forwarding in the kernel did not take them.
    pub(super) const NOT_SENT: &str = "not_sent";
    /// Not counted by anything.
    pub(super) const UNEXPLAINED: &str = "unexplained";
}
