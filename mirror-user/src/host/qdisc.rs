//! Queueing disciplines (`linux/pkt_sched.h`).

use std::io;

use neli::{
    consts::rtnl::{RtAddrFamily, Rtm, Tca},
    rtnl::{RtattrBuilder, TcmsgBuilder},
};
use nix::sys::socket::SockProtocol;

use super::netlink::Netlink;

/// TC_H_ROOT.
const ROOT: u32 = u32::MAX;

/// Has a link send without a queueing discipline. Minimum kernel version: 4.3.
pub(super) fn remove(index: u32) -> io::Result<()> {
    let kind = RtattrBuilder::default().rta_type(Tca::Kind).rta_payload("noqueue").build();
    let message = TcmsgBuilder::default()
        .tcm_family(u8::from(RtAddrFamily::Unspecified))
        .tcm_ifindex(i32::try_from(index).map_err(io::Error::other)?)
        .tcm_handle(0)
        .tcm_parent(ROOT)
        .tcm_info(0)
        .rtattrs([kind.map_err(io::Error::other)?].into_iter().collect())
        .build();
    Netlink::open(SockProtocol::NetlinkRoute, 0)?.replace(Rtm::Newqdisc, message.map_err(io::Error::other)?)
}
