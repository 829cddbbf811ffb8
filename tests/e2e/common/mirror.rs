//! The `mirror` command on the capture end of a veth pair: started, signalled and read as its user does it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    num::NonZeroU32,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};
use mirror_lab::{
    Generator, Injector, Namespace, Traffic,
    capture::{self, CaptureFile},
    frames::{Outer, inner_udp},
    guest, tshark,
};
use mirror_user::Report;
use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;

use super::{CAPTURE, Cable, SENDER};

/// The command under test.
pub(crate) const MIRROR: &str = env!("CARGO_BIN_EXE_mirror");
/// How long anything may take before it counts as a hang, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);
/// VNI of [`frames`].
pub(crate) const VNI: u32 = 12345;

/// Polls until there is a value.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_saying(|| what.to_owned(), look)
}

/// The same, with a failure message that is known only then.
fn until_saying<T>(what: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {}", what());
        thread::sleep(Duration::from_millis(20));
    }
}

/// A running `mirror`. Killed when dropped before its end.
pub(crate) struct Mirror {
    child: Child,
    /// The process that has the run now, if that is not the one that was started.
    successor: Option<Pid>,
    said: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) status: ExitStatus,
    /// All of standard error.
    pub(crate) said: String,
}

/// `mirror` with these arguments, separated by blanks, in the target's namespace and in this directory.
pub(crate) fn mirror(cable: &Cable, directory: &Path, arguments: &str) -> Command {
    mirror_in(&cable.target, directory, arguments)
}

