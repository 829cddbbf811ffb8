//! Routing protocols.

mod babel;
mod bfd;
mod eigrp;
mod hsrp;
mod osi;
mod ospf;
mod pim;
mod rip;
mod vrrp;

pub(super) use babel::print as babel;
pub(super) use bfd::print as bfd;
pub(super) use eigrp::print as eigrp;
pub(super) use hsrp::print as hsrp;
pub(super) use osi::print as osi;
pub(super) use ospf::{print as ospf, version_3 as ospf_3};
pub(super) use pim::print as pim;
pub(super) use rip::{next_generation as rip_next_generation, print as rip};
pub(super) use vrrp::print as vrrp;
