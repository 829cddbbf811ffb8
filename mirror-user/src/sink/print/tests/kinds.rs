//! Packets that mixed traffic does not have: options, records, messages.

use etherparse::{IpNumber, Ipv4Header, Ipv4Options, PacketBuilder, TcpOptionElement};

use super::{made::*, *};

/// A response with one question and these records, all with the question's name.
fn dns(flags: u16, counts: [u16; 3], records: &[(u16, u16, &[u8])]) -> Vec<u8> {
    let mut message = [0x1234, flags, 1, counts[0], counts[1], counts[2]].map(u16::to_be_bytes).concat();
    message.extend_from_slice(b"\x03www\x07example\x03com\x00\x00\x01\x00\x01");
    for (kind, class, data) in records {
        message.extend_from_slice(&[0xc0, 0x0c]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&class.to_be_bytes());
        message.extend_from_slice(&[0, 1, 0x51, 0x81]);
        message.extend_from_slice(&u16::try_from(data.len()).expect("a record").to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

#[test]
fn dns_records_are_printed_as_tcpdump_prints_them() {
    let soa = [b"\x02ns\xc0\x10\x04root\xc0\x10".as_slice(), &[0, 0, 0, 9].repeat(5)].concat();
    let cookie = [&[0, 10, 0, 16][..], &[0xab; 16]].concat();
    let options =
        [&cookie[..], &[0, 3, 0, 2, 1, 2, 0, 12, 0, 3, 0, 0, 0, 0, 11, 0, 2, 0, 55, 0, 9, 0, 4, 0, 0, 1, 0]]
            .concat();
    let records: [(u16, u16, &[u8]); 13] = [
        (1, 1, &[192, 0, 2, 1]),
        (28, 1, &HOSTS_V6.0),
        (5, 1, b"\x05alias\xc0\x10"),
        (2, 1, b"\x02ns\xc0\x10"),
        (12, 3, b"\x01\x1b\x02\xe9a\x00"),
        (15, 1, b"\x00\x0a\x04mail\xc0\x10"),
        (16, 1, b"\x05hello\x06\x1b[31m\x07"),
        (33, 1, b"\x00\x01\x00\x02\x01\xbb\x03srv\xc0\x10"),
        (6, 1, &soa),
        (257, 1, b"\x00\x05issueca"),
        (65, 1, b"\x00\x01\x00"),
        (46, 1, b"\x00\x01"),
        (256, 1, b"\x00\x01\x00\x02https://x"),
    ];
    let mut frames: Vec<_> =
        records.iter().map(|record| udp((53, 4000), &dns(0x8580, [1, 0, 0], &[*record]))).collect();
    frames.push(udp((53, 4000), &dns(0x8183, [0, 1, 1], &[records[8], (41, 4096, &options)])));
    frames.push(udp((53, 4000), &dns(0x8500, [13, 0, 0], &records)));
    frames.push(udp((53, 4000), &dns(0x87a2, [0, 0, 0], &[])));
    frames.push(udp((4000, 53), &dns(0x0110, [0, 0, 1], &[(41, 1232, &options)])));
    frames.push(udp((4000, 53), &dns(0x2800, [1, 1, 0], &records[..2])));
    frames.push(udp((5353, 5353), &dns(0x8400, [2, 0, 0], &[(1, 0x8001, &[10, 0, 0, 9]), records[6]])));
    // Names that point forwards, at themselves, and too long ones.
    frames.push(udp((53, 4000), &dns(0x8180, [1, 0, 0], &[(5, 1, b"\xc0\xff")])));
    frames.push(udp((53, 4000), &dns(0x8180, [1, 0, 0], &[(5, 1, b"\xc0\x2d")])));
    frames.push(udp(
        (53, 4000),
        &dns(0x8180, [1, 0, 0], &[(5, 1, &[b"\x3f".as_slice(), &[b'x'; 63]].concat().repeat(5))]),
    ));
    compare(&frames);
}

#[test]
fn edns_options_signatures_and_old_records_are_printed_as_tcpdump_prints_them() {
    let option =
        |kind: u8, value: &[u8]| [&[0, kind, 0, u8::try_from(value.len()).expect("short")], value].concat();
    let options = [
        option(8, &[0, 1, 24, 0, 192, 0, 2]),
        option(8, &[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 1, 0]),
        option(8, &[0, 1, 33, 0, 192, 0, 2]),
        option(8, &[0, 1, 24, 33, 192, 0, 2]),
        option(8, &[0, 3, 24, 0, 192, 0, 2]),
        option(8, &[0, 1, 0]),
        option(8, &[0, 2, 0, 0]),
        option(5, &[8, 13, 99, 0, 252]),
        option(6, &[1, 2, 9]),
        option(7, &[1, 2]),
        option(13, b"\x03foo\x07example\x03com\x00"),
        option(14, &[0x75, 0x30, 0xea, 0x60]),
        option(14, &[0x75]),
        option(11, &[0, 55]),
        option(11, &[0]),
        option(10, &[1, 2, 3]),
        option(16, &[1]),
        option(99, &[1]),
    ];
    let signature =
        |name: &[u8]| [name, &[0, 0, 1, 2, 3, 4], &[1, 0x2c, 0, 4], &[9; 4], &[0, 7, 0, 0, 0, 0]].concat();
    let records: [(u16, u16, &[u8]); 6] = [
        (250, 255, &signature(b"\x08gss-tsig\x00")),
        (250, 255, &signature(b"\xc0\x0c")),
        (38, 1, &[&[0][..], &HOSTS_V6.0].concat()),
        (38, 1, &[&[60][..], &HOSTS_V6.0[7..], b"\xc0\x0c"].concat()),
        (38, 1, &[129, 1]),
        (104, 1, b"old \x1b"),
    ];
    let mut frames: Vec<_> = options
        .iter()
        .map(|option| udp((4000, 53), &dns(0x0100, [0, 0, 1], &[(41, 4096, option)])))
        .collect();
    frames.push(udp((4000, 53), &dns(0x0100, [0, 0, 1], &[(41, 4096, &options.concat())])));
    // For a name without end tcpdump prints the bytes after the option: none here.
    frames.push(udp((4000, 53), &dns(0x0100, [0, 0, 1], &[(41, 4096, &option(13, b"\x03fo"))])));
    frames.extend(records.iter().map(|record| udp((53, 4000), &dns(0x8180, [0, 0, 1], &[*record]))));
    frames.extend(records.iter().map(|record| udp((53, 4000), &dns(0x8180, [1, 0, 0], &[*record]))));
    compare(&frames);
}

#[test]
fn tcp_options_are_printed_as_tcpdump_prints_them() {
    let options: [&[u8]; 14] = [
        &[5, 18, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 2, 0, 1, 1],
        &[5, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        &[34, 2, 1, 1],
        &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1],
        &[254, 4, 0xf9, 0x89],
        &[254, 12, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8],
        &[254, 6, 0xe2, 0xd4, 1, 1, 1, 1],
        &[19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 0],
        &[29, 8, 1, 2, 3, 4, 5, 6],
        &[28, 4, 0x80, 0x03],
        &[28, 4, 0x00, 0x02],
        &[77, 6, 1, 2, 3, 4, 1, 1],
        &[2, 5, 1, 2, 3, 1, 1, 1],
        &[3, 0, 1, 1],
    ];
    let frame = |bytes: &&[u8]| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(MACS.0, MACS.1)
            .ipv4(HOSTS.0, HOSTS.1, 64)
            .tcp(4000, 9999, 1, 1024)
            .ack(2)
            .options_raw(bytes)
            .expect("options")
            .write(&mut frame, b"data")
            .expect("a frame");
        frame
    };
    let mut frames: Vec<_> = options.iter().map(frame).collect();
    let mut reset = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv6(HOSTS_V6.0, HOSTS_V6.1, 64)
        .tcp(4000, 9999, u32::MAX, 1024)
        .rst()
        .options(&[TcpOptionElement::Noop])
        .expect("options")
        .write(&mut reset, b"go away\x1b[31m, and do not come back ever again")
        .expect("a frame");
    frames.push(reset);
    compare(&frames);
}

#[test]
fn ip_options_and_extension_headers_are_printed_as_tcpdump_prints_them() {
    let options: [&[u8]; 8] = [
        &[7, 11, 8, 10, 9, 9, 1, 0, 0, 0, 0, 0],
        &[131, 7, 4, 10, 9, 9, 9, 0],
        &[137, 7, 8, 10, 9, 9, 9, 0],
        &[148, 4, 0, 0],
        &[148, 4, 0, 7],
        &[68, 12, 13, 0, 0, 0, 0, 1, 0, 0, 0, 2],
        &[68, 12, 5, 0x31, 10, 0, 0, 1, 0, 0, 0, 2],
        &[1, 99, 3, 0],
    ];
    let with_options = |bytes: &&[u8]| {
        let mut header = Ipv4Header::new(12, 64, IpNumber::UDP, HOSTS.0, HOSTS.1).expect("fits");
        header.options = Ipv4Options::try_from(*bytes).expect("options");
        header.total_len = u16::try_from(header.header_len() + 12).expect("fits");
        header.header_checksum = header.calc_header_checksum();
        let payload = [&[0x0f, 0xa0, 0x27, 0x0f, 0, 12, 0, 0][..], b"data"].concat();
        [&MACS.1[..], &MACS.0, &[8, 0], &header.to_bytes(), &payload].concat()
    };
    let mut frames: Vec<_> = options.iter().map(with_options).collect();
    let datagram = [&[0x0f, 0xa0, 0x27, 0x0f, 0, 12, 0, 0][..], b"data"].concat();
    let extended =
        |first: u8, headers: &[&[u8]]| ipv6_of(first, &[headers.concat(), datagram.clone()].concat());
    let routing = [&[17, 2, 4, 1, 0, 0, 0, 7][..], &HOSTS_V6.1].concat();
    frames.extend([
        extended(0, &[&[17, 0, 5, 2, 0, 0, 1, 0]]),
        extended(0, &[&[60, 0, 1, 4, 0, 0, 0, 0], &[17, 0, 0x3e, 2, 1, 2, 0, 0]]),
        extended(60, &[&[0, 0, 1, 4, 0, 0, 0, 0], &[17, 0, 1, 4, 0, 0, 0, 0]]),
        extended(43, &[&routing]),
        extended(43, &[&[17, 2, 0, 1, 0, 0, 0, 0], &HOSTS_V6.1]),
        extended(43, &[&[17, 0, 9, 1, 0, 0, 0, 0]]),
        extended(44, &[&[17, 0, 0, 1, 0, 0, 0, 9]]),
        extended(44, &[&[17, 0, 0x05, 0xa9, 0, 0, 0, 9]]),
        extended(59, &[]),
        extended(51, &[&[17, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9]]),
        extended(0, &[&[17, 0, 0xc2, 4, 0, 1, 0, 0]]),
        ipv4_of(50, &[0, 0, 0, 7, 0, 0, 0, 9, 1, 2, 3, 4]),
        ipv4_of(108, &[17, 0, 0, 3, 1, 2]),
        ipv4_of(58, &[1, 2, 3, 4]),
        ipv6_of(1, &[1, 2, 3, 4]),
        ipv4_of(41, &ipv6_of(17, &datagram)[14..]),
        ipv4_of(4, &ipv4_of(17, &datagram)[14..]),
        ipv4_of(
            47,
            &[&[0xb0, 0, 8, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9][..], &ipv4_of(17, &datagram)[14..]]
                .concat(),
        ),
        ipv4_of(47, &[&[0, 0, 0x65, 0x58][..], &ipv6_of(17, &datagram)].concat()),
        ipv4_of(47, &[0, 0, 0x88, 0xbe, 1, 2, 3, 4]),
        ipv4_of(47, &[0x30, 0x81, 0x99, 0x99, 0, 4, 0, 7, 0, 0, 0, 9, 0, 0, 0, 3, 1, 2, 3, 4]),
    ]);
    compare(&frames);
}

#[test]
fn control_messages_are_printed_as_tcpdump_prints_them() {
    let quoted = &udp((4000, 9999), b"data")[14..];
    let error =
        |kind: u8, code: u8, rest: [u8; 4]| ipv4_of(1, &[&[kind, code, 0, 0], &rest[..], quoted].concat());
    let mut frames: Vec<_> = (0..=16).map(|code| error(3, code, [0, 0, 5, 0xdc])).collect();
    frames.extend((0..=4).map(|code| error(5, code, [10, 0, 0, 9])));
    frames.extend((0..=2).map(|code| error(11, code, [0; 4])));
    frames.extend((0..=1).map(|code| error(12, code, [20, 0, 0, 0])));
    frames.extend([4, 10, 13, 15, 16, 17, 40].map(|kind| ipv4_of(1, &[kind, 0, 0, 0, 0, 1, 0, 2])));
    frames.push(ipv4_of(1, &[9, 0, 0, 0, 1, 2, 0x1c, 0x20, 10, 0, 0, 1, 0, 0, 0, 7]));
    frames.push(ipv4_of(1, &[14, 0, 0, 0, 0, 1, 0, 2, 0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 9]));
    frames.push(ipv4_of(1, &[18, 0, 0, 0, 0, 1, 0, 2, 255, 255, 255, 0]));
    let igmp: [&[u8]; 8] = [
        &[0x11, 100, 0, 0, 0, 0, 0, 0],
        &[0x11, 10, 0, 0, 239, 1, 1, 1],
        &[0x11, 0x9a, 0, 0, 239, 1, 1, 1, 2, 125, 0, 1, 10, 0, 0, 9],
        &[0x12, 0, 0, 0, 239, 1, 1, 1],
        &[0x16, 0, 0, 0, 239, 1, 1, 1],
        &[0x17, 0, 0, 0, 239, 1, 1, 1],
        &[0x22, 0, 0, 0, 0, 0, 0, 2, 4, 0, 0, 0, 239, 1, 1, 1, 9, 0, 0, 1, 239, 1, 1, 2, 10, 0, 0, 9],
        &[0x22, 0, 0, 0, 0, 0, 0, 2, 1, 2],
    ];
    frames.extend(igmp.iter().map(|message| ipv4_of(2, message)));
    compare(&frames);
}

#[test]
fn control_messages_of_ipv6_are_printed_as_tcpdump_prints_them() {
    let quoted = &ipv6_of(17, &[0x0f, 0xa0, 0x27, 0x0f, 0, 8, 0, 0])[14..];
    let error = |kind: u8, code: u8| ipv6_of(58, &[&[kind, code, 0, 0, 0, 0, 5, 0xdc], quoted].concat());
    let mut frames: Vec<_> = (0..=6).map(|code| error(1, code)).collect();
    frames.push(error(2, 0));
    frames.extend((0..=2).map(|code| error(3, code)));
    frames.extend((0..=4).map(|code| error(4, code)));
    let prefix =
        [&[3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 255, 255, 255, 255, 0, 0, 0, 0][..], &HOSTS_V6.0].concat();
    let resolver = [&[25, 3, 0, 0, 0, 0, 0, 60][..], &HOSTS_V6.1].concat();
    let options = [&[1, 1, 2, 0, 0, 0, 0, 1, 5, 1, 0, 0, 0, 0, 5, 0xdc][..], &prefix, &resolver].concat();
    let more = [
        &[31, 2, 0, 0, 0, 0, 0, 60, 3, b'l', b'a', b'n', 0, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 9][..],
        &[
            8, 1, 0, 0, 0, 5, 0, 9, 24, 2, 48, 8, 0, 0, 0, 60, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 99, 1, 1, 2,
            3, 4, 5, 6,
        ],
    ]
    .concat();
    frames.push(ipv6_of(58, &[&[133, 0, 0, 0, 0, 0, 0, 0][..], &options].concat()));
    frames.push(ipv6_of(
        58,
        &[&[134, 0, 0, 0, 64, 0xc8, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2][..], &options, &more].concat(),
    ));
    frames.push(ipv6_of(58, &[&[135, 0, 0, 0, 0, 0, 0, 0], &HOSTS_V6.1[..], &options].concat()));
    frames.push(ipv6_of(58, &[&[136, 0, 0, 0, 0xe0, 0, 0, 0], &HOSTS_V6.1[..], &options].concat()));
    frames.push(ipv6_of(58, &[&[137, 0, 0, 0, 0, 0, 0, 0], &HOSTS_V6.1[..], &HOSTS_V6.0, &options].concat()));
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb];
    frames.extend(
        [130, 131, 132].map(|kind| ipv6_of(58, &[&[kind, 0, 0, 0, 3, 0xe8, 0, 0], &group[..]].concat())),
    );
    frames.push(ipv6_of(
        58,
        &[&[130, 0, 0, 0, 0x90, 1, 0, 0], &group[..], &[0x0a, 0x8f, 0, 1], &HOSTS_V6.1].concat(),
    ));
    let record = [&[4, 0, 0, 1][..], &group, &HOSTS_V6.1].concat();
    frames.push(ipv6_of(58, &[&[143, 0, 0, 0, 0, 0, 0, 1][..], &record].concat()));
    frames.push(ipv6_of(58, &[&[143, 0, 0, 0, 0, 0, 0, 3][..], &record, &record[..24]].concat()));
    frames.extend([128, 129, 141, 160, 250].map(|kind| ipv6_of(58, &[kind, 0, 0, 0, 0, 7, 0, 1])));
    compare(&frames);
}

#[test]
fn arp_and_ethernet_of_all_kinds_are_printed_as_tcpdump_prints_them() {
    let ethernet = |kind: u16, payload: &[u8]| [&MACS.1[..], &MACS.0, &kind.to_be_bytes(), payload].concat();
    let arp = |hardware: u16, protocol: u16, lengths: [u8; 2], operation: u16| {
        let mut packet =
            [hardware.to_be_bytes(), protocol.to_be_bytes(), lengths, operation.to_be_bytes()].concat();
        packet.extend_from_slice(&[&MACS.0[..], &HOSTS.0, &MACS.1, &HOSTS.1].concat());
        ethernet(0x0806, &packet)
    };
    let mut frames: Vec<_> = (0..=11).map(|operation| arp(1, 0x0800, [6, 4], operation)).collect();
    frames.extend([
        arp(6, 0x0800, [6, 4], 1),
        arp(99, 0x1234, [6, 4], 2),
        arp(1, 0x0800, [0, 4], 1),
        arp(1, 0x86dd, [2, 8], 2),
    ]);
    frames.push(ethernet(0x88b5, &[7; 33]));
    frames.push(ethernet(0x0800, &[0x65, 0, 0, 0]));
    frames.push(ethernet(0x86dd, &[0x45; 44]));
    frames.push(ethernet(0x88a8, &[0xf0, 7, 0x81, 0, 0x20, 9, 0x88, 0xb5, 1, 2, 3]));
    // LLC: numbered, supervisory, information; and IP over it.
    frames.push(ethernet(7, &[0x04, 0x05, 0x7f, 1, 2, 3, 4]));
    frames.push(ethernet(9, &[0x10, 0x21, 0x01, 0x05, 0, 0, 0, 0, 0]));
    frames.push(ethernet(9, &[0x10, 0x20, 0x04, 0x06, 1, 2, 3, 4, 5]));
    frames.push(ethernet(7, &[0x13, 0x20, 0x6f, 9, 9, 9, 9]));
    frames.push(ethernet(23, &[&[6, 6, 3][..], &ipv4(20, 253)].concat()));
    compare(&frames);
}
