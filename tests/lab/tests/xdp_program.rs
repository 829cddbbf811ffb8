//! The XDP program as a table: a packet in, its verdict and its counter out, through `BPF_PROG_TEST_RUN`. Needs root.
//!
//! It tests the committed object, or the one in the directory that `MIRROR_EBPF_OBJECTS` names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use action::{DROP, PASS, REDIRECT};
use mirror_ebpf::mirror::{Counter, PROGRAM, PROGRAM_FRAGS, STAMP_LEN};
use mirror_lab::{
    Result, XdpProgram,
    frames::{Outer, OuterIp, TPID_8021AD, TPID_8021Q, inner_of_len, inner_udp},
    xdp_program::{Counters, Settings},
};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt::set_xdp_rx_ring_size},
};

/// XDP actions (`enum xdp_action`, include/uapi/linux/bpf.h).
mod action {
    pub(crate) const DROP: u32 = 1;
    pub(crate) const PASS: u32 = 2;
    pub(crate) const REDIRECT: u32 = 4;
}

const VNI: u32 = 12345;
const OTHER_VNI: u32 = 54321;

/// A packet and what the program must make of it.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    action: u32,
    counter: Counter,
}

fn case(name: &'static str, frame: Vec<u8>, action: u32, counter: Counter) -> Case {
    Case { name, frame, action, counter }
}

fn inner() -> Vec<u8> {
    inner_of_len(60).expect("an inner frame")
}

fn plain() -> Outer {
    Outer::sample(VNI)
}

fn frame(outer: &Outer) -> Vec<u8> {
    outer.encapsulate(&inner()).expect("values that fit")
}

/// [`plain`] with changes.
fn changed(change: impl FnOnce(&mut Outer)) -> Vec<u8> {
    let mut outer = plain();
    change(&mut outer);
    frame(&outer)
}

fn fragment(offset: u16, more: bool) -> Vec<u8> {
    changed(|outer| {
        if let OuterIp::V4 { fragment_offset, more_fragments, .. } = &mut outer.ip {
            (*fragment_offset, *more_fragments) = (offset, more);
        }
    })
}

fn with_options(len: usize) -> Outer {
    let mut outer = plain();
    if let OuterIp::V4 { options, .. } = &mut outer.ip {
        // NOP (RFC 791 section 3.1).
        *options = vec![1; len];
    }
    outer
}

fn extension(number: u8, bytes: &[u8]) -> Vec<u8> {
    frame(&Outer::sample_v6(VNI, &[(number, bytes.to_vec())]))
}

/// A frame whose byte at `offset` is another.
fn patched(mut frame: Vec<u8>, offset: usize, byte: u8) -> Vec<u8> {
    frame[offset] = byte;
    frame
}

fn arp() -> Vec<u8> {
    let mut frame = frame(&plain());
    frame.truncate(60);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame
}

fn tcp_to(port: u16) -> Vec<u8> {
    changed(|outer| {
        outer.protocol = 6;
        outer.destination_port = port;
    })
}

fn tags(tags: &[(u16, u16)]) -> Vec<u8> {
    changed(|outer| outer.tags = tags.to_vec())
}

fn v6_between(source: Ipv6Addr) -> Vec<u8> {
    let mut outer = Outer::sample_v6(VNI, &[]);
    if let OuterIp::V6 { source: place, .. } = &mut outer.ip {
        *place = source;
    }
    frame(&outer)
}

fn v4_from(source: Ipv4Addr) -> Vec<u8> {
    changed(|outer| {
        if let OuterIp::V4 { source: place, .. } = &mut outer.ip {
            *place = source;
        }
    })
}

