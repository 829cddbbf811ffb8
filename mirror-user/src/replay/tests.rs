//! Whole runs over capture files, with sinks that record their calls.

use std::{
    io::Write as _,
    path::Path,
    sync::{Mutex, atomic::AtomicU64},
};

use tempfile::TempDir;

use super::*;
use crate::{
    account::SinkState,
    decap::tests::{Packet, inner_ipv4},
    frame::Batch,
    select::Allow,
    sink::{Sink, SinkStats},
    source::tests::pcap_file,
};

/// What a sink does with its batches.
type Behaviour = fn(&mut SinkStats, &Batch<'_>) -> Result<(), SinkError>;

fn keep(stats: &mut SinkStats, batch: &Batch<'_>) -> Result<(), SinkError> {
    stats.written += batch.len() as u64;
    Ok(())
}

/// A sink that records its calls.
struct Watched {
    behaviour: Behaviour,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    inner: Mutex<Vec<Vec<u8>>>,
    ticks: AtomicU64,
    flushes: AtomicU64,
    /// Names of the calls at the end, in order.
    calls: Mutex<Vec<&'static str>>,
}

impl Watched {
    fn new(behaviour: Behaviour) -> (Arc<Self>, Arc<Log>) {
        let log = Arc::new(Log::default());
        (Arc::new(Self { behaviour, log: Arc::clone(&log) }), log)
    }
}

impl SinkFactory for Watched {
    fn name(&self) -> &str {
        "watched"
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Watch {
            behaviour: self.behaviour,
            stats: SinkStats::default(),
            log: Arc::clone(&self.log),
        }))
    }

    fn close(&self, report: &Report) -> Result<(), SinkError> {
        assert!(!report.accounting.laws.is_empty(), "the accounts are closed before the sinks are");
        self.log.calls.lock().unwrap().push("close");
        Ok(())
    }
}

struct Watch {
    behaviour: Behaviour,
    stats: SinkStats,
    log: Arc<Log>,
}

impl Sink for Watch {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.log.inner.lock().unwrap().extend(batch.frames().iter().map(|f| f.inner().first().to_vec()));
        (self.behaviour)(&mut self.stats, batch)
    }

    fn tick(&mut self, _: Instant) {
        self.log.ticks.fetch_add(1, Ordering::Relaxed);
    }

    fn flush(&mut self) {
        self.log.flushes.fetch_add(1, Ordering::Relaxed);
    }

    fn stats(&self) -> SinkStats {
        self.stats.clone()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.log.calls.lock().unwrap().push("finish");
        Ok(())
    }
}

/// A frame with a number in its inner payload.
fn numbered(number: u32) -> Packet {
    let mut inner = inner_ipv4(60, 60);
    inner[34..38].copy_from_slice(&number.to_be_bytes());
    Packet { inner, ..Packet::default() }
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn captured(numbers: std::ops::Range<u32>) -> Vec<u8> {
    pcap_file(&numbers.map(|number| numbered(number).bytes()).collect::<Vec<_>>())
}

fn run(builder: ReplayBuilder) -> Report {
    builder.build().unwrap().run().unwrap()
}

fn inner_numbers(log: &Log) -> Vec<u32> {
    let inner = log.inner.lock().unwrap();
    inner.iter().map(|frame| u32::from_be_bytes(frame[34..38].try_into().unwrap())).collect()
}

#[test]
fn files_are_read_in_sequence_and_every_frame_is_accounted_for() {
    let folder = TempDir::new().unwrap();
    let first = file(&folder, "first.pcap", &captured(0..150));
    let noise = pcap_file(&[
        vec![0; 60],
        vec![0; 9],
        Packet { vxlan: [0; 8], ..numbered(0) }.bytes(),
        Packet { vxlan: [0x88, 0, 0, 0, 0, 0, 5, 0], ..numbered(150) }.bytes(),
        Packet { inner: inner_ipv4(24, 1500), ..numbered(0) }.bytes(),
    ]);
    let second = file(&folder, "second.pcap", &noise);
    let third = file(&folder, "third.pcap", &captured(152..160));
    let (sink, log) = Watched::new(keep);
    let report = run(Replay::builder().file(first).file(second).file(third).sink(sink));
    assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
    assert_eq!((&*report.source, report.interfaces.len(), report.ended_by.as_deref()), ("file", 0, None));
    assert_eq!((report.accounting.seen, report.accounting.explained), (163, 163));
    assert_eq!((report.frames.received, report.frames.decapsulated), (163, 160));
    let rejected = &report.frames.rejected;
    assert_eq!((rejected.not_tunnel, rejected.short, rejected.no_vni_flag), (1, 1, 1));
    assert_eq!((report.frames.odd.reserved_bits, report.frames.odd.truncated_inner), (1, 1));
    let numbers = inner_numbers(&log);
    assert_eq!((numbers.len(), numbers[0], numbers[149], numbers[150]), (160, 0, 149, 150));
    assert_eq!(numbers[152..], (152..160).collect::<Vec<_>>());
    assert_eq!((report.sinks[0].offered, report.sinks[0].written), (160, 160));
    assert_eq!(report.sinks[0].state, SinkState::Done);
    assert_eq!(*log.calls.lock().unwrap(), ["finish", "close"]);
}

#[test]
fn a_count_is_exact() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "a.pcap", &captured(0..200));
    for count in [0, 1, 64, 65, 199, 200, 201] {
        let (sink, log) = Watched::new(keep);
        let report = run(Replay::builder().file(&path).file(&path).sink(sink).count(Some(count)));
        assert_eq!(report.sinks[0].written, count);
        assert_eq!(inner_numbers(&log).len() as u64, count);
        assert_eq!((report.accounting.residue, report.ended_by), (0, None));
    }
}

