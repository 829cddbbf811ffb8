//! The program that forwards in the kernel: what is decapsulated, and what the ring gets unchanged.

use aya::maps::{Array, PerCpuArray, xdp::DevMap};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use mirror_ebpf::{
    flow::{Assignment, NO_MEMBER, SLOTS},
    mirror::{
        Counter, FORWARDED_INNER_BYTES, FORWARDED_OUTER_BYTES, Fate, FateCounts, MAP_ASSIGNMENT,
        MAP_COUNTERS, MAP_FATES, MAP_TARGETS, MAP_TUNNELS, PROGRAM_FORWARD, PerCpu, TUNNEL_HEADERS,
        TUNNEL_KEEPS_VNI, TUNNEL_KIND, TUNNEL_MTU, TUNNEL_SUM, TUNNEL_UNRESOLVED, TUNNEL_V4, TUNNEL_V6,
        TUNNEL_VNI, Tunnel,
    },
    wire::ETHERNET_HEADER,
};
use mirror_lab::{
    Result, XdpProgram,
    frames::{ENCAPSULATION, Outer, inner_of_len},
    geneve::{ETHERNET, Geneve},
    xdp_program::{Counters, Own, Settings, Split},
};

use super::{
    check,
    table::{
        Case, VNI,
        action::{DROP, PASS, REDIRECT},
        case, changed, common, frame, inner, patched, plain, source_filtered, vni_filtered,
    },
    xdp_socket,
};

/// Index of the loopback, in every network namespace.
const LOOPBACK: u32 = 1;
/// Offset of the UDP length in a frame without tags and options.
const UDP_LENGTH: usize = 14 + 20 + 4;

fn load(settings: &Settings) -> Result<XdpProgram> {
    XdpProgram::load(PROGRAM_FORWARD, settings)
}

/// Gives the program a target. Nothing is sent in a test run.
pub(super) fn with_target(mut program: XdpProgram) -> XdpProgram {
    let map = program.ebpf().map_mut(MAP_TARGETS).expect("the map");
    DevMap::try_from(map).expect("a DEVMAP").set(0, LOOPBACK, None, 0).expect("the loopback");
    program
}

/// Runs it on a frame of ours, which must be forwarded; returns what is forwarded.
#[track_caller]
fn forwarded(program: &XdpProgram, name: &str, frame: &[u8]) -> Vec<u8> {
    let before = program.counters().expect("counters");
    let outcome = program.run(frame).expect("a run");
    let counted = program.counters().expect("counters").since(&before);
    assert_eq!(outcome.action, REDIRECT, "{name}");
    assert_eq!(counted, Counters::of(&[Counter::Seen, Counter::Forwarded]), "{name}");
    outcome.frame
}

/// Cases of the table whose frames are ours, and are rejected or examined further in user space.
const FOR_THE_RING: [&str; 4] =
    ["I flag missing", "reserved bits", "VXLAN with nothing inside", "UDP to our port with no payload"];

#[test]
fn frames_of_ours_are_decapsulated_and_all_others_have_their_verdict() -> Result<()> {
    let program = with_target(load(&Settings::default())?);
    let (mut sent, mut left) = (0, 0);
    for case in common() {
        if case.counter != Counter::NoSocket || FOR_THE_RING.contains(&case.name) {
            left += u32::from(case.counter == Counter::NoSocket);
            check(&program, &[case])?;
            continue;
        }
        let inner = forwarded(&program, case.name, &case.frame);
        assert!(case.frame.ends_with(&inner), "{}: the end of the frame", case.name);
        let header = inner_of_len(60).expect("an inner frame");
        assert_eq!(inner[..12], header[..12], "{}: from the inner addresses on", case.name);
        sent += 1;
    }
    assert_eq!(left as usize, FOR_THE_RING.len());
    assert!(sent >= 15, "{sent}");
    Ok(())
}

