//! What copies are put into: packets of IPv6, and packets of a path with a short MTU.

use std::{fs, net::Ipv6Addr, process::Command};

use mirror_lab::{Exchange, run};
use nix::sys::signal::Signal;

use super::{
    CLIENT, ETHERNET, SOURCE, Subnet, TARGET, UDP, VNI, accept, accept_all, assert_same_frames,
    common::{CAPTURE, mirror::whole_capture},
    filter, of_sessions, session,
};

const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const TARGET_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);
/// Ethernet, IPv6, UDP and VXLAN.
const HEADERS_V6: usize = 14 + 40 + 8 + 8;

/// Whole packets of IPv4, with the checksum that UDP over IPv6 must have.
#[test]
fn copies_reach_a_target_that_has_an_ipv6_address() {
    let subnet = Subnet::lay(true);
    for (host, interface, address) in
        [(&subnet.source, ETHERNET, SOURCE_V6), (&subnet.cable.target, CAPTURE, TARGET_V6)]
    {
        host.sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "0").expect("IPv6");
        host.ip(&format!("address add {address}/64 dev {interface} nodad")).expect("address");
    }
    let hardware = subnet.cable.veth.b.hardware_address().expect("address");
    let neighbour = format!("neighbour replace {TARGET_V6} lladdr {hardware} dev {ETHERNET} nud permanent");
    subnet.source.ip(&neighbour).expect("neighbour");
    subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session(1, "tmf-1")]);
    let _server = subnet.serve(80);
    let (witness, target) =
        (subnet.witness(&format!("ip host {CLIENT}")), subnet.ingest("--outer -w outer.pcapng"));
    let source = subnet.mirror_to(TARGET_V6, "");
    subnet.http(80, Exchange::PostEcho(100_000));
    let seen = witness.stop().expect("witness");
    assert_eq!(seen.dropped, 0);
    let (source, target) = subnet.end_both(source, target);
    let sent = of_sessions(&source, "sent");
    assert_eq!(target["origins"][0]["source"], SOURCE_V6.to_string(), "{target:#}");

    let file = subnet.path().join("outer.pcapng");
    let copies = whole_capture(&file).frames();
    assert_same_frames(seen.frames, copies.iter().map(|copy| copy[HEADERS_V6..].to_vec()).collect());
    // 1 is "good".
    let filter = format!(
        "ipv6.src=={SOURCE_V6} && ipv6.dst=={TARGET_V6} && ipv6.hlim==255 && udp.dstport==4789 \
        && udp.srcport>=65408 && udp.checksum.status==1 && vxlan.vni=={VNI}"
    );
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-o", "udp.check_checksum:TRUE", "-r"]).arg(&file).args(["-Y", &filter]);
    let found = run(&mut tshark).expect("tshark").lines().count();
    assert_eq!(found as u64, sent, "copies with these headers");
}

/// The longest that fits is among them, and one byte more.
#[test]
fn what_does_not_fit_into_the_mtu_of_the_path_is_truncated_or_with_oversize_drop_left_out_and_counted() {
    const PORT: u16 = 7001;
    const MTU: usize = 1_000;
    /// IPv4, UDP and VXLAN are within the MTU.
    const ROOM: usize = MTU - 20 - 8 - 8;
    /// Headers of each datagram of the client: Ethernet, IPv4 and UDP.
    const HEADERS: usize = 14 + 20 + 8;
    let lengths = [HEADERS + 10, ROOM - 1, ROOM, ROOM + 1, 1_514];
    let subnet = Subnet::lay(false);
    let route = format!("route add {TARGET}/32 dev {ETHERNET} src {SOURCE} mtu {MTU}");
    subnet.source.ip(&route).expect("a route");
    subnet.set_up(&[filter("tmf-1", &accept(UDP, &[PORT]), &[])], &[session(1, "tmf-1")]);
    let socket = subnet.socket();
    for (flags, expected, counts) in [
        ("", vec![lengths[0], ROOM - 1, ROOM, ROOM, ROOM], [("sent", 5), ("oversize", 0), ("truncated", 2)]),
        (
            "--oversize drop",
            vec![lengths[0], ROOM - 1, ROOM],
            [("sent", 3), ("oversize", 2), ("truncated", 0)],
        ),
    ] {
        let target = subnet.ingest("-w inner.pcapng");
        let source = subnet.mirror_with(flags);
        for length in lengths {
            socket.send_to(&vec![b'.'; length - HEADERS], (SOURCE, PORT)).expect("sent");
        }
        let report = subnet.end(source);
        for (counter, packets) in counts {
            assert_eq!(of_sessions(&report, counter), packets, "{flags} {counter}: {report:#}");
        }
        assert_eq!(of_sessions(&report, "segments"), lengths.len() as u64, "{report:#}");
        target.has(expected.len() as u64);
        target.end_by(Signal::SIGINT).expect_code(0);
        let captured = whole_capture(&subnet.captured());
        assert_eq!(captured.packets.iter().map(|it| it.bytes.len()).collect::<Vec<_>>(), expected, "{flags}");
        fs::remove_file(subnet.captured()).expect("removed");
    }
}
