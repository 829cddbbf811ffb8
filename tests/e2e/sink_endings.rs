//! Sinks that end before their run does: ingest and the other sinks continue, and the exit code is 1. Needs
//! root.

mod common;

use std::{
    io::Read as _,
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{
    Cable, assert_balanced, builder,
    disk::SmallDisk,
    mirror::{
        Mirror, assert_next_run_works, balanced_report, burst, inject, lose_reader, names, program, sink,
        until, whole_capture,
    },
    settle,
};
use mirror_lab::Traffic;
use mirror_user::{
    Batch,
    account::SinkState,
    sink::{
        Counters, Sink, SinkError, SinkFactory, SinkStats, WorkerContext,
        pcap::{Pcap, Target},
    },
};
use nix::sys::signal::Signal;

#[test]
fn a_full_disk_ends_only_the_capture() {
    const FRAMES: u64 = 20_000;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    // The report goes elsewhere, because it would not fit either.
    let disk_path = path.join("disk");
    std::fs::create_dir(&disk_path).expect("mount point");
    let disk = SmallDisk::mount(&disk_path, 256 << 10);
    let run = Mirror::ingest(
        &cable,
        path,
        "-w disk/out.pcapng --when-full stop --on-output-end continue --report report.json",
    );
    burst(&cable, FRAMES);
    run.says("sink stopped; ingest continues");
    let after_the_end = run.frames();
    burst(&cable, FRAMES);
    run.has(after_the_end + FRAMES / 2);
    run.end_by(Signal::SIGINT).expect_code(1).expect_words(&[
        "disk/out.pcapng",
        "No space left",
        "free space and start again",
        "residue 0",
    ]);
    assert_eq!(names(&disk_path), ["out.pcapng"]);
    let report = balanced_report(&path.join("report.json"));
    let pcap = sink(&report, "pcap");
    assert_eq!(pcap["state"], "ended");
    assert!(pcap["reason"].as_str().is_some_and(|reason| reason.contains("No space left")), "{pcap}");
    let counters = sink(&report, "counters");
    assert_eq!(
        (&counters["state"], &counters["written"]),
        (&"done".into(), &report["frames"]["decapsulated"])
    );
    // Complete up to there: the file has exactly what the report calls written.
    let written = pcap["written"].as_u64().expect("written");
    assert!(written > 1_000, "{written}");
    assert_eq!(whole_capture(&disk_path.join("out.pcapng")).packets.len() as u64, written);
    drop(disk);
    assert_next_run_works(&cable);
}

#[test]
fn a_pipe_without_its_reader_ends_only_the_capture() {
    const FRAMES: u64 = 20_000;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let (run, reader) =
        Mirror::ingest_to_pipe(&cable, path, "-w - --on-output-end continue --report report.json");
    lose_reader(&cable, run, reader, 200, FRAMES);
    assert_eq!(names(path), ["report.json"]);
    let report = balanced_report(&path.join("report.json"));
    let pcap = sink(&report, "pcap");
    assert_eq!(pcap["state"], "ended");
    assert!(
        pcap["reason"].as_str().is_some_and(|reason| reason.contains("the reader has closed it")),
        "{pcap}"
    );
    assert_eq!(sink(&report, "counters")["written"], report["frames"]["decapsulated"]);
    assert_next_run_works(&cable);
}

#[test]
fn a_pipe_gets_every_frame_within_a_tick_and_a_whole_capture() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let (run, mut reader) = Mirror::ingest_to_pipe(&cable, path, "-w - -c 100 --report report.json");
    let inner = inject(&cable, 100);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a capture");
    run.end().expect_code(0);
    std::fs::write(path.join("piped.pcapng"), bytes).expect("copy");
    assert_eq!(whole_capture(&path.join("piped.pcapng")).frames(), inner);
    balanced_report(&path.join("report.json"));
    assert_next_run_works(&cable);
}

/// Panics on its third batch; otherwise counts.
#[derive(Default)]
struct Fragile {
    /// Frames before the panic, over all workers.
    written: Arc<AtomicU64>,
}

struct FragileSink {
    batches: u32,
    written: u64,
    shared: Arc<AtomicU64>,
}

impl SinkFactory for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(FragileSink { batches: 0, written: 0, shared: Arc::clone(&self.written) }))
    }
}

