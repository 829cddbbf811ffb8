//! An AF_XDP socket with the rings bare, and the least a worker can do with it.
//!
//! Nothing of the engine is in here, nor of libxdp: rings are read and written in place, as
//! `Documentation/networking/af_xdp.rst` has them. So it tells what the kernel alone takes.
#![expect(unsafe_code, reason = "rings and UMEM are memory shared with the kernel")]

mod rings;
mod worker;

pub use rings::{RawSocket, Sizes};
pub use worker::{ETHERTYPE, Look, Queue, Tally, Wait, Worker};
