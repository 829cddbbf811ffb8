//! Setting up a forwarder: to whom, and how.

use std::{fmt, sync::Arc};

use super::{
    Forward, ForwardError, NAME, Totals,
    group::{Group, MAX_MEMBERS},
    member::{Member, PATIENCE, State},
    output::{Device, LOSSES_HERE, PcapOverIp, StreamOptions, TapDevice, Transmit, Tunnel},
    seed::Seed,
    target::Target,
    vlan::{Tagger, Vlans},
};
use crate::{
    host::{HostError, tap::TapOptions},
    sink::handoff::{Handoff, HandoffOptions, OutputState, ThreadHook},
    wire::{ethernet, vxlan},
    xsk::SocketError,
};

/// Something to do on each member's thread before anything else.
type ThreadStart = Arc<dyn Fn() + Send + Sync>;

/// The largest frame that is expected, unless told otherwise: one of an Ethernet's usual MTU.
const DEFAULT_MAX_FRAME: usize = 1514;
/// MTUs that a TAP device is given: what Ethernet has, and what EC2 has at most.
const TAP_MTUS: std::ops::RangeInclusive<usize> = 1500..=9001;

/// Sets up a [`Forward`].
#[must_use]
pub struct ForwardBuilder {
    targets: Vec<Target>,
    vlans: Option<Vec<u32>>,
    community_id: bool,
    seed: Option<u64>,
    max_frame: usize,
    patient: bool,
    handoff: HandoffOptions<ThreadStart>,
}

