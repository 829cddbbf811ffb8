//! Golden texts: each kind of line at least once.

use std::{borrow::Cow, time::SystemTime};

use super::*;
use crate::account::{Directions, FileReport, Losses, ReaderReport, SessionReport};

fn report(source: &'static str) -> Report {
    Report::new(source, SystemTime::UNIX_EPOCH)
}

fn losses<const N: usize>(losses: [(&'static str, u64); N]) -> Losses {
    losses.map(|(reason, frames)| (Cow::Borrowed(reason), frames)).into()
}

/// The summary's part between the four lines of tcpdump and the accounts.
fn body(report: &Report) -> String {
    let text = report.summary().to_string();
    let (_, rest) = text.split_once("\n\n").expect("an empty line after tcpdump's");
    rest.split_once("accounting: ").expect("the accounts").0.to_owned()
}

#[test]
fn a_run_without_frames_has_tcpdumps_lines_and_the_accounts() {
    assert_eq!(
        report("file").summary().to_string(),
        "0 packets captured\n0 packets received by filter\n0 packets dropped by kernel\n\
        0 packets dropped by interface\n\n\
        0 received = 0 decapsulated\naccounting: 0 seen, 0 explained, residue 0\n"
    );
}

#[test]
fn captured_are_the_selected_whatever_the_first_sink_got() {
    let mut report = report("file");
    (report.frames.decapsulated, report.frames.selected) = (3, 1);
    report.sinks.push(SinkReport { name: "dns".into(), deselected: 3, ..SinkReport::default() });
    let text = report.summary().to_string();
    assert!(text.starts_with("1 packet captured\n3 packets received by filter\n"), "{text}");
    assert!(text.contains("  2 of the decapsulated were not selected\n"), "{text}");
    assert!(text.contains("sink dns: 0 offered = 0 written\n  1 not of its selection\n"), "{text}");
}

/// An interface with all counters set.
fn interface() -> InterfaceReport {
    let mut interface = InterfaceReport {
        name: "ens5".into(),
        xdp_mode: "native".into(),
        bind: "zerocopy".into(),
        time: "kernel".into(),
        nic: [("rx_queue_0_xdp_drops".to_owned(), 9), ("rx_missed_errors".to_owned(), 4)].into(),
        ..InterfaceReport::default()
    };
    let xdp = &mut interface.xdp;
    (xdp.seen, xdp.redirected, xdp.redirect_failed, xdp.no_socket_at_start) = (100, 60, Some(1), 2);
    xdp.no_socket_at_upgrade = 1;
    let passed = &mut xdp.passed;
    (passed.not_tunnel, passed.fragment, passed.malformed, passed.extension) = (1, 2, 3, 4);
    (passed.not_local, passed.geneve, passed.no_socket) = (5, 6, 7);
    (xdp.dropped.vni, xdp.dropped.source) = (8, 9);
    interface.queues = vec![QueueReport {
        queue: 3,
        rx_ring_full: 5,
        rx_dropped: 7,
        oversize: Some(3),
        ..QueueReport::default()
    }];
    interface
}

#[test]
fn an_interface_has_its_verdicts_and_losses_with_hints_of_the_caller() {
    let mut report = report("af_xdp");
    report.interfaces.push(interface());
    report.ended_by = Some("ens5: the interface was deleted".into());
    let hint = |field: &str| (field == "passed.not_local").then_some("see --destination");
    let text = report.summary().hints(&hint).to_string();
    assert_eq!(
        text,
        "0 packets captured
0 packets received by filter
13 packets dropped by kernel
4 packets dropped by interface

ended early: ens5: the interface was deleted
ens5 (native XDP, zerocopy mode, kernel time): 100 seen = 60 redirected + 28 passed to the kernel + 17 \
        dropped: not allowed
  1 passed: not UDP to a tunnel port
  2 passed: IP fragments not known to belong to a tunnel
  3 passed: malformed
  4 passed: IPv6 extension headers
  5 passed: addressed to others, or from a loopback address (see --destination)
  6 passed: GENEVE, to a port that is not listed as one of a tunnel
  4 passed: no socket on the queue
  2 passed: arrived before the sockets were bound
  8 dropped: VNI not allowed
  9 dropped: outer source not allowed
  1 lost: passed to the kernel, while a new process opened its sockets (cold upgrade)
  4 rx_missed_errors by the interface's counters
  9 rx_queue_*_xdp_drops by the interface's counters (may include frames dropped by the program or the rings)
  5 lost: RX ring full (the worker is too slow, or has too little CPU), queue 3
  4 lost: fill ring empty (likewise), queue 3
  3 lost: larger than a UMEM chunk, queue 3
  1 lost: redirect failed
0 received = 0 decapsulated
accounting: 0 seen, 0 explained, residue 0
"
    );
}

#[test]
fn forwarding_has_its_path_and_what_became_of_the_frames() {
    let lines = |path: &str| {
        let mut report = report("af_xdp");
        let xdp = r#""xdp": {"seen": 15, "forwarded": 12, "dropped": {"no_target": 3}}"#;
        let interface = format!(r#"{{"name": "ens5", {xdp}, "forward_path": {path}}}"#);
        report.interfaces.push(serde_json::from_str(&interface).expect("an interface"));
        let text = report.summary().to_string();
        assert!(text.starts_with("12 packets captured\n12 packets received by filter\n"), "{text}");
        let (_, text) = text.split_once("15 seen").expect("the interface");
        text.split_once("\n0 received").expect("frames").0.to_owned()
    };
    let all = r#"{"path": "kernel", "reason": "as requested", "targets": [{"name": "dev:out0", "sent": 9,
        "not_sent": {"down": 1, "too_large": 2}}]}"#;
    assert_eq!(
        lines(all),
        " = 0 redirected + 12 forwarded + 3 dropped: no target
  3 dropped: the target was deleted
  forward path kernel: as requested
  9 sent to dev:out0
  1 not sent: the interface is down
  2 not sent: longer than the MTU"
    );
    let none = all.replace("9", "0");
    assert!(lines(&none).ends_with("  dev:out0 received none of its frames"));
    let unknown = r#"{"path": "kernel", "reason": "as requested", "targets": [{"name": "dev:out0"}]}"#;
    assert!(lines(unknown).ends_with("  the kernel does not say how many were sent to dev:out0"));
    let user = r#"{"path": "user", "reason": "generic\nmode"}"#;
    assert!(lines(user).ends_with("  forward path user: generic\\nmode"), "{}", lines(user));
}

