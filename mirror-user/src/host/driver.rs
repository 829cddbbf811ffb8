//! What is known of drivers and not reported by them.

use super::{DriverInfo, xdp::XdpFeatures};

/// Drivers of mainline kernels with native XDP and redirect, for kernels that do not report it (before 6.3).
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
/// The largest MTU that mainline's drivers commonly take with a program of one buffer on pages of 4 KiB; for
/// drivers whose own limit is not known here.
const COMMON_MTU: u32 = 3498;

/// Whether mainline's driver of that name has native XDP.
pub(crate) fn has_native(name: &str) -> bool {
    NATIVE.contains(&name)
}

/// Where an ENA driver comes from; it decides what it can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ena {
    /// The kernel's own: versions `2.1.0K`, or the kernel's release since 5.8.
    InBox,
    /// Amazon's, from its repository or in Amazon Linux's kernels: versions such as `2.13.2g`.
    OutOfTree((u16, u16, u16)),
}

impl Ena {
    /// `None` for other drivers.
    pub(crate) fn of(driver: Option<&DriverInfo>) -> Option<Self> {
        let driver = driver.filter(|driver| driver.name == "ena")?;
        let numbers = driver.version.strip_suffix('g').map(|version| version.splitn(3, '.').map(str::parse));
        let numbers: Option<Vec<u16>> = numbers.and_then(|numbers| numbers.collect::<Result<_, _>>().ok());
        Some(match numbers.as_deref() {
            Some([major, minor, patch]) => Self::OutOfTree((*major, *minor, *patch)),
            _ => Self::InBox,
        })
    }

    /// Whether it is Amazon's, and at least this version.
    pub(crate) fn at_least(self, version: (u16, u16, u16)) -> bool {
        matches!(self, Self::OutOfTree(own) if own >= version)
    }
}

/// How large an MTU, in bytes, a driver takes with an XDP program of a single buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SingleBuffer {
    /// The largest it attaches at.
    pub(crate) most: u32,
    /// The largest at which frames with two VLAN tags fit as well.
    pub(crate) lossless: u32,
}

/// The limit of a driver on pages of `page` bytes, where it is known.
///
/// For veth it is the *other* end's MTU that counts (`veth_xdp_set`).
pub(crate) fn known_single_buffer(driver: Option<&DriverInfo>, page: u32) -> Option<SingleBuffer> {
    let buffer =
        |page: u32, trailers: u32| page.saturating_sub(HEADROOM + SHARED_INFO + ETHERNET_HEADER + trailers);
    // `trailers` is the driver's own room behind the frame.
    let limit = |page: u32, trailers: u32, tags: u32| SingleBuffer {
        most: buffer(page, trailers),
        lossless: buffer(page, trailers).saturating_sub(tags),
    };
    let exactly = |most| SingleBuffer { most, lossless: most };
    Some(match driver?.name.as_str() {
        // ENA_XDP_MAX_MTU, with ENA_PAGE_SIZE of at most 16 KiB; Amazon's leaves the VLAN tag out. A VPC has
        // no tags.
        "ena" => match Ena::of(driver)? {
            Ena::InBox => limit(page.min(16 << 10), FRAME_CHECK + VLAN_TAG, 0),
            Ena::OutOfTree(_) => limit(page.min(16 << 10), FRAME_CHECK, VLAN_TAG),
        },
        "veth" | "virtio_net" => limit(page, 0, 2 * VLAN_TAG),
        // It attaches up to VMXNET3_XDP_MAX_MTU, 3494. But it receives in buffers of
        // VMXNET3_MAX_SKB_BUF_SIZE, 3072, and runs the program on frames in one of them only
        // (`vmxnet3_rq_rx_complete`). VMXNET3_MAX_ETH_HDR_SIZE has two tags.
        "vmxnet3" => exactly(3072 - (ETHERNET_HEADER + 2 * VLAN_TAG)),
        // `igb_xdp_setup` compares MTU + IGB_ETH_PKT_HDR_PAD, two tags among it, with `igb_rx_bufsz`: 3072,
        // or on larger pages 2048 less a time stamp of 16.
        "igb" if page < 8192 => exactly(3072 - (ETHERNET_HEADER + FRAME_CHECK + 2 * VLAN_TAG)),
        "igb" => exactly(2048 - 16 - (ETHERNET_HEADER + FRAME_CHECK + 2 * VLAN_TAG)),
        _ => return None,
    })
}

