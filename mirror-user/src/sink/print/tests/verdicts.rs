//! Checksum verdicts if the checksum covers addresses other than those in the header, and without a verdict.

use etherparse::{IpNumber, Ipv4Header, Ipv4Options, TcpHeader, UdpHeader};

use super::{made::*, *};

const NEAR: [u8; 16] = HOSTS_V6.1;
const FAR: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99];

/// The verdicts printed of these frames with `-vv`.
fn verdicts(frames: &[Outer]) -> Vec<&'static str> {
    let mut lines = Lines::new(Style::default().time(Time::None).verbosity(2));
    let verdict = |frame: &Outer| {
        let mut text = String::new();
        lines.line(&frame.frame(), &mut text);
        if ["udp sum ok", "icmp6 sum ok", "(correct)"].iter().any(|good| text.contains(good)) {
            "ok"
        } else if ["bad udp cksum", "bad icmp6 cksum", "(incorrect"].iter().any(|bad| text.contains(bad)) {
            "bad"
        } else {
            "none"
        }
    };
    frames.iter().map(verdict).collect()
}

fn all(frame: &[u8]) -> Outer {
    outer(frame, frame.len())
}

/// A datagram whose checksum covers these addresses.
fn datagram(source: [u8; 16], destination: [u8; 16]) -> Vec<u8> {
    let mut header = UdpHeader { source_port: 1000, destination_port: 9999, length: 12, checksum: 0 };
    header.checksum = header.calc_checksum_ipv6_raw(source, destination, b"data").expect("short");
    [&header.to_bytes()[..], b"data"].concat()
}

fn segment(destination: [u8; 16]) -> Vec<u8> {
    let mut header = TcpHeader::new(1000, 9999, 7, 1024);
    header.checksum = header.calc_checksum_ipv6_raw(HOSTS_V6.0, destination, b"data").expect("short");
    [&header.to_bytes()[..], b"data"].concat()
}

fn echo(destination: [u8; 16]) -> Vec<u8> {
    let message = etherparse::Icmpv6Type::EchoRequest(etherparse::IcmpEchoHeader { id: 1, seq: 2 });
    let header =
        etherparse::Icmpv6Header::with_checksum(message, HOSTS_V6.0, destination, b"data").expect("short");
    [&header.to_bytes()[..], b"data"].concat()
}

/// A routing header with this type, segments left, and segments.
fn routing(next: u8, kind: u8, left: u8, segments: &[[u8; 16]]) -> Vec<u8> {
    let units = u8::try_from(2 * segments.len()).expect("few");
    [&[next, units, kind, left, 0, 0, 0, 0][..], &segments.concat()].concat()
}

#[test]
fn checksums_cover_the_last_segment_while_segments_are_left() {
    let with = |header: Vec<u8>, destination: [u8; 16]| {
        all(&ipv6_of(43, &[header, datagram(HOSTS_V6.0, destination)].concat()))
    };
    let frames = [
        with(routing(17, 0, 1, &[FAR]), FAR),
        with(routing(17, 0, 1, &[FAR]), NEAR),
        with(routing(17, 0, 2, &[NEAR, FAR]), FAR),
        with(routing(17, 0, 0, &[FAR]), NEAR),
        with(routing(17, 0, 0, &[FAR]), FAR),
        with(routing(17, 2, 1, &[FAR]), FAR),
        with(routing(17, 2, 0, &[FAR]), NEAR),
        // The list of type 4 begins with the last.
        with(routing(17, 4, 1, &[FAR, NEAR]), FAR),
        with(routing(17, 4, 1, &[FAR, NEAR]), NEAR),
        with(routing(17, 4, 0, &[FAR, NEAR]), NEAR),
    ];
    assert_eq!(verdicts(&frames), ["ok", "bad", "ok", "ok", "bad", "ok", "ok", "ok", "bad", "ok"]);
}

#[test]
fn tcp_and_icmpv6_checksums_too_also_after_other_headers() {
    let behind = |next: u8, payload: Vec<u8>| {
        all(&ipv6_of(43, &[routing(next, 4, 1, &[FAR, NEAR]), payload].concat()))
    };
    let options = [43, 0, 1, 4, 0, 0, 0, 0];
    let twice = [&options[..], &routing(60, 0, 1, &[FAR]), &[17, 0, 1, 4, 0, 0, 0, 0]].concat();
    let frames = [
        behind(6, segment(FAR)),
        behind(6, segment(NEAR)),
        behind(58, echo(FAR)),
        behind(58, echo(NEAR)),
        all(&ipv6_of(60, &[&twice[..], &datagram(HOSTS_V6.0, FAR)].concat())),
        all(&ipv6_of(0, &[&options[..], &routing(17, 0, 1, &[FAR]), &datagram(HOSTS_V6.0, FAR)].concat())),
    ];
    assert_eq!(verdicts(&frames), ["ok", "bad", "ok", "bad", "ok", "ok"]);
}

/// RFC 6275 section 11.3.1.
#[test]
fn checksums_of_a_mobile_node_cover_its_home_address() {
    let option = [&[17, 2, 1, 2, 0, 0, 0xc9, 16][..], &FAR].concat();
    let with = |source| all(&ipv6_of(60, &[&option[..], &datagram(source, NEAR)].concat()));
    assert_eq!(verdicts(&[with(FAR), with(HOSTS_V6.0)]), ["ok", "bad"]);
}

#[test]
fn ipv4_checksums_cover_the_last_address_of_an_unfinished_source_route() {
    let far = [10, 9, 9, 9];
    let with = |kind: u8, pointer: u8, destination: [u8; 4]| {
        let mut header = Ipv4Header::new(12, 64, IpNumber::UDP, HOSTS.0, HOSTS.1).expect("fits");
        let [a, b, c, d] = far;
        header.options = Ipv4Options::try_from(&[kind, 7, pointer, a, b, c, d, 0][..]).expect("options");
        header.total_len = u16::try_from(header.header_len() + 12).expect("fits");
        header.header_checksum = header.calc_header_checksum();
        let mut udp = UdpHeader { source_port: 1000, destination_port: 9999, length: 12, checksum: 0 };
        udp.checksum = udp.calc_checksum_ipv4_raw(HOSTS.0, destination, b"data").expect("short");
        all(&ethernet(0x0800, &[&header.to_bytes()[..], &udp.to_bytes(), b"data"].concat()))
    };
    let frames = [
        with(131, 4, far),
        with(131, 4, HOSTS.1),
        with(137, 4, far),
        with(137, 8, HOSTS.1),
        with(137, 8, far),
        with(7, 4, HOSTS.1),
    ];
    assert_eq!(verdicts(&frames), ["ok", "bad", "ok", "ok", "bad", "ok"]);
}

#[test]
fn truncated_packets_have_no_verdict() {
    let whole = ipv6_of(6, &segment(NEAR));
    let first = ipv6_of(44, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &datagram(HOSTS_V6.0, NEAR)].concat());
    // UDP-Lite covers its declared length (RFC 3828).
    let lite = ipv6_of(136, &datagram(HOSTS_V6.0, NEAR));
    let cut = |frame: &[u8], missing: usize| outer(&frame[..frame.len() - missing], frame.len());
    let frames = [all(&whole), cut(&whole, 1), cut(&ipv6_of(58, &echo(NEAR)), 2), all(&first), all(&lite)];
    assert_eq!(verdicts(&frames), ["ok", "none", "none", "none", "none"]);
}