#[test]
fn what_is_refused_by_vni_or_source_is_not_forwarded() -> Result<()> {
    let refused = |cases: Vec<Case>| cases.into_iter().filter(|case| case.counter != Counter::NoSocket);
    let mut program = load(&Settings { vni_filter: true, ..Settings::default() })?;
    program.allow_vni(VNI)?;
    check(&with_target(program), &refused(vni_filtered()).collect::<Vec<_>>())?;
    let mut program = load(&Settings { source_filter: true, ..Settings::default() })?;
    program.allow_source_v4([10, 10, 0, 0], 16)?;
    program.allow_source_v4([192, 0, 2, 1], 32)?;
    program.allow_source_v6([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 32)?;
    check(&with_target(program), &refused(source_filtered()).collect::<Vec<_>>())
}

#[test]
fn geneve_goes_to_the_ring_also_where_it_looks_like_vxlan() -> Result<()> {
    let settings = Settings { geneve_ports: [6081, 0, 0, 0], ..Settings::default() };
    let program = with_target(load(&settings)?);
    let geneve = Geneve::aws(1, 2, 3);
    let tagged =
        Geneve { outer: Outer { tags: vec![(0x8100, 7)], ..geneve.outer.clone() }, ..geneve.clone() };
    // 8 words of options and no protocol: the first word of VXLAN with a VNI.
    let like_vxlan = geneve.encapsulate(0, &inner()).expect("values that fit");
    assert_eq!(like_vxlan[42..46], [8, 0, 0, 0]);
    let cases = [
        ("VXLAN inside", geneve.encapsulate_mirrored(&plain(), &inner())),
        ("behind a tag", tagged.encapsulate_mirrored(&plain(), &inner())),
        ("Ethernet inside", Geneve::plain(7).encapsulate(ETHERNET, &inner())),
        ("as VXLAN looks", Ok(like_vxlan)),
    ];
    for (name, frame) in cases {
        check(&program, &[case(name, frame?, PASS, Counter::NoSocket)])?;
    }
    forwarded(&program, "VXLAN beside it", &frame(&plain()));
    Ok(())
}

#[test]
fn padding_behind_the_datagram_is_cut_off() -> Result<()> {
    let program = with_target(load(&Settings::default())?);
    for outer in [plain(), Outer::sample_v6(VNI, &[])] {
        let whole = frame(&outer);
        for padding in [1, 2, 10, 46] {
            let padded = [whole.as_slice(), &vec![0xee; padding]].concat();
            assert_eq!(forwarded(&program, "padded", &padded), inner(), "{padding}");
        }
    }
    // Inside the IP packet, behind the UDP datagram.
    let shorter = u16::try_from(8 + 8 + 40).expect("a length").to_be_bytes();
    let shorter = patched(patched(frame(&plain()), UDP_LENGTH, shorter[0]), UDP_LENGTH + 1, shorter[1]);
    assert_eq!(forwarded(&program, "UDP shorter than IP", &shorter), inner()[..40]);
    Ok(())
}

#[test]
fn inner_frames_of_every_length_arrive_whole() -> Result<()> {
    let program = with_target(load(&Settings::default())?);
    for len in [50, 60, 64, 114, 1000, 1450, 1500] {
        let inner = inner_of_len(len).expect("an inner frame");
        let outer = plain().encapsulate(&inner).expect("values that fit");
        assert_eq!(forwarded(&program, "a length", &outer), inner, "{len}");
    }
    // The least: an Ethernet header.
    let least = &inner()[..ETHERNET_HEADER];
    let outer = plain().encapsulate(least).expect("values that fit");
    assert_eq!(forwarded(&program, "the least", &outer), least);
    Ok(())
}

#[test]
fn bytes_are_counted_with_outer_headers_and_without() -> Result<()> {
    let mut program = with_target(load(&Settings::default())?);
    let padded = [frame(&plain()).as_slice(), &[0xee; 10]].concat();
    let six = frame(&Outer::sample_v6(VNI, &[]));
    for outer in [&padded, &six] {
        forwarded(&program, "counted", outer);
    }
    let map = program.ebpf().map_mut(MAP_COUNTERS).expect("the map");
    let map = PerCpuArray::<_, PerCpu>::try_from(map).expect("a per-CPU array");
    let values = map.get(&0, 0).expect("its one place");
    let sum = |word: usize| values.iter().map(|cpu| cpu[word]).sum::<u64>();
    let counted = (sum(FORWARDED_OUTER_BYTES), sum(FORWARDED_INNER_BYTES));
    assert_eq!(counted, ((padded.len() + six.len()) as u64, 2 * inner().len() as u64));
    Ok(())
}

/// Lengths that contradict each other are for user space to name.
#[test]
fn the_ring_gets_what_contradicts_itself_unchanged() -> Result<()> {
    let mut program = with_target(load(&Settings::default())?);
    let socket = xdp_socket();
    program.set_socket(0, &socket)?;
    let whole = frame(&plain());
    let cut = whole[..whole.len() - 1].to_vec();
    let below_ethernet = plain().encapsulate(&inner()[..13]).expect("values that fit");
    let ring = |name, frame| case(name, frame, REDIRECT, Counter::Redirected);
    check(
        &program,
        &[
            ring("cut", cut),
            ring("no whole inner Ethernet header", below_ethernet),
            ring("UDP length 0", patched(patched(whole.clone(), UDP_LENGTH, 0), UDP_LENGTH + 1, 0)),
            ring("UDP longer than IP", patched(whole.clone(), UDP_LENGTH, 0xff)),
            ring("IP length 0", patched(patched(whole.clone(), 16, 0), 17, 0)),
            ring("IP longer than the frame", patched(whole.clone(), 16, 0xff)),
            ring("a next protocol", changed(|outer| outer.vxlan_flags = 0x0c)),
            ring("a reserved byte", changed(|outer| outer.vxlan_reserved = [0, 0, 0, 1])),
        ],
    )
}

#[test]
fn fragments_go_to_the_ring() -> Result<()> {
    let mut program = with_target(load(&Settings { fragments: true, ..Settings::default() })?);
    let socket = xdp_socket();
    program.set_socket(0, &socket)?;
    let parts = mirror_lab::fragment(&frame(&plain()), 7, &[64]).expect("fragments");
    let ring = |frame: &Vec<u8>| case("a fragment", frame.clone(), REDIRECT, Counter::Redirected);
    check(&program, &parts.iter().map(ring).collect::<Vec<_>>())
}

#[test]
fn a_group_leaves_to_the_ring_what_takes_more_to_assign() -> Result<()> {
    let mut program = with_target(load(&Settings { group: true, ..Settings::default() })?);
    let socket = xdp_socket();
    program.set_socket(0, &socket)?;
    // The first member has all flows.
    forwarded(&program, "a flow", &frame(&plain()));
    let outer = |inner: &[u8]| plain().encapsulate(inner).expect("values that fit");
    let fragments = mirror_lab::fragment(&inner(), 7, &[16]).expect("fragments");
    let arp = patched(patched(inner(), ETHERNET_HEADER - 2, 0x08), ETHERNET_HEADER - 1, 0x06);
    let tagged = [&inner()[..12], &[0x81, 0, 0, 1], &inner()[12..]].concat();
    // Before the end of its ports.
    let cut = inner()[..36].to_vec();
    let frames = fragments.iter().chain([&arp, &tagged, &cut]);
    let ring = |frame: Vec<u8>| case("not a flow", frame, REDIRECT, Counter::Redirected);
    check(&program, &frames.map(|inner| ring(outer(inner))).collect::<Vec<_>>())?;
    let map = program.ebpf().map_mut(MAP_ASSIGNMENT).expect("the map");
    let mut map = Array::<_, Assignment>::try_from(map).expect("an array");
    map.set(0, [NO_MEMBER; SLOTS], 0).expect("no members");
    check(&program, &[ring(frame(&plain()))])
}

#[test]
fn without_a_target_frames_are_dropped_and_counted() -> Result<()> {
    let program = load(&Settings::default())?;
    let before = program.counters()?;
    let outcome = program.run(&frame(&plain()))?;
    assert_eq!(outcome.action, DROP);
    assert_eq!(program.counters()?.since(&before), Counters::of(&[Counter::Seen, Counter::NoTarget]));
    // What is not forwarded does not need one.
    check(&program, &[case("to the ring", changed(|o| o.vxlan_flags = 0), PASS, Counter::NoSocket)])
}

/// Outer headers around an inner frame, from which a tunnel's are taken.
fn template(outer: &Outer) -> Vec<u8> {
    outer.encapsulate(&inner()).expect("values that fit")
}

/// The value of a tunnel with the headers of this template.
fn tunnel(outer: &Outer, vni: Option<u32>) -> Tunnel {
    let mut headers = template(outer);
    let is_v4 = headers[12..14] == [0x08, 0x00];
    let (udp, zeroed): (usize, &[usize]) =
        if is_v4 { (34, &[16, 17, 24, 25, 34, 35]) } else { (54, &[18, 19, 54, 55]) };
    zeroed.iter().for_each(|byte| headers[*byte] = 0);
    let sum = |bytes: &[u8]| {
        let words = bytes.chunks(2).map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]])));
        words.sum::<u32>()
    };
    let mut value = Tunnel::default();
    value[TUNNEL_KIND] = if is_v4 { TUNNEL_V4 } else { TUNNEL_V6 };
    value[TUNNEL_VNI] = vni.map_or(TUNNEL_KEEPS_VNI, |vni| (vni << 8).to_be());
    value[TUNNEL_MTU] = 1500;
    value[TUNNEL_SUM] = if is_v4 { sum(&headers[14..34]) } else { sum(&headers[22..54]) + sum(&[0, 17]) };
    for (word, bytes) in value[TUNNEL_HEADERS..].iter_mut().zip(headers[..udp + 4].chunks(4)) {
        let mut all = [0; 4];
        all[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(all);
    }
    value
}

