//! Both paths in one run: the kernel forwards frames that only the sink of its targets selects, and all
//! others go to the sinks that select them.

use std::{collections::BTreeSet, fs, net::IpAddr, num::NonZeroU32, path::Path};

use mirror_lab::{
    Injector, Traffic, Witness,
    capture::same_frames,
    flows,
    frames::{Outer, OuterIp, inner_udp},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    account,
    common::{
        Cable, SENDER,
        mirror::{Mirror, balanced_report, ingest, sent_by_kernel, sink, whole_capture},
    },
    kernel::{all_arrive, dropping},
    nothing, report_of,
};

/// Of the sinks `ids` and `disk`.
const REASON: &str = "frames that only sink ids selects; all others go through user space";

/// Starts a run with the two sinks, each with its own keys.
fn start(cable: &Cable, directory: &Path, ids: &str, disk: &str) -> Mirror {
    configure(directory, ids, disk);
    let run = Mirror::ingest(cable, directory, "--config mirror.toml");
    run.says(&format!("cap0: forward path kernel: {REASON}"));
    run
}

fn configure(directory: &Path, ids: &str, disk: &str) {
    let sinks = format!(
        "report = 'report.json'\n\
        [[sink]]\nname = 'ids'\n{ids}\n\
        [[sink]]\nname = 'disk'\nwrite = 'disk.pcapng'\n{disk}\n"
    );
    fs::write(directory.join("mirror.toml"), sinks).expect("written");
}

/// Outer headers, by whom their frames are selected.
struct Kind {
    outer: Outer,
    ids: bool,
    disk: bool,
}

impl Kind {
    fn of_vni(vni: u32, ids: bool, disk: bool) -> Self {
        Self { outer: Outer::sample(vni), ids, disk }
    }

    fn of_source(source: &str, ids: bool, disk: bool) -> Self {
        let source = source.parse().expect("an address");
        let outer = match source {
            IpAddr::V4(_) => Outer::sample(7),
            IpAddr::V6(_) => Outer::sample_v6(7, &[]),
        };
        let destination: IpAddr = match outer.ip {
            OuterIp::V4 { destination, .. } => destination.into(),
            OuterIp::V6 { destination, .. } => destination.into(),
        };
        Self { outer: outer.between(source, destination), ids, disk }
    }
}

/// Compares what a target was sent on both paths, each of which keeps the sequence of its own frames only.
#[track_caller]
fn same_in_any_order(mut wanted: Vec<Vec<u8>>, witness: Witness) {
    let mut seen = witness.stop().expect("tcpdump").frames;
    wanted.sort_unstable();
    seen.sort_unstable();
    same_frames(&wanted, &seen).expect("those that the target selects");
}

/// Sends frames of each kind in turn, and checks which of them each sink gets, and by which path.
#[track_caller]
fn check(cable: &Cable, directory: &Path, run: Mirror, kinds: &[Kind]) {
    const EACH: u32 = 40;
    let witness = Witness::start(&cable.target, "ids0", &directory.join("ids.pcap"), "").expect("tcpdump");
    let ends = [([10, 0, 0, 1].into(), 49152), ([10, 0, 0, 2].into(), 9)];
    let inner = |number: u32| inner_udp(ends[0], ends[1], &number.to_be_bytes()).expect("inner frame");
    let sent: Vec<_> = (0..EACH).flat_map(|_| kinds).zip(0..).map(|(kind, n)| (kind, inner(n))).collect();
    let outer: Vec<_> =
        sent.iter().map(|(kind, inner)| kind.outer.encapsulate(inner).expect("outer frame")).collect();
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
    run.has(sent.len() as u64);
    run.settled();
    let report = report_of(run, directory);
    let wanted = |is_wanted: &dyn Fn(&Kind) -> bool| {
        let frames = sent.iter().filter(|(kind, _)| is_wanted(kind)).map(|(_, inner)| inner.clone());
        frames.collect::<Vec<_>>()
    };
    let frames = |is_wanted: &dyn Fn(&Kind) -> bool| wanted(is_wanted).len() as u64;
    same_in_any_order(wanted(&|kind| kind.ids), witness);
    let disk = whole_capture(&directory.join("disk.pcapng")).frames();
    same_frames(&wanted(&|kind| kind.disk), &disk).expect("of disk");

    let (alone, both) = (frames(&|kind| kind.ids && !kind.disk), frames(&|kind| kind.ids && kind.disk));
    let xdp = &report["interfaces"][0]["xdp"];
    let by_ring = sent.len() as u64 - alone;
    assert_eq!((&xdp["forwarded"], &xdp["redirected"]), (&alone.into(), &by_ring.into()));
    assert_eq!(sent_by_kernel(&report, 0), alone);
    assert_eq!(report["interfaces"][0]["forward_path"]["reason"], REASON);
    assert_eq!(account(&report, "ids"), (both, both, nothing(), nothing()));
    let of_disk = frames(&|kind| kind.disk);
    assert_eq!(account(&report, "disk"), (of_disk, of_disk, nothing(), nothing()));
    // What no sink selects is deselected by each.
    assert_eq!(sink(&report, "ids")["deselected"], by_ring - both);
    assert_eq!(sink(&report, "disk")["deselected"], by_ring - of_disk);

    let origins = report["origins"].as_array().expect("origins");
    assert_eq!(origins.len(), kinds.len(), "{origins:#?}");
    assert!(origins.iter().all(|origin| origin["frames"] == EACH), "{origins:#?}");
}

