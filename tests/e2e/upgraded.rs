//! A run passes to a new process on `mirror upgrade`, which goes on with its sockets and the packets in them.
//! Needs root.

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, DirEntry, File},
    num::NonZeroU32,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{
    CAPTURE, Cable, SENDER, http,
    mirror::{
        MIRROR, Mirror, assert_next_run_works, balanced_report, dropped_by_kernel, in_kernel, inject,
        kernel_drops, let_run, lossless_rate, names, program, send_until, send_while, sink, until,
        whole_capture,
    },
};
use mirror_lab::{
    Injector, Traffic, VethEnd, VethOptions, VethPair,
    frames::{Outer, inner_udp},
};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    sys::signal::Signal,
    unistd::Pid,
};
use serde_json::Value;

const FLAGS: &str = "--config mirror.toml --report report.json";

fn configure(directory: &Path, text: &str) {
    fs::write(directory.join("mirror.toml"), text).expect("configuration");
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[test]
fn a_run_goes_on_in_a_new_process_with_its_account() {
    let cable = Cable::with_queues(1);
    for keys in ["", "mode = 'generic'", "wait = 'spin'", "relinquish-privileges = 'nobody'", "vni = 12345"] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("for every user");
        configure(path, keys);
        let mut run = Mirror::ingest(&cable, path, FLAGS);
        inject(&cable, 10);
        run.has(10);
        for upgrades in 1..=3 {
            run.upgrade();
            inject(&cable, 10);
            run.has(10 + 10 * upgrades);
        }
        let ending = run.end_by(Signal::SIGINT).expect_code(0);
        // Only the last process closes the account.
        assert_eq!(ending.said.matches("accounting: ").count(), 1, "{}", ending.said);
        let report = balanced_report(&path.join("report.json"));
        assert_eq!(number(&report["frames"]["decapsulated"]), 40, "{keys}: {report:#}\n{}", ending.said);
        assert_eq!(number(&sink(&report, "counters")["written"]), 40, "{keys}");
        assert_eq!(number(&report["upgrades"]["count"]), 3, "{keys}");
        assert_next_run_works(&cable);
    }
}

#[test]
fn a_run_over_two_interfaces_goes_on_with_the_sockets_of_both() {
    const OTHER: &str = "mirror1";
    const OTHER_SENDER: &str = "source1";
    let cable = Cable::with_queues(2);
    let (near, far) = (VethEnd::new(&cable.target, OTHER), VethEnd::new(&cable.sender, OTHER_SENDER));
    let options = VethOptions { queues: 2, ..VethOptions::default() };
    let _other = VethPair::create(far, near, &options).expect("veth");
    for flags in [&[][..], &["--cold"]] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        configure(path, "");
        let mut run =
            Mirror::ingest(&cable, path, &format!("-i {OTHER} {FLAGS}")).attached_to(&cable.target, OTHER);
        let held = in_kernel();
        let traffic = Traffic { cpus: vec![0, 1], ..Traffic::default() };
        let stop = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let senders = [SENDER, OTHER_SENDER].map(|interface| {
                let (cable, traffic, stop) = (&cable, &traffic, &stop);
                scope.spawn(move || send_until(cable, interface, traffic, 40_000, stop))
            });
            for _ in 0..3 {
                let upgraded = run.upgrade_with(flags);
                let sockets = if flags.is_empty() { 4 } else { 0 };
                assert_eq!(upgraded["pauses_ns"].as_array().map(Vec::len), Some(sockets));
            }
            stop.store(true, Ordering::Relaxed);
            senders.map(|sender| sender.join().expect("sent"))
        });
        run.settled();
        until("maps of the processes before are gone", || (in_kernel() == held).then_some(()));
        let ending = run.end_by(Signal::SIGINT).expect_code(0);
        let report = balanced_report(&path.join("report.json"));
        let of = |interface: &Value, place: &str| number(interface.pointer(place).unwrap_or(&Value::Null));
        for (interface, sent) in report["interfaces"].as_array().expect("interfaces").iter().zip(sent) {
            let of_queues = |place: &str| {
                (0..2).map(|queue| of(interface, &format!("/queues/{queue}/{place}"))).sum::<u64>()
            };
            let known: u64 = ["received", "rx_ring_full", "rx_dropped"].map(of_queues).into_iter().sum();
            let passed = of(interface, "/xdp/no_socket_at_upgrade");
            assert_eq!(known + passed, sent, "{interface:#}\n{}", ending.said);
            assert_eq!(passed > 0, !flags.is_empty(), "{interface:#}");
        }
    }
}