/// Gives the program a target that is a tunnel.
fn with_tunnel(value: Tunnel) -> Result<XdpProgram> {
    let mut program = with_target(load(&Settings { tunnels: true, ..Settings::default() })?);
    set_tunnel(&mut program, value);
    Ok(program)
}

fn set_tunnel(program: &mut XdpProgram, value: Tunnel) {
    let map = program.ebpf().map_mut(MAP_TUNNELS).expect("the map");
    Array::<_, Tunnel>::try_from(map).expect("an array").set(0, value, 0).expect("a tunnel");
}

/// The tunnels of these tests, between addresses that are in no table.
fn tunnel_ends() -> [Outer; 2] {
    let mut v4 = plain().between([192, 0, 2, 1], [192, 0, 2, 2]);
    let mut v6 = Outer::sample_v6(VNI, &[]);
    for outer in [&mut v4, &mut v6] {
        (outer.source_mac, outer.destination_mac) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    }
    [v4, v6]
}

/// A frame with right lengths and checksums, the addresses of the tunnel and this inner frame; its VNI.
#[track_caller]
fn encapsulated(frame: &[u8], ends: &Outer, inner: &[u8]) -> u32 {
    let wanted = template(ends);
    assert_eq!(frame[..14], wanted[..14], "Ethernet");
    let packet = SlicedPacket::from_ethernet(frame).expect("a packet");
    let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("no UDP") };
    assert!((49_152..).contains(&udp.source_port()) && udp.destination_port() == 4789);
    assert_eq!((usize::from(udp.length()), udp.payload().len()), (16 + inner.len(), 8 + inner.len()));
    let header = udp.to_header();
    match packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header();
            assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
            assert_eq!((ip.source(), ip.destination()), ([192, 0, 2, 1], [192, 0, 2, 2]));
            assert_eq!(udp.checksum(), 0);
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(frame[22..54], wanted[22..54], "IPv6 addresses");
            let sum = header.calc_checksum_ipv6(&ip, udp.payload()).expect("a length");
            assert_eq!(udp.checksum(), sum, "{} bytes", inner.len());
        }
        _ => panic!("no IP"),
    }
    let (vxlan, rest) = udp.payload().split_first_chunk::<8>().expect("VXLAN");
    assert_eq!((&vxlan[..4], vxlan[7], rest), (&[8, 0, 0, 0][..], 0, inner));
    u32::from_be_bytes([0, vxlan[4], vxlan[5], vxlan[6]])
}

