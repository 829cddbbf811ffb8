//! Outputs that are full, gone, slow or stuck.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{
    account::SinkState,
    frame::MAX_BATCH,
    pipeline,
    sink::testing::{Gate, offer},
};

fn packets_in(bytes: &Mutex<Vec<u8>>) -> usize {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &*bytes.lock().unwrap()).unwrap();
    read(file.path()).packets.len()
}

/// Offers frames for many blocks until the sink stops; returns its error and the number of frames offered.
fn offer_until_it_ends(sink: &mut dyn Sink) -> (SinkError, u64) {
    let frames = some_frames(u32::try_from(MAX_BATCH).unwrap());
    let mut offered = 0;
    // The writer thread notices later.
    for _ in 0..10_000 {
        match offer(sink, &frames) {
            Ok(()) => offered += frames.len() as u64,
            Err(error) => return (error, offered),
        }
        assert_eq!(sink.stats().total(), offered);
        thread::sleep(Duration::from_millis(1));
    }
    panic!("the sink still runs: {:?}", sink.stats());
}

fn small(target: Target) -> PcapBuilder {
    Pcap::builder(target).block_size(8192).blocks(4)
}

#[test]
fn a_stuck_output_costs_frames_and_never_the_workers_time() {
    let (gate, release, bytes) = Gate::new();
    let pcap = small(Target::writer("gate", gate)).build().unwrap();
    let mut sink = worker(&pcap);
    let frames = some_frames(5000);
    // If the worker waited, this would not return.
    offer(&mut *sink, &frames).unwrap();
    let stats = sink.stats();
    assert_eq!((stats.total(), stats.written), (5000, 0));
    let dropped: Vec<_> = stats.dropped.iter().collect();
    assert_eq!(dropped, [("no_block", 5000 - stats.pending)]);
    assert!(stats.pending > 200, "{stats:?}");
    drop(release);
    sink.finish().unwrap();
    assert_eq!((sink.stats().written, sink.stats().pending), (stats.pending, 0));
    assert_eq!(sink.stats().total(), 5000);
    pcap.close(&report()).unwrap();
    assert_eq!(packets_in(&bytes) as u64, stats.pending);
}

#[test]
fn dropped_frames_are_in_the_statistics_of_their_interface() {
    let (gate, release, bytes) = Gate::new();
    let pcap = small(Target::writer("gate", gate)).build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, &some_frames(3000)).unwrap();
    drop(release);
    sink.finish().unwrap();
    pcap.close(&report()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &*bytes.lock().unwrap()).unwrap();
    let contents = read(file.path());
    for (seen, received) in contents.statistics.iter().zip([2000, 1000]) {
        let name = &contents.interfaces[seen.interface as usize];
        let here = contents.packets.iter().filter(|packet| packet.interface == *name).count() as u64;
        assert_eq!((seen.received, seen.delivered, seen.dropped), (received, here, received - here));
    }
}

#[test]
fn a_sink_recovers_when_its_output_does() {
    let (gate, release, _) = Gate::new();
    let pcap = small(Target::writer("gate", gate)).build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, &some_frames(5000)).unwrap();
    let dropped = sink.stats().dropped.total();
    drop(release);
    while sink.stats().pending > 0 {
        sink.flush();
        thread::yield_now();
    }
    offer(&mut *sink, &some_frames(50)).unwrap();
    sink.finish().unwrap();
    assert_eq!(sink.stats().dropped.total(), dropped);
    assert_eq!(sink.stats().written + dropped, 5050);
}

