//! Forwarding of inner frames, to where an IDS, a collector or another mirror target takes them.
//!
//! A [`Forward`] sends to one [`Target`], or to several that form a group: then each inner flow goes to one
//! member, in both directions and with all fragments of its packets, chosen by a hash. When a member goes
//! down its flows move to the others, and return when it is back; no other flow moves. For the same frames to
//! several targets, use a sink for each.
//!
//! Workers copy frames into blocks, and a thread for each member sends them; so a target that stalls costs
//! frames of its own and nothing else. What became of them is counted by member and reason:
//!
//! | reason | |
//! |---|---|
//! | `no_block` | the thread does not keep up |
//! | `too_large` | longer than the interface's MTU, or the path's, takes |
//! | `no_buffer` | the kernel had no room, or the driver refused it, or every reader is behind |
//! | `down` | the interface is down or gone, the far end cannot be reached, or nobody reads |
//! | `no_vlan` | every VLAN was given for good to a VNI that was asked for |
//! | `no_member` | no member of the group was up |
//! | `io` | another error; failed, not dropped |
//!
//! Two fragments that come by different queues at the same time may be told in either order; a later fragment
//! that comes before the first goes by its addresses alone. So do frames that were cut before their ports.

mod builder;
mod group;
mod member;
mod output;
mod seed;
mod target;
mod vlan;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::UdpSocket,
    sync::{Arc, Mutex, PoisonError},
};

pub use builder::{ForwardBuilder, OpenError};
pub use target::{Target, TargetError};

use super::{
    Sink, SinkError, SinkFactory, SinkStats, WorkerContext,
    handoff::{Handoff, record},
};
use crate::{
    account::{MemberReport, Report, SinkHalt, SinkReport, VlanReport},
    escape,
    host::interface::Interface,
};
use group::Group;
use member::State;
use vlan::Vlans;
use worker::ForwardSink;

const NAME: &str = "forward";

/// Forwards inner frames: the factory. See the [module](self).
///
/// ```no_run
/// use mirror_user::sink::forward::Forward;
///
/// let forward = Forward::builder("tap:ids0".parse()?).member("tap:ids1".parse()?).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Forward {
    name: String,
    targets: Vec<Target>,
    members: Vec<Handoff>,
    group: Arc<Group>,
    /// By which flows were spread, where it was drawn.
    random_seed: Option<u64>,
    vlans: Option<Vlans>,
    totals: Arc<Totals>,
    states: Vec<Arc<State>>,
}