#[test]
fn for_a_tunnel_outer_headers_of_any_kind_are_replaced_and_the_inner_frame_stays() -> Result<()> {
    for ends in tunnel_ends() {
        for (vni, wanted) in [(None, VNI), (Some(77), 77)] {
            let mut value = tunnel(&ends, vni);
            value[TUNNEL_MTU] = 3000;
            let program = with_tunnel(value)?;
            let mut sent = 0;
            for case in common() {
                if case.counter != Counter::NoSocket || FOR_THE_RING.contains(&case.name) {
                    check(&program, &[case])?;
                    continue;
                }
                let plain = forwarded(&with_target(load(&Settings::default())?), case.name, &case.frame);
                let outer = forwarded(&program, case.name, &case.frame);
                let seen = encapsulated(&outer, &ends, &plain);
                assert!(vni.is_none() || seen == wanted, "{}: VNI {seen}", case.name);
                sent += 1;
            }
            assert!(sent >= 15, "{sent}");
        }
    }
    Ok(())
}

#[test]
fn for_a_tunnel_lengths_and_checksums_are_right_for_every_length() -> Result<()> {
    for ends in tunnel_ends() {
        let program = with_tunnel(tunnel(&ends, None))?;
        for len in (42..1200).chain(1400..=1430) {
            let byte = |at: usize| (at * 7 + len).to_le_bytes()[0];
            let payload: Vec<_> = (0..len - 42).map(byte).collect();
            let ends_of = [([10, 0, 0, 1].into(), 1), ([10, 0, 0, 2].into(), 2)];
            let inner = mirror_lab::frames::inner_udp(ends_of[0], ends_of[1], &payload).expect("a frame");
            for received in [plain(), Outer::sample_v6(VNI, &[])] {
                let frame = received.encapsulate(&inner).expect("values that fit");
                let outer = forwarded(&program, "a length", &frame);
                assert_eq!(encapsulated(&outer, &ends, &inner), VNI);
            }
        }
    }
    Ok(())
}

