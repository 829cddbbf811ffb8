//! Datagrams of the protocols whose payload is printed.

use super::made::*;

#[test]
fn dhcp_and_ntp_are_printed_as_tcpdump_prints_them() {
    let message = |operation: u8, hardware: u8, len: u8| {
        [&[operation, hardware, len, 0, 1, 2, 3, 4][..], &[0; 20], &MACS.0, &[0; 202]].concat()
    };
    let mut frames: Vec<_> = [message(1, 1, 6), message(1, 6, 6), message(3, 1, 6)]
        .iter()
        .map(|message| udp((68, 67), message))
        .collect();
    frames.push(udp((67, 68), &message(2, 1, 6)));
    frames.extend((0..=16).map(|kind| udp_v6((546, 547), &[kind, 1, 2, 3, 0, 8, 0, 2, 0, 0])));
    frames.extend((0..8).map(|mode| udp((123, 123), &[&[0x20 | mode][..], &[7; 47]].concat())));
    compare_brief(&frames);
}

/// An element in the basic encoding rules.
fn element(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u8::try_from(value.len()).expect("short");
    if len < 0x80 { [&[kind, len], value].concat() } else { [&[kind, 0x81, len], value].concat() }
}

fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &elements.concat())
}

#[test]
fn snmp_is_printed_as_tcpdump_prints_it() {
    let name = || element(6, &[0x2b, 6, 1, 2, 1, 1, 0x82, 0x05, 0]);
    let integer = |value: &[u8]| element(2, value);
    let values = [
        element(5, &[]),
        integer(&[0xff]),
        integer(&[1, 2, 3]),
        element(4, b"Linux host\r\n"),
        element(4, &[0, 0x80, 1]),
        element(6, &[0x58, 1]),
        element(0x40, &[10, 0, 0, 1]),
        element(0x40, &[10, 0]),
        element(0x41, &[1, 2, 3, 4]),
        element(0x43, &[9]),
        element(0x46, &[1, 2, 3, 4, 5, 6, 7, 8]),
        element(0x44, &[1]),
        element(0x80, &[]),
        element(0x82, &[]),
        element(1, &[1]),
        element(0x85, &[1]),
        element(0xc0, &[1]),
        element(0x31, &[1]),
        element(0x1f, &[1]),
    ];
    let request = |kind: u8, fields: [&[u8]; 2], value: &Vec<u8>| {
        let variables = sequence(&[sequence(&[name(), value.clone()])]);
        element(kind, &[integer(&[7]), integer(fields[0]), integer(fields[1]), variables].concat())
    };
    let message = |version: u8, community: &[u8], request: Vec<u8>| {
        sequence(&[integer(&[version]), element(4, community), request])
    };
    let mut frames: Vec<_> = values
        .iter()
        .map(|value| udp((161, 4000), &message(1, b"public", request(0xa2, [&[0], &[0]], value))))
        .collect();
    for kind in 0xa0..=0xa9 {
        for fields in [[&[0][..], &[0]], [&[2], &[1]], [&[99], &[0]], [&[0], &[3]]] {
            let request = request(kind, fields, &values[0]);
            frames.push(udp((4000, 161), &message(kind & 1, b"secret", request)));
        }
    }
    let trap = |generic: u8, specific: u8| {
        let fields = [
            element(6, &[0x2b, 6, 1, 4, 1]),
            element(0x40, &[10, 0, 0, 1]),
            integer(&[generic]),
            integer(&[specific]),
            element(0x43, &[1, 0]),
            sequence(&[sequence(&[name(), values[1].clone()])]),
        ];
        udp((4000, 162), &message(0, b"public", element(0xa4, &fields.concat())))
    };
    frames.extend([trap(0, 0), trap(6, 9), trap(3, 9), trap(9, 0)]);
    let version_3 = |flags: u8, model: u8| {
        let header = sequence(&[integer(&[1]), integer(&[5, 0xdc]), element(4, &[flags]), integer(&[model])]);
        let user = sequence(&[
            element(4, &[0x80, 1]),
            integer(&[0]),
            integer(&[0]),
            element(4, b"user"),
            element(4, &[]),
            element(4, &[]),
        ]);
        let scoped =
            sequence(&[element(4, &[0x80, 1]), element(4, b""), request(0xa0, [&[0], &[0]], &values[0])]);
        udp((4000, 161), &sequence(&[integer(&[3]), header, element(4, &user), scoped]))
    };
    frames.extend([version_3(4, 3), version_3(2, 3), version_3(7, 1)]);
    frames.push(udp((4000, 161), &sequence(&[integer(&[2])])));
    frames.push(udp((4000, 161), &integer(&[2])));
    compare_brief(&frames);
}

