//! Forwarding in the kernel: at full rate each frame is counted, as sent or by why it was not, and as many
//! are sent as the far end receives.

use std::{path::Path, sync::Arc, thread, time::Duration};

use mirror_lab::{
    Injector, InterfaceCounters, Traffic, VethOptions, Witness, XdpProgram,
    capture::same_frames,
    frames::Outer,
    xdp_program::{Settings, XdpAttach},
};
use mirror_user::{
    Engine, Report,
    account::ForwardPathReport,
    engine::{EngineBuilder, ForwardPath, Running},
    sink::{Counters, Forward},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    Beyond, account,
    common::{
        CAPTURE, Cable, SENDER, builder,
        mirror::{MIRROR, Mirror, VNI, balanced_report, burst_of, frames, ingest, inject, program, until},
        rounds,
    },
    nothing, report_of,
};

const KERNEL: &str = "--forward dev:out0 --forward-path kernel --report report.json";

/// A target whose far end drops what arrives, by the program that is returned.
pub(super) fn dropping(cable: &Cable) -> (Beyond, XdpProgram) {
    let beyond = Beyond::lay(cable, &VethOptions::default());
    let mut reader = XdpProgram::load_floor("drop").expect("program");
    reader.attach(&beyond.namespace, "ids0", XdpAttach::Native).expect("attached");
    (beyond, reader)
}

/// Frames that the far end has received.
fn arrived(beyond: &Beyond) -> u64 {
    InterfaceCounters::read(&beyond.namespace, "ids0").expect("counters").xdp_packets()
}

/// Waits until the far end has received all that was sent, and no more.
pub(super) fn all_arrive(beyond: &Beyond, sent: u64) {
    until(&format!("{sent} frames arrive"), || (arrived(beyond) >= sent).then_some(()));
    assert_eq!(arrived(beyond), sent);
}

#[track_caller]
fn number(report: &Value, at: &str) -> u64 {
    let value = report.pointer(&format!("/interfaces/0/{at}")).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no {at} in {report:#}"))
}

#[test]
fn every_frame_generated_is_sent_or_counted_and_the_far_end_receives_those_sent() {
    let chosen = "nothing needs the frames in user space";
    for (frame_len, choice, reason) in [(114, "auto", chosen), (1450, "kernel", "as requested")] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let cable = Cable::with_queues(1);
        let (beyond, _reader) = dropping(&cable);
        let arguments = format!("--forward dev:out0 --forward-path {choice} --report report.json");
        let run = Mirror::ingest(&cable, path, &arguments);
        run.says(&format!("cap0: forward path kernel: {reason}"));
        let errors = || cable.sender_counters().xdp_xmit_errors();
        let errors_before = errors();
        let traffic = Traffic { frame_len, ..Traffic::default() };
        let generated = cable.generator(traffic).send(300_000).expect("generated").total();
        run.has(generated - (errors() - errors_before));
        let report = report_of(run, path);
        let seen = generated - (errors() - errors_before);
        assert_eq!((number(&report, "xdp/seen"), number(&report, "xdp/forwarded")), (seen, seen));
        let inner_len = u64::try_from(frame_len).expect("a length") - 50;
        assert_eq!(number(&report, "xdp/forwarded_inner_bytes"), seen * inner_len);
        let sent = number(&report, "forward_path/targets/0/sent");
        println!("{frame_len} bytes: {generated} generated, {seen} seen, {sent} sent");
        // On a busy host the ring of the far end may be full for a moment.
        let refused = number(&report, "forward_path/targets/0/not_sent/refused");
        assert_eq!(sent + refused, seen, "{:#}", report["interfaces"][0]);
        assert!(sent > seen / 2, "{sent} of {seen}");
        all_arrive(&beyond, sent);
        // Nothing of it was in user space, and its origin is known all the same.
        assert_eq!(report["frames"]["received"], 0);
        let origins = report["origins"].as_array().expect("origins");
        let [origin] = &origins[..] else { panic!("{origins:?}") };
        assert_eq!((&origin["frames"], &origin["inner_bytes"]), (&seen.into(), &(seen * inner_len).into()));
    }
}

