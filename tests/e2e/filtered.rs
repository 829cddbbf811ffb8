//! Filter expressions: `mirror replay` selects the packets that tcpdump selects from the decapsulated file,
//! and `mirror ingest` those that `replay` selects. The live test needs root.

mod common;

use std::{
    path::Path,
    process::{Command, Output},
};

use common::{
    Cable, SENDER, captures,
    mirror::{Mirror, balanced_report, readable_capture, sink},
};
use mirror_lab::{Injector, aws_twin, capture, capture::multiset, frames::Outer, mixed, tshark};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Expressions of every kind of pcap-filter(7) for Ethernet.
const CORPUS: &[&str] = &[
    // Protocols.
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "igmp",
    "esp",
    "ip proto 47",
    "ip proto 253",
    "ip6 proto 17",
    "ether proto 0x88cc",
    "stp",
    "llc",
    "not ip and not ip6",
    "ip protochain 17",
    "proto 17",
    // Addresses.
    "host 10.1.0.10",
    "src host 10.1.0.10",
    "dst host 10.1.0.11",
    "host 10.1.0.10 and host 192.0.2.80",
    "net 10.1.0.0/16",
    "src net 10.0.0.0/8 and not dst net 10.0.0.0/8",
    "net 10.1.0.0 mask 255.255.255.252",
    "host 2001:db8::a",
    "dst host 2001:db8::b",
    "net 2001:db8::/32",
    "ether host 02:00:00:00:00:0a",
    "ether src 02:00:00:00:00:0b",
    "ether dst ff:ff:ff:ff:ff:ff",
    "ether broadcast",
    "ether multicast",
    "ip multicast",
    "ip6 multicast",
    "host 172.31.0.238",
    "host 172.31.0.2",
    "net 78.46.0.0/16",
    "arp host 10.1.0.11",
    // Ports.
    "port 443",
    "tcp port 443",
    "udp port 53",
    "port 53",
    "src port 443",
    "tcp dst port 22",
    "dst port 80 or dst port 443",
    "portrange 40000-40003",
    "tcp src portrange 1-1023",
    "port ntp",
    "port domain",
    "tcp port ssh",
    "tcp port 443 and ip6",
    // Bits and lengths.
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack)",
    "tcp[13] & 4 != 0",
    "tcp[tcpflags] & tcp-push != 0 and tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "ip[6:2] & 0x3fff != 0",
    "ip[6:2] & 0x1fff = 0",
    "ip[8] < 64",
    "ip[2:2] > 576",
    "icmp[icmptype] == icmp-echo",
    "icmp[icmptype] = icmp-unreach",
    "icmp6[icmp6type] == icmp6-neighborsolicit",
    "ip6[6] = 60",
    "udp[10] & 0x80 != 0",
    "ether[0] & 1 != 0",
    "greater 500",
    "less 64",
    "len > 100 and len < 600",
    "len = 60",
    "ip[0] & 0xf != 5",
    "tcp[14:2] = 0",
    "ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) > 0",
    // Tags, which shift the offsets of the rest of the expression.
    "vlan",
    "vlan 100",
    "vlan 100 and tcp port 443",
    "vlan 200 and vlan 7",
    "vlan and vlan and udp port 53",
    "not vlan",
    // Combinations.
    "tcp and (port 80 or port 443) and not host 192.0.2.80",
    "not (tcp or udp)",
    "(udp or icmp) and host 10.1.0.11",
    "tcp port 443 or udp port 53 or arp",
    "ip host 10.1.0.10 && ! tcp",
    "tcp and not port 22",
    "udp and len > 80 or tcp[tcpflags] & tcp-rst != 0",
];

