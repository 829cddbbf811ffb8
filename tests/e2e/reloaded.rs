//! A run reads its configuration file again, on `mirror reload` and HUP: what stays loses no packet, and a
//! file that is refused changes nothing. Needs root.

mod common;

use std::{
    fs,
    io::Read as _,
    net::TcpStream,
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt as _, chown},
    },
    path::Path,
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{
    Cable,
    mirror::{
        MIRROR, Mirror, assert_next_run_works, balanced_report, dropped_by_kernel, inject, kernel_drops,
        lossless_rate, sink, threads, until, whole_capture,
    },
    rounds,
};
use mirror_lab::Traffic;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::Value;

const VNI: u32 = 12_345;
const VNIS: u32 = 4;
/// What every run here is started with.
const FLAGS: &str = "--config mirror.toml --report report.json";

fn configure(directory: &Path, text: &str) {
    fs::write(directory.join("mirror.toml"), text).expect("configuration");
}

/// `mirror reload`.
fn reload() -> Output {
    Command::new(MIRROR).arg("reload").output().expect("mirror runs")
}

#[track_caller]
fn reloaded() -> String {
    answered(0)
}

#[track_caller]
fn refused() -> String {
    answered(1)
}

#[track_caller]
fn answered(code: i32) -> String {
    let output = reload();
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// VNIs in a capture.
fn vnis(file: &Path) -> Vec<u32> {
    let capture = whole_capture(file);
    let vni = |name: &str| name.strip_prefix("vni-")?.split_once('@')?.0.parse().ok();
    capture
        .packets
        .iter()
        .map(|packet| packet.interface_name.as_deref().and_then(vni).expect("VNI"))
        .collect()
}

/// Four VNIs over two queues, until it is stopped. Returns the frames sent.
fn send_until(cable: &Cable, rate: u64, stop: &AtomicBool) -> u64 {
    let traffic = Traffic { rate: Some(rate), vnis: VNIS, cpus: vec![0, 1], ..Traffic::default() };
    let generator = cable.generator(traffic);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        sent += generator.send(rate / 5).expect("generated").total();
    }
    sent
}

/// The configuration of a generation: a list of VNIs without one of them, a sink that stays, one whose file
/// is of the generation, and one that gets other packets each time.
fn generation(number: u32) -> String {
    let listed: Vec<_> =
        (0..VNIS).filter(|vni| *vni == 0 || *vni != number % VNIS).map(|vni| VNI + vni).collect();
    let (tenant, moving) = (VNI + number % VNIS, VNI + (number + 1) % VNIS);
    format!(
        "vni = {listed:?}
        [[sink]]
        name = 'stays'
        vnis = [{VNI}]
        write = 'stays.pcapng'
        [[sink]]
        name = 'tenant'
        vnis = [{tenant}]
        write = 'tenant-{number}.pcapng'
        [[sink]]
        name = 'moving'
        vnis = [{moving}]
        write = 'moving.pcapng'
        "
    )
}

#[test]
fn reloads_under_load_lose_nothing_of_what_stays() {
    let reloads = rounds(100);
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, &generation(0));
    let run = Mirror::ingest(&cable, path, FLAGS);
    let traffic = Traffic { vnis: VNIS, cpus: vec![0, 1], ..Traffic::default() };
    let (rate, before) = lossless_rate(&cable, &run, "MIRROR_RELOAD_PPS", &traffic);
    let drops_before = if before > 0 { dropped_by_kernel() } else { 0 };
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let sent = before
        + thread::scope(|scope| {
            let sender = scope.spawn(|| send_until(&cable, rate, &stop));
            for number in 1..=reloads {
                configure(path, &generation(number));
                let said = reloaded();
                for words in ["the run selects other packets", "replaced tenant", "other packets for moving"]
                {
                    assert!(said.contains(words), "{words}: {said}");
                }
            }
            stop.store(true, Ordering::Relaxed);
            sender.join().expect("sent")
        });
    let attained = (sent - before) as f64 / begun.elapsed().as_secs_f64();
    run.settled();
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(kernel_drops(&report), drops_before, "{report:#}");
    // All of its VNI, but for those that were lost on the way to a rate that loses nothing.
    let stays = sink(&report, "stays");
    let of_vni = report["origins"].as_array().expect("origins").iter().filter(|origin| origin["vni"] == VNI);
    let of_vni: u64 = of_vni.map(|origin| number(&origin["frames"])).sum();
    let most = sent / u64::from(VNIS);
    assert!((most - drops_before..=most).contains(&of_vni), "{of_vni} of {most}");
    assert_eq!((number(&stays["written"]), &stays["dropped"]), (of_vni, &serde_json::json!({})), "{stays:#}");
    assert_eq!(vnis(&path.join("stays.pcapng")).len() as u64, of_vni);
    // Each generation's capture is complete, and has frames of its VNI only.
    let mut written = 0;
    for number in 0..=reloads {
        let found = vnis(&path.join(format!("tenant-{number}.pcapng")));
        let expected = VNI + number % VNIS;
        assert!(found.iter().all(|vni| *vni == expected), "{number}");
        written += found.len() as u64;
    }
    assert_eq!(written, number(&sink(&report, "tenant")["written"]));
    // Its file goes on over all generations, with each VNI in turn.
    let moving = vnis(&path.join("moving.pcapng"));
    assert_eq!(moving.len() as u64, number(&sink(&report, "moving")["written"]));
    let turns = moving.chunk_by(|a, b| a == b).count();
    assert!(turns >= reloads as usize / 2, "{turns} turns");
    println!(
        "{reloads} reloads, {attained:.0} packets a second: 0 lost of {}, {of_vni} in the sink that stays",
        sent - before
    );
}