impl Sink for FragileSink {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.batches += 1;
        assert!(self.batches < 3, "the third batch is too much");
        self.written += batch.len() as u64;
        self.shared.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.written, ..SinkStats::default() }
    }
}

#[test]
fn a_panic_in_a_sink_fails_that_sink_alone() {
    const FRAMES: u64 = 20_000;
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("out.pcapng");
    let fragile = Fragile::default();
    let survived = Arc::clone(&fragile.written);
    let pcap = Pcap::builder(Target::file(&file)).build().expect("capture file");
    let running = cable.engine(
        // The failing one first, so that the others come after the panic within the same batch.
        builder().sink(Arc::new(fragile)).sink(Arc::new(Counters::default())).sink(Arc::new(pcap)),
    );
    let generator = cable.generator(Traffic { cpus: vec![0, 1], ..Traffic::default() });
    for _ in 0..20 {
        generator.send(FRAMES / 20).expect("generated");
    }
    settle(&running);
    let report = running.stop();
    assert_balanced(&report);
    assert!(!report.is_clean(), "`mirror` exits 1 by this");
    // The ring may have overflowed while the panic was printed.
    let arrived = report.frames.decapsulated;
    assert!(arrived > FRAMES / 2, "{arrived}");
    let [fragile, counters, pcap] = &report.sinks[..] else { panic!("{:?}", report.sinks) };
    assert_eq!(fragile.state, SinkState::Failed);
    let reason = fragile.reason.as_deref().unwrap_or_default();
    assert!(reason.contains("the third batch is too much"), "{reason}");
    let survived = survived.load(Ordering::Relaxed);
    assert_eq!((fragile.offered, fragile.written), (arrived, survived));
    assert_eq!(fragile.failed.get("panic"), Some(&(arrived - survived)));
    for sink in [counters, pcap] {
        assert_eq!((sink.state, sink.written), (SinkState::Done, arrived), "{sink:?}");
    }
    assert_eq!(whole_capture(&file).packets.len() as u64, arrived);
    assert_eq!(report.origins.iter().map(|origin| origin.frames).sum::<u64>(), arrived);
    assert_next_run_works(&cable);
}

/// A panic of the embedder at full rate leaves nothing behind.
#[test]
fn a_panic_of_the_embedder_leaves_a_clean_interface() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let pcap =
        Pcap::builder(Target::file(directory.path().join("out.pcapng"))).build().expect("capture file");
    let running = cable.engine(builder().sink(Arc::new(Counters::default())).sink(Arc::new(pcap)));
    let generator = cable.generator(Traffic { cpus: vec![0, 1], ..Traffic::default() }).start(u64::MAX);
    until("frames flow", || (running.report().frames.decapsulated > 10_000).then_some(()));
    assert!(program(&cable).is_some());
    let result = panic::catch_unwind(panic::AssertUnwindSafe(move || {
        let _running = running;
        panic!("something else in the program");
    }));
    assert!(result.is_err());
    generator.stop().expect("generated");
    assert_eq!(program(&cable), None);
    // It did not shut down cleanly, so it has no final name; what was written can be read.
    until("the writer thread is done", || (names(directory.path()) == [".out.pcapng.partial"]).then_some(()));
    assert_next_run_works(&cable);
}

/// Panics when a sink is built.
struct Unbuildable;

impl SinkFactory for Unbuildable {
    fn name(&self) -> &str {
        "unbuildable"
    }

    fn build(&self, _: &WorkerContext) -> Result<Box<dyn Sink>, SinkError> {
        panic!("cannot be built")
    }
}

#[test]
fn a_panic_while_a_sink_is_built_fails_the_start_and_leaves_nothing() {
    let cable = Cable::with_queues(2);
    let directory = tempfile::tempdir().expect("directory");
    let pcap =
        Pcap::builder(Target::file(directory.path().join("out.pcapng"))).build().expect("capture file");
    let error = cable
        .start(builder().sink(Arc::new(pcap)).sink(Arc::new(Unbuildable)))
        .expect_err("no sink, no start")
        .to_string();
    assert!(error.contains("unbuildable") && error.contains("cannot be built"), "{error}");
    assert_eq!(names(directory.path()), [""; 0]);
    assert_next_run_works(&cable);
}
