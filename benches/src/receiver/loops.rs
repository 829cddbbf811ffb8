//! Bare loops on threads of their own, one a queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Result, anyhow};
use mirror_ebpf::mirror as abi;
use mirror_lab::{
    XdpProgram,
    xdp_program::{Settings, XdpAttach},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::{Account, Floor, Kind, Receiver, Wait, stage};
use crate::{
    bed::{Bed, RECEIVING},
    raw::{self, RawSocket, Tally, Worker},
};

/// Loops at work. Dropped, they end without an account.
#[derive(Debug)]
pub(super) struct Loops {
    /// Taken off the interface before the loops end.
    program: Option<Program>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Tally, Worker)>>,
}

/// What feeds the loops; off the interface when dropped.
#[derive(Debug)]
enum Program {
    Floor(#[expect(dead_code, reason = "held for its drop")] Floor),
    Ours(#[expect(dead_code, reason = "held for its drop")] XdpProgram),
}

impl Loops {
    pub(super) fn start(receiver: &Receiver, bed: &Bed) -> Result<Self> {
        let queues = u32::try_from(receiver.cpus.len())?;
        let open = || (0..queues).map(|queue| RawSocket::open(RECEIVING, queue, receiver.sizes)).collect();
        let sockets: Vec<_> = bed.receiver.enter(|| -> Result<Vec<_>> { open() })??;
        let program = if receiver.kind == Kind::Program {
            let mut program = XdpProgram::load(abi::PROGRAM, &Settings::default())?;
            for (queue, socket) in (0..).zip(&sockets) {
                program.set_socket(queue, socket.fd())?;
            }
            program.attach(&bed.receiver, RECEIVING, XdpAttach::Native)?;
            Program::Ours(program)
        } else {
            let sockets: Vec<_> = sockets.iter().map(RawSocket::fd).collect();
            Program::Floor(bed.receiver.enter(|| Floor::redirect_to(&sockets))??)
        };
        let stop = Arc::new(AtomicBool::new(false));
        let wait = if receiver.wait == Wait::Poll { raw::Wait::Poll } else { raw::Wait::Spin };
        let mut loops = Self { program: Some(program), stop: Arc::clone(&stop), threads: Vec::new() };
        for (socket, &cpu) in sockets.into_iter().zip(&receiver.cpus) {
            let mut cpus = CpuSet::new();
            cpus.set(cpu)?;
            let mut worker = Worker { socket, look: receiver.look(), wait };
            let stop = Arc::clone(&stop);
            loops.threads.push(thread::spawn(move || {
                if let Err(error) = sched_setaffinity(Pid::from_raw(0), &cpus) {
                    eprintln!("bench: a worker cannot be pinned to CPU {cpu}: {error}");
                }
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
            for (stage, frames) in
                [(stage::RX_DROPPED, statistics.rx_dropped), (stage::RX_RING_FULL, statistics.rx_ring_full)]
            {
                if frames > 0 {
                    *account.lost_by.entry(stage).or_insert(0) += frames;
                }
            }
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