#[test]
fn each_sink_gets_the_vnis_that_it_selects_and_the_kernel_forwards_those_of_its_target_alone() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let run = start(&cable, path, "forward = 'veth:ids0'\nvnis = [1, 3]", "vnis = [2, 3]");
    let kinds = [
        Kind::of_vni(1, true, false),
        Kind::of_vni(2, false, true),
        Kind::of_vni(3, true, true),
        Kind::of_vni(4, false, false),
    ];
    check(&cable, path, run, &kinds);
}

#[test]
fn each_sink_gets_the_sources_that_it_selects_by_nested_prefixes_of_both_families() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let run = start(
        &cable,
        path,
        "forward = 'veth:ids0'\nsources = ['10.0.0.0/8', '192.0.2.9', '2001:db8::/32', 'fd00::/8']",
        "sources = ['10.1.0.0/16', '192.0.2.0/24', '2001:db8:1::/48', 'fc00::/7']",
    );
    let kinds = [
        ("10.2.0.1", true, false),
        ("10.1.0.1", true, true),
        ("192.0.2.9", true, true),
        ("192.0.2.8", false, true),
        ("198.51.100.1", false, false),
        ("2001:db8:2::1", true, false),
        ("2001:db8:1::1", true, true),
        ("fd00::1", true, true),
        ("fc00::1", false, true),
        ("2001:db9::1", false, false),
    ];
    check(&cable, path, run, &kinds.map(|(source, ids, disk)| Kind::of_source(source, ids, disk)));
}

#[test]
fn a_target_that_selects_all_gets_from_the_kernel_what_others_leave() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let run = start(&cable, path, "forward = 'veth:ids0'", "vnis = 2\nsources = '10.10.10.0/24'");
    let elsewhere = Outer::sample(2).between([10, 10, 11, 1], [10, 10, 10, 1]);
    let kinds = [
        Kind::of_vni(1, true, false),
        Kind::of_vni(2, true, true),
        Kind { outer: elsewhere, ids: true, disk: false },
    ];
    check(&cable, path, run, &kinds);
}

/// It is a filter of packets, which the kernel does not see.
#[test]
fn a_filter_of_another_sink_selects_among_what_the_ring_gets() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let run = start(&cable, path, "forward = 'veth:ids0'", "vnis = 2\nfilter = 'udp port 53'");
    let target = Witness::start(&cable.target, "ids0", &path.join("ids.pcap"), "").expect("tcpdump");
    let (outer, inner): (Vec<_>, Vec<_>) = (0_u16..40)
        .map(|n| {
            let to = ([10, 0, 0, 2].into(), if n % 4 < 2 { 53 } else { 9 });
            let inner = inner_udp(([10, 0, 0, 1].into(), 49152), to, &n.to_be_bytes()).expect("inner frame");
            (Outer::sample(1 + u32::from(n % 2)).encapsulate(&inner).expect("outer frame"), inner)
        })
        .unzip();
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
    run.has(40);
    run.settled();
    let report = report_of(run, path);
    same_in_any_order(inner, target);
    // VNI 1 in the kernel; of VNI 2, half is to port 53.
    assert_eq!(sent_by_kernel(&report, 0), 20);
    assert_eq!(account(&report, "ids"), (20, 20, nothing(), nothing()));
    assert_eq!(account(&report, "disk"), (10, 10, nothing(), nothing()));
}

#[test]
fn a_group_shares_what_it_alone_selects_in_the_kernel() {
    const FLOWS: u32 = 1_000;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let group = "forward = ['veth:ids0', 'veth:ids1']\nforward-balance = 'flow'\n";
    let run = start(&cable, path, &format!("{group}vnis = [1, 3]"), "vnis = [2, 3]");
    let witnesses = ["ids0", "ids1"].map(|member| {
        let file = path.join(format!("{member}.pcap"));
        Witness::start(&cable.target, member, &file, "").expect("tcpdump")
    });
    let inner = flows::frames(FLOWS, 1).expect("frames");
    let pace = NonZeroU32::new(20_000).expect("a pace");
    let injector = Injector::new(&cable.sender, SENDER).expect("injector").pace(pace);
    for vni in 1..=4 {
        injector.send_all(&flows::mirrored(&inner, vni).expect("outer frames")).expect("injected");
    }
    let each = inner.len() as u64;
    run.has(4 * each);
    run.settled();
    let report = report_of(run, path);
    // A flow of VNI 1 and of VNI 3 has the same member on either path, and both of its frames.
    let [one, other] = witnesses.map(|witness| witness.stop().expect("tcpdump").frames);
    let flows_of = |frames: &[Vec<u8>]| {
        let flow = |frame: &Vec<u8>| flows::FlowFrame::of(frame).expect("one of the flows").flow;
        frames.iter().map(flow).collect::<BTreeSet<_>>()
    };
    assert!(flows_of(&one).is_disjoint(&flows_of(&other)));
    assert_eq!((one.len() + other.len()) as u64, 2 * each);
    let by_kernel = [0, 1].map(|member| sent_by_kernel(&report, member));
    assert!(by_kernel.iter().all(|sent| *sent > each / 4), "{by_kernel:?}");
    // Fragments of VNI 1 take the user path.
    let forwarded = by_kernel.iter().sum::<u64>();
    let fragments = inner
        .iter()
        .filter(|frame| flows::FlowFrame::of(frame).is_some_and(flows::FlowFrame::is_fragmented))
        .count();
    assert_eq!(forwarded, each - fragments as u64);
    let written = 2 * each - forwarded;
    assert_eq!(account(&report, "ids"), (written, written, nothing(), nothing()));
    assert_eq!(account(&report, "disk"), (2 * each, 2 * each, nothing(), nothing()));
}

