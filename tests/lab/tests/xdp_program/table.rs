//! Packets and the program's verdicts on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use action::{DROP, PASS};
use mirror_ebpf::mirror::Counter;
use mirror_lab::frames::{Outer, OuterIp, TPID_8021AD, TPID_8021Q, inner_of_len, inner_udp};

/// XDP actions (`enum xdp_action`, include/uapi/linux/bpf.h).
pub(crate) mod action {
    pub(crate) const DROP: u32 = 1;
    pub(crate) const PASS: u32 = 2;
    pub(crate) const REDIRECT: u32 = 4;
}

pub(crate) const VNI: u32 = 12345;
pub(crate) const OTHER_VNI: u32 = 54321;

/// A packet and the program's verdict on it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) frame: Vec<u8>,
    pub(crate) action: u32,
    pub(crate) counter: Counter,
}

pub(crate) fn case(name: &'static str, frame: Vec<u8>, action: u32, counter: Counter) -> Case {
    Case { name, frame, action, counter }
}

pub(crate) fn inner() -> Vec<u8> {
    inner_of_len(60).expect("an inner frame")
}

pub(crate) fn plain() -> Outer {
    Outer::sample(VNI)
}

pub(crate) fn frame(outer: &Outer) -> Vec<u8> {
    outer.encapsulate(&inner()).expect("values that fit")
}

/// [`plain`] with changes.
pub(crate) fn changed(change: impl FnOnce(&mut Outer)) -> Vec<u8> {
    let mut outer = plain();
    change(&mut outer);
    frame(&outer)
}

pub(crate) fn fragment(offset: u16, more: bool) -> Vec<u8> {
    changed(|outer| {
        if let OuterIp::V4 { fragment_offset, more_fragments, .. } = &mut outer.ip {
            (*fragment_offset, *more_fragments) = (offset, more);
        }
    })
}

pub(crate) fn with_options(len: usize) -> Outer {
    let mut outer = plain();
    if let OuterIp::V4 { options, .. } = &mut outer.ip {
        // NOP (RFC 791 section 3.1).
        *options = vec![1; len];
    }
    outer
}

pub(crate) fn extension(number: u8, bytes: &[u8]) -> Vec<u8> {
    frame(&Outer::sample_v6(VNI, &[(number, bytes.to_vec())]))
}

/// A frame whose byte at `offset` is another.
pub(crate) fn patched(mut frame: Vec<u8>, offset: usize, byte: u8) -> Vec<u8> {
    frame[offset] = byte;
    frame
}

pub(crate) fn arp() -> Vec<u8> {
    let mut frame = frame(&plain());
    frame.truncate(60);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame
}

pub(crate) fn tcp_to(port: u16) -> Vec<u8> {
    changed(|outer| {
        outer.protocol = 6;
        outer.destination_port = port;
    })
}

pub(crate) fn tags(tags: &[(u16, u16)]) -> Vec<u8> {
    changed(|outer| outer.tags = tags.to_vec())
}

pub(crate) fn v6_between(source: Ipv6Addr) -> Vec<u8> {
    let mut outer = Outer::sample_v6(VNI, &[]);
    if let OuterIp::V6 { source: place, .. } = &mut outer.ip {
        *place = source;
    }
    frame(&outer)
}

pub(crate) fn v4_from(source: Ipv4Addr) -> Vec<u8> {
    changed(|outer| {
        if let OuterIp::V4 { source: place, .. } = &mut outer.ip {
            *place = source;
        }
    })
}

/// Verdicts that are the same with any settings. The queue has no socket, so our frames are passed and
/// counted as such.
pub(crate) fn common() -> Vec<Case> {
    use Counter::{Extension, Fragment, Geneve, Malformed, NoSocket, NotTunnel};
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
            Geneve,
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

pub(crate) fn vni_filtered() -> Vec<Case> {
    use Counter::{Fragment, NoSocket, NotTunnel, VniRefused};
    let other = |change: fn(&mut Outer)| {
        let mut outer = Outer::sample(OTHER_VNI);
        change(&mut outer);
        frame(&outer)
    };
    vec![
        case("VNI allowed", frame(&plain()), PASS, NoSocket),
        case("VNI refused", other(|_| ()), DROP, VniRefused),
        case("VNI 0", frame(&Outer::sample(0)), DROP, VniRefused),
        case("greatest VNI", frame(&Outer::sample(0xff_ffff)), DROP, VniRefused),
        case("VNI refused over IPv6", frame(&Outer::sample_v6(OTHER_VNI, &[])), DROP, VniRefused),
        case("VNI allowed over IPv6", frame(&Outer::sample_v6(VNI, &[])), PASS, NoSocket),
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

pub(crate) fn source_filtered() -> Vec<Case> {
    use Counter::{NoSocket, NotTunnel, SourceRefused};
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
        case("fragment of a refused source", patched(fragment(0, true), 26, 203), DROP, SourceRefused),
        case(
            "extension header of a refused source",
            patched(extension(0, &[0; 8]), 22, 0x30),
            DROP,
            SourceRefused,
        ),
    ]
}
