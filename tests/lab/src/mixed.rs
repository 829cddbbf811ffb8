//! Inner frames of many kinds, as in a mirrored subnet, for tests that distinguish them.

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv4Type, Icmpv6Type, IpNumber, PacketBuilder,
    TcpOptionElement, VlanId, icmpv4::DestUnreachableHeader, icmpv6::DestUnreachableCode,
};

use crate::{error::Result, fragment, frames::unfit};

const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0a];
const SERVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0b];
const BROADCAST: [u8; 6] = [0xff; 6];
const CLIENT: [u8; 4] = [10, 1, 0, 10];
const SERVER: [u8; 4] = [10, 1, 0, 11];
const RESOLVER: [u8; 4] = [10, 1, 0, 2];
const ELSEWHERE: [u8; 4] = [192, 0, 2, 80];
const CLIENT_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a];
const SERVER_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b];

/// The frames, the same on every call, with right checksums where nothing else is said: ARP, ICMP, TCP with
/// its flags and options, UDP with DNS in it, fragments, IPv6 with and without extension headers, VLAN tags,
/// protocols that have no ports, Ethernet that is no IP, and frames cut short within their headers.
///
/// # Errors
///
/// None in practice; those of the frame builder.
pub fn mixed() -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    frames.extend(arp()?);
    frames.extend(icmp()?);
    frames.extend(tcp()?);
    frames.extend(udp()?);
    frames.extend(ipv6()?);
    frames.extend(tagged()?);
    frames.extend(unusual()?);
    Ok(frames)
}

/// A builder's frame; its packet builder type differs from one to the next.
macro_rules! built {
    ($builder:expr, $payload:expr) => {{
        let mut frame = Vec::new();
        $builder.write_to_vec(&mut frame, $payload).map_err(unfit)?;
        frame
    }};
}

fn arp() -> Result<Vec<Vec<u8>>> {
    let packet = |operation, (from, from_ip): ([u8; 6], [u8; 4]), (to, to_ip): ([u8; 6], [u8; 4])| {
        let ip = EtherType::IPV4;
        ArpPacket::new(ArpHardwareId::ETHERNET, ip, operation, &from, &from_ip, &to, &to_ip).map_err(unfit)
    };
    let frame = |from, to, packet| -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(from, to).arp(packet).write_to_vec(&mut frame).map_err(unfit)?;
        Ok(frame)
    };
    Ok(vec![
        frame(CLIENT_MAC, BROADCAST, packet(ArpOperation::REQUEST, (CLIENT_MAC, CLIENT), ([0; 6], SERVER))?)?,
        frame(
            SERVER_MAC,
            CLIENT_MAC,
            packet(ArpOperation::REPLY, (SERVER_MAC, SERVER), (CLIENT_MAC, CLIENT))?,
        )?,
    ])
}

fn icmp() -> Result<Vec<Vec<u8>>> {
    let there = || PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv4(CLIENT, SERVER, 64);
    let back = || PacketBuilder::ethernet2(SERVER_MAC, CLIENT_MAC).ipv4(SERVER, CLIENT, 63);
    let refused = built!(there().udp(40_001, 33_434), b"hello");
    let port = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    Ok(vec![
        built!(there().icmpv4_echo_request(7, 1), &[0x61; 56]),
        built!(back().icmpv4_echo_reply(7, 1), &[0x61; 56]),
        built!(back().icmpv4(port), &refused[14..]),
        refused,
    ])
}

fn tcp() -> Result<Vec<Vec<u8>>> {
    let there = || PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv4(CLIENT, SERVER, 64);
    let back = || PacketBuilder::ethernet2(SERVER_MAC, CLIENT_MAC).ipv4(SERVER, CLIENT, 63);
    let options = [
        TcpOptionElement::MaximumSegmentSize(1460),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(100, 0),
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(7),
    ];
    let syn = there().tcp(40_000, 443, 1_000, 64_240).syn().options(&options).map_err(unfit)?;
    let syn_ack = back().tcp(443, 40_000, 9_000, 65_160).syn().ack(1_001).options(&options).map_err(unfit)?;
    let away = PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv4(CLIENT, ELSEWHERE, 64);
    let get = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    Ok(vec![
        built!(syn, &[]),
        built!(syn_ack, &[]),
        built!(there().tcp(40_000, 443, 1_001, 502).ack(9_001), &[]),
        built!(there().tcp(40_000, 443, 1_001, 502).psh().ack(9_001), &[0x16; 517]),
        built!(back().tcp(443, 40_000, 9_001, 501).psh().ack(1_518), &[0x17; 1200]),
        built!(there().tcp(40_000, 443, 1_518, 502).fin().ack(10_201), &[]),
        built!(back().tcp(443, 40_000, 10_201, 0).rst(), &[]),
        built!(away.tcp(40_002, 80, 5, 1024).psh().ack(6), get),
        built!(there().tcp(40_003, 22, 5, 1024).psh().urg(3).ack(6).ece().cwr(), b"SSH-2.0-x\r\n"),
    ])
}