#[test]
fn files_accounts_logs_and_calls_are_printed_as_tcpdump_prints_them() {
    let mut frames: Vec<_> = [
        &b"\0\x01file\0octet\0"[..],
        b"\0\x02file\0octet\0blksize\x001024\0",
        b"\0\x01",
        b"\0\x01no end",
        b"\0\x01file\0",
        b"\0\x01file\0octet",
        b"\0\x03\0\x07data",
        b"\0\x04\0\x08",
        b"\0\x04\0",
        b"\0\x05\0\x01not found\0",
        b"\0\x05\0\x63what\0",
        b"\0\x05\0\x01",
        b"\0\x06blksize\x001024\0",
        b"\0\x09",
        b"\0",
    ]
    .iter()
    .map(|payload| udp((4000, 69), payload))
    .collect();
    frames.extend(
        [1, 2, 3, 4, 5, 11, 40, 43, 99]
            .map(|code| udp((4000, 1812), &[&[code, 7, 0, 20][..], &[9; 16], &[1, 4, b'm', b'e']].concat())),
    );
    frames.push(udp((1646, 4000), &[&[1, 7, 0, 19][..], &[9; 16]].concat()));
    let lines: [&[u8]; 7] = [b"<13>Oct  1 x", b"<191>", b"<0>x", b"<1234>", b"no", b"<12", b"<999>y"];
    frames.extend(lines.map(|line| udp((4000, 514), line)));
    let calls: [&[u8]; 3] =
        [b"INVITE sip:a@b SIP/2.0\r\nVia: x\r\n\r\n", b"SIP/2.0 180 Ringing\r\n\r\n", b"\0\0\0\0"];
    frames.extend(calls.map(|call| udp((5060, 5060), call)));
    let tickets: [&[u8]; 9] = [
        &[4, 2, b'm', b'e', 0, b'i', 0, b'r', 0, 1, 2, 3, 4, 9, b's', 0, b't', 0],
        &[4, 7, 1, b'r', 0, 1, 2],
        &[4, 4, b'm', b'e', 0, b'i', 0, b'r', 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2],
        &[4, 11, b'm', b'e', 0, b'i', 0, b'r', 0, 1, 2, 3, 4, 8, 0, 0, 0, b'x', 0],
        &[4, 126, 0],
        &[4, 62],
        &[3, 1],
        &[106, 1],
        &[0x6a, 0x82],
    ];
    frames.extend(tickets.map(|ticket| udp((4000, 88), ticket)));
    compare_brief(&frames);
}

#[test]
fn routes_announced_over_udp_are_printed_as_tcpdump_prints_them() {
    let mut frames: Vec<_> =
        (0..=7).map(|command| udp((520, 520), &[&[command, 2, 0, 0][..], &[1; 20]].concat())).collect();
    frames.push(udp((520, 520), &[1, 0, 0, 0, 9]));
    frames.push(udp((520, 520), &[1, 1]));
    let route = |tag: u8, prefix: u8, metric: u8| [&HOSTS_V6.0[..], &[0, tag, prefix, metric]].concat();
    let all = [&[0; 16][..], &[0, 0, 0, 16]].concat();
    frames.extend([
        udp_v6((521, 521), &[&[1, 1, 0, 0][..], &all].concat()),
        udp_v6((521, 521), &[&[1, 1, 0, 0][..], &route(0, 64, 1), &route(7, 128, 16)].concat()),
        udp_v6((521, 521), &[&[2, 1, 0, 0][..], &route(0, 64, 1), &all, &[1, 2]].concat()),
        udp_v6((521, 521), &[2, 2, 0, 0]),
        udp_v6((521, 521), &[9, 1, 0, 0]),
        udp_v6((521, 521), &[2, 1, 0]),
    ]);
    let messages: [&[u8]; 8] = [
        &[42, 2, 0, 8, 4, 6, 0, 0, 0, 1, 1, 0x90],
        &[42, 2, 0, 14, 8, 10, 1, 0xc0, 64, 0, 0, 1, 0, 1, 0, 1, 0, 1],
        &[42, 2, 0, 3, 8, 1, 1],
        &[42, 2, 0, 2, 0, 99, 2, 0, 0, 1],
        &[42, 2, 0, 99, 1],
        &[42, 2, 0, 2, 5],
        &[42, 3, 0, 0],
        &[41, 2, 0, 0],
    ];
    frames.extend(messages.map(|message| udp_v6((6696, 6696), message)));
    for (operation, state) in [(0, 16), (1, 8), (2, 4), (3, 0), (0, 3)] {
        let packet = [&[0, operation, state, 3, 10, 120, 7, state][..], &[0; 8], &[10, 0, 0, 9]].concat();
        frames.push(udp((1985, 1985), &packet));
    }
    frames.push(udp((1985, 1985), &[1, 2]));
    for (port, first, flags) in
        [(3784, 0x20, 0xc8), (4784, 0x20, 0x45), (6784, 0x21, 0x80), (3784, 0, 0xff), (3784, 0x60, 0)]
    {
        frames.push(udp((49_000, port), &[&[first, flags, 3, 24][..], &[1; 20]].concat()));
    }
    frames.push(udp((49_000, 3785), &[1, 2, 3]));
    compare_brief(&frames);
}