/// What any setting agrees on. No socket stands on the queue, so what is ours is passed and counted as such.
fn common() -> Vec<Case> {
    use Counter::{Extension, Fragment, Malformed, NoSocket, NotTunnel};
    let q = (TPID_8021Q, 7);
    let ad = (TPID_8021AD, 9);
    let hop_by_hop = [0, 0, 1, 4, 0, 0, 0, 0];
    vec![
        case("plain", frame(&plain()), PASS, NoSocket),
        case("plain with a UDP checksum", changed(|outer| outer.udp_checksum = true), PASS, NoSocket),
        case("source port of the resolver", changed(|outer| outer.source_port = 65408), PASS, NoSocket),
        case("don't fragment", patched(frame(&plain()), 20, 0x40), PASS, NoSocket),
        case("reserved fragment bit", patched(frame(&plain()), 20, 0x80), PASS, NoSocket),
        case("TOS set", patched(frame(&plain()), 15, 0xb8), PASS, NoSocket),
        case("VLAN", tags(&[q]), PASS, NoSocket),
        case("VLAN with priority and DEI", tags(&[(TPID_8021Q, 0xf007)]), PASS, NoSocket),
        case("802.1ad alone", tags(&[ad]), PASS, NoSocket),
        case("QinQ", tags(&[ad, q]), PASS, NoSocket),
        case("two tags of 802.1Q", tags(&[q, q]), PASS, NoSocket),
        case("three tags", tags(&[ad, q, q]), PASS, NotTunnel),
        case(
            "VLAN with IPv6",
            {
                let mut outer = Outer::sample_v6(VNI, &[]);
                outer.tags = vec![q];
                frame(&outer)
            },
            PASS,
            NoSocket,
        ),
        case(
            "VLAN with ARP",
            {
                let mut frame = tags(&[q]);
                frame[16..18].copy_from_slice(&[0x08, 0x06]);
                frame
            },
            PASS,
            NotTunnel,
        ),
        case("IHL 6", frame(&with_options(4)), PASS, NoSocket),
        case("IHL 15", frame(&with_options(40)), PASS, NoSocket),
        case(
            "IHL 15 and QinQ",
            {
                let mut outer = with_options(40);
                outer.tags = vec![ad, q];
                frame(&outer)
            },
            PASS,
            NoSocket,
        ),
        case("IHL 4", patched(frame(&plain()), 14, 0x44), PASS, Malformed),
        case("IHL 0", patched(frame(&plain()), 14, 0x40), PASS, Malformed),
        case("IHL beyond the frame", patched(frame(&plain())[..60].to_vec(), 14, 0x4f), PASS, Malformed),
        case("version 6 under IPv4's ethertype", patched(frame(&plain()), 14, 0x65), PASS, Malformed),
        case("version 4 under IPv6's ethertype", patched(extension(17, &[]), 14, 0x40), PASS, Malformed),
        case("first fragment", fragment(0, true), PASS, Fragment),
        case("middle fragment", fragment(185, true), PASS, Fragment),
        case("last fragment", fragment(185, false), PASS, Fragment),
        case("last fragment at the greatest offset", fragment(0x1fff, false), PASS, Fragment),
        case("fragment of TCP", patched(fragment(185, true), 23, 6), PASS, NotTunnel),
        case("TCP to our port", tcp_to(4789), PASS, NotTunnel),
        case("TCP to SSH", tcp_to(22), PASS, NotTunnel),
        case("ICMP", patched(frame(&plain()), 23, 1), PASS, NotTunnel),
        case("UDP-Lite", patched(frame(&plain()), 23, 136), PASS, NotTunnel),
        case("ARP", arp(), PASS, NotTunnel),
        case("LLDP", patched(patched(arp(), 12, 0x88), 13, 0xcc), PASS, NotTunnel),
        case("IEEE 802.3 with a length", patched(patched(arp(), 12, 0), 13, 46), PASS, NotTunnel),
        case("DNS", changed(|outer| outer.destination_port = 53), PASS, NotTunnel),
        case("one port below", changed(|outer| outer.destination_port = 4788), PASS, NotTunnel),
        case(
            "our port with its bytes swapped",
            changed(|outer| outer.destination_port = 4789_u16.swap_bytes()),
            PASS,
            NotTunnel,
        ),
        case(
            "our port as source only",
            changed(|outer| (outer.source_port, outer.destination_port) = (4789, 40000)),
            PASS,
            NotTunnel,
        ),
        case(
            "port 0, the empty place of the setting",
            changed(|outer| outer.destination_port = 0),
            PASS,
            NotTunnel,
        ),
        case(
            "a second tunnel port that is not set",
            changed(|outer| outer.destination_port = 6081),
            PASS,
            NotTunnel,
        ),
        case("I flag missing", changed(|outer| outer.vxlan_flags = 0), PASS, NoSocket),
        case(
            "reserved bits",
            changed(|outer| {
                outer.vxlan_flags = 0xff;
                outer.vxlan_reserved = [0xff; 4];
            }),
            PASS,
            NoSocket,
        ),
        case("VXLAN with nothing inside", plain().encapsulate(&[]).expect("values that fit"), PASS, NoSocket),
        case(
            "UDP to our port with no payload",
            plain().frame_of_udp(&[]).expect("values that fit"),
            PASS,
            NoSocket,
        ),
        case(
            "1500 bytes inside",
            plain().encapsulate(&inner_of_len(1500).expect("an inner frame")).expect("values that fit"),
            PASS,
            NoSocket,
        ),
        case(
            "IPv6 inside",
            {
                let end = |last: u16| (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last)), 9);
                plain()
                    .encapsulate(&inner_udp(end(1), end(2), b"payload").expect("an inner frame"))
                    .expect("values that fit")
            },
            PASS,
            NoSocket,
        ),
        case("IPv6", frame(&Outer::sample_v6(VNI, &[])), PASS, NoSocket),
        case(
            "IPv6 and QinQ",
            {
                let mut outer = Outer::sample_v6(VNI, &[]);
                outer.tags = vec![ad, q];
                frame(&outer)
            },
            PASS,
            NoSocket,
        ),
        case("IPv6 with TCP", patched(frame(&Outer::sample_v6(VNI, &[])), 20, 6), PASS, NotTunnel),
        case("IPv6 with ICMPv6", patched(frame(&Outer::sample_v6(VNI, &[])), 20, 58), PASS, NotTunnel),
        case(
            "IPv6 with no next header",
            patched(frame(&Outer::sample_v6(VNI, &[])), 20, 59),
            PASS,
            NotTunnel,
        ),
        case(
            "IPv6 to DNS",
            {
                let mut outer = Outer::sample_v6(VNI, &[]);
                outer.destination_port = 53;
                frame(&outer)
            },
            PASS,
            NotTunnel,
        ),
        case("IPv6 hop-by-hop options", extension(0, &hop_by_hop), PASS, Extension),
        case("IPv6 routing header", extension(43, &[0; 8]), PASS, Extension),
        case("IPv6 fragment", extension(44, &[0, 0, 0, 1, 0, 0, 0, 1]), PASS, Fragment),
        case("IPv6 ESP", extension(50, &[0, 0, 0, 1, 0, 0, 0, 1]), PASS, Extension),
        case(
            "IPv6 authentication header",
            extension(51, &[0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]),
            PASS,
            Extension,
        ),
        case("IPv6 destination options", extension(60, &hop_by_hop), PASS, Extension),
        case("IPv6 mobility header", extension(135, &[0; 8]), PASS, Extension),
        case("IPv6 host identity", extension(139, &[0; 8]), PASS, Extension),
        case("IPv6 shim6", extension(140, &[0; 8]), PASS, Extension),
    ]
}

