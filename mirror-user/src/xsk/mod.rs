//! AF_XDP: UMEM, rings, frames. The only place where memory shared with the kernel is touched.
//!
//! A [`Socket`] owns a UMEM and its four rings. Every chunk of the UMEM is at any time either the kernel's
//! (in the fill ring, or being written), in the RX ring, or in a [`Received`] batch; descriptors leave this
//! module only as borrowed bytes, so a chunk cannot be given back twice, nor read after it was given back.
//!
//! A [`Transmitter`] has a UMEM of its own, whose chunks are free, in the TX ring, or outstanding.
//!
//! Kernel documentation: `Documentation/networking/af_xdp.rst`.
#![expect(
    unsafe_code,
    reason = "the kernel writes to the memory this module lends out; each block says why it may"
)]

mod bind;
mod error;
mod received;
mod ring;
mod socket;
mod stamps;
mod transmit;
mod umem;

pub(crate) use bind::new_socket;
pub use error::SocketError;
pub(crate) use received::{BatchTime, Pieces, Received, Several, StampedTimes, Times};
pub use socket::Bind;
pub(crate) use socket::{Config, FRAME_HEADROOM, HEADROOM, Socket, SocketParts, Statistics, ToBind};
pub(crate) use stamps::Stamps;
pub(crate) use transmit::{SOCKETS, Transmitter};
pub(crate) use umem::HugePages;