#[test]
fn frames_that_the_program_cannot_decapsulate_are_sent_by_the_sink() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let beyond = Beyond::lay(&cable, &VethOptions::default());
    // A program that passes: what is forwarded is no tunnel packet.
    let mut passing = XdpProgram::load(mirror_ebpf::mirror::PROGRAM, &Settings::default()).expect("program");
    passing.attach(&beyond.namespace, "ids0", XdpAttach::Native).expect("attached");
    let witness = Witness::start(&beyond.namespace, "ids0", &path.join("far.pcap"), "").expect("tcpdump");
    let run = Mirror::ingest(&cable, path, KERNEL);
    let (_, inner) = frames(20);
    let odd = |nth: usize| Outer { vxlan_reserved: [0, 0, 0, u8::from(nth >= 10)], ..Outer::sample(VNI) };
    let outer: Vec<_> =
        (0..).zip(&inner).map(|(nth, inner)| odd(nth).encapsulate(inner).expect("outer")).collect();
    Injector::new(&cable.sender, SENDER).expect("injector").send_all(&outer).expect("injected");
    run.has(20);
    let report = report_of(run, path);
    assert_eq!((number(&report, "xdp/forwarded"), number(&report, "forward_path/targets/0/sent")), (10, 10));
    assert_eq!(account(&report, "forward dev:out0"), (10, 10, nothing(), nothing()));
    assert_eq!(report["origins"][0]["frames"], 20);
    same_frames(&inner, &witness.stop().expect("tcpdump").frames).expect("the inner frames");
}

/// Runs at full rate, applies a fault, and returns the report: residue 0, and as many sent as the far end has
/// received, if that still exists.
#[track_caller]
fn faulty(cable: &Cable, far_stays: Option<&Beyond>, fault: impl FnOnce()) -> Value {
    let report = faulty_with(cable, KERNEL, fault);
    if let Some(beyond) = far_stays {
        all_arrive(beyond, number(&report, "forward_path/targets/0/sent"));
    }
    report
}

#[track_caller]
fn faulty_with(cable: &Cable, arguments: &str, fault: impl FnOnce()) -> Value {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(cable, path, arguments);
    // For the fault of a small MTU.
    let traffic = Traffic { frame_len: 1450, ..Traffic::default() };
    let generator = cable.generator(traffic).start(u64::MAX);
    run.has(10_000);
    fault();
    thread::sleep(Duration::from_millis(300));
    let ending = run.end_by(Signal::SIGINT);
    assert!(!generator.is_finished(), "it must outlast the run");
    generator.stop().expect("generated");
    ending.expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let targets = &report["interfaces"][0]["forward_path"]["targets"];
    println!("{} forwarded, {targets}", number(&report, "xdp/forwarded"));
    assert!(number(&report, "forward_path/targets/0/sent") > 0);
    report
}

#[test]
fn a_target_that_is_down_is_named() {
    let cable = Cable::with_queues(1);
    let (beyond, _reader) = dropping(&cable);
    let down = || cable.target.ip("link set dev out0 down").map(drop).expect("down");
    let report = faulty(&cable, Some(&beyond), down);
    assert!(number(&report, "forward_path/targets/0/not_sent/down") > 0);
}

#[test]
fn a_far_end_that_is_down_is_refused_frames() {
    let cable = Cable::with_queues(1);
    let (beyond, _reader) = dropping(&cable);
    let down = || beyond.namespace.ip("link set dev ids0 down").map(drop).expect("down");
    let report = faulty(&cable, None, down);
    assert!(number(&report, "forward_path/targets/0/not_sent/refused") > 0);
    // What was in its ring then, taken and not yet received, is lost beyond the target.
    const RING: u64 = 256;
    let lost = number(&report, "forward_path/targets/0/sent")
        .checked_sub(arrived(&beyond))
        .expect("no more than sent");
    assert!(lost <= RING, "{lost}");
}

