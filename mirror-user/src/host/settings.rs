//! Settings of the host that a command changes for good: they last until the next boot, or as long as the
//! device. Nothing changes them unless it is asked to.

use std::{fmt, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    HostError,
    ethtool::{Ethtool, hex_key, key_of_hex},
    interface::{Interface, set_mtu},
    read_text,
};
use crate::escape::shell;

/// A setting below `/proc/sys`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[non_exhaustive]
pub enum Sysctl {
    /// Whether BPF programs are compiled: 0, 1, or 2 with debug output.
    #[serde(rename = "net.core.bpf_jit_enable")]
    BpfJitEnable,
    /// How long poll(2) busy-polls, in µs.
    #[serde(rename = "net.core.busy_poll")]
    BusyPoll,
    /// How long read(2) busy-polls, in µs.
    #[serde(rename = "net.core.busy_read")]
    BusyRead,
    /// Huge pages in the pool, of the default size.
    #[serde(rename = "vm.nr_hugepages")]
    NrHugepages,
    /// How long real-time threads may run in each period, in µs; -1 is unlimited.
    #[serde(rename = "kernel.sched_rt_runtime_us")]
    SchedRtRuntime,
}

impl Sysctl {
    /// Its name, as sysctl(8) has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BpfJitEnable => "net.core.bpf_jit_enable",
            Self::BusyPoll => "net.core.busy_poll",
            Self::BusyRead => "net.core.busy_read",
            Self::NrHugepages => "vm.nr_hugepages",
            Self::SchedRtRuntime => "kernel.sched_rt_runtime_us",
        }
    }

    fn path(self) -> PathBuf {
        PathBuf::from(format!("/proc/sys/{}", self.name().replace('.', "/")))
    }
}

/// A setting of the host or of one interface in the calling thread's network namespace.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(tag = "setting", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Setting {
    /// A number below `/proc/sys`.
    Sysctl {
        /// Which one.
        name: Sysctl,
    },
    /// The MTU, in bytes.
    Mtu {
        /// Of this interface.
        interface: String,
    },
    /// Channels that receive and transmit.
    Channels {
        /// Of this interface.
        interface: String,
    },
    /// Channels that transmit only.
    TxQueues {
        /// Of this interface.
        interface: String,
    },
    /// Descriptors of an RX ring.
    RxRing {
        /// Of this interface.
        interface: String,
    },
    /// An offload: `on` or `off`.
    Offload {
        /// Of this interface.
        interface: String,
        /// The kernel's name of it, such as `rx-gro-hw`.
        offload: String,
    },
    /// The key of the RSS hash: bytes in hex with colons between them.
    RssKey {
        /// Of this interface.
        interface: String,
    },
}

