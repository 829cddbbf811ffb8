//! Commands that change the running host, to be printed as advice.

use std::fmt;

use crate::escape::shell;

/// A command that changes the running host, with its numbers. It prints as the line to type, names quoted for
/// a shell where they need it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HostCommand {
    /// Sets an MTU.
    Mtu {
        /// Of this interface.
        interface: String,
        /// In bytes.
        mtu: u32,
    },
    /// Sets the number of channels.
    Channels {
        /// Of this interface.
        interface: String,
        /// Channels that receive and transmit.
        combined: u32,
    },
    /// Sets the number of TX queues.
    TxQueues {
        /// Of this interface.
        interface: String,
        /// How many.
        queues: u32,
    },
    /// Sets an interface up.
    Up {
        /// This one.
        interface: String,
    },
    /// Takes the XDP program off.
    XdpOff {
        /// Of this interface.
        interface: String,
    },
}

impl fmt::Display for HostCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu { interface, mtu } => write!(f, "ip link set dev {} mtu {mtu}", shell(interface)),
            Self::Channels { interface, combined } => {
                write!(f, "ethtool -L {} combined {combined}", shell(interface))
            }
            Self::TxQueues { interface, queues } => write!(f, "ethtool -L {} tx {queues}", shell(interface)),
            Self::Up { interface } => write!(f, "ip link set dev {} up", shell(interface)),
            Self::XdpOff { interface } => write!(f, "ip link set dev {} xdp off", shell(interface)),
        }
    }
}
