//! How fast `mirror` is on this host, where the time goes, and how it stands beside the tools people use
//! instead.
//!
//! Everything is measured on real packets: the lab's generator sends them, in the kernel, from one CPU, where
//! the receiving softirq runs too; what is under test has another CPU for itself.
#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod bed;
pub mod cpus;
pub mod ladder;
pub mod micro;
mod null;
pub mod options;
pub mod parts;
pub mod peers;
pub mod progress;
pub mod rates;
pub mod raw;
pub mod receiver;
pub mod report;
pub mod search;
pub mod stats;
pub mod sweep;
pub mod trial;