/// The inner frames of all captures of a directory, by the names in this sequence.
fn frames_in(directory: &Path, names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().flat_map(|name| whole_capture(&directory.join(name)).frames()).collect()
}

#[test]
fn captures_go_on_in_the_next_file() {
    let cable = Cable::with_queues(1);
    for (keys, expected) in [
        ("write = 'a.pcapng'", &["a.pcapng", "a.pcapng1", "a.pcapng2"][..]),
        ("write = 'a.pcapng'\nfile-size = 1", &["a.pcapng", "a.pcapng1", "a.pcapng2"]),
        ("write = 'a.pcapng'\nfile-size = 1\nfile-count = 12", &["a.pcapng00", "a.pcapng01", "a.pcapng02"]),
        ("write = 'a.pcapng'\nrotate-seconds = 3600\n", &["a.pcapng", "a.pcapng1", "a.pcapng2"]),
    ] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        configure(path, keys);
        let mut run = Mirror::ingest(&cable, path, FLAGS);
        let mut sent = inject(&cable, 100);
        run.has(100);
        for upgrade in 1..=2 {
            run.upgrade();
            sent.extend(inject(&cable, 100));
            run.has(100 + 100 * upgrade);
        }
        let ending = run.end_by(Signal::SIGINT).expect_code(0);
        assert!(!ending.said.contains("WARN"), "{}", ending.said);
        let mut found = names(path);
        found.retain(|name| name.starts_with("a.pcapng"));
        assert_eq!(found, expected, "{keys}: {}", ending.said);
        assert_eq!(frames_in(path, expected), sent, "{keys}");
        let report = balanced_report(&path.join("report.json"));
        assert_eq!(number(&sink(&report, "pcap")["written"]), 300);
    }
}

