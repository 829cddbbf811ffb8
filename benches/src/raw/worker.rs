//! The loop around a bare socket.

use std::{
    hint, ptr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::RawSocket;

/// The receiving side of a queue, whoever made it.
pub trait Queue {
    /// Takes up to a batch of frames off the RX ring, reads of each what `look` says, and gives their chunks
    /// back. Gives how many there were.
    fn turn_over(&mut self, look: Look) -> u32;

    /// Sleeps until the RX ring has something, or so many milliseconds are over.
    fn poll(&mut self, milliseconds: i32);
}

/// Frames taken at once, as many as the engine takes.
const BATCH: u32 = 64;
/// Where the ethertype is in a frame.
pub const ETHERTYPE: usize = 12;
/// How long a sleep may take at most: the loop hears of its end afterwards.
const NAP: i32 = 50;
/// An empty ring is empty for good when it was found so this many times after the end was asked for.
const LAST_LOOKS: u32 = 4;

/// What is read of each frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// Nothing: descriptors only.
    Nothing,
    /// A byte of its outer headers, whose cache line whoever decapsulates must fetch, too.
    OneByte,
}

/// How to wait while the ring is empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// In poll(2).
    Poll,
    /// By looking again.
    Spin,
}

/// What a loop has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Frames taken.
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
    /// Works until `stop` is set and the ring is empty.
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