fn vni_filtered() -> Vec<Case> {
    use Counter::{Fragment, NoSocket, NotTunnel, VniRefused};
    let other = |change: fn(&mut Outer)| {
        let mut outer = Outer::sample(OTHER_VNI);
        change(&mut outer);
        frame(&outer)
    };
    vec![
        case("VNI let in", frame(&plain()), PASS, NoSocket),
        case("VNI refused", other(|_| ()), DROP, VniRefused),
        case("VNI 0", frame(&Outer::sample(0)), DROP, VniRefused),
        case("greatest VNI", frame(&Outer::sample(0xff_ffff)), DROP, VniRefused),
        case("VNI refused over IPv6", frame(&Outer::sample_v6(OTHER_VNI, &[])), DROP, VniRefused),
        case("VNI let in over IPv6", frame(&Outer::sample_v6(VNI, &[])), PASS, NoSocket),
        case(
            "VNI refused behind options",
            {
                let mut outer = with_options(40);
                outer.vni = OTHER_VNI;
                frame(&outer)
            },
            DROP,
            VniRefused,
        ),
        case(
            "VNI refused behind two tags",
            other(|outer| outer.tags = vec![(TPID_8021AD, 1), (TPID_8021Q, 2)]),
            DROP,
            VniRefused,
        ),
        case(
            "reserved byte after the VNI is not part of it",
            changed(|outer| outer.vxlan_reserved = [0, 0, 0, 0xff]),
            PASS,
            NoSocket,
        ),
        case("I flag missing: for user space to name", other(|outer| outer.vxlan_flags = 0), PASS, NoSocket),
        case("all other flags: still no VNI", other(|outer| outer.vxlan_flags = 0xf7), PASS, NoSocket),
        case(
            "header cut short: for user space to name",
            Outer::sample(OTHER_VNI).frame_of_udp(&[8, 0, 0, 0, 0, 0, 1]).expect("values that fit"),
            PASS,
            NoSocket,
        ),
        case("fragment before VNI", fragment(0, true), PASS, Fragment),
        case("other port with a VNI refused", other(|outer| outer.destination_port = 53), PASS, NotTunnel),
    ]
}

