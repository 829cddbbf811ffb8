//! The values of keys and flags.

use std::{collections::HashSet, fmt, net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::words::{Invalid, Word, one};
use crate::{
    engine::{self, EngineBuilder},
    sink::{forward::Target, pcap},
};

impl Word for Target {}

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
    /// Which tunnel packets are captured, by their destination address.
    Destination {
        /// The interface's MAC address and, if it has any of the family, one of its IP addresses
        #[default]
        Own = "own",
        /// Any address, as for SPAN ports and promiscuous mode
        Any = "any",
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

impl From<Destination> for engine::Destination {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::Own => Self::Own,
            Destination::Any => Self::Any,
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

/// An integer within a range.
macro_rules! numbers {
    ($($(#[$meta:meta])* $name:ident($type:ty) in $range:expr $(, or $default:expr)?;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub struct $name(pub $type);

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let (first, last) = $range.into_inner();
                match text.parse() {
                    Ok(number) if $range.contains(&number) => Ok(Self(number)),
                    _ => Err(Invalid(format!("{text} is not in {first}..={last}"))),
                }
            }
        }

        impl Word for $name {}

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        $(impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        })?
    )*};
}

/// A hundred years.
const MOST_SECONDS: u64 = 100 * 366 * 24 * 3600;

numbers! {
    /// How many packets a run stops after.
    Count(u64) in 1..=u64::MAX;
    /// Size of an RX ring, in descriptors.
    RxRing(u32) in 0..=u32::MAX, or EngineBuilder::DEFAULT_RX_RING;
    /// The interval of file rotation, in seconds.
    RotateSeconds(u64) in 1..=MOST_SECONDS;
    /// The maximum number of files.
    FileCount(u32) in 1..=1_000_000;
    /// How many origins have their own file.
    MaxOrigins(u32) in 1..=4096, or 256;
    /// The seed that assigns flows to targets.
    Seed(u64) in 0..=u64::MAX;
    /// How often a flag was given.
    Times(u8) in 0..=u8::MAX, or 0;
}

/// Parses `0,2-4` into numbers, in the given order and without duplicates.
fn numbers(text: &str, what: &str, most: u32) -> Result<Vec<u32>, Invalid> {
    let mut list = Vec::new();
    let mut known = HashSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim()
                .parse::<u32>()
                .ok()
                .filter(|number| *number <= most)
                .ok_or_else(|| Invalid(format!("{text:?} is not a {what} (0 to {most})")))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(Invalid(format!("range {part}: the start exceeds the end")));
        }
        if last - first >= 65_536 {
            return Err(Invalid(format!("range {part}: more than 65536 {what}s")));
        }
        for number in first..=last {
            if !known.insert(number) {
                return Err(Invalid(format!("{what} {number} is listed twice")));
            }
            list.push(number);
        }
    }
    Ok(list)
}

/// UDP or TCP ports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ports(pub Vec<u16>);

/// RX queues: all, or these.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueueList(pub Option<Vec<u32>>);

/// CPUs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cpus(pub Vec<usize>);

/// VXLAN network identifiers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vnis(pub Vec<u32>);

/// Prefixes of outer sources.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sources(pub Vec<IpNet>);

impl FromStr for Ports {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let ports = numbers(text, "port", u16::MAX.into())?;
        Ok(Self(ports.into_iter().filter_map(|port| u16::try_from(port).ok()).collect()))
    }
}

impl Default for Ports {
    /// The port of VXLAN, RFC 7348 section 5.
    fn default() -> Self {
        Self(vec![4789])
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ports.join(","))
    }
}

impl FromStr for QueueList {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "all" { Ok(Self(None)) } else { numbers(text, "queue", 4095).map(|list| Self(Some(list))) }
    }
}

impl fmt::Display for QueueList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(queues) = &self.0 else { return f.write_str("all") };
        let queues: Vec<_> = queues.iter().map(ToString::to_string).collect();
        f.write_str(&queues.join(","))
    }
}

