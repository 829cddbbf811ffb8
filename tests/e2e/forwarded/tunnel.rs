//! VXLAN targets on the kernel path: the same frames as on the user path, next hops that change or are not
//! there, and each frame counted.

use std::{path::Path, thread, time::Duration};

use mirror_lab::{
    Injector, InterfaceCounters, Namespace, Traffic, VethOptions, Witness, XdpProgram,
    capture::{multiset, same_frames},
    frames::{Outer, OuterIp},
    mixed::mixed,
    xdp_program::{Settings, XdpAttach},
};
use serde_json::Value;

use super::{
    Beyond, account,
    common::{
        Cable, SENDER,
        mirror::{Mirror, VNI, balanced_report, ingest, inject, sent_by_kernel, until},
    },
    report_of,
    targets::give_addresses,
};

const V4: [&str; 3] = ["10.99.0.1/24", "10.99.0.2/24", "vxlan:10.99.0.2"];
const V6: [&str; 3] = ["fd00:99::1/64", "fd00:99::2/64", "vxlan:[fd00:99::2]:4789"];
const TARGET: &str = "vxlan:10.99.0.2:4789";
const RUN: &str = "--forward vxlan:10.99.0.2 --forward-path kernel --report report.json";

/// A remote end with addresses, whose program passes what arrives.
struct Far {
    beyond: Beyond,
    _program: XdpProgram,
}

impl Far {
    fn lay(cable: &Cable, [near, far, _]: [&str; 3]) -> Self {
        let beyond = Beyond::lay(cable, &VethOptions { mtu: 3000, ..VethOptions::default() });
        give_addresses(cable, &beyond, near, far);
        let program = passing(&beyond.namespace, "ids0");
        Self { beyond, _program: program }
    }

    fn witness(&self, file: &Path, filter: &str) -> Witness {
        Witness::start(&self.beyond.namespace, "ids0", file, filter).expect("tcpdump")
    }

    fn arrived(&self) -> u64 {
        InterfaceCounters::read(&self.beyond.namespace, "ids0").expect("counters").xdp_packets()
    }
}

/// Without a socket it passes tunnel packets, too.
fn passing(namespace: &Namespace, interface: &str) -> XdpProgram {
    let mut program = XdpProgram::load(mirror_ebpf::mirror::PROGRAM, &Settings::default()).expect("program");
    program.attach(namespace, interface, XdpAttach::Native).expect("attached");
    program
}

/// A run whose next hop is known.
fn resolved(cable: &Cable, directory: &Path, arguments: &str) -> Mirror {
    let run = Mirror::ingest(cable, directory, arguments);
    run.says("the kernel forwards to ");
    run
}

/// Inner frames of every kind, in every kind of received outer headers.
fn every_shape() -> Vec<Vec<u8>> {
    let plain = Outer::sample(7);
    let mut options = plain.clone();
    if let OuterIp::V4 { options, .. } = &mut options.ip {
        *options = vec![1; 8];
    }
    let shapes = [
        plain.clone(),
        Outer { tags: vec![(0x8100, 5)], vni: 8, ..plain.clone() },
        Outer { tags: vec![(0x88a8, 5), (0x8100, 6)], ..plain.clone() },
        options,
        Outer::sample_v6(9, &[]),
        Outer { udp_checksum: true, ..plain },
    ];
    let flows = (0..10_u16).flat_map(|number| {
        (0..4).map(move |len| {
            let ends = [([10, 0, 0, 1].into(), 49_152 + number), ([10, 0, 0, 2].into(), 9)];
            let payload = vec![0x5a; 101 * usize::from(number) + len];
            mirror_lab::frames::inner_udp(ends[0], ends[1], &payload).expect("an inner frame")
        })
    });
    let inner: Vec<_> = mixed().expect("frames").into_iter().chain(flows).collect();
    let wrap = |(nth, inner): (usize, &Vec<u8>)| {
        let mut frame = shapes[nth % shapes.len()].encapsulate(inner).expect("an outer frame");
        // Padding behind the datagram.
        frame.resize(frame.len() + [0, 3][nth % 2], 0xee);
        frame
    };
    // Each in every shape.
    let all = (0..shapes.len()).flat_map(|shift| inner.iter().enumerate().map(move |(n, i)| (n + shift, i)));
    all.map(wrap).collect()
}

