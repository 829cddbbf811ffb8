//! Veth pairs that `mirror` makes for readers: what they look like, what they count, and when they go.

use std::{
    io::{BufRead as _, BufReader},
    num::NonZeroU32,
    panic,
    path::Path,
    process::Stdio,
    sync::Arc,
};

use mirror_ebpf::mirror::PROGRAM_FRAGS;
use mirror_lab::{
    Injector, Namespace, Traffic, Witness, XdpProgram,
    capture::{same_frames, write_pcap},
    xdp_program::{Settings, XdpAttach},
};
use mirror_user::sink::forward::Forward;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    account,
    common::{
        CAPTURE, Cable, SENDER, builder,
        mirror::{MIRROR, Mirror, burst_of, frames, ingest, inject, sent_by_kernel, sink, until},
    },
    nothing, report_of, sender,
    targets::mirrored_mix,
};

/// The largest on EC2: the datagram of several fragments may be as long.
const MTU: u64 = 9001;

/// What `ip -json -details -stats link show` prints of an interface; `None` if there is none.
fn link(namespace: &Namespace, name: &str) -> Option<Value> {
    let shown = namespace.ip(&format!("-json -details -stats link show dev {name}")).ok()?;
    let mut shown: Value = serde_json::from_str(&shown).expect("JSON");
    Some(shown[0].take())
}

/// The names of a namespace's interfaces.
fn links(namespace: &Namespace) -> Vec<String> {
    let shown = namespace.ip("-json link show").expect("links");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let names = shown.as_array().expect("links").iter();
    names.map(|link| link["ifname"].as_str().expect("a name").to_owned()).collect()
}

fn received(namespace: &Namespace, name: &str) -> u64 {
    link(namespace, name).expect("the far end")["stats64"]["rx"]["packets"].as_u64().expect("a count")
}

/// Offloads that are on, of those that change frames.
fn offloads(namespace: &Namespace, name: &str) -> Vec<String> {
    let features = mirror_lab::run(namespace.command("ethtool").args(["-k", name])).expect("ethtool");
    let wanted = ["segmentation", "receive-offload", "checksum", "gro", "gso"];
    let is_on = |line: &&str| line.ends_with(": on") && wanted.iter().any(|word| line.contains(word));
    features.lines().filter(is_on).map(str::to_owned).collect()
}

/// Has IPv6 on by default, as most hosts have.
fn use_ipv6(namespace: &Namespace) {
    for which in ["all", "default"] {
        namespace.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "0").expect("sysctl");
    }
}

/// Fails the test unless nothing but a reader uses the interface.
#[track_caller]
fn assert_for_readers(namespace: &Namespace, name: &str, mtu: u64) {
    let link = link(namespace, name).expect("the far end");
    assert_eq!(link["linkinfo"]["info_kind"], "veth", "{link:#}");
    let queues = (&link["num_rx_queues"], &link["num_tx_queues"]);
    assert_eq!((&link["mtu"], queues), (&json!(mtu), (&json!(1), &json!(1))), "{link:#}");
    let flags = link["flags"].as_array().expect("flags");
    assert!(["NOARP", "UP", "LOWER_UP"].iter().all(|flag| flags.contains(&json!(flag))), "{flags:?}");
    let addresses = namespace.ip(&format!("address show dev {name}")).expect("addresses");
    assert!(!addresses.contains("inet"), "{addresses}");
    assert_eq!(offloads(namespace, name), [""; 0]);
}

