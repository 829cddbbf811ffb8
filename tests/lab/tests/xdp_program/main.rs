//! The XDP program as a table: a packet in, its verdict and its counter out, through `BPF_PROG_TEST_RUN`.
//! Needs root.
//!
//! It tests the committed object, or the one in the directory that `MIRROR_EBPF_OBJECTS` names.

mod forwarding;
mod fragments;
mod split;
mod table;

use std::net::Ipv6Addr;

use mirror_ebpf::mirror::{Counter, PROGRAM, PROGRAM_FRAGS, STAMP_EVERY, STAMP_LEN};
use mirror_lab::{
    Result, XdpProgram,
    frames::{Outer, OuterIp, TARGET_MAC, TPID_8021AD, TPID_8021Q, inner_of_len},
    geneve::Geneve,
    xdp_program::{Counters, Own, Settings},
};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt::set_xdp_rx_ring_size},
};
use table::{
    Case, OTHER_VNI, VNI,
    action::{DROP, PASS, REDIRECT},
    arp, case, changed, common, frame, plain, source_filtered, vni_filtered, with_options,
};

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
    check(&program, &[case("neither is allowed", frame(&plain()), DROP, Counter::SourceRefused)])
}

#[test]
fn every_place_of_the_port_setting_counts() -> Result<()> {
    let ports = [4789, 6081, 8472, 65535];
    for entry in ENTRIES {
        let program = XdpProgram::load(entry, &Settings { ports, ..Settings::default() })?;
        let to = |port| changed(|outer| outer.destination_port = port);
        let ours = ports.map(|port| case("a tunnel port", to(port), PASS, Counter::NoSocket));
        check(&program, &ours)?;
        let others =
            [0, 53, 4790, 6080, 6082].map(|port| case("another", to(port), PASS, Counter::NotTunnel));
        check(&program, &others)?;
    }
    Ok(())
}

#[test]
fn geneve_is_passed_by_name() -> Result<()> {
    let geneve = changed(|outer| outer.destination_port = 6081);
    for entry in ENTRIES {
        let program = XdpProgram::load(entry, &Settings::default())?;
        check(&program, &[case("GENEVE", geneve.clone(), PASS, Counter::Geneve)])?;
    }
    Ok(())
}

#[test]
fn geneve_to_its_ports_is_ours_whatever_is_refused_and_never_read_as_vxlan() -> Result<()> {
    let geneve_ports = [6081, 7000, 7001, 65535];
    let settings = Settings { geneve_ports, vni_filter: true, source_filter: true, ..Settings::default() };
    let own = Own { mac: TARGET_MAC, v4: vec![[10, 10, 10, 9].into()], v6: Vec::new() };
    for entry in ENTRIES {
        // Nothing is in the lists.
        let program = XdpProgram::load(entry, &settings)?;
        let to = |port| {
            let mut geneve = Geneve::aws(1, 2, 3);
            geneve.outer.destination_port = port;
            geneve.encapsulate_mirrored(&plain(), &[0; 60]).expect("values that fit")
        };
        let ours = geneve_ports.map(|port| case("GENEVE", to(port), PASS, Counter::NoSocket));
        check(&program, &ours)?;
        check(&program, &[case("VXLAN", frame(&plain()), DROP, Counter::SourceRefused)])?;
        let others = [0, 6080, 7002].map(|port| case("another", to(port), PASS, Counter::NotTunnel));
        check(&program, &others)?;
        let program = XdpProgram::load(entry, &Settings { own: Some(own.clone()), ..settings.clone() })?;
        check(&program, &[case("GENEVE to another", to(6081), PASS, Counter::NotLocal)])?;
    }
    Ok(())
}