/// `mirror upgrade`, which must fail; returns what it says.
#[track_caller]
fn refused(flags: &[&str]) -> String {
    let output = Command::new(MIRROR).arg("upgrade").args(flags).output().expect("mirror runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// A run of a copy of the executable, in whose place others can be [put](install).
fn installed_run(cable: &Cable, path: &Path) -> (Mirror, PathBuf) {
    let installed = path.join("mirror");
    fs::copy(MIRROR, &installed).expect("copied");
    let mut command = cable.target.command(installed.to_str().expect("UTF-8"));
    command
        .args(["ingest", "-i", CAPTURE, "--stats", "1h"])
        .args(FLAGS.split(' '))
        .current_dir(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    (Mirror::start(command).attached(cable), installed)
}

/// Puts an executable in the place of the installed one.
fn install(installed: &Path, text: &[u8]) {
    let new = installed.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("executable");
    fs::rename(&new, installed).expect("installed");
}

#[test]
fn whatever_keeps_the_new_process_from_taking_over_the_old_one_goes_on() {
    const START: &str = "rx-ring = 4096\nwrite = 'a.pcapng'\n";
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, START);
    let (mut run, installed) = installed_run(&cable, path);
    inject(&cable, 10);
    run.has(10);
    let (before, held) = (program(&cable), in_kernel());
    let original = fs::read(MIRROR).expect("the executable");
    // What the new process finds, in the sequence in which it finds it.
    for (text, reason) in [
        (&b"no program"[..], "cannot start a new process"),
        (b"#!/bin/sh\nexit 3\n", "the new process has ended"),
        (b"#!/bin/sh\necho no >&0\nsleep 1\n", "a message of the new process"),
    ] {
        install(&installed, text);
        for flags in [&[][..], &["--cold"]] {
            let said = refused(flags);
            assert!(said.contains(reason), "{reason}: {said}");
        }
    }
    install(&installed, &original);
    for (keys, reason) in [
        ("rx-ring = x", "mirror.toml:1"),
        ("rx-ring = 8192\nwrite = 'a.pcapng'", "the RX ring cannot change in this upgrade: now 4096"),
        ("rx-ring = 4096\nqueues = '7'", "there is no RX queue 7"),
        ("rx-ring = 4096\nwrite = 'missing/a.pcapng'", "missing: No such file"),
        ("mode = 'generic'", "the XDP mode cannot change in this upgrade: now native"),
        ("rx-ring = 4096\nhttp = '192.0.2.1:80'", "no interface of this host has the address"),
        ("rx-ring = 4096\nforward = 'dev:missing'", "missing"),
    ] {
        configure(path, keys);
        // Before the sockets of the first process are closed.
        let flags: &[&[&str]] = if keys.contains("8192") { &[&[]] } else { &[&[], &["--cold"]] };
        for flags in flags {
            let said = refused(flags);
            assert!(said.contains(reason), "{reason}: {said}");
            run.says("not upgraded, the run goes on as it is: ");
        }
    }
    assert_eq!(program(&cable), before, "the program is still that of the first process");
    until("nothing of the others is left in the kernel", || (in_kernel() == held).then_some(()));
    inject(&cable, 10);
    run.has(20);
    // And then it can.
    configure(path, START);
    run.upgrade();
    assert_ne!(program(&cable), before);
    inject(&cable, 10);
    run.has(30);
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(number(&report["frames"]["decapsulated"]), 30, "{report:#}");
    let left: Vec<_> = names(path).into_iter().filter(|name| name.contains("partial")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_run_that_cannot_pass_says_why() {
    let cable = Cable::with_queues(1);
    for (keys, reason) in [
        ("forward = 'tap:ids0'", "--forward tap:ids0: another process cannot open it beside this one"),
        ("count = 100", "the run ends after a number of packets"),
        ("print = true", "packets are printed"),
        ("write = 'a.pcapng'\nper-origin = true", "files per origin"),
        ("write = '-'", "-w - is a stream"),
        ("wait = 'busy-poll'", "settings for busy polling do not pass over"),
    ] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        configure(path, keys);
        let run = Mirror::ingest(&cable, path, FLAGS);
        for flags in [&[][..], &["--cold"]] {
            let said = refused(flags);
            assert!(said.contains(reason), "{reason}: {said}");
        }
        run.end_by(Signal::SIGINT).expect_code(0);
    }
    let directory = tempfile::tempdir().expect("directory");
    let run = Mirror::ingest(&cable, directory.path(), "--report report.json");
    assert!(refused(&[]).contains("start it with --config FILE"));
    run.end_by(Signal::SIGINT).expect_code(0);
}

/// The counters of a scrape.
fn counters(scrape: &str) -> BTreeMap<&str, f64> {
    let lines = scrape.lines().filter(|line| !line.starts_with('#'));
    let value = lines.filter_map(|line| line.rsplit_once(' '));
    value
        .filter(|(series, _)| series.split('{').next().is_some_and(|name| name.ends_with("_total")))
        .map(|(series, value)| (series, value.parse().expect("a number")))
        .collect()
}

#[test]
fn a_scraper_and_a_status_go_through_upgrades_without_a_gap() {
    const UPGRADES: usize = 5;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, &format!("write = 'a.pcapng'\nhttp = '{}'", http::LOOPBACK));
    let client = http::Client::on_loopback(&cable);
    let mut run = Mirror::ingest(&cable, path, FLAGS);
    // A start is no upgrade: it is not well before it has been checked once.
    until("the run is well", || client.ask("/health").ok().filter(|(status, _)| *status == 200));
    let stop = AtomicBool::new(false);
    let (scrapes, statuses) = thread::scope(|scope| {
        let sender = scope.spawn(|| send_until(&cable, SENDER, &Traffic::default(), 50_000, &stop));
        let scraper = scope.spawn(|| {
            let mut scrapes = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let (status, health) = client.ask("/health").expect("an answer");
                assert_eq!(status, 200, "{health}");
                let (status, scrape) = client.ask("/metrics").expect("an answer");
                assert_eq!(status, 200, "{scrape}");
                scrapes.push(scrape);
            }
            scrapes
        });
        let watcher = scope.spawn(|| {
            let mut statuses = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let output = Command::new(MIRROR).args(["status", "--json"]).output().expect("mirror runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let runs: Value = serde_json::from_slice(&output.stdout).expect("JSON");
                assert_eq!(runs[0]["phase"], "ingesting", "{runs:#}");
                statuses.push((number(&runs[0]["pid"]), number(&runs[0]["report"]["frames"]["received"])));
            }
            statuses
        });
        for _ in 0..UPGRADES {
            thread::sleep(Duration::from_millis(1500));
            run.upgrade();
        }
        thread::sleep(Duration::from_millis(1500));
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("sent");
        (scraper.join().expect("scraped"), watcher.join().expect("watched"))
    });
    assert!(scrapes.len() > 2 * UPGRADES && statuses.len() > 2 * UPGRADES);
    for pair in scrapes.windows(2) {
        let (before, after) = (counters(&pair[0]), counters(&pair[1]));
        for (series, value) in before {
            let later = after.get(series).unwrap_or_else(|| panic!("{series} is missing"));
            assert!(*later >= value, "{series}: {later} after {value}");
        }
    }
    assert!(statuses.is_sorted_by_key(|(_, received)| *received), "{statuses:?}");
    let processes = statuses.chunk_by(|a, b| a.0 == b.0).count();
    assert_eq!(processes, UPGRADES + 1, "{statuses:?}");
    run.end_by(Signal::SIGINT).expect_code(0);
    balanced_report(&path.join("report.json"));
}

/// Tunnel flows, which the kernel spreads over queues; their inner frames differ in an address.
const FLOWS: u8 = 16;

/// The inner frames by flow, in their sequence.
fn by_flow(frames: &[Vec<u8>]) -> BTreeMap<u8, Vec<&[u8]>> {
    /// The last byte of the inner source address.
    const FLOW: usize = 14 + 15;
    let mut flows = BTreeMap::<_, Vec<_>>::new();
    for frame in frames {
        flows.entry(frame[FLOW]).or_default().push(&frame[..]);
    }
    flows
}

#[test]
fn packets_on_their_way_during_upgrades_are_written_once_and_in_order() {
    const UPGRADES: usize = 10;
    const RATE: NonZeroU32 = NonZeroU32::new(20_000).unwrap();
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "write = 'a.pcapng'");
    let mut run = Mirror::ingest(&cable, path, FLAGS);
    let numbered = |number: u32| {
        let flow = u8::try_from(number % u32::from(FLOWS)).expect("a flow");
        let ends = [([10, 0, 0, flow].into(), 49152), ([10, 0, 1, 1].into(), 9)];
        let inner = inner_udp(ends[0], ends[1], &number.to_be_bytes()).expect("inner frame");
        let outer = Outer { source_port: 0xff80 + u16::from(flow), ..Outer::sample(7) };
        (outer.encapsulate(&inner).expect("outer frame"), inner)
    };
    let (outer, inner): (Vec<_>, Vec<_>) = (0..150_000).map(numbered).unzip();
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let injector = Injector::new(&cable.sender, SENDER).expect("injector").pace(RATE);
            assert_eq!(injector.send_all(&outer).expect("injected"), outer.len() as u64);
        });
        for _ in 0..UPGRADES {
            run.upgrade();
        }
        assert!(!sender.is_finished(), "the upgrades outlast the packets");
        sender.join().expect("sent");
    });
    run.has(inner.len() as u64);
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(number(&sink(&report, "pcap")["written"]), inner.len() as u64, "{}", ending.said);
    let files: Vec<_> = (0..=UPGRADES)
        .map(|number| if number == 0 { "a.pcapng".to_owned() } else { format!("a.pcapng{number}") })
        .filter(|name| path.join(name).exists())
        .collect();
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let captured = frames_in(path, &files);
    assert!(by_flow(&captured) == by_flow(&inner), "each once, in the sequence of its flow, over {files:?}");
    let of_queue = |queue: usize| number(&report["interfaces"][0]["queues"][queue]["received"]);
    assert!(of_queue(0) > 0 && of_queue(1) > 0, "{report:#}");
}