/// Sends all kinds of frames while `name` is captured, and compares; returns what it received.
#[track_caller]
fn delivers(cable: &Cable, run: Mirror, directory: &Path, namespace: &Namespace, target: &str) {
    let witness = Witness::start(namespace, "ids0", &directory.join("far.pcap"), "").expect("tcpdump");
    let before = received(namespace, "ids0");
    let (inner, outer) = mirrored_mix();
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
    run.has(inner.len() as u64);
    let sent = inner.len() as u64;
    until("the far end counts all", || (received(namespace, "ids0") - before >= sent).then_some(()));
    assert_eq!(received(namespace, "ids0") - before, sent);
    let report = report_of(run, directory);
    let by_kernel = sent_by_kernel(&report, 0);
    assert!(by_kernel > 0, "{by_kernel} of {sent}");
    let by_sink = sent - by_kernel;
    assert_eq!(account(&report, &format!("forward {target}")), (by_sink, by_sink, nothing(), nothing()));
    same_frames(&inner, &witness.stop().expect("tcpdump").frames).expect("the inner frames");
}

#[test]
fn tcpdump_on_a_veth_sees_the_inner_frames_byte_for_byte() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let before = links(&cable.target);
    use_ipv6(&cable.target);
    let run = Mirror::ingest(&cable, path, "--forward veth:ids0 --report report.json");
    assert_for_readers(&cable.target, "ids0", MTU);
    let during: Vec<_> = links(&cable.target).into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(during, ["ids0"], "the near end is in no namespace of the host");
    delivers(&cable, run, path, &cable.target, "veth:ids0");
    assert_eq!(links(&cable.target), before, "the pair goes with the run");
}

#[test]
fn a_veth_is_gone_however_its_run_ends() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let before = links(&cable.target);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        Mirror::ingest(&cable, path, "--forward veth:ids0").end_by(signal).expect_code(0);
        assert_eq!(links(&cable.target), before, "{signal}");
    }
    let start = ingest(&cable, path, "--forward veth:ids0 --forward dev:nowhere");
    Mirror::start(start).end().expect_code(1);
    assert_eq!(links(&cable.target), before, "a start that fails");
    for _ in 0..3 {
        Mirror::ingest(&cable, path, "--forward veth:ids0").end_by(Signal::SIGKILL);
        // At once, while the kernel still removes the pair of the killed run.
        let next = Mirror::ingest(&cable, path, "--forward veth:ids0 --duration 100ms");
        next.end().expect_code(0);
    }
    // The second as a panic during a panic.
    for signal in [Signal::SIGKILL, Signal::SIGABRT] {
        Mirror::ingest(&cable, path, "--forward veth:ids0").end_by(signal);
        until("the kernel removes the pair", || (links(&cable.target) == before).then_some(()));
    }
}

#[test]
fn a_veth_is_gone_after_a_panic() {
    let cable = Cable::with_queues(1);
    let before = links(&cable.target);
    let forward = || Forward::builder("veth:ids0".parse().expect("a target")).build();
    let forward = cable.target.enter(forward).expect("namespace").expect("a veth");
    let running = cable.engine(builder().sink(Arc::new(forward)));
    assert_ne!(links(&cable.target), before);
    let result = panic::catch_unwind(panic::AssertUnwindSafe(move || {
        let _running = running;
        panic!("something else in the program");
    }));
    assert!(result.is_err());
    until("the pair is removed", || (links(&cable.target) == before).then_some(()));
}

#[test]
fn what_is_generated_is_sent_and_received_at_the_far_end() {
    for path in ["user", "kernel"] {
        sent_and_received(path);
    }
}

