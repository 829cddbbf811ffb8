//! `--sessions` and `--session`: origins named by the sessions of Traffic Mirroring, live and from capture
//! files. Live ingest needs root.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use common::{
    Cable, SENDER,
    mirror::{MIRROR, Mirror, balanced_report, names, whole_capture},
};
use mirror_lab::{
    Injector, capture,
    frames::{Outer, inner_udp},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// The source of [`Outer::sample`] has `tms-1`; two sessions share a VNI, and one of them is silent.
const SET_UP: &str = r#"
{"TrafficMirrorTargets": [{"TrafficMirrorTargetId": "tmt-1", "NetworkInterfaceId": "eni-9"}]}
{"TrafficMirrorFilters": [{"TrafficMirrorFilterId": "tmf-1"}]}
{"TrafficMirrorSessions": [
    {"TrafficMirrorSessionId": "tms-1", "TrafficMirrorTargetId": "tmt-1", "TrafficMirrorFilterId": "tmf-1",
        "NetworkInterfaceId": "eni-1", "SessionNumber": 1, "VirtualNetworkId": 7, "OwnerId": "111122223333",
        "Tags": [{"Key": "Name", "Value": "web/1"}]},
    {"TrafficMirrorSessionId": "tms-2", "TrafficMirrorTargetId": "tmt-1", "TrafficMirrorFilterId": "tmf-1",
        "NetworkInterfaceId": "eni-2", "SessionNumber": 1, "VirtualNetworkId": 8},
    {"TrafficMirrorSessionId": "tms-3", "TrafficMirrorTargetId": "tmt-1", "TrafficMirrorFilterId": "tmf-1",
        "NetworkInterfaceId": "eni-3", "SessionNumber": 1, "VirtualNetworkId": 8}]}
{"NetworkInterfaces": [
    {"NetworkInterfaceId": "eni-1", "MacAddress": "02:00:00:00:00:09",
        "PrivateIpAddresses": [{"PrivateIpAddress": "10.10.10.252"}],
        "TagSet": [{"Key": "Name", "Value": "instance"}, {"Key": "env", "Value": "prod"}]},
    {"NetworkInterfaceId": "eni-2", "PrivateIpAddresses": [{"PrivateIpAddress": "10.10.10.2"}]},
    {"NetworkInterfaceId": "eni-3", "PrivateIpAddresses": [{"PrivateIpAddress": "10.10.10.3"}]}]}
"#;

/// Of `tms-1` two packets that its source receives and one that it sends, by the MAC address, and one of
/// neither; of `tms-3` one that its source sends, by the address; and one that is of no session.
fn mirrored() -> Vec<Vec<u8>> {
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let inner = |to: [u8; 6], from: [u8; 6], address: [u8; 4]| {
        let ends = [(address.into(), 49152), ([198, 51, 100, 7].into(), 9)];
        let mut inner = inner_udp(ends[0], ends[1], &[0; 8]).expect("inner frame");
        inner[..12].copy_from_slice(&[to, from].concat());
        inner
    };
    let of = |vni, source: [u8; 4], inner: Vec<u8>| {
        let outer = Outer::sample(vni).between(source, [10, 10, 10, 1]);
        outer.encapsulate(&inner).expect("outer frame")
    };
    let (first, third) = ([10, 10, 10, 252], [10, 10, 10, 3]);
    vec![
        of(7, first, inner(OWN, OTHER, [192, 0, 2, 1])),
        of(7, first, inner(OTHER, OWN, [192, 0, 2, 1])),
        of(7, first, inner(OWN, OTHER, [192, 0, 2, 1])),
        of(7, first, inner(OTHER, OTHER, [192, 0, 2, 1])),
        of(8, third, inner(OTHER, OTHER, third)),
        of(9, first, inner(OTHER, OTHER, [192, 0, 2, 1])),
    ]
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("directory");
    fs::write(directory.path().join("sessions.json"), SET_UP).expect("the set-up");
    capture::write_pcap(&directory.path().join("outer.pcap"), &mirrored()).expect("a capture");
    directory
}

fn replay(directory: &Path, arguments: &str) -> Output {
    let mut command = Command::new(MIRROR);
    command.current_dir(directory).args(["replay", "-r", "outer.pcap"]).args(arguments.split_whitespace());
    command.output().expect("mirror runs")
}

/// What the report has of all packets of [`mirrored`].
fn assert_named(report: &Value) {
    let origin = |nth: usize| {
        let mut origin = report["origins"][nth].clone();
        let fields = origin.as_object_mut().expect("an origin");
        for other in ["encapsulation", "endpoint", "attachment", "inner_bytes", "at_least"] {
            fields.remove(other).expect("a field of every origin");
        }
        origin
    };
    let first = json!({
        "source": "10.10.10.252", "vni": 7, "frames": 4, "session": "tms-1", "interface": "eni-1",
        "owner": "111122223333", "tags": { "Name": "web/1", "env": "prod" },
        "ingress": 2, "egress": 1, "unknown": 1,
    });
    let third = json!({
        "source": "10.10.10.3", "vni": 8, "frames": 1, "session": "tms-3", "interface": "eni-3",
        "ingress": 0, "egress": 1, "unknown": 0,
    });
    let other = json!({
        "source": "10.10.10.252", "vni": 9, "frames": 1, "ingress": 0, "egress": 0, "unknown": 1,
    });
    assert_eq!([origin(0), origin(1), origin(2)], [first, third, other]);
    let sessions = [("tms-1", 7, "eni-1", 4), ("tms-2", 8, "eni-2", 0), ("tms-3", 8, "eni-3", 1)];
    let sessions = sessions.map(|(id, vni, interface, frames)| {
        json!({ "id": id, "vni": vni, "interface": interface, "frames": frames })
    });
    assert_eq!(report["sessions"], Value::from(sessions.to_vec()));
}

/// The closing lines about sessions.
const CLOSING: [&str; 4] = [
    "origin 10.10.10.252 VNI 7 session tms-1 (web/1): 4 frames (2 ingress, 1 egress, 1 of unknown direction)",
    "3 sessions, 1 silent\n",
    "  silent: session tms-2 of eni-2, VNI 8\n",
    "  unknown: 1 frames from 10.10.10.252, VNI 9, are of none of these sessions\n",
];

#[test]
fn a_replay_names_origins_by_session_in_every_output() {
    let directory = directory();
    let path = directory.path();
    let output =
        replay(path, "--sessions sessions.json -w inner.pcapng --per-origin --print -t --report report.json");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    CLOSING.iter().for_each(|line| assert!(said.contains(line), "{line:?} is missing in:\n{said}"));
    assert!(said.contains("Wireshark: frame.interface_name == \"web-1.vni-7@10.10.10.252\""), "{said}");
    assert_named(&balanced_report(&path.join("report.json")));
    let printed = String::from_utf8_lossy(&output.stdout);
    let origins: Vec<_> = printed.lines().filter_map(|line| line.split_once(" IP ")).map(|it| it.0).collect();
    let (first, third) = ("web-1.vni-7@10.10.10.252", "tms-3.vni-8@10.10.10.3");
    let other = "vni-9@10.10.10.252";
    assert_eq!(origins, [first, first, first, first, third, other], "{printed}");
    let files = [first, third, other].map(|origin| format!("inner-{origin}.pcapng"));
    let mut expected: Vec<_> = ["outer.pcap", "report.json", "sessions.json"].map(str::to_owned).into();
    expected.extend(files.clone());
    expected.sort_unstable();
    assert_eq!(names(path), expected);
    let capture = whole_capture(&path.join(&files[0]));
    assert_eq!((&capture.interfaces[..], capture.packets.len()), (&[Some(first.to_owned())][..], 4));
    // An independent reader has the comment.
    let capinfos = Command::new("capinfos").arg(path.join(&files[0])).output().expect("capinfos");
    let capinfos = String::from_utf8_lossy(&capinfos.stdout);
    let comment = "session tms-1, interface eni-1, owner 111122223333, Name=web/1, env=prod";
    assert!(capinfos.contains(comment), "{capinfos}");
}

#[test]
fn live_origins_are_named_and_only_the_vnis_of_chosen_sessions_reach_the_engine() {
    let cable = Cable::with_queues(1);
    let injector = Injector::new(&cable.sender, SENDER).expect("injector");
    let directory = directory();
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "--sessions sessions.json -w all.pcapng --report all.json");
    injector.send_all(&mirrored()).expect("sent");
    run.has(6);
    run.end_by(Signal::SIGTERM).expect_code(0).expect_words(&CLOSING);
    assert_named(&balanced_report(&path.join("all.json")));
    let interfaces = whole_capture(&path.join("all.pcapng")).interfaces;
    let interfaces: Vec<_> = interfaces.into_iter().flatten().collect();
    assert_eq!(interfaces, ["web-1.vni-7@10.10.10.252", "tms-3.vni-8@10.10.10.3", "vni-9@10.10.10.252"]);
    // By the name of one, and by the id of another that shares its VNI with a third.
    for (chosen, frames, dropped, known) in [
        ("--session web/1", 4, 2, vec!["tms-1"]),
        ("--session web/1 --session tms-2", 5, 1, vec!["tms-1", "tms-2", "tms-3"]),
    ] {
        let run =
            Mirror::ingest(&cable, path, &format!("--sessions sessions.json {chosen} --report some.json"));
        injector.send_all(&mirrored()).expect("sent");
        run.has(frames);
        run.end_by(Signal::SIGTERM).expect_code(0);
        let report = balanced_report(&path.join("some.json"));
        let xdp = &report["interfaces"][0]["xdp"];
        assert_eq!((&xdp["dropped"]["vni"], &xdp["redirected"]), (&json!(dropped), &json!(frames)));
        let sessions = report["sessions"].as_array().expect("sessions");
        let ids: Vec<_> = sessions.iter().map(|session| session["id"].as_str().expect("an id")).collect();
        assert_eq!(ids, known, "those that are not selected are not silent");
    }
}

