//! Mirrored traffic behind a Gateway Load Balancer, and other GENEVE: replay and live ingest decapsulate it
//! as tshark does, name each origin with its endpoint, and select by the mirror source and the VNI inside.
//! Needs root.

mod common;

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
};

use common::{
    Cable, SENDER,
    mirror::{MIRROR, Mirror, balanced_report, readable_capture, sink, whole_capture},
};
use mirror_lab::{
    Injector, Witness, aws_twin,
    capture::{self, same_frames},
    fragment,
    frames::{Outer, inner_of_len},
    geneve::{ATTACHMENT, ENDPOINT, ETHERNET, Geneve, geneve_twin},
    suricata, tshark,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const PORTS: &str = "--port 4789,6081";
/// Of plain GENEVE.
const VNI: u32 = 0x0012_3456;

/// The twin behind a load balancer, the one without, and plain GENEVE with and without options.
fn of_both_kinds() -> Vec<Vec<u8>> {
    let inner = inner_of_len(100).expect("an inner frame");
    let mut with_options = Geneve::plain(VNI);
    with_options.add_option(0x0102, 0x80, &[1; 8]);
    let plain =
        [Geneve::plain(VNI), with_options].map(|geneve| geneve.encapsulate(ETHERNET, &inner).expect("frame"));
    let mut frames = geneve_twin().expect("frames");
    frames.extend(aws_twin::aws_twin().expect("frames"));
    frames.extend(plain);
    frames
}

/// `mirror replay` of `outer.pcap` in this directory, with these arguments beside; its report.
#[track_caller]
fn replay(directory: &Path, arguments: &str) -> Value {
    let mirror = Command::new(MIRROR)
        .args(["replay", "-r", "outer.pcap", "--report", "replay.json"])
        .args(arguments.split_ascii_whitespace())
        .current_dir(directory)
        .output()
        .expect("mirror");
    assert!(mirror.status.success(), "{}", String::from_utf8_lossy(&mirror.stderr));
    let report = balanced_report(&directory.join("replay.json"));
    std::fs::remove_file(directory.join("replay.json")).expect("removed");
    report
}

/// `mirror ingest` of these frames, with these arguments beside; its report.
#[track_caller]
fn ingest(cable: &Cable, directory: &Path, frames: &[Vec<u8>], arguments: &str) -> Value {
    let run = Mirror::ingest(cable, directory, &format!("--destination any --report live.json {arguments}"));
    let sent = Injector::new(&cable.sender, SENDER).expect("injector").send_all(frames).expect("sent");
    assert_eq!(sent, frames.len() as u64);
    // They are in the ring, which is drained at the end.
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&directory.join("live.json"));
    std::fs::remove_file(directory.join("live.json")).expect("removed");
    report
}

/// Endpoint, attachment, source, VNI and frames of each origin, in no order.
fn origins(report: &Value) -> Vec<Value> {
    let keys = ["endpoint", "attachment", "encapsulation", "source", "vni", "frames"];
    let mut origins: Vec<_> = report["origins"].as_array().expect("origins").clone();
    origins.sort_by_key(|origin| keys.map(|key| origin[key].to_string()));
    origins.into_iter().map(|origin| keys.iter().map(|key| origin[*key].clone()).collect()).collect()
}