/// Why a forwarder could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// A target was named twice.
    #[error("{}: named twice; once is enough", escape::line(target))]
    Twice {
        /// The target.
        target: String,
    },
    /// There are more members than a group can have.
    #[error("{targets} targets are more than a group can have, {most}")]
    TooMany {
        /// How many.
        targets: usize,
        /// The most.
        most: usize,
    },
    /// An option means nothing to any of the targets.
    #[error("{option} is something for {by}, and there is none among the targets")]
    Meaningless {
        /// The option.
        option: &'static str,
        /// What it is for.
        by: &'static str,
    },
    /// A target could not be had.
    #[error("{}: {source}", escape::line(target))]
    Open {
        /// The target.
        target: String,
        /// Why not.
        source: OpenError,
    },
    /// A member's thread could not be started.
    #[error("{}: cannot start its thread: {source}", escape::line(target))]
    Thread {
        /// The target.
        target: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Forward {
    /// Starts setting up a forwarder to this target.
    pub fn builder(target: Target) -> ForwardBuilder {
        ForwardBuilder::new(target)
    }

    /// The name of the sink that these targets are.
    #[must_use]
    pub fn name_of(targets: &[Target]) -> String {
        match targets {
            [one] => format!("{NAME} {one}"),
            _ => NAME.to_owned(),
        }
    }

    /// Where frames go.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Whether readers have come to its streams, for who wants to wait for them.
    #[must_use]
    pub fn readers(&self) -> Readers {
        let states = self.targets.iter().zip(&self.states);
        let streams = states.filter(|(target, _)| target.is_stream());
        Readers(streams.map(|(target, state)| (target.clone(), Arc::clone(state))).collect())
    }

    /// Memory that each worker's sink takes, in bytes, for frames of at most [`WorkerContext::max_frame`]
    /// bytes: its blocks. All of it is allocated at the start.
    #[must_use]
    pub fn memory_per_worker(&self, max_frame: usize) -> usize {
        let record = record::len_of(max_frame);
        self.members.iter().map(|member| member.config().memory_per_worker(record)).sum()
    }

    /// Refuses what would have a run eat what it forwards.
    fn refuse_loop(&self, cx: &WorkerContext) -> Result<(), SinkError> {
        let Some(ingest) = cx.interface.as_deref() else { return Ok(()) };
        let looped = |target: &Target, why: &str| {
            Err(SinkError::other(format!(
                "{target}: {why}, and would be ingested again; choose another target"
            )))
        };
        for target in &self.targets {
            match target {
                Target::Tap { name, .. } | Target::Device { name } if name == ingest => {
                    return looped(target, "what is sent there is mirrored traffic's own interface");
                }
                Target::Device { name } => {
                    let peer = Interface::named(ingest).ok().and_then(|interface| interface.peer_index);
                    if Interface::named(name).is_ok_and(|interface| Some(interface.index) == peer) {
                        return looped(target, &format!("it is the other end of {ingest}"));
                    }
                }
                // Only an address of this host can be bound to.
                Target::Vxlan { to, .. }
                    if cx.tunnels.contains(to.port()) && UdpSocket::bind((to.ip(), 0)).is_ok() =>
                {
                    return looped(target, "this is the host itself");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl SinkFactory for Forward {
    fn name(&self) -> &str {
        &self.name
    }

    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        self.refuse_loop(cx)?;
        let record = record::len_of(cx.max_frame);
        let writers =
            self.members.iter().map(|member| member.block_writer(record, cx.wait_until.clone())).collect();
        Ok(Box::new(ForwardSink::new(writers, Arc::clone(&self.group), self.totals.worker())))
    }

    fn needs_time(&self) -> bool {
        self.targets.iter().any(Target::is_stream)
    }

    /// A target that takes nothing is tried again and again, and others may be there.
    fn halted(&self) -> Option<SinkHalt> {
        let halts: Option<Vec<_>> = self.members.iter().map(Handoff::halted).collect();
        halts?.into_iter().next()
    }

    fn report(&self, entry: &mut SinkReport, report: &mut Report) {
        if let Some(seed) = self.random_seed {
            let warning = format!("{}: flows were spread by the random seed {seed}", self.name);
            if !report.warnings.contains(&warning) {
                report.warnings.push(warning);
            }
        }
        entry.members = self.totals.report();
        let targets = self.targets.iter().zip(&self.states);
        for ((target, state), member) in targets.zip(&mut entry.members) {
            state.report(target.is_stream(), member);
        }
        let vlans = self.vlans.iter().flat_map(Vlans::all);
        entry.vlans = vlans.map(|(vni, vlan)| VlanReport { vni, vlan }).collect();
        entry.vlans_given_up = self.vlans.as_ref().map_or(0, Vlans::given_up);
    }

    fn close(&self, report: &Report) -> Result<(), SinkError> {
        let ends: Vec<_> = self.members.iter().map(|member| member.close(report)).collect();
        ends.into_iter().collect()
    }
}

/// The streams of a forwarder, and whether readers have come to them.
#[derive(Clone, Debug)]
pub struct Readers(Vec<(Target, Arc<State>)>);

impl Readers {
    /// Streams to which no reader has come yet.
    pub fn missing(&self) -> impl Iterator<Item = &Target> {
        self.0.iter().filter(|(_, state)| !state.is_ready()).map(|(target, _)| target)
    }
}

/// What workers sent, by member.
#[derive(Debug)]
struct Totals {
    names: Vec<String>,
    workers: Mutex<Vec<MemberStats>>,
}

/// What one worker sent by its last tick, or at its end, by member.
type MemberStats = Arc<Mutex<Vec<SinkStats>>>;

impl Totals {
    fn new(names: Vec<String>) -> Self {
        Self { names, workers: Mutex::default() }
    }

    /// Where one more worker publishes.
    fn worker(&self) -> MemberStats {
        let stats = MemberStats::new(Mutex::new(vec![SinkStats::default(); self.names.len()]));
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stats));
        stats
    }

    fn report(&self) -> Vec<MemberReport> {
        let mut sums = vec![SinkStats::default(); self.names.len()];
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let stats = worker.lock().unwrap_or_else(PoisonError::into_inner);
            sums.iter_mut().zip(&*stats).for_each(|(sum, worker)| sum.add(worker));
        }
        self.names.iter().zip(&sums).map(|(name, sum)| MemberReport::new(name, sum)).collect()
    }
}
