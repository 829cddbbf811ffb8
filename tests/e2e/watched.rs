//! `--http`: every state of health is provoked and read, metrics are those of the report, and clients of any
//! kind cost no packets. Needs root.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use common::{
    CAPTURE, Cable,
    disk::SmallDisk,
    http::{Client, LOOPBACK},
    mirror::{Mirror, balanced_report, burst, ingest, inject, let_run, sink, threads, until},
};
use mirror_lab::{Namespace, Traffic, VethEnd, VethOptions, VethPair, run as run_command};
use mirror_user::host::limits::OpenFiles;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{signal::Signal, stat::Mode},
    unistd::Pid,
};
use serde_json::{Value, json};

impl Client {
    /// Waits until a check is ok, whatever the others are.
    #[track_caller]
    fn becomes_ok(&self, check: &str) {
        until("the check is ok", || (self.health().1["checks"][check]["state"] == "ok").then_some(()));
    }

    /// Series and their values.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        series(&text)
    }
}

fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a number"))
        .map(|(series, number)| (series.to_owned(), number.parse().expect("a number")))
        .collect()
}

#[track_caller]
fn expect(check: &Value, cause: &str, detail: &str) {
    assert_eq!(check["cause"], cause);
    let detailed = check["details"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one.as_str().is_some_and(|one| one.contains(detail))));
    assert!(detailed, "{detail:?} in {check:#}");
}

/// A run with the server on loopback.
fn watched(cable: &Cable, directory: &Path, arguments: &str) -> Mirror {
    let run = Mirror::ingest(cable, directory, &format!("--http {LOOPBACK} {arguments}"));
    Client::on_loopback(cable).is_well();
    run
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("directory")
}

#[test]
fn a_run_is_unhealthy_until_it_has_started_and_while_it_ends() {
    let cable = Cable::with_queues(1);
    let directory = directory();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).expect("FIFO");
    // It waits for the reader of its FIFO before it attaches.
    let arguments = format!("--http {LOOPBACK} -w out.pcapng --config sinks.toml");
    fs::write(directory.path().join("sinks.toml"), "[[sink]]\nwrite = 'fifo'\n").expect("written");
    let run = Mirror::start(ingest(&cable, directory.path(), &arguments));
    let client = Client::on_loopback(&cable);
    until("it listens", || client.connect().ok());
    let (status, answer) = client.health();
    assert_eq!((status, &answer["status"]), (503, &json!("starting")));
    assert_eq!(answer["checks"]["run"]["cause"], "queues are not bound yet");
    assert_eq!(client.get("/live"), (200, "live\n".to_owned()));
    assert_eq!(client.get("/metrics").0, 503);
    let reader = thread::spawn(move || fs::read(fifo).expect("the capture"));
    let run = run.attached(&cable);
    client.is_well();
    inject(&cable, 10);
    run.has(10);
    // Its end takes as long as the writer is stopped.
    let writer = run.stop_thread("mirror-pcap");
    inject(&cable, 10);
    run.has(20);
    run.signal(Signal::SIGINT);
    let check = client.becomes("run", "failed");
    assert_eq!(check["cause"], "the run is stopping");
    assert_eq!(client.get("/live").0, 200);
    let_run(writer);
    run.end().expect_code(0).expect_words(&["residue 0"]);
    assert!(!reader.join().expect("reader").is_empty());
    client.connect().expect_err("nobody listens any more");
}

#[test]
fn a_port_in_use_is_an_error_before_anything_is_attached() {
    let cable = Cable::with_queues(1);
    let directory = directory();
    let listener = || std::net::TcpListener::bind(LOOPBACK).expect("free");
    let _held = cable.target.enter(listener).expect("namespace");
    let run = Mirror::start(ingest(&cable, directory.path(), &format!("--http {LOOPBACK} -w out.pcapng")));
    run.end().expect_code(1).expect_words(&[LOOPBACK, "Address already in use", "choose another port"]);
    assert_eq!(common::mirror::names(directory.path()), [""; 0]);
}