#[test]
fn frames_for_a_stuck_output_are_discarded_at_the_end_and_not_written_later() {
    let (gate, release, bytes) = Gate::new();
    let pcap = small(Target::writer("gate", gate)).stop_timeout(Duration::from_millis(100)).build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, &some_frames(100)).unwrap();
    let error = sink.finish().unwrap_err().to_string();
    assert!(error.contains("no progress for 0.1 s; 100 frames discarded"), "{error}");
    let stats = sink.stats();
    assert_eq!((stats.pending, stats.total()), (0, 100));
    assert_eq!(stats.failed.iter().collect::<Vec<_>>(), [("stuck", 100)]);
    let error = pcap.close(&report()).unwrap_err().to_string();
    assert!(error.starts_with("gate: no progress for 0.1 s"), "{error}");
    drop(release);
    while !pcap.handoff.state().has_thread_ended() {
        thread::yield_now();
    }
    assert_eq!(packets_in(&bytes), 0);
    assert_eq!(sink.stats(), stats, "counts do not change afterwards");
}

#[test]
fn a_closed_pipe_stops_the_sink_and_is_named() {
    let (reader, out) = io::pipe().unwrap();
    drop(reader);
    let pcap = small(Target::writer("standard output", out)).build().unwrap();
    let mut sink = worker(&pcap);
    let (error, offered) = offer_until_it_ends(&mut *sink);
    let text = error.to_string();
    assert!(matches!(error, SinkError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe));
    assert!(text.starts_with("standard output: Broken pipe"), "{text}");
    assert!(text.ends_with("(0 frames written); the reader has closed it: restart both"), "{text}");
    sink.finish().unwrap_err();
    let stats = sink.stats();
    assert_eq!((stats.total(), stats.written, stats.pending), (offered, 0, 0));
    assert_eq!(pcap.close(&report()).unwrap_err().to_string(), text);
}

/// A device that is full while the flag is set, and accepts a few bytes before it is.
#[derive(Clone, Default)]
struct Device(Arc<(AtomicBool, Mutex<Vec<u8>>)>);

impl Device {
    fn set_full(&self, full: bool) {
        self.0.0.store(full, Ordering::Relaxed);
    }
}

impl io::Write for Device {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.0.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        self.0.1.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Offers frames until the condition holds.
fn offer_until(sink: &mut dyn Sink, what: &str, is_so: impl Fn(&SinkStats) -> bool) {
    let frames = some_frames(u32::try_from(MAX_BATCH).unwrap());
    for _ in 0..10_000 {
        offer(sink, &frames).unwrap();
        let now = Instant::now();
        sink.tick(now);
        if is_so(&sink.stats()) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("{what}: {:?}", sink.stats());
}

fn dropped(stats: &SinkStats, reason: &str) -> u64 {
    stats.dropped.iter().find(|(known, _)| *known == reason).map_or(0, |(_, frames)| frames)
}

#[test]
fn a_capture_waits_for_a_full_device_and_resumes_after_a_whole_packet() {
    let device = Device::default();
    let pcap = small(Target::writer("device", device.clone())).build().unwrap();
    let mut sink = worker(&pcap);
    offer_until(&mut *sink, "some are written", |stats| stats.written > 100);
    assert_eq!(pcap.halted(), None);
    for _ in 0..3 {
        device.set_full(true);
        let before = dropped(&sink.stats(), "no_space");
        offer_until(&mut *sink, "it waits", |stats| dropped(stats, "no_space") > before + 100);
        let halt = pcap.halted().expect("waits");
        assert_eq!(halt.state, SinkState::Waiting);
        assert!(
            halt.reason.contains("device: No space left on device") && halt.reason.contains("free space")
        );
        device.set_full(false);
        let before = sink.stats().written;
        offer_until(&mut *sink, "it resumes", |stats| stats.written > before + 100);
        assert_eq!(pcap.halted(), None);
    }
    sink.finish().unwrap();
    let stats = sink.stats();
    assert_eq!((stats.pending, stats.failed.total()), (0, 0), "{stats:?}");
    let report = report();
    pcap.close(&report).unwrap();
    assert_eq!(pcap.halted(), None, "it has recovered");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &*device.0.1.lock().unwrap()).unwrap();
    let contents = read(file.path());
    assert_eq!(contents.packets.len() as u64, stats.written);
    let in_no_file: u64 = contents.statistics.iter().map(|seen| seen.dropped).sum();
    assert_eq!(in_no_file, stats.dropped.total(), "the statistics have them");
}

#[test]
fn an_output_that_waits_at_the_end_is_reported_as_waiting() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let pcap = small(Target::writer("/dev/full", full)).build().unwrap();
    let mut sink = worker(&pcap);
    offer_until(&mut *sink, "it waits", |stats| dropped(stats, "no_space") > 100);
    sink.finish().unwrap();
    let stats = sink.stats();
    assert_eq!((stats.written, stats.failed.total(), stats.pending), (0, 0, 0), "{stats:?}");
    let mut report = report();
    report.expect_sinks(["pcap"]);
    pipeline::close_sinks(&mut report, &[Arc::new(pcap) as _]);
    assert_eq!(report.sinks[0].state, SinkState::Waiting);
    assert!(
        report.sinks[0].reason.as_deref().is_some_and(|reason| reason.contains("/dev/full: No space left"))
    );
    assert!(!report.is_clean());
}

