//! Commands that change the running host, to be printed as advice.

use std::fmt;

use crate::{
    escape::shell,
    host::settings::{Assignment, Setting},
};

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

impl HostCommand {
    /// The setting that it changes for good, if it is no state of a moment.
    #[must_use]
    pub fn assignment(&self) -> Option<Assignment> {
        match self.clone() {
            Self::Mtu { interface, mtu } => Some(Assignment::of(Setting::Mtu { interface }, mtu)),
            Self::Channels { interface, combined } => {
                Some(Assignment::of(Setting::Channels { interface }, combined))
            }
            Self::TxQueues { interface, queues } => {
                Some(Assignment::of(Setting::TxQueues { interface }, queues))
            }
            Self::Up { .. } | Self::XdpOff { .. } => None,
        }
    }
}

impl fmt::Display for HostCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu { .. } | Self::Channels { .. } | Self::TxQueues { .. } => {
                self.assignment().as_ref().map_or(Ok(()), |assignment| assignment.fmt(f))
            }
            Self::Up { interface } => write!(f, "ip link set dev {} up", shell(interface)),
            Self::XdpOff { interface } => write!(f, "ip link set dev {} xdp off", shell(interface)),
        }
    }
}
