//! A production host with a client and a target, each on a cable of its own.

use anyhow::{Context as _, Result, ensure};
use mirror_ebpf::bench as floor;
use mirror_lab::{
    InterfaceCounters, Lab, Namespace, VethEnd, VethOptions, VethPair, XdpProgram, xdp_program::XdpAttach,
};
use mirror_user::{
    agent::{Source, SourceOptions, SourceReport},
    mirroring::Mirroring,
};
use serde_json::{Value, json};

/// The interface that is mirrored.
pub(super) const PRODUCTION: &str = "eth0";
/// The target's.
const COPIES: &str = "copies0";
/// Client of production's traffic.
pub(super) const CLIENT: &str = "198.18.1.1";
/// The production host.
pub(super) const HOST: &str = "198.18.1.2";
const TARGET: &str = "198.18.2.2";
/// The one source.
const ENI: &str = "eni-1";

/// Everything is removed when it is dropped.
pub(super) struct Hosts {
    /// Where production's traffic goes.
    pub(super) client: Namespace,
    /// The host that is mirrored.
    pub(super) host: Namespace,
    target: Namespace,
    /// Takes copies off the target's interface, as another host would.
    _drops: XdpProgram,
    _cables: [VethPair; 2],
    /// Dropped last.
    _lab: Lab,
}

impl Hosts {
    pub(super) fn raise() -> Result<Self> {
        let lab = Lab::new()?;
        let [client, host, target] = ["client", "host", "target"].map(|role| lab.namespace(role));
        let (client, host, target) = (client?, host?, target?);
        let options = VethOptions { mtu: 1500, offloads: true, ..VethOptions::default() };
        let ends = (VethEnd::new(&client, PRODUCTION), VethEnd::new(&host, PRODUCTION));
        let production = VethPair::create(ends.0, ends.1, &options)?;
        production.a.address(&format!("{CLIENT}/24"))?;
        production.b.address(&format!("{HOST}/24"))?;
        let ends = (VethEnd::new(&host, "out0"), VethEnd::new(&target, COPIES));
        let copies = VethPair::create(ends.0, ends.1, &VethOptions::default())?;
        copies.a.address("198.18.2.1/24")?;
        let neighbour = copies.b.hardware_address()?;
        host.ip(&format!("neighbour add {TARGET} lladdr {neighbour} dev out0 nud permanent"))?;
        let mut drops = XdpProgram::load_floor(floor::PROGRAM_DROP)?;
        drops.attach(&target, COPIES, XdpAttach::Native)?;
        Ok(Self { client, host, target, _drops: drops, _cables: [production, copies], _lab: lab })
    }

    /// Mirrors the host's interface.
    pub(super) fn mirror(&self, sessions: Sessions, options: SourceOptions) -> Result<Source> {
        let text = sessions.set_up().to_string();
        let mirroring = Mirroring::read([("benchmark", text.as_str())])?;
        let interfaces = [(ENI.to_owned(), PRODUCTION.to_owned())];
        Ok(self.host.enter(|| Source::start(&mirroring, &interfaces, options))??)
    }

    /// What has arrived at the target.
    pub(super) fn arrived(&self) -> Result<Arrived> {
        let counters = InterfaceCounters::read(&self.target, COPIES)?;
        let bytes = counters.over_queues("rx_queue_", "_xdp_bytes");
        Ok(Arrived { copies: counters.xdp_packets(), bytes })
    }
}

/// Copies at the target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    /// How many.
    pub(super) copies: u64,
    /// Their bytes, without the Ethernet header, which veth has taken off where it counts.
    bytes: u64,
}

impl Arrived {
    /// What has come since.
    pub(super) fn since(self, before: Self) -> Self {
        Self { copies: self.copies - before.copies, bytes: self.bytes - before.bytes }
    }

    /// Bytes of the outer frames.
    pub(super) fn outer_bytes(self) -> u64 {
        const ETHERNET: u64 = 14;
        self.bytes + ETHERNET * self.copies
    }
}

/// Sessions of the one source, and their rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sessions {
    /// One, everything both ways.
    All,
    /// Three of ten rules each, none of which matches.
    NoneMatching,
}

impl Sessions {
    /// As the EC2 API has it.
    fn set_up(self) -> Value {
        let rule = |number: u32, ports: Option<u32>| {
            let mut rule = json!({ "RuleNumber": number, "RuleAction": "accept",
                "SourceCidrBlock": "0.0.0.0/0", "DestinationCidrBlock": "0.0.0.0/0" });
            if let Some(port) = ports {
                rule["Protocol"] = 17.into();
                rule["DestinationPortRange"] = json!({ "FromPort": port, "ToPort": port });
            }
            rule
        };
        let (sessions, ingress, egress): (u32, _, Vec<_>) = match self {
            Self::All => (1, vec![rule(1, None)], vec![rule(1, None)]),
            // Below the ports of production, which the host sends.
            Self::NoneMatching => {
                (3, Vec::new(), (1..=10).map(|number| rule(number, Some(number))).collect())
            }
        };
        let session = |number: u32| {
            json!({ "TrafficMirrorSessionId": format!("tms-{number}"), "TrafficMirrorTargetId": "tmt-1",
                "TrafficMirrorFilterId": "tmf-1", "NetworkInterfaceId": ENI, "SessionNumber": number,
                "VirtualNetworkId": number })
        };
        json!({
            "TrafficMirrorTargets": [{ "TrafficMirrorTargetId": "tmt-1", "NetworkInterfaceId": "eni-2" }],
            "TrafficMirrorFilters": [{ "TrafficMirrorFilterId": "tmf-1", "IngressFilterRules": ingress,
                "EgressFilterRules": egress }],
            "TrafficMirrorSessions": (1..=sessions).map(session).collect::<Vec<_>>(),
            "NetworkInterfaces": [{ "NetworkInterfaceId": "eni-2",
                "PrivateIpAddresses": [{ "PrivateIpAddress": TARGET }] }],
        })
    }
}

/// Ends a source, whose account must be balanced.
pub(super) fn end(source: Source) -> Result<SourceReport> {
    let report = source.stop()?;
    ensure!(report.is_balanced(), "the source's account has a residue: {report}");
    Ok(report)
}

/// The sum of a counter over the source's sessions.
pub(super) fn sum(
    report: &SourceReport,
    counter: impl Fn(&mirror_user::agent::SessionReport) -> u64,
) -> Result<u64> {
    let interface = report.interfaces.first().context("a report without an interface")?;
    Ok(interface.sessions.iter().map(counter).sum())
}
