//! `mirror` as a service, under the systemd that is PID 1 of the guest, with the unit and the configuration
//! of packages.

use std::{
    collections::BTreeSet,
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;

use super::{
    Verdict,
    card::Raised,
    numbered::{self, Sent},
    plan::{Frames, Scenario, Service},
};
use crate::{Injector, capture, command::run as run_command};

pub(super) const UNIT: &str = "mirror.service";
/// As packages have it, and where it is installed.
const PACKAGED: &str = "/vmtest/mirror.toml";
pub(super) const CONFIGURATION: &str = "/etc/mirror/mirror.toml";
pub(super) const OUTPUT: &str = "/var/lib/mirror";
const DROP_IN: &str = "/etc/systemd/system/mirror.service.d/vmtest.conf";
/// How long a state may take to come, on an emulated CPU.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// `RestartSec=` of the unit, and a moment.
const RESTART: Duration = Duration::from_secs(7);
/// Shorter than that of the unit, for the time that tests take.
const WATCHDOG: &str = "[Service]\nWatchdogSec=6s\n";

/// What was wrong, in words.
pub(super) type Checked<T> = Result<T, String>;

/// Carries out a scenario; the log of the service since its begin is among the papers.
pub(super) fn run(service: &Service, papers: &Path) -> Verdict {
    let verdict = match service.scenario {
        Scenario::RefusesDefault => refuses_default(),
        Scenario::Starts => starts(),
        Scenario::Reloads => reloads(),
        Scenario::Drains => drains(),
        Scenario::Killed => killed(),
        Scenario::WorkerHangs => worker_hangs(),
        Scenario::Hangs => hangs(),
        Scenario::Upgrades => upgrades(),
    };
    let shown = systemctl(&["status", "--no-pager", "--lines=40", UNIT]).unwrap_or_else(|said| said);
    let paper = papers.join(format!("{}.txt", super::file_stem(&service.name)));
    fs::write(&paper, shown).map_err(|error| format!("{}: {error}", paper.display()))?;
    verdict
}

/// Without an interface in the configuration: exit code 2, the line to edit, and no further start.
fn refuses_default() -> Verdict {
    let packaged = packaged()?;
    begin(&packaged)?;
    fails_once()
}

/// A start without an interface.
pub(super) fn fails_once() -> Verdict {
    let said = systemctl(&["start", UNIT]).err().ok_or("it starts with the default configuration")?;
    unless(property("Result")? == "exit-code" && property("ExecMainStatus")? == "2", || {
        format!("not exit code 2: {said}")
    })?;
    thread::sleep(RESTART);
    let (state, restarts) = (property("ActiveState")?, property("NRestarts")?);
    unless(state == "failed" && restarts == "0", || format!("{state} after {restarts} restarts"))?;
    let log = log()?;
    let named = log.lines().find(|line| line.contains("interface")).map(str::to_owned);
    named.ok_or_else(|| format!("the log does not name the key to set: {log}"))
}

/// It is active when it says so, with the rights that the unit and the configuration leave it.
fn starts() -> Verdict {
    let card = begin(&configured(&[])?)?;
    let start = Instant::now();
    systemctl(&["start", UNIT])?;
    let took = start.elapsed();
    let (state, sub, pid) = (property("ActiveState")?, property("SubState")?, pid()?);
    unless(state == "active" && sub == "running", || format!("{state} ({sub})"))?;
    let watchdog = property("WatchdogUSec")?;
    unless(!["0", "infinity"].contains(&watchdog.as_str()), || "the unit has no watchdog".into())?;
    unless(card.has_program(), || "READY=1 came before the program".into())?;
    let status = read(&PathBuf::from(format!("/proc/{pid}/status")))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_ascii_whitespace().next().unwrap_or_default().to_owned()
    };
    unless(field("Uid:") != "0" && field("NoNewPrivs:") == "1" && field("Seccomp:") == "2", || {
        format!("rights are left: {status}")
    })?;
    send(&card, &frames(&card, 500)?)?;
    wait_for(500)?;
    end()?;
    complete(500)?;
    let (took, user) = (took.as_secs_f64(), field("Uid:"));
    Ok(format!("ready after {took:.1} s, user {user}, watchdog {watchdog}, 500 frames"))
}