#[test]
fn a_queue_that_came_later_is_a_loss_where_all_were_asked_for() {
    let mut report = report("af_xdp");
    let all = InterfaceReport { all_queues: true, ..interface() };
    report.interfaces.push(all);
    let text = body(&report);
    assert!(
        text.contains(
            "  4 lost: passed to the kernel, because their RX queue has no socket: it was added after the \
            start (`ethtool -l ens5` lists queues); restart to read all queues\n"
        ),
        "{text}"
    );
    assert!(!text.contains("passed: no socket"), "{text}");
}

#[test]
fn each_reason_has_a_line_of_its_own() {
    let mut report = report("af_xdp");
    report.interfaces.push(InterfaceReport { bind: "zerocopy".into(), ..InterfaceReport::default() });
    let frames = &mut report.frames;
    (frames.received, frames.decapsulated, frames.selected) = (278, 40, 39);
    (frames.abandoned, frames.fragments_consumed, frames.reassembled) = (5, 2, 2);
    frames.rejected = crate::account::Rejected::from(&std::array::from_fn(|place| place as u64 + 1));
    (frames.odd.truncated_inner, frames.odd.impossible_length, frames.odd.reserved_bits) = (1, 2, 3);
    frames.odd.critical_options = 4;
    assert_eq!(
        body(&report).split_once('\n').expect("the interface").1,
        "278 received = 40 decapsulated + 231 rejected + 5 abandoned by a worker that panicked + 2 \
        fragments joined \
        with others
  1 rejected: too short for VXLAN and an inner Ethernet header
  2 rejected: truncated by the capture's snap length before the inner Ethernet header ends
  3 rejected: outer headers contradict each other
  4 rejected: VXLAN without a VNI (I flag missing)
  5 rejected: VNI not allowed
  6 rejected: outer source not allowed
  7 rejected: in more descriptors than a batch holds
  8 rejected: not UDP to a tunnel port
  9 rejected: GENEVE, to a port that is not listed as one of a tunnel
  10 rejected: GENEVE of another version, or with options that contradict its length
  11 rejected: GENEVE control packets
  12 rejected: GENEVE with neither an Ethernet frame nor VXLAN inside
  13 rejected: fragments of VXLAN inside GENEVE, which are not reassembled
  14 rejected: IPv6 extension headers
  15 rejected: VXLAN-GPE whose next protocol is not Ethernet
  16 rejected: unsupported link type
  17 rejected: IP fragments
  18 rejected: IP fragments whose datagram was not completed in time
  19 rejected: IP fragments that overlap
  20 rejected: IP fragments that fit more than one datagram
  21 rejected: IP fragments, because the memory for fragments was full
  2 of the decapsulated or rejected were datagrams reassembled from fragments
  1 of the decapsulated were not selected
  1 of the decapsulated were truncated by their mirror session
  2 of the decapsulated declare an inner IP length beyond the packet (printed as truncated-ip)
  3 of the decapsulated had reserved bits set in VXLAN or GENEVE
  4 of the decapsulated had critical GENEVE options that are not known
  over 1 % contradict: in zero-copy mode most likely a driver that splits frames at another size than that \
        of its chunks; compare with copy mode
"
    );
}

