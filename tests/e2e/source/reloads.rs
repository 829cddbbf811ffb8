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

    /// The client sends datagrams of each number in turn for as long as something takes, which is given a way
    /// to wait for some more of them. Returns how many numbers there were.
    fn numbered_while(&self, ports_of: impl Fn(u32) -> Vec<u16> + Sync, what: impl FnOnce(&dyn Fn())) -> u32 {
        let (sent, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        let some_more = || {
            let before = sent.load(Ordering::Relaxed);
            until("packets are sent", || (sent.load(Ordering::Relaxed) > before + 50).then_some(()));
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let socket = self.socket();
                for number in 0_u32.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    for port in ports_of(number) {
                        socket.send_to(&number.to_be_bytes(), (SOURCE, port)).expect("sent");
                    }
                    sent.store(number + 1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(500));
                }
            });
            what(&some_more);
            stop.store(true, Ordering::Relaxed);
        });
        sent.into_inner()
    }
}

/// Ports of a source that sessions mirror: of each number, a datagram is sent to each of them.
const OF_SESSIONS: [u16; 3] = [7001, 7002, 7003];

/// Has a source read its files again, and waits until it has said so for the time of this number.
pub(super) fn reload(source: &Mirror, said: &str, times: usize) {
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
    // Each of the two has every second number.
    let ports_of = |number: u32| vec![PORTS[number as usize % 2], OTHER];
    let sent = subnet.numbered_while(ports_of, |some_more| {
        thread::scope(|scope| {
            let production = scope.spawn(|| subnet.get(80, 5_000_000));
            for (times, port) in (1..).zip([PORTS[1], PORTS[0], PORTS[1]]) {
                some_more();
                subnet.set_up_port(port);
                reload(&source, "reloaded", times);
            }
            std::fs::write(subnet.path().join("mirroring.json"), "{").expect("written");
            reload(&source, REFUSED, 1);
            some_more();
            let mut elsewhere = session(3, "tmf-1");
            elsewhere["TrafficMirrorTargetId"] = "tmt-2".into();
            let sessions = [session(1, "tmf-1"), elsewhere];
            subnet.set_up(&[filter("tmf-1", &accept_all(), &[])], &sessions);
            reload(&source, REFUSED, 2);
            some_more();
            production.join().expect("production");
        });
    });
    let said = source.said();
    assert!(said.contains("TrafficMirrorTargetId tmt-2: no file describes it"), "{said}");
    let (source, _) = subnet.end_both(source, target);
    let mut captured: Vec<(u16, u32)> =
        whole_capture(&subnet.captured()).frames().iter().map(|frame| numbered(frame)).collect();
    captured.retain(|(port, _)| *port != OTHER);
    let session = |nth: usize| &source["interfaces"][0]["sessions"][nth]["cloned"];
    assert_eq!([session(0), session(1)], [captured.len() as u64, sent.into()], "{source:#}");
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

#[test]
fn sessions_begin_and_end_on_hup_from_one_packet_to_the_next_and_those_that_stay_go_on() {
    let subnet = Subnet::lay(true);
    // Of each session its own port; the second one also with another number.
    let set_up = |sessions: &[(u32, u32)]| {
        let filters: Vec<_> = (1..)
            .zip(OF_SESSIONS)
            .map(|(of, port)| filter(&format!("tmf-{of}"), &accept(UDP, &[port]), &[]))
            .collect();
        let sessions: Vec<_> = sessions
            .iter()
            .map(|(of, number)| {
                let mut session = session(*of, &format!("tmf-{of}"));
                session["SessionNumber"] = (*number).into();
                session
            })
            .collect();
        subnet.set_up(&filters, &sessions);
    };
    set_up(&[(1, 1), (2, 2)]);
    let target = subnet.ingest("-w inner.pcapng");
    let source = subnet.mirror();
    let sent = subnet.numbered_while(
        |_| OF_SESSIONS.to_vec(),
        |some_more| {
            let changes: [&[(u32, u32)]; 5] =
                [&[(1, 1), (3, 3)], &[(2, 1), (1, 7), (3, 3)], &[(1, 7)], &[], &[(3, 1), (1, 2)]];
            for (times, sessions) in (1..).zip(changes) {
                some_more();
                set_up(sessions);
                reload(&source, "reloaded", times);
                assert_eq!(subnet.in_kernel(), [1, 1, sessions.len()], "carriers are those of {sessions:?}");
            }
            some_more();
        },
    );
    let (source, _) = subnet.end_both(source, target);
    let mut captured: [Vec<u32>; 3] = Default::default();
    for frame in whole_capture(&subnet.captured()).frames() {
        let (port, number) = numbered(&frame);
        captured[usize::from(port - OF_SESSIONS[0])].push(number);
    }
    // The times of each session, as first and last number; no packet is missing within, or there twice.
    let [one, two, three] = captured.map(|mut numbers| {
        numbers.sort_unstable();
        let runs = numbers.chunk_by(|number, next| *next == number + 1);
        runs.map(|run| (run[0], run[run.len() - 1])).collect::<Vec<_>>()
    });
    let [(0, end), (again, last)] = one[..] else { panic!("{one:?}") };
    let [(0, replaced), (begun, ended)] = two[..] else { panic!("{two:?}") };
    let [(begin, third), (third_again, third_last)] = three[..] else { panic!("{three:?}") };
    assert_eq!([last, third_last], [sent - 1; 2]);
    // What begins has the next packet behind the last of what ends, and what ends together does at once.
    for (earlier, later) in [(replaced, begin), (third_again, again)] {
        assert!([earlier, earlier + 1].contains(&later), "{one:?}, {two:?}, {three:?}");
    }
    assert!([third, third + 1].contains(&ended), "{two:?}, {three:?}");
    assert!(begin < begun && ended < end && end < again, "{one:?}, {two:?}, {three:?}");
    let length = |(first, last): (u32, u32)| u64::from(last - first + 1);
    let expected = [
        ("tms-2", true, two[0]),
        ("tms-2", true, two[1]),
        ("tms-3", true, three[0]),
        ("tms-1", true, one[0]),
        ("tms-3", false, three[1]),
        ("tms-1", false, one[1]),
    ];
    let mut sessions: Vec<_> =
        source["interfaces"][0]["sessions"].as_array().expect("sessions").iter().collect();
    for (id, has_ended, numbers) in expected {
        let is_it = |it: &&serde_json::Value| {
            it["session"] == id && it["ended"].is_string() == has_ended && it["cloned"] == length(numbers)
        };
        let at = sessions.iter().position(is_it);
        sessions.remove(at.unwrap_or_else(|| panic!("no {id} of {numbers:?} in {source:#}")));
    }
    assert!(sessions.is_empty(), "{sessions:#?}");
}

/// Destination port and number of a datagram.
fn numbered(frame: &[u8]) -> (u16, u32) {
    let flow = Packet::of(frame).expect("a packet").flow;
    let Ports::Pair(_, port) = flow.ports else { panic!("no ports: {flow:?}") };
    (port, u32::from_be_bytes(*frame.last_chunk().expect("a number")))
}
