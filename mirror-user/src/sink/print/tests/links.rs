//! Link protocols other than IP and ARP.

use super::made::*;

#[test]
fn spanning_trees_are_printed_as_tcpdump_prints_them() {
    let message = |version: u8, kind: u8, flags: u8| {
        let head =
            [&[0, 0, version, kind, flags][..], &[0x80, 0], &MACS.0, &[0, 0, 0, 4], &[0x80, 1], &MACS.1];
        [head.concat(), vec![0x80, 2, 1, 0, 20, 0, 2, 0, 15, 0]].concat()
    };
    let multiple = |version: u8, len: u8, rest: usize| {
        [message(version, 2, 0x7c), vec![0, 0, len], vec![0; rest]].concat()
    };
    let frames = [
        llc(0x42, &message(0, 0, 0x81)),
        llc(0x42, &message(2, 0, 0)),
        llc(0x42, &[message(2, 2, 0x3e), vec![0]].concat()),
        llc(0x42, &message(2, 2, 0x3e)),
        llc(0x42, &[0, 0, 0, 0x80]),
        llc(0x42, &[0, 0, 9, 0]),
        llc(0x42, &[0, 0, 0, 9]),
        llc(0x42, &[0, 1, 0, 0]),
        llc(0x42, &[0, 0]),
        llc(0x42, &multiple(3, 64, 70)),
        llc(0x42, &multiple(3, 99, 70)),
        llc(0x42, &multiple(3, 64, 10)),
        llc(0x42, &multiple(4, 64, 170)),
        snap([0, 0, 0x0c], 0x010b, &message(0, 0, 0)),
    ];
    compare_brief(&frames);
}

#[test]
fn neighbours_on_a_link_are_printed_as_tcpdump_prints_them() {
    let lldp =
        [&[2, 7, 4][..], &MACS.0, &[4, 3, 5, b'p', b'1', 6, 2, 0, 120, 10, 4, b'h', b'o', b's', b't', 0, 0]]
            .concat();
    let cdp = [
        &[2, 180, 0xab, 0xcd][..],
        &[0, 1, 0, 8, b'h', b'o', b's', b't'],
        &[0, 3, 0, 6, b'p', b'1'],
        &[0, 10, 0, 5, 1],
        &[0, 99, 0, 6, 1, 2],
    ]
    .concat();
    let cisco = [0, 0, 0x0c];
    let mut frames = vec![
        ethernet(0x88cc, &lldp),
        ethernet(0x88cc, &[10, 0]),
        ethernet(0x88cc, &[2, 9, 4]),
        snap(cisco, 0x2000, &cdp),
        snap(cisco, 0x2000, &[&cdp[..4], &[0, 3, 0, 2]].concat()),
        snap(cisco, 0x2000, &[&cdp[..4], &[0, 99, 0, 99]].concat()),
        snap(cisco, 0x2000, &[&cdp[..4], &[0, 1]].concat()),
        snap(cisco, 0x2004, &[1, 0, 1, 0, 5, 0]),
        snap(cisco, 0x0111, &[0x21, 3, 0xab, 0xcd, 0, 1, 0, 5, 9]),
        snap(cisco, 0x0111, &[0x21]),
        snap(cisco, 0x2003, &[&[1, 1, 0, 4][..], &[b'x'; 68]].concat()),
        snap(cisco, 0x2003, &[1, 9]),
        snap(cisco, 0x9999, b"what"),
        snap([0, 0, 0], 0x88cc, &lldp),
        snap([0, 0, 0], 0x1234, b"what"),
        snap([0, 1, 2], 0x1234, b"what"),
        snap([0, 0x80, 0xc2], 7, &[&[0, 0][..], &udp((4000, 9999), b"within")].concat()),
        llc(0xaa, &[0, 0]),
    ];
    for version in 1..=2 {
        frames.extend((0..=4).map(|kind| ethernet(0x8809, &[&[kind, version][..], &[1; 20]].concat())));
    }
    frames.push(ethernet(0x8809, &[1]));
    frames.extend((0..=6).map(|operation| ethernet(0x8902, &[0xa0, operation, 5, 70, 0, 0])));
    frames.push(ethernet(0x8902, &[0xa1, 1, 5, 70]));
    frames.push(ethernet(0x8902, &[0xa0]));
    frames.extend((0..=5).map(|kind| ethernet(0x888e, &[1, kind, 0, 5, 1, 7, 0, 5, 1])));
    frames.push(ethernet(0x9000, &[0, 0, 1, 0, 7, 0, 1, 2, 3]));
    frames.push(ethernet(0x9000, &[0, 0, 2, 0, 2, 0, 0, 0, 0, 1, 9]));
    frames.push(ethernet(0x9000, &[3, 0, 1, 2, 3, 9, 0]));
    frames.push(ethernet(0x9000, &[99, 0, 1]));
    frames.extend([0x10, 0x18, 0x24, 0].map(|first| ethernet(0x88a2, &[&[first][..], &[1; 30]].concat())));
    frames.push(ethernet(0x88a2, &[0x10, 1]));
    frames.push(ethernet(0x886f, &[&[0; 8][..], &[1, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]].concat()));
    for (first, second) in [(0x01, 0x10), (0x02, 0x50), (0x11, 0x51), (0x03, 0x41), (0x09, 0x99)] {
        frames.push(ethernet(0x8947, &[&[first, second, 0, 0, 0, 9, 0, 1][..], &[7; 70]].concat()));
    }
    frames.push(ethernet(0x8947, &[1, 2]));
    frames.push(ethernet(0x1111, &[1, 2, 3]));
    frames.push(ethernet(0x1111, &[1]));
    compare_brief(&frames);
}