#[test]
fn a_program_that_somebody_detached_fails_the_check_attached() {
    let cable = Cable::with_queues(1);
    let directory = directory();
    let run = watched(&cable, directory.path(), "");
    let client = Client::on_loopback(&cable);
    detach_by_force(&run);
    let check = client.becomes("attached", "failed");
    let cause = "an interface does not have this run's XDP program";
    expect(&check, cause, "cap0: its XDP hook has no program");
    run.end_by(Signal::SIGINT).expect_code(0);
}

/// Detaches the link of a run's XDP program, as `bpftool link detach` does.
fn detach_by_force(run: &Mirror) {
    let infos = fs::read_dir(format!("/proc/{}/fdinfo", run.pid())).expect("descriptors");
    let infos = infos.filter_map(|info| fs::read_to_string(info.expect("descriptor").path()).ok());
    let links = infos.filter(|info| info.contains("link_type:\txdp"));
    let id = links.filter_map(|info| {
        let line = info.lines().find_map(|line| line.strip_prefix("link_id:"))?.trim().to_owned();
        line.parse::<u32>().ok()
    });
    let ids: Vec<_> = id.collect();
    assert_eq!(ids.len(), 1, "one link");
    // linux/bpf.h: BPF_LINK_GET_FD_BY_ID and BPF_LINK_DETACH.
    let descriptor = bpf(30, ids[0]).expect("the link");
    let number = u32::try_from(descriptor).expect("a descriptor");
    #[expect(unsafe_code, reason = "the kernel has just opened it")]
    // SAFETY: the descriptor is open, and nobody else has its number.
    let link = unsafe { OwnedFd::from_raw_fd(descriptor) };
    bpf(34, number).expect("detached");
    assert_eq!(link.as_raw_fd(), descriptor);
}

