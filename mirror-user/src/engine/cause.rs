//! Limits, obstacles, and causes of the kernel's refusals, as data.

use std::fmt;

use super::{
    command::HostCommand,
    words::{counted, named, running},
};
use crate::host::kernel::KernelVersion;

/// An MTU, and the limit it is over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MtuTooLarge {
    /// The interface that is read.
    pub interface: String,
    /// The other end of a veth pair, where the MTU is that one's.
    pub other_end: Option<String>,
    /// The MTU, in bytes.
    pub mtu: u32,
    /// The most it may be, in bytes.
    pub most: u32,
    /// What sets that limit.
    pub limit: MtuLimit,
    /// Why frames that are larger cannot be had in several buffers.
    pub reason: NoMultiBuffer,
    /// The largest MTU at which nothing is lost, in bytes.
    pub lossless: u32,
}

impl MtuTooLarge {
    /// Sets the largest MTU at which nothing is lost.
    #[must_use]
    pub fn command(&self) -> HostCommand {
        let interface = self.other_end.as_ref().unwrap_or(&self.interface).clone();
        HostCommand::Mtu { interface, mtu: self.lossless }
    }
}

impl fmt::Display for MtuTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MTU {}", self.mtu)?;
        if let Some(name) = &self.other_end {
            write!(f, " of the other end, {name},")?;
        }
        write!(f, " is over {}, the most ", self.most)?;
        match &self.limit {
            MtuLimit::SingleBuffer { driver } => {
                write!(f, "{} takes with an XDP program of a single buffer", named(driver.as_deref()))?;
            }
            MtuLimit::Chunk { bytes } => write!(f, "whose frames fit one chunk of {bytes} bytes")?,
        }
        write!(f, "; {}", self.reason)
    }
}

/// What limits an MTU.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MtuLimit {
    /// A frame must fit one buffer of the driver.
    SingleBuffer {
        /// The driver's name, where it is known.
        driver: Option<String>,
    },
    /// A frame must fit one chunk of the UMEM.
    Chunk {
        /// Bytes of the largest chunk.
        bytes: u32,
    },
}

/// Why frames of several buffers cannot be had.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NoMultiBuffer {
    /// The kernel's own ena driver does not have them.
    InBoxEna,
    /// Amazon's ena driver has them from 2.14 on.
    EnaBefore2_14,
    /// The driver does not have them.
    Driver,
    /// The kernel redirects them from 6.6 on.
    Kernel {
        /// The running kernel's version, where it is known.
        kernel: Option<KernelVersion>,
    },
    /// The zero-copy of the driver does not take them.
    ZeroCopy {
        /// The driver's name, where it is known.
        driver: Option<String>,
    },
}

impl fmt::Display for NoMultiBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InBoxEna => f.write_str("the in-box driver has no multi-buffer XDP"),
            Self::EnaBefore2_14 => f.write_str("multi-buffer XDP needs driver 2.14"),
            Self::Driver => f.write_str("the driver has no multi-buffer XDP"),
            Self::Kernel { kernel } => {
                write!(f, "frames of several buffers need kernel 6.6, {}", running(*kernel))
            }
            Self::ZeroCopy { driver } => {
                write!(f, "the zero-copy of {} takes frames of one buffer only", named(driver.as_deref()))
            }
        }
    }
}

/// A known obstacle to native mode.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The driver has no native XDP with redirect.
    NoNative {
        /// The driver's name, where it is known.
        driver: Option<String>,
        /// Whether the driver reports that; else it is not on the list of those that have it.
        reported: bool,
    },
    /// The MTU is too large.
    Mtu(Box<MtuTooLarge>),
    /// ena attaches only up to half of its channels.
    EnaChannels {
        /// Whether it is the kernel's own driver, and not Amazon's before 2.17.
        in_box: bool,
        /// The interface.
        interface: String,
        /// Channels in use.
        in_use: u32,
        /// The most there are.
        most: u32,
    },
    /// The other end of a veth pair has more TX queues than this one has RX queues.
    VethQueues {
        /// RX queues here.
        rx_queues: u32,
        /// The other end.
        other_end: String,
        /// Its TX queues.
        tx_queues: u32,
    },
    /// The same, with the other end in another network namespace.
    VethHidden,
    /// virtio_net refuses XDP while the hypervisor offers these and does not let them be switched off.
    VirtioOffloads {
        /// The offloads, by the names of QEMU's options.
        offloads: Vec<&'static str>,
    },
}

