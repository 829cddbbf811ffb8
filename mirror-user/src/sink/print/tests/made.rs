//! Frames built around payloads.

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};

use super::*;

pub(super) const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
pub(super) const HOSTS: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 0, 0, 2]);
pub(super) const HOSTS_V6: ([u8; 16], [u8; 16]) = (
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
);
const ALL_FLAGS: [&[&str]; 4] = [&[], &["-v"], &["-vv"], &["-e", "-vvv"]];
const ALL_FLAGS_BUT_V: [&[&str]; 2] = [&[], &["-e"]];

/// Each frame, and its every prefix.
fn with_prefixes(frames: &[Vec<u8>]) -> Vec<Outer> {
    let cut =
        |frame: &Vec<u8>| (14..frame.len()).map(|len| outer(&frame[..len], frame.len())).collect::<Vec<_>>();
    let whole = frames.iter().map(|frame| outer(frame, frame.len()));
    whole.chain(frames.iter().flat_map(cut)).collect()
}

/// Compares each frame, and its every prefix, in all styles.
pub(super) fn compare(frames: &[Vec<u8>]) {
    let all = with_prefixes(frames);
    for flags in ALL_FLAGS {
        agree(&all, flags);
    }
}

pub(super) fn ipv4_of(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a packet's length");
    let mut header = Ipv4Header::new(len, 64, IpNumber(protocol), HOSTS.0, HOSTS.1).expect("fits");
    header.header_checksum = header.calc_header_checksum();
    [&MACS.1[..], &MACS.0, &[0x08, 0x00], &header.to_bytes(), payload].concat()
}

pub(super) fn ipv6_of(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = Ipv6Header { next_header: IpNumber(protocol), hop_limit: 255, ..Ipv6Header::default() };
    header.payload_length = u16::try_from(payload.len()).expect("a packet's length");
    (header.source, header.destination) = HOSTS_V6;
    [&MACS.1[..], &MACS.0, &[0x86, 0xdd], &header.to_bytes(), payload].concat()
}

pub(super) fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    udp_between(HOSTS, ports, payload)
}

/// A datagram from the second host to the first.
pub(super) fn udp_back(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    udp_between((HOSTS.1, HOSTS.0), ports, payload)
}

fn udp_between(hosts: ([u8; 4], [u8; 4]), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv4(hosts.0, hosts.1, 64)
        .udp(ports.0, ports.1)
        .write(&mut frame, payload)
        .expect("a frame");
    frame
}

/// Compares each frame, its every prefix, and damaged copies, in these styles.
fn compare_in(styles: &[&[&str]], frames: &[Vec<u8>]) {
    let mut all = with_prefixes(frames);
    all.extend(damaged(frames, 40));
    for flags in styles {
        agree(&all, flags);
    }
}

/// The same of payloads that are printed in full, in all styles.
pub(super) fn compare_full(frames: &[Vec<u8>]) {
    compare_in(&ALL_FLAGS, frames);
}

/// The same of payloads that are printed as without `-v`.
pub(super) fn compare_brief(frames: &[Vec<u8>]) {
    compare_in(&ALL_FLAGS_BUT_V, frames);
}

/// Compares each frame and its every prefix. Not damaged, because tcpdump then remembers other calls.
pub(super) fn compare_undamaged(frames: &[Vec<u8>]) {
    let all = with_prefixes(frames);
    for flags in ALL_FLAGS_BUT_V {
        agree(&all, flags);
    }
}

/// A frame with this EtherType.
pub(super) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&MACS.1[..], &MACS.0, &kind.to_be_bytes(), payload].concat()
}

/// A frame with a length instead of an EtherType, and LLC.
pub(super) fn llc(sap: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 3).expect("a frame's length");
    ethernet(len, &[&[sap, sap, 3], payload].concat())
}

pub(super) fn snap(whose: [u8; 3], which: u16, payload: &[u8]) -> Vec<u8> {
    llc(0xaa, &[&whose[..], &which.to_be_bytes(), payload].concat())
}

/// A datagram in IPv6.
pub(super) fn udp_v6(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv6(HOSTS_V6.0, HOSTS_V6.1, 64)
        .udp(ports.0, ports.1)
        .write(&mut frame, payload)
        .expect("a frame");
    frame
}

/// A whole connection to this port, with payloads in turn, the client first.
pub(super) fn session(port: u16, said: &[&[u8]]) -> Vec<Vec<u8>> {
    let ports = [40_000 + port % 1000, port];
    // The client's numbers wrap soon.
    let mut next = [u32::MAX - 20, 7_000];
    let mut frames = Vec::new();
    let mut segment = |from: usize, flags: [bool; 3], payload: &[u8], next: &mut [u32; 2]| {
        let [syn, ack, fin] = flags;
        let (source, destination) = if from == 0 { (HOSTS.0, HOSTS.1) } else { (HOSTS.1, HOSTS.0) };
        let mut builder = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4(source, destination, 64).tcp(
            ports[from],
            ports[1 - from],
            next[from],
            1024,
        );
        if syn {
            builder = builder.syn();
        }
        if ack {
            builder = builder.ack(next[1 - from]);
        }
        if fin {
            builder = builder.fin();
        }
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a frame");
        frames.push(frame);
        let len = u32::try_from(payload.len()).expect("a segment's length") + u32::from(syn || fin);
        next[from] = next[from].wrapping_add(len);
    };
    segment(0, [true, false, false], b"", &mut next);
    segment(1, [true, true, false], b"", &mut next);
    segment(0, [false, true, false], b"", &mut next);
    for (turn, words) in said.iter().enumerate() {
        segment(turn % 2, [false, true, false], words, &mut next);
    }
    segment(1, [false, true, true], b"", &mut next);
    segment(0, [false, true, true], b"", &mut next);
    segment(1, [false, true, false], b"", &mut next);
    frames
}