/// bpf(2) with an attribute of one number.
#[expect(unsafe_code, reason = "no safe wrapper detaches a link")]
fn bpf(command: libc::c_int, number: u32) -> std::io::Result<libc::c_int> {
    let attribute = [number, 0, 0, 0];
    // SAFETY: the kernel reads as many bytes of the attribute as it has.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_ptr(), size_of_val(&attribute)) };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[test]
fn a_stuck_worker_and_a_queue_without_one_fail_the_check_queues() {
    let cable = Cable::with_queues(2);
    for (namespace, interface) in [(&cable.sender, common::SENDER), (&cable.target, CAPTURE)] {
        channels(namespace, interface, 1);
    }
    let directory = directory();
    let run = watched(&cable, directory.path(), "");
    let client = Client::on_loopback(&cable);
    let worker = run.stop_thread("q0-cap0");
    let check = client.becomes("queues", "failed");
    expect(&check, "a queue has no live worker", "cap0 queue 0: no tick of its worker for ");
    // The same over metrics, without names of states.
    assert_eq!(client.metrics()["mirror_health_check{check=\"queues\"}"], 0.0);
    let_run(worker);
    client.becomes("queues", "ok");
    channels(&cable.target, CAPTURE, 2);
    let check = client.becomes("queues", "failed");
    expect(&check, "a queue is not read", "cap0: 1 RX queues were added after the start");
    run.end_by(Signal::SIGINT).expect_code(0);
}

fn channels(namespace: &Namespace, interface: &str, queues: u32) {
    let queues = queues.to_string();
    let mut ethtool = namespace.command("ethtool");
    run_command(ethtool.args(["-L", interface, "rx", &queues, "tx", &queues])).expect("ethtool -L");
}

#[test]
fn an_interface_that_is_down_degrades_and_all_fail_the_check_link() {
    let cable = Cable::with_queues(1);
    let second = VethEnd::new(&cable.sender, "gen1");
    let _second =
        VethPair::create(second, VethEnd::new(&cable.target, "cap1"), &VethOptions::default()).expect("veth");
    let directory = directory();
    let run = watched(&cable, directory.path(), "-i cap1");
    let client = Client::on_loopback(&cable);
    cable.target.ip("link set cap1 down").expect("down");
    let check = client.becomes("link", "degraded");
    expect(&check, "1 of 2 interfaces are down", "cap1 is down, or has no carrier");
    // Its other end takes the carrier.
    cable.sender.ip("link set gen0 down").expect("down");
    let check = client.becomes("link", "failed");
    expect(&check, "every interface is down", "cap0 is down, or has no carrier");
    cable.sender.ip("link set gen0 up").expect("up");
    client.becomes("link", "degraded");
    cable.target.ip("link delete cap1").expect("deleted");
    run.says("cap1: the interface was deleted");
    let check = client.becomes("link", "degraded");
    expect(&check, "1 of 2 interfaces are down", "cap1");
    run.end_by(Signal::SIGINT).expect_code(1);
}

#[test]
fn a_required_sink_that_ends_or_waits_fails_the_check_sinks() {
    let cable = Cable::with_queues(1);
    for (required, state, kind) in [(true, "failed", "a required sink"), (false, "degraded", "a sink")] {
        let directory = directory();
        let path = directory.path();
        fs::create_dir(path.join("disk")).expect("mount point");
        let disk = SmallDisk::mount(&path.join("disk"), 256 << 10);
        let sinks = format!(
            "[[sink]]\nname = 'text'\nprint = true\nrequired = {required}\n\
            [[sink]]\nname = 'full'\nwrite = 'disk/out.pcapng'\nrequired = {required}\n"
        );
        fs::write(path.join("sinks.toml"), sinks).expect("written");
        let arguments = format!("--http {LOOPBACK} -w all.pcapng --config sinks.toml");
        let (run, reader) = Mirror::ingest_to_pipe(&cable, path, &arguments);
        let client = Client::on_loopback(&cable);
        client.is_well();
        drop(reader);
        burst(&cable, 8_000);
        run.says("sink stopped; ingest continues");
        let (cause, end) = (format!("{kind} has ended"), "text has ended: standard output: Broken pipe");
        expect(&client.becomes("sinks", state), &cause, end);
        let both = until("the other waits for long", || {
            let check = client.becomes("sinks", state);
            check["details"].as_array().is_some_and(|all| all.len() == 2).then_some(check)
        });
        expect(&both, &cause, "full waits: ");
        assert_eq!(client.metrics()["mirror_sink_up{sink=\"text\"}"], 0.0);
        run.end_by(Signal::SIGINT).expect_code(1).expect_words(&["residue 0"]);
        drop(disk);
    }
}

#[test]
fn frames_that_wait_for_a_writer_fail_the_check_lag_and_lost_ones_only_if_asked_for() {
    let cable = Cable::with_queues(1);
    for (is_asked_for, arguments) in [(false, ""), (true, "--health-loss 1%")] {
        let directory = directory();
        let run = watched(&cable, directory.path(), &format!("-B 1m -w out.pcapng {arguments}"));
        let client = Client::on_loopback(&cable);
        let writer = run.stop_thread("mirror-pcap");
        // More than the buffer holds.
        burst(&cable, 40_000);
        let dropped = "mirror_sink_frames_total{sink=\"pcap\",result=\"dropped\",reason=\"no_block\"}";
        until("frames are lost", || {
            client.metrics().get(dropped).is_some_and(|lost| *lost > 0.0).then_some(())
        });
        assert_eq!(client.health().1["checks"].get("loss").is_some(), is_asked_for);
        // The other run is the same for as long as frames wait.
        if is_asked_for {
            let check = client.becomes("lag", "failed");
            let cause = "frames wait for a sink's thread for more than 10 s";
            expect(&check, cause, "pcap: frames have waited for ");
            assert!(client.metrics()["mirror_sink_lag_seconds{sink=\"pcap\"}"] > 10.0);
            let (_, answer) = client.health();
            let checks = answer["checks"].as_object().expect("checks");
            let failed: Vec<_> = checks.iter().filter(|(_, check)| check["state"] == "failed").collect();
            let failed: Vec<_> = failed.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(failed, ["lag", "loss"], "{answer:#}");
        }
        let_run(writer);
        client.becomes_ok("lag");
        run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["residue 0"]);
    }
}

