//! Interfaces that go down, are deleted, and come back.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use mirror_lab::{VethEnd, VethOptions, VethPair};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    CLIENT, ETHERNET, SOURCE, Subnet, accept_all, account, common::mirror::balanced_report, filter,
    of_sessions, reloads::reload, session,
};

/// The second interface of client and source.
const OTHER: &str = "eth1";
const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const OTHER_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
const DATAGRAMS: u64 = 20;

impl Subnet {
    /// A second interface of the source, `eni-2`, to the client alone.
    fn add_interface(&self) {
        let ends = [(&self.client, OTHER_CLIENT), (&self.source, OTHER_SOURCE)];
        let [client, source] = ends.map(|(host, _)| VethEnd::new(host, OTHER));
        VethPair::create(client, source, &VethOptions::default()).expect("veth");
        for (host, address) in ends {
            host.ip(&format!("address add {address}/24 dev {OTHER}")).expect("address");
        }
    }

    /// Both interfaces are mirrored whole.
    fn set_up_both(&self) {
        let mut other = session(2, "tmf-1");
        other["NetworkInterfaceId"] = "eni-2".into();
        self.set_up(&[filter("tmf-1", &accept_all(), &[])], &[session(1, "tmf-1"), other]);
    }

    /// To the source by one of its interfaces.
    fn send(&self, from: Ipv4Addr, to: Ipv4Addr) {
        let bind = || UdpSocket::bind((from, 0)).expect("socket");
        let socket = self.client.enter(bind).expect("namespace");
        for _ in 0..DATAGRAMS {
            socket.send_to(&[0; 8], (to, 9)).expect("sent");
        }
    }
}

/// Packets of a source's sessions, those that have ended included.
fn cloned(interface: &Value) -> u64 {
    let sessions = interface["sessions"].as_array().expect("sessions");
    sessions.iter().map(|session| session["cloned"].as_u64().expect("a count")).sum()
}

#[test]
fn the_other_interfaces_go_on_when_one_is_deleted_and_hup_has_it_again() {
    let subnet = Subnet::lay(false);
    subnet.add_interface();
    subnet.set_up_both();
    let target = subnet.ingest("");
    let source = subnet.mirror_with(&format!("--interface eni-2={OTHER}"));
    subnet.send(CLIENT, SOURCE);
    subnet.send(OTHER_CLIENT, OTHER_SOURCE);
    subnet.source.ip(&format!("link delete {OTHER}")).expect("deleted");
    source.says(&format!("{OTHER}: was deleted, or moved to another network namespace; eni-2 is no longer"));
    subnet.send(CLIENT, SOURCE);
    let said = account(&source);
    assert!(said.contains(&format!("eni-2 at {OTHER} (")) && said.contains(", lost"), "{said}");
    // Nothing is there yet, and that is no error.
    reload(&source, "reloaded", 1);
    subnet.add_interface();
    reload(&source, "reloaded", 2);
    subnet.send(OTHER_CLIENT, OTHER_SOURCE);
    let ending = source.end_by(Signal::SIGINT);
    ending.expect_code(1).expect_words(&["accounting: residue 0 packets, 0 segments"]);
    let report = balanced_report(&subnet.path().join("source.json"));
    assert_eq!(report["accounting"]["segments_residue"], 0, "{report:#}");
    let interfaces = report["interfaces"].as_array().expect("interfaces");
    let known: Vec<_> = interfaces.iter().map(|it| (&it["name"], &it["lost"])).collect();
    let [eth0, eth1] = [ETHERNET, OTHER].map(Value::from);
    assert_eq!(known, [(&eth1, &true.into()), (&eth0, &false.into()), (&eth1, &false.into())]);
    let [lost, whole, again] = [0, 1, 2].map(|nth| cloned(&interfaces[nth]));
    assert!(lost >= DATAGRAMS && whole >= 2 * DATAGRAMS && again >= DATAGRAMS, "{report:#}");
    assert!(interfaces[0]["sessions"][0]["ended"].is_string(), "{report:#}");
    target.has(lost + whole + again);
    target.end_by(Signal::SIGINT).expect_code(0);
    balanced_report(&subnet.path().join("ingest.json"));
}

#[test]
fn a_source_ends_with_its_account_when_the_last_interface_is_deleted() {
    for hook in ["tcx", "clsact"] {
        let subnet = Subnet::lay(false);
        subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session(1, "tmf-1")]);
        let source = subnet.mirror_with(&format!("--attach {hook}"));
        subnet.send(CLIENT, SOURCE);
        subnet.source.ip(&format!("link delete {ETHERNET}")).expect("deleted");
        let ending = source.end();
        ending.expect_code(1).expect_words(&[
            &format!("{ETHERNET}: was deleted"),
            "no interface is left",
            "accounting: residue 0 packets, 0 segments",
        ]);
        let report = balanced_report(&subnet.path().join("source.json"));
        assert_eq!(report["interfaces"][0]["lost"], true, "{report:#}");
        assert!(of_sessions(&report, "cloned") >= DATAGRAMS, "{report:#}");
        assert_eq!(subnet.in_kernel(), [0; 3]);
    }
}

#[test]
fn an_interface_that_was_down_is_mirrored_as_before() {
    let subnet = Subnet::lay(false);
    subnet.add_interface();
    subnet.set_up_both();
    let target = subnet.ingest("");
    let source = subnet.mirror_with(&format!("--interface eni-2={OTHER}"));
    for _ in 0..3 {
        subnet.send(OTHER_CLIENT, OTHER_SOURCE);
        for state in ["down", "up"] {
            subnet.source.ip(&format!("link set dev {OTHER} {state}")).expect("state");
        }
    }
    let server = SocketAddr::from((OTHER_SOURCE, 80));
    let _server = mirror_lab::HttpServer::start(&subnet.source, server).expect("server");
    mirror_lab::exchange(&subnet.client, server, mirror_lab::Exchange::Get(10_000)).expect("exchange");
    let before = source.said();
    assert!(!before.contains("deleted"), "{before}");
    let ending = source.end_by(Signal::SIGINT);
    let report = subnet.ended(ending);
    let other = &report["interfaces"][1];
    assert_eq!((&other["name"], &other["lost"]), (&OTHER.into(), &false.into()), "{report:#}");
    let mirrored = cloned(other);
    // The requests of the exchange, too: behind the last time that it was down.
    assert!(mirrored > 3 * DATAGRAMS, "{report:#}");
    target.has(mirrored);
    target.end_by(Signal::SIGINT).expect_code(0);
}