#[test]
fn a_reload_keeps_the_sessions_that_the_run_began_with() {
    let cable = Cable::with_queues(1);
    let directory = directory();
    let path = directory.path();
    let configure = |text: &str| {
        let text = format!("sessions = 'sessions.json'\nsession = 'web/1'\n{text}");
        fs::write(path.join("mirror.toml"), text).expect("configuration");
    };
    let reload = || {
        let output = Command::new(MIRROR).arg("reload").output().expect("mirror runs");
        String::from_utf8(output.stderr).expect("text")
    };
    configure("");
    let run = Mirror::ingest(&cable, path, "--config mirror.toml --report report.json");
    configure("filter = 'udp'");
    let said = reload();
    assert!(said.contains("the run selects other packets"), "{said}");
    configure("vni = 9");
    let said = reload();
    assert!(said.contains("--session web/1 and --vni both say which VNIs are accepted"), "{said}");
    fs::write(path.join("mirror.toml"), "sessions = 'sessions.json'").expect("configuration");
    let said = reload();
    assert!(said.contains("`session` cannot change by a reload"), "{said}");
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&mirrored()).expect("sent");
    run.has(4);
    run.end_by(Signal::SIGTERM).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(report["interfaces"][0]["xdp"]["dropped"]["vni"], 2);
    assert_eq!(report["origins"][0]["session"], "tms-1");
}

