//! The lab that tests, demo and benches of `mirror` run in: real namespaces, real veth, the kernel's own
//! VXLAN device and `tc mirred` as a mirror source, a real HTTP server and client, HAProxy between them,
//! OpenSSL, and tcpdump, tshark and Suricata as independent witnesses.
//!
//! Nothing here depends on the engine, so that it is an independent witness. It needs root, and `ip`, `tc`,
//! `ethtool`, `tcpdump`, `tshark`, `curl`; and `suricata`, `haproxy` and `openssl` for what has them.
//!
//! ```no_run
//! use mirror_lab::{Exchange, Lab, MirrorSource, MirrorSourceOptions};
//!
//! let lab = Lab::new()?;
//! let source = MirrorSource::raise(&lab, &MirrorSourceOptions::default())?;
//! // Capture on `source.capture_interface()` in `source.target()`, then:
//! source.http(&[Exchange::Get(100_000), Exchange::PostEcho(20_000)])?;
//! # Ok::<(), mirror_lab::LabError>(())
//! ```
#![warn(missing_docs)]

pub mod aws_twin;
mod balancer;
pub mod capture;
mod command;
mod error;
pub mod flows;
mod fragments;
pub mod frames;
pub mod generator;
pub mod geneve;
pub mod guest;
mod http;
mod injector;
mod interface_counters;
mod lab;
pub mod mirror_source;
pub mod mixed;
mod namespace;
mod packet_socket;
mod sequence;
pub mod super_frames;
pub mod suricata;
mod systemd;
mod tls;
pub mod tshark;
mod veth;
mod witness;
pub mod xdp_program;

pub use balancer::Balancer;
pub use command::run;
pub use error::{LabError, Result};
pub use fragments::fragment;
pub use generator::{Generated, Generator, RunningGenerator, Traffic};
pub use http::{Exchange, HttpServer, PAGE, exchange};
pub use injector::Injector;
pub use interface_counters::InterfaceCounters;
pub use lab::{Lab, list};
pub use mirror_source::{MirrorSource, MirrorSourceOptions};
pub use namespace::Namespace;
pub use packet_socket::{Listener, RepeatSocket, SuperFrameSocket};
pub use sequence::{Sequence, SequenceLedger};
pub use suricata::Suricata;
pub use systemd::Systemd;
pub use tls::{TlsConnection, TlsServer};
pub use veth::{VethEnd, VethOptions, VethPair};
pub use witness::{Testimony, Witness};
pub use xdp_program::XdpProgram;