/// The limit of a driver, or the common one where it is not known.
pub(crate) fn single_buffer(driver: Option<&DriverInfo>, page: u32) -> SingleBuffer {
    known_single_buffer(driver, page).unwrap_or(SingleBuffer { most: COMMON_MTU, lossless: COMMON_MTU })
}

/// Whether the driver passes frames of several buffers to a program that takes them (`xdp.frags`); `false`
/// where it is not known.
pub(crate) fn has_frags(driver: Option<&DriverInfo>, reported: Option<XdpFeatures>) -> bool {
    let name = driver.map(|driver| driver.name.as_str());
    name == Some("veth")
        || reported.is_some_and(|features| features.rx_sg)
        || Ena::of(driver).is_some_and(|ena| ena.at_least((2, 14, 0)))
}

/// Whether the driver's zero-copy receive uses the whole of a chunk, whatever its size. igb programs buffers
/// in whole KiB (`E1000_SRRCTL_BSIZEPKT_SHIFT`), so that of a chunk of 2048 bytes, 312 of them headroom, it
/// uses 1024 and cuts frames there.
pub(crate) fn uses_whole_chunks(driver: Option<&DriverInfo>) -> bool {
    driver.is_some_and(|driver| driver.name == "virtio_net")
}

/// Whether the driver resets its link when a program is attached or detached, for how long, in seconds.
/// Measured; others may too.
pub(crate) fn link_reset(driver: Option<&DriverInfo>) -> Option<u32> {
    (driver?.name == "igb").then_some(2)
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
        for (name, version, page, most, lossless) in [
            ("ena", "6.1.0", 4096, 3498, 3498),
            ("ena", "2.13.2g", 4096, 3502, 3498),
            ("ena", "6.1.0", 65536, 15786, 15786),
            ("veth", "1.0", 4096, 3506, 3498),
            ("veth", "1.0", 65536, 64946, 64938),
            ("virtio_net", "1.0.0", 4096, 3506, 3498),
            ("vmxnet3", "1.9.0.0-k", 4096, 3050, 3050),
            ("igb", "6.12.95", 4096, 3046, 3046),
            ("igb", "6.12.95", 65536, 2006, 2006),
        ] {
            let limit = known_single_buffer(Some(&driver(name, version)), page);
            assert_eq!(limit, Some(SingleBuffer { most, lossless }), "{name} {version} {page}");
        }
        assert_eq!(known_single_buffer(Some(&driver("mlx5_core", "6.1.0")), 4096), None);
        assert_eq!(known_single_buffer(None, 4096), None);
        assert_eq!(single_buffer(None, 4096).most, 3498);
    }

    #[test]
    fn frames_of_several_buffers_need_a_driver_that_reports_or_is_known_for_them() {
        let reported =
            |rx_sg| Some(XdpFeatures { basic: true, redirect: true, rx_sg, ..XdpFeatures::default() });
        assert!(has_frags(Some(&driver("veth", "1.0")), None));
        assert!(has_frags(Some(&driver("mlx5_core", "6.12.0")), reported(true)));
        assert!(has_frags(Some(&driver("ena", "2.14.0g")), None));
        assert!(!has_frags(Some(&driver("ena", "2.13.2g")), None));
        assert!(!has_frags(Some(&driver("ena", "6.12.0")), reported(false)));
        assert!(!has_frags(Some(&driver("mlx5_core", "6.1.0")), None));
        assert!(!has_frags(None, None));
    }
}
