//! What is known of drivers and cannot be asked of them.

use crate::host::DriverInfo;

/// Drivers of mainline kernels with native XDP and redirect, for kernels that cannot tell (before 6.3).
const NATIVE: [&str; 30] = [
    "atlantic",
    "bnxt_en",
    "dpaa2-eth",
    "dpaa_eth",
    "ena",
    "enetc",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "lan966x",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "qede",
    "sfc",
    "st_gmac",
    "thunder-nic",
    "tun",
    "veth",
    "virtio_net",
    "vmxnet3",
];

/// Bytes of `SKB_DATA_ALIGN(sizeof(struct skb_shared_info))` on 64-bit hosts with cache lines of 64 bytes.
const SHARED_INFO: u32 = 320;
/// `XDP_PACKET_HEADROOM`.
const HEADROOM: u32 = 256;
const ETHERNET_HEADER: u32 = 14;
const VLAN_TAG: u32 = 4;
const FRAME_CHECK: u32 = 4;

/// Whether mainline's driver of that name has native XDP.
pub(super) fn has_native(name: &str) -> bool {
    NATIVE.contains(&name)
}

/// Where an ENA driver comes from; it decides what it can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ena {
    /// The kernel's own: versions `2.1.0K`, or the kernel's release since 5.8.
    InBox,
    /// Amazon's, from its repository or in Amazon Linux's kernels: versions such as `2.13.2g`.
    OutOfTree((u16, u16, u16)),
}

impl Ena {
    /// `None` for other drivers.
    pub(super) fn of(driver: Option<&DriverInfo>) -> Option<Self> {
        let driver = driver.filter(|driver| driver.name == "ena")?;
        let numbers = driver.version.strip_suffix('g').map(|version| version.splitn(3, '.').map(str::parse));
        let numbers: Option<Vec<u16>> = numbers.and_then(|numbers| numbers.collect::<Result<_, _>>().ok());
        Some(match numbers.as_deref() {
            Some([major, minor, patch]) => Self::OutOfTree((*major, *minor, *patch)),
            _ => Self::InBox,
        })
    }

    /// Whether it is Amazon's, and at least this version.
    pub(super) fn at_least(self, version: (u16, u16, u16)) -> bool {
        matches!(self, Self::OutOfTree(own) if own >= version)
    }
}

/// The largest MTU, in bytes, that a driver takes with a program of one buffer, where that is known.
///
/// For veth it is the *other* end's MTU that counts (`veth_xdp_set`).
pub(super) fn max_mtu(driver: Option<&DriverInfo>, page: u32) -> Option<u32> {
    let buffer =
        |page: u32, trailers: u32| page.checked_sub(HEADROOM + SHARED_INFO + ETHERNET_HEADER + trailers);
    match driver?.name.as_str() {
        // ENA_XDP_MAX_MTU, with ENA_PAGE_SIZE of at most 16 KiB; Amazon's leaves the VLAN tag out.
        "ena" => match Ena::of(driver)? {
            Ena::InBox => buffer(page.min(16 << 10), FRAME_CHECK + VLAN_TAG),
            Ena::OutOfTree(_) => buffer(page.min(16 << 10), FRAME_CHECK),
        },
        "veth" | "virtio_net" => buffer(page, 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(name: &str, version: &str) -> DriverInfo {
        DriverInfo { name: name.to_owned(), version: version.to_owned(), bus: String::new() }
    }

    #[test]
    fn ena_is_known_by_the_form_of_its_version() {
        for (version, expected) in [
            ("2.13.2g", Ena::OutOfTree((2, 13, 2))),
            ("2.17.0g", Ena::OutOfTree((2, 17, 0))),
            ("2.1.0K", Ena::InBox),
            ("6.8.0-1036-aws", Ena::InBox),
            ("", Ena::InBox),
            ("2.13g", Ena::InBox),
        ] {
            assert_eq!(Ena::of(Some(&driver("ena", version))), Some(expected), "{version}");
        }
        assert_eq!(Ena::of(Some(&driver("veth", "1.0"))), None);
        assert_eq!(Ena::of(None), None);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(Ena::OutOfTree((2, 13, 2)).at_least((2, 9, 0)));
        assert!(!Ena::OutOfTree((2, 9, 9)).at_least((2, 13, 2)));
        assert!(!Ena::InBox.at_least((0, 0, 0)));
    }

    #[test]
    fn the_largest_mtu_is_what_the_drivers_say() {
        assert_eq!(max_mtu(Some(&driver("ena", "6.1.0")), 4096), Some(3498));
        assert_eq!(max_mtu(Some(&driver("ena", "2.13.2g")), 4096), Some(3502));
        assert_eq!(max_mtu(Some(&driver("veth", "1.0")), 4096), Some(3506));
        assert_eq!(max_mtu(Some(&driver("mlx5_core", "6.1.0")), 4096), None);
        assert_eq!(max_mtu(None, 4096), None);
    }
}
