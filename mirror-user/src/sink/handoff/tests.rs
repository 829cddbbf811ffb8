//! The hand-off by itself, with a consumer that takes its time.

use std::{thread, time::Duration};

use crossbeam_channel::Receiver;

use super::*;
use crate::{account::Report, sink::SinkError};

/// Writes a block for each message; after the last one, as fast as it can.
struct Gated(Receiver<()>);

impl Consumer for Gated {
    fn take(&mut self, block: Block, block_return: Arc<BlockReturn>) {
        // An error when the gate is gone.
        let _ = self.0.recv();
        let written = block.frames();
        block_return.give_back(block, Outcome { written, ..Outcome::default() });
    }

    fn complete(self, _: u64) -> Result<(), SinkError> {
        Ok(())
    }

    fn abandon(self) -> Result<(), SinkError> {
        Ok(())
    }
}

const RECORD: usize = 100;

fn hand_off(blocks: usize, consumer: Gated, hook: Option<ThreadHook>) -> Handoff {
    let mut options = HandoffOptions::<ThreadHook>::default();
    options.set_blocks(blocks);
    options.set_block_size(2 * RECORD);
    let config = options.config("test", "test".to_owned(), Duration::from_secs(60), &[]);
    Handoff::start(config, Arc::default(), hook, consumer).unwrap()
}

/// Fills a block and sends it, if there is one.
fn fill(writer: &mut BlockWriter) {
    writer.begin_batch().unwrap();
    for _ in 0..2 {
        // Where there is no block, the frame is dropped.
        let _ = writer.push(RECORD);
    }
    writer.flush();
}

fn closed(handoff: &Handoff, writer: &mut BlockWriter) -> crate::sink::SinkStats {
    writer.finish().unwrap();
    handoff.close(&Report::new("file", std::time::SystemTime::UNIX_EPOCH)).unwrap();
    writer.stats()
}

#[test]
fn a_sink_is_behind_while_its_thread_has_half_of_the_blocks() {
    let (gate, gated) = crossbeam_channel::unbounded();
    let handoff = hand_off(4, Gated(gated), None);
    let mut writer = handoff.block_writer(RECORD, None);
    fill(&mut writer);
    assert!(!writer.is_behind(), "the thread has one of four");
    fill(&mut writer);
    assert!(writer.is_behind(), "the thread has two of four");
    gate.send(()).unwrap();
    // Before the worker takes it back.
    while writer.is_behind() {
        thread::yield_now();
    }
    drop(gate);
    assert_eq!(closed(&handoff, &mut writer).written, 4);
}

#[test]
fn a_sink_that_leaves_never_waits_and_gives_its_memory_to_the_next() {
    let (gate, gated) = crossbeam_channel::unbounded();
    let handoff = hand_off(4, Gated(gated), None);
    handoff.prepare(1, RECORD);
    let mut writer = handoff.block_writer(RECORD, None);
    fill(&mut writer);
    writer.begin_batch().unwrap();
    assert!(writer.push(RECORD).is_some(), "and a block that is not full");
    // The thread has not written anything yet.
    assert!(!writer.leave() && !writer.leave());
    assert_eq!((writer.stats().pending, writer.stats().written), (3, 0));
    drop(gate);
    while !writer.leave() {
        thread::yield_now();
    }
    let mut next = handoff.block_writer(RECORD, None);
    fill(&mut next);
    next.finish().unwrap();
    let stats = closed(&handoff, &mut writer);
    assert_eq!((stats.written, stats.pending, next.stats().written), (3, 0, 2));
}

#[test]
fn the_lag_is_the_time_of_the_oldest_block_that_is_not_back() {
    const LATE: Duration = Duration::from_millis(30);
    let (gate, gated) = crossbeam_channel::unbounded();
    let handoff = hand_off(4, Gated(gated), None);
    let mut writer = handoff.block_writer(RECORD, None);
    assert_eq!(handoff.lag(), None, "nothing was sent");
    fill(&mut writer);
    thread::sleep(LATE);
    writer.tick(std::time::Instant::now());
    fill(&mut writer);
    let first = handoff.lag().unwrap();
    assert!(first >= LATE, "{first:?}");
    gate.send(()).unwrap();
    // The second block is younger than the first.
    while handoff.lag().unwrap() >= first {
        thread::yield_now();
    }
    gate.send(()).unwrap();
    while handoff.lag().is_some() {
        thread::yield_now();
    }
    // Each place is used again.
    drop(gate);
    for _ in 0..100 {
        fill(&mut writer);
    }
    closed(&handoff, &mut writer);
    assert_eq!(handoff.lag(), None);
}

/// A channel's receiver may spin until the sender has put its message there, which the thread cannot while a
/// real-time worker has the CPU of both. As root, which tests of this crate may not be.
#[test]
#[cfg(feature = "af-xdp")]
fn a_real_time_worker_never_waits_for_the_thread_on_its_cpu() {
    use nix::{
        sched::{CpuSet, sched_getaffinity, sched_setaffinity},
        time::{ClockId, clock_gettime},
        unistd::Pid,
    };

    use crate::host::scheduling::Scheduling;

    /// A fraction of what the kernel lets it spin, each second.
    const SPUN: Duration = Duration::from_millis(100);
    let cpus = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpu = (0..CpuSet::count()).find(|cpu| cpus.is_set(*cpu).unwrap()).unwrap();
    let pin = move || {
        let mut only = CpuSet::new();
        only.set(cpu).unwrap();
        sched_setaffinity(Pid::from_raw(0), &only).unwrap();
    };
    let (_, gated) = crossbeam_channel::bounded(0);
    let handoff = hand_off(8, Gated(gated), Some(Box::new(pin)));
    let mut writer = handoff.block_writer(RECORD, None);
    thread::spawn(move || {
        pin();
        let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        if Scheduling::LOWEST_REALTIME.set_own().is_err() {
            return;
        }
        for _ in 0..50_000 {
            let before = used();
            fill(&mut writer);
            let spun = used() - before;
            assert!(spun < SPUN, "spun for {spun:?}");
            thread::sleep(Duration::from_micros(25));
        }
        let stats = closed(&handoff, &mut writer);
        assert!(stats.written > 1_000, "{stats:?}");
    })
    .join()
    .unwrap();
}
