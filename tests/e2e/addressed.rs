//! Only packets addressed to the interface are captured, unless all are requested: frames in transit to other
//! hosts, to other MACs and from loopback addresses are passed to the kernel. Needs root.

mod common;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    thread,
    time::Duration,
};

use common::{
    CAPTURE, Cable, SENDER,
    mirror::{Mirror, balanced_report, until},
};
use mirror_lab::{
    Injector,
    frames::{Outer, inner_of_len},
};
use nix::sys::signal::Signal;
use serde_json::Value;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 3);

fn frame(outer: &Outer) -> Vec<u8> {
    outer.encapsulate(&inner_of_len(100).expect("an inner frame")).expect("values that fit")
}

/// The default sender.
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x99);

fn to(destination: Ipv4Addr) -> Vec<u8> {
    frame(&Outer::sample(7).between(SOURCE, destination))
}

fn to_v6(destination: Ipv6Addr) -> Vec<u8> {
    frame(&Outer::sample_v6(7, &[]).between(SOURCE_V6, destination))
}

fn to_mac(last: u8) -> Vec<u8> {
    let mut outer = Outer::sample(7).between(SOURCE, OWN);
    outer.destination_mac[5] = last;
    frame(&outer)
}

fn from(source: Ipv4Addr) -> Vec<u8> {
    frame(&Outer::sample(7).between(source, OWN))
}

fn send(cable: &Cable, frames: &[Vec<u8>]) {
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(frames).expect("injected");
}

/// Counts of captured frames, and of frames passed because they are addressed to others.
fn verdicts(report: &Value) -> (u64, u64) {
    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).expect("a counter");
    (count("/frames/decapsulated"), count("/interfaces/0/xdp/passed/not_local"))
}

fn run(cable: &Cable, arguments: &str, frames: &[Vec<u8>]) -> (u64, u64) {
    let directory = tempfile::tempdir().expect("directory");
    let run = Mirror::ingest(cable, directory.path(), &format!("--report report.json {arguments}"));
    send(cable, frames);
    thread::sleep(Duration::from_millis(300));
    run.end_by(Signal::SIGINT).expect_code(0);
    verdicts(&balanced_report(&directory.path().join("report.json")))
}

fn mixed() -> Vec<Vec<u8>> {
    vec![
        to(OWN),
        to_v6(OWN_V6),
        to(OTHER),
        to(Ipv4Addr::BROADCAST),
        to_v6(OTHER_V6),
        to_mac(0x77),
        from(Ipv4Addr::LOCALHOST),
        frame(&Outer::sample_v6(7, &[]).between(Ipv6Addr::LOCALHOST, OWN_V6)),
        from(Ipv4Addr::new(127, 9, 9, 9)),
    ]
}

fn with_addresses() -> Cable {
    let cable = Cable::with_queues(1);
    cable.target.sysctl(&format!("net/ipv6/conf/{CAPTURE}/disable_ipv6"), "0").expect("sysctl");
    cable.veth.b.address(&format!("{OWN}/24")).expect("address");
    cable.target.ip(&format!("address add {OWN_V6}/64 dev {CAPTURE} nodad")).expect("address");
    cable
}

#[test]
fn frames_to_other_addresses_are_passed_unless_any_destination_is_requested() {
    let cable = with_addresses();
    let frames = mixed();
    assert_eq!(run(&cable, "", &frames), (2, 7));
    assert_eq!(run(&cable, "--destination own --mode generic", &frames), (2, 7));
    assert_eq!(run(&cable, "--destination any", &frames), (9, 0));
}

#[test]
fn without_an_address_of_the_family_the_mac_alone_decides() {
    let cable = Cable::with_queues(1);
    assert_eq!(run(&cable, "", &mixed()), (5, 4));
}

/// Sends until all or none of the frames are captured.
fn until_taken(cable: &Cable, run: &Mirror, frame: &[u8], wanted: bool) {
    until("the program knows the addresses", || {
        let before = run.frames();
        send(cable, &[frame.to_vec()]);
        thread::sleep(Duration::from_millis(250));
        ((run.frames() > before) == wanted).then_some(())
    });
}

#[test]
fn address_changes_are_followed_during_a_run() {
    let cable = with_addresses();
    let run = Mirror::ingest(&cable, Path::new("/"), "");
    let ip = |arguments: &str| cable.target.ip(&format!("{arguments} dev {CAPTURE}")).expect("ip");
    until_taken(&cable, &run, &to(OWN), true);
    until_taken(&cable, &run, &to(SECOND), false);
    // In its own subnet: deleting the first address of a subnet deletes the secondary ones.
    ip(&format!("address add {SECOND}/32"));
    until_taken(&cable, &run, &to(SECOND), true);
    until_taken(&cable, &run, &to(OWN), true);
    ip(&format!("address delete {OWN}/24"));
    until_taken(&cable, &run, &to(OWN), false);
    cable.target.ip(&format!("link set dev {CAPTURE} address 06:e2:43:00:00:77")).expect("ip");
    until_taken(&cable, &run, &to_mac(0x77), false);
    ip(&format!("address add {OWN}/24"));
    until_taken(&cable, &run, &to_mac(0x77), true);
    until_taken(&cable, &run, &to(OWN), false);
    run.end_by(Signal::SIGINT).expect_code(0);
}

#[test]
fn if_all_packets_are_for_other_addresses_the_remedy_is_logged_once() {
    let cable = with_addresses();
    let directory = tempfile::tempdir().expect("directory");
    let run = Mirror::ingest(&cable, directory.path(), "--report report.json");
    for _ in 0..80 {
        send(&cable, &[to(OTHER)]);
        thread::sleep(Duration::from_millis(100));
    }
    let ending = run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["--destination any"]);
    assert_eq!(ending.said.matches("use `--destination any`").count(), 1, "{}", ending.said);
    let report = balanced_report(&directory.path().join("report.json"));
    assert!(report["warnings"].to_string().contains("addressed to others"), "{report:#}");
}
