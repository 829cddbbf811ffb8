//! What stands at the receiving end of the bed: a rung of the ladder, started, stopped and accounted for.

mod engine;
mod loops;
mod window;

use std::{collections::BTreeMap, fmt, thread, time::Duration};

use anyhow::{Context as _, Result};
use mirror_ebpf::bench as floor;
use mirror_lab::{InterfaceCounters, Namespace, XdpProgram, xdp_program::XdpAttach};
use mirror_user::Engine;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use self::{engine::EngineWork, loops::Loops};
use crate::{
    bed::{Bed, RECEIVING},
    raw::{Look, Sizes},
};

/// What receives.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// An XDP program that drops: what sending, the cable and XDP take.
    XdpDrop,
    /// A program that redirects, and a loop that only turns descriptors over: what AF_XDP takes.
    Bare,
    /// The same loop, reading a byte of each frame: what any decapsulator must pay.
    Touch,
    /// The same over xsk-rs and libxdp: what another's rings take.
    XskRs,
    /// Our program before the loop that touches.
    Program,
    /// The engine with a sink that only counts batches.
    Null,
    /// The engine with its counters.
    Counters,
    /// The engine writing pcapng to a memory-backed file.
    Pcap,
    /// The engine forwarding to a TAP device that nobody reads.
    Tap,
    /// The engine forwarding to an interface, a veth.
    Device,
    /// The engine forwarding by VXLAN, over the same veth.
    Tunnel,
    /// The engine measuring the time from its XDP program to the sink.
    Latency,
}

impl Kind {
    /// The rungs of the ladder, from the ground up.
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
    /// Those on top of them, each beside the others.
    pub const FORWARDS: [Self; 3] = [Self::Tap, Self::Device, Self::Tunnel];
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
            Self::Device => "forward_veth",
            Self::Tunnel => "forward_vxlan",
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
    /// Running the queue's NAPI poll themselves.
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

/// A receiver in every respect.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// What it is.
    pub kind: Kind,
    /// How its workers wait.
    pub wait: Wait,
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

/// What became of the frames, once all is at rest.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Frames that came through to the end.
    pub received: u64,
    /// The others, by the stage that lost them. What is in neither comes out as `unexplained`.
    pub lost_by: BTreeMap<&'static str, u64>,
    /// Busy time of all workers, in ns.
    pub busy_ns: u64,
    /// Share of the frames and the time these took at most, in ns, for [`Kind::Latency`].
    pub latency: Vec<(f64, u64)>,
}

impl Account {
    /// Books frames under the stage that lost them.
    fn lose(&mut self, stage: &'static str, frames: u64) {
        if frames > 0 {
            *self.lost_by.entry(stage).or_insert(0) += frames;
        }
    }

    /// Frames that did not come through, for whatever reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_by.values().sum()
    }
}

/// A receiver at work. Dropped, it ends without an account.
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

/// Keeps the calling thread to these CPUs.
fn pin(cpus: &[usize]) {
    let mut set = CpuSet::new();
    let pinned = cpus.iter().try_for_each(|cpu| set.set(*cpu));
    if let Err(error) = pinned.and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
        eprintln!("bench: a thread cannot be kept to CPUs {cpus:?}, figures are off: {error}");
    }
}

/// What is still on its way when the generator has ended gets this long.
const SETTLE: Duration = Duration::from_millis(10);

impl Receiver {
    /// Starts it on the bed.
    ///
    /// # Errors
    ///
    /// Where anything of it cannot be had.
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
            | Kind::Device
            | Kind::Tunnel
            | Kind::Latency => Work::Engine(Box::new(EngineWork::start(self, bed)?)),
        };
        Ok(Live { work, namespace: bed.receiver.clone(), before })
    }

    fn look(&self) -> Look {
        if self.kind == Kind::Bare { Look::Nothing } else { Look::OneByte }
    }
}

impl Live {
    /// Ends it, with all that came before, and accounts for `offered` frames.
    ///
    /// # Errors
    ///
    /// Where counters cannot be read, and where the engine's own account does not close.
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

/// Where frames are lost.
mod stage {
    /// They never entered the XDP program: the ring of the cable was full.
    pub(super) const TX: &str = "tx";
    /// XDP_STATISTICS: no chunk for them.
    pub(super) const RX_DROPPED: &str = "rx_dropped";
    /// XDP_STATISTICS: no descriptor for them.
    pub(super) const RX_RING_FULL: &str = "rx_ring_full";
    /// The redirect failed otherwise.
    pub(super) const REDIRECT_FAILED: &str = "redirect_failed";
    /// A sink could not take them.
    pub(super) const SINK: &str = "sink";
    /// Nobody counts them.
    pub(super) const UNEXPLAINED: &str = "unexplained";
}