/// A reload changes what is selected, one that is refused changes nothing, and the process stays.
fn reloads() -> Verdict {
    let card = begin(&configured(&[])?)?;
    systemctl(&["start", UNIT])?;
    let before = pid()?;
    let frames = frames(&card, 200)?;
    send(&card, &frames)?;
    wait_for(200)?;
    write(CONFIGURATION, &configured(&[VNI])?)?;
    systemctl(&["reload", UNIT])?;
    send(&card, &frames)?;
    // Frames alternate between two VNIs.
    wait_for(300)?;
    write(CONFIGURATION, &configured(&[("#vni = \"12345,20000-20009\"", "vni = \"many\"")])?)?;
    let refused = systemctl(&["reload", UNIT]).err().ok_or("a VNI that is none is accepted")?;
    let (state, after) = (property("ActiveState")?, pid()?);
    unless(state == "active" && before == after, || format!("{state}, process {after}: {refused}"))?;
    send(&card, &frames)?;
    wait_for(400)?;
    end()?;
    complete(400)?;
    Ok("400 of 600 frames, the process stays".into())
}

/// Packets that come after the stop was asked for are taken, until none comes any more.
fn drains() -> Verdict {
    let card = begin(&configured(&[("drain-quiet = \"10s\"", "drain-quiet = \"3s\"")])?)?;
    systemctl(&["start", UNIT])?;
    let frames = Sent { pace: 400, ..frames(&card, 2_000)? };
    let stopped = thread::scope(|scope| {
        let sending = scope.spawn(|| send(&card, &frames).map(|()| Instant::now()));
        thread::sleep(Duration::from_secs(2));
        let asked = Instant::now();
        systemctl(&["stop", "--no-block", UNIT])?;
        until("it drains", || Ok((property("ActiveState")? == "deactivating").then_some(())))?;
        let sent = sending.join().map_err(|_| "the source ends early")??;
        until("it has ended", || Ok((property("ActiveState")? == "inactive").then_some(())))?;
        Ok::<_, String>((sent - asked, asked.elapsed()))
    });
    let (came, took) = stopped?;
    let (result, status) = (property("Result")?, property("ExecMainStatus")?);
    unless(result == "success" && status == "0", || format!("{result}, exit code {status}"))?;
    unless(!card.has_program(), || "its program is still there".into())?;
    complete(2_000)?;
    let (came, took) = (came.as_secs_f64(), took.as_secs_f64());
    Ok(format!("2000 frames, the last one {came:.1} s after the stop; over after {took:.1} s"))
}

/// It comes back by itself, and what the one before has left keeps it from nothing.
fn killed() -> Verdict {
    let card = begin(&configured(&[])?)?;
    systemctl(&["start", UNIT])?;
    send(&card, &frames(&card, 300)?)?;
    wait_for(300)?;
    let before = files()?;
    signal(pid()?, Signal::SIGKILL)?;
    let took = comes_back(|| ())?;
    let lost: Vec<_> = before.difference(&files()?).cloned().collect();
    unless(lost.is_empty(), || format!("files are gone: {lost:?}"))?;
    send(&card, &frames(&card, 200)?)?;
    wait_for(200)?;
    end()?;
    complete(200)?;
    Ok(format!("active again after {took:.1} s, {} file is left", before.len()))
}