#[test]
fn a_target_that_is_deleted_is_named() {
    let cable = Cable::with_queues(1);
    let _far = dropping(&cable);
    let report = faulty(&cable, None, || cable.target.ip("link del dev out0").map(drop).expect("deleted"));
    assert!(number(&report, "xdp/dropped/no_target") > 0);
}

#[test]
fn a_target_that_is_moved_to_another_namespace_is_no_target_any_more() {
    let cable = Cable::with_queues(1);
    let (beyond, _reader) = dropping(&cable);
    let elsewhere = beyond.namespace.name().to_owned();
    let moved = || cable.target.ip(&format!("link set dev out0 netns {elsewhere}")).map(drop).expect("moved");
    let report = faulty(&cable, Some(&beyond), moved);
    assert!(number(&report, "xdp/dropped/no_target") > 0);
}

#[test]
fn a_far_end_without_a_program_is_named() {
    let cable = Cable::with_queues(1);
    let (beyond, reader) = dropping(&cable);
    let report = faulty(&cable, None, || drop(reader));
    assert!(number(&report, "forward_path/targets/0/not_sent/no_program") > 0);
    drop(beyond);
}

#[test]
fn frames_longer_than_the_mtu_of_the_target_are_named() {
    let cable = Cable::with_queues(1);
    let (beyond, _reader) = dropping(&cable);
    let small = || cable.target.ip("link set dev out0 mtu 400").map(drop).expect("mtu");
    let report = faulty(&cable, Some(&beyond), small);
    assert!(number(&report, "forward_path/targets/0/not_sent/too_large") > 0);
}

#[test]
fn a_target_that_is_full_refuses_frames() {
    let cable = Cable::with_queues(1);
    let (beyond, _reader) = dropping(&cable);
    // Received by a thread that gets little of the CPU that sends.
    let script = "echo 1 > /sys/class/net/ids0/threaded; pid=$(pgrep -x 'napi/ids0-.*'); \
                  taskset -p 1 $pid; chrt --idle -p 0 $pid";
    mirror_lab::run(beyond.namespace.command("sh").args(["-ec", script])).expect("a slow receiver");
    let report = faulty(&cable, Some(&beyond), || {});
    assert!(number(&report, "forward_path/targets/0/not_sent/refused") > 0);
}

/// Frames that a target has not taken, for any reason.
fn not_sent(report: &Value, target: usize) -> u64 {
    let reasons = &report["interfaces"][0]["forward_path"]["targets"][target]["not_sent"];
    reasons.as_object().expect("reasons").values().map(|frames| frames.as_u64().expect("a count")).sum()
}

#[test]
fn a_veth_that_is_down_or_deleted_at_full_rate_costs_its_frames_only() {
    let cable = Cable::with_queues(1);
    let sensor = cable.lab.namespace("sensor").expect("namespace");
    let target = |name: &str| format!("--forward veth:{name},netns={}", sensor.name());
    let one = format!("{} --forward-path kernel --report report.json", target("ids0"));
    let fault = |change: &str| drop(sensor.ip(&format!("link {change}")).expect("a fault"));
    let report = faulty_with(&cable, &one, || fault("set dev ids0 down"));
    assert!(not_sent(&report, 0) > 0);
    let report = faulty_with(&cable, &one, || fault("delete dev ids0"));
    assert!(number(&report, "xdp/dropped/no_target") > 0);
    // The others of a group get its flows.
    let group = format!("{} {} --forward-balance flow {one}", target("ids1"), target("ids2"));
    let received = |name| InterfaceCounters::read(&sensor, name).expect("counters").xdp_packets();
    for change in ["set dev ids0 down", "delete dev ids0"] {
        let mut before = [0; 2];
        let report = faulty_with(&cable, &group, || {
            fault(change);
            thread::sleep(Duration::from_millis(300));
            before = ["ids1", "ids2"].map(received);
        });
        let others = [0, 1].map(|member| {
            let sent = number(&report, &format!("forward_path/targets/{member}/sent"));
            (sent, number(&report, &format!("forward_path/targets/{member}/not_sent/down")))
        });
        println!(
            "{change}: {before:?} received by the others 0.3 s later, {others:?} sent to them in the end"
        );
        for ((sent, down), before) in others.into_iter().zip(before) {
            assert!(sent > before && before > 0 && down == 0, "{sent} {before} {down}");
        }
    }
}

