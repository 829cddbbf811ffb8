//! What a refusal of the kernel means here. Pure: from an errno and facts to a cause.

use std::io;

use super::{
    cause::{AttachCause, Obstacle, SocketCause},
    facts::Host,
};
use crate::{
    error::errno,
    host::{
        driver,
        kernel::{KernelVersion, since},
        xdp::XdpMode,
    },
    xdp::ProgramSetupError,
    xsk::SocketError,
};

/// VIRTIO_F_ACCESS_PLATFORM, virtio 1.2 section 6.
pub(crate) const VIRTIO_ACCESS_PLATFORM: u32 = 33;

/// Why an attach failed. A bpf_link carries no message of the driver, so the cause is inferred from the errno
/// and the interface's facts.
pub(super) fn attach(
    host: &Host,
    obstacles: &[Obstacle],
    mode: XdpMode,
    error: &io::Error,
) -> Option<AttachCause> {
    let driver = || host.known_driver();
    let errno = error.raw_os_error();
    match errno {
        Some(libc::EBUSY | libc::EEXIST) => return Some(AttachCause::HookTaken),
        Some(libc::EPERM) => return Some(AttachCause::NotPermitted),
        Some(libc::ENODEV) => return Some(AttachCause::InterfaceGone),
        _ if mode != XdpMode::Native => return None,
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::ENOMEM | libc::ENOSPC) => {}
        _ => return None,
    }
    if let Some(obstacle) = obstacles.first() {
        return Some(AttachCause::Obstacle { driver: driver(), obstacle: obstacle.clone() });
    }
    if errno == Some(libc::ENOSPC) {
        return Some(AttachCause::TooFewRxQueues { driver: driver() });
    }
    let reported = host.xdp_features.is_some_and(|features| features.basic && features.redirect);
    if errno == Some(libc::EOPNOTSUPP) && !reported {
        return Some(AttachCause::NoNative { driver: driver() });
    }
    // A driver that reports native XDP and returns EOPNOTSUPP refuses the settings, as vmxnet3 does.
    let mtu = host.mtu;
    Some(match driver::known_single_buffer(host.driver.as_ref(), host.page_size) {
        Some(limit) if mtu > limit.lossless => {
            AttachCause::Mtu { driver: driver(), mtu, most: Some(limit.lossless) }
        }
        None if mtu > 1500 && errno != Some(libc::ENOMEM) => {
            AttachCause::Mtu { driver: driver(), mtu, most: None }
        }
        // Kernels before 5.13 without the fallback of commit 97c2c69e1926 want a queue for each CPU on top of
        // those in use.
        _ if host.is_driver("virtio_net") && errno == Some(libc::ENOMEM) => {
            let channels = host.channels.zip(host.cpus);
            let left = channels.and_then(|(channels, cpus)| channels.max_combined.checked_sub(cpus));
            AttachCause::VirtioQueues { usable: left.filter(|&left| left > 0) }
        }
        _ => AttachCause::Channels { driver: driver() },
    })
}

/// Whether the program's maps were refused as one kernel does beyond the limit of locked memory.
pub(super) fn counts_as_locked(error: &ProgramSetupError, kernel: Option<KernelVersion>) -> bool {
    let counts = kernel.is_some_and(|kernel| kernel < since::MAPS_IN_CGROUP);
    counts && matches!(errno(error), Some(libc::EPERM | libc::ENOMEM))
}

/// What is known of the socket that was to be.
#[derive(Clone, Debug)]
pub(super) struct SocketFacts {
    pub(super) is_virtio: bool,
    pub(super) zero_copy: bool,
    /// Whether the device has VIRTIO_F_ACCESS_PLATFORM, where that is known.
    pub(super) access_platform: Option<bool>,
}

impl SocketFacts {
    pub(super) fn of(host: &Host, zero_copy: bool) -> Self {
        Self {
            is_virtio: host.is_driver("virtio_net"),
            zero_copy,
            access_platform: host.virtio_features.as_ref().map(|bits| bits.contains(&VIRTIO_ACCESS_PLATFORM)),
        }
    }
}