#[test]
fn ppp_over_ethernet_is_printed_as_tcpdump_prints_it() {
    let inner = udp((4000, 9999), b"within");
    let inner_v6 = udp_v6((4000, 9999), b"within");
    let discovery = |code: u8, tags: &[u8]| {
        let len = u8::try_from(tags.len()).expect("short");
        ethernet(0x8863, &[&[0x11, code, 0, 0, 0, len], tags].concat())
    };
    let packet = |protocol: u16, payload: &[u8]| {
        let len = u8::try_from(payload.len() + 2).expect("short");
        ethernet(0x8864, &[&[0x11, 0, 0, 7, 0, len][..], &protocol.to_be_bytes(), payload].concat())
    };
    let mut frames = vec![
        discovery(0x09, &[1, 1, 0, 0, 1, 3, 0, 4, 0, 1, 2, 0xff]),
        discovery(0x07, &[1, 2, 0, 3, b'i', b's', b'p', 1, 4, 0, 2, 0, 1, 0, 0, 0, 0]),
        discovery(0x19, &[9, 9, 0, 1, b'x']),
        discovery(0x65, &[]),
        discovery(0xa7, &[2, 3, 0, 2, b'n', b'o', 1]),
        discovery(0x42, &[]),
        ethernet(0x8863, &[0x22, 9, 0, 1, 0x09, 0x99]),
        ethernet(0x8863, &[0x11, 9, 0]),
        packet(0x0021, &inner[14..]),
        packet(0x0057, &inner_v6[14..]),
        packet(0x00fd, b"x"),
        packet(0x003d, &[0xc0, 1, 2, 3]),
        packet(0x003d, &[0xc0]),
        packet(0x0281, &[&[0, 1, 0x01, 64][..], &inner[14..]].concat()),
        packet(0x9998, b"unknown"),
        packet(0xc227, &[1, 2, 0, 4]),
        packet(0xc021, &[1, 2]),
        packet(0xc223, &[1, 7, 0, 12, 3, 1, 2, 3, b'n', b'a', b'm', b'e']),
        packet(0xc223, &[2, 7, 0, 12, 99, 1, 2, 3]),
        packet(0xc223, &[3, 7, 0, 6, b'o', b'k']),
        packet(0xc223, &[9, 7]),
        packet(0xc023, &[1, 7, 0, 12, 2, b'm', b'e', 4, b'p', b'a', b's', b's']),
        packet(0xc023, &[2, 7, 0, 7, 2, b'o', b'k']),
        packet(0xc023, &[1, 7, 0, 5, 1]),
        packet(0xc023, &[1, 7, 0, 99]),
        packet(0xc023, &[1, 7, 0, 3]),
        packet(0xc023, &[]),
        ethernet(0x8864, &[&[0x11, 0, 0, 7, 0, 99, 0x21][..], &inner[14..]].concat()),
        ethernet(0x8864, &[0x11, 0, 0, 7, 0, 1, 0]),
        ethernet(0x880b, &[&[0xff, 3, 0, 0x21][..], &inner[14..]].concat()),
        ethernet(0x880b, &[]),
    ];
    for protocol in [0xc021, 0x8021, 0x8057, 0x80fd] {
        frames.extend((0..=16).map(|kind| packet(protocol, &[kind, 7, 0, 10, 1, 4, 5, 0xdc, 0, 0])));
    }
    compare_brief(&frames);
}

#[test]
fn osi_is_printed_as_tcpdump_prints_it() {
    let system = |kind: u8, len: u8| [&[0x83, len, 1, 0, kind, 1, 0, 0][..], &[7; 40]].concat();
    let mut frames: Vec<_> = [
        (15, 27),
        (16, 27),
        (17, 20),
        (18, 27),
        (20, 27),
        (24, 33),
        (25, 33),
        (26, 17),
        (27, 17),
        (9, 8),
        (15, 9),
        (18, 9),
    ]
    .iter()
    .map(|&(kind, len)| llc(0xfe, &system(kind, len)))
    .collect();
    for (place, value) in [(1, 7), (1, 99), (2, 9), (3, 9), (5, 9), (7, 255)] {
        let mut packet = system(15, 27);
        packet[place] = value;
        frames.push(llc(0xfe, &packet));
    }
    frames.extend([2, 4, 6, 9].map(|kind| llc(0xfe, &[0x82, 13, 1, 0, kind, 0, 60, 0, 0, 1, 2, 0x49, 1])));
    frames.push(llc(0xfe, &[0x82, 9, 1, 0, 2, 0, 60, 0, 0]));
    frames.push(llc(0xfe, &[0x82, 13]));
    let clnp = [&[0x81, 17, 1, 64, 28, 0, 20, 0, 0][..], &[3, 0x49, 0, 1, 3, 0x49, 0, 2], b"data"].concat();
    frames.push(llc(0xfe, &clnp));
    frames.push(ethernet(0xfefe, &[&[3][..], &clnp].concat()));
    for (place, value) in [(1, 99), (1, 3), (1, 10), (2, 9), (9, 99), (13, 99)] {
        let mut packet = clnp.clone();
        packet[place] = value;
        frames.push(llc(0xfe, &packet));
    }
    frames.push(llc(0xfe, &[&[0xcc][..], &udp((4000, 9999), b"within")[14..]].concat()));
    frames.push(llc(0xfe, &[&[0x8e][..], &udp_v6((4000, 9999), b"within")[14..]].concat()));
    frames.push(llc(0xfe, &[0, 1, 2]));
    frames.push(llc(0xfe, &[0x99, 1, 2]));
    frames.push(ethernet(0xfefe, &[]));
    compare_brief(&frames);
}