/// A worker without a tick: the service is not well, although its main thread is.
fn worker_hangs() -> Verdict {
    let card = begin_with_watchdog()?;
    let thread = thread_named(pid()?, "q0-")?;
    let failed = |error: nix::Error| format!("thread {thread}: {error}");
    ptrace::seize(thread, ptrace::Options::empty()).map_err(failed)?;
    ptrace::interrupt(thread).map_err(failed)?;
    // Its tracer has to see the end of a thread, or it stays.
    let reap = || {
        let _goes_on = waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
    };
    watched(&card, reap)
}

/// All threads at once.
fn hangs() -> Verdict {
    let card = begin_with_watchdog()?;
    signal(pid()?, Signal::SIGSTOP)?;
    watched(&card, || ())
}

/// Another process goes on with the run, under the same unit, while frames arrive; the counts are those of
/// both. Before 6.4, whose kernels map the rings of a bound socket only once, it opens new sockets, and what
/// arrives meanwhile passes to the host and is counted.
fn upgrades() -> Verdict {
    const FRAMES: u32 = 2_000;
    let card = begin(&configured(&[])?)?;
    systemctl(&["start", UNIT])?;
    let before = pid()?;
    let frames = Sent { pace: 200, ..frames(&card, FRAMES)? };
    let upgraded = thread::scope(|scope| {
        let sending = scope.spawn(|| send(&card, &frames));
        thread::sleep(Duration::from_secs(2));
        let upgraded = run_command(Command::new("mirror").args(["upgrade", "mirror", "--json"]));
        let outlasted = sending.is_finished();
        sending.join().map_err(|_| "the source ends early")??;
        unless(!outlasted, || "no frame arrives after the upgrade".into())?;
        upgraded.map_err(|error| error.to_string())
    })?;
    until("systemd has the new main process", || Ok((pid()? != before).then_some(())))?;
    let (state, restarts) = (property("ActiveState")?, property("NRestarts")?);
    unless(state == "active" && restarts == "0", || format!("{state} after {restarts} restarts"))?;
    let report = until("every frame is accounted for", || {
        let report = report()?;
        let known = number(&report, TAKEN) + number(&report, PASSED);
        Ok((known == u64::from(FRAMES)).then_some(report))
    })?;
    let passed = number(&report, PASSED);
    let (warm, cold) = (number(&report, "/upgrades/count"), number(&report, "/upgrades/cold"));
    let cold_frames = number(&report, "/upgrades/cold_frames");
    let cold_ns = number(&json(&upgraded)?, "/cold_ns");
    let said = if hands_over()? {
        unless((warm, cold, passed) == (1, 0, 0), || format!("not without a gap: {report}"))?;
        format!("{FRAMES} frames, none lost")
    } else {
        unless((warm, cold, cold_frames) == (0, 1, passed), || format!("the gap is not counted: {report}"))?;
        unless(cold_ns > 0, || format!("the gap has no length: {upgraded}"))?;
        format!("cold: {passed} of {FRAMES} frames passed to the host, within {} ms", cold_ns / 1_000_000)
    };
    end()?;
    complete(usize::try_from(u64::from(FRAMES) - passed).unwrap_or_default())?;
    Ok(format!("another process goes on; {said}"))
}

/// Whether this kernel, 6.4 or later, lets another process take the sockets over.
pub(super) fn hands_over() -> Checked<bool> {
    let release = read(Path::new("/proc/sys/kernel/osrelease"))?;
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok((major, minor) >= (6, 4)),
        _ => Err(format!("{release} is no release of a kernel")),
    }
}

fn begin_with_watchdog() -> Checked<Raised> {
    let card = begin(&configured(&[])?)?;
    write(DROP_IN, WATCHDOG)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["start", UNIT])?;
    // It stays while the service is well.
    thread::sleep(RESTART);
    let (state, restarts) = (property("ActiveState")?, property("NRestarts")?);
    unless(state == "active" && restarts == "0", || format!("{state} after {restarts} restarts"))?;
    Ok(card)
}