/// The same in another namespace.
pub(crate) fn mirror_in(namespace: &Namespace, directory: &Path, arguments: &str) -> Command {
    let mut command = namespace.command(MIRROR);
    command
        .args(arguments.split_ascii_whitespace())
        .current_dir(directory)
        // A line every 10 s would mix with requested ones.
        .env_remove("MIRROR_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// `mirror ingest` on the capture interface.
pub(crate) fn ingest(cable: &Cable, directory: &Path, arguments: &str) -> Command {
    mirror(cable, directory, &format!("ingest -i {CAPTURE} --stats 1h {arguments}"))
}

impl Mirror {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("mirror starts");
        let said = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().expect("standard error"));
        let listener = thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in stderr.lines() {
                    let line = line.expect("standard error is text");
                    let mut said = said.lock().expect("said");
                    said.push_str(&line);
                    said.push('\n');
                }
            }
        });
        Self { child, successor: None, said, listener: Some(listener) }
    }

    /// Starts `mirror ingest` on the capture interface and waits until its program is attached.
    pub(crate) fn ingest(cable: &Cable, directory: &Path, arguments: &str) -> Self {
        Self::start(ingest(cable, directory, arguments)).attached(cable)
    }

    /// The same with standard output to a pipe, whose other end is returned.
    pub(crate) fn ingest_to_pipe(cable: &Cable, directory: &Path, arguments: &str) -> (Self, ChildStdout) {
        let mut command = ingest(cable, directory, arguments);
        command.stdout(Stdio::piped());
        let mut run = Self::start(command).attached(cable);
        let reader = run.child.stdout.take().expect("standard output is piped");
        (run, reader)
    }

    /// Waits until its program is attached to the capture interface.
    pub(crate) fn attached(self, cable: &Cable) -> Self {
        self.attached_to(&cable.target, CAPTURE)
    }

    /// Waits until its program is attached to this interface.
    pub(crate) fn attached_to(mut self, namespace: &Namespace, interface: &str) -> Self {
        let said = Arc::clone(&self.said);
        let what = || format!("mirror attaches, having said\n{}", said.lock().expect("said"));
        until_saying(what, || {
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("mirror ended with {status} before it was attached:\n{}", self.said());
            }
            program_on(namespace, interface)
        });
        self
    }

    pub(crate) fn pid(&self) -> Pid {
        self.successor.unwrap_or_else(|| Pid::from_raw(self.child.id().cast_signed()))
    }

    /// `mirror upgrade`, which must succeed; returns what it prints.
    #[track_caller]
    pub(crate) fn upgrade(&mut self) -> Value {
        self.upgrade_with(&[])
    }

    /// The same with these flags.
    #[track_caller]
    pub(crate) fn upgrade_with(&mut self, flags: &[&str]) -> Value {
        // The new process is then a child of this one, whose end it can wait for.
        nix::sys::prctl::set_child_subreaper(true).expect("a subreaper");
        let before = self.pid();
        let output = Command::new(MIRROR).args(["upgrade", "--json"]).args(flags).output();
        let output = output.expect("mirror runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{}", self.said());
        let upgraded: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let ended = waitpid(before, None).expect("the process before ends");
        assert_eq!(ended, WaitStatus::Exited(before, 0), "{}", self.said());
        let pid = upgraded["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process id");
        self.successor = Some(Pid::from_raw(pid));
        upgraded
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("mirror can be signalled");
    }

    /// Stops one of its threads, as a tracer does, for as long as the calling thread lives and until it is
    /// [let run](let_run) again.
    pub(crate) fn stop_thread(&self, name: &str) -> Pid {
        stop_thread(self.pid(), name)
    }

    /// Its standard error until now.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("said").clone()
    }

    /// Waits until its standard error has this text.
    pub(crate) fn says(&self, words: &str) {
        let wanted = || format!("mirror says {words:?}, but: {}", self.said());
        until_saying(wanted, || self.said().contains(words).then_some(()));
    }

    /// Does something, and waits until its standard error has this text once more than before.
    pub(crate) fn says_after(&self, words: &str, act: impl FnOnce()) {
        let times = || self.said().matches(words).count();
        let before = times();
        act();
        let wanted = || format!("mirror says {words:?} once more than {before} times, but: {}", self.said());
        until_saying(wanted, || (times() > before).then_some(()));
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// The statistics line that it prints on USR1.
    pub(crate) fn statistics(&self) -> String {
        let line = |nth: usize| {
            self.said().lines().filter(|line| frames_in(line).is_some()).nth(nth).map(str::to_owned)
        };
        let before = self.said().lines().filter_map(frames_in).count();
        self.signal(Signal::SIGUSR1);
        until("mirror answers USR1", || line(before))
    }

    /// Decapsulated frames in its statistics.
    pub(crate) fn frames(&self) -> u64 {
        frames_in(&self.statistics()).expect("a number of frames")
    }

    /// Waits until it has decapsulated at least this many frames.
    pub(crate) fn has(&self, frames: u64) {
        let mut last = 0;
        until("the frames arrive", || {
            last = self.frames();
            (last >= frames).then_some(())
        });
    }

    /// Decapsulated frames, once there are some and their number no longer changes.
    pub(crate) fn settled(&self) -> u64 {
        let mut last = 0;
        until("frames arrive and stop", || {
            let before = std::mem::replace(&mut last, self.frames());
            thread::sleep(Duration::from_millis(200));
            (last > 0 && last == before).then_some(last)
        })
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ending {
        let status = match self.successor.take() {
            None => until("mirror ends", || self.child.try_wait().expect("wait")),
            Some(pid) => until("mirror ends", || match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << 8)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::from_raw(signal as i32)),
                status => {
                    assert_eq!(status, Ok(WaitStatus::StillAlive));
                    None
                }
            }),
        };
        // Standard error ends with the process: no other process has it.
        self.listener.take().expect("listener").join().expect("standard error");
        let said = self.said();
        // In no run may a thread lack a system call that it needs.
        assert!(!said.contains("sandbox: system call"), "{said}");
        Ending { status, said }
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end_by(self, signal: Signal) -> Ending {
        self.signal(signal);
        self.end()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // A run that has ended has been waited for.
        if let Some(successor) = self.successor {
            let _ = kill(successor, Signal::SIGKILL);
            let _ = waitpid(successor, None);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Stops a thread of a process, as [`Mirror::stop_thread`] does.
pub(crate) fn stop_thread(process: Pid, name: &str) -> Pid {
    let thread = thread_named(process, name);
    ptrace::seize(thread, ptrace::Options::empty()).expect("the thread is traced");
    ptrace::interrupt(thread).expect("the thread is stopped");
    let stopped = waitpid(thread, Some(WaitPidFlag::__WALL)).expect("the thread stops");
    assert!(matches!(stopped, WaitStatus::PtraceEvent(..)), "{stopped:?}");
    thread
}

/// A thread of a process, by name.
fn thread_named(process: Pid, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("tasks");
    let task = tasks
        .map(|task| task.expect("task"))
        .find(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
    let task = task.unwrap_or_else(|| panic!("no thread {name} in {process}"));
    Pid::from_raw(task.file_name().to_str().expect("UTF-8").parse().expect("thread id"))
}

/// Lets a thread run that was [stopped](Mirror::stop_thread).
pub(crate) fn let_run(thread: Pid) {
    ptrace::detach(thread, None).expect("the thread runs again");
}

fn frames_in(line: &str) -> Option<u64> {
    line.split_once(" s: ")?.1.split_once(" frames, ")?.0.parse().ok()
}

impl Ending {
    /// Fails the test unless this is the exit code.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}:\n{}", self.status, self.said);
        self
    }

    /// Fails the test unless standard error has each of these.
    #[track_caller]
    pub(crate) fn expect_words(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.said.contains(word), "{word:?} is missing in:\n{}", self.said);
        }
        self
    }
}