#[track_caller]
fn sent_and_received(forward_path: &str) {
    const FRAMES: u32 = 40_000;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let sensor = cable.lab.namespace("sensor").expect("namespace");
    // They stay, so that their counters can be read when the run has ended.
    let elsewhere = format!("veth:ids0,persist,netns={}", sensor.name());
    for (target, namespace) in [("veth:ids0,persist".to_owned(), &cable.target), (elsewhere, &sensor)] {
        let arguments = format!("--forward {target} --forward-path {forward_path} --report report.json");
        let run = Mirror::ingest(&cable, path, &arguments);
        let (outer, _) = frames(FRAMES);
        let pace = NonZeroU32::new(20_000).expect("not 0");
        let injector = Injector::new(&cable.sender, SENDER).expect("injector").pace(pace);
        injector.send_all(&outer).expect("injected");
        run.has(u64::from(FRAMES));
        until("all arrive", || (received(namespace, "ids0") >= u64::from(FRAMES)).then_some(()));
        // As fast as the generator can: some may be lost before and behind the ring.
        let generator = cable.generator(Traffic::default());
        let generated = generator.start(300_000).wait().expect("generated").total();
        run.settled();
        let report = report_of(run, path);
        let (offered, written, dropped, failed) = account(&report, &format!("forward {target}"));
        assert_eq!(report["accounting"]["seen"], u64::from(FRAMES) + generated);
        assert_eq!(
            (offered, failed),
            (report["frames"]["decapsulated"].as_u64().expect("a count"), nothing())
        );
        let by_kernel = sent_by_kernel(&report, 0);
        assert_eq!(by_kernel >= u64::from(FRAMES), forward_path == "kernel", "{by_kernel}");
        let sent = written + by_kernel;
        until("what was sent arrives", || (received(namespace, "ids0") >= sent).then_some(()));
        let received = received(namespace, "ids0");
        println!("{target}: {generated} more at full rate, {received} received, dropped {dropped}");
        assert_eq!(received, sent, "of {offered}, dropped {dropped}");
        std::fs::remove_file(path.join("report.json")).expect("a report");
        namespace.ip("link delete dev ids0").expect("deleted");
    }
}

#[test]
fn a_persistent_veth_stays_and_is_used_again() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    use_ipv6(&cable.target);
    let before = links(&cable.target);
    let mut index = None;
    // Also behind a run that was killed, and by a run that does not ask for it to stay.
    for target in ["veth:ids0,persist", "veth:ids0,persist", "veth:ids0"] {
        let arguments = format!("--forward {target} --report report.json");
        let run = Mirror::ingest(&cable, path, &arguments);
        assert_for_readers(&cable.target, "ids0", MTU);
        let near: Vec<_> = links(&cable.target)
            .into_iter()
            .filter(|name| !before.contains(name) && name != "ids0")
            .collect();
        let [near] = near.as_slice() else { panic!("not one near end: {near:?}") };
        assert_for_readers(&cable.target, near, MTU);
        delivers(&cable, run, path, &cable.target, target);
        std::fs::remove_file(path.join("report.json")).expect("a report");
        let now = link(&cable.target, "ids0").expect("it stays")["ifindex"].clone();
        assert_eq!(*index.get_or_insert(now.clone()), now, "it is the same");
        Mirror::ingest(&cable, path, &format!("--forward {target}")).end_by(Signal::SIGKILL);
    }
    cable.target.ip("link delete dev ids0").expect("deleted");
    assert_eq!(links(&cable.target), before);
}

/// As an AF_XDP reader has one.
#[test]
fn a_program_of_the_reader_is_left_at_the_far_end_and_does_for_the_kernel_path() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    Mirror::ingest(&cable, path, "--forward veth:ids0,persist --duration 100ms").end().expect_code(0);
    // It passes what is no tunnel packet.
    let mut reader = XdpProgram::load(PROGRAM_FRAGS, &Settings::default()).expect("program");
    reader.attach(&cable.target, "ids0", XdpAttach::Native).expect("attached");
    let attached = || link(&cable.target, "ids0").expect("the far end")["xdp"]["prog"]["id"].clone();
    let theirs = attached();
    assert!(theirs.is_u64(), "{theirs}");
    let arguments = "--forward veth:ids0,persist --forward-path kernel --report report.json";
    let run = Mirror::ingest(&cable, path, arguments);
    inject(&cable, 10);
    run.has(10);
    assert_eq!(attached(), theirs);
    assert_eq!(sent_by_kernel(&report_of(run, path), 0), 10);
    assert_eq!(attached(), theirs);
}

