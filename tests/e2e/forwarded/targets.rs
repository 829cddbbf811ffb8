//! Each kind of target gets the inner frames, and only those.

use std::{
    net::{IpAddr, SocketAddrV4},
    num::NonZeroU32,
};

use mirror_lab::{
    Injector, VethEnd, VethOptions, Witness, capture::same_frames, frames::Outer, mixed::mixed,
    tshark::PcapOverIp,
};
use nix::sys::signal::Signal;

use super::{
    Beyond, account,
    common::{
        CAPTURE, Cable, SENDER,
        mirror::{MIRROR, Mirror, balanced_report, ingest, inject, readable_capture, sink, whole_capture},
    },
    nothing, report_of,
};

/// A veth end at which tcpdump can keep up.
fn quiet_offloads(end: &VethEnd) {
    end.offloads(false).expect("ethtool");
}

/// `mixed` as mirrored frames of two VNIs.
pub(super) fn mirrored_mix() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let inner = mixed().expect("frames");
    let wrap = |(nth, frame): (usize, &Vec<u8>)| {
        Outer::sample([7, 8][nth % 2]).encapsulate(frame).expect("outer frame")
    };
    let outer = inner.iter().enumerate().map(wrap).collect();
    (inner, outer)
}

#[test]
fn tcpdump_on_a_tap_sees_the_inner_frames_byte_for_byte() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let run = Mirror::ingest(&cable, path, "--forward tap:ids0 --report report.json");
    quiet_offloads(&VethEnd::new(&cable.target, "ids0"));
    let link = cable.target.ip("-details link show dev ids0").expect("link");
    assert!(link.contains("NOARP") && link.contains("tap"), "{link}");
    let addresses = cable.target.ip("address show dev ids0").expect("addresses");
    assert!(!addresses.contains("inet"), "{addresses}");
    let witness = Witness::start(&cable.target, "ids0", &path.join("tap.pcap"), "").expect("tcpdump");
    let (inner, outer) = mirrored_mix();
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
    run.has(inner.len() as u64);
    // All frames are through when the run has ended, which removes the device: tcpdump then ends by itself.
    let report = report_of(run, path);
    let sent = inner.len() as u64;
    assert_eq!(account(&report, "forward tap:ids0"), (sent, sent, nothing(), nothing()));
    let seen = witness.stop().expect("tcpdump");
    same_frames(&inner, &seen.frames).expect("the inner frames");
    assert!(cable.target.ip("link show dev ids0").is_err(), "the device goes with the run");
}

#[test]
fn the_other_end_of_an_interface_sees_the_inner_frames_byte_for_byte() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let beyond = Beyond::lay(&cable, &VethOptions::default());
    let witness = Witness::start(&beyond.namespace, "ids0", &path.join("far.pcap"), "").expect("tcpdump");
    let run = Mirror::ingest(&cable, path, "--forward dev:out0 --report report.json");
    let (inner, outer) = mirrored_mix();
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
    run.has(inner.len() as u64);
    let report = report_of(run, path);
    let sent = inner.len() as u64;
    assert_eq!(account(&report, "forward dev:out0"), (sent, sent, nothing(), nothing()));
    same_frames(&inner, &witness.stop().expect("tcpdump").frames).expect("the inner frames");
}

#[test]
fn vnis_get_vlans_in_the_order_of_the_list_then_of_arrival() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let run = Mirror::ingest(
        &cable,
        path,
        "--forward tap:ids0 --vlan-per-vni --vni 8,7 -w inner.pcapng --report report.json",
    );
    quiet_offloads(&VethEnd::new(&cable.target, "ids0"));
    let witness = Witness::start(&cable.target, "ids0", &path.join("tap.pcap"), "").expect("tcpdump");
    let (inner, outer) = mirrored_mix();
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
    run.has(inner.len() as u64);
    let report = report_of(run, path);
    let vlans = serde_json::json!([{ "vni": 8, "vlan": 1 }, { "vni": 7, "vlan": 2 }]);
    assert_eq!(sink(&report, "forward tap:ids0")["vlans"], vlans);
    let tagged = |(nth, frame): (usize, &Vec<u8>)| {
        let mut frame = frame.clone();
        frame.splice(12..12, [0x81, 0, 0, [2, 1][nth % 2]]);
        frame
    };
    // The kernel drops a frame that ends within two bytes after its tag (`skb_vlan_untag`).
    let whole = |(_, frame): &(usize, &Vec<u8>)| frame.len() >= 16;
    let wanted: Vec<_> = inner.iter().enumerate().filter(whole).map(tagged).collect();
    same_frames(&wanted, &witness.stop().expect("tcpdump").frames).expect("tagged frames");
    assert_eq!(readable_capture(&path.join("inner.pcapng")).frames(), inner, "a capture has no tags of ours");
}