#[test]
fn frames_addressed_to_others_are_passed_before_anything_is_refused() -> Result<()> {
    use Counter::{Fragment, NoSocket, NotLocal, NotTunnel, SourceRefused};
    let v4 = |destination: [u8; 4]| {
        changed(|outer| {
            if let OuterIp::V4 { destination: place, .. } = &mut outer.ip {
                *place = destination.into();
            }
        })
    };
    let v6 = |destination: Ipv6Addr, source: Option<Ipv6Addr>| {
        let mut outer = Outer::sample_v6(VNI, &[]);
        if let OuterIp::V6 { destination: place, source: from, .. } = &mut outer.ip {
            *place = destination;
            *from = source.unwrap_or(*from);
        }
        frame(&outer)
    };
    let to_mac = |last| changed(|outer| outer.destination_mac[5] = last);
    let from = |source: [u8; 4]| {
        changed(|outer| {
            if let OuterIp::V4 { source: place, .. } = &mut outer.ip {
                *place = source.into();
            }
        })
    };
    let sample = plain();
    let (mine, second) = ([10, 10, 10, 1], [10, 10, 10, 9]);
    let (mine_v6, other_v6): (Ipv6Addr, Ipv6Addr) =
        ("2001:db8::2".parse().unwrap(), "2001:db8::3".parse().unwrap());
    let own = |v4: &[[u8; 4]], v6: &[Ipv6Addr]| Own {
        mac: sample.destination_mac,
        v4: v4.iter().map(|address| (*address).into()).collect(),
        v6: v6.to_vec(),
    };
    let others = |name, frame| case(name, frame, PASS, NotLocal);
    for entry in ENTRIES {
        for source_filter in [false, true] {
            let settings = |own| Settings { own: Some(own), source_filter, ..Settings::default() };
            let taken = |name, frame| {
                if source_filter {
                    case(name, frame, DROP, SourceRefused)
                } else {
                    case(name, frame, PASS, NoSocket)
                }
            };
            let program = XdpProgram::load(entry, &settings(own(&[mine, second], &[mine_v6])))?;
            check(
                &program,
                &[
                    taken("to its address", v4(mine)),
                    taken("to its second address", v4(second)),
                    others("to another host's address", v4([10, 10, 10, 2])),
                    others("to the broadcast address", v4([255; 4])),
                    others("to another MAC", to_mac(0x77)),
                    others("to the broadcast MAC", changed(|outer| outer.destination_mac = [0xff; 6])),
                    others("from a loopback address", from([127, 0, 0, 1])),
                    others("from another one", from([127, 255, 255, 254])),
                    taken("to its IPv6 address", v6(mine_v6, None)),
                    others("to another IPv6 address", v6(other_v6, None)),
                    others("from ::1", v6(mine_v6, Some(Ipv6Addr::LOCALHOST))),
                    case(
                        "not a tunnel's, and to others",
                        changed(|outer| (outer.destination_port, outer.destination_mac) = (53, [9; 6])),
                        PASS,
                        NotTunnel,
                    ),
                ],
            )?;
            // Without an address of the family the MAC address alone decides.
            let program = XdpProgram::load(entry, &settings(own(&[], &[mine_v6])))?;
            check(
                &program,
                &[
                    taken("IPv4", v4([10, 10, 10, 2])),
                    others("IPv4 to another MAC", to_mac(0x77)),
                    others("IPv4 from a loopback address", from([127, 0, 0, 1])),
                    others("IPv6 to another address", v6(other_v6, None)),
                ],
            )?;
            let program = XdpProgram::load(entry, &settings(own(&[mine], &[])))?;
            check(
                &program,
                &[taken("IPv6", v6(other_v6, None)), others("IPv4 to another address", v4([10, 10, 10, 2]))],
            )?;
        }
        // Fragments have the verdict of their first.
        let settings = Settings { own: Some(own(&[second], &[])), fragments: true, ..Settings::default() };
        let program = XdpProgram::load(entry, &settings)?;
        let parts = mirror_lab::fragment(&v4([10, 10, 10, 2]), 7, &[64]).expect("fragments");
        check(
            &program,
            &[
                others("first fragment to another host", parts[0].clone()),
                case("the last", parts[1].clone(), PASS, Fragment),
            ],
        )?;
    }
    Ok(())
}

#[test]
fn the_verifier_has_room_left_with_all_features_on() -> Result<()> {
    // BPF_COMPLEXITY_LIMIT_INSNS, for all of a program's paths.
    const MOST: u32 = 1_000_000;
    let own = Own { mac: [2; 6], v4: vec![[10, 0, 0, 1].into()], v6: Vec::new() };
    for entry in ENTRIES {
        for filters in [false, true] {
            let settings = Settings {
                ports: [1, 2, 0, 0],
                geneve_ports: [3, 4, 0, 0],
                vni_filter: filters,
                source_filter: filters,
                stamp: true,
                fragments: true,
                own: Some(own.clone()),
                group: false,
                tunnels: false,
                split: None,
            };
            let Some(verified) = XdpProgram::load(entry, &settings)?.verified()? else { continue };
            println!("{entry}, filters {filters}: {verified} instructions");
            assert!(verified < MOST / 4, "{entry}, filters {filters}: {verified} instructions");
        }
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

/// Every length of a frame up to and with its inner Ethernet header, and the length at which each layer is
/// whole.
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
        program.set_socket(0, xdp_socket())?;
        // The socket is closed by now, which removed it from the map.
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

fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).expect("time since boot") * 1_000_000_000
        + u64::try_from(now.tv_nsec).expect("a fraction of a second")
}

#[test]
fn the_stamp_is_the_monotonic_clock_in_front_of_ours_alone() -> Result<()> {
    for entry in ENTRIES {
        let mut program = XdpProgram::load(entry, &Settings { stamp: true, ..Settings::default() })?;
        let socket = xdp_socket();
        program.set_socket(0, &socket)?;
        for len in [50, 60, 64, 1514 - 50] {
            let inner = inner_of_len(len).expect("an inner frame");
            let ours = plain().encapsulate(&inner).expect("values that fit");
            let before = monotonic();
            let outcome = program.run(&ours)?;
            let after = monotonic();
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

#[test]
fn however_fast_frames_come_one_in_sixteen_is_stamped() -> Result<()> {
    let mut program = XdpProgram::load(ENTRIES[0], &Settings { stamp: true, ..Settings::default() })?;
    let socket = xdp_socket();
    program.set_socket(0, &socket)?;
    let ours = plain().encapsulate(&inner_of_len(64).expect("an inner frame")).expect("values that fit");
    // Several thousand runs a tick, most of them on one CPU.
    let (mut left_out, mut most_in_a_row) = (0_u64, 0);
    for _ in 0..40_000 {
        let before = monotonic();
        let outcome = program.run(&ours)?;
        let after = monotonic();
        assert_eq!(outcome.action, REDIRECT);
        if outcome.metadata.is_empty() {
            left_out += 1;
            most_in_a_row = most_in_a_row.max(left_out);
            continue;
        }
        left_out = 0;
        let stamp: [u8; STAMP_LEN] = outcome.metadata.try_into().expect("eight bytes of metadata");
        let stamp = u64::from_ne_bytes(stamp);
        assert!((before..=after).contains(&stamp), "{stamp} is not within {before} to {after}");
    }
    assert!(most_in_a_row > 0, "frames never came fast enough for one to be left out");
    // Each CPU has its own count, and the test may be moved from one to another.
    assert!(most_in_a_row < 2 * STAMP_EVERY, "{most_in_a_row} frames without a stamp between them");
    Ok(())
}