#[test]
fn both_kinds_are_replayed_and_ingested_as_tshark_reads_them() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let frames = of_both_kinds();
    capture::write_pcap(&path.join("outer.pcap"), &frames).expect("written");
    let witness = tshark::decapsulate(&path.join("outer.pcap")).expect("tshark");
    assert_eq!(witness.len(), frames.len());
    let expected: Vec<_> = witness.into_iter().map(|inner| inner.bytes).collect();

    let cable = Cable::with_queues(1);
    let replayed = replay(path, &format!("{PORTS} -w replay.pcapng"));
    let ingested = ingest(&cable, path, &frames, &format!("{PORTS} -w live.pcapng"));
    let (endpoint, attachment) = (format!("{ENDPOINT:016x}"), format!("{ATTACHMENT:016x}"));
    let balancer = "10.10.10.5";
    for (report, file) in [(&replayed, "replay.pcapng"), (&ingested, "live.pcapng")] {
        let written = whole_capture(&path.join(file));
        same_frames(&expected, &written.frames()).expect(file);
        assert_eq!(
            (&report["frames"]["decapsulated"], &report["frames"]["odd"]["critical_options"]),
            (&202.into(), &1.into())
        );
        assert_eq!(
            origins(report),
            [
                json!([endpoint, attachment, "vxlan", aws_twin::SOURCE, aws_twin::VNI, 100]),
                json!([null, null, "geneve", balancer, VNI, 2]),
                json!([null, null, "vxlan", aws_twin::SOURCE, aws_twin::VNI, 100]),
            ]
        );
        let plain = format!("vni-{}@{}", aws_twin::VNI, aws_twin::SOURCE);
        let names = [format!("{plain}%{endpoint}"), plain, format!("vni-{VNI}@{balancer}")];
        assert_eq!(written.interfaces, names.map(Some));
        assert_eq!(
            comments(&path.join(file)),
            format!("Gateway Load Balancer: endpoint {endpoint}, attachment {attachment}")
        );
    }
}

/// The comments of the file's interfaces, as capinfos has them.
fn comments(file: &Path) -> String {
    let capinfos = Command::new("capinfos").arg(file).output().expect("capinfos");
    let text = String::from_utf8(capinfos.stdout).expect("text");
    let comments = text.lines().filter_map(|line| line.trim().strip_prefix("Comment = "));
    comments.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_summary_names_an_endpoint_and_its_display_filter_selects_its_frames() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let mut frames = of_both_kinds();
    // The same source and VNI in another VPC.
    let inner = inner_of_len(80).expect("an inner frame");
    let vxlan = Outer::aws(aws_twin::SOURCE, aws_twin::TARGET, 0xff80, aws_twin::VNI);
    frames.push(Geneve::aws(7, 8, 9).encapsulate_mirrored(&vxlan, &inner).expect("frame"));
    capture::write_pcap(&path.join("outer.pcap"), &frames).expect("written");
    let mirror = Command::new(MIRROR)
        .args(["replay", "-r", "outer.pcap", "--port", "4789,6081", "-w", "again.pcapng", "--outer"])
        .current_dir(path)
        .output()
        .expect("mirror");
    assert!(mirror.status.success());
    let text = String::from_utf8(mirror.stderr).expect("text");
    let mut selected: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let (origin, filter) = line.strip_prefix("origin ")?.split_once("; Wireshark: ")?;
            let tshark = Command::new("tshark")
                .args(["-n", "-r", "again.pcapng", "-Y", filter])
                .current_dir(path)
                .output()
                .expect("tshark");
            assert!(tshark.status.success(), "{filter}: {}", String::from_utf8_lossy(&tshark.stderr));
            let lines = tshark.stdout.iter().filter(|byte| **byte == b'\n').count();
            Some((origin.split(": ").next()?.to_owned(), lines))
        })
        .collect();
    selected.sort();
    let vxlan = format!("{} VNI {}", aws_twin::SOURCE, aws_twin::VNI);
    let expected = [
        (format!("10.10.10.5 VNI {VNI}"), 2),
        // Through whichever endpoint, or none.
        (vxlan.clone(), 201),
        (format!("{vxlan} endpoint 0000000000000007"), 1),
        (format!("{vxlan} endpoint {ENDPOINT:016x}"), 100),
    ];
    assert_eq!(selected, expected, "{text}");
}

#[test]
fn selection_is_by_the_mirror_source_and_the_vni_inside_alike_live_and_from_a_file() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let frames = of_both_kinds();
    capture::write_pcap(&path.join("outer.pcap"), &frames).expect("written");
    let cable = Cable::with_queues(1);
    // Of VXLAN without GENEVE, the XDP program drops what is not allowed; of all else the worker rejects it.
    let refused = |report: &Value, reason: &str| {
        let of = |at: &str| report.pointer(&format!("{at}/{reason}")).and_then(Value::as_u64).unwrap_or(0);
        (of("/interfaces/0/xdp/dropped"), of("/frames/rejected"))
    };
    for (arguments, reason, dropped, rejected) in [
        (format!("--source {}", aws_twin::SOURCE), "source", 0, 2),
        ("--source 10.10.10.5".to_owned(), "source", 100, 100),
        (format!("--vni {}", aws_twin::VNI), "vni", 0, 2),
        (format!("--vni {VNI}"), "vni", 100, 100),
        ("--vni 0".to_owned(), "vni", 100, 102),
    ] {
        let arguments = format!("{PORTS} {arguments}");
        let live = ingest(&cable, path, &frames, &arguments);
        assert_eq!(refused(&live, reason), (dropped, rejected), "{arguments}");
        let file = replay(path, &arguments);
        assert_eq!(refused(&file, reason), (0, dropped + rejected), "{arguments}");
        assert_eq!(origins(&live), origins(&file), "{arguments}");
    }
}

