//! Ingest engine for AWS VPC Traffic Mirroring.
#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod account;
pub mod batch;
pub mod decap;
#[cfg(feature = "af-xdp")]
pub mod doctor;
#[cfg(feature = "af-xdp")]
pub mod engine;
#[cfg(feature = "af-xdp")]
pub mod host;
pub mod replay;
pub mod select;
pub mod sink;
pub mod source;
pub mod wire;
mod worker;
#[cfg(feature = "af-xdp")]
mod xdp;
#[cfg(feature = "af-xdp")]
mod xsk;

pub use account::Report;
pub use batch::{Batch, Captured, Frame};
#[cfg(feature = "af-xdp")]
pub use engine::Engine;
pub use replay::Replay;
