//! Packets of other kinds than whole ones of TCP and UDP: fragments, ICMP, tagged frames, and what other
//! programs drop.

use aya::{
    Ebpf,
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};
use mirror_ebpf::{DISCARD_OBJECT, discard};
use mirror_lab::{Injector, InterfaceCounters, frames::inner_udp};

use super::{
    CLIENT, ETHERNET, SOURCE, Subnet, UDP, accept, accept_all, account, assert_same_frames,
    common::mirror::{Mirror, until, whole_capture},
    filter, of_directions, of_sessions, session,
};

/// No socket listens there, so that the source answers with ICMP errors.
const PORT: u16 = 7001;

/// Datagrams of three fragments, and the ICMP errors that answer them.
#[test]
fn fragments_and_icmp_are_at_the_target_as_the_client_sees_them() {
    const DATAGRAMS: usize = 5;
    let subnet = Subnet::lay(true);
    subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session(1, "tmf-1")]);
    let (witness, target) = (subnet.witness(&of_client()), subnet.ingest("-w inner.pcapng"));
    let source = subnet.mirror();
    let socket = subnet.socket();
    for _ in 0..DATAGRAMS {
        socket.send_to(&[0x5a; 4_000], (SOURCE, PORT)).expect("sent");
    }
    clients_packets_are_seen(&source, 3 * DATAGRAMS as u64);
    let seen = witness.stop().expect("witness").frames;
    let icmp = seen.iter().filter(|frame| frame[23] == 1).count();
    assert!(icmp > 0, "no ICMP error");
    assert_eq!(seen.len() - icmp, 3 * DATAGRAMS);
    subnet.end_both(source, target);
    assert_same_frames(seen, whole_capture(&subnet.captured()).frames());
}

/// Only the first fragment has ports.
#[test]
fn of_fragments_only_the_first_matches_a_rule_with_ports() {
    let subnet = Subnet::lay(false);
    subnet.set_up(&[filter("tmf-1", &accept(UDP, &[PORT]), &[])], &[session(1, "tmf-1")]);
    let target = subnet.ingest("");
    let source = subnet.mirror();
    subnet.socket().send_to(&[0x5a; 4_000], (SOURCE, PORT)).expect("sent");
    clients_packets_are_seen(&source, 3);
    let (source, _) = subnet.end_both(source, target);
    assert_eq!(of_sessions(&source, "sent"), 1, "{source:#}");
    let [others, _] = of_directions(&source, "/no_session");
    assert_eq!(others, 2, "{source:#}");
}

/// The tag is beside the packet in the kernel, and in front of it in the copy.
#[test]
fn tagged_frames_are_at_the_target_with_their_tags() {
    const TAG: [u8; 4] = [0x81, 0, 0, 7];
    const DATAGRAMS: usize = 20;
    let subnet = Subnet::lay(true);
    subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session(1, "tmf-1")]);
    let (witness, target) = (subnet.witness("vlan"), subnet.ingest("-w inner.pcapng"));
    let source = subnet.mirror();
    let (client, host) = ((&subnet.client, CLIENT), (&subnet.source, SOURCE));
    for ((from, source), (_, destination)) in [(client, host), (host, client)] {
        let mut frame =
            inner_udp((source.into(), PORT), (destination.into(), PORT), &[0x5a; 100]).expect("a frame");
        for (at, address) in [(0, destination), (6, source)] {
            let [.., last] = address.octets();
            frame[at..at + 6].copy_from_slice(&[2, 0, 0, 0, 1, last]);
        }
        frame.splice(12..12, TAG);
        let injector = Injector::new(from, ETHERNET).expect("an injector");
        injector.send_all(&vec![frame; DATAGRAMS]).expect("sent");
    }
    clients_packets_are_seen(&source, DATAGRAMS as u64);
    let seen = witness.stop().expect("witness").frames;
    assert_eq!(seen.len(), 2 * DATAGRAMS);
    assert!(seen.iter().all(|frame| frame[12..16] == TAG), "{seen:?}");
    subnet.end_both(source, target);
    assert_same_frames(seen, whole_capture(&subnet.captured()).frames());
}