impl Obstacle {
    /// A command that removes it, where there is one.
    #[must_use]
    pub fn command(&self) -> Option<HostCommand> {
        match self {
            Self::Mtu(mtu) => Some(mtu.command()),
            Self::EnaChannels { interface, most, .. } => (*most >= 2)
                .then(|| HostCommand::Channels { interface: interface.clone(), combined: most / 2 }),
            Self::VethQueues { rx_queues, other_end, .. } => {
                Some(HostCommand::TxQueues { interface: other_end.clone(), queues: *rx_queues })
            }
            Self::NoNative { .. } | Self::VethHidden | Self::VirtioOffloads { .. } => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNative { driver, reported } => write!(
                f,
                "{} {} native XDP with redirect; in generic mode each frame first becomes a socket buffer",
                named(driver.as_deref()),
                if *reported { "has no" } else { "is not known for" }
            ),
            Self::Mtu(mtu) => mtu.fmt(f),
            Self::EnaChannels { in_box, in_use, most, .. } => {
                write!(
                    f,
                    "{} of at most {most} in use: {} attaches XDP only up to half of them, for it needs the \
                    others to transmit",
                    counted(*in_use, "channel"),
                    if *in_box { "the in-box driver" } else { "ena before 2.17" }
                )?;
                if *most < 2 {
                    f.write_str("; an instance type with more vCPUs has more")?;
                }
                Ok(())
            }
            Self::VethQueues { rx_queues, other_end, tx_queues } => write!(
                f,
                "{} here and {} at the other end, {other_end}: veth takes a native program only if there \
                are no more there than here",
                counted(*rx_queues, "RX queue"),
                counted(*tx_queues, "TX queue"),
            ),
            Self::VethHidden => f.write_str(
                "the other end, in another network namespace, has more TX queues than this end has RX queues",
            ),
            Self::VirtioOffloads { offloads } => {
                let off: Vec<String> = offloads.iter().map(|name| format!("{name}=off")).collect();
                write!(
                    f,
                    "the hypervisor offers {} and no way to switch them off (ctrl_guest_offloads), so \
                    virtio_net refuses XDP; start the guest with {} on its virtio-net device",
                    offloads.join(", "),
                    off.join(",")
                )
            }
        }
    }
}

/// The cause of a refusal to attach.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AttachCause {
    /// Another program was attached since the plan was made.
    HookTaken,
    /// The process lacks CAP_NET_ADMIN or CAP_BPF.
    NotPermitted,
    /// The interface was deleted.
    InterfaceGone,
    /// An obstacle that the plan knew of.
    Obstacle {
        /// The driver's name, where it is known.
        driver: Option<String>,
        /// What it is.
        obstacle: Obstacle,
    },
    /// veth has fewer RX queues than its other end has TX queues.
    TooFewRxQueues {
        /// The driver's name, where it is known.
        driver: Option<String>,
    },
    /// The driver has no native XDP.
    NoNative {
        /// The driver's name, where it is known.
        driver: Option<String>,
    },
    /// Most likely the MTU is too large.
    Mtu {
        /// The driver's name, where it is known.
        driver: Option<String>,
        /// The MTU, in bytes.
        mtu: u32,
        /// The most that the driver takes, where that is known.
        most: Option<u32>,
    },
    /// virtio_net before 5.13 wants a queue for each CPU on top of those in use.
    VirtioQueues {
        /// How many queues to use, so that those for the CPUs are left; `None` if there are too few for that.
        usable: Option<u32>,
    },
    /// Most likely there are no free channels for what XDP transmits.
    Channels {
        /// The driver's name, where it is known.
        driver: Option<String>,
    },
}

