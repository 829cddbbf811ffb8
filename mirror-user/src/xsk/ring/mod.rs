//! The four rings that a socket shares with the kernel.
//!
//! They are worked on in place, by the protocol of `Documentation/networking/af_xdp.rst` and the kernel's
//! `net/xdp/xsk_queue.h`: each side owns one index, reads the other's with acquire, and publishes its own
//! with release. Indices run through all of `u32` and wrap around; an entry's place is its index under the
//! ring's mask.

mod completion;
mod fill;
mod memory;
mod rx;
mod tx;

#[cfg(test)]
pub(super) use memory::testing;
pub(super) use {completion::CompletionRing, fill::FillRing, memory::Memory, rx::RxRing, tx::TxRing};