#[test]
fn the_far_end_may_be_in_another_namespace_by_name_or_process() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let sensor = cable.lab.namespace("sensor").expect("namespace");
    use_ipv6(&sensor);
    let (here, there) = (links(&cable.target), links(&sensor));
    let mut reader = sensor.command("sleep").arg("1h").spawn().expect("a process there");
    until("it is there", || {
        let of = |path: &Path| std::fs::metadata(path).map(|file| std::os::unix::fs::MetadataExt::ino(&file));
        let process = format!("/proc/{}/ns/net", reader.id());
        (of(Path::new(&process)).ok() == of(&sensor.path()).ok()).then_some(())
    });
    let by_name = format!("veth:ids0,netns={}", sensor.name());
    let stays = format!("veth:ids0,persist,netns={}", sensor.name());
    for target in [by_name.as_str(), &format!("veth:ids0,netns={}", reader.id()), &stays, &stays] {
        let run = Mirror::ingest(&cable, path, &format!("--forward {target} --report report.json"));
        assert!(!links(&cable.target).contains(&"ids0".to_owned()));
        assert_for_readers(&sensor, "ids0", MTU);
        delivers(&cable, run, path, &sensor, target);
        std::fs::remove_file(path.join("report.json")).expect("a report");
        let stays = target == stays;
        until("the pair stays or goes", || {
            let is_there = [links(&cable.target) != here, links(&sensor) != there];
            (is_there == [stays; 2]).then_some(())
        });
    }
    reader.kill().expect("killed");
    reader.wait().expect("ended");
}

#[test]
fn a_namespace_that_is_removed_takes_its_veth_along_and_nothing_else() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    // A container's: it ends with its process.
    let mut container = std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", "echo ready; exec sleep 1h"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare");
    let mut ready = String::new();
    let output = container.stdout.take().expect("standard output");
    BufReader::new(output).read_line(&mut ready).expect("a line");
    let target = format!("veth:ids0,netns={}", container.id());
    let run =
        Mirror::ingest(&cable, path, &format!("--forward {target} -w inner.pcapng --report report.json"));
    inject(&cable, 10);
    run.has(10);
    run.settled();
    container.kill().expect("killed");
    container.wait().expect("ended");
    run.says(&format!("{target}: the interface was deleted"));
    inject(&cable, 20);
    run.has(30);
    let report = report_of(run, path);
    assert_eq!(account(&report, &format!("forward {target}")), (30, 10, json!({ "down": 20 }), nothing()));
    assert_eq!(account(&report, "pcap"), (30, 30, nothing(), nothing()));
}

#[test]
fn a_veth_that_cannot_be_made_is_refused_with_the_cause_and_a_remedy() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    cable.target.ip("link add ids0 type veth peer name other0").expect("veth");
    let before = links(&cable.target);
    for (target, words) in [
        ("veth:ids0", ["interface of this name that mirror did not make", "`ip link delete dev ids0`"]),
        ("veth:ids0,persist", ["interface of this name that mirror did not make", "dev:ids0"]),
        ("veth:cap0", ["interface of this name that mirror did not make", "choose another name"]),
        ("veth:ids1,netns=nowhere", ["network namespace nowhere", "`ip netns list`"]),
        ("veth:ids1,netns=4194304", ["network namespace 4194304", "no such process"]),
    ] {
        let ending = Mirror::start(ingest(&cable, path, &format!("--forward {target}"))).end();
        ending.expect_code(1).expect_words(&words);
        assert_eq!(links(&cable.target), before, "{target}");
    }
    let mut without = cable.target.command("setpriv");
    without.args(["--bounding-set=-sys_admin", MIRROR, "ingest", "-i", CAPTURE, "--forward", "veth:ids1"]);
    let ending = Mirror::start(without).end();
    ending.expect_code(1).expect_words(&["ids1: cannot make a veth pair", "with CAP_SYS_ADMIN"]);
    assert_eq!(links(&cable.target), before);
    let run = Mirror::ingest(&cable, path, "--forward veth:ids1");
    let (_, outer) = mirrored_mix();
    write_pcap(&path.join("outer.pcap"), &outer).expect("a capture");
    let mut second = cable.target.command(MIRROR);
    second.args(["replay", "-r", "outer.pcap", "--forward", "veth:ids1"]).current_dir(path);
    let second = Mirror::start(second).end();
    second.expect_code(1).expect_words(&["another run of mirror forwards", "stop that run"]);
    run.end_by(Signal::SIGINT).expect_code(0);
}

