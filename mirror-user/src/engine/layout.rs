//! What a run on one interface comes to: which program, in which mode, with which chunks. Pure, and asked by
//! both the plan of a start and the doctor, so that they cannot disagree.

use std::fmt;

use super::{
    BindMode, HostCommand, Mode, MtuLimit, MtuTooLarge, NoMultiBuffer, Obstacle, OptionsError, Queues,
    Warning, cause, obstacles,
};
use crate::{
    host::{
        Channels, DriverInfo,
        driver::{self, SingleBuffer},
        interface::Peer,
        kernel::KernelVersion,
        xdp::XdpFeatures,
    },
    xsk::HEADROOM,
};

/// Bytes around an MTU: an Ethernet header and two VLAN tags.
pub(super) const LINK_OVERHEAD: u32 = 14 + 8;
/// Bytes of the largest chunk. A UMEM takes chunks up to a page, and no page is smaller.
const LARGEST_CHUNK: u32 = 4096;
/// The largest MTU whose frames fit one chunk.
const ONE_CHUNK_MTU: u32 = LARGEST_CHUNK - HEADROOM - LINK_OVERHEAD;
/// From here on frames of several buffers can be redirected to AF_XDP, and one that is larger than a chunk
/// comes in several descriptors (`XDP_USE_SG`, kernel commit 804627751b42). Programs for such frames load
/// from 5.18 on, but `xdp_do_redirect` then drops them with EOPNOTSUPP before any counter of ours.
pub(crate) const SCATTER_GATHER_SINCE: KernelVersion = KernelVersion::new(6, 6);

/// What the decision depends on.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// `None` where it is not known, which is judged as an old one.
    pub(crate) kernel: Option<KernelVersion>,
    pub(crate) page_size: u32,
    /// CPUs that drivers count by.
    pub(crate) cpus: Option<u32>,
    pub(crate) interface: String,
    pub(crate) mtu: u32,
    pub(crate) driver: Option<DriverInfo>,
    /// The other end of a veth pair, where it is in sight.
    pub(crate) peer: Option<Peer>,
    pub(crate) rx_queues: u32,
    pub(crate) channels: Option<Channels>,
    /// `None` where the kernel cannot tell.
    pub(crate) xdp_features: Option<XdpFeatures>,
    pub(crate) virtio_features: Option<Vec<u32>>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) mode: Mode,
    pub(crate) bind: BindMode,
    pub(crate) chunk_size: Option<u32>,
    pub(crate) scatter_gather: bool,
    pub(crate) queues: &'a Queues,
}

impl Wanted<'_> {
    /// Everything left to the engine.
    pub(crate) const DEFAULT: Self = Self {
        mode: Mode::Auto,
        bind: BindMode::Auto,
        chunk_size: None,
        scatter_gather: false,
        queues: &Queues::All,
    };
}

/// What will be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    /// Modes to try, in order.
    pub(crate) modes: Vec<Mode>,
    /// The one of them that is expected to be taken.
    pub(crate) mode: Mode,
    /// Whether native mode takes the program for frames of several buffers.
    pub(crate) frags: bool,
    /// Whether sockets take frames in several descriptors.
    pub(crate) scatter_gather: bool,
    pub(crate) bind: BindMode,
    pub(crate) chunk_size: u32,
    /// RX queues once the program is attached in the expected mode.
    pub(crate) rx_queues: u32,
    /// Why native mode would be refused, or would lose frames; empty if nothing is known to.
    pub(crate) obstacles: Vec<Obstacle>,
    /// What is lost or at risk.
    pub(crate) warnings: Vec<Warning>,
}

/// Why there is no layout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// The MTU does not fit what was asked for.
    Mtu(Box<MtuTooLarge>),
    /// Two of the options, or an option and the kernel, contradict each other.
    Options(OptionsError),
    /// A queue that is not there.
    NoSuchQueue { queue: u32, queues: u32 },
}

impl Refusal {
    /// A command that ends it, where there is one.
    pub(crate) fn command(&self) -> Option<HostCommand> {
        match self {
            Self::Mtu(mtu) => Some(mtu.command()),
            Self::Options(_) | Self::NoSuchQueue { .. } => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu(mtu) => mtu.fmt(f),
            Self::Options(error) => error.fmt(f),
            Self::NoSuchQueue { queue, queues } => {
                write!(f, "there is no RX queue {queue}: it has {queues}, from 0")
            }
        }
    }
}

