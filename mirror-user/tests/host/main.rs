//! The host side and the doctor against real interfaces: veth pairs in network namespaces of their own. Needs
//! root.
#![cfg(feature = "af-xdp")]

mod doctor;
mod interface;
mod namespace;
