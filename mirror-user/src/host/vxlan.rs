//! The kernel's VXLAN devices, which use the same UDP port as mirrored traffic.

use neli::consts::rtnl::Ifla;

use super::{
    HostError,
    interface::{IFLA_INFO_DATA, IFLA_INFO_KIND, links},
};

// linux/if_link.h: nested in IFLA_INFO_DATA.
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;

/// A VXLAN device of the calling thread's network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Vxlan {
    /// Its name.
    pub name: String,
    /// The VNI it takes; `None` for one that takes every VNI (`external`, or collect-metadata).
    pub vni: Option<u32>,
    /// The UDP port it receives on.
    pub port: u16,
}

/// Every VXLAN device of the calling thread's network namespace. One that was moved to another namespace, as
/// container networks do, is not listed, though its socket stays.
///
/// # Errors
///
/// When rtnetlink refuses.
pub fn vxlan_devices() -> Result<Vec<Vxlan>, HostError> {
    let mut found = Vec::new();
    for link in links()? {
        let attributes = link.rtattrs().get_attr_handle();
        let Ok(info) = attributes.get_nested_attributes::<u16>(Ifla::Linkinfo) else { continue };
        if info.get_attr_payload_as_with_len::<String>(IFLA_INFO_KIND).is_ok_and(|kind| kind == "vxlan") {
            let Ok(data) = info.get_nested_attributes::<u16>(IFLA_INFO_DATA) else { continue };
            let external =
                data.get_attr_payload_as::<u8>(IFLA_VXLAN_COLLECT_METADATA).is_ok_and(|on| on != 0);
            let vni = data.get_attr_payload_as::<u32>(IFLA_VXLAN_ID).ok().filter(|_| !external);
            let Ok(name) = attributes.get_attr_payload_as_with_len::<String>(Ifla::Ifname) else { continue };
            let port = data.get_attr_payload_as::<[u8; 2]>(IFLA_VXLAN_PORT).map_or(0, u16::from_be_bytes);
            found.push(Vxlan { name, vni, port });
        }
    }
    Ok(found)
}