#[test]
fn at_full_rate_each_frame_is_forwarded_or_in_the_account_of_the_ring() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let (beyond, _reader) = dropping(&cable);
    let run = start(&cable, path, "forward = 'dev:out0'\nvnis = [1, 3]", "vnis = [2, 3]");
    let errors = || cable.sender_counters().xdp_xmit_errors();
    let before = errors();
    let traffic = Traffic { vnis: 4, vni_base: 1, ..Traffic::default() };
    let generator = cable.generator(traffic).start(u64::MAX);
    run.has(400_000);
    let ending = run.end_by(Signal::SIGINT);
    assert!(!generator.is_finished(), "it must outlast the run");
    generator.stop().expect("generated");
    ending.expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let interface = &report["interfaces"][0];
    let number = |at: &str| interface.pointer(at).and_then(Value::as_u64).expect("a count");
    let (seen, forwarded) = (number("/xdp/seen"), number("/xdp/forwarded"));
    println!("{seen} seen, {forwarded} forwarded, {}", interface["forward_path"]);
    assert_eq!(seen, forwarded + number("/xdp/redirected") + number("/xdp/passed/no_socket"));
    // Every fourth, of VNI 1.
    assert!(forwarded.abs_diff(seen / 4) <= 1 + (errors() - before), "{forwarded} of {seen}");
    let origins = report["origins"].as_array().expect("origins");
    let of_vni = |vni: u32| {
        origins.iter().find(|origin| origin["vni"] == vni).and_then(|origin| origin["frames"].as_u64())
    };
    assert_eq!(of_vni(1), Some(forwarded));
    assert!((2..=4).all(|vni| of_vni(vni).is_some_and(|frames| frames > 0)), "{origins:#?}");
    let ids = sink(&report, "ids");
    assert_eq!(ids["offered"].as_u64(), of_vni(3));
    let written = ids["written"].as_u64().expect("a count");
    all_arrive(&beyond, sent_by_kernel(&report, 0) + written);
}

#[test]
fn where_nothing_is_for_the_target_alone_the_kernel_path_is_refused_and_auto_says_so() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let veth = "forward = 'veth:ids0'\n";
    for (ids, disk, reason) in [
        ("vnis = 1", "", "sink disk needs each frame"),
        ("", "filter = 'udp'", "sink disk needs each frame"),
        ("vnis = 1", "vnis = [1, 2]", "no frame is for sink ids alone"),
        ("sources = '10.1.0.0/16'", "sources = '10.0.0.0/8'", "no frame is for sink ids alone"),
        ("vnis = 1\nfilter = 'udp'", "vnis = 2", "a filter expression selects frames of sink ids"),
    ] {
        configure(path, &format!("{veth}{ids}"), disk);
        let run = Mirror::start(ingest(&cable, path, "--config mirror.toml --forward-path kernel"));
        run.end().expect_code(2).expect_words(&["the kernel cannot forward: ", reason]);
        let run = Mirror::ingest(&cable, path, "--config mirror.toml");
        run.says(&format!("cap0: forward path user: {reason}"));
        report_of(run, path);
        for file in ["disk.pcapng", "report.json"] {
            fs::remove_file(path.join(file)).expect("removed");
        }
    }
    // Where some is, it is taken on request as well.
    configure(path, &format!("{veth}vnis = [1, 2]"), "vnis = 2");
    let run = Mirror::ingest(&cable, path, "--config mirror.toml --forward-path kernel");
    run.says(&format!("cap0: forward path kernel: as requested, {REASON}"));
    let report = report_of(run, path);
    assert_eq!(report["interfaces"][0]["forward_path"]["path"], json!("kernel"));
    // Of VNIs that the run does not select, none is left.
    let run = Mirror::start(ingest(&cable, path, "--config mirror.toml --forward-path kernel --vni 2"));
    run.end().expect_code(2).expect_words(&["no frame is for sink ids alone"]);
}