#[test]
fn strangers_read_states_and_causes_and_no_names() {
    let cable = Cable::with_queues(1);
    cable.veth.a.address("10.9.0.1/24").expect("address");
    cable.veth.b.address("10.9.0.2/24").expect("address");
    let directory = directory();
    let arguments = "--http 0.0.0.0:8080 --http-allow 10.9.0.128/25";
    let run = Mirror::ingest(&cable, directory.path(), arguments);
    let address = "10.9.0.2:8080";
    let stranger = Client::new(&cable.sender, address);
    stranger.is_well();
    assert_eq!(stranger.get("/live").0, 200);
    for path in ["/", "/report", "/metrics", "/other"] {
        assert_eq!(stranger.get(path).0, 403, "{path}");
    }
    detach_by_force(&run);
    let check = stranger.becomes("attached", "failed");
    assert_eq!(
        check,
        json!({
            "state": "failed", "cause": "an interface does not have this run's XDP program"
        })
    );
    // This host itself, over an address that is not loopback, is no exception; over loopback it is.
    let here = Client::new(&cable.target, address);
    assert_eq!(here.get("/report").0, 403);
    let loopback = Client::new(&cable.target, "127.0.0.1:8080");
    assert_eq!(loopback.get("/report").0, 200);
    cable.sender.ip(&format!("address del 10.9.0.1/24 dev {}", common::SENDER)).expect("address");
    cable.veth.a.address("10.9.0.200/24").expect("address");
    let answered = until("the allowed address is used", || {
        let (status, body) = stranger.get("/metrics");
        (status == 200).then_some(body)
    });
    assert!(answered.contains("mirror_xdp_seen_frames_total{interface=\"cap0\"}"), "{answered}");
    run.end_by(Signal::SIGINT).expect_code(0);
}

/// All counters of the last scrape are in the report.
#[test]
fn metrics_equal_the_report_at_the_end() {
    let cable = Cable::with_queues(2);
    let directory = directory();
    let path = directory.path();
    let run = watched(&cable, path, "-w out.pcapng --report report.json --vni 12345-12399");
    let client = Client::on_loopback(&cable);
    let traffic = Traffic { vnis: 100, cpus: vec![0, 1], ..Traffic::default() };
    common::mirror::burst_of(&cable, traffic, 20_000);
    // Until two scrapes are the same: everything is written and published.
    let mut before = BTreeMap::new();
    let counters = until("counters settle", || {
        let mut now = client.metrics();
        now.retain(|series, _| series.contains("_total") && !series.starts_with("process_"));
        thread::sleep(Duration::from_millis(1500));
        (std::mem::replace(&mut before, now.clone()) == now && now.values().sum::<f64>() > 0.0).then_some(now)
    });
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&path.join("report.json"));
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let total = |pointer: &str| number(report.pointer(pointer).unwrap_or(&Value::Null));
    let of = |family: &str, labels: &[&str]| -> f64 {
        let is = |series: &&String| series.starts_with(&format!("{family}{{")) || *series == family;
        let series = counters.iter().filter(|(series, _)| is(series));
        let with = series.filter(|(series, _)| labels.iter().all(|label| series.contains(label)));
        with.map(|(_, value)| value).sum()
    };
    let xdp = "/interfaces/0/xdp";
    assert_eq!(of("mirror_xdp_seen_frames_total", &[]), total(&format!("{xdp}/seen")));
    assert_eq!(of("mirror_xdp_frames_total", &[]), total(&format!("{xdp}/seen")), "each frame has a verdict");
    for (label, pointer) in [
        ("verdict=\"redirected\"", "redirected"),
        ("reason=\"vni\"", "dropped/vni"),
        ("reason=\"not_tunnel\"", "passed/not_tunnel"),
    ] {
        assert_eq!(of("mirror_xdp_frames_total", &[label]), total(&format!("{xdp}/{pointer}")), "{label}");
    }
    assert!(total(&format!("{xdp}/dropped/vni")) > 0.0);
    for queue in 0..2 {
        let label = format!("queue=\"{queue}\"");
        let entry = format!("/interfaces/0/queues/{queue}");
        assert_eq!(of("mirror_worker_frames_total", &[&label]), total(&format!("{entry}/received")));
        let lost = total(&format!("{entry}/rx_dropped")) + total(&format!("{entry}/rx_ring_full"));
        assert_eq!(of("mirror_kernel_lost_frames_total", &[&label]), lost);
    }
    let frames = of("mirror_frames_total", &["result=\"decapsulated\""]);
    assert_eq!(frames, total("/frames/decapsulated"));
    assert_eq!(of("mirror_bytes_total", &["headers=\"outer\""]), total("/frames/outer_bytes"));
    let pcap = sink(&report, "pcap");
    let written = of("mirror_sink_frames_total", &["sink=\"pcap\"", "result=\"written\""]);
    assert_eq!(written, number(&pcap["written"]));
    let origins = report["origins"].as_array().expect("origins");
    assert_eq!(origins.len(), 55);
    for origin in origins {
        let label = format!("vni=\"{}\"", origin["vni"]);
        assert_eq!(of("mirror_origin_frames_total", &[&label]), number(&origin["frames"]));
        assert_eq!(of("mirror_origin_bytes_total", &[&label]), number(&origin["inner_bytes"]));
    }
    assert_eq!(of("mirror_origins_unlisted_frames_total", &[]), 0.0);
}

