//! Tunnel protocols.

mod geneve;
mod mpls;
mod nsh;
mod ppp;
mod pppoe;
mod vxlan;

pub(super) use geneve::print as geneve;
pub(super) use mpls::print as mpls;
pub(super) use nsh::print as nsh;
pub(super) use ppp::print as ppp;
pub(super) use pppoe::print as pppoe;
pub(super) use vxlan::{gpe as vxlan_gpe, otv, print as vxlan};