#[test]
fn a_tunnel_without_a_next_hop_leaves_its_frames_to_the_ring_unchanged() -> Result<()> {
    let [ends, _] = tunnel_ends();
    let mut value = tunnel(&ends, None);
    value[TUNNEL_KIND] = TUNNEL_UNRESOLVED;
    let mut program = with_tunnel(value)?;
    let socket = xdp_socket();
    program.set_socket(0, &socket)?;
    let outcome = program.run(&frame(&plain()))?;
    assert_eq!((outcome.action, outcome.frame), (REDIRECT, frame(&plain())));
    check(&program, &[case("no next hop", frame(&plain()), REDIRECT, Counter::Redirected)])?;
    // ARP has no flow, by which its source port is chosen.
    set_tunnel(&mut program, tunnel(&ends, None));
    let arp = patched(patched(inner(), ETHERNET_HEADER - 2, 0x08), ETHERNET_HEADER - 1, 0x06);
    let arp = plain().encapsulate(&arp).expect("values that fit");
    check(&program, &[case("not a flow", arp, REDIRECT, Counter::Redirected)])
}

#[test]
fn a_frame_that_is_longer_than_the_path_takes_is_dropped_as_too_large() -> Result<()> {
    for (ends, headers) in tunnel_ends().into_iter().zip([20, 40]) {
        let mut program = with_tunnel(tunnel(&ends, None))?;
        let longest = 1500 - headers - 16;
        let outer = |len| plain().encapsulate(&inner_of_len(len).expect("a frame")).expect("values that fit");
        let sent = forwarded(&program, "the longest", &outer(longest));
        assert_eq!(sent.len(), 1514);
        let before = program.counters()?;
        assert_eq!(program.run(&outer(longest + 1))?.action, DROP);
        let counted = program.counters()?.since(&before);
        assert_eq!(counted, Counters::of(&[Counter::Seen, Counter::Forwarded]));
        let map = program.ebpf().map_mut(MAP_FATES).expect("the map");
        let fates =
            PerCpuArray::<_, FateCounts>::try_from(map).expect("an array").get(&0, 0).expect("counts");
        assert_eq!(fates.iter().map(|cpu| cpu[Fate::TooLarge as usize]).sum::<u64>(), 1);
        assert_eq!(sent.len() - longest, ENCAPSULATION - 20 + headers);
    }
    Ok(())
}

#[test]
fn the_verifier_has_room_left() -> Result<()> {
    for filters in [false, true] {
        let settings = Settings {
            ports: [1, 2, 0, 0],
            geneve_ports: [3, 4, 0, 0],
            vni_filter: filters,
            source_filter: filters,
            stamp: true,
            fragments: true,
            own: Some(Own { mac: [2; 6], v4: vec![[10, 0, 0, 1].into()], v6: Vec::new() }),
            group: true,
            tunnels: true,
            split: Some(Split {
                vnis: vec![(VNI, 1)],
                other_vnis: 3,
                v4: vec![([10, 10, 0, 0].into(), 16, 1)],
                v6: Vec::new(),
                other_sources: 3,
            }),
        };
        let Some(verified) = load(&settings)?.verified()? else { continue };
        println!("filters {filters}: {verified} instructions");
        assert!(verified < 300_000, "filters {filters}: {verified} instructions");
    }
    Ok(())
}