/// Prometheus' own checker finds nothing in a live scrape.
#[test]
fn promtool_finds_nothing_in_a_live_scrape() {
    let cable = Cable::with_queues(2);
    let directory = directory();
    let run = watched(&cable, directory.path(), "-w out.pcapng --print --http-allow 10.0.0.0/8");
    let client = Client::on_loopback(&cable);
    burst(&cable, 5_000);
    run.has(2_000);
    let (status, text) = client.get("/metrics");
    assert_eq!(status, 200);
    let mut promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    for family in ["process_cpu_seconds_total", "process_open_fds", "process_start_time_seconds"] {
        assert!(series(&text)[family] > 0.0, "{family}");
    }
    run.end_by(Signal::SIGINT).expect_code(0);
}

/// Slow, hostile and many clients, for as long as `stop` is not set; returns how many were connected.
fn attack(client: &Client, stop: &AtomicBool) -> u64 {
    let connected = AtomicU64::new(0);
    let connect = || {
        let stream = client.connect().ok()?;
        connected.fetch_add(1, Ordering::Relaxed);
        Some(stream)
    };
    let going = || !stop.load(Ordering::Relaxed);
    thread::scope(|scope| {
        // Slowloris: a byte at a time, on many connections.
        scope.spawn(|| {
            let mut slow = Vec::new();
            while going() {
                slow.extend(connect());
                for stream in &mut slow {
                    let _: Result<_, _> = stream.write(b"X");
                }
                slow.truncate(200);
                thread::sleep(Duration::from_millis(5));
            }
        });
        // A thousand connections that say nothing.
        scope.spawn(|| {
            while going() {
                let silent: Vec<_> = (0..1_000).take_while(|_| going()).filter_map(|_| connect()).collect();
                drop(silent);
            }
        });
        // Garbage, and requests that are too long.
        scope.spawn(|| {
            let garbage: Vec<u8> = (0..=250).cycle().map(|byte: u8| byte ^ 0x5a).take(40_000).collect();
            while going() {
                if let Some(mut stream) = connect() {
                    let _: Result<_, _> = stream.write_all(&garbage);
                }
            }
        });
        // Scrapes, one after the other; some are turned away.
        scope.spawn(|| {
            while going() {
                for path in ["/metrics", "/report", "/health", "/"] {
                    if let Some(mut stream) = connect() {
                        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                        let _: Result<_, _> = stream.write_all(request.as_bytes());
                        let _: Result<_, _> = stream.read_to_end(&mut Vec::new());
                    }
                }
            }
        });
    });
    connected.into_inner()
}

/// The CPU of the generator, and that of all others: the worker, the thread that answers, and its clients.
const SENDING: usize = 0;
const SHARED: usize = 1;

/// Leaves the calling thread, and those that it starts, on the shared CPU; clients with what others do not
/// need of it, so that the server's share is compared and not theirs.
fn share_cpu(clients: bool) {
    let mut cpus = CpuSet::new();
    cpus.set(SHARED).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus)).expect("a CPU");
    if clients {
        rustix::process::setpriority_process(None, 19).expect("a lower priority");
    }
}

/// A time of constant traffic.
#[derive(Clone, Copy, Debug)]
struct Window {
    sent: u64,
    lost: u64,
    /// Frames a second, as they were sent in fact.
    rate: f64,
}

impl Window {
    const SECONDS: u64 = 2;

