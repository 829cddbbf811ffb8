//! How workers compete for their CPUs: the scheduling policy of each thread of a run, with privileges and
//! without, and what happens to a worker that does not stop running. Needs root.

mod common;

use std::{
    fs, hint,
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::{
    CAPTURE, Cable, assert_balanced, builder,
    mirror::{MIRROR, Mirror, balanced_report, inject, until},
};
use mirror_user::{
    Batch,
    engine::Priority,
    host::scheduling::{end_realtime, limit_realtime},
    sink::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext},
};
use nix::{
    sys::signal::Signal,
    unistd::{Pid, getpid},
};
use serde_json::Value;
use signal_hook::{consts::SIGXCPU, iterator::Signals};

/// `SCHED_OTHER` and `SCHED_FIFO` of sched(7).
const OTHER: i64 = 0;
const FIFO: i64 = 1;

/// Of each thread: its name, policy, real-time priority and nice level, from `/proc/PID/task/TID/stat`.
fn scheduling(process: Pid) -> Vec<(String, [i64; 3])> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("tasks");
    tasks
        .filter_map(|task| fs::read_to_string(task.expect("task").path().join("stat")).ok())
        .map(|stat| {
            let (name, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
            let (_, name) = name.split_once('(').expect("a name in parentheses");
            // Field 3 of proc_pid_stat(5) is the first after the name.
            let fields: Vec<_> = fields.split_ascii_whitespace().collect();
            let field = |number: usize| fields[number - 3].parse().expect("a number");
            (name.to_owned(), [field(41), field(40), field(19)])
        })
        .collect()
}

/// Workers have this policy, priority and nice level; all other threads are ordinary ones, and those for
/// commands of `-z` have the lowest priority.
#[track_caller]
fn assert_scheduled(process: Pid, workers: [i64; 3]) {
    let threads = scheduling(process);
    let is_worker = |name: &str| name.starts_with('q');
    assert_eq!(threads.iter().filter(|(name, _)| is_worker(name)).count(), 2, "{threads:?}");
    for (name, found) in &threads {
        let wanted = match name.as_str() {
            name if is_worker(name) => workers,
            "mirror-z" => [OTHER, 0, 19],
            _ => [OTHER, 0, 0],
        };
        assert_eq!(*found, wanted, "policy, priority and nice level of {name}: {threads:?}");
    }
}

/// The worker's entry in the report of each queue.
fn of_queues<'a>(report: &'a Value, field: &str) -> Vec<&'a Value> {
    let queues = report["interfaces"][0]["queues"].as_array().expect("queues");
    queues.iter().map(|queue| &queue[field]).collect()
}

/// `mirror ingest` on the capture interface, started by a command.
fn started_by(cable: &Cable, start: &[&str], arguments: &str) -> Command {
    let (first, others) = start.split_first().expect("a command");
    let mut command = cable.target.command(first);
    command
        .args(others)
        .args([MIRROR, "ingest", "-i", CAPTURE, "--stats", "1h"])
        .args(arguments.split_ascii_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Runs with these arguments, started by the command, while frames go to each kind of output; its workers are
/// scheduled so, and the report says that.
fn runs(cable: &Cable, path: &Path, start: &[&str], arguments: &str, workers: [i64; 3], reported: &str) {
    let outputs = "-w out.pcapng -z true --forward tap:ids0 --report report.json";
    let mut command = started_by(cable, start, &format!("{outputs} {arguments}"));
    command.current_dir(path);
    let run = Mirror::start(command).attached(cable);
    inject(cable, 10);
    run.has(10);
    assert_scheduled(run.pid(), workers);
    let ending = run.end_by(Signal::SIGINT).expect_code(0);
    let has_warned = ending.said.contains("not real-time priority");
    let is_fallback = arguments.is_empty() && reported != "realtime";
    assert_eq!(has_warned, is_fallback, "{}", ending.said);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(of_queues(&report, "priority"), [reported, reported]);
    for file in ["out.pcapng", "report.json"] {
        fs::remove_file(path.join(file)).expect("file");
    }
}

#[test]
fn workers_are_real_time_and_no_other_thread_is() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("for every user");
    for (arguments, workers, reported) in [
        ("", [FIFO, 1, 0], "realtime"),
        ("-Z nobody", [FIFO, 1, 0], "realtime"),
        ("--priority realtime", [FIFO, 1, 0], "realtime"),
        ("--priority nice", [OTHER, 0, -20], "nice"),
        ("--priority normal", [OTHER, 0, 0], "normal"),
        // Workers that never sleep, only if asked.
        ("--wait spin", [OTHER, 0, 0], "normal"),
    ] {
        runs(&cable, path, &["env"], arguments, workers, reported);
    }
}

/// Without CAP_SYS_NICE, and without CAP_SYS_RESOURCE, with which mirror would raise the limits.
fn limited(realtime: &'static str, nice: &'static str) -> [&'static str; 5] {
    let capabilities = "--bounding-set=-sys_nice,-sys_resource";
    ["prlimit", realtime, nice, "setpriv", capabilities]
}

#[test]
fn without_capability_and_limit_a_run_says_so_or_does_not_start() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let neither = limited("--rtprio=0", "--nice=0");
    runs(&cable, directory.path(), &neither, "", [OTHER, 0, 0], "normal");
    for (priority, remedy) in [("realtime", "LimitRTPRIO=1"), ("nice", "LimitNICE=-20")] {
        let command = started_by(&cable, &neither, &format!("--priority {priority}"));
        let ending = Mirror::start(command).end().expect_code(1);
        ending.expect_words(&["cap0", "priority", "Operation not permitted", remedy, "--priority"]);
    }
}