/// It is down before it moves, so all that it has forwarded is sent by then.
#[test]
fn a_captured_interface_that_is_moved_ends_the_run_with_its_account() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let (beyond, _reader) = dropping(&cable);
    let run = Mirror::ingest(&cable, path, KERNEL);
    let generator = cable.generator(Traffic::default()).start(u64::MAX);
    run.has(10_000);
    let elsewhere = beyond.namespace.name();
    cable.target.ip(&format!("link set dev {CAPTURE} netns {elsewhere}")).expect("moved");
    let ending = run.end();
    generator.stop().expect("generated");
    ending.expect_code(1).expect_words(&["cap0: the interface was deleted", "residue 0"]);
    let report = balanced_report(&path.join("report.json"));
    all_arrive(&beyond, number(&report, "forward_path/targets/0/sent"));
}

/// As before kernel 5.13. The kernel's BTF is hidden from this run alone.
#[test]
fn what_the_kernel_does_not_report_is_a_residue_that_is_printed() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let (beyond, _reader) = dropping(&cable);
    let hidden = "mount --bind /dev/null /sys/kernel/btf/vmlinux";
    let script = format!("{hidden}; exec {MIRROR} ingest -i {CAPTURE} --stats 1h {KERNEL}");
    let mut command = cable.target.command("sh");
    command.args(["-ec", &script]).current_dir(path);
    let run = Mirror::start(command).attached(&cable);
    run.says("forwarding in the kernel: the kernel does not report what becomes of forwarded frames");
    inject(&cable, 10);
    run.has(10);
    let ending = run.end_by(Signal::SIGINT).expect_code(1);
    let unknown = "the kernel does not say how many were sent to dev:out0";
    ending.expect_words(&["10 forwarded", unknown, "cap0: forwarded: +10", "residue 10"]);
    let report = std::fs::read_to_string(path.join("report.json")).expect("report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let target = &report["interfaces"][0]["forward_path"]["targets"][0];
    assert_eq!((&target["sent"], &target["not_sent"]), (&Value::Null, &Value::Null));
    all_arrive(&beyond, 10);
}

/// Nothing of the embedder's needs the frames in user space.
fn embedded(cable: &Cable, forward_path: ForwardPath) -> Running {
    embedded_with(cable, forward_path, None)
}

fn embedded_with(cable: &Cable, forward_path: ForwardPath, counters: Option<Arc<Counters>>) -> Running {
    let running = cable.target.enter(|| {
        let forward = Forward::builder("dev:out0".parse().expect("a target")).build().expect("a forwarder");
        let builder = builder().forward_path(forward_path).sink(Arc::new(forward));
        let builder = counters.into_iter().fold(builder, EngineBuilder::sink);
        builder.build().and_then(Engine::start)
    });
    running.expect("namespace").unwrap_or_else(|error| panic!("engine: {error}"))
}

fn path_of(report: &Report) -> (&str, &str) {
    let path = report.interfaces[0].forward_path.as_ref().expect("a forwarder");
    (&path.path, &path.reason)
}

