//! A web server behind a load balancer, mirrored by one ingress rule for TCP; and on its interface TLS of an
//! agent, which is noise.

use std::{net::SocketAddr, process::Command};

use mirror_lab::{Balancer, Exchange, TlsConnection, TlsServer, Witness, exchange, run};
use mirror_user::flow::{Packet, Ports};
use serde_json::{Value, json};

use super::{
    CLIENT, ETHERNET, Ipv4Addr, SOURCE, Subnet, TCP, assert_same_frames,
    common::mirror::{sink, whole_capture},
    filter, of_directions, of_sessions, rule, session,
};

const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);
/// What the agent is connected to.
const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const HTTPS: u16 = 443;

#[test]
fn at_the_target_is_what_tcpdump_captures_at_the_server_behind_a_load_balancer() {
    let walk = Walk::take(&[accept_tcp(1)], "");
    assert_same_frames(walk.seen.clone(), walk.captured.clone());
    assert_eq!(of_sessions(&walk.source, "sent"), walk.seen.len() as u64, "{:#}", walk.source);
    let origin = &walk.target["origins"][0];
    assert_eq!([&origin["egress"], &origin["unknown"]], [0; 2], "{origin:#}");
    let has = |text: &str| walk.captured.iter().any(|frame| contains(frame, text));
    assert!(has("GET / HTTP/1.1\r\n"), "no request");
    // It is the balancer that is connected to the server, and says for whom.
    assert!(has(&format!("x-forwarded-for: {CLIENT}\r\n")), "not of the client");
    assert!(walk.noise() > 0, "no noise");
    assert!(walk.tls_records() > 0, "the noise is no TLS");
}

#[test]
fn noise_is_removed_by_a_reject_rule_of_a_lower_number() {
    let mut reject = rule(10, "reject", None);
    reject["Protocol"] = TCP.into();
    // The agent has connected: what comes from the endpoint has the port as its source.
    reject["SourcePortRange"] = json!({ "FromPort": HTTPS, "ToPort": HTTPS });
    let walk = Walk::take(&[accept_tcp(100), reject], "");
    assert_same_frames(walk.without_noise(), walk.captured.clone());
    assert_eq!(of_directions(&walk.source, "/rejected"), [walk.noise(), 0], "{:#}", walk.source);
    assert!(walk.noise() > 0, "no noise");
    assert_eq!(walk.tls_records(), 0);
}

#[test]
fn noise_is_removed_by_an_expression_at_the_target() {
    let walk = Walk::take(&[accept_tcp(1)], "not port 443");
    assert_same_frames(walk.without_noise(), walk.captured.clone());
    assert_eq!(of_sessions(&walk.source, "sent"), walk.seen.len() as u64, "{:#}", walk.source);
    assert_eq!(sink(&walk.target, "pcap")["deselected"], walk.noise(), "{:#}", walk.target);
    assert!(walk.noise() > 0, "no noise");
    assert_eq!(walk.tls_records(), 0);
}

/// What tcpdump and the target have of the same traffic.
struct Walk {
    subnet: Subnet,
    /// What the server's interface received by TCP.
    seen: Vec<Vec<u8>>,
    captured: Vec<Vec<u8>>,
    source: Value,
    target: Value,
}

impl Walk {
    fn take(ingress: &[Value], expression: &str) -> Self {
        // tcpdump at the server would see super-frames.
        let subnet = Subnet::lay(false);
        subnet.set_up(&[filter("tmf-1", ingress, &[])], &[session(1, "tmf-1")]);
        let server = subnet.serve(80);
        let (balancer, endpoint) = (subnet.host("balancer", BALANCER), subnet.host("endpoint", ENDPOINT));
        let https = SocketAddr::from((ENDPOINT, HTTPS));
        let endpoint = TlsServer::start(&endpoint, subnet.path(), https).expect("s_server");
        let file = subnet.path().join("server.pcap");
        let received = format!("tcp and dst host {SOURCE}");
        let witness = Witness::start(&subnet.source, ETHERNET, &file, &received).expect("tcpdump");
        let target = subnet.ingest(&format!("-w inner.pcapng {expression}"));
        let source = subnet.mirror();
        let mut agent = TlsConnection::open(&subnet.source, https).expect("s_client");
        let http = SocketAddr::from((BALANCER, 80));
        let balancer = Balancer::start(&balancer, subnet.path(), http, server.address()).expect("haproxy");
        for request in 0..5 {
            agent.converse(&format!("noise {request}")).expect("TLS");
            exchange(&subnet.client, http, Exchange::Page).expect("a page");
        }
        // s_server would leave its connection open for half a second.
        drop((agent, endpoint, balancer));
        let testimony = witness.stop().expect("witness");
        assert_eq!(testimony.dropped, 0);
        let (source, target) = subnet.end_both(source, target);
        let captured = whole_capture(&subnet.captured()).frames();
        Self { subnet, seen: testimony.frames, captured, source, target }
    }

    fn without_noise(&self) -> Vec<Vec<u8>> {
        self.seen.iter().filter(|frame| !is_noise(frame)).cloned().collect()
    }

    /// Packets of it.
    fn noise(&self) -> u64 {
        self.seen.iter().filter(|frame| is_noise(frame)).count() as u64
    }

    /// Packets at the target that tshark has dissected as TLS.
    fn tls_records(&self) -> usize {
        let mut tshark = Command::new("tshark");
        let found = run(tshark.arg("-r").arg(self.subnet.captured()).args(["-n", "-Y", "tls.record"]));
        found.expect("tshark").lines().count()
    }
}

fn accept_tcp(number: u32) -> Value {
    let mut rule = rule(number, "accept", None);
    rule["Protocol"] = TCP.into();
    rule
}

fn is_noise(frame: &[u8]) -> bool {
    let ports = Packet::of(frame).map(|packet| packet.flow.ports);
    matches!(ports, Some(Ports::Pair(from, to)) if from == HTTPS || to == HTTPS)
}

fn contains(frame: &[u8], text: &str) -> bool {
    frame.windows(text.len()).any(|part| part == text.as_bytes())
}
