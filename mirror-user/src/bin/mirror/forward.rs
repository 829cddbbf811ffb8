//! Forwarding, as flags and `[[sink]]` tables configure it.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use mirror_user::escape;
use mirror_user::settings::{Balance, Many, Seed, Settings, Written};
use mirror_user::sink::SinkNeeds;
use mirror_user::sink::forward::{Forward, ForwardBuilder, ForwardError, Target};

use crate::{exit::Usage, flag_values::given, outputs::OpenContext, sandbox::ThreadKind};

/// Where inner packets are forwarded to, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct ForwardArgs {
    // No documentation comment: rustdoc takes the brackets for links.
    #[arg(
        long,
        help_heading = "Output",
        value_name = "TARGET",
        help = "Forward the inner packets to veth:NAME[,persist][,to-host][,netns=NAME|PID], \
            tap:NAME[,persist][,to-host], dev:NAME, vxlan:ADDR[:PORT][,vni=N], \
            pcap-over-ip:listen=ADDR:PORT, pcap-over-ip:listen=/PATH[,mode=0660][,group=NAME] or \
            pcap-over-ip:connect=ADDR:PORT; may be repeated"
    )]
    forward: Vec<Written<Target>>,
    /// How packets are distributed over several targets
    #[arg(long, help_heading = "Output", value_enum)]
    forward_balance: Option<Balance>,
    /// Seed that assigns flows to targets, for runs or hosts that must agree [default: from /etc/machine-id]
    #[arg(long, help_heading = "Output", value_name = "N")]
    forward_seed: Option<Written<Seed>>,
    /// Add a VLAN tag per VNI to packets for veths, TAP devices and interfaces; VNIs of --vni and --session
    /// get the first ones
    #[arg(long, help_heading = "Output")]
    vlan_per_vni: bool,
    /// Add the Community ID of the flow to each packet of a pcap-over-ip target with format=pcapng
    #[arg(long, help_heading = "Output")]
    community_id: bool,
}

impl ForwardArgs {
    /// Stores the flags that were given.
    pub(crate) fn fill(self, settings: &mut Settings) {
        let Self { forward, forward_balance, forward_seed, vlan_per_vni, community_id } = self;
        settings.forward = Many::of(forward);
        settings.forward_balance = forward_balance;
        settings.forward_seed = forward_seed;
        settings.vlan_per_vni = given(vlan_per_vni);
        settings.community_id = given(community_id);
    }
}

/// Where inner packets are forwarded to, and how, with defaults applied.
#[derive(Clone, Debug)]
pub(crate) struct Forwarding {
    forward: Vec<Target>,
    forward_balance: Balance,
    forward_seed: Option<u64>,
    vlan_per_vni: bool,
    community_id: bool,
}