#[test]
fn an_upgrade_reads_the_sessions_anew_and_continues_their_counts() {
    let cable = Cable::with_queues(1);
    let injector = Injector::new(&cable.sender, SENDER).expect("injector");
    let directory = directory();
    let path = directory.path();
    fs::write(path.join("mirror.toml"), "sessions = 'sessions.json'").expect("configuration");
    let mut run = Mirror::ingest(&cable, path, "--config mirror.toml --report report.json");
    injector.send_all(&mirrored()).expect("sent");
    run.has(6);
    fs::write(path.join("sessions.json"), SET_UP.replace("web/1", "web/2")).expect("another name");
    run.upgrade();
    injector.send_all(&mirrored()).expect("sent");
    run.has(12);
    run.end_by(Signal::SIGTERM)
        .expect_code(0)
        .expect_words(&["session tms-1 (web/2): 8 frames (4 ingress, 2 "]);
    let report = balanced_report(&path.join("report.json"));
    let frames = report["sessions"].as_array().expect("sessions").iter().map(|session| &session["frames"]);
    assert_eq!(frames.collect::<Vec<_>>(), [8, 0, 2]);
}

#[test]
fn sessions_that_cannot_be_known_are_refused_before_anything_is_written() {
    let directory = directory();
    let path = directory.path();
    fs::write(path.join("none.json"), r#"{"TrafficMirrorSessions": []}"#).expect("written");
    fs::write(path.join("wrong.json"), SET_UP.replace("\"SessionNumber\": 1", "\"SessionNumber\": 0"))
        .expect("written");
    for (arguments, expected) in [
        (
            "--sessions sessions.json --session web-1",
            "mirror: --session web-1: no session in sessions.json has this id or tag Name; there are: tms-1 \
            (web/1), tms-2, tms-3",
        ),
        (
            "--session tms-1",
            "mirror: --session tms-1: no file describes sessions; give one with --sessions FILE",
        ),
        (
            "--sessions sessions.json --session tms-1 --vni 7",
            "mirror: --session tms-1 and --vni both say which VNIs are accepted: omit one of them",
        ),
        (
            "--sessions none.json",
            "mirror: --sessions none.json: there is no session; add what `aws ec2 \
            describe-traffic-mirror-sessions` prints",
        ),
        (
            "--sessions wrong.json",
            "mirror: --sessions wrong.json: tms-1: SessionNumber 0: a session's number is 1 to 32766",
        ),
        ("--sessions no.json", "mirror: --sessions no.json: No such file or directory"),
    ] {
        let output = replay(path, &format!("{arguments} -w inner.pcapng"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with(expected), "{arguments}: {said}");
        assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
        assert!(!path.join("inner.pcapng").exists());
    }
}
