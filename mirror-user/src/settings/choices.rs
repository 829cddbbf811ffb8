//! Values that are one of a few words.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::words::{Invalid, Word, one};
use crate::{engine, sink::pcap};

/// An enumeration whose variants are written as words.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        #[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
        pub enum $name { $($(#[$doc])* #[cfg_attr(feature = "cli", value(name = $word))] $variant,)* }

        impl $name {
            /// The word.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(Invalid(format!("expected one of {}", [$($word),*].join(", ")))),
                }
            }
        }

        impl Word for $name {}

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                one(deserializer)
            }
        }
    )*};
}

choices! {
    /// XDP mode.
    Mode {
        /// Native, or generic with a warning if the interface cannot do native
        #[default]
        Auto = "auto",
        /// In the driver; fails if the interface cannot do it
        Native = "native",
        /// In the kernel's network stack: any driver, several times slower
        Generic = "generic",
    }
    /// How packets get from the NIC to the AF_XDP ring.
    Bind {
        /// Same as copy
        #[default]
        Auto = "auto",
        /// The kernel copies each packet once
        Copy = "copy",
        /// The NIC writes packets into the UMEM; fails if the driver cannot do it
        Zerocopy = "zerocopy",
    }
    /// How workers wait for packets.
    Wait {
        /// Sleep until packets arrive
        #[default]
        Poll = "poll",
        /// Never sleep; takes a whole CPU per queue
        Spin = "spin",
        /// Busy-poll the NIC queue from the worker (kernel 5.11)
        BusyPoll = "busy-poll",
    }
    /// How workers compete with other processes for their CPUs.
    Priority {
        /// Same as realtime, or the best that is permitted, with --wait poll; else same as normal
        #[default]
        Auto = "auto",
        /// Run before all ordinary threads (SCHED_FIFO); fails if that is not permitted
        Realtime = "realtime",
        /// Nice level -20; fails if that is not permitted
        Nice = "nice",
        /// As mirror was started
        Normal = "normal",
    }
    /// Which tunnel packets are captured, by their destination address.
    Destination {
        /// The interface's MAC address and, if it has any of the family, one of its IP addresses
        #[default]
        Own = "own",
        /// Any address, as for SPAN ports and promiscuous mode
        Any = "any",
    }
    /// Which path forwarded packets take.
    ForwardPath {
        /// Kernel if nothing needs the packets in user space and all are accounted for; else user
        #[default]
        Auto = "auto",
        /// The XDP program decapsulates and redirects; fails if the interface, the target or another output
        /// excludes it
        Kernel = "kernel",
        /// Workers decapsulate and send
        User = "user",
    }
    /// Format of a capture.
    FileFormat {
        /// One interface per origin, nanosecond timestamps, statistics at the end
        #[default]
        Pcapng = "pcapng",
        /// Classic pcap, nanosecond timestamps
        Pcap = "pcap",
        /// Classic pcap, microsecond timestamps
        PcapUs = "pcap-us",
    }
    /// What to do when the file system is full.
    WhenFull {
        /// Drop packets until there is space again
        #[default]
        Wait = "wait",
        /// Delete the oldest completed files of this run, after their -z command has ended; wait if there are
        /// none
        Delete = "delete",
        /// End the capture
        Stop = "stop",
    }
    /// How packets are distributed over several targets.
    Balance {
        /// Each target gets every packet
        #[default]
        Copy = "copy",
        /// Each flow, both directions, goes to one target; flows are spread evenly
        Flow = "flow",
    }
    /// Whether the sandbox is used.
    Sandbox {
        /// As far as the kernel supports it; what it lacks is logged
        #[default]
        Auto = "auto",
        /// The run starts only with Landlock for files and TCP (kernel 6.7) and seccomp
        Require = "require",
        /// No sandbox; capabilities are still dropped
        Off = "off",
    }
    /// What a run does when every output has ended.
    OnOutputEnd {
        /// End the run, with exit code 1
        #[default]
        Stop = "stop",
        /// Continue counting
        Continue = "continue",
    }
}

impl From<Mode> for engine::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Native => Self::Native,
            Mode::Generic => Self::Generic,
        }
    }
}

impl From<Bind> for engine::BindMode {
    fn from(bind: Bind) -> Self {
        match bind {
            Bind::Auto => Self::Auto,
            Bind::Copy => Self::Copy,
            Bind::Zerocopy => Self::ZeroCopy,
        }
    }
}

impl From<Wait> for engine::Wait {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Poll => Self::Poll,
            Wait::Spin => Self::Spin,
            Wait::BusyPoll => Self::BusyPoll,
        }
    }
}

impl From<Priority> for engine::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Auto => Self::Auto,
            Priority::Realtime => Self::Realtime,
            Priority::Nice => Self::Nice,
            Priority::Normal => Self::Normal,
        }
    }
}

impl From<Destination> for engine::Destination {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::Own => Self::Own,
            Destination::Any => Self::Any,
        }
    }
}

impl From<ForwardPath> for engine::ForwardPath {
    fn from(path: ForwardPath) -> Self {
        match path {
            ForwardPath::Auto => Self::Auto,
            ForwardPath::Kernel => Self::Kernel,
            ForwardPath::User => Self::User,
        }
    }
}

impl From<FileFormat> for pcap::Format {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Pcapng => Self::Pcapng,
            FileFormat::Pcap => Self::Pcap,
            FileFormat::PcapUs => Self::PcapMicros,
        }
    }
}

impl From<WhenFull> for pcap::WhenFull {
    fn from(when_full: WhenFull) -> Self {
        match when_full {
            WhenFull::Wait => Self::Wait,
            WhenFull::Delete => Self::Delete,
            WhenFull::Stop => Self::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::words::testing::read, *};

    #[test]
    fn an_invalid_choice_is_reported_with_the_valid_ones() {
        assert_eq!(read("busy-poll"), Ok(Wait::BusyPoll));
        assert_eq!(read::<Wait>("sleep").unwrap_err(), "expected one of poll, spin, busy-poll");
    }
}