fn source_filtered() -> Vec<Case> {
    use Counter::{Extension, Fragment, NoSocket, NotTunnel, SourceRefused};
    vec![
        case("source in the network", v4_from(Ipv4Addr::new(10, 10, 10, 252)), PASS, NoSocket),
        case("first address of the network", v4_from(Ipv4Addr::new(10, 10, 0, 0)), PASS, NoSocket),
        case("last address of the network", v4_from(Ipv4Addr::new(10, 10, 255, 255)), PASS, NoSocket),
        case("one address above", v4_from(Ipv4Addr::new(10, 11, 0, 0)), DROP, SourceRefused),
        case("one address below", v4_from(Ipv4Addr::new(10, 9, 255, 255)), DROP, SourceRefused),
        case("single host", v4_from(Ipv4Addr::new(192, 0, 2, 1)), PASS, NoSocket),
        case("next to the single host", v4_from(Ipv4Addr::new(192, 0, 2, 2)), DROP, SourceRefused),
        case(
            "IPv6 source in the network",
            v6_between(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfc)),
            PASS,
            NoSocket,
        ),
        case(
            "IPv6 source outside",
            v6_between(Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 0xfc)),
            DROP,
            SourceRefused,
        ),
        case(
            "refused source to another port",
            changed(|outer| {
                outer.destination_port = 53;
                if let OuterIp::V4 { source, .. } = &mut outer.ip {
                    *source = Ipv4Addr::new(203, 0, 113, 1);
                }
            }),
            PASS,
            NotTunnel,
        ),
        case("fragment of a refused source", patched(fragment(0, true), 26, 203), PASS, Fragment),
        case(
            "extension header of a refused source",
            patched(extension(0, &[0; 8]), 22, 0x30),
            PASS,
            Extension,
        ),
    ]
}

fn check(program: &XdpProgram, cases: &[Case]) -> Result<()> {
    for Case { name, frame, action, counter } in cases {
        let before = program.counters()?;
        let outcome = program.run(frame)?;
        let counted = program.counters()?.since(&before);
        assert_eq!(outcome.action, *action, "{name}");
        assert_eq!(counted, Counters::of(&[Counter::Seen, *counter]), "{name}");
        assert_eq!(outcome.frame, *frame, "{name}: the frame has changed");
        assert!(outcome.metadata.is_empty(), "{name}: metadata without the stamp");
    }
    Ok(())
}