/// Frames that passed to the host for want of a socket.
fn passed(report: &Value) -> u64 {
    number(&report["interfaces"][0]["xdp"]["passed"]["no_socket"])
}

#[test]
fn a_cold_upgrade_opens_new_sockets_and_counts_what_passes_meanwhile() {
    const UPGRADES: u64 = 10;
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "write = 'a.pcapng'\nrx-ring = 2048");
    let mut run = Mirror::ingest(&cable, path, FLAGS);
    let traffic = Traffic { cpus: vec![0, 1], ..Traffic::default() };
    let mut gaps = Vec::new();
    let sent = send_while(&cable, &traffic, 50_000, || {
        for nth in 0..UPGRADES {
            // What no other upgrade can: new sockets may have other sizes.
            configure(path, &format!("write = 'a.pcapng'\nrx-ring = {}", 2048 << (nth % 3)));
            let upgraded = run.upgrade_with(&["--cold"]);
            assert_eq!(upgraded["pauses_ns"], Value::Array(Vec::new()));
            gaps.push((number(&upgraded["cold_ns"]), number(&upgraded["cold_packets"])));
        }
    });
    run.settled();
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let taken = number(&report["frames"]["decapsulated"]) + kernel_drops(&report);
    assert_eq!(taken + passed(&report), sent, "{report:#}\n{}", ending.said);
    let upgrades = &report["upgrades"];
    assert_eq!((number(&upgrades["count"]), number(&upgrades["cold"])), (0, UPGRADES));
    assert_eq!(number(&upgrades["cold_frames"]), passed(&report), "no other frame found no socket");
    let (longest, at_least) = gaps.iter().fold((0, 0), |(ns, packets), gap| (ns.max(gap.0), packets + gap.1));
    assert!(longest > 0 && at_least > 0 && at_least <= passed(&report), "{gaps:?}");
    let in_all = upgrades["cold_s"].as_f64().expect("seconds");
    println!(
        "{UPGRADES} cold upgrades at 50000 packets a second: {} of {sent} packets passed to the host, within \
        {:.1} ms each, {:.1} ms at worst",
        passed(&report),
        in_all * 1e3 / UPGRADES as f64,
        longest as f64 / 1e6
    );
    assert_next_run_works(&cable);
}