fn member(target: &str, written: u64, dropped: u64) -> MemberReport {
    MemberReport {
        target: target.into(),
        written,
        dropped: losses([("down", dropped)]),
        ..MemberReport::default()
    }
}

#[test]
fn sinks_have_their_frames_their_reasons_and_their_members() {
    let mut report = report("file");
    report.sinks = vec![
        SinkReport { name: "counters".into(), offered: 9, written: 9, ..SinkReport::default() },
        SinkReport {
            name: "pcap\x1b[2J".into(),
            state: SinkState::Waiting,
            reason: Some("no space\nleft".into()),
            offered: 9,
            written: 2,
            dropped: losses([("no_block", 3), ("no_space", 0)]),
            failed: losses([("io", 3)]),
            pending: 1,
            ..SinkReport::default()
        },
        SinkReport {
            name: "forward".into(),
            state: SinkState::Ended,
            offered: 9,
            written: 5,
            dropped: losses([("down", 4)]),
            members: vec![
                MemberReport {
                    readers: Some(ReaderReport { came: 18, disconnected: 2 }),
                    ..member("pcap-over-ip:listen=:1", 5, 0)
                },
                MemberReport { reason: Some("it is down".into()), ..member("tap:ids0", 0, 3) },
                member("tap:ids1", 0, 1),
            ],
            vlans: (1..=12).map(|vlan| VlanReport { vni: 100 + u32::from(vlan), vlan }).collect(),
            vlans_given_up: 4,
            ..SinkReport::default()
        },
        SinkReport {
            name: "print".into(),
            state: SinkState::Failed,
            offered: 9,
            dropped: losses([("no_block", 9)]),
            ..SinkReport::default()
        },
    ];
    let text = body(&report);
    assert_eq!(
        text.split_once('\n').expect("frames").1,
        "sink counters: 9 offered = 9 written
sink pcap\\x1b[2J still waiting: 9 offered = 2 written + 3 dropped + 3 failed + 1 pending
  3 dropped: no_block
  3 failed: io
  no space\\nleft
sink forward ended early: 9 offered = 5 written + 4 dropped
  4 dropped: down
  pcap-over-ip:listen=:1: 5 written
  tap:ids0: 0 written + 3 down
  tap:ids1: 0 written + 1 down
  tap:ids0 received none of its frames: it is down
  tap:ids1 received none of its frames
  pcap-over-ip:listen=:1: 2 readers were disconnected in favour of newer ones
  VNI 101 as VLAN 1
  VNI 102 as VLAN 2
  VNI 103 as VLAN 3
  VNI 104 as VLAN 4
  VNI 105 as VLAN 5
  VNI 106 as VLAN 6
  VNI 107 as VLAN 7
  VNI 108 as VLAN 8
  VNI 109 as VLAN 9
  VNI 110 as VLAN 10
  2 more VNIs (the report lists all)
  VLANs reassigned to another VNI, because none was free: 4
sink print failed: 9 offered = 0 written + 9 dropped
  9 dropped: no_block
  it received none of its frames
"
    );
}

#[test]
fn a_target_that_the_kernel_sent_frames_to_has_received_some() {
    for (sent, clean) in [(0, false), (9, true)] {
        let mut report = report("af_xdp");
        let path = format!(
            r#"{{"path": "kernel", "reason": "as requested", "targets": [{{"name": "vxlan:10.0.0.1:4789",
            "sent": {sent}, "not_sent": {{}}}}]}}"#
        );
        let interface = format!(r#"{{"name": "ens5", "forward_path": {path}}}"#);
        report.interfaces.push(serde_json::from_str(&interface).expect("an interface"));
        let member = MemberReport {
            target: "vxlan:10.0.0.1:4789".into(),
            dropped: losses([("down", 4)]),
            ..MemberReport::default()
        };
        report.sinks.push(SinkReport {
            name: "forward".into(),
            offered: 4,
            dropped: losses([("down", 4)]),
            members: vec![member],
            ..SinkReport::default()
        });
        assert_eq!(report.is_clean(), clean);
        assert_eq!(report.summary().to_string().contains("received none of its frames"), !clean);
    }
}

