//! What is mirrored, and how much of it.

use std::{fs, process::Command};

use mirror_lab::{Exchange, run};
use mirror_user::flow::{Packet, Ports};
use serde_json::Value;

use super::{
    SOURCE, Subnet, TCP, UDP, VNI, accept, accept_all, assert_same_frames, common::mirror::whole_capture,
    filter, of_directions, of_sessions, rule, session,
};

/// Super-frames on the source's interface, whose segments are those that the client sees.
#[test]
fn a_tcp_session_is_at_the_target_frame_by_frame() {
    let subnet = Subnet::lay(true);
    let mut all_tcp = rule(100, "accept", None);
    all_tcp["Protocol"] = TCP.into();
    let all_tcp = [all_tcp];
    subnet.set_up(&[filter("tmf-1", &all_tcp, &all_tcp)], &[session(1, "tmf-1")]);
    let _server = subnet.serve(22);
    let (witness, target) = (subnet.witness("tcp"), subnet.ingest("-w inner.pcapng"));
    let source = subnet.mirror();
    subnet.http(22, Exchange::PostEcho(300_000));
    let seen = witness.stop().expect("witness");
    assert_eq!(seen.dropped, 0);
    let (source, target) = subnet.end_both(source, target);
    assert_same_frames(seen.frames, whole_capture(&subnet.captured()).frames());
    let sent = of_sessions(&source, "sent");
    assert!(of_sessions(&source, "cloned") < sent, "no super-frame: {source:#}");
    let origin = &target["origins"][0];
    assert_eq!((&origin["session"], &origin["unknown"]), (&"tms-1".into(), &0.into()), "{target:#}");
    let both = [&origin["ingress"], &origin["egress"]].map(|way| way.as_u64().expect("a count"));
    assert!(both.iter().all(|way| *way > 0), "{target:#}");
    assert_eq!(both.iter().sum::<u64>(), sent, "{target:#}");
}

#[test]
fn of_inbound_rules_for_three_ports_neither_other_ports_nor_responses_are_mirrored() {
    const PORTS: [u16; 3] = [22, 80, 443];
    let subnet = Subnet::lay(true);
    subnet.set_up(&[filter("tmf-1", &accept(TCP, &PORTS), &[])], &[session(1, "tmf-1")]);
    let all = [PORTS.as_slice(), &[8080]].concat();
    let _servers: Vec<_> = all.iter().map(|port| subnet.serve(*port)).collect();
    let inbound = format!("dst host {SOURCE} and (dst port 22 or 80 or 443)");
    let (witness, target) = (subnet.witness(&inbound), subnet.ingest("-w inner.pcapng"));
    let source = subnet.mirror();
    for port in all {
        subnet.http(port, Exchange::PostEcho(5_000));
    }
    let seen = witness.stop().expect("witness");
    let (source, _) = subnet.end_both(source, target);
    let captured = whole_capture(&subnet.captured()).frames();
    for port in PORTS {
        let is_to = |frame: &Vec<u8>| destination_port(frame) == port;
        assert!(captured.iter().any(is_to), "nothing to port {port}");
    }
    assert_same_frames(seen.frames, captured);
    let [_, mirrored_responses] = of_directions(&source, "/cloned");
    assert_eq!(mirrored_responses, 0, "{source:#}");
    assert!(of_directions(&source, "/no_session").iter().all(|packets| *packets > 0), "{source:#}");
}

#[test]
fn tshark_finds_each_copy_by_the_vni_of_the_session() {
    let subnet = Subnet::lay(true);
    subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session(1, "tmf-1")]);
    let _server = subnet.serve(80);
    let target = subnet.ingest("--outer -w outer.pcapng");
    let source = subnet.mirror();
    subnet.http(80, Exchange::PostEcho(50_000));
    subnet.socket().send_to(b"all protocols", (SOURCE, 9)).expect("sent");
    let (source, _) = subnet.end_both(source, target);
    let file = subnet.path().join("outer.pcapng");
    let found = |filter: &str| {
        let printed = run(Command::new("tshark").arg("-r").arg(&file).args(["-n", "-Y", filter]));
        printed.expect("tshark").lines().count() as u64
    };
    let mirrored = of_sessions(&source, "sent");
    assert_eq!([found(&format!("vxlan.vni=={VNI}")), found("frame")], [mirrored; 2]);
    // The datagram, and what the source answers.
    assert_eq!([found("udp.dstport==9 && vxlan"), found("icmp && vxlan")], [2, 1]);
}