/// An AF_XDP socket with an RX ring and nothing else: enough for a map to hold it.
fn xdp_socket() -> OwnedFd {
    let socket = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .expect("an AF_XDP socket; this kernel needs CONFIG_XDP_SOCKETS");
    set_xdp_rx_ring_size(&socket, 64).expect("an RX ring of 64");
    socket
}

const ENTRIES: [&str; 2] = [PROGRAM, PROGRAM_FRAGS];

#[test]
fn each_packet_has_its_verdict_and_its_counter() -> Result<()> {
    let cases = common();
    assert!(cases.len() >= 40);
    for entry in ENTRIES {
        check(&XdpProgram::load(entry, &Settings::default())?, &cases)?;
    }
    Ok(())
}

#[test]
fn filters_that_let_everything_in_change_no_verdict() -> Result<()> {
    for entry in ENTRIES {
        let settings = Settings { vni_filter: true, source_filter: true, ..Settings::default() };
        let mut program = XdpProgram::load(entry, &settings)?;
        program.allow_vni(VNI)?;
        program.allow_source_v4([0; 4], 0)?;
        program.allow_source_v6([0; 16], 0)?;
        check(&program, &common())?;
    }
    Ok(())
}

#[test]
fn a_vni_that_is_not_let_in_is_dropped() -> Result<()> {
    for entry in ENTRIES {
        let mut program = XdpProgram::load(entry, &Settings { vni_filter: true, ..Settings::default() })?;
        program.allow_vni(VNI)?;
        check(&program, &vni_filtered())?;
    }
    Ok(())
}

#[test]
fn a_source_that_is_not_let_in_is_dropped() -> Result<()> {
    for entry in ENTRIES {
        let mut program = XdpProgram::load(entry, &Settings { source_filter: true, ..Settings::default() })?;
        program.allow_source_v4([10, 10, 0, 0], 16)?;
        program.allow_source_v4([192, 0, 2, 1], 32)?;
        program.allow_source_v6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).octets(), 32)?;
        check(&program, &source_filtered())?;
    }
    Ok(())
}

#[test]
fn the_source_is_judged_before_the_vni() -> Result<()> {
    let settings = Settings { vni_filter: true, source_filter: true, ..Settings::default() };
    let program = XdpProgram::load(PROGRAM, &settings)?;
    check(&program, &[case("neither is let in", frame(&plain()), DROP, Counter::SourceRefused)])
}

#[test]
fn every_place_of_the_port_setting_counts() -> Result<()> {
    let ports = [4789, 6081, 8472, 65535];
    for entry in ENTRIES {
        let program = XdpProgram::load(entry, &Settings { ports, ..Settings::default() })?;
        let to = |port| changed(|outer| outer.destination_port = port);
        let ours = ports.map(|port| case("a tunnel port", to(port), PASS, Counter::NoSocket));
        check(&program, &ours)?;
        let others = [0, 53, 4790, 6080].map(|port| case("another", to(port), PASS, Counter::NotTunnel));
        check(&program, &others)?;
    }
    Ok(())
}

#[test]
fn without_ports_nothing_is_ours() -> Result<()> {
    let program = XdpProgram::load(PROGRAM, &Settings { ports: [0; 4], ..Settings::default() })?;
    let to_zero = changed(|outer| outer.destination_port = 0);
    check(
        &program,
        &[
            case("VXLAN", frame(&plain()), PASS, Counter::NotTunnel),
            case("port 0", to_zero, PASS, Counter::NotTunnel),
        ],
    )
}

