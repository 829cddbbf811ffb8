//! `mirror source`: a host mirrors its interface as AWS does that of an instance, and `mirror ingest` is the
//! target. Needs root.

mod balanced;
#[path = "../common/mod.rs"]
mod common;
mod endings;
mod filters;
mod interfaces;
mod kinds;
mod limits;
mod outer;
mod peering;
mod production;
mod reloads;
mod routes;
mod serviced;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use common::{
    CAPTURE, Cable, SENDER,
    mirror::{Ending, Mirror, balanced_report, mirror_in, until},
};
use mirror_lab::{
    Exchange, HttpServer, Namespace, VethEnd, VethOptions, VethPair, Witness, capture::multiset, exchange,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The mirrored host, `eni-1`.
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// The interface of client and source.
const ETHERNET: &str = "eth0";
/// Of the first session.
const VNI: u32 = 12345;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A client, a source and a target on a switch. The source has one interface, by which it also sends its
/// copies, as an instance does.
struct Subnet {
    cable: Cable,
    client: Namespace,
    source: Namespace,
    directory: TempDir,
}

impl Subnet {
    /// `offloads`: those of the source's interface, which then has super-frames.
    fn lay(offloads: bool) -> Self {
        let cable = Cable::with_queues(1);
        let switch = &cable.sender;
        let ip = |namespace: &Namespace, arguments: &str| namespace.ip(arguments).expect("ip");
        ip(switch, "link add switch0 type bridge mcast_snooping 0");
        ip(switch, "link set dev switch0 up");
        ip(switch, &format!("link set dev {SENDER} master switch0"));
        ip(&cable.target, &format!("address add {TARGET}/24 dev {CAPTURE}"));
        let client = host(&cable, "client", CLIENT, false);
        let source = host(&cable, "source", SOURCE, offloads);
        // Segments are no longer than those of AWS, and whole in copies.
        ip(&client, &format!("link set dev {ETHERNET} mtu 1500"));
        let hardware = cable.veth.b.hardware_address().expect("address");
        let neighbour = format!("neighbour replace {TARGET} lladdr {hardware} dev {ETHERNET} nud permanent");
        ip(&source, &neighbour);
        Self { cable, client, source, directory: tempfile::tempdir().expect("directory") }
    }

    /// One more host on the switch.
    fn host(&self, role: &str, address: Ipv4Addr) -> Namespace {
        host(&self.cable, role, address, false)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes the files that both ends read.
    fn set_up(&self, filters: &[Value], sessions: &[Value]) {
        let documents = [
            json!({ "TrafficMirrorTargets": [
                { "TrafficMirrorTargetId": "tmt-1", "NetworkInterfaceId": "eni-9" }] }),
            json!({ "TrafficMirrorFilters": filters }),
            json!({ "TrafficMirrorSessions": sessions }),
            json!({ "NetworkInterfaces": [{ "NetworkInterfaceId": "eni-1",
                "PrivateIpAddresses": [{ "PrivateIpAddress": SOURCE.to_string() }] }] }),
        ];
        let text: String = documents.iter().map(|document| format!("{document}\n")).collect();
        fs::write(self.path().join("mirroring.json"), text).expect("written");
    }

    /// `mirror source` on the source, to the target.
    fn mirror(&self) -> Mirror {
        self.mirror_with("")
    }

    /// The same with further arguments, once it mirrors.
    fn mirror_with(&self, arguments: &str) -> Mirror {
        self.mirror_to(TARGET, arguments)
    }

    fn mirror_to(&self, target: impl Into<IpAddr>, arguments: &str) -> Mirror {
        let target = target.into();
        let arguments = format!(
            "source --config mirroring.json --interface eni-1={ETHERNET} --target tmt-1={target} \
            --report source.json {arguments}"
        );
        let run = Mirror::start(mirror_in(&self.source, self.path(), &arguments));
        run.says(&format!("mirroring eni-1 at {ETHERNET}"));
        run
    }

    /// `mirror ingest` at the target.
    fn ingest(&self, arguments: &str) -> Mirror {
        let arguments = format!("--sessions mirroring.json --report ingest.json {arguments}");
        Mirror::ingest(&self.cable, self.path(), &arguments)
    }

    fn serve(&self, port: u16) -> HttpServer {
        HttpServer::start(&self.source, SocketAddr::from((SOURCE, port))).expect("server")
    }

    /// Bytes from the source to the client, which checks them.
    fn get(&self, port: u16, bytes: usize) {
        self.http(port, Exchange::Get(bytes));
    }

    fn http(&self, port: u16, what: Exchange) {
        exchange(&self.client, SocketAddr::from((SOURCE, port)), what).expect("exchange");
    }

    /// A socket of the client.
    fn socket(&self) -> UdpSocket {
        let bind = || UdpSocket::bind((CLIENT, 0)).expect("socket");
        self.client.enter(bind).expect("namespace")
    }

    /// tcpdump at the client, where no interface makes super-frames: what is between client and source.
    fn witness(&self, filter: &str) -> Witness {
        Witness::start(&self.client, ETHERNET, &self.path().join("witness.pcap"), filter).expect("tcpdump")
    }

    /// Ends a source, whose account must be balanced.
    fn end(&self, source: Mirror) -> Value {
        self.ended(source.end_by(Signal::SIGINT))
    }

    fn ended(&self, ending: Ending) -> Value {
        ended(self.path(), ending)
    }

    fn end_both(&self, source: Mirror, target: Mirror) -> (Value, Value) {
        end_both(self.path(), source, target)
    }

    fn captured(&self) -> PathBuf {
        self.path().join("inner.pcapng")
    }
}

/// The report of a source that has ended, whose account must be balanced.
fn ended(directory: &Path, ending: Ending) -> Value {
    ending.expect_code(0).expect_words(&["accounting: residue 0 packets, 0 segments"]);
    let report = balanced_report(&directory.join("source.json"));
    assert_eq!(report["accounting"]["segments_residue"], 0, "{report:#}");
    report
}

/// Ends a source, and its target once that has all copies; both accounts are balanced, and agree.
fn end_both(directory: &Path, source: Mirror, target: Mirror) -> (Value, Value) {
    let source = ended(directory, source.end_by(Signal::SIGINT));
    let sent = of_sessions(&source, "sent");
    assert_eq!(of_sessions(&source, "segments"), sent, "{source:#}");
    assert_eq!(of_sessions(&source, "carrier_dropped"), 0, "{source:#}");
    target.has(sent);
    target.end_by(Signal::SIGINT).expect_code(0);
    let target = balanced_report(&directory.join("ingest.json"));
    let received = target.pointer("/interfaces/0/queues/0/received");
    assert_eq!([received, target.pointer("/frames/decapsulated")], [Some(&sent.into()); 2], "{target:#}");
    (source, target)
}

/// A host on the switch.
fn host(cable: &Cable, role: &str, address: Ipv4Addr, offloads: bool) -> Namespace {
    let (host, switch) = (cable.lab.namespace(role).expect("namespace"), &cable.sender);
    let options = VethOptions { offloads, ..VethOptions::default() };
    let (port, end) = (VethEnd::new(switch, role), VethEnd::new(&host, ETHERNET));
    VethPair::create(port, end, &options).expect("veth");
    let [.., last] = address.octets();
    let ip = |namespace: &Namespace, arguments: &str| namespace.ip(arguments).expect("ip");
    // That of the pair is the target's, too.
    ip(&host, &format!("link set dev {ETHERNET} address 02:00:00:00:01:{last:02x}"));
    ip(&host, &format!("address add {address}/24 dev {ETHERNET}"));
    ip(switch, &format!("link set dev {role} master switch0"));
    host
}

/// What the client has seen is what the target has captured, in whichever sequence.
#[track_caller]
fn assert_same_frames(seen: Vec<Vec<u8>>, captured: Vec<Vec<u8>>) {
    assert_eq!(captured.len(), seen.len(), "frames at the target, and at the client");
    assert!(multiset(captured) == multiset(seen), "frames at the target differ from those at the client");
}

/// A filter with these rules.
fn filter(id: &str, ingress: &[Value], egress: &[Value]) -> Value {
    json!({ "TrafficMirrorFilterId": id, "IngressFilterRules": ingress, "EgressFilterRules": egress })
}

/// A rule for a protocol and its destination ports, or for all.
fn rule(number: u32, action: &str, what: Option<(u8, [u16; 2])>) -> Value {
    let mut rule = json!({ "RuleNumber": number, "RuleAction": action,
        "SourceCidrBlock": "0.0.0.0/0", "DestinationCidrBlock": "0.0.0.0/0" });
    if let Some((protocol, [from, to])) = what {
        rule["Protocol"] = protocol.into();
        rule["DestinationPortRange"] = json!({ "FromPort": from, "ToPort": to });
    }
    rule
}

fn accept_all() -> [Value; 1] {
    [rule(100, "accept", None)]
}

/// Accepts these ports of a protocol.
fn accept(protocol: u8, ports: &[u16]) -> Vec<Value> {
    let rules = (100..).zip(ports);
    rules.map(|(number, port)| rule(number, "accept", Some((protocol, [*port, *port])))).collect()
}

/// The session of this number, `tms-NUMBER`, with VNI 12345 and up.
fn session(number: u32, filter: &str) -> Value {
    json!({ "TrafficMirrorSessionId": format!("tms-{number}"), "TrafficMirrorTargetId": "tmt-1",
        "TrafficMirrorFilterId": filter, "NetworkInterfaceId": "eni-1", "SessionNumber": number,
        "VirtualNetworkId": VNI - 1 + number })
}

/// The sum of a counter of all sessions.
#[track_caller]
fn of_sessions(report: &Value, counter: &str) -> u64 {
    let sessions = report["interfaces"][0]["sessions"].as_array().expect("sessions");
    sessions.iter().map(|session| session[counter].as_u64().expect("a count")).sum()
}

/// A counter of both directions.
#[track_caller]
fn of_directions(report: &Value, counter: &str) -> [u64; 2] {
    ["ingress", "egress"].map(|direction| {
        let found = report["interfaces"][0][direction].pointer(counter);
        found.and_then(Value::as_u64).unwrap_or_else(|| panic!("no {counter} in {report:#}"))
    })
}

/// The account that a source prints on USR1.
fn account(run: &Mirror) -> String {
    const END: &str = "accounting: residue";
    let accounts = || run.said().matches(END).count();
    let (before, begin) = (accounts(), run.said().len());
    run.signal(Signal::SIGUSR1);
    until("mirror answers USR1", || (accounts() > before).then(|| run.said()[begin..].to_owned()))
}
