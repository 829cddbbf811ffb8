//! Nothing is allocated per frame, neither by workers nor by the writer thread.

use std::time::Instant;

use allocation_counter::measure;

use super::*;
use crate::{
    account::SinkCounters,
    frame::{Batch, Frame, MAX_BATCH},
    pipeline::{Pipeline, PipelineConfig, SinkSlot},
    select::{Budget, Selection},
    sink::{
        Counters, LatencySink,
        handoff::{self, Block, BlockReturn, LOSSES, Message},
        origin::{OriginKey, OriginNames},
        pcap::format::PacketHead,
        pipe::Pipe,
        testing::offer,
    },
};

const FRAMES: u32 = 64 * 1024;

#[test]
fn workers_allocate_nothing_once_they_know_their_origins() {
    for format in [Format::Pcapng, Format::Pcap] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let pcap = Pcap::builder(Target::file(path)).format(format).block_size(8192).build().unwrap();
        let factories: [&dyn SinkFactory; 3] = [&Counters::new(64), &pcap, &LatencySink::new()];
        let cx = WorkerContext::single(2048);
        let sinks = factories.map(|factory| SinkSlot::build(factory, &cx).unwrap()).into();
        let config = PipelineConfig {
            tunnels: crate::Tunnels::default(),
            selection: Arc::new(Selection::all()),
            budget: Arc::new(Budget::new(Some(u64::MAX - 1))),
            reassembly: None,
        };
        let mut pipeline = Pipeline::new(config, 0, sinks);
        let frames = some_frames(FRAMES);
        let process = |pipeline: &mut Pipeline, frames: &[Outer]| {
            pipeline.process(frames.iter().map(|frame| Some(frame.captured())));
            pipeline.tick(Instant::now());
        };
        process(&mut pipeline, &frames[..MAX_BATCH]);
        let allocated = measure(|| frames.chunks(MAX_BATCH).for_each(|batch| process(&mut pipeline, batch)));
        assert_eq!(allocated.count_total, 0, "{allocated:?}");
        // The measured work was done.
        let (counted, sinks) = pipeline.finish();
        let all = u64::from(FRAMES) + MAX_BATCH as u64;
        assert_eq!(counted.decapsulated, all);
        for SinkCounters { stats, end, .. } in sinks {
            assert!(end.is_none());
            assert_eq!((stats.total(), stats.pending), (all, 0));
            assert!(stats.written > 1000, "{stats:?}");
        }
    }
}

#[test]
fn a_flood_of_new_origins_allocates_nothing_in_workers_once_the_tables_are_full() {
    let pcap = Pcap::builder(Target::writer("test", io::sink())).max_interfaces(64).build().unwrap();
    let factories: [&dyn SinkFactory; 2] = [&pcap, &Counters::new(64)];
    let mut sinks = factories.map(|factory| factory.build(&WorkerContext::single(2048)).unwrap());
    let frames: Vec<_> = (0..20_000).map(|vni| Outer::new([10, 0, 0, 1], vni, &[0; 60])).collect();
    let frames: Vec<Frame<'_>> = frames.iter().map(Outer::frame).collect();
    let allocated = measure(|| {
        for batch in frames.chunks(MAX_BATCH) {
            sinks.iter_mut().for_each(|sink| sink.batch(&Batch::new(0, batch)).unwrap());
        }
    });
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}

#[test]
fn the_writer_thread_allocates_per_capture_and_not_per_block() {
    let allocated = |blocks: usize| {
        let (messages, inbox) = crossbeam_channel::bounded(blocks + 1);
        let (returned, home) = crossbeam_channel::bounded(blocks);
        let block_return = BlockReturn::new(returned, 1);
        let frame = Outer::new([10, 0, 0, 1], 7, &[0; 60]);
        for _ in 0..blocks {
            let mut block = Block::new(8192, 1);
            block.add_origin(OriginKey::of(&frame.frame()));
            let head = PacketHead { interface: 0, time: 1, captured: 60, original: 60 };
            while let Some(out) = block.push(Format::Pcapng.packet_len(60)) {
                Format::Pcapng.put_packet(out, head, frame.frame().inner());
            }
            messages.send(Message::Block { block, block_return: Arc::clone(&block_return) }).unwrap();
        }
        messages.send(Message::Close { lost_in_kernel: 0 }).unwrap();
        let out = PartOutput::Stream(Pipe::new("test", io::sink()));
        let capture =
            CaptureFormat { format: Format::Pcapng, snaplen: 262_144, names: OriginNames::default() };
        let output = CaptureOutput::Stream(Box::new(CapturePart::new(out, None, 8)));
        let writer = Writer::new(output, capture, Format::Pcapng, Losses::new(), Arc::default());
        let allocated = measure(|| handoff::run(writer, &inbox).unwrap()).count_total;
        assert_eq!((home.len() as u64, block_return.outcome().lost), (blocks as u64, [0; LOSSES]));
        allocated
    };
    assert_eq!(allocated(1000), allocated(1));
}

#[test]
fn the_planned_memory_is_what_a_worker_takes() {
    for format in [Format::Pcapng, Format::Pcap] {
        let pcap = Pcap::builder(Target::writer("test", io::sink())).format(format).build().unwrap();
        let planned = pcap.memory_per_worker(2048);
        let mut sink = None;
        let allocated = measure(|| sink = Some(worker(&pcap)));
        let frames: Vec<_> = (0..10_000).map(|vni| Outer::new([10, 0, 0, 1], vni, &[0; 60])).collect();
        let later = measure(|| offer(&mut **sink.as_mut().unwrap(), &frames).unwrap());
        let taken = usize::try_from(allocated.bytes_max).unwrap();
        // Channels and other small parts: far below 1%.
        assert!(taken <= planned + planned / 100, "{taken} of {planned}");
        assert!(taken >= planned - planned / 100, "{taken} of {planned}");
        assert!(later.bytes_current < 64 * 1024, "{later:?}");
    }
}