#[test]
fn copies_of_numbered_packets_are_in_the_sequence_of_the_packets() {
    const DATAGRAMS: u32 = 2_000;
    let subnet = Subnet::lay(false);
    subnet.set_up(&[filter("tmf-1", &accept(UDP, &[PORT]), &[])], &[session(1, "tmf-1")]);
    let target = subnet.ingest("-w inner.pcapng");
    let source = subnet.mirror();
    let socket = subnet.socket();
    for number in 0..DATAGRAMS {
        socket.send_to(&number.to_be_bytes(), (SOURCE, PORT)).expect("sent");
    }
    clients_packets_are_seen(&source, DATAGRAMS.into());
    subnet.end_both(source, target);
    let captured = whole_capture(&subnet.captured()).frames();
    let numbers =
        captured.iter().map(|frame| u32::from_be_bytes(frame[42..46].try_into().expect("a number")));
    assert!(numbers.eq(0..DATAGRAMS), "not in the sequence in which they were sent");
}

/// Of a program that drops everything, with tcx.
#[test]
fn by_order_packets_are_seen_before_or_after_programs_that_drop_them() {
    const DATAGRAMS: u64 = 10;
    for (order, seen) in [("first", DATAGRAMS), ("last", 0)] {
        let subnet = Subnet::lay(false);
        subnet.set_up(&[filter("tmf-1", &accept(UDP, &[PORT]), &[])], &[session(1, "tmf-1")]);
        // ARP would be dropped, too.
        let neighbour = format!("neighbour replace {SOURCE} lladdr 02:00:00:00:01:02 dev {ETHERNET}");
        subnet.client.ip(&format!("{neighbour} nud permanent")).expect("ip");
        let mut object = Ebpf::load(DISCARD_OBJECT).expect("an object");
        let program = object.program_mut(discard::PROGRAM).expect("a program");
        let program: &mut SchedClassifier = program.try_into().expect("a classifier");
        program.load().expect("loaded");
        let attach = || {
            let order = TcAttachOptions::TcxOrder(LinkOrder::default());
            program.attach_with_options(ETHERNET, TcAttachType::Ingress, order)
        };
        if let Err(error) = subnet.source.enter(attach).expect("namespace") {
            println!("SKIPPED: {error}: needs tcx (kernel 6.6)");
            return;
        }
        let source = subnet.mirror_with(&format!("--order {order}"));
        let (before, socket) = (received(&subnet), subnet.socket());
        for _ in 0..DATAGRAMS {
            socket.send_to(&[0; 8], (SOURCE, PORT)).expect("sent");
        }
        until("the source's interface has them", || (received(&subnet) >= before + DATAGRAMS).then_some(()));
        let report = subnet.end(source);
        assert_eq!(of_sessions(&report, "cloned"), seen, "{order}: {report:#}");
    }
}

/// What the switch sends to the client beside that are copies, until it knows the target.
fn of_client() -> String {
    format!("ip host {CLIENT}")
}

/// Waits until the source's rules have judged so many packets that it received.
fn clients_packets_are_seen(source: &Mirror, packets: u64) {
    until("the source has seen the packets", || {
        let account = account(source);
        let (_, ingress) = account.split_once("ingress: ")?;
        // "N seen = N cloned + N without a match + …"
        let fates = ingress.lines().next()?.split(" = ").nth(1)?.split(" + ").take(2);
        let judged = fates.map(|fate| fate.split(' ').next()?.parse::<u64>().ok());
        (judged.sum::<Option<u64>>()? >= packets).then_some(())
    });
}

fn received(subnet: &Subnet) -> u64 {
    InterfaceCounters::read(&subnet.source, ETHERNET).expect("counters").rx_packets
}