impl Host {
    /// `ena`, or `the driver`.
    pub(crate) fn driver_name(&self) -> &str {
        cause::named(self.driver.as_ref().map(|driver| driver.name.as_str()))
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
    fn attach_mtu(&self) -> u32 {
        self.peer.as_ref().map_or(self.mtu, |peer| peer.mtu)
    }

    /// No frame is larger than this MTU allows.
    fn frame_mtu(&self) -> u32 {
        self.mtu.min(self.attach_mtu())
    }

    fn single_buffer(&self) -> SingleBuffer {
        driver::single_buffer(self.driver.as_ref(), self.page_size)
    }

    /// Why frames of several buffers cannot be had, if so.
    fn no_multi_buffer(&self, zero_copy: bool) -> Option<NoMultiBuffer> {
        let ena = driver::Ena::of(self.driver.as_ref());
        let has = driver::has_frags(self.driver.as_ref(), self.xdp_features);
        // A driver that cannot be asked may well have them: an old kernel is the reason then.
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
    fn no_scatter_gather(&self, zero_copy: bool) -> Option<NoMultiBuffer> {
        if !self.since(SCATTER_GATHER_SINCE) {
            return Some(NoMultiBuffer::Kernel { kernel: self.kernel });
        }
        // `xp_assign_dev`.
        let segments = self.xdp_features.and_then(|features| features.zero_copy_max_segments);
        (zero_copy && segments.is_none_or(|segments| segments < 2))
            .then(|| NoMultiBuffer::ZeroCopy { driver: self.known_driver() })
    }

    /// Why native mode would refuse the MTU, or lose frames.
    fn too_large(&self, zero_copy: bool) -> Option<Box<MtuTooLarge>> {
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
                lossless: single.lossless.min(ONE_CHUNK_MTU),
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

/// Decides.
pub(crate) fn layout(host: &Host, wanted: &Wanted<'_>) -> Result<Layout, Refusal> {
    let zero_copy = wanted.bind == BindMode::ZeroCopy;
    if zero_copy && wanted.mode == Mode::Generic {
        return Err(Refusal::Options(OptionsError::GenericZeroCopy));
    }
    if wanted.scatter_gather && !host.since(SCATTER_GATHER_SINCE) {
        return Err(Refusal::Options(OptionsError::ScatterGather { kernel: host.kernel }));
    }
    let mut obstacles = Vec::new();
    let mut excluded = false;
    let too_large = host.too_large(zero_copy);
    match obstacles::support(host) {
        Some(obstacle) => {
            // What the driver itself says needs no trial; what our list says may be wrong.
            excluded = host.xdp_features.is_some() && !host.is_driver("veth");
            obstacles.push(obstacle);
        }
        None => {
            if let Some(mtu) = &too_large {
                if wanted.mode == Mode::Native || (zero_copy && wanted.mode == Mode::Auto) {
                    return Err(Refusal::Mtu(mtu.clone()));
                }
                obstacles.push(Obstacle::Mtu(mtu.clone()));
            }
            obstacles.extend(obstacles::of_driver(host));
        }
    }
    excluded |= too_large.is_some();
    let modes = match wanted.mode {
        Mode::Generic => vec![Mode::Generic],
        Mode::Auto if excluded && !zero_copy => vec![Mode::Generic],
        Mode::Auto if !zero_copy => vec![Mode::Native, Mode::Generic],
        Mode::Auto | Mode::Native => vec![Mode::Native],
    };
    let first = modes.first().copied().unwrap_or(Mode::Generic);
    let mode = if obstacles.is_empty() { first } else { modes.last().copied().unwrap_or(first) };
    let may_be_native = first == Mode::Native;
    let rx_queues = if mode == Mode::Native { obstacles::queues_once_attached(host) } else { host.rx_queues };
    if let Queues::List(list) = wanted.queues
        && let Some(&queue) = list.iter().find(|queue| **queue >= rx_queues)
    {
        return Err(Refusal::NoSuchQueue { queue, queues: rx_queues });
    }

    let has_frags = host.no_multi_buffer(zero_copy).is_none();
    let frags = may_be_native
        && has_frags
        && (wanted.scatter_gather || host.attach_mtu() > host.single_buffer().most);
    let fits_one_chunk = host.frame_mtu() <= ONE_CHUNK_MTU;
    let scatter_gather =
        wanted.scatter_gather || frags || (!fits_one_chunk && host.no_scatter_gather(zero_copy).is_none());
    let mut warnings = Vec::new();
    let least = chunk_for(host, zero_copy, frags);
    let chunk_size = wanted.chunk_size.unwrap_or(least);
    if !scatter_gather && (!fits_one_chunk || (chunk_size < least && !zero_copy)) {
        let too_large = (!fits_one_chunk).then_some(());
        warnings.push(Warning::Oversize {
            mtu: host.mtu,
            chunk_size,
            reason: too_large.and_then(|()| host.no_scatter_gather(zero_copy)),
            lossless: too_large.map(|()| host.single_buffer().lossless.min(ONE_CHUNK_MTU)),
        });
    }
    if zero_copy && chunk_size < least {
        warnings.push(Warning::WholeKib { chunk_size, safe: least });
    }
    Ok(Layout {
        modes,
        mode,
        frags,
        scatter_gather,
        bind: if zero_copy { BindMode::ZeroCopy } else { BindMode::Copy },
        chunk_size,
        rx_queues,
        obstacles,
        warnings,
    })
}

/// The chunk that holds a whole frame, as far as one can.
fn chunk_for(host: &Host, zero_copy: bool, frags: bool) -> u32 {
    let small = host.frame_mtu().saturating_add(LINK_OVERHEAD + HEADROOM) <= 2048;
    let safe = !zero_copy || driver::uses_whole_chunks(host.driver.as_ref());
    if small && safe && !frags { 2048 } else { LARGEST_CHUNK }
}

#[cfg(test)]
mod tests;