#[test]
fn selection_refuses_by_vni_and_by_source() {
    let folder = TempDir::new().unwrap();
    let other = Packet { vxlan: [8, 0, 0, 0, 0, 0, 9, 0], ..numbered(1) };
    let path =
        file(&folder, "a.pcap", &pcap_file(&[numbered(0).bytes(), other.bytes(), numbered(2).bytes()]));
    let report = run(Replay::builder().file(&path).select(Allow::all().vnis([9])));
    assert_eq!(
        (report.frames.decapsulated, report.frames.rejected.vni, report.accounting.residue),
        (1, 2, 0)
    );
    let elsewhere = Allow::all().sources(["192.0.2.0/24".parse().unwrap()]);
    let report = run(Replay::builder().file(&path).select(elsewhere));
    assert_eq!((report.frames.rejected.source, report.accounting.residue), (3, 0));
    let report = run(Replay::builder().file(&path).tunnels([8472]));
    assert_eq!((report.frames.rejected.not_tunnel, report.accounting.residue), (3, 0));
}

#[test]
fn a_file_cut_short_delivers_its_frames_with_the_reason_and_the_next_is_read() {
    let folder = TempDir::new().unwrap();
    let whole = captured(0..100);
    let cut = file(&folder, "cut.pcap", &whole[..whole.len() - 1]);
    let after = file(&folder, "after.pcap", &captured(100..101));
    let (sink, log) = Watched::new(keep);
    let report = run(Replay::builder().file(&cut).file(after).sink(sink));
    assert_eq!(inner_numbers(&log), (0..99).chain(100..101).collect::<Vec<_>>());
    assert!(!report.is_clean());
    let reason = format!("cut short at byte {}, within the record that ", whole.len() - 1);
    let reason_given = report.files[0].ended_by.as_ref().unwrap();
    assert!(reason_given.starts_with(&reason), "{reason_given}");
    assert_eq!(report.ended_by, Some(format!("{}: {reason_given}", cut.display())));
    assert_eq!((report.files[0].packets, report.files[1].packets), (99, 1));
    assert!(report.files[1].is_whole());
    assert_eq!((report.accounting.residue, report.frames.received), (0, 100));
    assert_eq!(*log.calls.lock().unwrap(), ["finish", "close"]);
}

