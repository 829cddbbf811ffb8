//! What a run on an interface depends on, and the limits that follow from that alone.

use super::{
    cause::{MtuLimit, MtuTooLarge, NoMultiBuffer},
    words::named,
};
use crate::{
    host::{
        Channels, DriverInfo,
        driver::{self, SingleBuffer},
        interface::Peer,
        kernel::{KernelVersion, since},
        xdp::XdpFeatures,
    },
    xsk::HEADROOM,
};

/// Bytes around an MTU: an Ethernet header and two VLAN tags.
pub(super) const LINK_OVERHEAD: u32 = 14 + 8;
/// Bytes of the largest chunk. A UMEM takes chunks up to a page, and no page is smaller.
pub(super) const LARGEST_CHUNK: u32 = 4096;
/// The largest MTU whose frames fit one chunk.
pub(super) const ONE_CHUNK_MTU: u32 = LARGEST_CHUNK - HEADROOM - LINK_OVERHEAD;
/// What the decision depends on.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// `None` where it is not known, which counts as an old one.
    pub(crate) kernel: Option<KernelVersion>,
    pub(crate) page_size: u32,
    /// CPUs that drivers count by.
    pub(crate) cpus: Option<u32>,
    pub(crate) interface: String,
    pub(crate) mtu: u32,
    pub(crate) driver: Option<DriverInfo>,
    /// The other end of a veth pair, where it is in the same network namespace.
    pub(crate) peer: Option<Peer>,
    pub(crate) rx_queues: u32,
    pub(crate) channels: Option<Channels>,
    /// `None` where the kernel does not report them.
    pub(crate) xdp_features: Option<XdpFeatures>,
    pub(crate) virtio_features: Option<Vec<u32>>,
}

impl Host {
    /// `ena`, or `the driver`.
    pub(crate) fn driver_name(&self) -> &str {
        named(self.driver.as_ref().map(|driver| driver.name.as_str()))
    }

    /// The driver's name, where it is known.
    pub(super) fn known_driver(&self) -> Option<String> {
        self.driver.as_ref().map(|driver| driver.name.clone())
    }

    pub(crate) fn is_driver(&self, name: &str) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.name == name)
    }

    pub(super) fn since(&self, version: KernelVersion) -> bool {
        self.kernel.is_some_and(|kernel| kernel >= version)
    }

    /// The MTU by which the driver decides whether a program may be attached: veth looks at the end that
    /// frames come from (`veth_xdp_set`).
    pub(super) fn attach_mtu(&self) -> u32 {
        self.peer.as_ref().map_or(self.mtu, |peer| peer.mtu)
    }

    /// No frame is larger than this MTU allows.
    pub(super) fn frame_mtu(&self) -> u32 {
        self.mtu.min(self.attach_mtu())
    }

    pub(super) fn single_buffer(&self) -> SingleBuffer {
        driver::single_buffer(self.driver.as_ref(), self.page_size)
    }

    /// The largest MTU at which nothing is lost with a program of one buffer.
    pub(crate) fn lossless_mtu(&self) -> u32 {
        self.single_buffer().lossless.min(ONE_CHUNK_MTU)
    }

    /// Why frames of several buffers cannot be had, if so.
    pub(super) fn no_multi_buffer(&self, zero_copy: bool) -> Option<NoMultiBuffer> {
        let ena = driver::Ena::of(self.driver.as_ref());
        let has = driver::has_frags(self.driver.as_ref(), self.xdp_features);
        // A driver that reports nothing may well have them; then an old kernel is the reason.
        let reported = self.xdp_features.is_some() || ena.is_some();
        let kernel = self.no_scatter_gather(zero_copy);
        if has || (!reported && kernel.is_some()) {
            return kernel;
        }
        Some(match ena {
            Some(driver::Ena::InBox) => NoMultiBuffer::InBoxEna,
            Some(driver::Ena::OutOfTree(_)) => NoMultiBuffer::EnaBefore2_14,
            None => NoMultiBuffer::Driver,
        })
    }

    /// Why frames in several descriptors cannot be had, if so.
    pub(super) fn no_scatter_gather(&self, zero_copy: bool) -> Option<NoMultiBuffer> {
        if !self.since(since::SCATTER_GATHER) {
            return Some(NoMultiBuffer::Kernel { kernel: self.kernel });
        }
        // `xp_assign_dev`.
        let segments = self.xdp_features.and_then(|features| features.zero_copy_max_segments);
        (zero_copy && segments.is_none_or(|segments| segments < 2))
            .then(|| NoMultiBuffer::ZeroCopy { driver: self.known_driver() })
    }

    /// Why native mode would refuse the MTU, or lose frames.
    pub(super) fn too_large(&self, zero_copy: bool) -> Option<Box<MtuTooLarge>> {
        let single = self.single_buffer();
        let of_attach = self.attach_mtu();
        let too_large = |other_end: Option<&Peer>, mtu, most, limit, reason| {
            Box::new(MtuTooLarge {
                interface: self.interface.clone(),
                other_end: other_end.map(|peer| peer.name.clone()),
                mtu,
                most,
                limit,
                reason,
                lossless: self.lossless_mtu(),
            })
        };
        if of_attach > single.most {
            let reason = self.no_multi_buffer(zero_copy)?;
            let limit = MtuLimit::SingleBuffer { driver: self.known_driver() };
            return Some(too_large(
                self.peer.as_ref(),
                of_attach,
                single.most.min(ONE_CHUNK_MTU),
                limit,
                reason,
            ));
        }
        if self.frame_mtu() > ONE_CHUNK_MTU {
            let reason = self.no_scatter_gather(zero_copy)?;
            let limit = MtuLimit::Chunk { bytes: LARGEST_CHUNK };
            return Some(too_large(None, self.mtu, ONE_CHUNK_MTU, limit, reason));
        }
        None
    }
}
