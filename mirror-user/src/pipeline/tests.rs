//! What a pipeline counts when something breaks within a batch.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Mutex,
};

use mirror_lab::{
    fragment,
    frames::{Outer, inner_of_len},
};

use super::*;
use crate::{
    account::{Report, SinkState},
    select::{Allow, Filter},
    sink::{SinkStats, WorkerContext},
};

fn config(count: Option<u64>) -> PipelineConfig {
    PipelineConfig {
        tunnels: Tunnels::default(),
        selection: Arc::new(Selection::all()),
        budget: Arc::new(Budget::new(count)),
        reassembly: None,
    }
}

fn frame() -> Vec<u8> {
    Outer::sample(7).encapsulate(&inner_of_len(100).unwrap()).unwrap()
}

fn captured(bytes: &[u8]) -> Captured<'_> {
    Captured::new(bytes, u32::try_from(bytes.len()).unwrap(), 1)
}

fn close(pipeline: Pipeline) -> Report {
    let names = vec!["test"; pipeline.sinks.len()];
    let (frames, outcomes) = pipeline.finish();
    let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
    report.expect_sinks(names);
    report.add_worker(&frames, &outcomes);
    report.close();
    assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
    report
}

/// Counts frames as written, and then runs a given action.
struct Scripted {
    written: u64,
    batches: u64,
    at: u64,
    then: fn() -> Result<(), SinkError>,
    at_drop: fn(),
}

impl Scripted {
    fn new(at: u64, then: fn() -> Result<(), SinkError>) -> Self {
        Self { written: 0, batches: 0, at, then, at_drop: || () }
    }

    fn slot(self) -> SinkSlot {
        SinkSlot::new("scripted", Box::new(self))
    }
}

impl Sink for Scripted {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.batches += 1;
        if self.batches == self.at {
            self.written += 1;
            return (self.then)();
        }
        self.written += batch.len() as u64;
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        SinkStats { written: self.written, ..SinkStats::default() }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        (self.at_drop)();
    }
}

fn run(slots: Vec<SinkSlot>, batches: u64) -> Report {
    let bytes = frame();
    let mut pipeline = Pipeline::new(config(None), 0, slots);
    for _ in 0..batches {
        pipeline.process([Some(captured(&bytes)); 10].into_iter());
    }
    close(pipeline)
}

#[test]
fn a_batch_in_which_the_worker_panics_is_abandoned_as_a_whole() {
    let bytes = frame();
    let mut pipeline = Pipeline::new(config(None), 0, vec![Scripted::new(0, || Ok(())).slot()]);
    pipeline.process([Some(captured(&bytes)); 10].into_iter());
    let mut left = 4;
    let dying = [Some(captured(&bytes)); 10].into_iter().inspect(|_| {
        left -= 1;
        assert!(left > 0, "the worker dies here, on purpose");
    });
    assert!(panic::catch_unwind(AssertUnwindSafe(|| pipeline.process(dying))).is_err());
    let report = close(pipeline);
    let frames = &report.frames;
    assert_eq!((frames.received, frames.decapsulated, frames.abandoned), (20, 10, 10));
}

#[test]
fn a_sink_that_errs_fails_the_rest_of_its_batch_and_all_later_frames() {
    let ends = Scripted::new(2, || Err(SinkError::other("full"))).slot();
    let report = run(vec![ends, Scripted::new(0, || Ok(())).slot()], 4);
    assert_eq!(report.sinks[0].state, SinkState::Ended);
    assert_eq!(report.sinks[0].reason.as_deref(), Some("full"));
    assert_eq!((report.sinks[0].written, report.sinks[0].failed["error"]), (11, 29));
    assert_eq!((report.sinks[1].state, report.sinks[1].written), (SinkState::Done, 40));
}

#[test]
fn a_sink_that_panics_fails_alone() {
    let panics = Scripted::new(3, || panic!("on purpose")).slot();
    let report = run(vec![panics, Scripted::new(0, || Ok(())).slot()], 4);
    assert_eq!(report.sinks[0].state, SinkState::Failed);
    assert_eq!(report.sinks[0].reason.as_deref(), Some("panicked: on purpose"));
    assert_eq!((report.sinks[0].written, report.sinks[0].failed["panic"]), (21, 19));
    assert_eq!((report.sinks[1].state, report.sinks[1].written), (SinkState::Done, 40));
}

#[test]
fn a_sink_that_panics_when_dropped_has_failed() {
    let mut drops = Scripted::new(0, || Ok(()));
    drops.at_drop = || panic!("in drop, on purpose");
    let report = run(vec![drops.slot()], 1);
    assert_eq!((report.sinks[0].state, report.sinks[0].written), (SinkState::Failed, 10));
}

