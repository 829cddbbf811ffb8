//! Targets that are too small, full, stuck, down or deleted: their losses are counted and reported, and other
//! outputs are not affected.

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
};

use mirror_lab::{Namespace, Traffic, VethOptions, Witness, capture::same_frames};
use serde_json::{Value, json};

use super::{
    Beyond, account,
    common::{
        Cable,
        mirror::{MIRROR, Mirror, balanced_report, burst_of, ingest, inject, readable_capture, sink},
    },
    nothing, report_of, sender,
};

/// Another output of the same run, which must receive everything.
const BESIDE: &str = "-w inner.pcapng --report report.json";

#[track_caller]
fn assert_beside_has(report: &Value, frames: u64) {
    assert_eq!(account(report, "pcap"), (frames, frames, nothing(), nothing()));
    assert_eq!(report["frames"]["decapsulated"], frames);
}

#[test]
fn frames_too_long_for_the_interface_are_counted_and_others_are_sent() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let beyond = Beyond::lay(&cable, &VethOptions::default());
    let run = Mirror::ingest(&cable, path, &format!("--forward dev:out0 {BESIDE}"));
    let witness = Witness::start(&beyond.namespace, "ids0", &path.join("far.pcap"), "").expect("tcpdump");
    let short = inject(&cable, 10);
    run.has(10);
    // The interface is checked at least every 100 ms.
    cable.target.ip("link set dev out0 mtu 400").expect("mtu");
    std::thread::sleep(std::time::Duration::from_millis(300));
    burst_of(&cable, Traffic { frame_len: 1_000, ..Traffic::default() }, 50);
    run.has(60);
    cable.target.ip("link set dev out0 mtu 1500").expect("mtu");
    std::thread::sleep(std::time::Duration::from_millis(300));
    burst_of(&cable, Traffic { frame_len: 1_000, ..Traffic::default() }, 50);
    run.has(110);
    let report = report_of(run, path);
    assert_eq!(account(&report, "forward dev:out0"), (110, 60, json!({ "too_large": 50 }), nothing()));
    assert_beside_has(&report, 110);
    let seen = witness.stop().expect("tcpdump").frames;
    same_frames(&short, &seen[..10]).expect("the short ones");
    same_frames(&readable_capture(&path.join("inner.pcapng")).frames()[60..], &seen[10..])
        .expect("the later ones");
}

#[test]
fn sending_resumes_when_the_interface_is_up_again_and_ends_when_it_is_deleted() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let beyond = Beyond::lay(&cable, &VethOptions::default());
    let run = Mirror::ingest(&cable, path, &format!("--forward dev:out0 {BESIDE}"));
    let mut send = sender(&cable, &run);
    send(10);
    // The other end of the veth pair, so that this end loses its carrier. A new pair may have had none at the
    // start.
    let other_end = |state| drop(beyond.namespace.ip(&format!("link set dev ids0 {state}")).expect("ip"));
    run.says_after("dev:out0: the interface is down or has no carrier", || other_end("down"));
    send(20);
    run.says_after("dev:out0: is back", || other_end("up"));
    send(40);
    cable.target.ip("link set dev out0 down").expect("down");
    send(80);
    cable.target.ip("link set dev out0 up").expect("up");
    std::thread::sleep(std::time::Duration::from_millis(500));
    send(160);
    cable.target.ip("link del dev out0").expect("deleted");
    run.says("dev:out0: the interface was deleted");
    // A new device of the same name is not the target.
    cable.target.ip("link add out0 type veth peer name other0").expect("veth");
    cable.target.ip("link set dev out0 up").expect("up");
    cable.target.ip("link set dev other0 up").expect("up");
    std::thread::sleep(std::time::Duration::from_millis(300));
    send(320);
    drop(send);
    let report = report_of(run, path);
    let down = json!({ "down": 20 + 80 + 320 });
    assert_eq!(account(&report, "forward dev:out0"), (630, 210, down, nothing()));
    assert_beside_has(&report, 630);
}

#[test]
fn a_deleted_tap_loses_only_its_own_frames() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let run = Mirror::ingest(&cable, path, &format!("--forward tap:ids0 {BESIDE}"));
    inject(&cable, 10);
    run.has(10);
    run.settled();
    cable.target.ip("link del dev ids0").expect("deleted");
    run.says("tap:ids0: the interface was deleted");
    inject(&cable, 20);
    run.has(30);
    let report = report_of(run, path);
    assert_eq!(account(&report, "forward tap:ids0"), (30, 10, json!({ "down": 20 }), nothing()));
    assert_beside_has(&report, 30);
}

