//! Ingest engine for AWS VPC Traffic Mirroring.
#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod account;
pub mod batch;
pub mod decap;
pub mod replay;
pub mod select;
pub mod sink;
pub mod source;
pub mod wire;
mod worker;

pub use account::Report;
pub use batch::{Batch, Captured, Frame};
pub use replay::Replay;