impl FromStr for Cpus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self(numbers(text, "CPU", 65_535)?.into_iter().map(|cpu| cpu as usize).collect()))
    }
}

impl FromStr for Vnis {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        numbers(text, "VNI", 0xff_ffff).map(Self)
    }
}

impl FromStr for Sources {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let source = |part: &str| {
            let part = part.trim();
            part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                Invalid(format!("{part:?} is neither an address nor a prefix such as 10.0.0.0/8"))
            })
        };
        text.split(',').map(source).collect::<Result<_, _>>().map(Self)
    }
}

/// A list that is one word, or an array.
macro_rules! lists {
    ($($name:ty, $joined:literal;)*) => {$(
        impl Word for $name {
            const JOINED_BY: Option<&'static str> = Some($joined);
        }
    )*};
}

lists! {
    Ports, ",";
    QueueList, ",";
    Cpus, ",";
    Vnis, ",";
    Sources, ",";
    Phrase, " ";
}

/// Words that form one text: a filter expression, or a name. Words of a command line stay separate.
#[derive(Clone, Debug, Eq)]
pub struct Phrase(pub Vec<String>);

impl FromStr for Phrase {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self(vec![text.to_owned()]))
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// Two phrases are equal if their text is, however it is split into words.
impl PartialEq for Phrase {
    fn eq(&self, other: &Self) -> bool {
        self.0.join(" ") == other.0.join(" ")
    }
}

/// The name of an interface; one word may have several.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface(pub String);

impl FromStr for Interface {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self(text.to_owned()))
    }
}

impl Word for Interface {
    const SPLIT_AT: Option<char> = Some(',');
}

/// A duration with a unit (`10s`, `500ms`, `1h 30m`), or in seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Time(pub Duration);

/// The longest duration accepted, far less than a clock can hold.
const LONGEST: Duration = Duration::from_secs(MOST_SECONDS);

impl FromStr for Time {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parsed = match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
            Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
        };
        match parsed {
            Ok(time) if time > LONGEST => Err(Invalid(format!("{text:?} is more than 100 years"))),
            Ok(Duration::ZERO) => Err(Invalid("the duration must be positive".to_owned())),
            Ok(time) => Ok(Self(time)),
            Err(error) => {
                Err(Invalid(format!("{text:?} is not a duration such as 10s, 500ms or 1h: {error}")))
            }
        }
    }
}

impl Word for Time {}

/// How often statistics are logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Interval(pub Duration);

impl FromStr for Interval {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(|Time(time)| Self(time))
    }
}

impl Word for Interval {}

impl Default for Interval {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A file size in bytes, written as for tcpdump's -C: in millions of bytes, or in KiB, MiB or GiB with the
/// suffix k, m or g.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const UNITS: [(char, u64); 3] = [('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30)];
        let unit = text.chars().next_back().map(|last| last.to_ascii_lowercase());
        let (number, unit) = UNITS
            .into_iter()
            .find(|(letter, _)| Some(*letter) == unit)
            .map_or((text, 1_000_000), |(_, unit)| (&text[..text.len() - 1], unit));
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        bytes.filter(|bytes| *bytes > 0).map(Self).ok_or_else(|| {
            Invalid(format!("{text:?} is not a size such as 100 (millions of bytes), 512k, 100m or 2g"))
        })
    }
}

impl Word for Size {}

/// How many bytes of a packet are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Snap {
    /// This many bytes; 0 is the maximum.
    Bytes(u32),
    /// Headers only.
    Headers,
}

impl FromStr for Snap {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "headers" => Ok(Self::Headers),
            _ => text
                .parse()
                .map(Self::Bytes)
                .map_err(|_| Invalid(format!("{text:?} is neither a number of bytes nor `headers`"))),
        }
    }
}

impl Word for Snap {}

impl Default for Snap {
    fn default() -> Self {
        Self::Bytes(0)
    }
}

