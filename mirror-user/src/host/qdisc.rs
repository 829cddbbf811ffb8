//! Queueing disciplines (`linux/pkt_sched.h`).

use std::io;

use neli::{
    consts::rtnl::{RtAddrFamily, Rtm, Tca},
    rtnl::{RtattrBuilder, Tcmsg, TcmsgBuilder},
};
use nix::sys::socket::SockProtocol;

use super::netlink::Netlink;

/// TC_H_ROOT.
const ROOT: u32 = u32::MAX;
/// TC_H_CLSACT, and the parents of its filters: TC_H_MIN_INGRESS and TC_H_MIN_EGRESS in it.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_FILTERS: [u32; 2] = [0xffff_fff2, 0xffff_fff3];
/// The handle that it always has.
const CLSACT_HANDLE: u32 = 0xffff_0000;

/// Has a link send without a queueing discipline. Minimum kernel version: 4.3.
pub(super) fn remove(index: u32) -> io::Result<()> {
    Netlink::open(SockProtocol::NetlinkRoute, 0)?
        .replace(Rtm::Newqdisc, message(index, 0, ROOT, Some("noqueue"))?)
}

/// Removes the clsact qdisc of a link, unless it has a filter. Returns whether it did. Minimum kernel
/// version: 4.5.
pub(crate) fn remove_empty_clsact(index: u32) -> io::Result<bool> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkRoute, 0)?;
    for parent in CLSACT_FILTERS {
        if !netlink.request(Rtm::Gettfilter, true, &message(index, 0, parent, None)?)?.is_empty() {
            return Ok(false);
        }
    }
    netlink.change(Rtm::Delqdisc, message(index, CLSACT_HANDLE, CLSACT, Some("clsact"))?)?;
    Ok(true)
}

fn message(index: u32, handle: u32, parent: u32, kind: Option<&str>) -> io::Result<Tcmsg> {
    let attribute = |kind| RtattrBuilder::default().rta_type(Tca::Kind).rta_payload(kind).build();
    let attributes = kind.map(attribute).transpose().map_err(io::Error::other)?;
    let message = TcmsgBuilder::default()
        .tcm_family(u8::from(RtAddrFamily::Unspecified))
        .tcm_ifindex(i32::try_from(index).map_err(io::Error::other)?)
        .tcm_handle(handle)
        .tcm_parent(parent)
        .tcm_info(0)
        .rtattrs(attributes.into_iter().collect());
    message.build().map_err(io::Error::other)
}