    /// Sends for that long.
    fn open(cable: &Cable, run: &Mirror, rate: u64) -> Self {
        let before = run.frames();
        let traffic = Traffic { rate: Some(rate), cpus: vec![SENDING], ..Traffic::default() };
        let generator = cable.generator(traffic);
        let generated = thread::scope(|scope| {
            let sends = || {
                // It stands for a network card: no program takes its time.
                rustix::process::setpriority_process(None, -20).expect("a higher priority");
                generator.send(rate * Self::SECONDS).expect("generated")
            };
            scope.spawn(sends).join().expect("generated")
        });
        let lost = generated.total() - (run.settled() - before);
        Self { sent: generated.total(), lost, rate: generated.sending_rate }
    }

    /// A thousandth: what another program on this host may cost.
    fn tolerance(self) -> u64 {
        self.sent / 1_000
    }
}

/// At the highest rate without losses, of 1 million frames a second at most, clients of any kind cause none,
/// although they and the server share the worker's CPU, and no balancer takes the run for unhealthy. Windows
/// with and without clients alternate, and their medians are compared: what else runs on this host costs
/// either of them.
#[test]
fn slow_hostile_and_many_clients_cost_no_packets() {
    const RATES: [u64; 5] = [1_000_000, 500_000, 250_000, 120_000, 60_000];
    const ROUNDS: usize = 5;
    OpenFiles::raise(4096).expect("a thousand connections");
    let cable = Cable::with_queues(1);
    let directory = directory();
    // The run inherits the CPU.
    let run = thread::scope(|scope| {
        let start = || {
            share_cpu(false);
            let arguments = format!("--cpus {SHARED} --http {LOOPBACK} --report report.json");
            Mirror::ingest(&cable, directory.path(), &arguments)
        };
        scope.spawn(start).join().expect("started")
    });
    let client = Client::on_loopback(&cable);
    client.is_well();
    burst(&cable, 1_000);
    run.settled();
    let is_taken = |rate: &&u64| {
        let windows: [_; 2] = std::array::from_fn(|_| Window::open(&cable, &run, **rate));
        windows.iter().all(|window| window.lost <= window.tolerance())
    };
    let rate = *RATES.iter().find(is_taken).unwrap_or(RATES.last().expect("rates"));
    let mut windows = [const { Vec::new() }; 2];
    let (mut connections, mut checks, mut failed) = (0, 0, 0);
    for _ in 0..ROUNDS {
        windows[0].push(Window::open(&cable, &run, rate));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let attackers = scope.spawn(|| {
                share_cpu(true);
                attack(&client, &stop)
            });
            let checker = scope.spawn(|| {
                share_cpu(false);
                let (mut checks, mut failed, mut in_a_row) = (0, 0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.ask("/health");
                    let passed = answer.as_ref().is_ok_and(|(status, _)| *status == 200);
                    in_a_row = if passed { 0 } else { in_a_row + 1 };
                    // No balancer takes a target out for one.
                    assert!(in_a_row < 2, "{answer:?}");
                    (checks, failed) = (checks + 1, failed + u64::from(!passed));
                    thread::sleep(Duration::from_millis(100));
                }
                [checks, failed]
            });
            windows[1].push(Window::open(&cable, &run, rate));
            stop.store(true, Ordering::Relaxed);
            connections += attackers.join().expect("clients");
            let counts: [u64; 2] = checker.join().expect("health checks");
            (checks, failed) = (checks + counts[0], failed + counts[1]);
        });
    }
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["residue 0"]);
    balanced_report(&directory.path().join("report.json"));
    for (windows, kind) in windows.iter().zip(["without clients", "with clients"]) {
        let each = windows.iter().map(|window| format!("{} at {:.0} pps", window.lost, window.rate));
        println!("{kind}, lost of {}: {}", rate * Window::SECONDS, each.collect::<Vec<_>>().join(", "));
    }
    println!("{connections} connections of clients; of {checks} health checks {failed} failed");
    assert!(connections > 1_000, "{connections}");
    let tolerance = windows[0][0].tolerance();
    let [without, with] = windows.map(|mut windows| {
        windows.sort_unstable_by_key(|window| window.lost);
        windows[ROUNDS / 2].lost
    });
    assert!(with <= without + tolerance, "{with} lost, {without} without clients");
}