impl fmt::Display for Snap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Headers => f.write_str("headers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a text, or its error.
    fn read<T: FromStr<Err = Invalid>>(text: &str) -> Result<T, String> {
        text.parse().map_err(|Invalid(reason)| reason)
    }

    #[test]
    fn lists_take_commas_and_ranges() {
        assert_eq!(read("0,2-4"), Ok(Vnis(vec![0, 2, 3, 4])));
        assert_eq!(read("16777215"), Ok(Vnis(vec![0xff_ffff])));
        assert_eq!(read("4789,8472"), Ok(Ports(vec![4789, 8472])));
    }

    #[test]
    fn an_invalid_list_is_reported_with_the_reason() {
        let refused = |text: &str| read::<Vnis>(text).unwrap_err();
        assert_eq!(refused("3-1"), "range 3-1: the start exceeds the end");
        assert_eq!(refused("1,0-2"), "VNI 1 is listed twice");
        assert_eq!(refused("16777216"), "\"16777216\" is not a VNI (0 to 16777215)");
        assert!(["70000", "", "-1"].iter().all(|text| read::<Ports>(text).is_err()));
        assert!(refused("0-16777215").contains("more than 65536"));
    }

    #[test]
    fn a_source_is_an_address_or_a_prefix() {
        assert_eq!(read::<Sources>("10.0.0.0/8, 2001:db8::1").unwrap().0.len(), 2);
        assert!(read::<Sources>("10.0.0.0/33").unwrap_err().contains("neither an address nor a prefix"));
    }

    #[test]
    fn queues_are_all_or_a_list() {
        assert_eq!(read("all"), Ok(QueueList(None)));
        assert_eq!(read("0,2-4"), Ok(QueueList(Some(vec![0, 2, 3, 4]))));
        assert_eq!(read("1,0"), Ok(Cpus(vec![1, 0])));
    }

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        assert_eq!(read("10s"), Ok(Time(Duration::from_secs(10))));
        assert_eq!(read("500ms"), Ok(Time(Duration::from_millis(500))));
        assert_eq!(read("1.5"), Ok(Time(Duration::from_millis(1500))));
        for text in ["0", "-1", "soon", "nan", "1e300", "1e19"] {
            assert!(read::<Time>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_in_millions_of_bytes_unless_it_has_a_suffix() {
        let sizes = ["1", "12", "3k", "3K", "5m", "2G"].map(|text| read::<Size>(text).unwrap().0);
        assert_eq!(sizes, [1_000_000, 12_000_000, 3072, 3072, 5 << 20, 2 << 30]);
        for text in ["", "0", "k", "-1", "1.5", "1t", "1kk", "99999999999999999999", "18446744073709g", "1ä"]
        {
            assert!(read::<Size>(text).unwrap_err().contains("is not a size such as"), "{text}");
        }
    }

    #[test]
    fn a_snap_length_is_a_number_or_headers() {
        assert_eq!((read("96"), read("headers")), (Ok(Snap::Bytes(96)), Ok(Snap::Headers)));
        assert!(read::<Snap>("header").unwrap_err().contains("neither"));
    }

    #[test]
    fn a_number_must_be_in_its_range() {
        assert_eq!((read("1"), read("4096")), (Ok(MaxOrigins(1)), Ok(MaxOrigins(4096))));
        assert_eq!(read::<MaxOrigins>("4097").unwrap_err(), "4097 is not in 1..=4096");
        assert!(
            ["0", "", "-1", "1.5", "18446744073709551616"].iter().all(|text| read::<Count>(text).is_err())
        );
    }

    #[test]
    fn an_invalid_choice_is_reported_with_the_valid_ones() {
        assert_eq!(read("busy-poll"), Ok(Wait::BusyPoll));
        assert_eq!(read::<Wait>("sleep").unwrap_err(), "expected one of poll, spin, busy-poll");
    }
}