#[test]
fn what_the_kernel_dropped_is_counted_once_over_cold_and_other_upgrades() {
    const RING: u64 = 64;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, &format!("rx-ring = {RING}"));
    let mut run = Mirror::ingest(&cable, path, FLAGS);
    let (mut sent, mut lost) = (0, 0);
    // Each time more than before, with sockets that have counted drops, and with new ones.
    for (frames, flags) in
        [(200, &[][..]), (400, &["--cold"]), (800, &[]), (1600, &[]), (3200, &["--cold"]), (6400, &[])]
    {
        let worker = run.stop_thread("q0-cap0");
        inject(&cable, frames);
        let_run(worker);
        sent += u64::from(frames);
        lost += u64::from(frames) - RING;
        run.settled();
        run.upgrade_with(flags);
    }
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let queue = &report["interfaces"][0]["queues"][0];
    assert_eq!(
        (number(&queue["rx_ring_full"]), number(&queue["received"])),
        (lost, sent - lost),
        "{report:#}"
    );
}

#[test]
fn a_new_process_that_ends_when_the_sockets_are_closed_ends_the_run_with_its_account() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, "write = 'a.pcapng'");
    let (run, installed) = installed_run(&cable, path);
    inject(&cable, 10);
    run.has(10);
    // It is ready, has the other close its sockets, and does not bind any.
    let says = r#"printf '{"ready":{"version":"9"}}' >&0; printf '"follows"' >&0; sleep 2; exit 3"#;
    install(&installed, format!("#!/bin/sh\n{says}\n").as_bytes());
    let said = refused(&["--cold"]);
    assert!(said.contains("the run has ended: the upgrade has failed: the new process"), "{said}");
    let ending = run.end().expect_code(1);
    assert!(ending.said.contains("the upgrade has failed"), "{}", ending.said);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(number(&report["frames"]["decapsulated"]), 10);
    assert_eq!(whole_capture(&path.join("a.pcapng")).frames().len(), 10);
    assert_eq!(program(&cable), None);
    assert_next_run_works(&cable);
}

