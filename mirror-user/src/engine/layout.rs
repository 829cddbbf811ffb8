//! What a run on one interface comes to: which program, in which mode, with which chunks. Pure, and asked by
//! both the plan of a start and the doctor, so that they cannot disagree.

use std::fmt;

use super::{BindMode, Mode, Queues, obstacles};
use crate::{
    escape::shell,
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
    pub(crate) obstacles: Vec<Advice>,
    /// What is lost or at risk.
    pub(crate) warnings: Vec<Advice>,
}

/// Something to know, and what changes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Advice {
    pub(crate) says: String,
    pub(crate) remedy: Option<Remedy>,
}

/// Why there is no layout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// The MTU does not fit what was asked for.
    Mtu(MtuTooLarge),
    /// Two of the options, or an option and the kernel, contradict each other.
    Options { says: String, remedy: Remedy },
    /// A queue that is not there.
    NoSuchQueue { queue: u32, queues: u32 },
}

impl Refusal {
    /// What makes it go away.
    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Mtu(mtu) => mtu.remedy(),
            Self::Options { remedy, .. } => remedy.clone(),
            Self::NoSuchQueue { .. } => Remedy::AllQueues,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu(mtu) => mtu.fmt(f),
            Self::Options { says, .. } => f.write_str(says),
            Self::NoSuchQueue { queue, queues } => {
                write!(f, "there is no RX queue {queue}: it has {queues}, from 0")
            }
        }
    }
}

/// An MTU, and the limit it is over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct MtuTooLarge {
    /// Whose it is: the interface's, or that of the other end of a veth pair.
    pub(crate) interface: String,
    pub(crate) is_other_end: bool,
    pub(crate) mtu: u32,
    pub(crate) most: u32,
    /// What the most is, and why there is no more.
    pub(crate) why: String,
    /// The largest at which nothing is lost.
    pub(crate) lossless: u32,
}

impl MtuTooLarge {
    pub(crate) fn remedy(&self) -> Remedy {
        Remedy::Mtu { interface: self.interface.clone(), mtu: self.lossless }
    }
}

impl fmt::Display for MtuTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MTU {}", self.mtu)?;
        if self.is_other_end {
            write!(f, " of the other end, {},", self.interface)?;
        }
        write!(f, " is over {}, {}", self.most, self.why)
    }
}

/// A change that helps: a command to run on the host, or an option of the run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Remedy {
    Mtu { interface: String, mtu: u32 },
    Combined { interface: String, channels: u32 },
    TxQueues { interface: String, queues: u32 },
    CopyMode,
    NoScatterGather,
    AllQueues,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu { interface, mtu } => write!(f, "ip link set dev {} mtu {mtu}", shell(interface)),
            Self::Combined { interface, channels } => {
                write!(f, "ethtool -L {} combined {channels}", shell(interface))
            }
            Self::TxQueues { interface, queues } => write!(f, "ethtool -L {} tx {queues}", shell(interface)),
            Self::CopyMode => f.write_str("--bind copy"),
            Self::NoScatterGather => f.write_str("scatter_gather(false)"),
            Self::AllQueues => f.write_str("--queues all"),
        }
    }
}

impl Host {
    /// `ena`, or `the driver`.
    pub(crate) fn driver_name(&self) -> &str {
        self.driver.as_ref().map_or("the driver", |driver| driver.name.as_str())
    }

