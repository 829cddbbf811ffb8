//! The program on an interface's XDP hook, and the XDP features of its driver.

use std::io;

use neli::{consts::rtnl::Ifla, rtnl::Ifinfomsg};
use nix::sys::socket::SockProtocol;
use serde::{Deserialize, Serialize};

use super::{
    HostError,
    netlink::{Netlink, attribute, generic},
};

// Attributes nested in IFLA_XDP, and values of the first: linux/if_link.h.
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const XDP_ATTACHED_DRV: u8 = 1;
const XDP_ATTACHED_SKB: u8 = 2;
const XDP_ATTACHED_HW: u8 = 3;
const XDP_ATTACHED_MULTI: u8 = 4;

// linux/netdev.h; in kernels since 6.3.
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;

/// How a program is attached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the stack, on a copy in a socket buffer.
    Generic,
    /// On the NIC.
    Hardware,
    /// In more than one of these.
    Several,
}

impl XdpMode {
    /// The name in reports and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Hardware => "hardware",
            Self::Several => "several",
        }
    }
}

/// The program on an interface's XDP hook.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct XdpHook {
    /// How it is attached.
    pub mode: XdpMode,
    /// The kernel's id of it; see `bpftool prog show id N`.
    pub program: u32,
    /// Its name, if it has one and the process may query it (CAP_SYS_ADMIN).
    pub name: Option<String>,
}

impl XdpHook {
    pub(super) fn of_link(link: &Ifinfomsg) -> Option<Self> {
        let (mode, program) = program_of(link)?;
        Some(Self { mode, program, name: program_name(program) })
    }
}

/// How a program is attached to a link, and its id: that of the driver, where there are several.
pub(super) fn program_of(link: &Ifinfomsg) -> Option<(XdpMode, u32)> {
    let attributes = link.rtattrs().get_attr_handle();
    let xdp = attributes.get_nested_attributes::<u16>(Ifla::Xdp).ok()?;
    let id = |kind: u16| xdp.get_attr_payload_as::<u32>(kind).ok().filter(|&id| id != 0);
    let mode = match xdp.get_attr_payload_as::<u8>(IFLA_XDP_ATTACHED).ok()? {
        XDP_ATTACHED_DRV => XdpMode::Native,
        XDP_ATTACHED_SKB => XdpMode::Generic,
        XDP_ATTACHED_HW => XdpMode::Hardware,
        XDP_ATTACHED_MULTI => XdpMode::Several,
        _ => return None,
    };
    // With programs in several places the common attribute is absent.
    let ids = [IFLA_XDP_PROG_ID, IFLA_XDP_DRV_PROG_ID, IFLA_XDP_SKB_PROG_ID, IFLA_XDP_HW_PROG_ID];
    Some((mode, ids.into_iter().find_map(id).unwrap_or(0)))
}

/// The name of a loaded program; `None` if it has none or the process may not query it.
fn program_name(id: u32) -> Option<String> {
    let program =
        aya::programs::loaded_programs().map_while(Result::ok).find(|program| program.id() == id)?;
    program.name_as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// XDP features that a driver reports (`NETDEV_XDP_ACT_*`). They depend on the interface's settings: veth
/// shows `ndo_xmit` only while its peer can receive. Minimum kernel version: 6.3.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct XdpFeatures {
    /// Native programs that pass, drop or send back.
    pub basic: bool,
    /// Native programs that redirect, which AF_XDP needs.
    pub redirect: bool,
    /// Others may redirect frames to it.
    pub ndo_xmit: bool,
    /// AF_XDP without a copy.
    pub zero_copy: bool,
    /// Programs on the NIC.
    pub hardware: bool,
    /// Frames of several buffers on receive.
    pub rx_sg: bool,
    /// Frames of several buffers on redirect to it.
    pub ndo_xmit_sg: bool,
    /// The most buffers of a frame in zero-copy mode. Minimum kernel version: 6.6.
    pub zero_copy_max_segments: Option<u32>,
}

impl XdpFeatures {
    /// Queries the `netdev` family; `None` where the kernel does not have it (before 6.3).
    pub(crate) fn of_index(index: u32) -> Result<Option<Self>, HostError> {
        let refused = |source| HostError::Netlink { what: "read XDP features", source };
        let mut netlink = Netlink::open(SockProtocol::NetlinkGeneric, 0).map_err(refused)?;
        let family = match netlink.family("netdev") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            family => family.map_err(refused)?,
        };
        let request = generic(NETDEV_CMD_DEV_GET, &[(NETDEV_A_DEV_IFINDEX, index.to_ne_bytes().to_vec())]);
        let answers = netlink.request(family, false, &request.map_err(refused)?).map_err(refused)?;
        let value = |kind: u16| answers.first().and_then(|device| attribute(device, kind));
        // Written as "uint" in the specification: 64 bits in every kernel so far, 32 allowed.
        let bits = value(NETDEV_A_DEV_XDP_FEATURES).and_then(|bytes| match bytes.len() {
            4 => bytes.try_into().ok().map(u32::from_ne_bytes).map(u64::from),
            _ => bytes.try_into().ok().map(u64::from_ne_bytes),
        });
        let segments = value(NETDEV_A_DEV_XDP_ZC_MAX_SEGS);
        let segments = segments.and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        Ok(bits.map(|bits| Self::from_bits(bits, segments)))
    }

    fn from_bits(bits: u64, zero_copy_max_segments: Option<u32>) -> Self {
        let has = |bit: u32| bits & (1 << bit) != 0;
        Self {
            basic: has(0),
            redirect: has(1),
            ndo_xmit: has(2),
            zero_copy: has(3),
            hardware: has(4),
            rx_sg: has(5),
            ndo_xmit_sg: has(6),
            zero_copy_max_segments,
        }
    }
}