#[test]
fn a_file_that_is_not_a_capture_does_not_end_the_run() {
    let folder = TempDir::new().unwrap();
    for hold_open in [false, true] {
        let (sink, log) = Watched::new(keep);
        let mut builder = Replay::builder();
        for (path, bytes) in [
            ("missing.pcap", None),
            ("0.pcap", Some(captured(0..1))),
            ("empty.pcap", Some(Vec::new())),
            ("1.pcap", Some(captured(1..2))),
            ("text.pcap", Some(b"GIF89a".to_vec())),
            ("", None),
            ("2.pcap", Some(captured(2..3))),
        ] {
            let path = folder.path().join(path);
            if let Some(bytes) = bytes {
                std::fs::write(&path, bytes).unwrap();
            }
            builder = builder.file(path);
        }
        let report = run(builder.hold_open(hold_open).sink(sink));
        assert_eq!(inner_numbers(&log), [0, 1, 2]);
        assert!(!report.is_clean());
        let reasons =
            report.files.iter().map(|file| file.ended_by.as_deref().unwrap_or("")).collect::<Vec<_>>();
        for (reason, expected) in reasons.iter().zip([
            "cannot be opened: No such file",
            "",
            "empty file",
            "",
            "not a capture file: starts with 0x47494638",
            "cannot be opened: is a directory",
            "",
        ]) {
            assert!(reason.starts_with(expected) && reason.is_empty() == expected.is_empty(), "{reasons:?}");
        }
        assert_eq!((report.accounting.residue, report.frames.received), (0, 3));
    }
}

#[test]
fn packets_of_unsupported_link_types_are_rejected_and_the_run_is_clean() {
    let folder = TempDir::new().unwrap();
    let mut radio = captured(0..3);
    radio[20] = 127;
    let first = file(&folder, "radio.pcap", &radio);
    let second = file(&folder, "a.pcap", &captured(3..5));
    let (sink, log) = Watched::new(keep);
    let report = run(Replay::builder().file(first).file(second).sink(sink));
    assert_eq!(inner_numbers(&log), [3, 4]);
    assert_eq!((report.frames.received, report.frames.rejected.link_type), (5, 3));
    assert_eq!(report.files[0].link_types, [(127, 3)].into());
    assert_eq!((report.accounting.residue, report.is_clean()), (0, true));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["files"][0]["link_types"]["127"], 3);
}

#[test]
fn a_stop_ends_the_run_cleanly() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "a.pcap", &captured(0..10));
    let (sink, log) = Watched::new(keep);
    let replay = Replay::builder().file(path).sink(sink).build().unwrap();
    let stop = replay.stop_handle();
    assert!(!stop.is_stopped());
    stop.clone().stop();
    assert!(stop.is_stopped());
    let report = replay.run().unwrap();
    assert_eq!((report.frames.received, report.ended_by), (0, None));
    assert_eq!(*log.calls.lock().unwrap(), ["finish", "close"]);
}

#[test]
fn one_sink_may_fail_or_panic_and_the_others_continue() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "a.pcap", &captured(0..200));
    let (fails, _) = Watched::new(|stats, batch| {
        if stats.written >= 64 {
            return Err(SinkError::other("out.pcapng: no space left; free some"));
        }
        keep(stats, batch)
    });
    let (panics, _) = Watched::new(|_, _| panic!("on purpose"));
    let (fine, _) = Watched::new(keep);
    let report = run(Replay::builder().file(path).sink(fails).sink(panics).sink(fine));
    assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
    let [fails, panics, fine] = &report.sinks[..] else { panic!("three sinks") };
    assert_eq!((fails.state, fails.written, fails.failed["error"]), (SinkState::Ended, 64, 136));
    assert_eq!(fails.reason.as_deref(), Some("out.pcapng: no space left; free some"));
    assert_eq!((panics.state, panics.failed["panic"]), (SinkState::Failed, 200));
    assert_eq!((fine.state, fine.written), (SinkState::Done, 200));
}

#[test]
fn a_replay_that_cannot_start_fails_before_any_frame_is_read() {
    let said = |builder: ReplayBuilder| builder.build().unwrap_err().to_string();
    assert!(said(Replay::builder()).starts_with("no capture file given"));
    assert!(
        said(Replay::builder().file("-").file("-"))
            .starts_with("standard input (`-`) is given more than once")
    );
    assert!(said(Replay::builder().file("-").tunnels([])).starts_with("no tunnel port given"));
    let folder = TempDir::new().unwrap();
    let message = said(Replay::builder().file("/nowhere/gone.pcap").file(folder.path()));
    assert!(message.starts_with("/nowhere/gone.pcap: cannot be opened: No such file"), "{message}");
    assert!(said(Replay::builder().file(folder.path())).contains("cannot be opened: is a directory"));
}

