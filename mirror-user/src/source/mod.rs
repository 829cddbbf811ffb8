//! Outer frames from capture files and pipes.
//!
//! [`CaptureReader`] reads classic pcap and pcapng as a stream in bounded memory, and lends frames in
//! batches, as a ring does.

mod error;
mod file;
mod input;
mod limits;
mod link;
mod pcap;
mod pcapng;
mod pipe;
mod record;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod unpack;

pub use error::CaptureError;
pub use file::{CaptureFile, CaptureReader, Captures, Unread};
pub use limits::{MAX_BLOCK, MAX_FRAME};