/// What the descriptors of a run are of.
fn descriptors(run: &Mirror) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", run.pid())).expect("descriptors");
    let links = entries.map(|entry| fs::read_link(entry.expect("entry").path()));
    // One that was closed meanwhile has none.
    let mut kinds: Vec<_> = links.flatten().map(|link| link.to_string_lossy().into_owned()).collect();
    kinds.sort_unstable();
    kinds
}

/// Of each socket of a run, how many chunks are in its fill ring. The ring begins with the indices of
/// producer and consumer, each in cache lines of its own (`struct xdp_ring` of `net/xdp/xsk_queue.h`).
fn chunks_in_fill_rings(run: &Mirror) -> Vec<u32> {
    const CONSUMER: u64 = 128;
    let process = PathBuf::from(format!("/proc/{}", run.pid()));
    let maps = fs::read_to_string(process.join("maps")).expect("mappings");
    let memory = File::open(process.join("mem")).expect("memory");
    let offset = format!("{:x}", libc::XDP_UMEM_PGOFF_FILL_RING);
    let of_fill_ring = |line: &&str| line.contains("socket:[") && line.split(' ').nth(2) == Some(&offset);
    let index = |at: u64| {
        let mut value = [0; 4];
        memory.read_exact_at(&mut value, at).expect("an index");
        u32::from_ne_bytes(value)
    };
    let chunks = maps.lines().filter(of_fill_ring).map(|line| {
        let begin = line.split('-').next().expect("a range");
        let begin = u64::from_str_radix(begin, 16).expect("an address");
        index(begin).wrapping_sub(index(begin + CONSUMER))
    });
    chunks.collect()
}

/// The CPUs that a thread of this name may use, of whichever process; `None` if there is none.
fn cpus_of_thread(name: &str) -> Option<CpuSet> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    // Of what is no process, and of those that end meanwhile, nothing can be read.
    let tasks = processes.filter_map(|process| fs::read_dir(process.path().join("task")).ok()).flatten();
    let of_name = |task: &DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let task = tasks.flatten().find(of_name)?;
    let thread = task.file_name().to_str()?.parse().ok()?;
    sched_getaffinity(Pid::from_raw(thread)).ok()
}

#[test]
fn the_program_is_loaded_on_a_cpu_without_a_worker() {
    const UPGRADES: usize = 10;
    let has = |cpus: &CpuSet, cpu| cpus.is_set(cpu).expect("a CPU");
    let all = sched_getaffinity(Pid::from_raw(0)).expect("CPUs");
    if (0..CpuSet::count()).filter(|cpu| has(&all, *cpu)).count() < 2 {
        return;
    }
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    configure(directory.path(), "");
    let mut run = Mirror::ingest(&cable, directory.path(), FLAGS);
    let of_worker = cpus_of_thread("q0-cap0").expect("a worker");
    let worker = (0..CpuSet::count()).find(|cpu| has(&of_worker, *cpu)).expect("its CPU");
    let stop = AtomicBool::new(false);
    let is_off = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // The thread has its name first.
                if cpus_of_thread("mirror-load").is_some_and(|cpus| !has(&cpus, worker)) {
                    return true;
                }
            }
            false
        });
        for _ in 0..UPGRADES {
            run.upgrade();
            if watcher.is_finished() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        watcher.join().expect("watched")
    });
    assert!(is_off, "none of {UPGRADES} programs was loaded off CPU {worker}");
    let of_worker = cpus_of_thread("q0-cap0").expect("a worker");
    assert!(has(&of_worker, worker), "the worker has stayed on its CPU");
    let of_main = sched_getaffinity(run.pid()).expect("CPUs");
    assert_eq!(of_main, all, "the main thread keeps its CPUs");
    run.end_by(Signal::SIGINT).expect_code(0);
}

