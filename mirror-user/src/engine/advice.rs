//! What a refusal of the kernel means here, and what to do about it. Pure: from an errno and facts to words.

use std::{error::Error, io};

use super::layout::{Advice, Host, Remedy};
use crate::{
    error::with_causes,
    escape::shell,
    host::{driver, kernel::KernelVersion, limits},
    xdp::ProgramSetupError,
    xsk::XskError,
};

/// BPF maps count against RLIMIT_MEMLOCK before this version (kernel commit d5299b67dd59 and its series).
const MAPS_IN_CGROUP_SINCE: KernelVersion = KernelVersion::new(5, 11);
/// VIRTIO_F_ACCESS_PLATFORM, virtio 1.2 section 6.
pub(crate) const VIRTIO_ACCESS_PLATFORM: u32 = 33;

/// What raises the limit that a UMEM counts against.
const MEMLOCK: &str = "a UMEM counts against the limit of locked memory without CAP_IPC_LOCK: raise the \
    limit (`ulimit -l unlimited`, in a unit file `LimitMEMLOCK=infinity`), add CAP_IPC_LOCK, or take less \
    memory (`--rx-ring 2048`, fewer `--queues`)";

/// Why an attach failed. A bpf_link carries no word from the driver: the cause is inferred from the errno and
/// the interface's facts.
pub(super) fn attach(host: &Host, obstacles: &[Advice], native: bool, cause: &io::Error) -> String {
    let (name, mtu, driver) = (shell(&host.interface), host.mtu, host.driver_name());
    let doctor = format!("see `mirror doctor -i {name}`");
    let errno = cause.raw_os_error();
    match errno {
        Some(libc::EBUSY | libc::EEXIST) => {
            return format!(
                "another XDP program came first; stop its owner, or run `ip link set dev {name} xdp off`"
            );
        }
        Some(libc::EPERM) => return "CAP_NET_ADMIN and CAP_BPF are needed; run as root".to_owned(),
        Some(libc::ENODEV) => return "the interface has gone".to_owned(),
        _ if !native => return format!("{cause}; {doctor}"),
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::ENOMEM | libc::ENOSPC) => {}
        _ => return format!("{cause}; {doctor}"),
    }
    if let Some(Advice { says, remedy }) = obstacles.first() {
        let remedy = remedy.as_ref().map_or(doctor, |remedy| format!("run `{remedy}`"));
        return format!("{driver} refuses ({cause}): {says}; {remedy}, or use `--mode generic`");
    }
    if errno == Some(libc::ENOSPC) {
        return format!(
            "{driver} has too few RX queues for its peer's TX queues; `ethtool -L {name} rx N` with N no \
            less than the peer's tx"
        );
    }
    let told = host.xdp_features.is_some_and(|features| features.basic && features.redirect);
    if errno == Some(libc::EOPNOTSUPP) && !told {
        return format!("{driver} has no native XDP; use `--mode generic`");
    }
    // A driver that says it has it means the settings by EOPNOTSUPP, as vmxnet3 does.
    let limit = driver::known_single_buffer(host.driver.as_ref(), host.page_size);
    match limit {
        Some(limit) if mtu > limit.lossless => format!(
            "{driver} refuses ({cause}), most likely for its MTU of {mtu}; run `{}`, the most {driver} takes",
            Remedy::Mtu { interface: host.interface.clone(), mtu: limit.lossless }
        ),
        None if mtu > 1500 && errno != Some(libc::ENOMEM) => format!(
            "{driver} refuses ({cause}), most likely for its MTU of {mtu}; run `ip link set dev {name} mtu \
            1500` (many drivers take up to 3498), and {doctor}"
        ),
        _ if host.is_driver("virtio_net") && errno == Some(libc::ENOMEM) => virtio_queues(host, cause),
        _ => format!(
            "{driver} refuses ({cause}), most likely for want of free channels; run `ethtool -L {name} \
            combined N` with N at most half the maximum, and {doctor}"
        ),
    }
}

/// Kernels before 5.13 without the fallback of commit 97c2c69e1926 want a queue for each CPU on top of those
/// in use.
fn virtio_queues(host: &Host, cause: &io::Error) -> String {
    let fewer = host
        .channels
        .zip(host.cpus)
        .and_then(|(channels, cpus)| channels.max_combined.checked_sub(cpus).filter(|&fewer| fewer > 0));
    let remedy = fewer.map_or_else(
        || "use `--mode generic`".to_owned(),
        |fewer| {
            let remedy = Remedy::Combined { interface: host.interface.clone(), channels: fewer };
            format!("run `{remedy}`, or use `--mode generic`")
        },
    );
    format!(
        "virtio_net refuses ({cause}): this kernel wants a queue for each CPU on top of those in use, and \
        the device has not so many; {remedy}"
    )
}

