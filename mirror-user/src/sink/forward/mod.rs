//! Forwards inner frames to an IDS, a collector or another mirror target.
//!
//! A [`Forward`] sends to one [`Target`] or to a group of targets. In a group a hash assigns each inner flow,
//! in both directions and with all its fragments, to one member. When a member goes down, its flows move to
//! the others, and return when it is up again; no other flow moves. To send the same frames to several
//! targets, use a sink for each.
//!
//! Workers copy frames into blocks, and one thread per member sends them. So a target that stalls costs
//! frames of its own and nothing else. Frames that are not sent are counted by member and reason:
//!
//! | reason | |
//! |---|---|
//! | `no_block` | the thread is too slow |
//! | `too_large` | longer than the MTU of the interface or path |
//! | `no_buffer` | the kernel's queue or the driver's ring was full, or every reader is too slow |
//! | `down` | the interface is down or deleted, the remote end is unreachable, or there is no reader |
//! | `no_vlan` | every VLAN is assigned permanently to another VNI |
//! | `no_member` | no member of the group was up |
//! | `io` | another error; failed, not dropped |
//!
//! Fragments that arrive by different queues at the same time may be processed in either sequence. A later
//! fragment that arrives before the first is assigned by its addresses alone, and so is a frame that was
//! truncated before its ports.

mod builder;
mod error;
mod group;
mod member;
mod not_sent;
mod output;
mod parts;
mod seed;
mod state;
mod target;
mod vlan;
mod worker;

pub(crate) use not_sent::NotSent;
pub(crate) use seed::Seed;

#[cfg(test)]
mod tests;

use std::{net::UdpSocket, sync::Arc, time::Duration};

pub use builder::ForwardBuilder;
pub use error::{ForwardError, OpenError};
pub use parts::{HeldTarget, TargetParts};
pub use target::{Target, TargetError};

use super::{
    Sink, SinkError, SinkFactory, SinkNeeds, WorkerContext,
    handoff::{Handoff, record},
    members::MemberTotals,
};
use crate::{
    Tunnels,
    account::{Report, SinkHalt, SinkReport, VlanReport},
    host::interface::Interface,
};
use group::Group;
use state::State;
use vlan::Vlans;
use worker::ForwardSink;

const NAME: &str = "forward";

/// The factory of sinks that forward inner frames. See the [module](self).
///
/// ```no_run
/// use mirror_user::sink::forward::Forward;
///
/// let forward = Forward::builder("veth:ids0".parse()?).member("veth:ids1".parse()?).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Forward {
    name: String,
    targets: Vec<Target>,
    needs: SinkNeeds,
    members: Vec<Handoff>,
    group: Arc<Group>,
    /// The seed that spreads flows, if it is random.
    random_seed: Option<u64>,
    vlans: Option<Vlans>,
    totals: Arc<MemberTotals>,
    states: Vec<Arc<State>>,
}

impl Forward {
    /// Starts setting up a forwarder to this target.
    pub fn builder(target: Target) -> ForwardBuilder {
        ForwardBuilder::new(target)
    }

    /// The name of a sink with these targets.
    #[must_use]
    pub fn name_of(targets: &[Target]) -> String {
        match targets {
            [one] => format!("{NAME} {one}"),
            _ => NAME.to_owned(),
        }
    }

    /// The targets.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The readers of its streams, for an embedder that waits for them.
    #[must_use]
    pub fn readers(&self) -> Readers {
        let states = self.targets.iter().zip(&self.states);
        let streams = states.filter(|(target, _)| target.is_stream());
        Readers(streams.map(|(target, state)| (target.clone(), Arc::clone(state))).collect())
    }

    /// Memory of each worker's sink, in bytes, for frames of at most [`WorkerContext::max_frame`] bytes: its
    /// blocks, allocated at the start.
    #[must_use]
    pub fn memory_per_worker(&self, max_frame: usize) -> usize {
        let record = record::len_of(max_frame);
        self.members.iter().map(|member| member.config().memory_per_worker(record)).sum()
    }
}

impl SinkFactory for Forward {
    fn name(&self) -> &str {
        &self.name
    }

    /// Refuses targets whose frames the run would ingest again.
    fn check(&self, ingest: &str, tunnels: &Tunnels) -> Result<(), SinkError> {
        let looped = |target: &Target, why: &str| {
            Err(SinkError::other(format!(
                "{target}: {why}, so frames would be ingested again; choose another target"
            )))
        };
        for target in &self.targets {
            match target {
                Target::Tap { name, .. }
                | Target::Veth { name, netns: None, .. }
                | Target::Device { name }
                    if name == ingest =>
                {
                    return looped(target, "it is the interface of the mirrored traffic");
                }
                // The near end of a pair that stays may be read.
                Target::Veth { name, netns: None, .. } | Target::Device { name } => {
                    let peer = Interface::named(ingest).ok().and_then(|interface| interface.peer_index);
                    if Interface::named(name).is_ok_and(|interface| Some(interface.index) == peer) {
                        return looped(target, &format!("it is the other end of {ingest}"));
                    }
                }
                // Binding succeeds only for an address of this host.
                Target::Vxlan { to, .. }
                    if tunnels.contains(to.port()) && UdpSocket::bind((to.ip(), 0)).is_ok() =>
                {
                    return looped(target, "this is the host itself");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn prepare(&self, workers: usize, cx: &WorkerContext) -> Result<(), SinkError> {
        let record = record::len_of(cx.max_frame);
        self.members.iter().for_each(|member| member.prepare(workers, record));
        Ok(())
    }

    fn build(&self, cx: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        let record = record::len_of(cx.max_frame);
        let writers =
            self.members.iter().map(|member| member.block_writer(record, cx.wait_until.clone())).collect();
        Ok(Box::new(ForwardSink::new(writers, Arc::clone(&self.group), self.totals.worker())))
    }

    fn needs_time(&self) -> bool {
        self.targets.iter().any(Target::is_stream)
    }

    fn needs(&self) -> SinkNeeds {
        self.needs.clone()
    }

    /// Halted only if every member is: a target that is down is retried, and others may be up.
    fn halted(&self) -> Option<SinkHalt> {
        let halts: Option<Vec<_>> = self.members.iter().map(Handoff::halted).collect();
        halts?.into_iter().next()
    }

    fn lag(&self) -> Option<Duration> {
        self.members.iter().filter_map(Handoff::lag).max()
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
        entry.vlans_given_up = self.vlans.as_ref().map_or(0, Vlans::reassigned);
    }

    fn close(&self, report: &Report) -> Result<(), SinkError> {
        let ends: Vec<_> = self.members.iter().map(|member| member.close(report)).collect();
        ends.into_iter().collect()
    }
}

/// The streams of a forwarder, and whether they have had readers.
#[derive(Clone, Debug)]
pub struct Readers(Vec<(Target, Arc<State>)>);

impl Readers {
    /// Streams without a reader so far.
    pub fn missing(&self) -> impl Iterator<Item = &Target> {
        self.0.iter().filter(|(_, state)| !state.is_ready()).map(|(target, _)| target)
    }
}