/// The id of the XDP program on the capture interface.
pub(crate) fn program(cable: &Cable) -> Option<u64> {
    program_on(&cable.target, CAPTURE)
}

fn program_on(namespace: &Namespace, interface: &str) -> Option<u64> {
    let shown = namespace.ip(&format!("-json link show dev {interface}")).expect("link");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown.pointer("/0/xdp").map(|xdp| xdp.pointer("/prog/id").and_then(Value::as_u64).expect("program id"))
}

/// Programs, maps and links that the kernel has.
pub(crate) fn in_kernel() -> [usize; 3] {
    [loaded_programs().count(), loaded_maps().count(), loaded_links().count()]
}

/// Everything about the capture interface that a run might change, as `ip` and `ethtool` print it.
pub(crate) fn state(cable: &Cable) -> [String; 4] {
    let tunable = |name: &str| {
        let file = format!("/sys/class/net/{CAPTURE}/{name}");
        mirror_lab::run(cable.target.command("cat").arg(file)).expect("setting of the interface")
    };
    let link = || cable.target.ip(&format!("-details -json link show dev {CAPTURE}")).expect("link");
    // The kernel reports this of an interface that has just come up, until its link watch has run.
    let deadline = Instant::now() + Duration::from_secs(2);
    while link().contains("\"operstate\":\"UNKNOWN\"") && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    [
        link(),
        mirror_lab::run(cable.target.command("ethtool").args(["-k", CAPTURE])).expect("features"),
        tunable("napi_defer_hard_irqs"),
        tunable("gro_flush_timeout"),
    ]
}

/// The settings that busy polling changes.
pub(crate) fn tunables(cable: &Cable) -> [String; 2] {
    ["napi_defer_hard_irqs", "gro_flush_timeout"].map(|name| {
        let file = format!("/sys/class/net/{CAPTURE}/{name}");
        let value = mirror_lab::run(cable.target.command("cat").arg(file)).expect("setting");
        value.trim().to_owned()
    })
}

pub(crate) fn set_tunables(cable: &Cable, values: [&str; 2]) {
    let [defer, timeout] = values;
    let at = format!("/sys/class/net/{CAPTURE}");
    let script = format!("echo {defer} > {at}/napi_defer_hard_irqs; echo {timeout} > {at}/gro_flush_timeout");
    mirror_lab::run(cable.target.command("sh").args(["-ec", &script])).expect("settings");
}

/// `/proc` about each thread: its name, capability sets, no_new_privs, and whether its system calls are
/// filtered (2) or not (0).
pub(crate) fn threads(process: Pid) -> Vec<(String, BTreeMap<String, u64>)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("tasks");
    tasks
        .filter_map(|task| fs::read_to_string(task.expect("task").path().join("status")).ok())
        .map(|status| {
            let fields: BTreeMap<_, _> = status.lines().filter_map(|line| line.split_once(":\t")).collect();
            let sets =
                ["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd", "NoNewPrivs", "Seccomp"].map(|name| {
                    (name.to_owned(), u64::from_str_radix(fields[name].trim(), 16).expect("hexadecimal"))
                });
            (fields["Name"].to_owned(), sets.into())
        })
        .collect()
}

/// Names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort_unstable();
    names
}