#[test]
fn frames_beyond_the_count_are_deselected() {
    let bytes = frame();
    let mut pipeline = Pipeline::new(config(Some(15)), 0, vec![Scripted::new(0, || Ok(())).slot()]);
    for _ in 0..3 {
        pipeline.process([Some(captured(&bytes)); 10].into_iter());
    }
    assert!(pipeline.is_spent());
    let report = close(pipeline);
    assert_eq!((report.sinks[0].offered, report.sinks[0].deselected), (15, 15));
}

/// A filter that matches frames of more bytes on the wire.
fn longer_than(bytes: u32) -> Filter {
    let program = [(0x80, 0, 0, 0), (0x25, 0, 1, bytes), (0x06, 0, 0, 1), (0x06, 0, 0, 0)];
    Filter::from_bpf("longer", program).unwrap()
}

#[test]
fn frames_that_the_filters_do_not_match_are_deselected_for_each_sink_and_cost_no_budget() {
    let bytes = [60, 100, 200].map(|len| Outer::sample(7).encapsulate(&inner_of_len(len).unwrap()).unwrap());
    let offered = |selection: Selection, count| {
        let config = PipelineConfig { selection: Arc::new(selection), ..config(count) };
        let slots = [0, 0].map(|never| Scripted::new(never, || Ok(())).slot());
        let mut pipeline = Pipeline::new(config, 0, slots.into());
        for _ in 0..2 {
            pipeline.process(bytes.iter().map(|bytes| Some(captured(bytes))));
        }
        let report = close(pipeline);
        assert_eq!(report.frames.decapsulated, 6);
        report.sinks.iter().map(|sink| (sink.offered, sink.deselected)).collect::<Vec<_>>()
    };
    // Inner and outer frames differ by 50 bytes.
    assert_eq!(offered(Selection::all().filter(longer_than(100)), None), [(2, 4); 2]);
    assert_eq!(offered(Selection::all().outer_filter(longer_than(149)), None), [(4, 2); 2]);
    let both = Selection::all().filter(longer_than(99)).outer_filter(longer_than(150));
    assert_eq!(offered(both.clone(), None), [(2, 4); 2]);
    assert_eq!(offered(both, Some(1)), [(1, 5); 2]);
}

#[test]
fn a_sink_with_its_own_selection_is_offered_only_that_and_the_others_all() {
    let frames = [(7, 60), (7, 200), (8, 200)]
        .map(|(vni, len)| Outer::sample(vni).encapsulate(&inner_of_len(len).unwrap()).unwrap());
    let selections = [
        None,
        Some(Selection::all().allow(Allow::all().vnis([7])).filter(longer_than(100))),
        Some(Allow::all().sources(["192.0.2.0/24".parse().unwrap()]).into()),
    ];
    let slots =
        selections.map(|selection| Scripted::new(0, || Ok(())).slot().selecting(selection.map(Arc::new)));
    let config =
        PipelineConfig { selection: Arc::new(Selection::all().filter(longer_than(59))), ..config(Some(5)) };
    let mut pipeline = Pipeline::new(config, 0, slots.into());
    for _ in 0..2 {
        pipeline.process(frames.iter().map(|frame| Some(captured(frame))));
    }
    // The sixth is beyond the count.
    let sinks: Vec<_> =
        close(pipeline).sinks.iter().map(|sink| (sink.offered, sink.written, sink.deselected)).collect();
    assert_eq!(sinks, [(5, 5, 1), (2, 2, 4), (0, 0, 6)]);
}

#[test]
fn a_frame_rejected_for_two_reasons_has_the_one_that_the_kernel_would_give() {
    let bytes = frame();
    let allow = Allow::all().vnis([8]).sources(["192.0.2.0/24".parse().unwrap()]);
    let config = PipelineConfig { selection: Arc::new(allow.into()), ..config(None) };
    let mut pipeline = Pipeline::new(config, 0, Vec::new());
    pipeline.process([Some(captured(&bytes)), None].into_iter());
    let report = close(pipeline);
    let rejected = &report.frames.rejected;
    assert_eq!((rejected.source, rejected.vni, rejected.multi_descriptor), (1, 0, 1));
}

/// The two fragments of a frame that no other has.
fn fragments(id: u16) -> [Vec<u8>; 2] {
    let whole = Outer::sample(u32::from(id)).encapsulate(&inner_of_len(1000).unwrap()).unwrap();
    fragment(&whole, id.into(), &[640]).unwrap().try_into().unwrap()
}

fn reassembling(count: Option<u64>) -> PipelineConfig {
    PipelineConfig { reassembly: Some(SharedReassembler::recorded(&Tunnels::default())), ..config(count) }
}