/// The watchdog has it killed and started again.
fn watched(card: &Raised, meanwhile: impl FnMut()) -> Verdict {
    let took = comes_back(meanwhile)?;
    let log = log()?;
    unless(log.contains("Watchdog timeout"), || format!("not by the watchdog: {log}"))?;
    send(card, &frames(card, 200)?)?;
    wait_for(200)?;
    end()?;
    complete(200)?;
    Ok(format!("active again after {took:.1} s"))
}

/// A card, no service, no captures, and this configuration.
fn begin(configuration: &str) -> Checked<Raised> {
    end()?;
    // It may not have failed, nor have a drop-in.
    let _not_failed = systemctl(&["reset-failed", UNIT]);
    let _not_there = fs::remove_file(DROP_IN);
    systemctl(&["daemon-reload"])?;
    for file in files()? {
        fs::remove_file(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    write(CONFIGURATION, configuration)?;
    forget_log()?;
    Raised::plain_veth().map_err(|error| error.to_string())
}

/// Only what follows is of the scenario.
pub(super) fn forget_log() -> Checked<()> {
    let mut journal = Command::new("journalctl");
    run_command(journal.args(["--rotate", "--vacuum-time=1s"])).map(drop).map_err(|error| error.to_string())
}

/// Ends the service without a drain.
pub(super) fn end() -> Checked<()> {
    if property("ActiveState")? == "active" {
        systemctl(&["kill", "--kill-who=main", "--signal=INT", UNIT])?;
        until("it has ended", || Ok((property("ActiveState")? != "active").then_some(())))?;
    }
    // Also one that waits for its restart.
    systemctl(&["stop", UNIT]).map(drop)
}

/// Waits for a restart, and returns the seconds that it took.
fn comes_back(mut meanwhile: impl FnMut()) -> Checked<f64> {
    let start = Instant::now();
    until("it is active again", || {
        meanwhile();
        Ok((property("NRestarts")? == "1" && property("ActiveState")? == "active").then_some(()))
    })?;
    Ok(start.elapsed().as_secs_f64())
}

/// Line of the configuration as packaged, and the one in its place.
type Edit = (&'static str, &'static str);
const INTERFACE: Edit = ("#interface = [\"ens6\"]", "interface = [\"dv0\"]");
/// The first of the two VNIs of frames.
const VNI: Edit = ("#vni = \"12345,20000-20009\"", "vni = \"100\"");

fn packaged() -> Checked<String> {
    read(Path::new(PACKAGED))
}

/// The packaged configuration with an interface and these edits.
fn configured(edits: &[Edit]) -> Checked<String> {
    let mut text = packaged()?;
    for (line, by) in [INTERFACE].iter().chain(edits) {
        unless(text.contains(line), || format!("{PACKAGED} has no line {line}"))?;
        text = text.replace(line, by);
    }
    Ok(text)
}

pub(super) fn frames(card: &Raised, count: u32) -> Checked<Sent> {
    let frames = Frames::Numbered { count, sizes: vec![200], flows: 4, pace: 2_000 };
    numbered::frames(&frames, card.hardware_address).map_err(|error| error.to_string())
}

pub(super) fn send(card: &Raised, frames: &Sent) -> Checked<()> {
    let send = || {
        let pace = NonZeroU32::new(frames.pace).unwrap_or(NonZeroU32::MIN);
        Injector::new(&card.source_namespace, &card.source)?.pace(pace).send_all(&frames.outer)
    };
    send().map(drop).map_err(|error| error.to_string())
}

/// Waits until the run has so many frames.
pub(super) fn wait_for(frames: u64) -> Checked<()> {
    until(&format!("{frames} frames"), || Ok((number(&report()?, TAKEN) == frames).then_some(())))
}

/// Places in a report: frames taken, and those that passed to the host for want of a socket.
pub(super) const TAKEN: &str = "/frames/decapsulated";
pub(super) const PASSED: &str = "/interfaces/0/xdp/passed/no_socket";

/// The report of the run as it stands.
pub(super) fn report() -> Checked<Value> {
    let shown = run_command(Command::new("mirror").args(["status", "mirror", "--json"]));
    let shown = shown.map_err(|error| error.to_string())?;
    json(&shown)?.pointer_mut("/0/report").map(Value::take).ok_or_else(|| format!("no report: {shown}"))
}

fn json(text: &str) -> Checked<Value> {
    serde_json::from_str(text).map_err(|error| format!("{text}: {error}"))
}

pub(super) fn number(value: &Value, place: &str) -> u64 {
    value.pointer(place).and_then(Value::as_u64).unwrap_or_default()
}

/// The frames of captures that have their names: their runs have ended.
pub(super) fn captured() -> Checked<Vec<Vec<u8>>> {
    let mut captured = Vec::new();
    for file in files()?.iter().filter(|file| file.extension().is_some_and(|extension| extension == "pcapng"))
    {
        captured.extend(capture::read(file).map_err(|error| error.to_string())?.frames());
    }
    Ok(captured)
}

/// The captures of a run that has ended, in files that have their names: so many frames, all accounted for.
pub(super) fn complete(frames: usize) -> Checked<()> {
    let (captured, log) = (captured()?.len(), log()?);
    unless(captured == frames, || format!("{captured} of {frames} frames are in files: {log}"))?;
    unless(log.contains("residue 0"), || format!("no residue of 0: {log}"))
}

pub(super) fn files() -> Checked<BTreeSet<PathBuf>> {
    let failed = |error: std::io::Error| format!("{OUTPUT}: {error}");
    let entries = fs::read_dir(OUTPUT).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.path())).filter(|path| !is_folder(path)).collect()
}

