//! An AF_XDP socket with bare rings, and minimal workers on it.
//!
//! It shares no code with the engine or libxdp: rings are read and written in place, as in
//! `Documentation/networking/af_xdp.rst`. So it measures the cost of the kernel alone.
#![expect(unsafe_code, reason = "rings and UMEM are memory shared with the kernel")]

mod rings;
mod worker;

pub use rings::{RawSocket, Sizes};
pub use worker::{ETHERTYPE, Look, Queue, Tally, Wait, Worker};