#[test]
fn upgrades_under_load_lose_nothing() {
    /// How often packets are sent with upgrades, and as often without.
    const WINDOWS: usize = 4;
    let given =
        |name, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"));
    let upgrades = given("MIRROR_UPGRADES", 20_usize);
    let queues = given("MIRROR_UPGRADE_QUEUES", 2);
    let rx_ring = u32::try_from(given("MIRROR_UPGRADE_RING", 8192)).expect("a ring");
    let cable = Cable::with_queues(u32::try_from(queues).expect("queues"));
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    configure(path, &format!("rx-ring = {rx_ring}"));
    let mut run = Mirror::ingest(&cable, path, FLAGS);
    let cpus = if queues == 1 { vec![0] } else { vec![0, 1] };
    let traffic = Traffic { cpus, ..Traffic::default() };
    let (rate, mut sent) = lossless_rate(&cable, &run, "MIRROR_UPGRADE_PPS", &traffic);
    // When all of its threads are there, and with what one upgrade needs.
    run.upgrade();
    sent += inject(&cable, 10).len() as u64;
    run.settled();
    // More than the RX ring has descriptors, and all of them while nothing arrives.
    let chunks = chunks_in_fill_rings(&run);
    assert!(chunks.len() == queues && chunks.iter().all(|chunks| *chunks > rx_ring), "{chunks:?}");
    let (at_first, held_at_first) = (descriptors(&run), in_kernel());
    let mut pauses = Vec::new();
    let mut windows = Vec::new();
    let mut upgrading = Duration::ZERO;
    // In turn, for as long as the other: with upgrades, and undisturbed.
    for _ in 0..WINDOWS {
        let before = dropped_by_kernel();
        let begun = Instant::now();
        let with = send_while(&cable, &traffic, rate, || {
            for _ in 0..upgrades / WINDOWS {
                let upgraded = run.upgrade();
                pauses.extend(upgraded["pauses_ns"].as_array().expect("pauses").iter().map(number));
            }
        });
        let took = begun.elapsed();
        upgrading += took;
        run.settled();
        let between = dropped_by_kernel();
        let without = send_while(&cable, &traffic, rate, || thread::sleep(took));
        run.settled();
        sent += with + without;
        windows.push([(with, between - before), (without, dropped_by_kernel() - between)]);
    }
    let (at_last, held_at_last) = (descriptors(&run), in_kernel());
    // A process that follows another has no sockets of its own to make, and keeps none of the others'.
    assert!(at_last.len() <= at_first.len(), "at first {at_first:#?}, at last {at_last:#?}");
    assert_eq!(held_at_last, held_at_first, "programs, maps and links");
    assert_eq!(chunks_in_fill_rings(&run), chunks);
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let all = number(&report["frames"]["decapsulated"]) + kernel_drops(&report);
    assert_eq!(all, sent, "{report:#}");
    assert_eq!(number(&report["upgrades"]["count"]), upgrades as u64 + 1);
    pauses.sort_unstable();
    let at = |percent: usize| pauses[(pauses.len() - 1) * percent / 100] as f64 / 1e3;
    let of = |kind: usize| {
        let [sent, lost] = windows
            .iter()
            .fold([0, 0], |[sent, lost], window| [sent + window[kind].0, lost + window[kind].1]);
        format!("{lost} lost of {sent}")
    };
    let attained = windows.iter().map(|window| window[0].0).sum::<u64>() as f64 / upgrading.as_secs_f64();
    println!(
        "{upgrades} upgrades, {queues} queues, {attained:.0} packets a second: {}, and in turn without: {}; \
        nobody took packets of a queue for {:.0} us in the median, {:.0} us in 99 of 100, {:.0} us at worst",
        of(0),
        of(1),
        at(50),
        at(99),
        at(100)
    );
    if std::env::var_os("MIRROR_UPGRADE_PPS").is_none() {
        assert_eq!(kernel_drops(&report), 0, "{report:#}");
    }
    assert_eq!(program(&cable), None);
}