#[test]
fn a_veth_fits_the_longest_inner_frame_with_its_vlan_and_counts_longer_ones() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let sensor = cable.lab.namespace("sensor").expect("namespace");
    for (target, name, namespace, reason) in [
        ("veth:ids0".to_owned(), "ids0", &cable.target, "too_large"),
        // Its MTU is not known here: the kernel refuses the frames (from 6.7 on).
        (format!("veth:ids1,netns={}", sensor.name()), "ids1", &sensor, "no_buffer"),
    ] {
        let run = Mirror::ingest(
            &cable,
            path,
            &format!("--forward {target} --vlan-per-vni --vni 12345,7 --report report.json"),
        );
        let witness = Witness::start(namespace, name, &path.join("far.pcap"), "").expect("tcpdump");
        // The outer frame is the longest at the interface's MTU of 1600.
        let longest = Traffic { frame_len: 1600 + 14, ..Traffic::default() };
        burst_of(&cable, longest.clone(), 10);
        run.has(10);
        run.settled();
        namespace.ip(&format!("link set dev {name} mtu 400")).expect("mtu");
        // The interface is checked at least every 100 ms.
        std::thread::sleep(std::time::Duration::from_millis(300));
        burst_of(&cable, longest, 20);
        run.has(30);
        run.settled();
        let received = received(namespace, name);
        let report = report_of(run, path);
        let account = account(&report, &format!("forward {target}"));
        assert_eq!(account, (30, 10, json!({ reason: 20 }), nothing()));
        assert_eq!(received, 10);
        let frames = witness.stop().expect("tcpdump").frames;
        // 50 bytes of encapsulation less, and a tag of VLAN 1.
        let tagged =
            frames.iter().filter(|frame| frame.len() == 1614 - 50 + 4 && frame[12..16] == [0x81, 0, 0, 1]);
        assert_eq!(tagged.count(), 10, "{:?}", frames.iter().map(Vec::len).collect::<Vec<_>>());
        std::fs::remove_file(path.join("report.json")).expect("a report");
    }
}

#[test]
fn a_veth_that_is_down_or_deleted_loses_only_its_own_frames() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let sensor = cable.lab.namespace("sensor").expect("namespace");
    let elsewhere = format!("veth:ids0,netns={}", sensor.name());
    for (target, namespace, remedy) in [
        ("veth:ids0", &cable.target, "ip link set dev ids0 up".to_owned()),
        (&elsewhere, &sensor, format!("ip -n {} link set dev ids0 up", sensor.name())),
    ] {
        let outputs = format!("--forward {target} -w inner.pcapng --report report.json");
        let run = Mirror::ingest(&cable, path, &outputs);
        let mut send = sender(&cable, &run);
        send(10);
        namespace.ip("link set dev ids0 down").expect("down");
        run.says(&format!("{target}: the interface is down or has no carrier; run `{remedy}`"));
        send(20);
        namespace.ip("link set dev ids0 up").expect("up");
        run.says(&format!("{target}: is back"));
        send(40);
        assert_eq!(received(namespace, "ids0"), 50);
        namespace.ip("link del dev ids0").expect("deleted");
        run.says(&format!("{target}: the interface was deleted"));
        send(80);
        drop(send);
        let report = report_of(run, path);
        let account = account(&report, &format!("forward {target}"));
        assert_eq!(account, (150, 50, json!({ "down": 100 }), nothing()));
        assert_eq!(sink(&report, "pcap")["written"], 150);
        for file in ["report.json", "inner.pcapng"] {
            std::fs::remove_file(path.join(file)).expect("a file");
        }
    }
}