#[test]
fn a_file_that_is_refused_changes_nothing() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let elsewhere = tempfile::tempdir().expect("directory");
    fs::create_dir(path.join("beneath")).expect("directory");
    nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("named pipe");
    let start = "rx-ring = 4096\n[[sink]]\nname = 'a'\nwrite = 'a.pcapng'\n";
    configure(path, start);
    let run = Mirror::ingest(&cable, path, FLAGS);
    let b = |keys: &str| format!("{start}[[sink]]\nname = 'b'\n{keys}\n");
    let far = elsewhere.path().join("b.pcapng");
    for (text, reason) in [
        ("[[sink]".to_owned(), "mirror.toml:1"),
        ("vni = 'x'".to_owned(), "mirror.toml:1"),
        ("rx-ring = 8192\nvni = 7\n".to_owned(), "`rx-ring` cannot change by a reload: use `mirror upgrade`"),
        (format!("drain-max = '5s'\njson = true\n{start}"), "`json`, `drain-max` cannot change"),
        (b(&format!("write = '{}'", far.display())), "with `--writable` for directories of later outputs"),
        (b("write = 'missing/b.pcapng'"), "missing: No such file"),
        (b("write = 'a.pcapng'"), "name the same file"),
        (b("print = true"), "opened at the start only: restart the run"),
        (b("write = 'fifo'"), "fifo is a stream"),
        (b("write = 'b.pcapng'\nfile-size = 1\npostrotate-command = 'true'"), "without commands of -z"),
        // The first opens, and is removed again.
        (b("write = 'beneath/b.pcapng'") + "[[sink]]\nname = 'c'\nwrite = 'taken.pcapng'\n", "taken.pcapng"),
        (start.replace("'a.pcapng'", "'a.pcapng'\nsnap = 64"), "the run writes already: choose another name"),
    ] {
        fs::create_dir_all(path.join("taken.pcapng")).expect("directory");
        configure(path, &text);
        let said = refused();
        assert!(said.contains(reason), "{reason}: {said}");
        run.says("configuration not reloaded, nothing has changed: ");
    }
    fs::remove_file(path.join("mirror.toml")).expect("removed");
    assert!(refused().contains("mirror.toml: No such file"));
    inject(&cable, 100);
    run.has(100);
    configure(path, start);
    assert!(reloaded().contains("nothing has changed"));
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(report["sinks"].as_array().expect("sinks").len(), 2, "{report:#}");
    assert_eq!(whole_capture(&path.join("a.pcapng")).packets.len(), 100);
    let left: Vec<_> = fs::read_dir(path.join("beneath")).expect("directory").collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!far.exists());
}

