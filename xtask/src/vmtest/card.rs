//! NICs under test: their QEMU names, and how each is connected to the one that frames come from.
//!
//! A hub of QEMU connects the two, so that neither root nor the host's network is needed. Only a TAP of the
//! host has several queues.

/// A NIC of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Card {
    /// A veth of the guest, with this many queues.
    Veth(u32),
    /// virtio-net with one queue, as most hypervisors offer it.
    Virtio,
    /// The same with `VIRTIO_F_ACCESS_PLATFORM`, without which it has no zero-copy.
    VirtioDma,
    /// virtio-net with four pairs of queues.
    VirtioQueues,
    /// Intel 82576.
    Igb,
    /// VMware's.
    Vmxnet3,
    /// Intel 82574.
    E1000e,
}

/// The host ends of a multi-queue NIC and of its source.
pub(super) const TAPS: [&str; 2] = ["vmtest0", "vmtest1"];
/// Queue pairs of that NIC.
pub(super) const QUEUES: u32 = 4;

/// The initial MTU of source NICs, higher than any test needs.
const MOST_MTU: u32 = 9_216;
/// Without offloads: a host that merges segments or leaves checksums open would change the frames.
const NO_OFFLOADS: &str = "guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_csum=off";

impl Card {
    /// Its number in hardware addresses and hubs; a veth is not a NIC of QEMU.
    pub(super) fn number(self) -> Option<u8> {
        match self {
            Self::Veth(_) => None,
            Self::Virtio => Some(1),
            Self::VirtioDma => Some(2),
            Self::Igb => Some(4),
            Self::Vmxnet3 => Some(5),
            Self::E1000e => Some(6),
            Self::VirtioQueues => Some(10),
        }
    }

    /// Whether it needs TAPs on the host.
    pub(super) fn needs_taps(self) -> bool {
        self == Self::VirtioQueues
    }

    /// The arguments that give a guest this NIC and its source.
    pub(super) fn arguments(self) -> Vec<String> {
        let Some(number) = self.number() else { return Vec::new() };
        let device = match self {
            Self::Veth(_) => return Vec::new(),
            Self::Virtio => format!("virtio-net-pci,mrg_rxbuf=on,{NO_OFFLOADS},host_mtu={MOST_MTU}"),
            Self::VirtioDma => format!(
                "virtio-net-pci,mrg_rxbuf=on,{NO_OFFLOADS},disable-legacy=on,iommu_platform=on,\
                host_mtu={MOST_MTU}"
            ),
            Self::VirtioQueues => {
                // A vector for each queue, one for the control queue and one for changes of configuration.
                let vectors = 2 * QUEUES + 2;
                format!(
                    "virtio-net-pci,mq=on,vectors={vectors},{NO_OFFLOADS},disable-legacy=on,\
                    iommu_platform=on,host_mtu={MOST_MTU}"
                )
            }
            Self::Igb => "igb".into(),
            Self::Vmxnet3 => "vmxnet3".into(),
            Self::E1000e => "e1000e".into(),
        };
        let [target, source] = if self.needs_taps() {
            let tap = |name: &str, end: char, queues: &str| {
                format!("tap,id={end}{number},ifname={name},script=no,downscript=no,vhost=off{queues}")
            };
            [tap(TAPS[0], 'd', &format!(",queues={QUEUES}")), tap(TAPS[1], 's', "")]
        } else {
            ['d', 's'].map(|end| format!("hubport,id={end}{number},hubid={number}"))
        };
        vec![
            "-netdev".into(),
            target,
            "-device".into(),
            format!("{device},netdev=d{number},mac=52:54:00:00:00:{number:02x}"),
            "-netdev".into(),
            source,
            "-device".into(),
            format!("virtio-net-pci,netdev=s{number},mac=52:54:00:00:01:{number:02x},host_mtu={MOST_MTU}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_and_its_source_are_joined_by_a_hub() {
        let arguments = Card::Igb.arguments().join(" ");
        assert!(
            arguments
                .starts_with("-netdev hubport,id=d4,hubid=4 -device igb,netdev=d4,mac=52:54:00:00:00:04")
        );
        assert!(arguments.contains(
            "-netdev hubport,id=s4,hubid=4 -device virtio-net-pci,netdev=s4,mac=52:54:00:00:01:04"
        ));
    }

    #[test]
    fn several_queues_take_a_tap() {
        let arguments = Card::VirtioQueues.arguments().join(" ");
        assert!(arguments.contains("tap,id=d10,ifname=vmtest0,script=no,downscript=no,vhost=off,queues=4"));
        assert!(arguments.contains("mq=on,vectors=10"));
        assert!(Card::Veth(1).arguments().is_empty());
    }
}
