//! Protocols that IP carries, and tunnels in IP and in UDP.

use super::{made::*, *};

#[test]
fn routing_protocols_are_printed_as_tcpdump_prints_them() {
    let mut frames = Vec::new();
    for kind in 0..=6 {
        let packet =
            [&[2, kind, 0, 48][..], &[10, 0, 0, 1], &[0; 4], &[0, 0, 0, kind % 3], &[0; 40]].concat();
        frames.push(ipv4_of(89, &packet));
        frames.push(ipv6_of(89, &[&[3, kind, 0, 36][..], &[9; 32]].concat()));
    }
    frames.push(ipv4_of(89, &[&[2, 1, 0, 16][..], &[0; 8], &[0, 0, 0, 2]].concat()));
    for (first, authentication) in [(0x21, 0), (0x21, 1), (0x21, 9), (0x31, 0x3f), (0x22, 0), (0x41, 0)] {
        let packet = [first, 7, 100, 1, authentication, 1, 0xab, 0xcd, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        frames.push(ipv4_of(112, &packet));
        frames.push(ipv6_of(112, &packet));
    }
    frames.extend((0..=13).map(|kind| ipv4_of(103, &[0x20 | kind, 0, 0xab, 0xcd, 0, 1, 0, 2, 0, 105])));
    frames.push(ipv4_of(103, &[0x10, 0, 0, 0]));
    frames.extend((0..=8).map(|kind| ipv4_of(88, &[&[2, kind][..], &[0; 18]].concat())));
    frames.push(ipv4_of(88, &[&[1, 5][..], &[0; 18]].concat()));
    compare_brief(&frames);
}

#[test]
fn chunks_of_sctp_are_printed_as_tcpdump_prints_them() {
    let packet = |ports: [u8; 4], chunks: &[&[u8]]| {
        ipv4_of(132, &[&ports[..], &[0, 0, 0, 7, 1, 2, 3, 4], &chunks.concat()].concat())
    };
    let usual = [0x0f, 0xa0, 0x0b, 0x59];
    let data: &[u8] = &[0, 3, 0, 17, 0, 0, 0, 9, 0, 1, 0, 2, 0, 0, 0, 3, 5, 0, 0, 0];
    let init = [&[1, 0, 0, 20][..], &[0, 0, 0, 9, 0, 0, 0xff, 0xff, 0, 10, 0, 20, 0, 0, 0, 7]].concat();
    let sack: &[u8] =
        &[3, 0, 0, 28, 0, 0, 0, 9, 0, 0, 0xff, 0xff, 0, 2, 0, 1, 0, 2, 0, 3, 0, 5, 0, 7, 0, 0, 0, 8];
    let mut acknowledged = init.clone();
    acknowledged[0] = 2;
    let frames = [
        packet(usual, &[&init]),
        packet(usual, &[&acknowledged]),
        packet(usual, &[sack, data, data]),
        packet(usual, &[&[0, 7, 0, 17, 0, 0, 0, 9, 0, 1, 0, 2, 0, 0, 0, 99, 5, 0, 0, 0]]),
        packet(usual, &[&[0, 0, 0, 16, 0, 0, 0, 9, 0, 1, 0, 2, 0, 0, 0, 3]]),
        packet(usual, &[&[0, 0, 0, 8, 0, 0, 0, 9]]),
        packet(usual, &[&[1, 0, 0, 8, 0, 0, 0, 9], &[3, 0, 0, 8, 0, 0, 0, 9]]),
        packet(usual, &[&[3, 0, 0, 18, 0, 0, 0, 9, 0, 0, 0xff, 0xff, 0, 2, 0, 1, 0, 2, 0, 0]]),
        packet(usual, &[&[4, 0, 0, 8, 0, 1, 0, 4], &[0xc0, 0, 0, 8, 0, 0, 0, 1], &[0x99, 0, 0, 4]]),
        packet(usual, &[&[0, 0, 0, 3]]),
        packet(usual, &[&[7, 0, 0, 8, 0, 0, 0, 1], &[1, 2]]),
    ];
    compare_brief(&frames);
}

#[test]
fn frames_within_frames_are_printed_as_tcpdump_prints_them() {
    let inner = udp((4000, 9999), b"within");
    let inner_v6 = udp_v6((4000, 9999), b"within");
    let vxlan = |flags: u8, inner: &[u8]| [&[flags, 0, 0, 0, 0, 0x30, 0x39, 0][..], inner].concat();
    let gpe = |next: u8, inner: &[u8]| [&[0x0c, 0, 0, next, 0, 0x30, 0x39, 0][..], inner].concat();
    let geneve = |head: [u8; 4], options: &[u8], inner: &[u8]| {
        [&head[..], &[0, 0x30, 0x39, 0], options, inner].concat()
    };
    let twice = udp((4000, 4789), &vxlan(8, &inner));
    let service = |next: u8, inner: &[u8]| [&[0x0f, 0xc2, 1, next, 0, 0, 7, 0xff][..], inner].concat();
    let options = [1, 8, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    let frames = [
        udp((4000, 4789), &vxlan(8, &inner)),
        udp((4000, 4789), &vxlan(0, &inner_v6)),
        udp((4000, 4789), &vxlan(8, &twice)),
        udp((4000, 4789), &[8, 0, 0]),
        udp((4000, 8472), &vxlan(8, &inner)),
        udp((4000, 8472), &[8, 0, 0]),
        udp((4000, 4790), &gpe(1, &inner[14..])),
        udp((4000, 4790), &gpe(2, &inner_v6[14..])),
        udp((4000, 4790), &gpe(3, &inner)),
        udp((4000, 4790), &gpe(4, &service(3, &inner))),
        udp((4000, 4790), &gpe(4, &service(1, &inner[14..]))),
        udp((4000, 4790), &gpe(4, &service(9, b""))),
        udp((4000, 4790), &gpe(9, b"")),
        udp((4000, 4790), &[8, 0, 0]),
        udp((4000, 6081), &geneve([0, 0, 0x65, 0x58], &[], &inner)),
        udp((4000, 6081), &geneve([3, 0xc0, 0x08, 0x00], &options, &inner[14..])),
        udp((4000, 6081), &geneve([0, 0, 0x12, 0x34], &[], b"x")),
        udp((4000, 6081), &geneve([0x40, 0, 0x65, 0x58], &[], b"")),
        udp((4000, 6081), &geneve([9, 0, 0x65, 0x58], &[], b"")),
        udp((4000, 6081), &[0, 0]),
        udp((4000, 6635), &[&[0, 1, 0x01, 64][..], &inner[14..]].concat()),
        ethernet(0x8847, &[&[0, 1, 0x40, 64, 0, 2, 0x01, 63][..], &inner[14..]].concat()),
        ethernet(0x8847, &[&[0, 0, 0x21, 64][..], &inner_v6[14..]].concat()),
        ethernet(0x8848, &[0, 1, 0x01, 64, 0xee, 1, 2, 3]),
        ethernet(0x8847, &[0, 1, 0x01, 64]),
        ethernet(0x8847, &[0, 1, 0x00, 64, 0]),
        ethernet(0x894f, &service(3, &inner)),
        ethernet(0x894f, &[0, 0, 1, 3, 0, 0, 0, 1, 9]),
        ipv4_of(47, &[&[0, 0, 0x88, 0x47, 0, 1, 0x01, 64][..], &inner[14..]].concat()),
        ipv4_of(
            47,
            &[&[0x30, 1, 0x88, 0x0b, 0, 4, 0, 7, 0, 0, 0, 9, 0xff, 0x03, 0x00, 0x21][..], &inner[14..]]
                .concat(),
        ),
    ];
    compare_brief(&frames);
}

#[test]
fn nested_frames_are_printed_to_a_limit() {
    const HEADERS: usize = 600;
    let mut inner = Vec::new();
    for _ in 0..HEADERS {
        // Ethernet, LLC, SNAP, bridged Ethernet.
        inner.extend([&MACS.1[..], &MACS.0, &[5, 0xdc, 0xaa, 0xaa, 3, 0, 0x80, 0xc2, 0, 7, 0, 0]].concat());
    }
    ends_in_good_time(&inner);
}

#[test]
fn nested_ppp_and_osi_are_printed_to_a_limit() {
    // OSI's number for PPP, and PPP's for OSI in one byte.
    let packets = [0xcf, 0x23].repeat(20_000);
    ends_in_good_time(&ethernet(0x880b, &[&[0x23][..], &packets].concat()));
}

#[test]
fn nested_tunnels_are_printed_to_a_limit() {
    let mut inner = udp((4000, 9999), b"within");
    while inner.len() < 60_000 {
        inner = udp((4000, 4789), &[&[8, 0, 0, 0, 0, 0, 7, 0], &inner[..]].concat());
    }
    ends_in_good_time(&inner);
}

/// Prints a frame of endless nesting.
fn ends_in_good_time(inner: &[u8]) {
    let mut text = String::new();
    Lines::new(Style::default().link(true)).line(&outer(inner, inner.len()).frame(), &mut text);
    assert!(text.contains("[nested too deeply]"), "{text}");
    assert!(text.len() < 10_000, "{} bytes", text.len());
}
