//! Loops on their own threads, one per queue, over bare rings or those of xsk-rs.

use std::{
    hint,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Result, anyhow};
use mirror_ebpf::{bench as floor, mirror as abi};
use mirror_lab::{
    XdpProgram,
    xdp_program::{Settings, XdpAttach},
};
use mirror_lab_xsk::{Config, Descriptors, Losses, XskSocket};

use super::{Account, Kind, Receiver, Wait, pin, stage};
use crate::{
    bed::{Bed, RECEIVING},
    raw::{self, ETHERTYPE, Look, Queue, RawSocket, Sizes, Tally, Worker},
};

/// Running loops. If dropped, they end without counters.
#[derive(Debug)]
pub(super) struct Loops {
    /// Detached before the loops end.
    program: Option<XdpProgram>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(Tally, Losses)>>>,
}

/// A queue that a loop of the ladder works on.
trait Socket: Queue + Send + Sized + 'static {
    fn open(queue: u32, sizes: Sizes) -> Result<Self>;
    /// For the XSKMAP.
    fn descriptor(&self) -> impl AsFd + '_;
    fn losses(&self) -> Result<Losses>;
}

impl Socket for RawSocket {
    fn open(queue: u32, sizes: Sizes) -> Result<Self> {
        Self::open(RECEIVING, queue, sizes)
    }

    fn descriptor(&self) -> impl AsFd + '_ {
        self.fd()
    }

    fn losses(&self) -> Result<Losses> {
        let statistics = self.statistics()?;
        Ok(Losses { rx_dropped: statistics.rx_dropped, rx_ring_full: statistics.rx_ring_full })
    }
}

impl Socket for XskSocket {
    fn open(queue: u32, sizes: Sizes) -> Result<Self> {
        let Sizes { rx_ring, umem_frames, chunk_size, headroom } = sizes;
        let descriptors = Descriptors::One;
        let config = Config { rx_ring, chunks: umem_frames, chunk_size, headroom, descriptors };
        Ok(Self::open(RECEIVING, queue, config)?)
    }

    fn descriptor(&self) -> impl AsFd + '_ {
        self.fd()
    }

    fn losses(&self) -> Result<Losses> {
        Ok(self.losses()?)
    }
}

impl Queue for XskSocket {
    fn turn_over(&mut self, look: Look) -> u32 {
        let count = match look {
            Look::Nothing => self.turn_over(|_, _| {}),
            Look::OneByte => self.turn_over(|frame, _| {
                hint::black_box(frame.get(ETHERTYPE).copied());
            }),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn poll(&mut self, milliseconds: i32) {
        // The result is not needed: the ring has the frames.
        let _ = self.poll(milliseconds);
    }
}

impl Loops {
    pub(super) fn start(receiver: &Receiver, bed: &Bed) -> Result<Self> {
        if receiver.kind == Kind::XskRs {
            Self::start_on::<XskSocket>(receiver, bed)
        } else {
            Self::start_on::<RawSocket>(receiver, bed)
        }
    }

    fn start_on<S: Socket>(receiver: &Receiver, bed: &Bed) -> Result<Self> {
        let queues = u32::try_from(receiver.cpus.len())?;
        let open = || (0..queues).map(|queue| S::open(queue, receiver.sizes)).collect();
        let sockets: Vec<_> = bed.receiver.enter(|| -> Result<Vec<S>> { open() })??;
        let mut program = if receiver.kind == Kind::Program {
            XdpProgram::load(abi::PROGRAM, &Settings::default())?
        } else {
            XdpProgram::load_floor(floor::PROGRAM_REDIRECT)?
        };
        for (queue, socket) in (0..).zip(&sockets) {
            program.set_socket(queue, socket.descriptor())?;
        }
        program.attach(&bed.receiver, RECEIVING, XdpAttach::Native)?;
        let stop = Arc::new(AtomicBool::new(false));
        let wait = if receiver.wait == Wait::Poll { raw::Wait::Poll } else { raw::Wait::Spin };
        let mut loops = Self { program: Some(program), stop: Arc::clone(&stop), threads: Vec::new() };
        for (queue, &cpu) in sockets.into_iter().zip(&receiver.cpus) {
            let mut worker = Worker { queue, look: receiver.look(), wait };
            let stop = Arc::clone(&stop);
            loops.threads.push(thread::spawn(move || {
                pin(&[cpu]);
                let tally = worker.run(&stop);
                Ok((tally, worker.queue.losses()?))
            }));
        }
        Ok(loops)
    }

    pub(super) fn finish(mut self) -> Result<Account> {
        let mut account = Account::default();
        for thread in self.end() {
            let (tally, losses) = thread.join().map_err(|_| anyhow!("a worker's loop panicked"))??;
            account.received += tally.frames;
            account.busy_ns += tally.busy_ns;
            account.lose(stage::RX_DROPPED, losses.rx_dropped);
            account.lose(stage::RX_RING_FULL, losses.rx_ring_full);
        }
        Ok(account)
    }

    fn end(&mut self) -> Vec<JoinHandle<Result<(Tally, Losses)>>> {
        self.program = None;
        self.stop.store(true, Ordering::Release);
        std::mem::take(&mut self.threads)
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for thread in self.end() {
            match thread.join() {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => eprintln!("bench: a worker's loop ended without counters: {error:#}"),
                Err(_) => eprintln!("bench: a worker's loop panicked"),
            }
        }
    }
}
