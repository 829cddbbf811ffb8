//! Sinks that select different tunnels: the program forwards what only the sink of its targets selects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mirror_ebpf::mirror::{Counter, PROGRAM_FORWARD};
use mirror_lab::{
    Result, XdpProgram,
    frames::{Outer, OuterIp},
    xdp_program::{Counters, Settings, Split},
};

use rustix::fd::OwnedFd;

use super::{
    forwarding::with_target,
    table::{action::REDIRECT, inner},
    xdp_socket,
};

/// The sink of the targets, another, and both.
const TARGET: u64 = 1;
const OTHER: u64 = 1 << 63;
const BOTH: u64 = TARGET | OTHER;

/// Whether a frame is forwarded; else it is redirected to the ring, and still whole.
#[track_caller]
fn is_forwarded(program: &XdpProgram, outer: &Outer) -> bool {
    let frame = outer.encapsulate(&inner()).expect("values that fit");
    let before = program.counters().expect("counters");
    let outcome = program.run(&frame).expect("a run");
    assert_eq!(outcome.action, REDIRECT, "to a target or to the ring");
    let counted = program.counters().expect("counters").since(&before);
    let forwarded = counted == Counters::of(&[Counter::Seen, Counter::Forwarded]);
    let (verdict, left) =
        if forwarded { (Counter::Forwarded, inner()) } else { (Counter::Redirected, frame) };
    assert_eq!((counted, outcome.frame), (Counters::of(&[Counter::Seen, verdict]), left));
    forwarded
}

fn split() -> Split {
    let (vnis, v4, v6) = (Vec::new(), Vec::new(), Vec::new());
    Split { vnis, other_vnis: 0, v4, v6, other_sources: 0 }
}

/// The outer headers of every kind that is forwarded.
fn outers(vni: u32) -> [Outer; 4] {
    let tagged = Outer { tags: vec![(0x8100, 7)], ..Outer::sample(vni) };
    let tagged_v6 = Outer { tags: vec![(0x8100, 7)], ..Outer::sample_v6(vni, &[]) };
    [Outer::sample(vni), tagged, Outer::sample_v6(vni, &[]), tagged_v6]
}

/// With a socket, which is kept for the ring. With origins, the last that was forwarded is known.
fn load(split: &Split, origins: bool) -> Result<(XdpProgram, OwnedFd)> {
    let settings = Settings { split: Some(split.clone()), group: origins, ..Settings::default() };
    let mut program = with_target(XdpProgram::load(PROGRAM_FORWARD, &settings)?);
    let socket = xdp_socket();
    program.set_socket(0, &socket)?;
    Ok((program, socket))
}

#[test]
fn only_vnis_that_no_other_sink_selects_are_forwarded() -> Result<()> {
    let vnis = vec![(1, TARGET), (2, OTHER), (3, BOTH), (4, 0), (0xff_ffff, TARGET)];
    for (other_vnis, origins) in [0, TARGET, OTHER, BOTH].into_iter().flat_map(|o| [(o, false), (o, true)]) {
        let (program, _socket) = load(&Split { vnis: vnis.clone(), other_vnis, ..split() }, origins)?;
        for (vni, sinks) in vnis.iter().copied().chain([(5, other_vnis), (0x01_0000, other_vnis)]) {
            for outer in outers(vni) {
                for _ in 0..2 {
                    assert_eq!(is_forwarded(&program, &outer), sinks == TARGET, "VNI {vni}: {outer:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn of_outer_sources_the_longest_prefix_decides() -> Result<()> {
    let v4 = |address: &str, len, sinks| (address.parse::<Ipv4Addr>().expect("an address"), len, sinks);
    let v6 = |address: &str, len, sinks| (address.parse::<Ipv6Addr>().expect("an address"), len, sinks);
    let split = Split {
        v4: vec![v4("10.0.0.0", 8, TARGET), v4("10.1.0.0", 16, BOTH), v4("10.1.2.0", 24, TARGET)],
        v6: vec![v6("2001:db8::", 32, BOTH), v6("2001:db8:1::", 48, TARGET), v6("2001:db8:1::9", 128, OTHER)],
        other_sources: OTHER,
        ..split()
    };
    let sources = [
        ("10.255.0.1", true),
        ("10.1.255.1", false),
        ("10.1.2.3", true),
        ("10.1.3.3", false),
        ("11.0.0.1", false),
        ("2001:db8:1::8", true),
        ("2001:db8:1::9", false),
        ("2001:db8:2::8", false),
        ("2001:db9::8", false),
    ];
    let check = |program: &XdpProgram, vni, is_target: &dyn Fn(bool) -> bool| {
        for (source, wanted) in sources {
            for outer in outers(vni) {
                let outer = match (source.parse().expect("an address"), &outer.ip) {
                    (IpAddr::V4(source), OuterIp::V4 { destination, .. }) => {
                        let destination = *destination;
                        outer.between(source, destination)
                    }
                    (IpAddr::V6(source), OuterIp::V6 { destination, .. }) => {
                        let destination = *destination;
                        outer.between(source, destination)
                    }
                    _ => continue,
                };
                for _ in 0..2 {
                    assert_eq!(is_forwarded(program, &outer), is_target(wanted), "{source}, VNI {vni}");
                }
            }
        }
    };
    // With VNIs too, a sink has to select both.
    let by_both = Split { vnis: vec![(1, TARGET), (2, OTHER)], other_vnis: BOTH, ..split.clone() };
    for origins in [false, true] {
        let (program, _socket) = load(&split, origins)?;
        check(&program, 7, &|wanted| wanted);
        let (program, _socket) = load(&by_both, origins)?;
        check(&program, 7, &|wanted| wanted);
        check(&program, 2, &|_| false);
        for (source, wanted) in [([10, 1, 255, 1], true), ([10, 255, 0, 1], true), ([11, 0, 0, 1], false)] {
            let outer = Outer::sample(1).between(source, [10, 10, 10, 1]);
            assert_eq!(is_forwarded(&program, &outer), wanted, "{source:?}: the other selects VNI 2");
        }
    }
    Ok(())
}
