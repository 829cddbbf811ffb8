//! Bare loops on threads of their own, one a queue.

use std::{
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

use super::{Account, Kind, Receiver, Wait, pin, stage};
use crate::{
    bed::{Bed, RECEIVING},
    raw::{self, RawSocket, Tally, Worker},
};

/// Loops at work. Dropped, they end without an account.
#[derive(Debug)]
pub(super) struct Loops {
    /// Taken off the interface before the loops end.
    program: Option<XdpProgram>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Tally, Worker)>>,
}

impl Loops {
    pub(super) fn start(receiver: &Receiver, bed: &Bed) -> Result<Self> {
        let queues = u32::try_from(receiver.cpus.len())?;
        let open = || (0..queues).map(|queue| RawSocket::open(RECEIVING, queue, receiver.sizes)).collect();
        let sockets: Vec<_> = bed.receiver.enter(|| -> Result<Vec<_>> { open() })??;
        let mut program = if receiver.kind == Kind::Program {
            XdpProgram::load(abi::PROGRAM, &Settings::default())?
        } else {
            XdpProgram::load_floor(floor::PROGRAM_REDIRECT)?
        };
        for (queue, socket) in (0..).zip(&sockets) {
            program.set_socket(queue, socket.fd())?;
        }
        program.attach(&bed.receiver, RECEIVING, XdpAttach::Native)?;
        let stop = Arc::new(AtomicBool::new(false));
        let wait = if receiver.wait == Wait::Poll { raw::Wait::Poll } else { raw::Wait::Spin };
        let mut loops = Self { program: Some(program), stop: Arc::clone(&stop), threads: Vec::new() };
        for (socket, &cpu) in sockets.into_iter().zip(&receiver.cpus) {
            let mut worker = Worker { socket, look: receiver.look(), wait };
            let stop = Arc::clone(&stop);
            loops.threads.push(thread::spawn(move || {
                pin(&[cpu]);
                (worker.run(&stop), worker)
            }));
        }
        Ok(loops)
    }

    pub(super) fn finish(mut self) -> Result<Account> {
        let mut account = Account::default();
        for thread in self.end() {
            let (tally, worker) = thread.join().map_err(|_| anyhow!("a worker's loop panicked"))?;
            account.received += tally.frames;
            account.busy_ns += tally.busy_ns;
            let statistics = worker.socket.statistics()?;
            account.lose(stage::RX_DROPPED, statistics.rx_dropped);
            account.lose(stage::RX_RING_FULL, statistics.rx_ring_full);
        }
        Ok(account)
    }

    fn end(&mut self) -> Vec<JoinHandle<(Tally, Worker)>> {
        self.program = None;
        self.stop.store(true, Ordering::Release);
        std::mem::take(&mut self.threads)
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for thread in self.end() {
            if thread.join().is_err() {
                eprintln!("bench: a worker's loop panicked");
            }
        }
    }
}