/// Every length of a frame up to and with its inner Ethernet header, and the length at which each layer is whole.
#[test]
fn every_length_has_its_verdict() -> Result<()> {
    use Counter::{Malformed, NoSocket, VniRefused};
    let tagged = |mut outer: Outer, tags: &[(u16, u16)]| {
        outer.tags = tags.to_vec();
        outer
    };
    let q = (TPID_8021Q, 7);
    let shapes = [
        ("IPv4", Outer::sample(OTHER_VNI), 14 + 20 + 8),
        ("VLAN", tagged(Outer::sample(OTHER_VNI), &[q]), 18 + 20 + 8),
        ("QinQ", tagged(Outer::sample(OTHER_VNI), &[(TPID_8021AD, 9), q]), 22 + 20 + 8),
        ("IHL 15", Outer { vni: OTHER_VNI, ..with_options(40) }, 14 + 60 + 8),
        ("IPv6", Outer::sample_v6(OTHER_VNI, &[]), 14 + 40 + 8),
        ("IPv6 and QinQ", tagged(Outer::sample_v6(OTHER_VNI, &[]), &[(TPID_8021AD, 9), q]), 22 + 40 + 8),
    ];
    for entry in ENTRIES {
        let open = XdpProgram::load(entry, &Settings::default())?;
        let filtered = XdpProgram::load(entry, &Settings { vni_filter: true, ..Settings::default() })?;
        for (name, outer, udp_whole) in &shapes {
            let whole = frame(outer);
            let vxlan_whole = udp_whole + 8;
            for len in 14..=vxlan_whole + 14 {
                let cut = whole[..len].to_vec();
                let counter = if len < *udp_whole { Malformed } else { NoSocket };
                check(&open, &[case(name, cut.clone(), PASS, counter)])?;
                let (action, counter) = if len < vxlan_whole { (PASS, counter) } else { (DROP, VniRefused) };
                check(&filtered, &[case(name, cut, action, counter)])?;
            }
        }
    }
    Ok(())
}

#[test]
fn the_kernel_runs_nothing_shorter_than_an_ethernet_header() -> Result<()> {
    let program = XdpProgram::load(PROGRAM, &Settings::default())?;
    assert!(program.run(&frame(&plain())[..13]).is_err());
    assert_eq!(program.counters()?, Counters::default());
    Ok(())
}

#[test]
fn a_socket_on_the_queue_gets_what_is_ours_and_nothing_else() -> Result<()> {
    for entry in ENTRIES {
        let mut program = XdpProgram::load(entry, &Settings::default())?;
        program.set_socket(0, &xdp_socket())?;
        // The socket is closed by now, and has left the map with it.
        check(&program, &[case("socket closed", frame(&plain()), PASS, Counter::NoSocket)])?;
        let socket = xdp_socket();
        program.set_socket(1, &socket)?;
        check(&program, &[case("socket of another queue", frame(&plain()), PASS, Counter::NoSocket)])?;
        program.set_socket(0, &socket)?;
        let cases: Vec<Case> = common()
            .into_iter()
            .map(|mut case| {
                if case.counter == Counter::NoSocket {
                    (case.action, case.counter) = (REDIRECT, Counter::Redirected);
                }
                case
            })
            .collect();
        check(&program, &cases)?;
    }
    Ok(())
}

#[test]
fn the_stamp_is_the_monotonic_clock_in_front_of_ours_alone() -> Result<()> {
    let now = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        u64::try_from(now.tv_sec).expect("time since boot") * 1_000_000_000
            + u64::try_from(now.tv_nsec).expect("a fraction of a second")
    };
    for entry in ENTRIES {
        let mut program = XdpProgram::load(entry, &Settings { stamp: true, ..Settings::default() })?;
        let socket = xdp_socket();
        program.set_socket(0, &socket)?;
        for len in [50, 60, 64, 1514 - 50] {
            let inner = inner_of_len(len).expect("an inner frame");
            let ours = plain().encapsulate(&inner).expect("values that fit");
            let before = now();
            let outcome = program.run(&ours)?;
            let after = now();
            assert_eq!(outcome.action, REDIRECT);
            assert_eq!(outcome.frame, ours);
            let stamp: [u8; STAMP_LEN] = outcome.metadata.try_into().expect("eight bytes of metadata");
            let stamp = u64::from_ne_bytes(stamp);
            assert!((before..=after).contains(&stamp), "{stamp} is not within {before} to {after}");
        }
        let outcome = program.run(&arp())?;
        assert_eq!((outcome.action, outcome.metadata.len()), (PASS, 0));
    }
    Ok(())
}