#[test]
fn a_run_that_is_stopped_at_full_rate_has_no_residue() {
    let rounds = rounds(20);
    let cable = Cable::with_queues(2);
    let (beyond, _reader) = dropping(&cable);
    let (mut seen, mut total) = (0, 0);
    for round in 0..rounds {
        let running = embedded(&cable, ForwardPath::Auto);
        let traffic = Traffic { cpus: vec![0, 1], ..Traffic::default() };
        let generator = cable.generator(traffic).start(u64::MAX);
        until("frames flow", || (running.report().forwarded_by_kernel() > 10_000).then_some(()));
        let report = running.stop();
        assert!(!generator.is_finished(), "it must outlast the run");
        generator.stop().expect("generated");
        assert_eq!(path_of(&report), ("kernel", "nothing needs the frames in user space"));
        assert_eq!(report.accounting.residue, 0, "round {round}: {:#?}", report.accounting);
        assert!(report.is_clean());
        assert_eq!(program(&cable), None, "round {round}");
        let sent = report.interfaces[0].forward_path.as_ref().map(ForwardPathReport::sent);
        total += sent.expect("the kernel path");
        all_arrive(&beyond, total);
        seen += report.accounting.seen;
    }
    println!("{rounds} stops, {seen} frames seen, residue 0 each time");
}

/// Two CPUs see them at the same time.
#[test]
fn origins_are_counted_in_bounded_memory_and_no_frame_is_missed() {
    const ORIGINS: u32 = 1_000;
    const MOST: usize = 10;
    let cable = Cable::with_queues(2);
    let _far = dropping(&cable);
    let counters = Arc::new(Counters::new(MOST));
    let running = embedded_with(&cable, ForwardPath::Auto, Some(counters));
    let traffic = Traffic { vnis: ORIGINS, cpus: vec![0, 1], ..Traffic::default() };
    cable.generator(traffic).send(200_000).expect("generated");
    until("frames flow", || (running.report().forwarded_by_kernel() > 100_000).then_some(()));
    let live = running.report();
    assert!(live.origins.len() == MOST && live.origins_other.frames > 0, "{:?}", live.origins);
    let report = running.stop();
    assert_eq!((path_of(&report).0, report.accounting.residue), ("kernel", 0), "{:#?}", report.accounting);
    let xdp = &report.interfaces[0].xdp;
    let (origins, other) = (&report.origins, &report.origins_other);
    assert_eq!(origins.len(), MOST);
    let known = origins.iter().fold((0, 0), |(frames, bytes), origin| {
        assert!(!origin.at_least && origin.frames > 0, "{origin:?}");
        (frames + origin.frames, bytes + origin.inner_bytes)
    });
    let all = (known.0 + other.frames, known.1 + other.inner_bytes);
    assert_eq!(all, (xdp.forwarded, xdp.forwarded_inner_bytes));
    let others = u64::from(ORIGINS) - MOST as u64;
    assert!((others * 9 / 10..=others).contains(&other.origins), "{other:?}");
    println!("{} frames of {ORIGINS} origins: {MOST} apart, {other:?}", xdp.forwarded);
}

#[test]
fn auto_takes_the_user_path_where_something_needs_the_frames() {
    let cable = Cable::with_queues(1);
    // Without a program at the far end.
    let beyond = Beyond::lay(&cable, &VethOptions::default());
    let report = embedded(&cable, ForwardPath::Auto).stop();
    let (path, reason) = path_of(&report);
    assert_eq!(path, "user");
    assert!(reason.contains("dev:out0 takes no redirected frames"), "{reason}");
    let mut reader = XdpProgram::load_floor("drop").expect("program");
    reader.attach(&beyond.namespace, "ids0", XdpAttach::Native).expect("attached");
    assert_eq!(path_of(&embedded(&cable, ForwardPath::User).stop()), ("user", "as requested"));
    for (arguments, reason) in [
        ("--forward dev:out0 -w inner.pcapng", "sink pcap needs each frame"),
        ("--forward dev:out0 --forward-path user", "as requested"),
        ("--forward dev:out0 --mode generic", "generic mode"),
        ("--forward tap:ids1", "the kernel forwards to veth:, dev: and vxlan: only, not to tap:ids1"),
    ] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        let run = Mirror::ingest(&cable, path, &format!("{arguments} --report report.json"));
        if arguments.contains("generic") {
            cable.veth.b.gro(true).expect("GRO");
        }
        inject(&cable, 10);
        run.has(10);
        run.says("cap0: forward path user: ");
        let report = report_of(run, path);
        let path = &report["interfaces"][0]["forward_path"];
        assert_eq!(path["path"], "user", "{arguments}");
        assert!(path["reason"].as_str().is_some_and(|said| said.contains(reason)), "{arguments}: {path}");
        assert_eq!(report["frames"]["decapsulated"], 10);
    }
}

