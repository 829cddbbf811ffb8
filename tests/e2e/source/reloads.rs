//! HUP: rules change from one packet to the next, and everything else goes on.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use mirror_user::flow::{Packet, Ports};
use nix::sys::signal::Signal;

use super::{
    SOURCE, Subnet, UDP, accept, accept_all,
    common::mirror::{Mirror, until, whole_capture},
    filter, session,
};

/// The ports that the first session mirrors in turn, and that of the second one.
const PORTS: [u16; 2] = [7001, 7002];
const OTHER: u16 = 7003;

impl Subnet {
    /// The first session mirrors this port.
    fn set_up_port(&self, port: u16) {
        let filters =
            [filter("tmf-1", &accept(UDP, &[port]), &[]), filter("tmf-2", &accept(UDP, &[OTHER]), &[])];
        self.set_up(&filters, &[session(1, "tmf-1"), session(2, "tmf-2")]);
    }
}

/// Has a source read its files again, and waits until it has said so for the time of this number.
fn reload(source: &Mirror, said: &str, times: usize) {
    source.signal(Signal::SIGHUP);
    until("the files are read", || (source.said().matches(said).count() == times).then_some(()));
}

#[test]
fn hup_changes_rules_from_one_packet_to_the_next_and_refuses_broken_files() {
    const REFUSED: &str = "reload refused, all stays as it was";
    let subnet = Subnet::lay(true);
    let _server = subnet.serve(80);
    subnet.set_up_port(PORTS[0]);
    let target = subnet.ingest("-w inner.pcapng");
    let source = subnet.mirror();
    let (sent, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let some_more = || {
        let before = sent.load(Ordering::Relaxed);
        until("packets are sent", || (sent.load(Ordering::Relaxed) > before + 20).then_some(()));
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let socket = subnet.socket();
            for number in 0_u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                for port in [PORTS[number as usize % 2], OTHER] {
                    socket.send_to(&number.to_be_bytes(), (SOURCE, port)).expect("sent");
                }
                sent.store(number + 1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(500));
            }
        });
        let production = scope.spawn(|| subnet.get(80, 5_000_000));
        for (times, port) in (1..).zip([PORTS[1], PORTS[0], PORTS[1]]) {
            some_more();
            subnet.set_up_port(port);
            reload(&source, "reloaded", times);
        }
        std::fs::write(subnet.path().join("mirroring.json"), "{").expect("written");
        reload(&source, REFUSED, 1);
        some_more();
        // Carriers are those of the start.
        subnet.set_up(&[filter("tmf-1", &accept_all(), &[])], &[session(1, "tmf-1")]);
        reload(&source, REFUSED, 2);
        some_more();
        production.join().expect("production");
        stop.store(true, Ordering::Relaxed);
    });
    let said = source.said();
    assert!(said.contains("its sessions are tms-1, and were tms-1, tms-2 at the start"), "{said}");
    let (source, _) = subnet.end_both(source, target);
    let mut captured: Vec<(u16, u32)> =
        whole_capture(&subnet.captured()).frames().iter().map(|frame| numbered(frame)).collect();
    captured.retain(|(port, _)| *port != OTHER);
    let session = |nth: usize| &source["interfaces"][0]["sessions"][nth]["cloned"];
    assert_eq!([session(0), session(1)], [captured.len() as u64, sent.into_inner().into()], "{source:#}");
    let mut changes = 0;
    for pair in captured.windows(2) {
        let [(port, number), (next_port, next)] = [pair[0], pair[1]];
        if port == next_port {
            assert_eq!(next, number + 2, "a packet to {port} is missing");
        } else {
            changes += 1;
            // Of the two packets between them, none is mirrored where the second is the first to be judged by
            // the new rules.
            assert!([1, 3].contains(&(next - number)), "{number} to {port}, then {next} to {next_port}");
        }
    }
    assert_eq!(changes, 3);
}

/// Destination port and number of a datagram.
fn numbered(frame: &[u8]) -> (u16, u32) {
    let flow = Packet::of(frame).expect("a packet").flow;
    let Ports::Pair(_, port) = flow.ports else { panic!("no ports: {flow:?}") };
    (port, u32::from_be_bytes(*frame.last_chunk().expect("a number")))
}