#[test]
fn files_that_were_not_read_whole_are_named_and_the_run_that_ended_with_one_is_not_said_twice() {
    let mut report = report("file");
    report.ended_by = Some("0.pcap: empty".into());
    report.files = (0..25)
        .map(|file| FileReport {
            path: format!("{file}.pcap"),
            ended_by: Some("empty".into()),
            ..FileReport::default()
        })
        .collect();
    report.files.push(FileReport { path: "whole.pcap".into(), packets: 3, ..FileReport::default() });
    let text = body(&report);
    assert!(text.starts_with("0.pcap: ended early: empty; 0 packets read before\n1.pcap: "), "{text}");
    assert!(text.contains("\n5 more files were not read completely (the report lists all)\n"), "{text}");
    assert!(!text.contains("whole.pcap") && !text.contains("20.pcap"), "{text}");
}

#[test]
fn latency_origins_and_laws_that_do_not_hold_come_last() {
    let mut report = report("af_xdp");
    report.latency_ns = Some(crate::account::Latency::new(1_500, 20_000, 300_001, 4_000_000));
    report.origins =
        (0..12).map(|vni| Origin::new([10, 0, 0, 1].into(), vni, 20 - u64::from(vni), 60)).collect();
    report.origins[1].at_least = true;
    report.origins[2].source = "2001:db8::1".parse().unwrap();
    (report.origins_other.origins, report.origins_other.frames) = (30, 100);
    report.accounting.laws = [("received".to_owned(), -2), ("rings".to_owned(), 0)].into();
    (report.accounting.seen, report.accounting.explained, report.accounting.residue) = (10, 12, 2);
    report.origins[3].endpoint = Some(0x0ab1);
    let text = report.summary().to_string();
    assert!(text.contains("origin 10.0.0.1 VNI 3 endpoint 0000000000000ab1: 17 frames"), "{text}");
    let start = text.find("latency: ").unwrap();
    let lines: Vec<_> = text[start..].lines().collect();
    assert_eq!(
        lines[..4],
        [
            "latency: p50 1.500 µs, p99 20.000 µs, p99.9 300.001 µs, max 4000.000 µs",
            "origin 10.0.0.1 VNI 0: 20 frames, 60 bytes; Wireshark: vxlan.vni == 0 && ip.src == 10.0.0.1",
            "origin 10.0.0.1 VNI 1: at least 19 frames, 60 bytes; Wireshark: vxlan.vni == 1 && ip.src == \
            10.0.0.1",
            "origin 2001:db8::1 VNI 2: 18 frames, 60 bytes; Wireshark: vxlan.vni == 2 && ipv6.src == \
            2001:db8::1",
        ]
    );
    assert_eq!(
        lines[11..],
        [
            "32 more origins with 119 frames (the report lists up to its limit)",
            "accounting: 10 seen, 12 explained, residue 2",
            "  received: -2",
        ]
    );
    let named = |origin: &Origin| format!("vni-{}", origin.vni);
    let text = report.summary().display_filter(&named).to_string();
    assert!(text.contains("origin 10.0.0.1 VNI 0: 20 frames, 60 bytes; Wireshark: vni-0\n"), "{text}");
}

