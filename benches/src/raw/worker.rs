//! The loop around a bare socket.

use std::{
    hint, ptr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::RawSocket;

/// The receiving side of a queue, of either implementation.
pub trait Queue {
    /// Receives up to a batch of frames from the RX ring, reads of each what `look` says, and returns their
    /// chunks to the fill ring. Returns the number of frames.
    fn turn_over(&mut self, look: Look) -> u32;

    /// Sleeps until the RX ring has something, or so many milliseconds are over.
    fn poll(&mut self, milliseconds: i32);
}

/// Frames of a batch, as in the engine.
const BATCH: u32 = 64;
/// Where the ethertype is in a frame.
pub const ETHERTYPE: usize = 12;
/// The longest sleep: afterwards the loop checks whether to stop.
const NAP: i32 = 50;
/// A ring is drained when it was found empty this many times after the request to stop.
const LAST_LOOKS: u32 = 4;

/// What is read of each frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// Nothing: descriptors only.
    Nothing,
    /// A byte of its outer headers, whose cache line every decapsulator must fetch, too.
    OneByte,
}

/// How to wait while the ring is empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// In poll(2).
    Poll,
    /// By polling the ring.
    Spin,
}

/// Counters of a loop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Frames received.
    pub frames: u64,
    /// Time around batches that were not empty, in ns.
    pub busy_ns: u64,
}

impl Queue for RawSocket {
    fn turn_over(&mut self, look: Look) -> u32 {
        match look {
            Look::Nothing => self.take(BATCH, |_| {}),
            Look::OneByte => self.take(BATCH, |frame| {
                let ethertype = frame.wrapping_add(ETHERTYPE);
                // SAFETY: the frame's chunk is ours until it is given back, after this call, and reaches
                // further.
                hint::black_box(unsafe { ptr::read_volatile(ethertype) });
            }),
        }
    }

    fn poll(&mut self, milliseconds: i32) {
        self.sleep(milliseconds);
    }
}

/// A loop yet to run.
#[derive(Debug)]
pub struct Worker<Q> {
    /// The queue it works on.
    pub queue: Q,
    /// What it reads.
    pub look: Look,
    /// How it waits.
    pub wait: Wait,
}

impl<Q: Queue> Worker<Q> {
    /// Runs until `stop` is set and the ring is drained.
    pub fn run(&mut self, stop: &AtomicBool) -> Tally {
        let (mut frames, mut busy, mut last_looks) = (0, Duration::ZERO, 0);
        loop {
            let begin = Instant::now();
            let count = self.queue.turn_over(self.look);
            if count > 0 {
                frames += u64::from(count);
                busy += begin.elapsed();
            } else if stop.load(Ordering::Acquire) {
                last_looks += 1;
                if last_looks == LAST_LOOKS {
                    return Tally { frames, busy_ns: u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX) };
                }
                std::thread::sleep(Duration::from_millis(1));
            } else if self.wait == Wait::Poll {
                self.queue.poll(NAP);
            } else {
                hint::spin_loop();
            }
        }
    }
}
