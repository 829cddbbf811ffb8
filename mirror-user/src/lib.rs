//! Ingest engine for AWS VPC Traffic Mirroring: mirrored packets from a NIC, through AF_XDP, decapsulated in
//! place, to sinks of your own, every one of them accounted for.
//!
#![cfg_attr(feature = "af-xdp", doc = "```no_run")]
#![cfg_attr(not(feature = "af-xdp"), doc = "```ignore")]
//! use std::time::Duration;
//!
//! use mirror_user::{Engine, Frame, sink};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let print = sink::for_each("print", |frame: &Frame<'_>| {
//!         println!("VNI {} from {}: {} bytes", frame.vni(), frame.source(), frame.wire_len());
//!         Ok(())
//!     });
//!     let running = Engine::builder("ens6").sink(print).build()?.start()?;
//!     let event = running.wait(Duration::from_secs(60));
//!     let report = running.stop();
//!     println!("{event:?}: {} frames, residue {}", report.frames.decapsulated, report.accounting.residue);
//!     Ok(())
//! }
//! ```
//!
//! [`Replay`] in the place of `Engine` runs the same sinks over capture files, on any platform and without
//! root; [`Dispatch`] runs them over frames of a source of your own. The crate's `examples` have a sink that
//! keeps state, and a run over two interfaces that goes on when one is lost, with reports from a second
//! thread.
//!
//! Modules follow the way of a packet, and are named by its words:
//!
//! | module | |
//! |---|---|
//! | `engine` | describes, starts and stops a run on interfaces |
//! | [`replay`] | the same over capture files |
//! | [`dispatch`] | the same over frames of a source of your own |
//! | [`source`] | reads capture files as a stream of frames |
//! | [`wire`] | views over Ethernet, VLAN, IPv4, IPv6, UDP and VXLAN headers |
//! | [`decap`] | finds the inner frame |
//! | [`reassembly`] | joins outer frames that were fragmented on their way |
//! | [`Tunnels`] | which ports carry a tunnel, and of which protocol |
//! | [`select`] | which tunnels are let in, and which frames match an expression |
//! | [`frame`] | outer frames, the inner ones in them, and what a sink is lent |
//! | [`flow`] | which flow an inner frame belongs to |
//! | [`sink`] | where frames go: counters, capture files, text, latency, yours |
//! | [`account`] | what is counted, the law it obeys, the report |
//! | `host` | interfaces, drivers, kernel, limits |
//! | `doctor` | what a host can do, and how to fix what it cannot |
//! | `settings` | a configuration file as one value |
//! | [`hidden_file`] | files that have a hidden name until they are complete |
//! | [`error`], [`escape`], [`log_limit`] | errors, names and log lines as text |
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `af-xdp` | yes | `engine`, `host`, `doctor`, `sink::forward`: Linux only |
//! | `cli` | yes | the `mirror` command, with `af-xdp` and `filter` |
//! | `settings` | with `cli` | `settings`: a configuration file as one value; `af-xdp` with it |
//! | `filter` | with `cli` | `Filter::compile`: libpcap, and its headers to build |
//! | `zstd` | with `cli` | captures in Zstandard: a C library, built along |
//!
//! Without them, everything else builds with stable Rust alone.
//!
//! # What the library leaves to you
//!
//! It handles no signals, raises no limits by itself, drops no privileges and prints nothing. Its `tracing`
//! events, never one per packet, go where the embedder sends them. Starting on an interface takes
//! CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON; `EngineBuilder::on_thread_ready` is where each thread
//! may drop them. A panic in a sink ends that sink and nothing else, as long as the program is built with
//! unwinding panics.
#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod account;
pub mod decap;
pub mod dispatch;
#[cfg(feature = "af-xdp")]
pub mod doctor;
#[cfg(feature = "af-xdp")]
pub mod engine;
pub mod error;
pub mod escape;
pub mod flow;
pub mod frame;
pub mod hidden_file;
#[cfg(feature = "af-xdp")]
pub mod host;
pub mod log_limit;
mod pipeline;
pub mod reassembly;
pub mod replay;
pub mod select;
#[cfg(feature = "settings")]
pub mod settings;
pub mod sink;
pub mod source;
mod tunnels;
pub mod wire;
#[cfg(feature = "af-xdp")]
mod xdp;
#[cfg(feature = "af-xdp")]
mod xsk;

pub use account::Report;
pub use dispatch::Dispatch;
#[cfg(feature = "af-xdp")]
pub use engine::Engine;
pub use frame::{Batch, Captured, Frame, Slices};
pub use replay::Replay;
pub use sink::{Sink, SinkError, SinkFactory, SinkStats, WorkerContext};
pub use tunnels::{Encapsulation, Tunnels};

/// The programs in the README compile.
#[cfg(all(doctest, feature = "af-xdp"))]
#[doc = include_str!("../../README.md")]
struct Readme;
