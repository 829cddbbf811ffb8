//! Options of an engine, as the builder collects them.

use std::sync::Arc;

use super::{ForwardPath, Inheritance};
use crate::{select::Selection, sink::SinkFactory, tunnels::Tunnels};

/// XDP mode asked for, which becomes an [`XdpMode`](super::XdpMode).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Mode {
    /// Native, or generic with a warning where the driver has no native XDP.
    #[default]
    Auto,
    /// In the driver (`XDP_FLAGS_DRV_MODE`), or the run does not start.
    Native,
    /// In the kernel's generic receive path (`XDP_FLAGS_SKB_MODE`): works with every driver, several times
    /// slower.
    Generic,
}

/// How the kernel is asked to hand frames to the ring: the choice between two kinds of [`Bind`](super::Bind).
/// Decapsulation itself never copies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum BindMode {
    /// Copy mode, which every driver has and which is the best tested.
    #[default]
    Auto,
    /// The kernel copies each frame into the UMEM once.
    Copy,
    /// The NIC writes into the UMEM (`XDP_ZEROCOPY`), or the run does not start.
    ZeroCopy,
}

/// How a worker waits for frames.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Wait {
    /// Sleeps in poll(2) while the ring is empty.
    #[default]
    Poll,
    /// Never sleeps: a CPU for each queue, the lowest latency.
    Spin,
    /// Runs the NIC queue's poll from the worker (`SO_PREFER_BUSY_POLL`). Minimum kernel version: 5.11.
    BusyPoll,
}

/// How workers compete with other threads for their CPUs: sched(7).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Priority {
    /// For workers that sleep real-time, or, with a [warning](super::Warning::NotRealtime), what is permitted;
    /// for those that never sleep normal, because they would take their CPUs from everybody.
    #[default]
    Auto,
    /// `SCHED_FIFO` with the lowest real-time priority, or the run does not start: a worker runs as soon as
    /// its ring has frames. Needs CAP_SYS_NICE or RLIMIT_RTPRIO. A worker that sleeps and is saturated (its
    /// ring was never empty for 10 ms) continues at the priority that the process was started with until it
    /// has emptied its ring; with a [`ThreadHook`], which may drop the capability, it needs the limit for
    /// that, and without it stays real-time and sleeps 0.5 ms in every 10. Threads of sinks do not inherit
    /// it.
    Realtime,
    /// Nice level -20, or the run does not start. Needs CAP_SYS_NICE or RLIMIT_NICE.
    Nice,
    /// As the process was started.
    Normal,
}

impl Priority {
    /// Its name in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Realtime => "realtime",
            Self::Nice => "nice",
            Self::Normal => "normal",
        }
    }
}

/// RX queues to read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Queues {
    /// All the interface has.
    #[default]
    All,
    /// These. Frames on the others pass to the kernel and count as `no_socket`.
    List(Vec<u32>),
}

/// Which frames to a tunnel port are taken, by their destination.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Destination {
    /// Those to the interface's own MAC address and to one of its IP addresses; where it has none of the
    /// family, the MAC alone decides. Frames with a loopback source (127.0.0.0/8, `::1`) are not taken
    /// either. The others pass to the kernel and count as `not_local`. Changes of the addresses are followed
    /// during the run, at each [`Running::wait`](super::Running::wait).
    #[default]
    Own,
    /// All, for SPAN ports and interfaces in promiscuous mode.
    Any,
}

/// What a run over several interfaces does when one of them is deleted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum OnInterfaceLost {
    /// The run ends.
    #[default]
    End,
    /// The run continues as long as one is left. The report has the account of the lost one, and says that it
    /// was lost. An interface of that name that is added later is reported, and not read.
    GoOn,
}

/// Called on each thread of the engine after it has opened all it needs and before its first frame; the place
/// to drop capabilities, which in Linux each thread has of its own.
pub type ThreadHook = Arc<dyn Fn() -> std::io::Result<()> + Send + Sync>;

/// Everything the builder collects.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) interfaces: Vec<String>,
    pub(super) queues: Queues,
    pub(super) cpus: Vec<usize>,
    pub(super) mode: Mode,
    pub(super) bind: BindMode,
    pub(super) wait: Wait,
    pub(super) priority: Priority,
    pub(super) destination: Destination,
    pub(super) forward_path: ForwardPath,
    pub(super) on_interface_lost: OnInterfaceLost,
    pub(super) tunnels: Tunnels,
    pub(super) selection: Selection,
    pub(super) count: Option<u64>,
    pub(super) rx_ring: u32,
    pub(super) umem_frames: Option<u32>,
    pub(super) chunk_size: Option<u32>,
    pub(super) batch: usize,
    pub(super) huge_pages: bool,
    pub(super) scatter_gather: bool,
    pub(super) reassemble: bool,
    pub(super) kernel_log: bool,
    pub(super) hook: Option<ThreadHook>,
    pub(super) sinks: Vec<Arc<dyn SinkFactory>>,
    /// A run of another process to go on with.
    pub(super) inheritance: Option<Arc<Inheritance>>,
}

impl Options {
    /// As many as needed for the RX ring to be full before the fill ring is empty.
    pub(super) fn default_umem_frames(&self) -> u32 {
        (self.rx_ring + u32::try_from(self.batch).unwrap_or(0)).min(self.rx_ring * 2)
    }
}
