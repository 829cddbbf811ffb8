//! Forwarding, as the command line and a table have it.

use clap::{Args, ValueEnum};
use mirror_user::sink::forward::{Forward, ForwardBuilder, ForwardError, Target};

use crate::{Usage, output::OnThread};

/// Where inner packets are forwarded to, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct ForwardArgs {
    // No documentation comment: rustdoc takes the brackets for links.
    #[arg(
        long,
        help_heading = "Output",
        value_name = "TARGET",
        help = "Forward the inner packets, to tap:NAME[,persist][,to-host], dev:NAME, vxlan:ADDR[:PORT][,vni=N], \
                pcap-over-ip:listen=ADDR:PORT, pcap-over-ip:listen=/PATH[,mode=0660][,group=NAME] or \
                pcap-over-ip:connect=ADDR:PORT; may be given several times"
    )]
    forward: Vec<Target>,
    /// What each of several targets gets
    #[arg(long, help_heading = "Output", value_enum, default_value_t = Balance::Copy, requires = "forward")]
    forward_balance: Balance,
    /// By what flows are spread, where several runs or hosts must agree [default: the host's own]
    #[arg(long, help_heading = "Output", value_name = "N", requires = "forward")]
    forward_seed: Option<u64>,
    /// Tag what goes to TAP devices and interfaces with a VLAN for each VNI, those of --vni first
    #[arg(long, help_heading = "Output", requires = "forward")]
    vlan_per_vni: bool,
    /// Give packets of pcapng over IP the Community ID of their flow, as a comment
    #[arg(long, help_heading = "Output", requires = "forward")]
    community_id: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Balance {
    /// All packets
    Copy,
    /// Whole flows, both directions, spread evenly
    Flow,
}

impl ForwardArgs {
    /// What is forwarded to, as it was written.
    pub(crate) fn targets(&self) -> impl Iterator<Item = String> {
        self.forward.iter().map(Target::to_string)
    }

    /// In one line, for the user; `None` where nothing is forwarded.
    pub(crate) fn announcement(&self) -> Option<String> {
        let targets: Vec<_> = self.targets().collect();
        let how = match (targets.len(), self.forward_balance) {
            (0, _) => return None,
            (1, _) => "",
            (_, Balance::Copy) => ", each packet to all of them",
            (_, Balance::Flow) => ", each flow to one of them",
        };
        Some(format!("forwarding to {}{how}", targets.join(" ")))
    }

    /// Opens all that is forwarded to. `vnis` are those that get the first VLANs.
    pub(crate) fn open(
        &self,
        vnis: &[u32],
        max_frame: usize,
        patient: bool,
        on_thread: Option<&OnThread>,
    ) -> anyhow::Result<Vec<Forward>> {
        let groups: Vec<&[Target]> = match self.forward_balance {
            Balance::Copy => self.forward.chunks(1).collect(),
            Balance::Flow => self.forward.chunks(self.forward.len().max(1)).collect(),
        };
        let takes_vlans = |targets: &[Target]| targets.iter().any(Target::takes_vlans);
        let takes_comments = |targets: &[Target]| targets.iter().any(Target::takes_comments);
        for (wanted, is_taken, flag, by) in [
            (self.vlan_per_vni, takes_vlans(&self.forward), "--vlan-per-vni", "tap: and dev:"),
            (
                self.community_id,
                takes_comments(&self.forward),
                "--community-id",
                "pcap-over-ip: with ,format=pcapng",
            ),
        ] {
            if wanted && !is_taken {
                return Err(Usage(format!("{flag} is for targets {by}, and there is none")).into());
            }
        }
        let twice =
            self.forward.iter().enumerate().find(|(nth, target)| self.forward[..*nth].contains(target));
        if let Some((_, target)) = twice {
            return Err(refused(ForwardError::Twice { target: target.to_string() }));
        }
        let open = |targets: &[Target]| {
            let (first, others) = targets.split_first()?;
            let mut builder = Forward::builder(first.clone()).max_frame(max_frame).patient(patient);
            builder = others.iter().cloned().fold(builder, ForwardBuilder::member);
            // Those of the targets that know no VLANs or comments go without.
            if self.vlan_per_vni && takes_vlans(targets) {
                builder = builder.vlan_per_vni(vnis.iter().copied());
            }
            builder = builder.community_id(self.community_id && takes_comments(targets));
            if let Some(seed) = self.forward_seed {
                builder = builder.seed(seed);
            }
            if let Some(hook) = on_thread.cloned() {
                builder = builder.on_thread_start(move || hook());
            }
            Some(builder.build().map_err(refused))
        };
        groups.into_iter().filter_map(open).collect()
    }
}

fn refused(error: ForwardError) -> anyhow::Error {
    match error {
        error @ (ForwardError::Twice { .. }
        | ForwardError::TooMany { .. }
        | ForwardError::Meaningless { .. }) => Usage(error.to_string()).into(),
        error => error.into(),
    }
}