#[test]
fn a_tunnel_counts_frames_over_the_path_mtu_and_frames_without_a_route() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let beyond = Beyond::lay(&cable, &VethOptions::default());
    let refused = Mirror::start(ingest(&cable, path, "--forward vxlan:10.99.0.2"));
    refused.end().expect_code(1).expect_words(&["vxlan:10.99.0.2:4789", "no route", "ip route get"]);
    cable.target.ip("address add 10.99.0.1/24 dev out0").expect("address");
    beyond.namespace.ip("address add 10.99.0.2/24 dev ids0").expect("address");
    let run = Mirror::ingest(&cable, path, &format!("--forward vxlan:10.99.0.2 {BESIDE}"));
    inject(&cable, 10);
    run.has(10);
    run.settled();
    cable.target.ip("link set dev out0 mtu 400").expect("mtu");
    burst_of(&cable, Traffic { frame_len: 1_000, ..Traffic::default() }, 20);
    run.has(30);
    run.settled();
    cable.target.ip("address del 10.99.0.1/24 dev out0").expect("address");
    run.says("vxlan:10.99.0.2:4789: no route");
    inject(&cable, 40);
    run.has(70);
    run.settled();
    cable.target.ip("address add 10.99.0.1/24 dev out0").expect("address");
    run.says("vxlan:10.99.0.2:4789: is back");
    inject(&cable, 80);
    run.has(150);
    let report = report_of(run, path);
    let dropped = json!({ "too_large": 20, "down": 40 });
    assert_eq!(account(&report, "forward vxlan:10.99.0.2:4789"), (150, 90, dropped, nothing()));
    assert_beside_has(&report, 150);
}

#[test]
fn a_tunnel_counts_frames_dropped_by_a_full_queue() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let beyond = Beyond::lay(&cable, &VethOptions::default());
    cable.target.ip("address add 10.99.0.1/24 dev out0").expect("address");
    beyond.namespace.ip("address add 10.99.0.2/24 dev ids0").expect("address");
    let run = Mirror::ingest(&cable, path, &format!("--forward vxlan:10.99.0.2 {BESIDE}"));
    let mut second = beyond.namespace.command(MIRROR);
    second.args(["ingest", "-i", "ids0", "--stats", "1h", "--report", "second.json"]).current_dir(path);
    let second = Mirror::start(second).attached_to(&beyond.namespace, "ids0");
    inject(&cable, 10);
    run.has(10);
    run.settled();
    // Room for some ten frames, and a second for each of them.
    cable.target.tc("qdisc add dev out0 root tbf rate 1kbit burst 1600 limit 1600").expect("tc");
    inject(&cable, 200);
    run.has(210);
    run.settled();
    cable.target.tc("qdisc del dev out0 root").expect("tc");
    inject(&cable, 10);
    run.has(220);
    let report = report_of(run, path);
    let (offered, written, dropped, failed) = account(&report, "forward vxlan:10.99.0.2:4789");
    println!("{written} of {offered} written, {dropped}");
    let full = dropped["no_buffer"].as_u64().expect("frames for which there was no room");
    assert_eq!((offered, written + full, failed), (220, 220, nothing()));
    assert!(full > 100, "{full}");
    assert_beside_has(&report, 220);
    // Only what waited in the queue when it was removed is lost.
    second.settled();
    let far = {
        second.end_by(nix::sys::signal::Signal::SIGINT).expect_code(0);
        balanced_report(&path.join("second.json"))
    };
    let arrived = far["frames"]["decapsulated"].as_u64().expect("a count");
    assert!((20..=written).contains(&arrived), "{arrived} arrived of {written}");
}

const LISTEN: &str = "pcap-over-ip:listen=127.0.0.1:57012";

fn reader(target: &Namespace) -> TcpStream {
    target.enter(|| TcpStream::connect("127.0.0.1:57012")).expect("namespace").expect("connected")
}