/// Reads a pipe whose writer sends half a frame more than one, and then nothing, without closing. Stops the
/// run once `meanwhile` has returned.
#[cfg(unix)]
fn over_a_silent_pipe(meanwhile: impl FnOnce(&Flusher, &Log)) -> (Report, Arc<Log>) {
    let folder = TempDir::new().unwrap();
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success(), "mkfifo is needed");
    let (sink, log) = Watched::new(keep);
    let replay = Replay::builder().file(&fifo).sink(sink).build().unwrap();
    let (flusher, stop) = (replay.flusher(), replay.stop_handle());
    let report = std::thread::scope(|scope| {
        let running = scope.spawn(|| replay.run().unwrap());
        let bytes = captured(0..2);
        let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        writer.write_all(&bytes[..200]).unwrap();
        until("a frame", || !log.inner.lock().unwrap().is_empty());
        meanwhile(&flusher, &log);
        stop.stop();
        running.join().unwrap()
    });
    (report, log)
}

#[cfg(unix)]
fn until(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
fn until_ticked(log: &Log, times: u64) {
    let end = log.ticks.load(Ordering::Relaxed) + times;
    until("ticks", || log.ticks.load(Ordering::Relaxed) >= end);
}

#[cfg(unix)]
#[test]
fn sinks_have_ticks_and_a_stop_works_while_a_pipe_is_silent() {
    let (report, log) = over_a_silent_pipe(|_, log| until_ticked(log, 5));
    assert_eq!(inner_numbers(&log), [0]);
    assert_eq!((report.ended_by, report.accounting.residue), (None, 0));
}

#[cfg(unix)]
#[test]
fn sinks_are_flushed_once_for_each_request_also_while_a_pipe_is_silent() {
    over_a_silent_pipe(|flusher, log| {
        let flushes = || log.flushes.load(Ordering::Relaxed);
        until_ticked(log, 2);
        assert_eq!(flushes(), 0, "nobody has asked");
        for asked in 1..=3 {
            flusher.flush();
            until("a flush", || flushes() == asked);
            until_ticked(log, 2);
            assert_eq!(flushes(), asked, "once");
        }
    });
}

#[test]
fn a_flush_requested_before_the_run_is_not_lost() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "a.pcap", &captured(0..200));
    let (sink, log) = Watched::new(keep);
    let replay = Replay::builder().file(path).sink(sink).build().unwrap();
    replay.flusher().flush();
    let report = replay.run().unwrap();
    assert_eq!((log.flushes.load(Ordering::Relaxed), report.accounting.residue), (1, 0));
}

/// 100 packets of a real mirror target, which are not ours to publish.
#[test]
#[ignore = "needs MIRROR_CAPTURES"]
fn the_real_capture_of_2019_decapsulates_whole() {
    let folder = std::env::var_os("MIRROR_CAPTURES").expect("MIRROR_CAPTURES: the folder with real captures");
    let path = Path::new(&folder).join("aws-traffic-mirroring-2019.pcap");
    let (sink, log) = Watched::new(|stats, batch| {
        for frame in batch {
            // As tshark reads it: no options, no padding, one source and one target.
            assert_eq!(frame.inner().first(), &frame.outer().first()[50..]);
            assert_eq!((frame.vni(), frame.is_truncated()), (5_569_041, false));
            assert_eq!(frame.source(), std::net::IpAddr::from([172, 31, 0, 238]));
            assert_eq!(frame.destination(), std::net::IpAddr::from([172, 31, 17, 188]));
            assert!(frame.source_port() >= 0xff80, "source ports hash to 7 bits");
        }
        keep(stats, batch)
    });
    let report = run(Replay::builder().file(path).sink(sink));
    assert_eq!((report.frames.received, report.frames.decapsulated), (100, 100));
    assert_eq!((report.accounting.residue, report.ended_by), (0, None));
    assert_eq!(log.inner.lock().unwrap().len(), 100);
}

#[test]
fn a_replay_without_a_file_is_valid_and_not_built() {
    Replay::builder().validate().unwrap();
    assert!(matches!(Replay::builder().build(), Err(ReplayError::NoFile)));
    let without_ports = Replay::builder().tunnels(Vec::new());
    assert!(matches!(without_ports.validate(), Err(ReplayError::NoPort)));
}