/// What a target gets for these frames, and the report.
fn sent_on(
    path: &str,
    cable: &Cable,
    remote: &Far,
    target: &str,
    outer: &[Vec<u8>],
) -> (Vec<Vec<u8>>, Value) {
    let directory = tempfile::tempdir().expect("directory");
    let arguments = format!("--forward {target} --forward-path {path} --report report.json");
    let run = if path == "kernel" {
        resolved(cable, directory.path(), &arguments)
    } else {
        Mirror::ingest(cable, directory.path(), &arguments)
    };
    let witness = remote.witness(&directory.path().join("far.pcap"), "udp port 4789");
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(outer).expect("injected");
    run.has(outer.len() as u64);
    let report = report_of(run, directory.path());
    (witness.stop().expect("tcpdump").frames, report)
}

#[test]
fn both_paths_send_the_same_bytes_for_every_frame() {
    let outer = every_shape();
    for (ends, vni) in [(V4, ""), (V4, ",vni=42"), (V6, ""), (V6, ",vni=42")] {
        let target = format!("{}{vni}", ends[2]);
        let cable = Cable::with_queues(1);
        let remote = Far::lay(&cable, ends);
        let [(by_user, _), (by_kernel, report)] =
            ["user", "kernel"].map(|path| sent_on(path, &cable, &remote, &target, &outer));
        let sent = sent_by_kernel(&report, 0);
        println!("{target}: {} frames, {sent} by the kernel", outer.len());
        assert!(sent > outer.len() as u64 / 2, "{sent}");
        assert_eq!(by_user.len(), outer.len());
        same_frames(&multiset(by_user), &multiset(by_kernel)).expect(&target);
    }
}

#[test]
fn the_kernels_vxlan_device_receives_what_the_program_has_encapsulated() {
    for ends @ [_, far, target] in [V4, V6] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let cable = Cable::with_queues(1);
        let remote = Far::lay(&cable, ends);
        let local = far.split('/').next().expect("an address");
        let namespace = &remote.beyond.namespace;
        namespace
            .ip(&format!("link add vx0 type vxlan id 42 dstport 4789 local {local} dev ids0"))
            .expect("vxlan");
        namespace.ip("link set dev vx0 up").expect("up");
        let forward = format!("--forward {target},vni=42 --forward-path kernel --report report.json");
        let run = resolved(&cable, path, &forward);
        let witness = Witness::start(namespace, "vx0", &path.join("vx.pcap"), "udp port 9").expect("tcpdump");
        let inner = inject(&cable, 100);
        run.has(100);
        let report = report_of(run, path);
        assert_eq!(sent_by_kernel(&report, 0), 100, "{report:#}");
        same_frames(&inner, &witness.stop().expect("tcpdump").frames).expect(target);
    }
}

/// Frames that were not sent, for a reason of the kernel path.
fn not_sent(report: &Value, reason: &str) -> u64 {
    let reasons = &report["interfaces"][0]["forward_path"]["targets"][0]["not_sent"];
    reasons[reason].as_u64().unwrap_or_else(|| panic!("no {reason} in {reasons}"))
}

/// Offered to the sink of the user path.
fn offered(report: &Value) -> u64 {
    account(report, &format!("forward {TARGET}")).0
}

fn mac(last: u8) -> String {
    format!("06:00:00:00:00:{last:02x}")
}