#[test]
fn a_stuck_reader_loses_its_own_frames_and_is_disconnected_and_the_next_is_served() {
    const LARGE: u64 = 30_000;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    cable.target.ip("link set dev lo up").expect("lo");
    let run = Mirror::ingest(&cable, path, &format!("--forward {LISTEN} {BESIDE}"));
    run.says("no reader");
    inject(&cable, 10);
    run.has(10);
    run.settled();
    let stuck = reader(&cable.target);
    run.says("reader connected");
    // More than its buffers and those of the sockets hold.
    burst_of(&cable, Traffic { frame_len: 1_450, ..Traffic::default() }, LARGE);
    run.says("no progress for 10 s");
    let mut next = reader(&cable.target);
    let mut header = [0; 24];
    next.read_exact(&mut header).expect("the header of a pcap");
    run.says("is back");
    inject(&cable, 20);
    run.settled();
    let taken = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        next.read_to_end(&mut bytes).map(|_| bytes.len())
    });
    let report = report_of(run, path);
    drop(stuck);
    let decapsulated = report["frames"]["decapsulated"].as_u64().expect("a count");
    let entry = sink(&report, &format!("forward {LISTEN}"));
    println!("{decapsulated} frames: {entry}");
    let dropped = |reason: &str| entry["dropped"][reason].as_u64().unwrap_or(0);
    assert!(dropped("down") >= 10, "those before the first reader, and after it was disconnected");
    assert!(dropped("no_buffer") + dropped("no_block") > 1_000, "the stuck reader's buffers are bounded");
    assert_eq!(entry["failed"], nothing());
    assert!(taken.join().expect("reader").expect("the stream has an end") > 0);
    assert_beside_has(&report, decapsulated);
}

#[test]
fn a_reader_that_disconnects_is_logged_and_a_later_one_gets_later_packets() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    cable.target.ip("link set dev lo up").expect("lo");
    let run = Mirror::ingest(&cable, path, &format!("--forward {LISTEN} {BESIDE}"));
    let first = reader(&cable.target);
    run.says("is back");
    inject(&cable, 10);
    run.has(10);
    run.settled();
    drop(first);
    // A disconnect shows when something is sent.
    for frames in 0.. {
        if run.said().contains("reader disconnected:") {
            break;
        }
        assert!(frames < 1_000, "{}", run.said());
        inject(&cable, 1);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let before = run.settled();
    inject(&cable, 20);
    run.has(before + 20);
    run.settled();
    let mut second = reader(&cable.target);
    second.read_exact(&mut [0; 24]).expect("the header of a pcap");
    inject(&cable, 40);
    run.has(before + 60);
    let taken = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        second.read_to_end(&mut bytes).map(|_| bytes)
    });
    let report = report_of(run, path);
    assert_beside_has(&report, before + 60);
    let entry = sink(&report, &format!("forward {LISTEN}"));
    assert!(entry["dropped"]["down"].as_u64().is_some_and(|down| down >= 20), "{entry}");
    let inner = readable_capture(&path.join("inner.pcapng")).frames();
    let bytes = taken.join().expect("reader").expect("the stream has an end");
    // Records of 16 bytes and the frame.
    let record = 16 + inner.last().expect("a frame").len();
    assert_eq!(bytes.len(), 40 * record);
}

#[test]
fn a_port_in_use_is_reported() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    cable.target.ip("link set dev lo up").expect("lo");
    let holder = cable.target.enter(|| TcpListener::bind("127.0.0.1:57012")).expect("namespace");
    let _holder = holder.expect("listening");
    let run = Mirror::start(ingest(&cable, path, &format!("--forward {LISTEN}")));
    run.end().expect_code(1).expect_words(&[LISTEN, "listening", "choose another port"]);
    for (target, words) in [
        // Once, and not again for each further cause.
        ("tap:cap0", ["mirror: tap:cap0: cap0: cannot make a TAP device", "choose another\n"]),
        ("dev:nowhere", ["nowhere: no such interface", "cap0"]),
    ] {
        Mirror::start(ingest(&cable, path, &format!("--forward {target}")))
            .end()
            .expect_code(1)
            .expect_words(&words);
    }
    for (arguments, words) in [
        ("--forward tap:a --forward tap:a", ["tap:a", "named twice"]),
        ("--forward tap:a --forward tap:a --forward-balance flow", ["tap:a", "named twice"]),
        ("--forward vxlan:10.0.0.1 --vlan-per-vni", ["--vlan-per-vni", "there is none"]),
        ("--forward tap:a --community-id", ["--community-id", "there is none"]),
        ("--forward tape:a", ["tape", "pcap-over-ip:listen"]),
        ("--forward-balance flow", ["--forward", "required"]),
    ] {
        Mirror::start(ingest(&cable, path, arguments)).end().expect_code(2).expect_words(&words);
    }
}