#[track_caller]
fn refused(cable: &Cable, directory: &Path, arguments: &str, code: i32, words: &[&str]) {
    let ending = Mirror::start(ingest(cable, directory, &format!("--forward-path kernel {arguments}"))).end();
    ending.expect_code(code).expect_words(words);
    assert_eq!(program(cable), None);
    assert_eq!(std::fs::read_dir(directory).expect("directory").count(), 0, "{arguments}");
}

#[test]
fn the_kernel_path_is_refused_with_the_reason_where_it_cannot_be() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let beyond = Beyond::lay(&cable, &VethOptions::default());
    let user = "use `--forward-path user`";
    for (arguments, reason, remedy) in [
        ("", "there is no target to forward to", "name one with `--forward TARGET`"),
        ("--forward dev:out0 -w inner.pcapng", "sink pcap needs each frame", user),
        ("--forward dev:out0 --latency", "sink latency needs each frame", user),
        ("--forward dev:out0 --forward tap:ids1", "several targets get each frame", user),
        ("--forward dev:out0 --forward tap:ids1 --forward-balance flow", "not to tap:ids1", user),
        ("--forward dev:out0 --vlan-per-vni", "a VLAN tag for their VNI", user),
        ("--forward tap:ids1", "dev: and vxlan: only, not to tap:ids1", user),
        ("--forward dev:out0 udp port 9", "a filter expression selects frames", user),
        ("--forward dev:out0 -c 5", "the run ends after a number of frames", user),
        ("--forward dev:out0 --mode generic", "generic mode, in which the kernel does not report", user),
        ("--forward dev:out0 --bind zerocopy", "zero-copy mode", user),
    ] {
        refused(&cable, path, arguments, 2, &["the kernel cannot forward: ", reason, remedy]);
    }
    let no_program = "dev:out0 takes no redirected frames: for that the far end of a veth";
    refused(&cable, path, "--forward dev:out0", 1, &[no_program, user]);
    let mut reader = XdpProgram::load_floor("drop").expect("program");
    reader.attach(&beyond.namespace, "ids0", XdpAttach::Native).expect("attached");
    for (namespace, interface) in [(&cable.sender, SENDER), (&cable.target, CAPTURE)] {
        namespace.ip(&format!("link set dev {interface} mtu 9000")).expect("mtu");
    }
    refused(&cable, path, "--forward dev:out0", 1, &["cap0: the kernel cannot forward: MTU 9000", user]);
}

#[test]
fn the_closing_lines_say_what_was_sent_and_what_was_not() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let (_beyond, _reader) = dropping(&cable);
    cable.target.ip("link set dev out0 mtu 400").expect("mtu");
    let run = Mirror::ingest(&cable, path, KERNEL);
    inject(&cable, 10);
    run.has(10);
    burst_of(&cable, Traffic { frame_len: 1_000, ..Traffic::default() }, 50);
    run.has(60);
    assert!(run.statistics().contains(", 50 not sent"), "{}", run.said());
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&[
        "60 packets captured",
        "60 seen = 0 redirected + 60 forwarded",
        "  forward path kernel: as requested",
        "  10 sent to dev:out0",
        "  50 not sent: longer than the MTU",
        "residue 0",
    ]);
    // None at all: the exit code says so.
    let run = Mirror::ingest(&cable, path, KERNEL);
    burst_of(&cable, Traffic { frame_len: 1_000, ..Traffic::default() }, 50);
    run.has(50);
    let ending = run.end_by(Signal::SIGINT).expect_code(1);
    ending.expect_words(&["dev:out0 received none of its frames", "residue 0"]);
}
