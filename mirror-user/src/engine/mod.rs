//! The engine: from an interface's name to a report.
//!
//! [`Engine::builder`] collects what is wanted, [`EngineBuilder::build`] asks the host whether it can be had and
//! makes a [`Plan`], [`Engine::start`] takes memory, binds sockets, attaches the program, and gives a [`Running`]
//! engine, which [`Running::stop`] turns into a [`Report`](crate::Report). Each way out, unwinding included, leaves
//! the interface as it was: the program is held by a bpf_link that goes with its descriptor.

pub(crate) mod advice;
mod assemble;
mod attach;
mod builder;
mod error;
mod interface;
pub(crate) mod layout;
mod local;
pub(crate) mod obstacles;
mod plan;
mod ports;
mod queues;
mod running;
mod setup;
mod threads;

use std::sync::Arc;

pub use builder::EngineBuilder;
pub use error::EngineError;
pub use plan::{InterfacePlan, Plan, QueuePlan};
pub use running::{Event, Running, Stopper};

use crate::sink::SinkFactory;
use builder::Options;

/// XDP mode asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Mode {
    /// Native, or generic with a warning where the driver has no native XDP.
    #[default]
    Auto,
    /// In the driver (`XDP_FLAGS_DRV_MODE`), or not at all.
    Native,
    /// In the kernel's generic receive path (`XDP_FLAGS_SKB_MODE`): works with every driver, several times slower.
    Generic,
}

/// How the kernel hands frames to the ring. Decapsulation itself never copies.
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
    /// Never sleeps: a CPU for each queue, the shortest way.
    Spin,
    /// Runs the NIC queue's own poll from the worker (`SO_PREFER_BUSY_POLL`), kernel 5.11 and later.
    BusyPoll,
}

/// RX queues to read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Queues {
    /// All the interface has.
    #[default]
    All,
    /// These. Frames on the others go to the kernel and are counted as `no_socket`.
    List(Vec<u32>),
}

/// Which frames to a tunnel port are taken, by whom they are addressed to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Destination {
    /// Those to the interface's own MAC address and to one of its IP addresses; where it has none of the family, the MAC alone
    /// decides. What says that it comes from a loopback address (127.0.0.0/8, `::1`) is not taken either. The others go to
    /// the kernel and are counted as `not_local`. Addresses are followed while the run lasts, at each [`Running::wait`].
    #[default]
    Own,
    /// All, for SPAN ports and interfaces in promiscuous mode.
    Any,
}

/// Called on each thread of the engine when it has opened all it needs and before its first frame; the place to give
/// up capabilities, which in Linux each thread holds for itself.
pub type ThreadHook = Arc<dyn Fn() -> std::io::Result<()> + Send + Sync>;

/// An engine that knows what it will do, and has not touched anything yet.
pub struct Engine {
    options: Options,
    plan: Plan,
}

impl Engine {
    /// Starts to describe a run on one interface; [`EngineBuilder::interface`] adds more.
    pub fn builder(interface: impl Into<String>) -> EngineBuilder {
        EngineBuilder::new(interface.into())
    }

    /// Adds a sink once the plan is known, by which its memory can be planned.
    #[must_use]
    pub fn sink(mut self, sink: Arc<dyn SinkFactory>) -> Self {
        self.options.sinks.push(sink);
        self
    }

    /// What will be done, and the memory it takes.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes memory, binds the sockets, attaches the program, starts the workers.
    ///
    /// # Errors
    ///
    /// What the host refused; everything done until then is undone.
    pub fn start(self) -> Result<Running, EngineError> {
        Running::start(self.options, &self.plan)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("plan", &self.plan).finish_non_exhaustive()
    }
}