#[test]
fn after_a_flood_of_vnis_the_tenant_that_follows_has_a_vlan() {
    const FLOOD: u32 = 4_200;
    const TENANT: u32 = 77;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let run = Mirror::ingest(&cable, path, "--forward tap:ids0 --vlan-per-vni --report report.json");
    let vnis = (1_000_000..1_000_000 + FLOOD).chain([TENANT; 10]);
    let inner = mirror_lab::frames::inner_of_len(100).expect("an inner frame");
    let outer: Vec<_> = vnis.map(|vni| Outer::sample(vni).encapsulate(&inner).expect("a frame")).collect();
    let pace = NonZeroU32::new(10_000).expect("a pace");
    Injector::new(&cable.sender, SENDER).expect("injector").pace(pace).send_all(&outer).expect("injected");
    run.has(outer.len() as u64);
    run.says("a new VNI takes the VLAN of the VNI that has been idle longest");
    let report = report_of(run, path);
    let sent = outer.len() as u64;
    assert_eq!(account(&report, "forward tap:ids0"), (sent, sent, nothing(), nothing()));
    let sink = sink(&report, "forward tap:ids0");
    let vlans = sink["vlans"].as_array().expect("VLANs");
    assert_eq!((vlans.len(), vlans.iter().filter(|vlan| vlan["vni"] == TENANT).count()), (4094, 1));
    assert_eq!(sink["vlans_given_up"], FLOOD + 1 - 4094);
}

/// Both ends of the second veth pair get an address.
pub(super) fn give_addresses(cable: &Cable, beyond: &Beyond, near: &str, far: &str) {
    for (namespace, interface, address) in [(&cable.target, "out0", near), (&beyond.namespace, "ids0", far)] {
        namespace.sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "0").expect("sysctl");
        namespace.ip(&format!("address add {address} dev {interface} nodad")).expect("address");
    }
}

/// A second `mirror ingest` at the other end.
fn tunnelled(near: &str, far: &str, target: &str, vni: impl Fn(u32) -> u32) {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let options = VethOptions { mtu: 3000, ..VethOptions::default() };
    let beyond = Beyond::lay(&cable, &options);
    give_addresses(&cable, &beyond, near, far);
    let mut second = beyond.namespace.command(MIRROR);
    let arguments = "ingest -i ids0 --stats 1h -w second.pcapng --report second.json";
    second.args(arguments.split_ascii_whitespace()).current_dir(path);
    let second = Mirror::start(second).attached_to(&beyond.namespace, "ids0");
    let forward = format!("--forward {target} -w first.pcapng --report report.json");
    let run = Mirror::ingest(&cable, path, &forward);
    let (inner, outer) = mirrored_mix();
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
    run.has(inner.len() as u64);
    let report = report_of(run, path);
    let sent = inner.len() as u64;
    let name = sink(&report, "pcap");
    assert_eq!(name["written"], sent);
    let forward = report["sinks"].as_array().expect("sinks").last().expect("a sink");
    assert_eq!((&forward["written"], &forward["dropped"]), (&sent.into(), &nothing()), "{forward:#}");
    second.has(sent);
    second.end_by(Signal::SIGINT).expect_code(0);
    let far_report = balanced_report(&path.join("second.json"));
    let near_address = near.split('/').next().expect("an address");
    let mut origins: Vec<_> = far_report["origins"]
        .as_array()
        .expect("origins")
        .iter()
        .map(|origin| (origin["source"].as_str().expect("source").to_owned(), origin["vni"].clone()))
        .collect();
    origins.sort_by_key(|(_, vni)| vni.as_u64());
    origins.dedup();
    let mut vnis = vec![vni(7), vni(8)];
    vnis.dedup();
    let wanted: Vec<_> = vnis.into_iter().map(|vni| (near_address.to_owned(), vni.into())).collect();
    assert_eq!(origins, wanted);
    // Each flow has its own source port, so different flows may arrive on different queues: here there is
    // one.
    same_frames(&inner, &readable_capture(&path.join("second.pcapng")).frames()).expect("the inner frames");
}

#[test]
fn a_second_mirror_target_gets_the_same_inner_frames_and_vni() {
    tunnelled("10.99.0.1/24", "10.99.0.2/24", "vxlan:10.99.0.2", |vni| vni);
}

