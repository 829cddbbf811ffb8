//! Packets from sources that are not allowed are dropped in every form, so that the host never answers them;
//! packets for the host itself from there still arrive. Nor does the host answer what is passed to it on the
//! port of a tunnel. Needs root.

mod common;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    thread,
    time::Duration,
};

use common::{
    CAPTURE, Cable, SENDER,
    mirror::{Mirror, balanced_report, until},
};
use etherparse::{PacketBuilder, TcpHeader};
use mirror_lab::{
    Injector, Listener, fragment,
    frames::{Outer, TARGET_MAC, inner_of_len},
    geneve::{ETHERNET, Geneve},
};
use nix::sys::signal::Signal;
use serde_json::Value;

const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 66);
const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
const STRANGER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x66);
const STRANGER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 9];
const SERVICE: u16 = 7777;

/// A host with addresses of both families that gives up on fragments after a second, and reports that.
fn host() -> Cable {
    let cable = Cable::with_queues(1);
    let sysctl = |setting: &str, value: &str| cable.target.sysctl(setting, value).expect("sysctl");
    sysctl("net/ipv4/ipfrag_time", "1");
    sysctl("net/ipv6/ip6frag_time", "1");
    // The kernel limits the rate of such errors (icmp(7)).
    sysctl("net/ipv4/icmp_ratelimit", "0");
    sysctl("net/ipv6/icmp/ratelimit", "0");
    sysctl(&format!("net/ipv6/conf/{CAPTURE}/disable_ipv6"), "0");
    cable.veth.b.address(&format!("{HOST}/24")).expect("address");
    let ip = |arguments: &str| cable.target.ip(arguments).expect("ip");
    ip(&format!("address add {HOST_V6}/64 dev {CAPTURE} nodad"));
    for stranger in [IpAddr::from(STRANGER), STRANGER_V6.into()] {
        ip(&format!("neighbour add {stranger} lladdr 02:00:00:00:00:09 dev {CAPTURE} nud permanent"));
    }
    cable
}

fn mirrored_v4() -> Vec<u8> {
    let outer = Outer::sample(7).between(STRANGER, HOST);
    outer.encapsulate(&inner_of_len(400).expect("an inner frame")).expect("values that fit")
}

fn mirrored_v6(extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let outer = Outer::sample_v6(7, extensions).between(STRANGER_V6, HOST_V6);
    outer.encapsulate(&inner_of_len(400).expect("an inner frame")).expect("values that fit")
}

/// Mirrored packets that an IP stack answers: an unknown option and routing type (RFC 8200 sections 4.2 and
/// 4.4), and datagrams without their later fragments (RFC 792, RFC 8200 section 4.5).
fn provocations() -> Vec<Vec<u8>> {
    // Discard, and report to the source.
    let unknown_option = vec![0, 0, 0x9e, 4, 0, 0, 0, 0];
    let unknown_routing = vec![0, 0, 99, 1, 0, 0, 0, 0];
    let first = |frame: &[u8]| fragment(frame, 5, &[160]).expect("fragments").swap_remove(0);
    vec![
        mirrored_v6(&[(0, unknown_option.clone())]),
        mirrored_v6(&[(60, unknown_option)]),
        mirrored_v6(&[(43, unknown_routing)]),
        first(&mirrored_v4()),
        first(&mirrored_v6(&[])),
    ]
}

/// ICMP and ICMPv6 errors (types below 128) among these frames.
fn icmp_errors(frames: &[Vec<u8>]) -> usize {
    let is_error = |frame: &&Vec<u8>| match frame.get(12..14) {
        Some([8, 0]) => frame.get(23) == Some(&1) && matches!(frame.get(34), Some(3 | 4 | 5 | 11 | 12)),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&58) && frame.get(54).is_some_and(|kind| *kind < 128),
        _ => false,
    };
    frames.iter().filter(is_error).count()
}

/// Runs `mirror` with these arguments while the frames arrive. Returns what the host sent, and the report.
fn run(cable: &Cable, arguments: &str, frames: &[Vec<u8>]) -> (Vec<Vec<u8>>, Value) {
    let directory = tempfile::tempdir().expect("directory");
    let run = Mirror::ingest(cable, directory.path(), &format!("--report report.json {arguments}"));
    let wire = Listener::open(&cable.sender, SENDER).expect("listener");
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(frames).expect("injected");
    // Longer than the host waits for fragments.
    thread::sleep(Duration::from_millis(2_500));
    run.end_by(Signal::SIGINT).expect_code(0);
    // Frames to the host's MAC are captured as well.
    let mut sent = wire.frames().expect("what the host sent");
    sent.retain(|frame| frame.get(6..12) == Some(&TARGET_MAC));
    (sent, balanced_report(&directory.path().join("report.json")))
}

fn xdp<'a>(report: &'a Value, counter: &str) -> &'a Value {
    report.pointer(&format!("/interfaces/0/xdp/{counter}")).expect("a counter")
}

