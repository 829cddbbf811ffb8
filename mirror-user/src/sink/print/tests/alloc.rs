//! Memory is allocated by the builder and for the first blocks only.

use std::io;

use allocation_counter::measure;

use super::*;
use crate::{
    frame::{Batch, Frame, MAX_BATCH},
    sink::{SinkFactory, WorkerContext},
};

#[test]
fn printing_a_frame_again_allocates_nothing() {
    let frames = frames();
    let frames: Vec<Frame<'_>> = frames.iter().map(Outer::frame).collect();
    let mut lines = Lines::new(Style::default().link(true).verbosity(3).dump(Dump::HexAscii, true));
    let mut text = String::new();
    let mut print = || {
        text.clear();
        frames.iter().for_each(|frame| lines.line(frame, &mut text));
    };
    print();
    let allocated = measure(print);
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}

#[test]
fn a_worker_allocates_nothing_for_a_frame() {
    let print = Print::builder(Style::default()).writer("none", io::sink()).build().unwrap();
    let mut sink = print.build(&WorkerContext::single(2048)).unwrap();
    let frames = frames();
    let frames: Vec<Frame<'_>> = frames.iter().map(Outer::frame).collect();
    let allocated = measure(|| {
        for _ in 0..1000 {
            frames.chunks(MAX_BATCH).for_each(|batch| sink.batch(&Batch::new(0, batch)).unwrap());
        }
    });
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}

#[test]
fn the_planned_memory_is_what_a_worker_takes() {
    let print = Print::builder(Style::default()).writer("none", io::sink()).build().unwrap();
    let planned = print.memory_per_worker(2048);
    let mut sink = None;
    let allocated = measure(|| sink = Some(print.build(&WorkerContext::single(2048)).unwrap()));
    let taken = usize::try_from(allocated.bytes_max).unwrap();
    // Channels and other small parts: far below 1%.
    assert!(taken.abs_diff(planned) <= planned / 100, "{taken} of {planned}");
}
