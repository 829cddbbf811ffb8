//! Ingest engine for AWS VPC Traffic Mirroring.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "af-xdp")]
pub mod doctor;
#[cfg(feature = "af-xdp")]
pub mod host;