fn udp() -> Result<Vec<Vec<u8>>> {
    // RFC 1035: a question for the address of example.com, and an answer.
    let question: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
    let mut answer = question.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[7] = 1;
    answer.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x5d\xb8\xd8\x22");
    let ask = || PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv4(CLIENT, RESOLVER, 64);
    let tell = PacketBuilder::ethernet2(SERVER_MAC, CLIENT_MAC).ipv4(RESOLVER, CLIENT, 255);
    let everyone = PacketBuilder::ethernet2(CLIENT_MAC, BROADCAST).ipv4([0; 4], [255; 4], 64);
    let group =
        PacketBuilder::ethernet2(CLIENT_MAC, [0x01, 0, 0x5e, 0, 0, 0xfb]).ipv4(CLIENT, [224, 0, 0, 251], 1);
    // The second of the two fragments has no ports.
    let there = PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv4(CLIENT, SERVER, 64);
    let fragments = fragment(&built!(there.udp(9_000, 9_001), &[0x62; 2_000]), 77, &[1_480])?;
    let mut frames = vec![
        built!(ask().udp(40_010, 53), question),
        built!(tell.udp(53, 40_010), &answer),
        built!(ask().udp(123, 123), &[0x23; 48]),
        built!(everyone.udp(68, 67), &[1; 300]),
        built!(group.udp(5_353, 5_353), question),
    ];
    frames.extend(fragments);
    Ok(frames)
}

fn ipv6() -> Result<Vec<Vec<u8>>> {
    let there = || PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv6(CLIENT_V6, SERVER_V6, 64);
    let back = || PacketBuilder::ethernet2(SERVER_MAC, CLIENT_MAC).ipv6(SERVER_V6, CLIENT_V6, 63);
    let solicited = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0x0b];
    let group =
        PacketBuilder::ethernet2(CLIENT_MAC, [0x33, 0x33, 0xff, 0, 0, 0x0b]).ipv6(CLIENT_V6, solicited, 255);
    let solicitation = [&SERVER_V6[..], &[1, 1], &CLIENT_MAC].concat();
    let refused = built!(there().udp(40_020, 33_435), b"hello");
    let port = Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port);
    // A destination options header of one unit (RFC 8200 section 4.6) in front of UDP.
    let mut extended = built!(there().udp(40_021, 53), b"extended");
    let payload_len = u16::from_be_bytes([extended[18], extended[19]]) + 8;
    extended[18..20].copy_from_slice(&payload_len.to_be_bytes());
    extended[20] = 60;
    extended.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    Ok(vec![
        built!(there().icmpv6_echo_request(8, 1), &[0x61; 56]),
        built!(back().icmpv6_echo_reply(8, 1), &[0x61; 56]),
        built!(group.icmpv6_raw(135, 0, [0; 4]), &solicitation),
        built!(back().icmpv6(port), &refused[14..]),
        refused,
        built!(there().tcp(40_022, 443, 1, 64_800).syn(), &[]),
        built!(back().tcp(443, 40_022, 2, 64_260).psh().ack(2), &[0x17; 90]),
        extended,
    ])
}

fn tagged() -> Result<Vec<Vec<u8>>> {
    let id = |id: u16| VlanId::try_new(id).map_err(unfit);
    let ethernet = || PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC);
    Ok(vec![
        built!(
            ethernet().single_vlan(id(100)?).ipv4(CLIENT, SERVER, 64).tcp(40_030, 443, 1, 500).ack(1),
            b"tagged"
        ),
        built!(ethernet().double_vlan(id(200)?, id(7)?).ipv4(CLIENT, SERVER, 64).udp(40_031, 53), b"twice"),
    ])
}

fn unusual() -> Result<Vec<Vec<u8>>> {
    let protocol = |protocol: IpNumber, payload: &[u8]| -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC)
            .ipv4(CLIENT, SERVER, 64)
            .write(&mut frame, protocol, payload)
            .map_err(unfit)?;
        Ok(frame)
    };
    let mut lldp = [[0x01, 0x80, 0xc2, 0, 0, 0x0e], CLIENT_MAC].concat();
    lldp.extend_from_slice(&[
        0x88, 0xcc, 2, 7, 4, 2, 0, 0, 0, 0, 0x0a, 4, 3, 7, b'e', b'0', 6, 2, 0, 120, 0, 0,
    ]);
    // IEEE 802.3 with a length in the place of a type, LLC of a spanning tree.
    let mut spanning_tree = [[0x01, 0x80, 0xc2, 0, 0, 0], CLIENT_MAC].concat();
    spanning_tree.extend_from_slice(&[0, 38, 0x42, 0x42, 3]);
    spanning_tree.resize(60, 0);
    let whole = built!(
        PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC)
            .ipv4(CLIENT, SERVER, 64)
            .tcp(40_040, 443, 1, 9)
            .ack(1),
        &[0x63; 400]
    );
    let cut = |len: usize| whole[..len].to_vec();
    let mut frames = vec![
        protocol(IpNumber::GRE, &[0, 0, 8, 0, 0x45, 0, 0, 20])?,
        protocol(IpNumber::SCTP, &[0x9c, 0x40, 0x0b, 0x59, 0, 0, 0, 0, 0, 0, 0, 0])?,
        protocol(IpNumber::IGMP, &[0x11, 0, 0xee, 0xff, 0, 0, 0, 0])?,
        protocol(IpNumber::ENCAPSULATING_SECURITY_PAYLOAD, &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9])?,
        protocol(IpNumber(253), b"experimental")?,
        lldp,
        spanning_tree,
    ];
    frames.extend([200, 60, 50, 40, 36, 30, 20, 14].map(cut));
    Ok(frames)
}