#[test]
fn limit_of_real_time_priority_or_nice_level_is_enough() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    runs(&cable, path, &limited("--rtprio=1", "--nice=0"), "", [FIFO, 1, 0], "realtime");
    runs(&cable, path, &limited("--rtprio=0", "--nice=40"), "", [OTHER, 0, -20], "nice");
}

/// As the kernel sends it when a worker has run for too long.
#[test]
fn xcpu_ends_real_time_and_the_run_continues() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(&cable, path, "-w out.pcapng --report report.json");
    assert_scheduled(run.pid(), [FIFO, 1, 0]);
    run.signal(Signal::SIGXCPU);
    run.says("ordinary priority");
    assert_scheduled(run.pid(), [OTHER, 0, 0]);
    inject(&cable, 10);
    run.has(10);
    run.end_by(Signal::SIGINT).expect_code(0);
    balanced_report(&path.join("report.json"));
    // Without a real-time thread it is the limit of the process's CPU time.
    let run = Mirror::ingest(&cable, path, "--priority normal --report again.json");
    run.signal(Signal::SIGXCPU);
    run.end().expect_code(0);
    balanced_report(&path.join("again.json"));
}

/// Keeps its worker for a second, without sleeping, at the first batch.
#[derive(Default)]
struct Hang;

struct Hanging {
    written: u64,
}

impl SinkFactory for Hang {
    fn name(&self) -> &str {
        "hang"
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Hanging { written: 0 }))
    }
}

impl Sink for Hanging {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let start = Instant::now();
        while self.written == 0 && start.elapsed() < Duration::from_secs(1) {
            hint::spin_loop();
        }
        self.written += batch.len() as u64;
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.written, ..SinkStats::default() }
    }
}

/// The kernel's own signal: a worker that hangs in a sink loses its real-time priority after the time that
/// was set, and the run is whole.
#[test]
fn a_worker_that_hangs_does_not_keep_its_real_time_priority() {
    let cable = Cable::with_queues(2);
    let mut signals = Signals::new([SIGXCPU]).expect("signals");
    let handle = signals.handle();
    let ended = thread::spawn(move || {
        let mut ended = Vec::new();
        for _ in &mut signals {
            ended.push(end_realtime().expect("ordinary priority"));
        }
        ended
    });
    match limit_realtime(Duration::from_millis(200)) {
        // Root of a container cannot raise RLIMIT_RTPRIO; RLIMIT_RTTIME is set.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        limited => limited.expect("limits"),
    }
    let running = cable.engine(builder().priority(Priority::Realtime).sink(Arc::new(Hang)));
    assert_scheduled(getpid(), [FIFO, 1, 0]);
    inject(&cable, 1);
    until("the worker that hangs has lost its priority", || {
        let threads = scheduling(getpid());
        threads.iter().all(|(_, found)| found[0] == OTHER).then_some(())
    });
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!(report.sinks[0].written, 1);
    handle.close();
    let ended = ended.join().expect("the thread of signals");
    assert_eq!(ended.first(), Some(&2), "each worker: {ended:?}");
}