#[test]
fn a_full_disk_leaves_a_file_of_whole_packets() {
    let dir = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=1m,mode=700 none "$MIRROR_TEST_PATH" && exec "$@""#;
    let status = in_a_process_of_its_own(
        &["unshare", "-m", "sh", "-c", mount, "sh"],
        "faults::child_on_a_small_disk",
        dir.path(),
    )
    .status()
    .unwrap();
    assert!(status.success(), "on a disk of 1 MiB (mounting one takes root): {status}");
}

#[test]
#[ignore = "run by another test, on a disk of 1 MiB"]
fn child_on_a_small_disk() {
    let path = path_from_parent().join("out.pcapng");
    let builder = Pcap::builder(Target::file(&path)).block_size(64 << 10).blocks(4);
    let pcap = builder.when_full(WhenFull::Stop).build().unwrap();
    let mut sink = worker(&pcap);
    let (error, offered) = offer_until_it_ends(&mut *sink);
    let text = error.to_string();
    assert!(text.contains("out.pcapng: No space left on device"), "{text}");
    assert!(text.ends_with("frames written); free space and start again"), "{text}");
    sink.finish().unwrap_err();
    let stats = sink.stats();
    assert_eq!((stats.total(), stats.pending), (offered, 0));
    assert!(stats.written > 5000 && stats.failed.total() > 0, "{stats:?}");
    assert!(text.contains(&format!("({} frames written)", stats.written)), "{text} {stats:?}");
    assert_eq!(pcap.close(&report()).unwrap_err().to_string(), text);
    // Complete, whole packets only, under its final name, and the only file.
    assert_eq!(tshark(&path, &["frame.number"]).len() as u64, stats.written);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    // The disk was filled to within one packet.
    let len = std::fs::metadata(&path).unwrap().len();
    assert!(len > (1 << 20) - (8 << 10), "{len}");
}

#[test]
fn files_continue_after_a_full_disk_with_any_compression() {
    let dir = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=1m,mode=700 none "$MIRROR_TEST_PATH" && exec "$@""#;
    let wrapper = ["unshare", "-m", "sh", "-c", mount, "sh"];
    let test = "faults::child_on_a_disk_that_was_full";
    let status = in_a_process_of_its_own(&wrapper, test, dir.path()).status().unwrap();
    assert!(status.success(), "on a disk of 1 MiB (mounting one takes root): {status}");
}

