//! AF_XDP sockets that are not ours, for the lab: an [`XskSender`] and an [`XskReceiver`] over xsk-rs and
//! libxdp, which share no code with the engine. For the same traffic they and the engine are independent
//! witnesses.
//!
//! A separate crate, because libxdp needs clang, m4 and libelf to be built, and the engine does not.
#![warn(missing_docs)]
#![expect(unsafe_code, reason = "with xsk-rs, callers must keep each chunk in one ring at a time")]

mod queue;
mod receiver;
mod sender;
mod socket;

pub use queue::bind_when_free;
pub use receiver::XskReceiver;
pub use sender::XskSender;
pub use socket::{Config, Descriptors, Losses, XskSocket};

use std::io;

use mirror_lab::LabError;
use xsk_rs::config::{BindFlags, LibxdpFlags, QueueSize, SocketConfig};

/// In copy mode, with no program of libxdp's own.
fn socket_config(rx_ring: u32, tx_ring: u32, descriptors: Descriptors) -> Result<SocketConfig, LabError> {
    let mut flags = BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP;
    flags.set(BindFlags::XDP_USE_SG, descriptors == Descriptors::Several);
    Ok(SocketConfig::builder()
        .rx_queue_size(queue_size(rx_ring)?)
        .tx_queue_size(queue_size(tx_ring)?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(flags)
        .build())
}

fn queue_size(descriptors: u32) -> Result<QueueSize, LabError> {
    QueueSize::new(descriptors).map_err(|error| refused("a ring", error))
}

fn refused(what: &str, error: impl std::error::Error) -> LabError {
    // Its messages stop at the outermost error; the errno is in the chain.
    let mut text = format!("{what}: {error}");
    let mut inner = error.source();
    while let Some(error) = inner {
        text = format!("{text}: {error}");
        inner = error.source();
    }
    LabError::Unexpected(text)
}

fn io_error(what: &str, source: io::Error) -> LabError {
    LabError::Io { what: what.to_owned(), source }
}