#[test]
fn hup_reads_the_file_again_and_begins_the_next_capture() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "writable = '.'\n");
    let run = Mirror::ingest(&cable, path, FLAGS);
    // Without a capture, and so without a file to rotate, the run goes on.
    run.signal(Signal::SIGHUP);
    run.says("configuration reloaded: nothing has changed");
    configure(path, "writable = '.'\nwrite = 'a.pcapng'");
    run.signal(Signal::SIGHUP);
    run.says("configuration reloaded: added pcap");
    inject(&cable, 10);
    run.has(10);
    run.signal(Signal::SIGHUP);
    until("the first file is complete", || path.join("a.pcapng").exists().then_some(()));
    inject(&cable, 7);
    run.has(17);
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["captures: 2 files, the last a.pcapng1"]);
    let counts = ["a.pcapng", "a.pcapng1"].map(|name| whole_capture(&path.join(name)).packets.len());
    // Those on their way to the writer when HUP came are in either.
    assert_eq!(counts.iter().sum::<usize>(), 17, "{counts:?}");
    balanced_report(&path.join("report.json"));
}

#[test]
fn a_run_without_a_file_says_what_to_start_it_with() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let run = Mirror::ingest(&cable, directory.path(), "--report report.json");
    assert!(refused().contains("start it with --config FILE"));
    run.end_by(Signal::SIGINT).expect_code(0);
}

/// An output of a reload is created by the confined process, as the user it has changed to.
#[test]
fn outputs_of_a_reload_are_confined_like_those_of_the_start() {
    const USER: u32 = 65_534;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("for every user");
    for name in ["out", "later"] {
        fs::create_dir(path.join(name)).expect("directory");
        chown(path.join(name), Some(USER), None).expect("another user's");
    }
    let start = format!(
        "relinquish-privileges = 'nobody'\nsandbox = 'require'\nwritable = '{}'\nwrite = 'out/a.pcapng'\n",
        path.join("later").display()
    );
    configure(path, &start);
    let run = Mirror::ingest(&cable, path, "--config mirror.toml");
    let before: Vec<_> = threads(run.pid()).into_iter().filter(|(name, _)| name == "mirror-pcap").collect();
    configure(path, &format!("{start}[[sink]]\nname = 'b'\nwrite = 'later/b.pcapng'\n"));
    assert!(reloaded().contains("added b"));
    inject(&cable, 5);
    run.has(5);
    let after: Vec<_> = threads(run.pid()).into_iter().filter(|(name, _)| name == "mirror-pcap").collect();
    assert_eq!((before.len(), after.len()), (1, 2));
    assert!(after.iter().all(|(_, fields)| *fields == before[0].1), "{after:x?}");
    configure(path, &start);
    assert!(reloaded().contains("removed b"));
    until("its file is complete", || path.join("later/b.pcapng").exists().then_some(()));
    thread::sleep(Duration::from_millis(100));
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    assert!(!ending.said.contains("does not confine"), "{}", ending.said);
    assert_eq!(whole_capture(&path.join("later/b.pcapng")).packets.len(), 5);
}

/// The monitor of a run.
fn monitor_of(run: &Mirror) -> Pid {
    let parent = run.pid().to_string();
    let processes = fs::read_dir("/proc").expect("processes");
    let is_child = |process: &String| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|pid| pid.trim() == parent))
    };
    let mut children =
        processes.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(is_child);
    let child = children.next().expect("the run has a monitor");
    Pid::from_raw(child.parse().expect("a process id"))
}

/// Waits until an interface has received this many packets.
fn received(cable: &Cable, interface: &str, packets: u64) {
    let file = format!("/sys/class/net/{interface}/statistics/rx_packets");
    until(&format!("{packets} packets at {interface}"), || {
        let count = mirror_lab::run(cable.target.command("cat").arg(&file)).expect("statistics");
        (count.trim().parse() == Ok(packets)).then_some(())
    });
}

fn has_interface(cable: &Cable, name: &str) -> bool {
    cable.target.ip(&format!("link show dev {name}")).is_ok()
}