#[test]
#[ignore = "run by another test, on a disk of 1 MiB"]
fn child_on_a_disk_that_was_full() {
    let dir = path_from_parent();
    let zstd = cfg!(feature = "zstd").then_some((".zst", "zstd -dc"));
    for (ending, unpack) in [("", "cat"), (".gz", "gzip -dc")].into_iter().chain(zstd) {
        // Full before the header, and in the middle.
        for already_full in [true, false] {
            let ballast = dir.join("ballast");
            let fill = |bytes: usize| {
                let _ = std::fs::write(&ballast, vec![1; bytes]);
            };
            fill(if already_full { 2 << 20 } else { 900 << 10 });
            let path = dir.join(format!("out.pcapng{ending}"));
            let pcap = Pcap::builder(Target::file(&path)).block_size(16 << 10).blocks(4).build().unwrap();
            let mut sink = worker(&pcap);
            for _ in 0..2 {
                offer_until(&mut *sink, "it waits", |_| pcap.halted().is_some());
                std::fs::remove_file(&ballast).unwrap();
                let before = sink.stats().written;
                offer_until(&mut *sink, "it resumes", |stats| stats.written > before + 100);
                assert_eq!(pcap.halted(), None, "{ending}");
                fill(2 << 20);
            }
            std::fs::remove_file(&ballast).unwrap();
            offer_until(&mut *sink, "it resumes", |_| pcap.halted().is_none());
            sink.finish().unwrap();
            let stats = sink.stats();
            assert_eq!((stats.pending, stats.failed.total()), (0, 0), "{stats:?}");
            pcap.close(&report()).unwrap();
            assert_eq!(pcap.halted(), None);
            let mut packets = 0;
            for file in std::fs::read_dir(&dir).unwrap() {
                let file = file.unwrap().path();
                let plain = tempfile::NamedTempFile::new().unwrap();
                let unpacked = Command::new("sh")
                    .args(["-c", &format!("{unpack} < \"$1\" > \"$2\""), "sh"])
                    .args([&file, plain.path()])
                    .status()
                    .unwrap();
                assert!(unpacked.success(), "{}", file.display());
                let contents = read(plain.path());
                // A Zstandard file that ends early has no end mark.
                assert!(ending == ".zst" || !contents.statistics.is_empty(), "{}", file.display());
                packets += contents.packets.len() as u64;
                assert!(!file.file_name().unwrap().to_str().unwrap().starts_with('.'), "{}", file.display());
                std::fs::remove_file(file).unwrap();
            }
            assert_eq!(packets, stats.written, "{ending} {already_full}");
        }
    }
}

#[test]
fn a_pipe_in_non_blocking_mode_gets_every_byte() {
    let (mut reader, out) = io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&out, rustix::fs::OFlags::NONBLOCK).unwrap();
    let pcap = Pcap::builder(Target::writer("pipe", out)).build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, &some_frames(10_000)).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| io::copy(&mut reader, &mut file.as_file()).unwrap());
        sink.finish().unwrap();
        pcap.close(&report()).unwrap();
    });
    assert_eq!(read(file.path()).packets.len(), 10_000);
}

#[test]
fn a_frame_larger_than_planned_is_dropped_as_too_large() {
    let pcap = small(Target::writer("test", io::sink())).build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, &[Outer::new([10, 0, 0, 1], 7, &[0; 9000])]).unwrap();
    assert_eq!(sink.stats().dropped.iter().collect::<Vec<_>>(), [("too_large", 1)]);
}

#[test]
fn blocks_hold_at_least_two_of_the_largest_frames() {
    let pcap = small(Target::writer("test", io::sink())).build().unwrap();
    let mut sink = SinkFactory::build(&pcap, &WorkerContext::single(65_535)).unwrap();
    offer(
        &mut *sink,
        &[Outer::new([10, 0, 0, 1], 7, &[0; 65_000]), Outer::new([10, 0, 0, 1], 7, &[0; 65_000])],
    )
    .unwrap();
    sink.finish().unwrap();
    assert_eq!(sink.stats(), written(2));
}

#[test]
fn a_panic_of_the_writer_thread_is_reported_and_all_frames_are_counted() {
    let pcap =
        small(Target::writer("test", io::sink())).on_thread_start(|| panic!("on purpose")).build().unwrap();
    let mut sink = worker(&pcap);
    // The thread may take a moment to end.
    let (_, offered) = offer_until_it_ends(&mut *sink);
    sink.finish().ok();
    assert_eq!((sink.stats().total(), sink.stats().pending, sink.stats().written), (offered, 0, 0));
    let error = pcap.close(&report()).unwrap_err().to_string();
    assert!(error.contains("the writer thread panicked"), "{error}");
}
