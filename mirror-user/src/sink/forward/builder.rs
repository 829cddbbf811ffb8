//! Setting up a forwarder.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{
    Forward, NAME,
    error::{ForwardError, OpenError},
    group::Group,
    member::{Member, PATIENCE},
    not_sent::LOSSES_HERE,
    output::{Device, PcapOverIp, StreamOptions, TapDevice, Transmit, Tunnel, new_socket, warn_of_host},
    parts::{Lent, TargetParts, no_parts},
    seed::Seed,
    state::State,
    target::Target,
    vlan::{Tagger, Vlans},
};
use crate::{
    flow::members::{MAX_MEMBERS, MemberTable},
    host::{
        egress::Egress,
        tap::TapOptions,
        veth::{Veth, VethOptions},
    },
    mirroring::SessionTable,
    sink::{
        Interfaces, SinkNeeds,
        handoff::{Handoff, HandoffOptions, OutputState, ThreadHook},
        members::MemberTotals,
        needs,
        origin::OriginNames,
    },
    wire::{ethernet, vxlan},
};

/// A hook that runs first on each member's thread.
type ThreadStart = Arc<dyn Fn() + Send + Sync>;

/// Opens targets in another process.
type Opener = Arc<dyn Fn(&Target, usize) -> Result<TargetParts, OpenError> + Send + Sync>;

/// Default of the largest frame expected: one of the usual Ethernet MTU.
const DEFAULT_MAX_FRAME: usize = 1514;
/// MTUs of interfaces that are made: from Ethernet's to the largest on EC2.
const MTUS: std::ops::RangeInclusive<usize> = 1500..=9001;

