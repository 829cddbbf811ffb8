//! Warnings about a run.

use std::fmt;

use super::{
    cause::{AttachCause, NoMultiBuffer, Obstacle},
    command::HostCommand,
    forward::ForwardObstacle,
};
use crate::xsk::HEADROOM;

/// A loss, or a worse way of working, on an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// It runs in generic mode, for native mode is known not to work.
    Generic(Obstacle),
    /// It runs in generic mode, for native mode was refused.
    NativeRefused {
        /// What the kernel said.
        error: String,
        /// What it means by that, where it is known.
        cause: Option<AttachCause>,
    },
    /// Frames that fit no chunk are lost, and counted as oversize.
    Oversize {
        /// The interface's MTU, in bytes.
        mtu: u32,
        /// Bytes of a chunk.
        chunk_size: u32,
        /// Why larger frames do not come in several descriptors, where the MTU needs that.
        reason: Option<NoMultiBuffer>,
        /// The largest MTU at which nothing is lost, where that is less than the present one.
        lossless: Option<u32>,
    },
    /// In zero-copy mode drivers such as igb use whole KiB of a chunk, and cut frames that are larger.
    WholeKib {
        /// Bytes of a chunk.
        chunk_size: u32,
        /// Bytes of a chunk that takes all frames.
        safe: u32,
    },
    /// The interface is down.
    Down,
    /// The interface has no carrier.
    NoCarrier,
    /// Workers that never sleep have to share CPUs.
    BusyWorkers {
        /// Workers so far.
        workers: usize,
        /// CPUs that they may use.
        cpus: usize,
    },
    /// Workers that sleep should have real-time priority, and the kernel refused that.
    NotRealtime {
        /// What the kernel said.
        error: String,
        /// Whether they have nice level -20 instead.
        nice: bool,
    },
    /// The driver added queues for the program, which are read in copy mode.
    AddedQueues {
        /// How many.
        added: u32,
        /// How many queues to use, so that none is added.
        most: u32,
    },
    /// The kernel forwards on request, in spite of this.
    Forward(ForwardObstacle),
    /// All tunnel packets were addressed to others.
    NotLocal,
    /// Queues came after the start, and were not read.
    QueuesUnread {
        /// RX queues there are.
        queues: u32,
        /// RX queues that were read.
        read: u32,
    },
    /// The interface was deleted, and the run went on with others.
    Lost,
}

impl Warning {
    /// A command that ends it, where there is one.
    #[must_use]
    pub fn command(&self, interface: &str) -> Option<HostCommand> {
        let interface = || interface.to_owned();
        match self {
            Self::Generic(obstacle) => obstacle.command(),
            Self::NativeRefused { cause, .. } => cause.as_ref()?.command(&interface()),
            Self::Oversize { lossless, .. } => {
                lossless.map(|mtu| HostCommand::Mtu { interface: interface(), mtu })
            }
            Self::Down => Some(HostCommand::Up { interface: interface() }),
            Self::AddedQueues { most, .. } => {
                Some(HostCommand::Channels { interface: interface(), combined: *most })
            }
            Self::WholeKib { .. }
            | Self::NoCarrier
            | Self::BusyWorkers { .. }
            | Self::NotRealtime { .. }
            | Self::Forward(_)
            | Self::NotLocal
            | Self::QueuesUnread { .. }
            | Self::Lost => None,
        }
    }

    /// A line for a log or a report: interface, warning, command.
    pub(super) fn line(&self, interface: &str) -> String {
        let command = self.command(interface).map(|command| format!("; run `{command}`")).unwrap_or_default();
        format!("{interface}: {self}{command}")
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generic(obstacle) => {
                write!(f, "generic mode, several times slower than native: {obstacle}")
            }
            Self::NativeRefused { error, cause } => {
                write!(f, "generic mode, several times slower than native, which failed: {error}")?;
                cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Self::Oversize { mtu, chunk_size, reason, .. } => {
                write!(
                    f,
                    "MTU {mtu}, but frames over {} bytes do not fit a chunk of {chunk_size}: they will be \
                    counted as oversize and lost",
                    chunk_size.saturating_sub(HEADROOM)
                )?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, "; {reason}"))
            }
            Self::WholeKib { chunk_size, safe } => write!(
                f,
                "drivers such as igb use whole KiB of a chunk: of {chunk_size} bytes, {HEADROOM} of them \
                headroom, {}; frames that are larger are cut; chunks of {safe} bytes are safe",
                chunk_size.saturating_sub(HEADROOM) / 1024 * 1024
            ),
            Self::Down => f.write_str("the interface is down; ingest begins when it is up"),
            Self::NoCarrier => f.write_str(
                "the interface is up, but has no carrier: see the other end, or wait for a driver that \
                resets its link when an XDP program comes or goes, as igb does for 2 s; ingest begins when \
                the carrier is there",
            ),
            Self::BusyWorkers { workers, cpus } => write!(
                f,
                "{workers} workers that never sleep share {cpus} CPUs and starve each other; wait by \
                polling, or read fewer queues"
            ),
            Self::NotRealtime { error, nice } => write!(
                f,
                "workers have {}, not real-time priority, which needs CAP_SYS_NICE or RLIMIT_RTPRIO, and a \
                control group with real-time runtime: {error}; they are late, and lose frames, when other \
                processes want their CPUs",
                if *nice { "nice level -20" } else { "ordinary priority" }
            ),
            Self::AddedQueues { added, .. } => write!(
                f,
                "the driver added {added} RX queues for the XDP program, which are read in copy mode; with \
                all queues in use before the start, all are in zero-copy"
            ),
            Self::Forward(obstacle) => write!(f, "forwarding in the kernel: {obstacle}"),
            Self::NotLocal => f.write_str("tunnel packets were addressed to others, and passed to the host"),
            Self::QueuesUnread { queues, read } => {
                write!(f, "{queues} RX queues, of which {read} were read: the others came later")
            }
            Self::Lost => f.write_str("the interface was deleted, and the run went on with the others"),
        }
    }
}
