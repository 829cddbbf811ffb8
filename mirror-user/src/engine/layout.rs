//! How a run on one interface works: which program, in which mode, with which chunks. Pure, and called by
//! both the plan of a start and the doctor, so that they cannot disagree.

use std::fmt;

pub(crate) use super::facts::Host;
use super::{
    Bind, BindMode, HostCommand, Mode, MtuTooLarge, Obstacle, OptionsError, Queues, Warning, XdpMode,
    facts::{LARGEST_CHUNK, LINK_OVERHEAD, ONE_CHUNK_MTU},
    obstacles,
};
use crate::{
    host::{driver, kernel::since},
    xsk::HEADROOM,
};

/// The options that matter here.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) mode: Mode,
    pub(crate) bind: BindMode,
    pub(crate) chunk_size: Option<u32>,
    pub(crate) scatter_gather: bool,
    pub(crate) queues: &'a Queues,
}

impl Wanted<'_> {
    /// All at their defaults.
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
    pub(crate) modes: Vec<XdpMode>,
    /// The one of them that is expected to be taken.
    pub(crate) mode: XdpMode,
    /// Whether native mode takes the program for frames of several buffers.
    pub(crate) frags: bool,
    /// Whether sockets take frames in several descriptors.
    pub(crate) scatter_gather: bool,
    pub(crate) bind: Bind,
    pub(crate) chunk_size: u32,
    /// RX queues once the program is attached in the expected mode.
    pub(crate) rx_queues: u32,
    /// Why native mode would be refused, or would lose frames; empty if no reason is known.
    pub(crate) obstacles: Vec<Obstacle>,
    /// Frames that are lost or at risk.
    pub(crate) warnings: Vec<Warning>,
}

/// Why there is no layout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// The MTU does not fit what was asked for.
    Mtu(Box<MtuTooLarge>),
    /// Two options, or an option and the kernel, contradict each other.
    Options(OptionsError),
    /// A queue that does not exist.
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

impl Layout {
    /// Bytes of the UMEMs of all queues, each of so many chunks.
    pub(crate) fn umem_bytes(&self, chunks: u32) -> u64 {
        umem_bytes(self.rx_queues as usize, chunks, self.chunk_size)
    }
}

/// Bytes of the UMEMs of so many queues.
pub(super) fn umem_bytes(queues: usize, chunks: u32, chunk_size: u32) -> u64 {
    queues as u64 * u64::from(chunks) * u64::from(chunk_size)
}

/// Decides.
pub(crate) fn layout(host: &Host, wanted: &Wanted<'_>) -> Result<Layout, Refusal> {
    let zero_copy = wanted.bind == BindMode::ZeroCopy;
    if zero_copy && wanted.mode == Mode::Generic {
        return Err(Refusal::Options(OptionsError::GenericZeroCopy));
    }
    if wanted.scatter_gather && !host.since(since::SCATTER_GATHER) {
        return Err(Refusal::Options(OptionsError::ScatterGather { kernel: host.kernel }));
    }
    let mut obstacles = Vec::new();
    let mut excluded = false;
    let too_large = host.too_large(zero_copy);
    match obstacles::support(host) {
        Some(obstacle) => {
            // A driver's own report needs no trial; our list may be wrong.
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
        Mode::Generic => vec![XdpMode::Generic],
        Mode::Auto if excluded && !zero_copy => vec![XdpMode::Generic],
        Mode::Auto if !zero_copy => vec![XdpMode::Native, XdpMode::Generic],
        Mode::Auto | Mode::Native => vec![XdpMode::Native],
    };
    let first = modes.first().copied().unwrap_or(XdpMode::Generic);
    let mode = if obstacles.is_empty() { first } else { modes.last().copied().unwrap_or(first) };
    let may_be_native = first == XdpMode::Native;
    let rx_queues =
        if mode == XdpMode::Native { obstacles::queues_once_attached(host) } else { host.rx_queues };
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
        bind: if zero_copy { Bind::ZeroCopy } else { Bind::Copy },
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