#[test]
fn counters_of_loss_are_named_those_of_queues_as_one_and_others_not() {
    let nic = [
        ("rx_packets", 9),
        ("rx_dropped", 5),
        ("rx_missed_errors", 0),
        ("rx_queue_0_xdp_drops", 2),
        ("rx_queue_11_xdp_drops", 3),
        ("rx_queue_0_xdp_redirects", 7),
        ("rx_overruns", 1),
    ];
    let nic = nic.map(|(name, count)| (name.to_owned(), count)).into();
    let losses: Vec<_> = losses_of(&nic).into_iter().collect();
    let expected = [("rx_dropped", 5), ("rx_overruns", 1), ("rx_queue_*_xdp_drops", 5)];
    assert_eq!(losses, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn silent_sessions_and_unknown_origins_are_named_after_the_origins() {
    let mut report = report("file");
    let mut known = Origin::new([10, 0, 0, 9].into(), 7, 5, 300);
    known.session = Some("tms-1".into());
    known.tags.insert("Name".into(), "web\u{7}".into());
    let mut directions = Directions::default();
    (directions.ingress, directions.egress) = (3, 2);
    known.directions = Some(directions);
    let unknown = Origin::new([10, 0, 0, 8].into(), 8, 4, 240);
    report.origins = vec![known, unknown];
    let silent = (1..=11).map(|number| SessionReport::new(&format!("tms-2{number}"), 9, "eni-2", 0));
    report.sessions = Some([SessionReport::new("tms-1", 7, "eni-1", 5)].into_iter().chain(silent).collect());
    let text = body(&report);
    let origin =
        "origin 10.0.0.9 VNI 7 session tms-1 (web\\x07): 5 frames (3 ingress, 2 egress, 0 of unknown";
    assert!(text.contains(origin), "{text}");
    assert!(text.contains(" direction), 300 bytes; Wireshark: vxlan.vni == 7 && "), "{text}");
    assert!(text.contains("origin 10.0.0.8 VNI 8: 4 frames, 240 bytes; Wireshark: "), "{text}");
    assert!(text.contains("12 sessions, 11 silent\n  silent: session tms-21 of eni-2, VNI 9\n"), "{text}");
    let last = "  1 more silent sessions (the report lists all)\n  unknown: 4 frames from 10.0.0.8, VNI 8, \
        are of none of these sessions\n";
    assert!(text.ends_with(last), "{text}");
}