/// Why a socket could not be made.
pub(super) fn socket(error: &SocketError, facts: &SocketFacts) -> Option<SocketCause> {
    let cause = match error {
        SocketError::Umem { source, .. } => {
            // `xdp_umem_account_pages` says ENOBUFS; ENOMEM is said of mappings and of memory itself, too.
            let memory = matches!(source.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM));
            return memory.then_some(SocketCause::UmemMemory);
        }
        SocketError::BusyPoll(_) => return Some(SocketCause::NoBusyPoll),
        SocketError::Socket(cause) | SocketError::Rings(cause) | SocketError::Bind(cause) => cause,
    };
    Some(match cause.raw_os_error()? {
        libc::EBUSY => SocketCause::QueueTaken,
        libc::EOPNOTSUPP if facts.zero_copy => SocketCause::NoZeroCopy,
        // The virtqueue has no DMA device then (`virtqueue_dma_dev`).
        libc::EINVAL if facts.zero_copy && facts.is_virtio && facts.access_platform != Some(true) => {
            SocketCause::NoAccessPlatform
        }
        libc::EINVAL if facts.zero_copy => SocketCause::ZeroCopyRefused,
        libc::ENOBUFS | libc::ENOMEM => SocketCause::RingMemory,
        libc::EPERM => SocketCause::NotPermitted,
        libc::ENODEV => SocketCause::InterfaceGone,
        libc::ENETDOWN => SocketCause::InterfaceDown,
        libc::EAFNOSUPPORT => SocketCause::NoAfXdp,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{DriverInfo, xdp::XdpFeatures};

    fn host(driver: &str, mtu: u32, features: Option<XdpFeatures>) -> Host {
        Host {
            kernel: Some(KernelVersion::new(6, 12)),
            page_size: 4096,
            cpus: Some(2),
            interface: "eth9".to_owned(),
            mtu,
            driver: Some(DriverInfo {
                name: driver.to_owned(),
                version: "6.12.95".to_owned(),
                bus: String::new(),
            }),
            peer: None,
            rx_queues: 2,
            channels: None,
            xdp_features: features,
            virtio_features: None,
        }
    }

    fn native() -> Option<XdpFeatures> {
        Some(XdpFeatures { basic: true, redirect: true, ..XdpFeatures::default() })
    }

    fn refused(host: &Host, errno: i32) -> Option<AttachCause> {
        attach(host, &[], XdpMode::Native, &io::Error::from_raw_os_error(errno))
    }

    fn too_large(driver: &str, mtu: u32, most: Option<u32>) -> Option<AttachCause> {
        Some(AttachCause::Mtu { driver: Some(driver.to_owned()), mtu, most })
    }

    #[test]
    fn a_driver_that_reports_native_xdp_means_its_settings_by_not_supported() {
        let cause = refused(&host("vmxnet3", 3700, native()), libc::EOPNOTSUPP);
        assert_eq!(cause, too_large("vmxnet3", 3700, Some(3050)));
        let cause = refused(&host("e1000e", 1500, Some(XdpFeatures::default())), libc::EOPNOTSUPP);
        assert_eq!(cause, Some(AttachCause::NoNative { driver: Some("e1000e".to_owned()) }));
    }

    #[test]
    fn a_refused_mtu_is_answered_with_the_drivers_own_limit() {
        let cause = refused(&host("igb", 3498, native()), libc::EINVAL);
        assert_eq!(cause, too_large("igb", 3498, Some(3046)));
        let cause = refused(&host("mlx5_core", 9000, native()), libc::EINVAL);
        assert_eq!(cause, too_large("mlx5_core", 9000, None));
        // At an MTU that it takes, something else is the cause.
        let cause = refused(&host("igb", 1500, native()), libc::EINVAL);
        assert_eq!(cause, Some(AttachCause::Channels { driver: Some("igb".to_owned()) }));
    }

    #[test]
    fn a_known_obstacle_is_the_cause_of_a_refusal() {
        let obstacle =
            Obstacle::EnaChannels { in_box: true, interface: "eth9".to_owned(), in_use: 4, most: 4 };
        let error = io::Error::from_raw_os_error(libc::EINVAL);
        let cause =
            attach(&host("ena", 1500, native()), std::slice::from_ref(&obstacle), XdpMode::Native, &error);
        assert_eq!(cause, Some(AttachCause::Obstacle { driver: Some("ena".to_owned()), obstacle }));
    }

    #[test]
    fn virtio_without_queues_for_each_cpu_names_how_many_to_use() {
        use crate::host::Channels;
        let channels = Channels { rx: 0, tx: 0, combined: 4, max_rx: 0, max_tx: 0, max_combined: 4 };
        let host = Host { channels: Some(channels), ..host("virtio_net", 1500, None) };
        assert_eq!(refused(&host, libc::ENOMEM), Some(AttachCause::VirtioQueues { usable: Some(2) }));
        let many = Host { cpus: Some(4), ..host };
        assert_eq!(refused(&many, libc::ENOMEM), Some(AttachCause::VirtioQueues { usable: None }));
    }

    #[test]
    fn generic_mode_is_refused_for_reasons_of_its_own() {
        let host = host("igb", 9000, native());
        let cause = |errno| attach(&host, &[], XdpMode::Generic, &io::Error::from_raw_os_error(errno));
        assert_eq!(cause(libc::EINVAL), None);
        assert_eq!(cause(libc::EBUSY), Some(AttachCause::HookTaken));
    }

    #[test]
    fn virtio_zero_copy_without_the_dma_api_names_the_feature() {
        let facts = |bits: &[u32]| {
            let host = Host { virtio_features: Some(bits.to_vec()), ..host("virtio_net", 1500, None) };
            SocketFacts::of(&host, true)
        };
        let refused = SocketError::Bind(io::Error::from_raw_os_error(libc::EINVAL));
        assert_eq!(socket(&refused, &facts(&[5, 32])), Some(SocketCause::NoAccessPlatform));
        assert_eq!(socket(&refused, &facts(&[5, 32, 33])), Some(SocketCause::ZeroCopyRefused));
    }

    #[test]
    fn maps_are_a_matter_of_locked_memory_before_5_11_only() {
        let source = aya::maps::MapError::CreateError {
            name: "VNIS".to_owned(),
            io_error: io::Error::from_raw_os_error(libc::EPERM),
        };
        let error = ProgramSetupError::Map { name: "VNIS", source: source.into() };
        assert!(counts_as_locked(&error, Some(KernelVersion::new(5, 10))));
        assert!(!counts_as_locked(&error, Some(KernelVersion::new(6, 1))));
    }
}
