//! Flows that carry their number, as tcpdump and tshark see them.

use std::collections::{HashMap, HashSet};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use mirror_lab::{
    Injector, Lab, Result, VethEnd, VethOptions, VethPair, Witness,
    capture::{same_frames, write_pcap},
    flows::{FlowFrame, Fragment, frames, mirrored},
    tshark,
};

const FLOWS: u32 = 10_000;
const ROUNDS: u32 = 2;

/// Addresses and ports, source first, and protocol.
type FiveTuple = ([Vec<u8>; 2], [u16; 2], u8);

/// `None` for a fragment, of which etherparse reads no ports.
fn five_tuple(frame: &[u8]) -> Option<FiveTuple> {
    let packet = SlicedPacket::from_ethernet(frame).expect("a whole frame");
    let addresses = match packet.net? {
        NetSlice::Ipv4(ip) => [ip.header().source().to_vec(), ip.header().destination().to_vec()],
        NetSlice::Ipv6(ip) => [ip.header().source().to_vec(), ip.header().destination().to_vec()],
        NetSlice::Arp(_) => return None,
    };
    let (ports, protocol) = match packet.transport? {
        TransportSlice::Tcp(tcp) => ([tcp.source_port(), tcp.destination_port()], 6),
        TransportSlice::Udp(udp) => ([udp.source_port(), udp.destination_port()], 17),
        _ => return None,
    };
    Some((addresses, ports, protocol))
}

#[test]
fn every_flow_has_a_five_tuple_of_its_own_and_its_way_back() -> Result<()> {
    let mut flows = HashMap::new();
    let mut kinds = HashMap::new();
    for frame in frames(FLOWS, ROUNDS)? {
        let this = FlowFrame::of(&frame).expect("a frame of ours");
        let Some((mut addresses, mut ports, protocol)) = five_tuple(&frame) else {
            assert!(this.is_fragmented());
            continue;
        };
        *kinds.entry((addresses[0].len(), protocol)).or_insert(0) += 1;
        if !this.to_server {
            addresses.reverse();
            ports.reverse();
        }
        assert_eq!(*flows.entry((addresses, ports, protocol)).or_insert(this.flow), this.flow);
    }
    assert_eq!(flows.len(), 9_900);
    assert_eq!(flows.values().collect::<HashSet<_>>().len(), 9_900);
    assert_eq!(
        kinds,
        HashMap::from([((4, 6), 10_000), ((4, 17), 9_600), ((16, 6), 10_000), ((16, 17), 10_000)])
    );
    Ok(())
}

#[test]
fn both_fragments_of_a_datagram_are_matched_by_addresses_and_id() -> Result<()> {
    let mut datagrams: HashMap<_, Vec<_>> = HashMap::new();
    for frame in frames(FLOWS, ROUNDS)? {
        let this = FlowFrame::of(&frame).expect("a frame of ours");
        let fragment = Fragment::of_inner(&frame);
        assert_eq!(fragment.is_some(), this.is_fragmented());
        if let Some(Fragment { source, destination, id, offset, more }) = fragment {
            datagrams.entry((source, destination, id)).or_default().push((this, offset, more));
        }
    }
    // A hundred flows, two directions, two rounds.
    assert_eq!(datagrams.len(), 400);
    let all: HashSet<FlowFrame> = datagrams.values().map(|fragments| fragments[0].0).collect();
    assert_eq!(all.len(), 400);
    for fragments in datagrams.values() {
        let this = fragments[0].0;
        assert_eq!(*fragments, [(this, 0, true), (this, 1_480, false)]);
    }
    Ok(())
}

#[test]
fn tshark_finds_nothing_wrong_and_puts_the_fragments_together() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for captures");
    let file = directory.path().join("flows.pcap");
    write_pcap(&file, &frames(1_000, ROUNDS)?)?;
    assert_eq!(tshark::malformed(&file)?, "");
    let mut tshark = std::process::Command::new("tshark");
    tshark.arg("-r").arg(&file).args(["-n", "-Y", "ip.reassembled.length || tcp.analysis.flags"]);
    let found = mirror_lab::run(tshark.args(["-T", "fields", "-e", "ip.reassembled.length"]))?;
    // Ten flows, two directions, two rounds; UDP header, filled first fragment, a mark.
    assert_eq!(found, "1497\n".repeat(40));
    Ok(())
}

#[test]
fn ten_thousand_flows_arrive_byte_for_byte_and_each_is_identified_by_its_outer_frame() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for captures");
    let inner = frames(FLOWS, 1)?;
    let outer = mirrored(&inner, 77)?;
    let lab = Lab::new()?;
    let (left, right) = (lab.namespace("left")?, lab.namespace("right")?);
    let (a, b) = (VethEnd::new(&left, "gen0"), VethEnd::new(&right, "cap0"));
    VethPair::create(a, b, &VethOptions::default())?;
    let witness = Witness::start(&right, "cap0", &directory.path().join("seen.pcap"), "")?;
    let sent = Injector::new(&left, "gen0")?.send_all(&outer)?;
    let seen = witness.stop()?;
    lab.teardown()?;
    assert_eq!((seen.captured, seen.dropped), (sent, 0));
    same_frames(&outer, &seen.frames)?;
    let turns: HashSet<FlowFrame> = seen.frames.iter().filter_map(|frame| FlowFrame::of(frame)).collect();
    assert_eq!(turns.len(), 20_000);
    // Both directions of a flow, and all fragments, have one source port: as mirrors in AWS do.
    let mut ports = HashMap::new();
    for frame in &seen.frames {
        let flow = FlowFrame::of(frame).map(|frame| frame.flow);
        assert_eq!(*ports.entry(flow).or_insert(&frame[34..36]), &frame[34..36]);
    }
    assert_eq!(ports.len(), 10_000);
    Ok(())
}