#[test]
fn samples_and_clocks_are_printed_as_tcpdump_prints_them() {
    let mut frames = Vec::new();
    for (version, family) in [(5, 1), (5, 2), (4, 1)] {
        let head = [&[0, 0, 0, version, 0, 0, 0, family][..], &HOSTS_V6.0].concat();
        frames.push(udp((4000, 6343), &[&head[..], &[0, 0, 0, 7].repeat(4)].concat()));
    }
    frames.push(udp((4000, 6343), &[0, 0, 0, 5, 0, 0, 0, 1, 1, 2]));
    frames.extend(
        [[0x6b, 0x00, 0, 1], [0x4f, 0xc0, 1, 2], [0, 0, 0, 0]]
            .map(|shim| udp((49_152, 4000), &[&shim[..], b"payload"].concat())),
    );
    frames.push(udp((49_152, 4000), &[1, 2]));
    for kind in 0..=0xf {
        let head = [
            &[kind, 2, 0, 44, 0, 0, 0x02, kind][..],
            &[0; 7],
            &[1],
            &[0; 4],
            &[9; 8],
            &[0, 1, 0, 7, kind, 0x7f],
        ];
        frames.push(udp((319, 319), &[head.concat(), vec![3; 40]].concat()));
    }
    frames.push(ethernet(0x88f7, &[&[0x10, 2][..], &[0xff; 60]].concat()));
    frames.push(udp((320, 320), &[0, 1].repeat(20)));
    frames.push(udp((320, 320), &[0, 2]));
    compare_brief(&frames);
}

/// A call and its reply.
fn called(number: u8, version: u8, procedure: u8, arguments: &[u8], result: &[u8]) -> [Vec<u8>; 2] {
    let head = |direction: u8| [0, 0, 1, number, 0, 0, 0, direction];
    let word = |number: u8| [0, 0, 0, number];
    let call =
        [&word(2), &[0, 1, 0x86, 0xa3], &word(version), &word(procedure)].map(|word| &word[..]).concat();
    // Credentials of six bytes, and no verifier.
    let who = [&word(1)[..], &word(6), &[1; 8], &[0; 8]].concat();
    [
        udp((700, 2049), &[&head(0)[..], &call, &who, arguments].concat()),
        udp_back((2049, 700), &[&head(1)[..], &[0; 4], &[0; 8], result].concat()),
    ]
}

