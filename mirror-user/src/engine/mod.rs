//! The engine: from an interface's name to a report.
//!
//! [`Engine::builder`] collects the options, [`EngineBuilder::build`] checks them against the host and makes
//! a [`Plan`], [`Engine::start`] takes memory, binds sockets, attaches the program, and gives a [`Running`]
//! engine, which [`Running::stop`] turns into a [`Report`](crate::Report). However it ends, unwinding
//! included, the interface is left as it was: the kernel detaches the program when the descriptor of its
//! bpf_link is closed.

mod assemble;
mod attach;
mod builder;
mod cause;
mod change;
mod command;
pub(crate) mod diagnose;
mod error;
mod event;
mod facts;
mod forward;
mod hand_over;
mod interface;
mod kept;
pub(crate) mod layout;
mod local;
pub(crate) mod obstacles;
mod options;
mod plan;
mod ports;
mod queues;
mod running;
mod threads;
mod vitals;
mod warning;
pub(crate) mod words;
mod worker;

use std::sync::Arc;

pub use builder::EngineBuilder;
pub use cause::{AttachCause, MtuLimit, MtuTooLarge, NoMultiBuffer, Obstacle, SocketCause};
pub use change::{Change, ChangeError};
pub use command::HostCommand;
pub use error::{EngineError, OptionsError, WorkerStep};
pub use event::Event;
pub use forward::{ForwardObstacle, ForwardPath};
pub use hand_over::{HandOverError, Inheritance, Offer, SocketsPass, TakeOverError};
pub use kept::KeptAccount;
pub use options::{BindMode, Destination, Mode, OnInterfaceLost, Priority, Queues, ThreadHook, Wait};
pub use plan::{InterfacePlan, Plan, QueuePlan};
pub use running::{Prepared, Release, Running, Stopper};
pub use vitals::{HookVitals, InterfaceVitals, QueueVitals, SinkVitals, Vitals};
pub use warning::Warning;

pub use crate::{
    host::xdp::XdpMode,
    xdp::ProgramSetupError,
    xsk::{Bind, SocketError},
};

use crate::sink::SinkFactory;
use options::Options;

/// An engine with a plan that has not been started: nothing on the host is changed yet.
pub struct Engine {
    options: Options,
    plan: Plan,
}

impl Engine {
    /// Starts to describe a run on one interface; [`EngineBuilder::interface`] adds more.
    pub fn builder(interface: impl Into<String>) -> EngineBuilder {
        EngineBuilder::new(interface.into())
    }

    /// Adds a sink after the plan was made, whose numbers size its memory.
    #[must_use]
    pub fn sink(mut self, sink: impl SinkFactory + 'static) -> Self {
        self.options.sinks.push(Arc::new(sink));
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
        self.prepare()?.go()
    }

    /// All of that, but workers do not run yet; and where a run of another process is
    /// [taken over](EngineBuilder::take_over), its program is still the attached one.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn prepare(self) -> Result<Prepared, EngineError> {
        Prepared::of(self.options, &self.plan)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("plan", &self.plan).finish_non_exhaustive()
    }
}