#[test]
fn over_ipv6_a_second_mirror_target_gets_the_vni_that_was_set() {
    tunnelled("fd00:99::1/64", "fd00:99::2/64", "vxlan:[fd00:99::2]:4789,vni=99", |_| 99);
}

/// The kernel's own VXLAN device refuses a checksum of zero over IPv6 by default.
#[test]
fn the_kernels_vxlan_device_receives_forwarded_packets() {
    for (near, far, target) in [
        ("10.99.0.1/24", "10.99.0.2/24", "10.99.0.2"),
        ("fd00:99::1/64", "fd00:99::2/64", "[fd00:99::2]:4789"),
    ] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let cable = Cable::with_queues(1);
        let beyond = Beyond::lay(&cable, &VethOptions { mtu: 3000, ..VethOptions::default() });
        give_addresses(&cable, &beyond, near, far);
        let far_address: IpAddr = far.split('/').next().and_then(|far| far.parse().ok()).expect("address");
        for command in [
            format!("link add vx0 type vxlan id 42 dstport 4789 local {far_address} dev ids0"),
            "link set dev vx0 up".to_owned(),
        ] {
            beyond.namespace.ip(&command).expect(&command);
        }
        let run =
            Mirror::ingest(&cable, path, &format!("--forward vxlan:{target},vni=42 --report report.json"));
        let witness =
            Witness::start(&beyond.namespace, "vx0", &path.join("vx.pcap"), "udp port 9").expect("tcpdump");
        let inner = inject(&cable, 100);
        run.has(100);
        let _ = report_of(run, path);
        same_frames(&inner, &witness.stop().expect("tcpdump").frames).expect(target);
    }
}

#[test]
fn tshark_reads_the_stream_of_pcap_over_ip_with_origins_and_community_ids() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    cable.target.ip("link set dev lo up").expect("lo");
    let server: SocketAddrV4 = "127.0.0.1:57012".parse().expect("address");
    let forward = format!("--forward pcap-over-ip:listen={server},format=pcapng --community-id");
    let run = Mirror::ingest(&cable, path, &format!("{forward} -w inner.pcapng --report report.json"));
    let fields = ["frame.interface_name", "frame.len", "frame.time_epoch", "frame.comment", "ip.src"];
    let reader = PcapOverIp::connect(&cable.target, server, 50, &fields).expect("tshark");
    run.says("reader connected");
    inject(&cable, 50);
    let rows = reader.wait().expect("tshark");
    run.has(50);
    let report = report_of(run, path);
    assert_eq!(sink(&report, &format!("forward pcap-over-ip:listen={server},format=pcapng"))["written"], 50);
    let packets = whole_capture(&path.join("inner.pcapng")).packets;
    assert_eq!(rows.len(), packets.len());
    for (row, packet) in rows.iter().zip(&packets) {
        assert_eq!(Some(row[0].as_str()), packet.interface_name.as_deref());
        assert_eq!(row[1], packet.bytes.len().to_string());
        assert!(row[3].starts_with("1:") && row[3].len() == 30, "{row:?}");
        assert_eq!(row[4], "10.0.0.1");
    }
}

#[test]
fn a_reader_that_listens_gets_a_classic_pcap_and_its_end() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    cable.target.ip("link set dev lo up").expect("lo");
    let server = cable.target.enter(|| std::net::TcpListener::bind("127.0.0.1:0")).expect("namespace");
    let server = server.expect("listener");
    let target = format!("pcap-over-ip:connect={}", server.local_addr().expect("address"));
    let run = Mirror::ingest(&cable, path, &format!("--forward {target} --report report.json"));
    let (mut reader, _) = server.accept().expect("mirror comes");
    run.says("reader connected");
    let inner = inject(&cable, 300);
    let taken = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut bytes).map(|_| bytes)
    });
    run.has(300);
    let report = report_of(run, path);
    assert_eq!(account(&report, &format!("forward {target}")), (300, 300, nothing(), nothing()));
    let bytes = taken.join().expect("reader").expect("the stream has an end");
    std::fs::write(path.join("stream.pcap"), bytes).expect("written");
    assert_eq!(whole_capture(&path.join("stream.pcap")).frames(), inner);
}

#[test]
fn a_target_that_leads_back_to_the_capture_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    cable.target.ip(&format!("address add 10.98.0.1/24 dev {CAPTURE}")).expect("address");
    for target in [format!("dev:{CAPTURE}"), "vxlan:10.98.0.1".to_owned(), "vxlan:127.0.0.1".to_owned()] {
        let run = Mirror::start(ingest(&cable, path, &format!("--forward {target}")));
        run.end().expect_code(1).expect_words(&[&target, "would be ingested again"]);
    }
}
