//! How fast `mirror` is on this host, where the time is spent, and how it compares with other tools.
//!
//! Everything is measured on real packets: the lab's generator sends them, in the kernel, from one CPU, where
//! the receiving softirq runs too; the program under test has another CPU to itself.
#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod bed;
pub mod captures;
pub mod cpus;
pub mod gaps;
pub mod ladder;
pub mod micro;
mod mounted;
pub mod neighbour;
mod null;
pub mod options;
pub mod parts;
pub mod peers;
mod process;
pub mod progress;
pub mod rates;
pub mod raw;
pub mod receiver;
pub mod report;
pub mod search;
pub mod source;
pub mod stats;
pub mod sweep;
pub mod trial;