/// A report with residue 0.
#[track_caller]
pub(crate) fn balanced_report(file: &Path) -> Value {
    let text = fs::read_to_string(file).expect("report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report.pointer("/accounting/residue"), Some(&Value::from(0)), "{text}");
    report
}

/// Frames that the kernel has sent to a target, by its position; 0 on the user path.
#[track_caller]
pub(crate) fn sent_by_kernel(report: &Value, target: usize) -> u64 {
    let sent = report.pointer(&format!("/interfaces/0/forward_path/targets/{target}/sent"));
    sent.map_or(0, |sent| sent.as_u64().expect("a count"))
}

/// A sink of a report.
#[track_caller]
pub(crate) fn sink<'a>(report: &'a Value, name: &str) -> &'a Value {
    let sinks = report["sinks"].as_array().expect("sinks");
    sinks.iter().find(|sink| sink["name"] == name).unwrap_or_else(|| panic!("no sink {name} in {report:#}"))
}

/// A capture file that our parser and tshark read to its end. Guests have no tshark; there only our parser.
#[track_caller]
pub(crate) fn whole_capture(file: &Path) -> CaptureFile {
    let capture = readable_capture(file);
    assert!(!capture.torn, "{} ends within a block", file.display());
    if !guest::is_guest() {
        assert_eq!(tshark::malformed(file).expect("tshark"), "");
    }
    capture
}

/// A capture file up to its last whole block.
#[track_caller]
pub(crate) fn readable_capture(file: &Path) -> CaptureFile {
    capture::read(file).expect("capture file")
}

/// Numbered mirrored frames, and their inner frames.
pub(crate) fn frames(count: u32) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let ends = [([10, 0, 0, 1].into(), 49152), ([10, 0, 0, 2].into(), 9)];
    let inner = |number: u32| inner_udp(ends[0], ends[1], &number.to_be_bytes()).expect("inner frame");
    let inner: Vec<_> = (0..count).map(inner).collect();
    let outer =
        inner.iter().map(|inner| Outer::sample(VNI).encapsulate(inner).expect("outer frame")).collect();
    (outer, inner)
}

/// Sends frames one by one to a run that writes `out.pcapng` in this directory, and USR2, until one frame is
/// in the file early; returns the inner ones and the hidden name of the file.
///
/// A frame stays in its block for at least 900 ms, unless the block is full: a frame that is in the file
/// earlier was flushed. One round of twenty proves it; a machine that never writes within that time proves
/// nothing.
#[track_caller]
pub(crate) fn flush_by_usr2(
    run: &Mirror,
    directory: &Path,
    mut send: impl FnMut(&[u8]),
) -> (Vec<Vec<u8>>, PathBuf) {
    const ROUNDS: u32 = 20;
    const EARLY: Duration = Duration::from_millis(600);
    let hidden = directory.join(".out.pcapng.partial");
    let (outer, mut inner) = frames(ROUNDS);
    // By then signals are handled.
    until("the file begins", || hidden.metadata().is_ok_and(|file| file.len() > 0).then_some(()));
    for (sent, frame) in (1..).zip(&outer) {
        let start = Instant::now();
        send(frame);
        // A frame that reaches the block just after the signal misses the flush, so more follow.
        let flushed = until("the frame is in the file", || {
            if start.elapsed() < EARLY {
                run.signal(Signal::SIGUSR2);
                thread::sleep(Duration::from_millis(60));
            }
            (readable_capture(&hidden).packets.len() == sent).then_some(start.elapsed() < EARLY)
        });
        if flushed {
            inner.truncate(sent);
            return (inner, hidden);
        }
    }
    panic!("no frame was there before its time");
}

/// Sends frames to the capture interface and returns the inner ones.
pub(crate) fn inject(cable: &Cable, count: u32) -> Vec<Vec<u8>> {
    let (outer, inner) = frames(count);
    let injector = Injector::new(&cable.sender, SENDER).expect("injector");
    injector.send_all(&outer).expect("injected");
    inner
}

/// The same, so slowly that none is lost, on a busy machine neither.
pub(crate) fn inject_slowly(cable: &Cable, count: u32) {
    const RATE: NonZeroU32 = NonZeroU32::new(4_000).unwrap();
    let injector = Injector::new(&cable.sender, SENDER).expect("injector").pace(RATE);
    assert_eq!(injector.send_all(&frames(count).0).expect("injected"), u64::from(count));
}