impl fmt::Debug for ForwardBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardBuilder").field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl ForwardBuilder {
    pub(super) fn new(target: Target) -> Self {
        Self {
            targets: vec![target],
            vlans: None,
            community_id: false,
            seed: None,
            max_frame: DEFAULT_MAX_FRAME,
            patient: false,
            handoff: HandoffOptions::default(),
        }
    }

    /// One more member: each flow, in both directions and with all fragments of its packets, goes to one of
    /// them. For the same frames to several targets, use a sink for each.
    pub fn member(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    /// Puts a VLAN tag into each frame that stands for its VNI, on TAP devices and interfaces: for readers
    /// that know nothing of VNIs. VLANs 1, 2, 3 … go to these VNIs first, for good, and then to others as
    /// they come. When all 4094 are given, the VNI that has been silent longest gives up its own to the next;
    /// [`SinkReport::vlans`](crate::account::SinkReport::vlans) has them, and how often that was. Only where
    /// these are as many as there are VLANs, frames of others are dropped, as `no_vlan`.
    pub fn vlan_per_vni(mut self, vnis: impl IntoIterator<Item = u32>) -> Self {
        self.vlans = Some(vnis.into_iter().collect());
        self
    }

    /// Gives each packet of a pcapng stream its flow's Community ID, as a comment.
    pub fn community_id(mut self, wanted: bool) -> Self {
        self.community_id = wanted;
        self
    }

    /// By what flows are spread, beside themselves: forwarders with the same targets and seed agree. Default:
    /// one of this host's own, from `/etc/machine-id`; on a host without, one that is drawn, and told in the
    /// log and the report.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The longest outer frame that may come, in bytes: a TAP device gets its MTU by it.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// How many blocks each worker has for each member, at least 2. See [`Forward::memory_per_worker`].
    pub fn blocks(mut self, blocks: usize) -> Self {
        self.handoff.set_blocks(blocks);
        self
    }

    /// Bytes in a block; more where two of the largest frames need more.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.handoff.set_block_size(bytes);
        self
    }

    /// Over capture files: readers of a stream that are behind are waited for, until they take nothing for 10
    /// s, and lose nothing. See [`Forward::readers`] for those that have not come yet.
    pub fn patient(mut self, wanted: bool) -> Self {
        self.patient = wanted;
        self
    }

    /// Something to do on each member's thread before anything else, such as giving up capabilities, which
    /// belong to threads. Devices and sockets are open by then.
    pub fn on_thread_start(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.handoff.on_thread_start = Some(Arc::new(hook));
        self
    }

    fn names(&self) -> Vec<String> {
        self.targets.iter().map(Target::to_string).collect()
    }

    /// Whether this contradicts itself. Opens nothing; [`build`](Self::build) begins with it.
    ///
    /// # Errors
    ///
    /// [`ForwardError`]: a target twice, more than 64, or an option that means nothing to any of them.
    pub fn validate(&self) -> Result<(), ForwardError> {
        let names = self.names();
        if let Some(name) =
            names.iter().enumerate().find_map(|(n, name)| names[..n].contains(name).then_some(name))
        {
            return Err(ForwardError::Twice { target: name.clone() });
        }
        if names.len() > MAX_MEMBERS {
            return Err(ForwardError::TooMany { targets: names.len(), most: MAX_MEMBERS });
        }
        let wants = |wanted: bool, option, by| match wanted {
            true => Err(ForwardError::Meaningless { option, by }),
            false => Ok(()),
        };
        wants(
            self.vlans.is_some() && !self.targets.iter().any(Target::takes_vlans),
            "a VLAN for each VNI",
            "a TAP device or an interface",
        )?;
        wants(
            self.community_id && !self.targets.iter().any(Target::takes_comments),
            "a Community ID",
            "pcap-over-ip with `,format=pcapng`",
        )
    }

    /// Makes devices, opens sockets, and starts a thread for each member.
    ///
    /// # Errors
    ///
    /// [`ForwardError`]: a target that cannot be had, or twice, or more than 64.
    pub fn build(self) -> Result<Forward, ForwardError> {
        self.validate()?;
        let names = self.names();
        let seed = self.seed.map_or_else(Seed::of_host, Seed::given);
        let states: Vec<Arc<State>> = names.iter().map(|_| Arc::default()).collect();
        let group = Arc::new(Group::new(&names, seed));
        let vlans = self.vlans.clone().map(Vlans::of);
        // All are open before the first thread is started, so that an error leaves nothing behind.
        let outputs: Vec<_> = self
            .targets
            .iter()
            .zip(&names)
            .zip(&states)
            .map(|((target, name), state)| {
                self.open(target, vlans.as_ref(), seed, state)
                    .map_err(|source| ForwardError::Open { target: name.clone(), source })
            })
            .collect::<Result<_, _>>()?;
        let mut members = Vec::new();
        for (position, (name, output)) in names.iter().zip(outputs).enumerate() {
            let config = self.handoff.config(NAME, name.clone(), PATIENCE, LOSSES_HERE);
            let hook =
                self.handoff.on_thread_start.clone().map(|hook| Box::new(move || hook()) as ThreadHook);
            let member = Member::new(
                name.clone(),
                output,
                Arc::clone(&group),
                position,
                Arc::clone(&states[position]),
            );
            let handoff = Handoff::start(config, Arc::new(OutputState::default()), hook, member)
                .map_err(|source| ForwardError::Thread { target: name.clone(), source })?;
            members.push(handoff);
        }
        // Nothing depends on it where one target gets all.
        let drawn = (seed.is_random && names.len() > 1).then_some(seed.value);
        if let Some(seed) = drawn {
            tracing::warn!(
                "this host has no /etc/machine-id: flows are spread by a seed drawn for this run; \
                `--forward-seed {seed}` keeps them where they are in the next"
            );
        }
        let name = Forward::name_of(&self.targets);
        Ok(Forward {
            name,
            targets: self.targets,
            totals: Arc::new(Totals::new(names)),
            states,
            members,
            random_seed: drawn,
            group,
            vlans,
        })
    }

    fn open(
        &self,
        target: &Target,
        vlans: Option<&Vlans>,
        seed: Seed,
        state: &Arc<State>,
    ) -> Result<Box<dyn Transmit>, OpenError> {
        let stream =
            |format| StreamOptions { format, community_id: self.community_id, patient: self.patient };
        let state = Arc::clone(state);
        match target.readers() {
            Some((readers, true)) => tracing::warn!("{target}: {readers}"),
            Some((readers, false)) => tracing::info!("{target}: {readers}"),
            None => {}
        }
        let tagger = || vlans.cloned().map(Tagger::new);
        Ok(match target {
            Target::Tap { name, persist, to_host } => {
                let inner = self.max_frame.saturating_sub(ENCAPSULATION + ethernet::HEADER_LEN);
                let mtu = inner.clamp(*TAP_MTUS.start(), *TAP_MTUS.end());
                let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
                let options = TapOptions { persist: *persist, to_host: *to_host, ..TapOptions::new(mtu) };
                Box::new(TapDevice::open(name, options, tagger())?)
            }
            Target::Device { name } => Box::new(Device::open(name, tagger())?),
            Target::Vxlan { to, vni } => Box::new(Tunnel::open(*to, *vni, seed.value)?),
            Target::PcapListen { at, format } => Box::new(PcapOverIp::listen(*at, stream(*format), state)?),
            Target::PcapSocket { path, mode, group, format } => {
                Box::new(PcapOverIp::listen_at(path, *mode, group.as_deref(), stream(*format), state)?)
            }
            Target::PcapConnect { to, format } => Box::new(PcapOverIp::connect(*to, stream(*format), state)),
        })
    }
}

/// What a mirror adds in front of an inner frame: Ethernet, IPv4, UDP, VXLAN.
const ENCAPSULATION: usize = ethernet::HEADER_LEN + 20 + 8 + vxlan::HEADER_LEN;

/// Why a target could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The host refused.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A socket could not be had.
    #[error("{what}: {source}{mend}")]
    Socket {
        /// What was done with it.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
        /// What to do about it, where that is known.
        mend: &'static str,
    },
    /// It is the loopback.
    #[error(
        "what is sent there, this host itself receives, and may answer; forward to a TAP device (`tap:NAME`) \
        in its place"
    )]
    Loopback,
    /// AF_XDP on the interface could not be set up.
    #[error("AF_XDP for sending: {0}")]
    Xsk(#[source] SocketError),
}