fn run(program: &str, arguments: &[&str], expression: &[&str]) -> Output {
    Command::new(program).args(arguments).args(expression).output().expect(program)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn mirror(arguments: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_mirror"), arguments, &[])
}

/// Compares, for each expression, what `mirror` selects from a file of mirrored traffic with what tcpdump
/// selects; returns how many expressions selected some packets but not all.
fn compare(outer: &Path, inner: &Path, packets: usize, directory: &Path) -> usize {
    let path = |name: &str| text(&directory.join(name)).to_owned();
    let (ours, theirs, report) = (path("ours.pcap"), path("theirs.pcap"), path("report.json"));
    let (outer, inner) = (text(outer), text(inner));
    let mut telling = 0;
    for expression in CORPUS {
        // tcpdump optimises as we do; only names of ports are looked up.
        let tcpdump = run("tcpdump", &["-r", inner, "-w", &theirs], &[expression]);
        assert!(
            tcpdump.status.success(),
            "tcpdump {expression}: {}",
            String::from_utf8_lossy(&tcpdump.stderr)
        );
        let words: Vec<_> = expression.split(' ').collect();
        let replay = ["replay", "-q", "-r", outer, "-w", &ours, "--format", "pcap", "--report", &report];
        let mirror = run(env!("CARGO_BIN_EXE_mirror"), &replay, &words);
        assert!(mirror.status.success(), "mirror {expression}: {}", String::from_utf8_lossy(&mirror.stderr));

        let (ours_read, theirs_read) = (
            capture::read(Path::new(&ours)).expect("our capture"),
            capture::read(Path::new(&theirs)).expect("tcpdump's capture"),
        );
        assert!(ours_read.frames() == theirs_read.frames(), "{expression}: other packets than tcpdump's");
        let selected = ours_read.packets.len();
        let report_read: Value =
            serde_json::from_slice(&std::fs::read(&report).expect("report")).expect("JSON");
        let sink = &report_read["sinks"][0];
        assert_eq!(
            (&sink["offered"], &sink["deselected"]),
            (&selected.into(), &(packets - selected).into()),
            "{expression}"
        );
        assert_eq!(
            (&report_read["filter"], &report_read["accounting"]["residue"]),
            (&(*expression).into(), &0.into())
        );
        telling += usize::from(selected > 0 && selected < packets);
        for file in [&ours, &theirs, &report] {
            std::fs::remove_file(file).expect("removed");
        }
    }
    telling
}

/// The decapsulated file, written independently of the code under test.
fn decapsulated(outer: &Path, directory: &Path) -> (std::path::PathBuf, usize) {
    let inner: Vec<_> =
        tshark::decapsulate(outer).expect("tshark").into_iter().map(|inner| inner.bytes).collect();
    let file = directory.join("inner.pcap");
    capture::write_pcap(&file, &inner).expect("written");
    (file, inner.len())
}

#[test]
fn the_corpus_selects_from_mixed_traffic_what_tcpdump_selects() {
    let directory = tempfile::tempdir().expect("directory");
    let inner = mixed::mixed().expect("frames");
    let outer: Vec<_> =
        inner.iter().map(|inner| Outer::sample(7).encapsulate(inner).expect("encapsulated")).collect();
    let file = directory.path().join("outer.pcap");
    capture::write_pcap(&file, &outer).expect("written");
    // Truncated frames keep their length on the wire.
    let plain = directory.path().join("inner.pcap");
    let output = mirror(&["replay", "-q", "-r", text(&file), "-w", text(&plain), "--format", "pcap"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(capture::read(&plain).expect("decapsulated").frames() == inner);
    let telling = compare(&file, &plain, inner.len(), directory.path());
    assert!(
        CORPUS.len() >= 60 && telling >= 60,
        "{telling} of {} expressions tell packets apart",
        CORPUS.len()
    );
}

#[test]
#[ignore = "needs MIRROR_CAPTURES"]
fn the_corpus_selects_from_the_aws_capture_what_tcpdump_selects() {
    let folder = captures();
    let directory = tempfile::tempdir().expect("directory");
    let outer = folder.join("aws-traffic-mirroring-2019.pcap");
    let (inner, packets) = decapsulated(&outer, directory.path());
    assert!(compare(&outer, &inner, packets, directory.path()) >= 15);
}

#[test]
fn the_corpus_selects_from_the_twin_what_tcpdump_selects() {
    let directory = tempfile::tempdir().expect("directory");
    let outer = directory.path().join("twin.pcap");
    capture::write_pcap(&outer, &aws_twin::aws_twin().expect("frames")).expect("written");
    let (inner, packets) = decapsulated(&outer, directory.path());
    assert!(compare(&outer, &inner, packets, directory.path()) >= 15);
}

/// A filter of the run, two sinks with their own selections, two queues: arriving packets are selected like
/// those of a file.
#[test]
fn ingest_and_replay_select_the_same_packets() {
    const ROUNDS: usize = 20;
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let config = "filter = 'not arp'\nwrite = 'all.pcapng'\nreport = 'report.json'\n\
                  [[sink]]\nname = 'tcp'\nwrite = 'tcp.pcapng'\nfilter = 'tcp port 443'\nvnis = 7\n\
                  [[sink]]\nname = 'v6'\nwrite = 'v6.pcap'\nformat = 'pcap'\nfilter = 'ip6'\n";
    std::fs::write(directory.path().join("mirror.toml"), config).expect("written");
    let outer: Vec<_> = [7, 8]
        .into_iter()
        .flat_map(|vni| mixed::mixed().expect("frames").into_iter().map(move |inner| (vni, inner)))
        .map(|(vni, inner)| Outer::sample(vni).encapsulate(&inner).expect("encapsulated"))
        .collect();
    let ingest = Mirror::ingest(&cable, directory.path(), "--config mirror.toml");
    let injector = Injector::new(&cable.sender, SENDER).expect("injector");
    for _ in 0..ROUNDS {
        injector.send_all(&outer).expect("injected");
    }
    let sent = outer.len() * ROUNDS;
    ingest.has(sent as u64);
    ingest.end_by(Signal::SIGINT).expect_code(0);

    let file = directory.path().join("outer.pcap");
    capture::write_pcap(&file, &outer).expect("written");
    let report = balanced_report(&directory.path().join("report.json"));
    assert_eq!(report["frames"]["decapsulated"], sent);
    for (name, written, arguments) in [
        ("pcap", "all.pcapng", &["not arp"][..]),
        ("tcp", "tcp.pcapng", &["--vni", "7", "not arp and tcp port 443"]),
        ("v6", "v6.pcap", &["not arp and ip6"]),
    ] {
        let expected = directory.path().join(format!("expected-{name}.pcapng"));
        let output =
            mirror(&[&["replay", "-q", "-r", text(&file), "-w", text(&expected)], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let once = capture::read(&expected).expect("capture").frames();
        let live = readable_capture(&directory.path().join(written));
        assert!(!live.torn, "{written} ends within a block");
        let live = live.frames();
        assert_eq!(live.len(), once.len() * ROUNDS, "{name}");
        assert!(
            !once.is_empty() && multiset(live) == multiset(vec![once.clone(); ROUNDS].concat()),
            "{name}"
        );
        let sink = sink(&report, name);
        assert_eq!(
            (&sink["written"], &sink["deselected"]),
            (&(once.len() * ROUNDS).into(), &(sent - once.len() * ROUNDS).into())
        );
    }
}

#[test]
fn an_outer_filter_applies_to_packets_with_outer_headers() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("twin.pcap");
    capture::write_pcap(&file, &aws_twin::aws_twin().expect("frames")).expect("written");
    let offered = |arguments: &[&str]| {
        let output = mirror(&[&["replay", "--json", "-r", text(&file)], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        report["sinks"][0]["offered"].as_u64().expect("a number")
    };
    assert_eq!(offered(&["--outer-filter", "udp port 4789"]), 100);
    assert_eq!(offered(&["--outer-filter", "not udp port 4789"]), 0);
    // The resolver's ten answers, and one query whose flow has the same hash.
    assert_eq!(offered(&["--outer-filter", "src port 65408"]), 11);
    assert_eq!(offered(&["--outer-filter", "src port 65408", "udp", "src", "port", "53"]), 10);
    assert_eq!(offered(&["--outer-filter", "src port 65408", "tcp"]), 0);
}

#[test]
fn a_bad_expression_is_bad_usage_and_reported_with_its_position() {
    let refused = |arguments: &[&str]| {
        let output = mirror(&[&["replay", "-r", "/nonexistent.pcap"], arguments].concat());
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert_eq!(
        refused(&["tcp", "prot", "443"]),
        "mirror: filter expression: syntax error\n  tcp prot 443\n      ^^^^\n"
    );
    assert!(refused(&["--outer-filter", "tcp port"]).contains("it ends too early\n  tcp port\n          ^"));
}