/// Why the program could not be loaded.
pub(super) fn load(error: &ProgramSetupError, kernel: Option<KernelVersion>) -> String {
    let text = with_causes(error);
    let counts = kernel.is_some_and(|kernel| kernel < MAPS_IN_CGROUP_SINCE);
    if counts && matches!(errno(error), Some(libc::EPERM | libc::ENOMEM)) {
        return format!(
            "{text}: before kernel 5.11 BPF maps count against the limit of locked memory, whatever the \
            capabilities: raise it (`ulimit -l unlimited`, in a unit file `LimitMEMLOCK=infinity`), or add \
            CAP_SYS_RESOURCE, with which mirror raises it"
        );
    }
    text
}

/// What is known of the socket that was to be.
#[derive(Clone, Debug)]
pub(super) struct SocketFacts {
    pub(super) interface: String,
    pub(super) is_virtio: bool,
    pub(super) zero_copy: bool,
    /// Whether the device has VIRTIO_F_ACCESS_PLATFORM, where that is known.
    pub(super) access_platform: Option<bool>,
}

impl SocketFacts {
    pub(super) fn of(host: &Host, zero_copy: bool) -> Self {
        Self {
            interface: host.interface.clone(),
            is_virtio: host.is_driver("virtio_net"),
            zero_copy,
            access_platform: host.virtio_features.as_ref().map(|bits| bits.contains(&VIRTIO_ACCESS_PLATFORM)),
        }
    }
}

/// Why a socket could not be made.
pub(super) fn socket(error: &XskError, facts: &SocketFacts) -> String {
    match error {
        XskError::Umem { source, .. } => match source.raw_os_error() {
            // `xdp_umem_account_pages` says ENOBUFS.
            Some(libc::ENOBUFS) => format!("{error}: {MEMLOCK}"),
            // Said of mappings and of memory itself, too.
            Some(libc::ENOMEM) => {
                format!(
                    "{error}: {MEMLOCK}; if that is not it, the limit of address space (`ulimit -v`) or of \
                    the control group"
                )
            }
            number => match number.and_then(limits::remedy) {
                Some(remedy) => format!("{error}: {remedy}"),
                None => error.to_string(),
            },
        },
        XskError::Socket(cause) | XskError::Rings(cause) | XskError::Bind(cause) => {
            format!("{error}{}", system_call(cause, facts))
        }
    }
}

/// What a refusal of socket(2), setsockopt(2), mmap(2) or bind(2) means.
fn system_call(cause: &io::Error, facts: &SocketFacts) -> String {
    let advice = match cause.raw_os_error() {
        Some(libc::EBUSY) => "another AF_XDP socket holds the queue; stop the program that reads it",
        Some(libc::EOPNOTSUPP) if facts.zero_copy => "the driver has no AF_XDP zero-copy; use `--bind copy`",
        Some(libc::EINVAL) if facts.zero_copy && facts.is_virtio && facts.access_platform != Some(true) => {
            // The virtqueue has no DMA device then (`virtqueue_dma_dev`).
            "the hypervisor does not offer VIRTIO_F_ACCESS_PLATFORM, without which virtio_net has no \
            zero-copy; use `--bind copy`"
        }
        Some(libc::EINVAL) if facts.zero_copy => {
            "the driver does not take this queue, MTU or chunk size in zero-copy mode; use `--bind copy`"
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "no memory for the rings; raise the limit of locked memory (`ulimit -l unlimited`, in a unit \
            file `LimitMEMLOCK=infinity`) or read fewer queues"
        }
        Some(libc::EPERM) => "CAP_NET_RAW and CAP_NET_ADMIN are needed; run as root",
        Some(libc::EMFILE) => return format!(": {}", limits::remedy(libc::EMFILE).unwrap_or_default()),
        Some(libc::ENFILE) => return format!(": {}", limits::remedy(libc::ENFILE).unwrap_or_default()),
        Some(libc::ENODEV) => "the interface has gone",
        Some(libc::ENETDOWN) => {
            return format!(": the interface is down; run `ip link set dev {} up`", shell(&facts.interface));
        }
        Some(libc::EAFNOSUPPORT) => "the kernel has no AF_XDP (CONFIG_XDP_SOCKETS)",
        _ => return format!("; see `mirror doctor -i {}`", facts.interface),
    };
    format!(": {advice}")
}

