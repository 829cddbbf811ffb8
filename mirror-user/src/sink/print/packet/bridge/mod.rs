//! Protocols between bridges, switches and other devices on a link.

mod cisco;
mod geonet;
mod lldp;
mod ptp;
mod slow;
mod small;
mod stp;

pub(super) use cisco::{
    discovery as cisco_discovery, link_detection as cisco_link_detection, trunking as cisco_trunking,
    vlans as cisco_vlans,
};
pub(super) use geonet::{calm_fast, print as geonet};
pub(super) use lldp::print as lldp;
pub(super) use ptp::print as ptp;
pub(super) use slow::print as slow;
pub(super) use small::{ata, authentication, fault_management, load_balancing, loopback};
pub(super) use stp::print as stp;
