//! The host side and the doctor with real interfaces: veth pairs in network namespaces. Needs root.
#![cfg(feature = "af-xdp")]

mod doctor;
mod interface;
mod namespace;
mod settings;