/// The thread that strangers talk to, as `/proc` shows it; what its filter denies is tried in unit tests.
#[test]
fn the_http_thread_holds_no_capability_and_is_filtered() {
    let cable = Cable::with_queues(1);
    let directory = directory();
    let run = watched(&cable, directory.path(), "--sandbox require -w out.pcapng");
    let all = threads(run.pid());
    let (_, fields) = all.iter().find(|(name, _)| name == "mirror-http").expect("its thread");
    assert_eq!((fields["Seccomp"], fields["NoNewPrivs"]), (2, 1));
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"] {
        assert_eq!(fields[set], 0, "{set}");
    }
    run.end_by(Signal::SIGINT).expect_code(0);
}

/// The page in a browser: its figures change under load, and are those of the report at rest. Its policy
/// refuses nothing of its own.
#[test]
fn chromium_shows_figures_that_change_under_load_and_equal_the_report() {
    let cable = Cable::with_queues(2);
    let directory = directory();
    let path = directory.path();
    // A name that would be an element if it were inserted as such.
    let sinks = "[[sink]]\nname = '<img src=x onerror=alert(1)>'\nwrite = 'out.pcapng'\n";
    fs::write(path.join("sinks.toml"), sinks).expect("written");
    let run = watched(&cable, path, "--config sinks.toml");
    let client = Client::on_loopback(&cable);
    // The browser's clock does not wait for the page's pauses: turns take as long as their requests.
    let look = |turns: u32, more: &[&str]| {
        let output = cable
            .target
            .command("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"])
            .args(["--enable-logging=stderr", "--window-size=1280,1500"])
            .arg(format!("--virtual-time-budget={}", turns * 1000))
            .arg(format!("--user-data-dir={}", path.join("profile").display()))
            .args(more)
            .arg(format!("http://{LOOPBACK}/"))
            .env("HOME", path)
            .stdin(Stdio::null())
            .output()
            .expect("chromium");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("Refused to") && !said.contains("Content Security Policy"), "{said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let figure = |page: &str, id: &str| {
        let (_, rest) = page.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("{id} in {page}"));
        let (_, rest) = rest.split_once('>').expect("an element");
        rest.split_once('<').expect("its text").0.replace(',', "")
    };
    let traffic = Traffic { rate: Some(20_000), vnis: 7, ..Traffic::default() };
    let generator = cable.generator(traffic).start(u64::MAX);
    let first = look(5, &["--dump-dom"]);
    let picture = path.join("page.png");
    look(100, &[&format!("--screenshot={}", picture.display())]);
    // A rate takes two reports, which are a second apart.
    let second = until("the page shows a rate", || {
        let page = look(100, &["--dump-dom"]);
        let rate = figure(&page, "rate");
        (rate.ends_with("pps") && rate != "0 pps" && page.contains("<polyline")).then_some(page)
    });
    generator.stop().expect("generated");
    let received = |page: &str| figure(page, "received").parse::<u64>().expect("a number");
    assert!(0 < received(&first) && received(&first) < received(&second), "{second}");
    let rate = figure(&second, "rate");
    assert!(rate.ends_with("pps") && rate != "0 pps", "{rate}");
    assert!(second.contains("<polyline"), "the rates are drawn");
    assert!(picture.metadata().expect("a picture").len() > 10_000);
    if let Some(folder) = std::env::var_os("MIRROR_PICTURES") {
        fs::copy(&picture, Path::new(&folder).join("page.png")).expect("copied");
    }
    // At rest.
    run.settled();
    thread::sleep(Duration::from_secs(3));
    let page = look(5, &["--dump-dom"]);
    let report: Value = serde_json::from_str(&client.get("/report").1).expect("JSON");
    assert_eq!(received(&page), report["frames"]["received"].as_u64().expect("a count"));
    assert_eq!(
        figure(&page, "origin-count"),
        report["origins"].as_array().expect("origins").len().to_string()
    );
    assert_eq!(figure(&page, "status"), "ok");
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;") && !page.contains("<img"), "{page}");
    run.end_by(Signal::SIGINT).expect_code(0);
}
