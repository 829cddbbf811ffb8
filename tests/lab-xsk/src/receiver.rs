//! Receives the frames of an interface through xsk-rs.

use std::time::{Duration, Instant};

use mirror_ebpf::bench;
use mirror_lab::{LabError, Result, VethEnd, XdpProgram, xdp_program::XdpAttach};

use crate::socket::{Config, Descriptors, Losses, XskSocket};

/// The longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a sleep may take, in ms.
const NAP: i32 = 20;
/// How long to wait for frames beyond the expected ones.
const BEYOND: Duration = Duration::from_millis(200);

/// A program on an interface that redirects to xsk-rs's sockets, one per queue.
#[derive(Debug)]
pub struct XskReceiver {
    /// Detached before the sockets are closed.
    program: XdpProgram,
    sockets: Vec<XskSocket>,
    /// For each queue, the frame whose last descriptor is still to come.
    begun: Vec<Vec<u8>>,
}

impl XskReceiver {
    /// Receives every frame, by the one-line program of the benchmarks. It redirects frames in one buffer
    /// only.
    ///
    /// # Errors
    ///
    /// As [`attach`](Self::attach).
    pub fn of_all(end: &VethEnd, queues: u32) -> Result<Self> {
        Self::attach(end, queues, Descriptors::One, XdpProgram::load_floor(bench::PROGRAM_REDIRECT)?)
    }

    /// Receives what this program redirects.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if libxdp refuses a socket, [`LabError::Bpf`] if the program cannot be
    /// attached.
    pub fn attach(
        end: &VethEnd,
        queues: u32,
        descriptors: Descriptors,
        mut program: XdpProgram,
    ) -> Result<Self> {
        let config = Config::roomy(descriptors);
        let open = || (0..queues).map(|queue| XskSocket::open(&end.interface, queue, config));
        let sockets = end.namespace.enter(|| open().collect::<Result<Vec<_>>>())??;
        for (queue, socket) in (0..).zip(&sockets) {
            program.set_socket(queue, socket.fd())?;
        }
        program.attach(&end.namespace, &end.interface, XdpAttach::Native)?;
        let begun = vec![Vec::new(); sockets.len()];
        Ok(Self { program, sockets, begun })
    }

    /// Waits for this many frames, and a moment for more. Frames of a queue are in order of arrival, queues
    /// one after the other in each batch.
    ///
    /// # Errors
    ///
    /// [`LabError::Unexpected`] if fewer come within 10 s of the one before, where more come, and where
    /// the kernel counted a loss.
    pub fn collect(&mut self, count: usize) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::with_capacity(count);
        let mut last = Instant::now();
        loop {
            let patience = if frames.len() < count { PATIENCE } else { BEYOND };
            if self.turn_over(&mut frames)? > 0 {
                last = Instant::now();
            } else if last.elapsed() > patience {
                break;
            }
        }
        let losses = self.losses()?;
        if frames.len() != count || losses != Losses::default() {
            return Err(LabError::Unexpected(format!(
                "xsk-rs received {} frames of {count}, {losses:?}",
                frames.len()
            )));
        }
        Ok(frames)
    }

    /// What the kernel lost on all of the sockets.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the kernel has no account.
    pub fn losses(&self) -> Result<Losses> {
        self.sockets.iter().try_fold(Losses::default(), |sum, socket| {
            let Losses { rx_dropped, rx_ring_full } = socket.losses()?;
            Ok(Losses {
                rx_dropped: sum.rx_dropped + rx_dropped,
                rx_ring_full: sum.rx_ring_full + rx_ring_full,
            })
        })
    }

    /// The program that redirects.
    pub fn program(&self) -> &XdpProgram {
        &self.program
    }

    /// Receives a batch of each queue; returns the number of descriptors.
    fn turn_over(&mut self, frames: &mut Vec<Vec<u8>>) -> Result<usize> {
        let mut count = 0;
        for (socket, begun) in self.sockets.iter_mut().zip(&mut self.begun) {
            count += socket.turn_over(|bytes, goes_on| {
                begun.extend_from_slice(bytes);
                if !goes_on {
                    frames.push(std::mem::take(begun));
                }
            });
        }
        if count == 0 {
            for socket in &mut self.sockets {
                socket.poll(NAP)?;
            }
        }
        Ok(count)
    }
}
