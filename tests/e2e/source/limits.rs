//! `--max-pps` and `--max-rate`: what a source sends at most.

use std::{
    thread,
    time::{Duration, Instant},
};

use mirror_lab::Listener;

use super::{
    SOURCE, Subnet, UDP, accept, common::CAPTURE, common::mirror::until, filter, of_directions, of_sessions,
    session,
};

const PORT: u16 = 7001;
/// Outer headers of a copy with its Ethernet header.
const OVERHEAD: usize = 50;

/// What a source with this limit sends of 2000 datagrams in 2 s or more: the lengths of the copies at the
/// target, and how long that took.
fn copies_of_many(limit: &str, payload: usize) -> (Vec<usize>, f64) {
    const DATAGRAMS: u32 = 2_000;
    const INTERVAL: Duration = Duration::from_millis(1);
    let subnet = Subnet::lay(false);
    subnet.set_up(&[filter("tmf-1", &accept(UDP, &[PORT]), &[])], &[session(1, "tmf-1")]);
    let target = Listener::open(&subnet.cable.target, CAPTURE).expect("a listener");
    let source = subnet.mirror_with(limit);
    let (socket, payload) = (subnet.socket(), vec![0; payload]);
    let begin = Instant::now();
    for number in 0..DATAGRAMS {
        socket.send_to(&payload, (SOURCE, PORT)).expect("sent");
        thread::sleep((begin + INTERVAL * number).saturating_duration_since(Instant::now()));
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let report = subnet.end(source);
    let sent = of_sessions(&report, "sent");
    assert_eq!(of_sessions(&report, "cloned"), sent, "{report:#}");
    let [over, _] = of_directions(&report, "/rate");
    assert_eq!(sent + over, u64::from(DATAGRAMS), "{report:#}");
    let is_copy = |frame: &Vec<u8>| frame.len() == payload.len() + 42 + OVERHEAD;
    let mut copies = Vec::new();
    until("copies are at the target", || {
        copies.extend(target.frames().expect("frames").iter().filter(|it| is_copy(it)).map(Vec::len));
        (copies.len() as u64 == sent).then_some(())
    });
    (copies, elapsed)
}

#[track_caller]
fn assert_limited(copied: f64, limit: f64, seconds: f64) {
    let most = limit * seconds;
    println!("{copied} of {most:.0} in {seconds:.2} s");
    assert!(copied <= 1.1 * most && copied >= 0.5 * most, "{copied} of {most} in {seconds} s");
}

#[test]
fn copies_are_no_more_a_second_than_max_pps() {
    let (copies, seconds) = copies_of_many("--max-pps 300", 100);
    assert_limited(copies.len() as f64, 300.0, seconds);
}

/// With their outer headers.
#[test]
fn copies_have_no_more_bits_a_second_than_max_rate() {
    let (copies, seconds) = copies_of_many("--max-rate 2M", 1_000);
    assert_limited(8.0 * copies.iter().sum::<usize>() as f64, 2e6, seconds);
}