    pub(crate) fn is_driver(&self, name: &str) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.name == name)
    }

    pub(super) fn since(&self, version: KernelVersion) -> bool {
        self.kernel.is_some_and(|kernel| kernel >= version)
    }

    fn kernel_name(&self) -> String {
        self.kernel.map_or_else(|| "this one's version is not known".to_owned(), |it| format!("this is {it}"))
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
    fn why_no_frags(&self, zero_copy: bool) -> Option<String> {
        let ena = driver::Ena::of(self.driver.as_ref());
        let has = driver::has_frags(self.driver.as_ref(), self.xdp_features);
        // A driver that cannot be asked may well have them: an old kernel is the reason then.
        let told = self.xdp_features.is_some() || ena.is_some();
        let kernel = self.why_no_scatter_gather(zero_copy);
        if has || (!told && kernel.is_some()) {
            return kernel;
        }
        Some(match ena {
            Some(driver::Ena::InBox) => "the in-box driver has no multi-buffer XDP".to_owned(),
            Some(driver::Ena::OutOfTree(_)) => "multi-buffer XDP needs driver 2.14".to_owned(),
            None => "the driver has no multi-buffer XDP".to_owned(),
        })
    }

    /// Why frames in several descriptors cannot be had, if so.
    fn why_no_scatter_gather(&self, zero_copy: bool) -> Option<String> {
        if !self.since(SCATTER_GATHER_SINCE) {
            return Some(format!("frames of several buffers need kernel 6.6, {}", self.kernel_name()));
        }
        // `xp_assign_dev`.
        let segments = self.xdp_features.and_then(|features| features.zero_copy_max_segments);
        (zero_copy && segments.is_none_or(|segments| segments < 2))
            .then(|| format!("the zero-copy of {} takes frames of one buffer only", self.driver_name()))
    }

    /// Why native mode would refuse the MTU, or lose frames.
    fn too_large(&self, zero_copy: bool) -> Option<MtuTooLarge> {
        let limit = self.single_buffer();
        let of_attach = self.attach_mtu();
        let lossless = limit.lossless.min(ONE_CHUNK_MTU);
        let over = |interface: &str, mtu, most, why| MtuTooLarge {
            is_other_end: interface != self.interface,
            interface: interface.to_owned(),
            mtu,
            most,
            why,
            lossless,
        };
        if of_attach > limit.most {
            let why = self.why_no_frags(zero_copy)?;
            let name = self.peer.as_ref().map_or(self.interface.as_str(), |peer| peer.name.as_str());
            let most = limit.most.min(ONE_CHUNK_MTU);
            let takes = format!(
                "the most {} takes with an XDP program of a single buffer; {why}",
                self.driver_name()
            );
            return Some(over(name, of_attach, most, takes));
        }
        if self.frame_mtu() > ONE_CHUNK_MTU {
            let why = self.why_no_scatter_gather(zero_copy)?;
            let fits = format!("the most whose frames fit one chunk of {LARGEST_CHUNK} bytes; {why}");
            return Some(over(&self.interface, self.mtu, ONE_CHUNK_MTU, fits));
        }
        None
    }
}

/// No kernel has it.
pub(super) const GENERIC_ZERO_COPY: &str =
    "zero-copy needs native mode: leave `--mode generic` or `--bind zerocopy` out";

/// Decides.
pub(crate) fn layout(host: &Host, wanted: &Wanted<'_>) -> Result<Layout, Refusal> {
    let zero_copy = wanted.bind == BindMode::ZeroCopy;
    if zero_copy && wanted.mode == Mode::Generic {
        return Err(Refusal::Options { says: GENERIC_ZERO_COPY.to_owned(), remedy: Remedy::CopyMode });
    }
    if wanted.scatter_gather && !host.since(SCATTER_GATHER_SINCE) {
        return Err(Refusal::Options {
            says: format!("frames in several descriptors need kernel 6.6 or later, {}", host.kernel_name()),
            remedy: Remedy::NoScatterGather,
        });
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
                obstacles.push(Advice { says: mtu.to_string(), remedy: Some(mtu.remedy()) });
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

    let has_frags = host.why_no_frags(zero_copy).is_none();
    let frags = may_be_native
        && has_frags
        && (wanted.scatter_gather || host.attach_mtu() > host.single_buffer().most);
    let fits_one_chunk = host.frame_mtu() <= ONE_CHUNK_MTU;
    let scatter_gather = wanted.scatter_gather
        || frags
        || (!fits_one_chunk && host.why_no_scatter_gather(zero_copy).is_none());
    let mut warnings = Vec::new();
    let least = chunk_for(host, zero_copy, frags);
    let chunk_size = wanted.chunk_size.unwrap_or(least);
    if !scatter_gather && (!fits_one_chunk || (chunk_size < least && !zero_copy)) {
        let remedy = (!fits_one_chunk).then(|| Remedy::Mtu {
            interface: host.interface.clone(),
            mtu: host.single_buffer().lossless.min(ONE_CHUNK_MTU),
        });
        let lacks = if fits_one_chunk {
            String::new()
        } else {
            host.why_no_scatter_gather(zero_copy).map(|why| format!("; {why}")).unwrap_or_default()
        };
        warnings.push(Advice {
            says: format!(
                "MTU {}, but frames over {} bytes do not fit a chunk of {chunk_size}: they will be counted \
                as oversize and lost{lacks}",
                host.mtu,
                chunk_size - HEADROOM
            ),
            remedy,
        });
    }
    if zero_copy && chunk_size < least {
        warnings.push(Advice {
            says: format!(
                "drivers such as igb use whole KiB of a chunk: of {chunk_size} bytes, {HEADROOM} of them \
                headroom, {}; frames that are larger are cut; chunks of {least} bytes are safe",
                (chunk_size - HEADROOM) / 1024 * 1024
            ),
            remedy: None,
        });
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