#[test]
fn nfs_is_printed_as_tcpdump_prints_it() {
    let word = |number: u8| vec![0, 0, 0, number];
    let name = |name: &[u8]| {
        let len = u8::try_from(name.len()).expect("short");
        [word(len), name.to_vec(), vec![0; name.len().next_multiple_of(4) - name.len()]].concat()
    };
    let handle = [word(28), (1..=28).collect()].concat();
    let old_handle = [7; 32].to_vec();
    let set = [word(1), word(7), word(0), word(0), word(1), word(9), word(2), vec![5; 8], word(1)].concat();
    let attributes = [word(2), vec![0, 0, 1, 0xed], word(3), word(0), vec![0xff; 4], vec![1; 64]].concat();
    let found = [word(1), attributes.clone()].concat();
    let changed = [word(1), vec![9; 24], word(0)].concat();
    let none = word(0);
    let file = [&handle[..], &name(b"file\x1b")].concat();
    let some = [9; 40].to_vec();
    let arguments = |procedure: u8| match procedure {
        3 | 8 | 9 | 12 | 13 => file.clone(),
        4 => [handle.clone(), word(0x2d)].concat(),
        10 => [file.clone(), set.clone(), name(b"to")].concat(),
        11 => [file.clone(), word(4), set.clone()].concat(),
        14 => [file.clone(), file.clone()].concat(),
        15 => [handle.clone(), file.clone()].concat(),
        _ => [handle.clone(), some.clone()].concat(),
    };
    let result = |procedure: u8| match procedure {
        1 => attributes.clone(),
        2 | 7 | 12 | 13 | 21 => changed.clone(),
        3 => [handle.clone(), found.clone()].concat(),
        4 => [found.clone(), word(0x1f)].concat(),
        5 => [none.clone(), name(b"target")].concat(),
        8..=11 => [word(1), handle.clone(), found.clone()].concat(),
        _ => [found.clone(), some.clone(), some.clone()].concat(),
    };
    let good = [none.clone(), none.clone()].concat();
    let mut frames = Vec::new();
    for procedure in 0..=23 {
        frames.extend(called(
            procedure,
            3,
            procedure,
            &arguments(procedure),
            &[&good[..], &result(procedure)].concat(),
        ));
        let refused = [none.clone(), word(2), changed.clone()].concat();
        frames.extend(called(procedure + 50, 3, procedure, &arguments(procedure), &refused));
        let old = [old_handle.clone(), name(b"old"), old_handle.clone(), name(b"new")].concat();
        let answer = [good.clone(), old_handle.clone(), attributes.clone()].concat();
        frames.extend(called(procedure + 100, 2, procedure, &old, &answer));
        frames.extend(called(procedure + 150, 2, procedure, &old, &[none.clone(), word(70)].concat()));
    }
    for status in 1..=6 {
        frames.extend(called(200 + status, 3, 1, &handle, &word(status)));
    }
    let kinds: [&[u8]; 12] = [
        &[0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 9],
        &[0, 0, 1, 2, 3, 0, 3, 4, 12, 0, 0, 0, 0, 0, 0, 9],
        &[0, 0, 1, 2, 0, 8, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9],
        &[0, 0, 1, 2, 9, 9, 9, 9, 0, 0, 0, 7, 0, 0, 0, 9],
        &[1, 2, 0, 0, 1, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9],
        &[1, 2, 0, 0, 1, 1, 1, 1, 0, 9, 0, 7, 0, 0, 0, 9, 0, 0, 0, 0, 1, 0, 1, 0],
        &[1, 2, 0, 0, 1, 1, 1, 1, 0, 10, 0, 7, 0, 0, 0, 9],
        &[1, 2, 3, 4, 1, 1, 1, 1, 12, 0, 0, 7, 0, 0, 0, 9],
        &[1, 2, 3, 4, 0, 0, 0, 0, 0, 10, 0, 7, 0, 0, 0, 9],
        &[1, 2, 3, 4, 1, 0, 0, 2, 0, 10, 0, 7, 0, 0, 0, 9],
        b"xDISK$USER 1\0\0\0\0\0\0\0\0\x05\x06\0\0\x07\x08",
        &[1, 2, 3, 4],
    ];
    for kind in kinds {
        let len = u8::try_from(kind.len()).expect("short");
        frames.extend(called(255, 3, 1, &[&word(len)[..], kind, &none].concat(), &good));
    }
    let denied: [&[u8]; 4] = [
        &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3],
        &[0, 0, 0, 1, 0, 0, 0, 2],
        &[0, 0, 0, 1, 0, 0, 0, 9],
        &[0, 0, 0, 7],
    ];
    frames.extend(
        denied.map(|why| udp_back((2049, 700), &[&[0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1], why].concat())),
    );
    frames.push(udp_back((2049, 700), &[0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 2]));
    frames.push(udp_back((2049, 700), &[0, 0, 9, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    let message = &frames[2][42..];
    let len = u8::try_from(message.len()).expect("short");
    frames.extend(session(2049, &[&[&[0x80, 0, 0, len][..], message].concat(), b"", &[0, 0]]));
    compare_undamaged(&frames);
}