#[test]
fn a_datagram_takes_the_place_of_its_last_fragment_in_the_batch() {
    let vnis = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&vnis);
    let sink = crate::sink::for_each("vnis", move |frame| {
        seen.lock().unwrap().push((frame.vni(), frame.time()));
        Ok(())
    });
    let slot = SinkSlot::build(&*sink, &WorkerContext::single(2048)).unwrap();
    let mut pipeline = Pipeline::new(reassembling(Some(4)), 0, vec![slot]);
    let ([a0, a1], [b0, b1], plain) = (fragments(1), fragments(2), frame());
    let batch = [&a0, &plain, &b1, &b0, &plain, &a1, &plain];
    let batch = (10..).zip(batch).map(|(time, bytes)| Captured::new(bytes, 1, time));
    pipeline.process(batch.map(Some).collect::<Vec<_>>().into_iter());
    let report = close(pipeline);
    assert_eq!(*vnis.lock().unwrap(), [(7, 11), (2, 13), (7, 14), (1, 15)]);
    let frames = &report.frames;
    assert_eq!((frames.received, frames.decapsulated, frames.fragments_consumed), (7, 5, 2));
    assert_eq!((frames.reassembled, report.sinks[0].deselected), (2, 1));
}

#[test]
fn fragments_over_two_pipelines_are_joined_and_the_last_to_finish_accounts_for_the_rest() {
    let config = reassembling(None);
    let mut pipelines = [0, 1].map(|queue| Pipeline::new(config.clone(), queue, Vec::new()));
    for id in 1..=100 {
        let parts = fragments(id);
        for (pipeline, part) in pipelines.iter_mut().zip(&parts) {
            // Of the last one the end is missing.
            if id < 100 || part.len() > 640 {
                pipeline.process([Some(captured(part))].into_iter());
            }
        }
    }
    let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
    for pipeline in pipelines {
        let (frames, outcomes) = pipeline.finish();
        report.add_worker(&frames, &outcomes);
    }
    report.close();
    assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
    assert_eq!((report.frames.reassembled, report.frames.rejected.fragment_timeout), (99, 1));
}

#[test]
fn a_worker_that_panics_abandons_no_fragment_that_others_can_complete() {
    let config = reassembling(None);
    let mut pipelines = [0, 1].map(|queue| Pipeline::new(config.clone(), queue, Vec::new()));
    let ([a0, a1], [b0, b1]) = (fragments(1), fragments(2));
    // It holds the first of a, completes b, and panics: b's frame is abandoned, a's first is not.
    let parts = [&a0, &b0, &b1, &b1];
    let dying = parts.into_iter().enumerate().map(|(place, part)| {
        assert!(place < 3, "the worker dies here, on purpose");
        Some(captured(part))
    });
    assert!(panic::catch_unwind(AssertUnwindSafe(|| pipelines[0].process(dying))).is_err());
    pipelines[1].process([Some(captured(&a1))].into_iter());
    let mut report = Report::new("file", std::time::SystemTime::UNIX_EPOCH);
    for pipeline in pipelines {
        let (frames, outcomes) = pipeline.finish();
        report.add_worker(&frames, &outcomes);
    }
    report.close();
    assert_eq!(report.accounting.residue, 0, "{:?}", report.accounting);
    let frames = &report.frames;
    assert_eq!((frames.received, frames.abandoned, frames.decapsulated), (5, 2, 1));
    assert_eq!((frames.fragments_consumed, frames.reassembled), (2, 2));
}

#[test]
fn more_datagrams_than_the_buffer_holds_are_processed_in_parts() {
    let inner = inner_of_len(60_000).unwrap();
    let parts: Vec<_> = (1..=20)
        .flat_map(|id| {
            let whole = Outer::sample(id).encapsulate(&inner).unwrap();
            fragment(&whole, id, &[30_000]).unwrap()
        })
        .collect();
    let slot = Scripted::new(0, || Ok(())).slot();
    let mut pipeline = Pipeline::new(reassembling(None), 0, vec![slot]);
    pipeline.process(parts.iter().map(|part| Some(captured(part))));
    let report = close(pipeline);
    assert_eq!((report.frames.received, report.frames.reassembled, report.sinks[0].written), (40, 20, 20));
}

/// Its output is late, or it panics when it is asked.
#[cfg(feature = "af-xdp")]
struct Late(fn() -> bool);

#[cfg(feature = "af-xdp")]
impl Sink for Late {
    fn batch(&mut self, _: &Batch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn is_behind(&self) -> bool {
        (self.0)()
    }

    fn stats(&self) -> SinkStats {
        SinkStats::default()
    }
}

#[test]
#[cfg(feature = "af-xdp")]
fn one_late_sink_makes_its_worker_rest_until_it_ends() {
    let pipeline = |sinks: Vec<fn() -> bool>| {
        let slots = sinks.into_iter().map(|late| SinkSlot::new("late", Box::new(Late(late)))).collect();
        Pipeline::new(config(None), 0, slots)
    };
    assert!(!pipeline(vec![]).is_behind());
    assert!(!pipeline(vec![|| false, || false]).is_behind());
    assert!(pipeline(vec![|| false, || true]).is_behind());
    let mut panics = pipeline(vec![|| panic!("asked, on purpose")]);
    assert!(!panics.is_behind() && !panics.is_behind());
    assert_eq!(close(panics).sinks[0].state, SinkState::Failed);
}