#[test]
fn a_refused_source_draws_no_answer_by_fragments_or_extension_headers() {
    let cable = host();
    let frames = provocations();
    for reassembly in ["", "--no-reassemble"] {
        let refused = format!("--source 192.0.2.0/24 {reassembly}");
        let (sent, report) = run(&cable, &refused, &frames);
        assert_eq!(icmp_errors(&sent), 0, "{sent:02x?}");
        assert_eq!(xdp(&report, "dropped/source"), frames.len());
    }
    // If allowed, they are passed to the kernel, which answers: as documented, and it shows that this test
    // can fail.
    let (sent, report) = run(&cable, &format!("--source {STRANGER},{STRANGER_V6} --no-reassemble"), &frames);
    assert_eq!(icmp_errors(&sent), frames.len(), "{sent:02x?}");
    assert_eq!(xdp(&report, "passed/extension"), 3);
    assert_eq!(xdp(&report, "passed/fragment"), 2);
}

#[test]
fn what_is_passed_draws_no_answer_from_the_port_of_a_listed_tunnel() {
    let cable = host();
    let outer = Outer { destination_port: 6081, ..Outer::sample(0).between(STRANGER, HOST) };
    let geneve = Geneve { outer, ..Geneve::plain(7) };
    let geneve = geneve.encapsulate(ETHERNET, &inner_of_len(400).expect("an inner frame")).expect("a frame");
    let cut = |(id, whole): (u32, Vec<u8>)| fragment(&whole, id, &[160]).expect("fragments");
    let frames: Vec<_> = [(5, mirrored_v4()), (6, geneve)].into_iter().flat_map(cut).collect();
    // What is not listed is bound by nobody.
    for (ports, answers) in [("4789,6081", 0), ("4789", 1), ("6081", 1)] {
        let (sent, report) = run(&cable, &format!("--no-reassemble --port {ports}"), &frames);
        assert_eq!(xdp(&report, "passed/fragment"), 4, "{ports}");
        assert_eq!(icmp_errors(&sent), answers, "{ports}: {sent:02x?}");
    }
}

/// Packets for the host itself, each in fragments: a datagram to its service, an echo request, a SYN.
fn for_the_host(port: u16) -> Vec<Vec<u8>> {
    let ip = || PacketBuilder::ethernet2(STRANGER_MAC, TARGET_MAC).ipv4(STRANGER.octets(), HOST.octets(), 64);
    let payload = [b'x'; 1_000];
    let mut frames = vec![Vec::new(), Vec::new(), Vec::new()];
    ip().udp(40_000, SERVICE).write(&mut frames[0], &payload).expect("a datagram");
    ip().icmpv4_echo_request(7, 1).write(&mut frames[1], &payload).expect("an echo request");
    let mut syn = TcpHeader::new(40_000, port, 1, 64_240);
    syn.syn = true;
    ip().tcp_header(syn).write(&mut frames[2], &payload).expect("a segment");
    let cut = |(id, frame): (u32, &Vec<u8>)| fragment(frame, id, &[64, 512]).expect("fragments");
    // The id of a mirrored datagram of the same run.
    [5, 5, 5].into_iter().zip(&frames).flat_map(cut).collect()
}

#[test]
fn fragments_to_the_host_itself_from_a_refused_source_arrive() {
    let cable = host();
    let service =
        cable.target.enter(|| UdpSocket::bind((HOST, SERVICE))).expect("namespace").expect("a service");
    service.set_nonblocking(true).expect("non-blocking");
    let listener =
        cable.target.enter(|| TcpListener::bind((HOST, 0))).expect("namespace").expect("a listening socket");
    let port = listener.local_addr().expect("its address").port();
    for reassembly in ["", "--no-reassemble"] {
        let mut frames = fragment(&mirrored_v4(), 4, &[160]).expect("fragments");
        frames.extend(for_the_host(port));
        let own = frames.len() - 2;
        let (sent, report) = run(&cable, &format!("--source 192.0.2.0/24 {reassembly}"), &frames);
        assert_eq!(xdp(&report, "dropped/source"), 2, "both fragments of what is mirrored");
        let (udp, others) = (xdp(&report, "passed/fragment"), xdp(&report, "passed/not_tunnel"));
        assert_eq!(udp.as_u64().unwrap() + others.as_u64().unwrap(), own as u64, "{report:#}");
        let mut buffer = [0; 2_000];
        let read = until("the service reads", || match service.recv(&mut buffer) {
            Ok(len) => Some(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("the service: {error}"),
        });
        assert_eq!(read, 1_000);
        let of = |protocol: u8, at: usize, value: u8| {
            let is = |frame: &&Vec<u8>| {
                frame.get(12..14) == Some(&[8, 0])
                    && frame.get(23) == Some(&protocol)
                    && frame.get(at) == Some(&value)
            };
            sent.iter().filter(is).count()
        };
        assert_eq!(of(1, 34, 0), 1, "an echo reply");
        // SYN and ACK, repeated because nobody answers.
        assert!(of(6, 47, 0x12) >= 1, "an answer of TCP");
    }
}