#[test]
fn copies_have_as_many_bytes_as_the_session_says_and_keep_their_length_on_the_wire() {
    let subnet = Subnet::lay(true);
    let _server = subnet.serve(80);
    for length in [35, 55, 100, 1500] {
        let mut session = session(1, "tmf-1");
        session["PacketLength"] = length.into();
        subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session]);
        let (witness, target) = (subnet.witness("tcp"), subnet.ingest("-w inner.pcapng"));
        let source = subnet.mirror();
        subnet.http(80, Exchange::PostEcho(5_000));
        let mut seen = witness.stop().expect("witness").frames;
        let (_, target) = subnet.end_both(source, target);
        let cut = seen.iter().filter(|frame| frame.len() > length).count();
        assert!(cut > 0, "no packet has more than {length} bytes");
        assert_eq!(target["frames"]["odd"]["truncated_inner"], cut, "{length}: {target:#}");
        let captured = whole_capture(&subnet.captured());
        let lengths = |mut lengths: Vec<usize>| {
            lengths.sort_unstable();
            lengths
        };
        let wire = captured.packets.iter().map(|packet| packet.wire_len as usize).collect();
        assert_eq!(lengths(wire), lengths(seen.iter().map(Vec::len).collect()), "{length}");
        seen.iter_mut().for_each(|frame| frame.truncate(length));
        assert_same_frames(seen, captured.frames());
        fs::remove_file(subnet.captured()).expect("removed");
    }
}

/// Each port in two or all three of the filters.
#[test]
fn of_three_sessions_the_first_that_has_a_matching_rule_has_the_packet_and_a_reject_is_final() {
    const OF_EACH: u64 = 20;
    let subnet = Subnet::lay(true);
    let ports = |number, action, ports| rule(number, action, Some((UDP, ports)));
    let filters = [
        filter("tmf-1", &[ports(10, "accept", [7001, 7001])], &[]),
        filter("tmf-2", &[ports(20, "accept", [7001, 7010]), ports(10, "reject", [7003, 7003])], &[]),
        filter("tmf-3", &accept_all(), &[]),
    ];
    // By number, not as they stand in the file.
    let sessions = [session(3, "tmf-3"), session(1, "tmf-1"), session(2, "tmf-2")];
    subnet.set_up(&filters, &sessions);
    let target = subnet.ingest("-w inner.pcapng");
    let source = subnet.mirror();
    let socket = subnet.socket();
    for _ in 0..OF_EACH {
        for port in [7001, 7002, 7003, 7011] {
            socket.send_to(&[0; 8], (SOURCE, port)).expect("sent");
        }
    }
    let (source, target) = subnet.end_both(source, target);
    assert_eq!(of_sessions(&source, "sent"), 3 * OF_EACH);
    assert_eq!(of_directions(&source, "/rejected"), [OF_EACH, 0]);
    let sessions = source["interfaces"][0]["sessions"].as_array().expect("sessions");
    for session in sessions {
        let rejected = if session["session"] == "tms-2" { OF_EACH } else { 0 };
        assert_eq!([&session["cloned"], &session["rejected"]], [OF_EACH, rejected], "{session:#}");
    }
    let captured = whole_capture(&subnet.captured());
    for (session, port) in [("tms-1", 7001), ("tms-2", 7002), ("tms-3", 7011)] {
        let of = |at: &&Value| at["session"] == session;
        let origin = target["origins"].as_array().expect("origins").iter().find(of).expect("an origin");
        assert_eq!(origin["frames"], OF_EACH, "{origin:#}");
        let is_of = |name: &Option<String>| name.as_ref().is_some_and(|name| name.starts_with(session));
        let frames = captured.packets.iter().filter(|packet| is_of(&packet.interface_name));
        assert!(frames.map(|packet| destination_port(&packet.bytes)).all(|it| it == port), "{session}");
    }
}

/// 0 if it has none.
fn destination_port(frame: &[u8]) -> u16 {
    match Packet::of(frame).map(|packet| packet.flow.ports) {
        Some(Ports::Pair(_, to)) => to,
        _ => 0,
    }
}