#[test]
fn targets_of_a_reload_are_opened_by_the_monitor_and_removed_with_their_sinks() {
    let cable = Cable::with_queues(1);
    for link in ["out", "far"] {
        cable.target.ip(&format!("link add {link}0 type veth peer name {link}1")).expect("veth");
        cable.target.ip(&format!("link set {link}0 up")).expect("up");
        cable.target.ip(&format!("link set {link}1 up")).expect("up");
    }
    cable.target.ip("address add 10.99.0.1/24 dev out0").expect("address");
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "");
    let run = Mirror::ingest(&cable, path, FLAGS);
    let monitor = monitor_of(&run);
    let command_line = fs::read_to_string(format!("/proc/{monitor}/cmdline")).expect("command line");
    assert!(command_line.starts_with("mirror\0monitor\0ingest\0"), "{command_line:?}");
    let name = fs::read_to_string(format!("/proc/{monitor}/comm")).expect("name");
    assert_eq!(name, "mirror-monitor\n");
    let capabilities = |process, name: &str| {
        let threads = threads(process).into_iter();
        threads.map(|(_, fields)| fields[name]).collect::<std::collections::BTreeSet<_>>()
    };
    // The run keeps no capability that it does not need. The monitor makes none effective that it does not
    // need, and keeps what the run was started with for the process of an upgrade.
    // Before 5.19 the threads that end a run keep CAP_BPF.
    let bpf = 1 << 39;
    until("the run has started", || {
        capabilities(run.pid(), "CapPrm").iter().all(|held| held & !bpf == 0).then_some(())
    });
    let kept: u64 = [2, 12, 13, 19, 21, 39].into_iter().map(|capability: u32| 1 << capability).sum();
    for (set, most) in [("CapEff", kept), ("CapInh", 0), ("CapAmb", 0)] {
        assert!(capabilities(monitor, set).iter().all(|held| held & !most == 0), "{set}");
    }
    assert_eq!(capabilities(monitor, "NoNewPrivs"), [1].into());
    let targets = ["veth:ids0", "tap:ids1", "vxlan:10.99.0.2", "pcap-over-ip:listen=127.0.0.1:57021"];
    let with = |targets: &[&str]| format!("forward = {targets:?}\n");
    configure(path, &with(&targets));
    let said = reloaded();
    assert!(targets.iter().all(|target| said.contains(target)), "{said}");
    let reader = cable.target.enter(|| TcpStream::connect("127.0.0.1:57021"));
    let mut reader = reader.expect("namespace").expect("connected");
    run.says("reader connected");
    inject(&cable, 50);
    run.has(50);
    ["ids0", "ids1"].iter().for_each(|interface| received(&cable, interface, 50));
    // The others stay while two are removed.
    configure(path, &with(&targets[2..]));
    assert!(reloaded().contains("removed forward veth:ids0, forward tap:ids1"));
    until("their devices are gone", || {
        (!has_interface(&cable, "ids0") && !has_interface(&cable, "ids1")).then_some(())
    });
    // One of them again, under the same name, and another.
    let later = ["dev:far0", "tap:ids1", "vxlan:10.99.0.2"];
    configure(path, &with(&later));
    assert!(reloaded().contains("added forward dev:far0, forward tap:ids1; removed forward pcap-over-ip"));
    inject(&cable, 7);
    run.has(57);
    ["ids1", "far1"].iter().for_each(|interface| received(&cable, interface, 7));
    run.end_by(Signal::SIGINT).expect_code(0);
    assert!(!has_interface(&cable, "ids1"));
    assert!(!Path::new(&format!("/proc/{monitor}")).exists(), "the monitor ends with the run");
    let mut stream = Vec::new();
    reader.read_to_end(&mut stream).expect("the stream ends with its sink");
    assert!(stream.len() > 50 * 46, "{}", stream.len());
    let report = balanced_report(&path.join("report.json"));
    for (target, written) in
        [("veth:ids0", 50), ("tap:ids1", 57), ("vxlan:10.99.0.2:4789", 57), ("dev:far0", 7)]
    {
        let entry = sink(&report, &format!("forward {target}"));
        assert_eq!(number(&entry["written"]), written, "{entry:#}");
    }
}

/// A socket of the run that is connected to its monitor, as a process taken over has it.
fn socket_to_monitor(run: &Mirror) -> OwnedFd {
    let process =
        pidfd_open(rustix::process::Pid::from_raw(run.pid().as_raw()).expect("pid"), PidfdFlags::empty())
            .expect("pidfd");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", run.pid())).expect("descriptors");
    let numbers =
        descriptors.map(|entry| entry.expect("entry").file_name().to_str().unwrap().parse().unwrap());
    let taken =
        numbers.filter_map(|number: i32| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok());
    let mut sockets = taken.filter(|descriptor| {
        rustix::net::sockopt::socket_type(descriptor) == Ok(rustix::net::SocketType::SEQPACKET)
    });
    sockets.next().expect("a socket to the monitor")
}

