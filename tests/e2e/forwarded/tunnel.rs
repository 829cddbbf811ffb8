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
        mirror::{Mirror, VNI, balanced_report, frames, inject, sent_by_kernel, until},
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
    let flows = (0..10_u32).flat_map(|number| {
        (0..4).map(move |len| {
            let ends = [([10, 0, 0, 1].into(), 49_152 + number as u16), ([10, 0, 0, 2].into(), 9)];
            let payload = vec![0x5a; 101 * number as usize + len];
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