fn is_folder(path: &Checked<PathBuf>) -> bool {
    path.as_ref().is_ok_and(|path| path.is_dir())
}

pub(super) fn pid() -> Checked<Pid> {
    let pid = property("MainPID")?;
    pid.parse().map(Pid::from_raw).map_err(|error| format!("main process {pid}: {error}"))
}

pub(super) fn signal(process: Pid, signal: Signal) -> Checked<()> {
    kill(process, signal).map_err(|error| format!("{signal} to {process}: {error}"))
}

fn thread_named(process: Pid, prefix: &str) -> Checked<Pid> {
    let tasks = format!("/proc/{process}/task");
    let entries = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
    let named = |path: &PathBuf| read(&path.join("comm")).is_ok_and(|name| name.starts_with(prefix));
    let found = entries.flatten().map(|entry| entry.path()).find(named);
    let id = found.and_then(|path| path.file_name()?.to_str()?.parse().ok());
    id.map(Pid::from_raw).ok_or_else(|| format!("no thread {prefix} in {tasks}"))
}

/// The log of the scenario, of the service and of systemd about it.
pub(super) fn log() -> Checked<String> {
    let mut journal = Command::new("journalctl");
    journal.args(["--quiet", "--output=cat", "--boot", "--unit", UNIT]);
    run_command(&mut journal).map_err(|error| error.to_string())
}

pub(super) fn property(name: &str) -> Checked<String> {
    Ok(systemctl(&["show", "--value", "--property", name, UNIT])?.trim().to_owned())
}

pub(super) fn systemctl(arguments: &[&str]) -> Checked<String> {
    run_command(Command::new("systemctl").args(arguments)).map_err(|error| error.to_string())
}

pub(super) fn read(file: &Path) -> Checked<String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

pub(super) fn write(file: &str, text: &str) -> Checked<()> {
    let write = || {
        if let Some(folder) = Path::new(file).parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)
    };
    write().map_err(|error| format!("{file}: {error}"))
}

pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Checked<Option<T>>) -> Checked<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("not within {PATIENCE:?}: {what}"));
        }
        thread::sleep(PAUSE);
    }
}

pub(super) fn unless(right: bool, fault: impl FnOnce() -> String) -> Checked<()> {
    if right { Ok(()) } else { Err(fault()) }
}