/// Sends generated frames in bursts that fit a ring: few if any are lost, and no CPU is busy with pacing.
pub(crate) fn burst(cable: &Cable, frames: u64) {
    burst_of(cable, Traffic::default(), frames);
}

/// The same, with other frames.
pub(crate) fn burst_of(cable: &Cable, traffic: Traffic, frames: u64) {
    const BURST: u64 = 1_000;
    let generator = cable.generator(traffic);
    let mut left = frames;
    while left > 0 {
        let now = left.min(BURST);
        generator.send(now).expect("generated");
        left -= now;
    }
}

/// From this interface until it is stopped. Returns the frames sent.
pub(crate) fn send_until(
    cable: &Cable,
    interface: &str,
    traffic: &Traffic,
    rate: u64,
    stop: &AtomicBool,
) -> u64 {
    let traffic = Traffic { rate: Some(rate), ..traffic.clone() };
    let generator = Generator::load(&cable.sender, interface, traffic).expect("generator");
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        sent += generator.send(rate / 5).expect("generated").total();
    }
    sent
}

/// Sends for as long as something takes. Returns the frames sent.
pub(crate) fn send_while(cable: &Cable, traffic: &Traffic, rate: u64, what: impl FnOnce()) -> u64 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| send_until(cable, SENDER, traffic, rate, &stop));
        what();
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("sent")
    })
}

/// The reader of a run's standard output closes it after this many bytes: the sink ends, ingest continues,
/// and the end of the run reports it. `frames` are more than all buffers hold.
#[track_caller]
pub(crate) fn lose_reader(cable: &Cable, run: Mirror, mut reader: ChildStdout, bytes: usize, frames: u64) {
    inject(cable, 10);
    // As `head -c` does: reads some bytes, then closes.
    reader.read_exact(&mut vec![0; bytes]).expect("the head of the output");
    drop(reader);
    burst(cable, frames);
    run.says("sink stopped; ingest continues");
    let after_the_end = run.frames();
    burst(cable, frames);
    run.has(after_the_end + frames / 2);
    run.end_by(Signal::SIGINT).expect_code(1).expect_words(&[
        "standard output",
        "the reader has closed it",
        "residue 0",
    ]);
}

/// Frames that the kernel has dropped, by the live report.
pub(crate) fn dropped_by_kernel() -> u64 {
    let output = Command::new(MIRROR).args(["status", "--json"]).output().expect("mirror runs");
    let runs: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    kernel_drops(&runs[0]["report"])
}

pub(crate) fn kernel_drops(report: &Value) -> u64 {
    serde_json::from_value::<Report>(report.clone()).expect("a report").dropped_by_kernel()
}

/// A rate, in packets a second, and the frames that finding it took: 100,000, or the first of those in an
/// environment variable at which a run loses nothing of two seconds.
pub(crate) fn lossless_rate(cable: &Cable, run: &Mirror, variable: &str, traffic: &Traffic) -> (u64, u64) {
    let Ok(rates) = std::env::var(variable) else { return (100_000, 0) };
    let mut sent = 0;
    for rate in rates.split(',').map(|rate| rate.parse().expect("a rate")) {
        let before = dropped_by_kernel();
        let begun = Instant::now();
        let generator = cable.generator(Traffic { rate: Some(rate), ..traffic.clone() });
        let frames = generator.send(2 * rate).expect("generated").total();
        let attained = frames as f64 / begun.elapsed().as_secs_f64();
        sent += frames;
        run.settled();
        let lost = dropped_by_kernel() - before;
        println!("undisturbed, {attained:.0} packets a second: {lost} lost of {frames}");
        if lost == 0 {
            return (rate, sent);
        }
    }
    panic!("every rate of {rates} loses packets of an undisturbed run");
}

/// The last run left no trace on the interface, and another run with the same options works.
#[track_caller]
pub(crate) fn assert_next_run_works(cable: &Cable) {
    assert_eq!(program(cable), None, "a program was left behind");
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let run = Mirror::ingest(cable, path, "-c 10 -w next.pcapng --report next.json");
    let inner = inject(cable, 10);
    run.end().expect_code(0);
    assert_eq!(names(path), ["next.json", "next.pcapng"]);
    assert_eq!(whole_capture(&path.join("next.pcapng")).frames(), inner);
    balanced_report(&path.join("next.json"));
    assert_eq!(program(cable), None);
}