/// The errno at the bottom of an error's causes.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(errno);
        }
        cause = error.source();
    }
    None
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

    fn refused(host: &Host, errno: i32) -> String {
        attach(host, &[], true, &io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_driver_that_has_native_xdp_means_its_settings_by_not_supported() {
        let said = refused(&host("vmxnet3", 3700, native()), libc::EOPNOTSUPP);
        assert!(said.contains("MTU of 3700") && said.contains("`ip link set dev eth9 mtu 3050`"), "{said}");
        let said = refused(&host("e1000e", 1500, Some(XdpFeatures::default())), libc::EOPNOTSUPP);
        assert_eq!(said, "e1000e has no native XDP; use `--mode generic`");
    }

    #[test]
    fn a_refused_mtu_is_answered_with_the_drivers_own_limit() {
        let said = refused(&host("igb", 3498, native()), libc::EINVAL);
        assert!(said.contains("`ip link set dev eth9 mtu 3046`"), "{said}");
        let said = refused(&host("mlx5_core", 9000, native()), libc::EINVAL);
        assert!(said.contains("mtu 1500"), "{said}");
        // At an MTU that it takes, something else is the cause.
        let said = refused(&host("igb", 1500, native()), libc::EINVAL);
        assert!(said.contains("free channels"), "{said}");
    }

    #[test]
    fn a_known_obstacle_is_named_with_its_remedy() {
        let obstacle = Advice {
            says: "4 channels of at most 4 in use".to_owned(),
            remedy: Some(Remedy::Combined { interface: "eth9".to_owned(), channels: 2 }),
        };
        let cause = io::Error::from_raw_os_error(libc::EINVAL);
        let said = attach(&host("ena", 1500, native()), &[obstacle], true, &cause);
        assert!(said.contains("4 channels") && said.contains("`ethtool -L eth9 combined 2`"), "{said}");
    }

    #[test]
    fn virtio_without_queues_for_each_cpu_is_told_how_many_to_use() {
        use crate::host::Channels;
        let channels = Channels { rx: 0, tx: 0, combined: 4, max_rx: 0, max_tx: 0, max_combined: 4 };
        let host = Host { channels: Some(channels), ..host("virtio_net", 1500, None) };
        let said = refused(&host, libc::ENOMEM);
        assert!(said.contains("`ethtool -L eth9 combined 2`"), "{said}");
    }

    #[test]
    fn virtio_zero_copy_without_the_dma_api_names_the_feature() {
        let facts = |bits: &[u32]| {
            SocketFacts::of(
                &Host { virtio_features: Some(bits.to_vec()), ..host("virtio_net", 1500, None) },
                true,
            )
        };
        let refused = XskError::Bind(io::Error::from_raw_os_error(libc::EINVAL));
        let said = socket(&refused, &facts(&[5, 32]));
        assert!(said.contains("VIRTIO_F_ACCESS_PLATFORM") && said.contains("`--bind copy`"), "{said}");
        let said = socket(&refused, &facts(&[5, 32, 33]));
        assert!(!said.contains("VIRTIO_F_ACCESS_PLATFORM") && said.contains("`--bind copy`"), "{said}");
    }

    #[test]
    fn a_umem_over_the_limit_of_locked_memory_names_all_that_helps() {
        let source = io::Error::from_raw_os_error(libc::ENOBUFS);
        let error = XskError::Umem { bytes: 8_519_680, source };
        let said = socket(&error, &SocketFacts::of(&host("ena", 1500, None), false));
        for word in ["8519680", "ulimit -l", "LimitMEMLOCK=infinity", "CAP_IPC_LOCK", "--rx-ring 2048"] {
            assert!(said.contains(word), "{word} is missing in {said}");
        }
    }

    #[test]
    fn maps_that_may_not_be_made_are_a_matter_of_locked_memory_before_5_11_only() {
        let error = || ProgramSetupError::Map {
            name: "VNIS",
            source: aya::maps::MapError::CreateError {
                name: "VNIS".to_owned(),
                io_error: io::Error::from_raw_os_error(libc::EPERM),
            },
        };
        let said = load(&error(), Some(KernelVersion::new(5, 10)));
        assert!(said.contains("LimitMEMLOCK=infinity"), "{said}");
        let said = load(&error(), Some(KernelVersion::new(6, 1)));
        assert!(!said.contains("LimitMEMLOCK"), "{said}");
    }
}