#[test]
fn a_port_of_geneve_is_taken_and_held_only_where_it_is_listed() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let frames = geneve_twin().expect("frames");
    let bind = || cable.target.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 6081))).expect("namespace");
    let run = Mirror::ingest(&cable, path, PORTS);
    assert!(bind().is_err(), "held, so that the host answers none");
    run.end_by(Signal::SIGINT).expect_code(0);
    let run = Mirror::ingest(&cable, path, "");
    assert!(bind().is_ok());
    run.end_by(Signal::SIGINT).expect_code(0);

    let report = ingest(&cable, path, &frames, "");
    assert_eq!(report["interfaces"][0]["xdp"]["passed"]["geneve"], 100);
    // By its port, never by its content.
    let report = ingest(&cable, path, &frames, "--port 6081=vxlan");
    assert_eq!(report["frames"]["decapsulated"], 100);
    assert_eq!(report["origins"][0]["source"], "10.10.10.5");
    assert_eq!(report["origins"][0]["endpoint"], Value::Null);
}

#[test]
fn fragmented_geneve_is_joined() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let inner = inner_of_len(1514).expect("an inner frame");
    let vxlan = Outer::aws(aws_twin::SOURCE, aws_twin::TARGET, 0xff80, aws_twin::VNI);
    let mut frames = Vec::new();
    for id in [0, 7, 8] {
        let whole = Geneve::aws(ENDPOINT, ATTACHMENT, 5).encapsulate_mirrored(&vxlan, &inner).expect("frame");
        frames.extend(fragment(&whole, id, &[1480]).expect("fragments"));
    }
    capture::write_pcap(&path.join("outer.pcap"), &frames).expect("written");
    let cable = Cable::with_queues(1);
    let replayed = replay(path, &format!("{PORTS} -w replay.pcapng"));
    let ingested = ingest(&cable, path, &frames, &format!("{PORTS} -w live.pcapng"));
    for (report, file) in [(replayed, "replay.pcapng"), (ingested, "live.pcapng")] {
        assert_eq!(
            (&report["frames"]["decapsulated"], &report["frames"]["reassembled"]),
            (&3.into(), &3.into())
        );
        same_frames(&vec![inner.clone(); 3], &whole_capture(&path.join(file)).frames()).expect(file);
        assert_eq!(report["origins"][0]["endpoint"], format!("{ENDPOINT:016x}"));
    }
}

#[test]
fn the_kernel_forwards_vxlan_and_leaves_geneve_to_the_user_path() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let beyond = cable.lab.namespace("beyond").expect("beyond");
    let (near, far) =
        (mirror_lab::VethEnd::new(&cable.target, "out0"), mirror_lab::VethEnd::new(&beyond, "ids0"));
    let _link = mirror_lab::VethPair::create(near, far, &mirror_lab::VethOptions::default()).expect("veth");
    // The kernel redirects to a veth only where its far end has a program; this one passes.
    let settings = mirror_lab::xdp_program::Settings::default();
    let mut passing = mirror_lab::XdpProgram::load(mirror_ebpf::mirror::PROGRAM, &settings).expect("program");
    passing.attach(&beyond, "ids0", mirror_lab::xdp_program::XdpAttach::Native).expect("attached");
    let witness = Witness::start(&beyond, "ids0", &path.join("far.pcap"), "").expect("tcpdump");
    let mut frames = of_both_kinds();
    // 8 words of options and no protocol look like VXLAN.
    frames.push(Geneve::aws(1, 2, 3).encapsulate(0, &inner_of_len(60).expect("inner")).expect("frame"));
    let report = ingest(&cable, path, &frames, &format!("{PORTS} --forward dev:out0 --forward-path kernel"));
    assert_eq!(report["interfaces"][0]["xdp"]["forwarded"], 100);
    assert_eq!(report["frames"]["rejected"]["geneve_payload"], 1);
    assert_eq!(sink(&report, "forward dev:out0")["written"], 102);
    assert_eq!(origins(&report).len(), 3);
    frames.pop();
    capture::write_pcap(&path.join("outer.pcap"), &frames).expect("written");
    let witnessed = tshark::decapsulate(&path.join("outer.pcap")).expect("tshark");
    let mut expected: Vec<_> = witnessed.into_iter().map(|inner| inner.bytes).collect();
    let mut arrived = witness.stop().expect("tcpdump").frames;
    // By two paths, so in another order.
    expected.sort();
    arrived.sort();
    same_frames(&expected, &arrived).expect("the inner frames");
}