impl Setting {
    /// The interface it belongs to; `None` for one of the whole host.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::Sysctl { .. } => None,
            Self::Mtu { interface }
            | Self::Channels { interface }
            | Self::TxQueues { interface }
            | Self::RxRing { interface }
            | Self::Offload { interface, .. }
            | Self::RssKey { interface } => Some(interface),
        }
    }

    /// Its value at this moment.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchInterface`], or what the kernel or the driver says.
    pub fn read(&self) -> Result<String, HostError> {
        let number = |value: u32| value.to_string();
        Ok(match self {
            Self::Sysctl { name } => read_text(name.path())?,
            Self::Mtu { interface } => number(Interface::named(interface)?.mtu),
            Self::Channels { interface } => number(Interface::named(interface)?.channels()?.combined),
            Self::TxQueues { interface } => number(Interface::named(interface)?.channels()?.tx),
            Self::RxRing { interface } => number(Interface::named(interface)?.rings()?.rx),
            Self::Offload { interface, offload } => {
                let all = Interface::named(interface)?.offloads()?;
                let unknown = || HostError::Unexpected { what: "an offload", text: offload.clone() };
                if *all.get(offload).ok_or_else(unknown)? { "on" } else { "off" }.to_owned()
            }
            Self::RssKey { interface } => hex_key(&Interface::named(interface)?.rss()?.key),
        })
    }

    /// Sets it. The kernel may take another value than this one, such as fewer huge pages.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchInterface`]; [`HostError::Setting`] with what the kernel or the driver says.
    pub fn write(&self, value: &str) -> Result<(), HostError> {
        let refused =
            |source| HostError::Setting { setting: self.to_string(), value: value.to_owned(), source };
        let interface = self.interface().map(Interface::named).transpose()?;
        self.change(interface.as_ref(), value).map_err(refused)
    }

    fn change(&self, interface: Option<&Interface>, value: &str) -> io::Result<()> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "not a value of this setting");
        let number = || value.parse::<u32>().map_err(|_| invalid());
        let ethtool = |name: &str| Ethtool::open(name);
        match self {
            Self::Sysctl { name } => {
                value.parse::<i64>().map_err(|_| invalid())?;
                fs::write(name.path(), value)
            }
            Self::Mtu { .. } => set_mtu(interface.ok_or_else(invalid)?.index, number()?),
            Self::Channels { interface } => {
                let combined = number()?;
                ethtool(interface)?.set_channels(|now| now.combined = combined)
            }
            Self::TxQueues { interface } => {
                let tx = number()?;
                ethtool(interface)?.set_channels(|now| now.tx = tx)
            }
            Self::RxRing { interface } => ethtool(interface)?.set_rx_ring(number()?),
            Self::Offload { interface, offload } => {
                let on = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(invalid()),
                };
                ethtool(interface)?.set_feature(offload, on)
            }
            Self::RssKey { interface } => {
                ethtool(interface)?.set_rss_key(&key_of_hex(value).ok_or_else(invalid)?)
            }
        }
    }
}

/// For a message, as `ens6: MTU`; names are not escaped.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { name } => f.write_str(name.name()),
            Self::Mtu { interface } => write!(f, "{interface}: MTU"),
            Self::Channels { interface } => write!(f, "{interface}: channels"),
            Self::TxQueues { interface } => write!(f, "{interface}: TX queues"),
            Self::RxRing { interface } => write!(f, "{interface}: descriptors of RX rings"),
            Self::Offload { interface, offload } => write!(f, "{interface}: {offload}"),
            Self::RssKey { interface } => write!(f, "{interface}: RSS key"),
        }
    }
}

/// A setting and its value. It prints as the command to type, names quoted for a shell where they need it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Assignment {
    /// What is set.
    #[serde(flatten)]
    pub setting: Setting,
    /// To what.
    pub value: String,
}

impl Assignment {
    /// Of this setting, to this value.
    #[must_use]
    pub fn of(setting: Setting, value: impl fmt::Display) -> Self {
        Self { setting, value: value.to_string() }
    }

    /// The command and its arguments.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let Self { setting, value } = self;
        let assigned;
        let words: &[&str] = match setting {
            Setting::Sysctl { name } => {
                assigned = format!("{}={value}", name.name());
                &["sysctl", "-w", &assigned]
            }
            Setting::Mtu { interface } => &["ip", "link", "set", "dev", interface, "mtu", value],
            Setting::Channels { interface } => &["ethtool", "-L", interface, "combined", value],
            Setting::TxQueues { interface } => &["ethtool", "-L", interface, "tx", value],
            Setting::RxRing { interface } => &["ethtool", "-G", interface, "rx", value],
            Setting::Offload { interface, offload } => {
                // ethtool's own name of the one that is older than the kernel's names.
                let offload = if offload == "rx-lro" { "lro" } else { offload };
                &["ethtool", "-K", interface, offload, value]
            }
            Setting::RssKey { interface } => &["ethtool", "-X", interface, "hkey", value],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.command();
        let quoted: Vec<_> = words.iter().map(|word| shell(word)).collect();
        f.write_str(&quoted.join(" "))
    }
}