#[test]
fn a_neighbour_that_changes_its_mac_address_is_followed() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let remote = Far::lay(&cable, V4);
    let namespace = &remote.beyond.namespace;
    let run = resolved(&cable, path, RUN);
    let witness = remote.witness(&path.join("far.pcap"), "udp port 4789");
    inject(&cable, 10);
    run.has(10);
    // It announces the change.
    namespace.sysctl("net/ipv4/conf/ids0/arp_notify", "1").expect("sysctl");
    namespace.ip(&format!("link set dev ids0 address {}", mac(1))).expect("address");
    run.says(&format!("the kernel forwards to {}", mac(1)));
    inject(&cable, 20);
    run.has(30);
    // It does not. The kernel asks again when an entry is old and something is to be sent.
    for (setting, value) in [("base_reachable_time_ms", "1000"), ("delay_first_probe_time", "1")] {
        cable.target.sysctl(&format!("net/ipv4/neigh/out0/{setting}"), value).expect("sysctl");
    }
    namespace.sysctl("net/ipv4/conf/ids0/arp_notify", "0").expect("sysctl");
    namespace.ip(&format!("link set dev ids0 address {}", mac(2))).expect("address");
    run.says("its neighbour 10.99.0.2 is not resolved; until then its frames take the user path");
    run.says(&format!("the kernel forwards to {}", mac(2)));
    inject(&cable, 40);
    run.has(70);
    let report = report_of(run, path);
    assert_eq!((sent_by_kernel(&report, 0), offered(&report)), (70, 0), "{report:#}");
    let frames = witness.stop().expect("tcpdump").frames;
    let to = |last: u8| frames.iter().filter(|frame| frame[..6] == [6, 0, 0, 0, 0, last]).count();
    assert_eq!((frames.len(), to(1), to(2)), (70, 20, 40));
    assert_eq!(report["origins"][0]["frames"], 70);
}

#[test]
fn without_a_next_hop_frames_take_the_user_path() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let remote = Far::lay(&cable, V4);
    let namespace = &remote.beyond.namespace;
    namespace.ip("address del 10.99.0.2/24 dev ids0").expect("no address");
    let run = Mirror::ingest(&cable, path, RUN);
    inject(&cable, 10);
    run.has(10);
    assert!(!run.said().contains("the kernel forwards to"), "{}", run.said());
    namespace.ip("address add 10.99.0.2/24 dev ids0").expect("address");
    run.says("the kernel forwards to ");
    inject(&cable, 20);
    run.has(30);
    // The route leaves by another interface, which leads nowhere.
    cable.target.ip("link add aside type veth peer name beside").expect("veth");
    for command in ["link set dev aside up", "link set dev beside up", "route add 10.99.0.2/32 dev aside"] {
        cable.target.ip(command).expect(command);
    }
    run.says("its route leaves by another interface than at the start");
    inject(&cable, 40);
    run.has(70);
    cable.target.ip("route del 10.99.0.2/32 dev aside").expect("route");
    until("the route is back", || (run.said().matches("the kernel forwards to ").count() == 2).then_some(()));
    inject(&cable, 80);
    run.has(150);
    let report = report_of(run, path);
    assert_eq!((sent_by_kernel(&report, 0), offered(&report)), (100, 50), "{report:#}");
}