impl Forwarding {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            forward: settings.forward.iter().flat_map(Many::values).cloned().collect(),
            forward_balance: settings.forward_balance.unwrap_or_default(),
            forward_seed: settings.forward_seed.as_deref().map(|seed| seed.0),
            vlan_per_vni: settings.vlan_per_vni.unwrap_or_default(),
            community_id: settings.community_id.unwrap_or_default(),
        }
    }

    /// Which of its flags differ from their defaults.
    pub(crate) fn given(&self) -> [(bool, &'static str); 4] {
        [
            (self.forward_balance != Balance::default(), "--forward-balance"),
            (self.forward_seed.is_some(), "--forward-seed"),
            (self.vlan_per_vni, "--vlan-per-vni"),
            (self.community_id, "--community-id"),
        ]
    }

    /// The targets, as they were given.
    pub(crate) fn targets(&self) -> impl Iterator<Item = String> {
        self.forward.iter().map(Target::to_string)
    }

    /// A target that one process cannot open while another one has it.
    pub(crate) fn exclusive(&self) -> Option<&Target> {
        self.forward.iter().find(|target| target.is_exclusive())
    }

    /// The TCP ports of targets that connect.
    pub(crate) fn connects(&self) -> impl Iterator<Item = u16> {
        self.forward.iter().filter_map(Target::connects)
    }

    /// One line for the user; `None` without targets.
    pub(crate) fn announcement(&self) -> Option<String> {
        let targets: Vec<_> = self.targets().collect();
        let how = match (targets.len(), self.forward_balance) {
            (0, _) => return None,
            (1, _) => "",
            (_, Balance::Copy) => ", each packet to all of them",
            (_, Balance::Flow) => ", each flow to one of them",
        };
        Some(format!("forwarding to {}{how}", escape::line(&targets.join(" "))))
    }

    /// Targets in groups, each of which is one sink.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[Target]> {
        let size = match self.forward_balance {
            Balance::Copy => 1,
            Balance::Flow => self.forward.len().max(1),
        };
        self.forward.chunks(size)
    }

    /// The names of its sinks in the report.
    pub(crate) fn sink_names(&self) -> impl Iterator<Item = String> {
        self.groups().map(Forward::name_of)
    }

    /// What each of its sinks needs of packets.
    pub(crate) fn needs(&self) -> Vec<SinkNeeds> {
        self.groups().filter_map(|targets| self.builder(targets)).map(|builder| builder.needs()).collect()
    }

    /// Unix sockets that are created.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &Path> {
        self.forward.iter().filter_map(Target::socket)
    }

    /// Validates it, as far as that is possible without this host.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        let any = |wanted: fn(&Target) -> bool| self.forward.iter().any(wanted);
        for (wanted, is_taken, flag, by) in [
            (self.vlan_per_vni, any(Target::takes_vlans), "--vlan-per-vni", "veth:, tap: and dev:"),
            (
                self.community_id,
                any(Target::takes_comments),
                "--community-id",
                "pcap-over-ip: with ,format=pcapng",
            ),
        ] {
            if wanted && !is_taken {
                return Err(Usage(format!("{flag} is for targets {by}, and there is none")));
            }
        }
        let usage = |error: ForwardError| Usage(error.to_string());
        let mut targets = self.forward.iter().enumerate();
        if let Some((_, target)) = targets.find(|(nth, target)| self.forward[..*nth].contains(target)) {
            return Err(usage(ForwardError::Twice { target: target.to_string() }));
        }
        self.groups()
            .filter_map(|targets| self.builder(targets))
            .try_for_each(|builder| builder.validate().map_err(usage))
    }

    /// A group, configured.
    fn builder(&self, targets: &[Target]) -> Option<ForwardBuilder> {
        let (first, others) = targets.split_first()?;
        let mut builder =
            others.iter().cloned().fold(Forward::builder(first.clone()), ForwardBuilder::member);
        // Targets without VLANs or comments are not affected.
        if self.vlan_per_vni && targets.iter().any(Target::takes_vlans) {
            builder = builder.vlan_per_vni([]);
        }
        Some(builder.community_id(self.community_id && targets.iter().any(Target::takes_comments)))
    }

    /// Opens a group. `vnis` get the first VLANs.
    pub(crate) fn open(
        &self,
        targets: &[Target],
        vnis: &[u32],
        max_frame: usize,
        cx: &OpenContext<'_>,
    ) -> anyhow::Result<Forward> {
        let builder = self.builder(targets).context("a group without a target")?;
        let mut builder = builder.max_frame(max_frame).patient(cx.patient);
        builder = cx.sessions.iter().cloned().fold(builder, ForwardBuilder::sessions);
        if self.vlan_per_vni && targets.iter().any(Target::takes_vlans) {
            builder = builder.vlan_per_vni(vnis.iter().copied());
        }
        if let Some(seed) = self.forward_seed {
            builder = builder.seed(seed);
        }
        if let Some(monitor) = cx.monitor.clone() {
            builder = builder.opened_by(move |target, max_frame| monitor.open(target, max_frame));
        }
        builder.on_thread_start(cx.threads.or_panic(ThreadKind::Forwarder)).build().map_err(refused)
    }

    /// Whether its targets are opened the same way.
    pub(crate) fn opens_like(&self, other: &Self) -> bool {
        let options = |of: &Self| (of.forward_seed, of.vlan_per_vni, of.community_id);
        options(self) == options(other)
    }
}

fn refused(error: ForwardError) -> anyhow::Error {
    match error {
        error @ (ForwardError::Twice { .. }
        | ForwardError::TooMany { .. }
        | ForwardError::NotApplicable { .. }) => Usage(error.to_string()).into(),
        error => error.into(),
    }
}