/// Sets up a [`Forward`].
#[must_use]
pub struct ForwardBuilder {
    targets: Vec<Target>,
    vlans: Option<Vec<u32>>,
    community_id: bool,
    seed: Option<u64>,
    max_frame: usize,
    patient: bool,
    names: OriginNames,
    opener: Option<Opener>,
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
            names: OriginNames::default(),
            opener: None,
            handoff: HandoffOptions::default(),
        }
    }

    /// Adds a member to the group: each flow, in both directions and with all its fragments, goes to one
    /// member. To send the same frames to several targets, use a sink for each.
    pub fn member(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    /// Tags each frame with a VLAN for its VNI, on TAP devices, veths and interfaces, for readers without
    /// VNIs. VLANs 1, 2, 3 … are assigned to these VNIs permanently, then to others as they appear. When all
    /// 4094 are in use, the VNI that has been idle longest loses its VLAN to the next;
    /// [`SinkReport::vlans`](crate::account::SinkReport::vlans) lists them and counts that. Frames are
    /// dropped, reason `no_vlan`, only if all VLANs are assigned permanently.
    pub fn vlan_per_vni(mut self, vnis: impl IntoIterator<Item = u32>) -> Self {
        self.vlans = Some(vnis.into_iter().collect());
        self
    }

    /// Adds the flow's Community ID to each packet of a pcapng stream, as a comment.
    pub fn community_id(mut self, wanted: bool) -> Self {
        self.community_id = wanted;
        self
    }

    /// Seed of the hash that spreads flows: forwarders with the same targets and seed agree. By default it is
    /// derived from `/etc/machine-id`; without that file it is random, and logged and reported.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Largest outer frame, in bytes; the MTU of a TAP device or veth pair follows from it.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Number of blocks of each worker for each member, at least 2. See [`Forward::memory_per_worker`].
    pub fn blocks(mut self, blocks: usize) -> Self {
        self.handoff.set_blocks(blocks);
        self
    }

    /// Bytes in a block; more if two of the largest frames need more.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.handoff.set_block_size(bytes);
        self
    }

    /// For capture files: waits for slow readers of a stream, so that they lose nothing, unless they make no
    /// progress for 10 s. See [`Forward::readers`] for streams without readers.
    pub fn patient(mut self, wanted: bool) -> Self {
        self.patient = wanted;
        self
    }

    /// Names origins by these sessions, in the interfaces of a pcapng stream.
    pub fn sessions(mut self, sessions: Arc<SessionTable>) -> Self {
        self.names = sessions.into();
        self
    }

    /// Has another process open what needs privileges, or what this one's sandbox denies: devices, sockets
    /// that are not of the file system, and those that listen. It is given the target and
    /// [`max_frame`](Self::max_frame), and has them from a [`HeldTarget`](super::HeldTarget). The kernel
    /// forwards nothing to such targets.
    pub fn opened_by(
        mut self,
        open: impl Fn(&Target, usize) -> Result<TargetParts, OpenError> + Send + Sync + 'static,
    ) -> Self {
        self.opener = Some(Arc::new(open));
        self
    }

    /// A hook that runs first on each member's thread, for example to drop capabilities, which are per
    /// thread. Devices and sockets are open by then.
    pub fn on_thread_start(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.handoff.on_thread_start = Some(Arc::new(hook));
        self
    }

    fn hash_seed(&self) -> Seed {
        self.seed.map_or_else(Seed::of_host, Seed::given)
    }

    fn names(&self) -> Vec<String> {
        self.targets.iter().map(Target::to_string).collect()
    }

    /// Checks the settings without opening anything; [`build`](Self::build) checks the same first.
    ///
    /// # Errors
    ///
    /// [`ForwardError`]: a target named twice, more than 64 targets, or an option that applies to none of
    /// them.
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
            true => Err(ForwardError::NotApplicable { option, by }),
            false => Ok(()),
        };
        wants(
            self.vlans.is_some() && !self.targets.iter().any(Target::takes_vlans),
            "a VLAN for each VNI",
            "a TAP device, a veth or an interface",
        )?;
        wants(
            self.community_id && !self.targets.iter().any(Target::takes_comments),
            "a Community ID",
            "pcap-over-ip with `,format=pcapng`",
        )
    }

    /// What the sink will need of the frames: those for interfaces, veths and tunnels, without VLAN tags of
    /// ours, may be forwarded by the kernel.
    #[must_use]
    pub fn needs(&self) -> SinkNeeds {
        let egress = self.targets.iter().map(|target| match target {
            Target::Device { name } => Some(Egress::Interface(name.clone())),
            // It does not exist yet.
            Target::Veth { .. } => Some(Egress::Veth(Weak::new())),
            Target::Vxlan { .. } => Some(Egress::Tunnel(Weak::new())),
            _ => None,
        });
        self.needs_of(egress, None, self.hash_seed())
    }

    fn needs_of(
        &self,
        egress: impl Iterator<Item = Option<Egress>>,
        table: Option<Arc<MemberTable>>,
        seed: Seed,
    ) -> SinkNeeds {
        if self.vlans.is_some() {
            return SinkNeeds::Forwarded { reason: "frames get a VLAN tag for their VNI".to_owned() };
        }
        let member = |(target, egress): (&Target, Option<Egress>)| match egress {
            Some(egress) => Ok(needs::Member { name: target.to_string(), egress }),
            None => Err(format!("the kernel forwards to veth:, dev: and vxlan: only, not to {target}")),
        };
        match self.targets.iter().zip(egress).map(member).collect() {
            Ok(members) => SinkNeeds::Interfaces(Interfaces { members, table, seed: seed.value }),
            Err(reason) => SinkNeeds::Forwarded { reason },
        }
    }

    /// Makes devices, opens sockets, and starts a thread for each member.
    ///
    /// # Errors
    ///
    /// [`ForwardError`]: as [`validate`](Self::validate), or a target that cannot be opened.
    pub fn build(self) -> Result<Forward, ForwardError> {
        self.validate()?;
        let names = self.names();
        let seed = self.hash_seed();
        let states: Vec<Arc<State>> = names.iter().map(|_| Arc::default()).collect();
        let group = Arc::new(Group::new(&names, seed));
        let vlans = self.vlans.clone().map(Vlans::of);
        // All are open before the first thread is started, so that an error leaves no thread.
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
        let table = (names.len() > 1).then(|| Arc::clone(group.table()));
        let needs = self.needs_of(outputs.iter().map(|output| output.egress()), table, seed);
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
        // With one target the seed does not matter.
        let drawn = (seed.is_random && names.len() > 1).then_some(seed.value);
        if let Some(seed) = drawn {
            tracing::warn!(
                "this host has no /etc/machine-id: flows are spread by a random seed, {seed}; a run that is \
                given this seed spreads them the same way"
            );
        }
        let name = Forward::name_of(&self.targets);
        Ok(Forward {
            name,
            targets: self.targets,
            needs,
            totals: Arc::new(MemberTotals::new(names)),
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
        let stream = |format| {
            let names = self.names.clone();
            StreamOptions { format, community_id: self.community_id, patient: self.patient, names }
        };
        let state = Arc::clone(state);
        match target.readers() {
            Some((readers, true)) => tracing::warn!("{target}: {readers}"),
            Some((readers, false)) => tracing::info!("{target}: {readers}"),
            None => {}
        }
        let tagger = || vlans.cloned().map(Tagger::new);
        if let Some(open) = self.opener.as_ref().filter(|_| target.has_parts()) {
            let mut parts = open(target, self.max_frame)?;
            if let Target::Tap { name, to_host: true, .. } | Target::Veth { name, to_host: true, .. } = target
            {
                warn_of_host(name);
            }
            let output: Box<dyn Transmit> = match target {
                Target::Tap { name, .. } => Box::new(TapDevice::of_parts(name, &mut parts, tagger())?),
                Target::Veth { name, .. } => {
                    let options = veth_options(target, mtu(self.max_frame));
                    Box::new(Device::of_veth_parts(name, &options, &mut parts, tagger())?)
                }
                Target::Device { name } => Box::new(Device::open(name, || parts.xdp_socket(), tagger())?),
                Target::Vxlan { to, vni } => Box::new(Tunnel::of_parts(*to, *vni, seed.value, &mut parts)?),
                Target::PcapListen { format, .. } => {
                    Box::new(PcapOverIp::of_listener(parts.take()?.into(), stream(*format), state))
                }
                Target::PcapSocket { .. } | Target::PcapConnect { .. } => return Err(no_parts()),
            };
            return Ok(Box::new(Lent::new(output, parts.lifeline)));
        }
        Ok(match target {
            Target::Tap { name, .. } => {
                Box::new(TapDevice::open(name, tap_options(target, mtu(self.max_frame)), tagger())?)
            }
            Target::Veth { name, .. } => {
                let options = veth_options(target, mtu(self.max_frame));
                let veth = Veth::open(name, &options)?;
                Box::new(Device::open_veth(Arc::new(veth), name, &options, tagger())?)
            }
            Target::Device { name } => Box::new(Device::open(name, new_socket, tagger())?),
            Target::Vxlan { to, vni } => Box::new(Tunnel::open(*to, *vni, seed.value)?),
            Target::PcapListen { at, format } => Box::new(PcapOverIp::listen(*at, stream(*format), state)?),
            Target::PcapSocket { path, mode, group, format } => {
                Box::new(PcapOverIp::listen_at(path, *mode, group.as_deref(), stream(*format), state)?)
            }
            Target::PcapConnect { to, format } => Box::new(PcapOverIp::connect(*to, stream(*format), state)),
        })
    }
}

/// The MTU of interfaces that are made: that of the longest inner frame.
pub(super) fn mtu(max_frame: usize) -> u16 {
    let inner = max_frame.saturating_sub(ENCAPSULATION + ethernet::HEADER_LEN);
    u16::try_from(inner.clamp(*MTUS.start(), *MTUS.end())).unwrap_or(u16::MAX)
}

/// How the TAP device of a target is made.
pub(super) fn tap_options(target: &Target, mtu: u16) -> TapOptions {
    let mut options = TapOptions::new(mtu);
    if let Target::Tap { persist, to_host, .. } = target {
        (options.persist, options.to_host) = (*persist, *to_host);
    }
    options
}

/// How the veth pair of a target is made.
pub(super) fn veth_options(target: &Target, mtu: u16) -> VethOptions {
    let mut options = VethOptions::new(mtu);
    if let Target::Veth { persist, to_host, netns, .. } = target {
        (options.persist, options.to_host) = (*persist, *to_host);
        options.netns.clone_from(netns);
    }
    options
}

/// Bytes of the outer headers: Ethernet, IPv4, UDP, VXLAN.
const ENCAPSULATION: usize = ethernet::HEADER_LEN + 20 + 8 + vxlan::HEADER_LEN;