#[test]
fn frames_longer_than_the_mtu_of_the_path_are_counted_as_on_the_user_path() {
    // Of the interface, and of the route.
    for smaller in ["link set dev out0 mtu 600", "route replace 10.99.0.2/32 dev out0 src 10.99.0.1 mtu 600"]
    {
        let too_large = ["user", "kernel"].map(|forward_path| {
            let directory = tempfile::tempdir().expect("directory");
            let path = directory.path();
            let cable = Cable::with_queues(1);
            let remote = Far::lay(&cable, V4);
            let arguments = format!("--forward vxlan:10.99.0.2 --forward-path {forward_path}");
            let arguments = format!("{arguments} --report report.json");
            let kernel = forward_path == "kernel";
            let run = if kernel {
                resolved(&cable, path, &arguments)
            } else {
                Mirror::ingest(&cable, path, &arguments)
            };
            let witness = remote.witness(&path.join("far.pcap"), "udp port 4789");
            cable.target.ip(smaller).expect(smaller);
            thread::sleep(Duration::from_millis(300));
            // 36 bytes of outer headers count.
            let lens = 560..570_usize;
            let frame = |len| mirror_lab::frames::inner_of_len(len).expect("an inner frame");
            let outer: Vec<_> = lens
                .clone()
                .map(|len| Outer::sample(VNI).encapsulate(&frame(len)).expect("an outer frame"))
                .collect();
            Injector::new(&cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
            run.has(outer.len() as u64);
            let report = report_of(run, path);
            assert_eq!(
                witness.stop().expect("tcpdump").frames.len(),
                (600 - 36 + 1 - lens.start),
                "{smaller}"
            );
            if kernel {
                assert_eq!(offered(&report), 0, "{report:#}");
                not_sent(&report, "too_large")
            } else {
                account(&report, &format!("forward {TARGET}")).2["too_large"].as_u64().expect("a count")
            }
        });
        assert_eq!(too_large, [5, 5], "{smaller}");
    }
}

/// Runs at full rate, applies a fault, and returns the report: residue 0.
#[track_caller]
fn faulty(cable: &Cable, fault: impl FnOnce()) -> Value {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = resolved(cable, path, RUN);
    let traffic = Traffic { frame_len: 1450, ..Traffic::default() };
    let generator = cable.generator(traffic).start(u64::MAX);
    run.has(10_000);
    fault();
    thread::sleep(Duration::from_millis(500));
    let ending = run.end_by(nix::sys::signal::Signal::SIGINT);
    assert!(!generator.is_finished(), "it must outlast the run");
    generator.stop().expect("generated");
    ending.expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let xdp = &report["interfaces"][0]["xdp"];
    let target = &report["interfaces"][0]["forward_path"]["targets"][0];
    println!(
        "{} seen, {} redirected, {} forwarded, {target}",
        xdp["seen"], xdp["redirected"], xdp["forwarded"]
    );
    assert!(sent_by_kernel(&report, 0) > 0);
    report
}

#[test]
fn a_tunnel_that_fails_at_full_rate_has_an_exact_account() {
    let change = |namespace: &Namespace, command: &str| drop(namespace.ip(command).expect(command));
    let lay = || {
        let cable = Cable::with_queues(1);
        let beyond = Beyond::lay(&cable, &VethOptions::default());
        give_addresses(&cable, &beyond, V4[0], V4[1]);
        (cable, beyond)
    };
    // Without a fault the far end receives as many as were sent.
    let (cable, beyond) = lay();
    let remote = Far { _program: passing(&beyond.namespace, "ids0"), beyond };
    let before = remote.arrived();
    let report = faulty(&cable, || {});
    let [sent, redirected] = [sent_by_kernel(&report, 0), offered(&report)];
    let arrived = remote.arrived() - before;
    assert!((sent..sent + redirected + 20).contains(&arrived), "{arrived} arrived of {sent}");
    // The neighbour's entry is removed, and comes back.
    let report = faulty(&cable, || change(&cable.target, "neighbour flush dev out0"));
    assert_eq!(not_sent(&report, "down"), 0);
    let report = faulty(&cable, || change(&cable.target, "link set dev out0 mtu 400"));
    assert!(not_sent(&report, "too_large") > 0);
    change(&cable.target, "link set dev out0 mtu 1500");
    let report = faulty(&cable, || change(&cable.target, "link set dev out0 down"));
    assert!(not_sent(&report, "down") > 0);
    drop(remote);
    drop(cable);
    let (cable, beyond) = lay();
    let program = passing(&beyond.namespace, "ids0");
    let report = faulty(&cable, || drop(program));
    assert!(not_sent(&report, "no_program") > 0);
    let _program = passing(&beyond.namespace, "ids0");
    let report = faulty(&cable, || change(&cable.target, "link delete dev out0"));
    assert!(report["interfaces"][0]["xdp"]["dropped"]["no_target"].as_u64().is_some_and(|lost| lost > 0));
}

/// What a tunnel and a veth of one group get.
fn group_on(forward_path: &str) -> [Vec<Vec<u8>>; 2] {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let remote = Far::lay(&cable, V4);
    let sensor = cable.lab.namespace("sensor").expect("namespace");
    let targets = format!("--forward vxlan:10.99.0.2 --forward veth:ids1,netns={}", sensor.name());
    let arguments =
        format!("{targets} --forward-balance flow --forward-seed 7 --forward-path {forward_path}");
    let arguments = format!("{arguments} --report report.json");
    let kernel = forward_path == "kernel";
    let run =
        if kernel { resolved(&cable, path, &arguments) } else { Mirror::ingest(&cable, path, &arguments) };
    let tunnel = remote.witness(&path.join("far.pcap"), "udp port 4789");
    let veth = Witness::start(&sensor, "ids1", &path.join("veth.pcap"), "").expect("tcpdump");
    let inner = mirror_lab::flows::frames(500, 1).expect("frames");
    let outer = mirror_lab::flows::mirrored(&inner, VNI).expect("outer frames");
    let pace = std::num::NonZeroU32::new(20_000).expect("a pace");
    Injector::new(&cable.sender, SENDER).expect("injector").pace(pace).send_all(&outer).expect("injected");
    run.has(outer.len() as u64);
    let report = report_of(run, path);
    assert_eq!([0, 1].map(|member| sent_by_kernel(&report, member) > 100), [kernel; 2], "{report:#}");
    let [tunnel, veth] = [tunnel, veth].map(|witness| witness.stop().expect("tcpdump").frames);
    assert_eq!(tunnel.len() + veth.len(), outer.len());
    // The MAC addresses of this lab.
    [tunnel.iter().map(|frame| frame[12..].to_vec()).collect(), veth].map(multiset)
}

#[test]
fn a_tunnel_in_a_group_gets_the_same_frames_on_both_paths() {
    let [user, kernel] = ["user", "kernel"].map(group_on);
    for (user, kernel) in user.iter().zip(&kernel) {
        same_frames(user, kernel).expect("the same frames");
    }
}

#[test]
fn a_tunnel_is_refused_or_left_to_the_user_path_with_the_reason() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let beyond = Beyond::lay(&cable, &VethOptions::default());
    give_addresses(&cable, &beyond, V4[0], V4[1]);
    let no_program = format!("{TARGET} takes no redirected frames: for that the far end of a veth");
    let same = "10.99.0.3:4789 are reached by the same interface";
    let group = "--forward vxlan:10.99.0.2 --forward vxlan:10.99.0.3 --forward-balance flow";
    let mut program = None;
    for (targets, reason) in [("--forward vxlan:10.99.0.2", &no_program[..]), (group, same)] {
        let run = Mirror::start(ingest(&cable, path, &format!("{targets} --forward-path kernel")));
        run.end().expect_code(1).expect_words(&["the kernel cannot forward: ", reason]);
        let run = Mirror::ingest(&cable, path, &format!("{targets} --report report.json"));
        inject(&cable, 10);
        run.has(10);
        run.says("cap0: forward path user: ");
        let report = report_of(run, path);
        let said = report["interfaces"][0]["forward_path"]["reason"].as_str().expect("a reason");
        assert!(said.contains(reason), "{said}");
        assert_eq!(report["frames"]["decapsulated"], 10);
        std::fs::remove_file(path.join("report.json")).expect("removed");
        program.get_or_insert_with(|| passing(&beyond.namespace, "ids0"));
    }
}
