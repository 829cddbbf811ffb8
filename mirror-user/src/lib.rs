//! Ingest engine for AWS VPC Traffic Mirroring: it receives mirrored packets from a NIC over AF_XDP,
//! decapsulates them in place and delivers them to sinks, your own among them. Every packet is accounted for.
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
//! [`Replay`] runs the same sinks over capture files, on any platform and without root; [`Dispatch`] runs
//! them over frames from a source of your own. The crate's `examples` have a stateful sink, and a run over
//! two interfaces that continues when one is deleted, with reports from a second thread.
//!
//! Modules, along the packet path:
//!
//! | module | |
//! |---|---|
//! | `engine` | describes, starts and stops a run on interfaces |
//! | [`replay`] | runs over capture files |
//! | [`dispatch`] | runs over frames from a source of your own |
//! | [`source`] | reads capture files as a stream of frames |
//! | [`wire`] | views over Ethernet, VLAN, IPv4, IPv6, UDP, VXLAN and GENEVE headers |
//! | [`decap`] | finds the inner frame |
//! | [`reassembly`] | reassembles fragmented outer packets |
//! | [`Tunnels`] | which ports carry a tunnel, and of which protocol |
//! | [`select`] | which VNIs and sources are accepted, and which frames match a filter expression |
//! | [`frame`] | captured frames, decapsulated frames, batches |
//! | [`flow`] | the flow key of an inner frame |
//! | [`flow_log`] | records of VPC flow logs |
//! | [`sink`] | consumers of frames: counters, capture files, text, latency, your own |
//! | [`account`] | counters, the accounting law, the report |
//! | [`agent`] | mirrors a host's own traffic: segments, encapsulates and sends copies of its packets |
//! | [`query`] | queries of CloudWatch Logs Insights over records, and as SQL |
//! | [`mirroring`] | Traffic Mirroring: targets, filters, sessions, and what becomes of a packet |
//! | `host` | interfaces, drivers, kernel, limits |
//! | `doctor` | checks a host and suggests remedies |
//! | `settings` | the configuration file as a typed value |
//! | [`hidden_file`] | files with a hidden name until they are complete |
//! | [`error`], [`escape`], [`log_limit`] | text of errors, escaping of names, rate-limited log lines |
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `af-xdp` | yes | `engine`, `host`, `doctor`, `agent`, `sink::forward`: Linux only |
//! | `cli` | yes | the `mirror` command, with `af-xdp` and `filter` |
//! | `settings` | with `cli` | `settings`; needs `af-xdp` |
//! | `parquet` | with `cli` | `flow_log::parquet`: builds a C library, Zstandard |
//! | `filter` | with `cli` | `Filter::compile`: needs libpcap and its headers |
//! | `zstd` | with `cli` | captures in Zstandard: builds a C library |
//!
//! Without these features the crate builds with stable Rust alone.
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
pub mod agent;
pub mod decap;
pub mod dispatch;
#[cfg(feature = "af-xdp")]
pub mod doctor;
#[cfg(feature = "af-xdp")]
pub mod engine;
pub mod error;
pub mod escape;
pub mod flow;
pub mod flow_log;
pub mod frame;
pub mod hidden_file;
#[cfg(feature = "af-xdp")]
pub mod host;
pub mod log_limit;
pub mod mirroring;
mod pipeline;
pub mod query;
pub mod reassembly;
pub mod replay;
pub mod select;
#[cfg(feature = "settings")]
pub mod settings;
pub mod sink;
pub mod source;
#[cfg(feature = "af-xdp")]
mod tc;
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

/// The README's programs compile.
#[cfg(all(doctest, feature = "af-xdp"))]
#[doc = include_str!("../../README.md")]
struct Readme;