#[test]
fn suricata_sees_the_same_frames_in_the_twin_behind_a_load_balancer() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let frames = geneve_twin().expect("frames");
    capture::write_pcap(&path.join("outer.pcap"), &frames).expect("written");
    replay(path, &format!("{PORTS} -w inner.pcap --format pcap"));
    let decoded = suricata::decode(&path.join("outer.pcap"), path).expect("suricata");
    let inside = suricata::decode(&path.join("inner.pcap"), path).expect("suricata");
    // Each frame is GENEVE around VXLAN, whose frames have the protocols that ours have.
    assert_eq!((decoded["geneve"].as_u64(), decoded["vxlan"].as_u64()), (Some(100), Some(100)));
    assert_eq!((decoded["invalid"].as_u64(), inside["pkts"].as_u64()), (Some(0), Some(100)));
    let of = |protocol: &str| (decoded[protocol].as_u64(), inside[protocol].as_u64());
    assert_eq!(of("tcp").0, of("tcp").1);
    let (udp, udp_inside) = of("udp");
    assert_eq!(udp, udp_inside.map(|inside| inside + 200), "two outer datagrams a frame");
}

#[test]
#[ignore = "needs MIRROR_GENEVE_CAPTURES"]
fn public_captures_of_geneve_are_replayed_as_tshark_reads_them() {
    let folder = std::env::var_os("MIRROR_GENEVE_CAPTURES").expect("the folder with public captures");
    let folder = Path::new(&folder);
    for (name, frames) in [
        // zeek/zeek, testing/btest/Traces/tunnels.
        ("geneve-vxlan-dns-truncated.pcap", 2),
        ("geneve-many-options.pcap", 10),
        ("geneve-tagged-udp-packet.pcap", 4),
        ("geneve-inner-tcp-bad-checksum.pcap", 1),
        ("geneve-47101.pcap", 24),
        ("geneve.pcap", 6),
        // OISF/suricata-verify, tests/geneve-decoder/input.pcap.
        ("suricata-geneve.pcap", 10),
    ] {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::copy(folder.join(name), directory.path().join("outer.pcap")).expect(name);
        let witness = tshark::decapsulate(&directory.path().join("outer.pcap")).expect("tshark");
        let report = replay(directory.path(), "--port 4789,6081 -w inner.pcapng");
        assert_eq!((witness.len(), &report["frames"]["decapsulated"]), (frames, &frames.into()), "{name}");
        // Some have wrong checksums, or were truncated.
        let expected: Vec<_> = witness.into_iter().map(|inner| inner.bytes).collect();
        same_frames(&expected, &readable_capture(&directory.path().join("inner.pcapng")).frames())
            .expect(name);
    }
    for (name, reason, frames) in [
        // IPv6 and ARP without an Ethernet header: nothing that is mirrored.
        ("geneve-ipv6.pcap", "geneve_payload", 2),
        ("geneve-arp.pcap", "geneve_payload", 1),
        // Its IP header declares no more.
        ("geneve-truncated.pcapng", "short", 1),
    ] {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::copy(folder.join(name), directory.path().join("outer.pcap")).expect(name);
        let report = replay(directory.path(), PORTS);
        assert_eq!(report["frames"]["rejected"][reason], frames, "{name}");
    }
}