impl AttachCause {
    /// A command that removes it, where one can be given with all its numbers.
    #[must_use]
    pub fn command(&self, interface: &str) -> Option<HostCommand> {
        let interface = || interface.to_owned();
        match self {
            Self::HookTaken => Some(HostCommand::XdpOff { interface: interface() }),
            Self::Obstacle { obstacle, .. } => obstacle.command(),
            Self::Mtu { most, .. } => most.map(|mtu| HostCommand::Mtu { interface: interface(), mtu }),
            Self::VirtioQueues { usable } => {
                usable.map(|combined| HostCommand::Channels { interface: interface(), combined })
            }
            Self::NotPermitted
            | Self::InterfaceGone
            | Self::TooFewRxQueues { .. }
            | Self::NoNative { .. }
            | Self::Channels { .. } => None,
        }
    }
}

impl fmt::Display for AttachCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HookTaken => f.write_str("another XDP program was attached first"),
            Self::NotPermitted => f.write_str("CAP_NET_ADMIN and CAP_BPF are needed"),
            Self::InterfaceGone => f.write_str("the interface was deleted"),
            Self::Obstacle { driver, obstacle } => {
                write!(f, "{} refuses the program: {obstacle}", named(driver.as_deref()))
            }
            Self::TooFewRxQueues { driver } => {
                write!(f, "{} has too few RX queues for its peer's TX queues", named(driver.as_deref()))
            }
            Self::NoNative { driver } => write!(f, "{} has no native XDP", named(driver.as_deref())),
            Self::Mtu { driver, mtu, .. } => {
                write!(
                    f,
                    "{} refuses the program, most likely for its MTU of {mtu}",
                    named(driver.as_deref())
                )
            }
            Self::VirtioQueues { .. } => f.write_str(
                "virtio_net of this kernel wants a queue for each CPU on top of those in use, and the device \
                has not so many",
            ),
            Self::Channels { driver } => write!(
                f,
                "{} refuses the program, most likely because no channels are free",
                named(driver.as_deref())
            ),
        }
    }
}

/// The cause of a refusal of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SocketCause {
    /// Another AF_XDP socket has the queue.
    QueueTaken,
    /// The driver has no zero-copy.
    NoZeroCopy,
    /// virtio_net has zero-copy only with VIRTIO_F_ACCESS_PLATFORM, which the hypervisor does not offer.
    NoAccessPlatform,
    /// The driver does not take this queue, MTU or chunk size in zero-copy mode.
    ZeroCopyRefused,
    /// The UMEM is over the limit of locked memory, or there is no memory for it.
    UmemMemory,
    /// There is no memory for the rings, or they are over the limit of locked memory.
    RingMemory,
    /// The process lacks CAP_NET_RAW or CAP_NET_ADMIN.
    NotPermitted,
    /// The interface was deleted.
    InterfaceGone,
    /// The interface is down.
    InterfaceDown,
    /// The kernel has no AF_XDP.
    NoAfXdp,
    /// Busy polling needs kernel 5.11.
    NoBusyPoll,
}

impl fmt::Display for SocketCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueTaken => "another AF_XDP socket holds the queue",
            Self::NoZeroCopy => "the driver has no AF_XDP zero-copy",
            Self::NoAccessPlatform => {
                "the hypervisor does not offer VIRTIO_F_ACCESS_PLATFORM, without which virtio_net has no \
                zero-copy"
            }
            Self::ZeroCopyRefused => {
                "the driver does not take this queue, MTU or chunk size in zero-copy mode"
            }
            Self::UmemMemory => "a UMEM counts against the limit of locked memory without CAP_IPC_LOCK",
            Self::RingMemory => "no memory for the rings",
            Self::NotPermitted => "CAP_NET_RAW and CAP_NET_ADMIN are needed",
            Self::InterfaceGone => "the interface was deleted",
            Self::InterfaceDown => "the interface is down",
            Self::NoAfXdp => "the kernel has no AF_XDP (CONFIG_XDP_SOCKETS)",
            Self::NoBusyPoll => "it needs kernel 5.11",
        })
    }
}