#[test]
fn the_monitor_refuses_what_the_configuration_does_not_name() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "");
    let run = Mirror::ingest(&cable, path, FLAGS);
    let socket = socket_to_monitor(&run);
    for (request, answer, logged) in [
        (r#""exec""#, "unknown variant `exec`", "the monitor refuses what is no request"),
        (
            r#"{"open":{"target":"tap:evil","max_frame":1500}}"#,
            "not a target of the",
            "refuses to open tap:evil",
        ),
        (
            r#"{"open":{"target":"tap:evil","max_frame":1500,"as":"root"}}"#,
            "unknown field `as`",
            "no request",
        ),
        ("\u{0}", "not a request", "no request"),
    ] {
        rustix::net::send(&socket, request.as_bytes(), rustix::net::SendFlags::empty()).expect("sent");
        let mut said = [0; 4096];
        let (_, length) =
            rustix::net::recv(&socket, &mut said, rustix::net::RecvFlags::empty()).expect("answered");
        let said = String::from_utf8_lossy(&said[..length]);
        assert!(said.starts_with(r#"{"refused":"#) && said.contains(answer), "{request}: {said}");
        run.says(logged);
    }
    assert!(!has_interface(&cable, "evil"));
    assert!(reloaded().contains("nothing has changed"));
    run.end_by(Signal::SIGINT).expect_code(0);
}

#[test]
fn without_its_monitor_a_run_goes_on_and_says_what_it_cannot_change() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "writable = '.'\n");
    let tap = "writable = '.'\nforward = 'tap:ids0'\n";
    let run = Mirror::ingest(&cable, path, FLAGS);
    configure(path, tap);
    assert!(reloaded().contains("added forward tap:ids0"));
    inject(&cable, 1);
    run.has(1);
    run.settled();
    kill(monitor_of(&run), Signal::SIGKILL).expect("the monitor can be killed");
    assert!(refused().contains("the monitor has ended"));
    // Nothing keeps its frames from the host any more, so none is sent there.
    until("the target is down", || {
        inject(&cable, 1);
        let statuses = Command::new(MIRROR).args(["status", "--json"]).output().expect("status");
        let statuses: Value = serde_json::from_slice(&statuses.stdout).expect("JSON");
        let entry = sink(&statuses[0]["report"], "forward tap:ids0");
        (number(&entry["dropped"]["down"]) > 0).then_some(())
    });
    run.end_by(Signal::SIGINT).expect_code(0);
    balanced_report(&path.join("report.json"));

    configure(path, "writable = '.'\n");
    fs::remove_file(path.join("report.json")).expect("removed");
    let run = Mirror::ingest(&cable, path, &format!("{FLAGS} --no-monitor"));
    configure(path, tap);
    assert!(refused().contains("without --no-monitor a later one can be reloaded"));
    configure(path, "writable = '.'\nwrite = 'a.pcapng'\n");
    assert!(reloaded().contains("added pcap"));
    run.end_by(Signal::SIGINT).expect_code(0);
}

#[test]
fn the_monitor_reads_a_file_that_the_user_of_the_run_may_not() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "relinquish-privileges = 'nobody'\n");
    fs::set_permissions(path.join("mirror.toml"), fs::Permissions::from_mode(0o600)).expect("mode");
    let run = Mirror::ingest(&cable, path, "--config mirror.toml");
    fs::write(path.join("mirror.toml"), "relinquish-privileges = 'nobody'\nvni = 7\nforward = 'tap:ids0'\n")
        .expect("configuration");
    let said = reloaded();
    assert!(said.contains("the run selects other packets; added forward tap:ids0"), "{said}");
    run.end_by(Signal::SIGINT).expect_code(0);
}

#[test]
fn a_killed_run_takes_its_monitor_and_targets_with_it() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "");
    let run = Mirror::ingest(&cable, path, "--config mirror.toml");
    configure(path, "forward = ['tap:ids0', 'veth:ids1']\n");
    assert!(reloaded().contains("added forward tap:ids0, forward veth:ids1"));
    let monitor = monitor_of(&run);
    // As a service manager or a terminal does it; the monitor leaves that to the run.
    kill(monitor, Signal::SIGTERM).expect("signalled");
    kill(monitor, Signal::SIGHUP).expect("signalled");
    assert!(reloaded().contains("nothing has changed"));
    run.end_by(Signal::SIGKILL);
    until("the monitor and the devices are gone", || {
        let is_gone = fs::read_to_string(format!("/proc/{monitor}/status"))
            .map_or(true, |status| status.contains("State:\tZ"));
        (is_gone && !has_interface(&cable, "ids0") && !has_interface(&cable, "ids1")).then_some(())
    });
    assert_next_run_works(&cable);
}
