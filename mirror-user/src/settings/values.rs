//! Single values: numbers, times, sizes and names.

use std::{fmt, net::SocketAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use super::words::{Invalid, Word};
use crate::{
    engine::EngineBuilder,
    sink::{Pcap, forward::Target},
};

impl Word for Target {}

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

/// How long a run that is asked to stop takes packets until no more come; 0: not at all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DrainMax(pub Duration);

impl FromStr for DrainMax {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_zero = text.parse::<f64>() == Ok(0.0)
            || humantime::parse_duration(text).is_ok_and(|time| time.is_zero());
        if is_zero { Ok(Self(Duration::ZERO)) } else { text.parse().map(|Time(time)| Self(time)) }
    }
}

impl Word for DrainMax {}

impl fmt::Display for DrainMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() { f.write_str("0") } else { humantime::format_duration(self.0).fmt(f) }
    }
}

/// After how long without a packet none is expected any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DrainQuiet(pub Duration);

impl FromStr for DrainQuiet {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(|Time(time)| Self(time))
    }
}

impl Word for DrainQuiet {}

impl Default for DrainQuiet {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

impl fmt::Display for DrainQuiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// The name of a run's control socket; `None`: it has none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Control(pub Option<String>);

impl Control {
    /// The most bytes of a name: the path of a socket has at most 107.
    pub const LONGEST: usize = 64;
}

impl FromStr for Control {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |reason: &str| Err(Invalid(format!("{text:?} is not a name of a run: {reason}")));
        match text {
            "off" => Ok(Self(None)),
            "" => invalid("it is empty"),
            _ if text.starts_with('.') => invalid("it starts with a dot"),
            _ if text.contains('/') || text.contains(char::is_control) => {
                invalid("it has a slash or a control character")
            }
            _ if text.len() > Self::LONGEST => invalid("it is longer than 64 bytes"),
            _ => Ok(Self(Some(text.to_owned()))),
        }
    }
}

impl Word for Control {}

/// A file size in bytes, written as for tcpdump's -C: in millions of bytes, or in KiB, MiB or GiB with the
/// suffix k, m or g.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        bytes(text, 1_000_000).map(Self).ok_or_else(|| {
            Invalid(format!("{text:?} is not a size such as 100 (millions of bytes), 512k, 100m or 2g"))
        })
    }
}

impl Word for Size {}

/// A positive number in units of `unit` bytes, or in KiB, MiB or GiB with a suffix.
fn bytes(text: &str, unit: u64) -> Option<u64> {
    const UNITS: [(char, u64); 3] = [('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30)];
    let suffix = text.chars().next_back().map(|last| last.to_ascii_lowercase());
    let (number, unit) = UNITS
        .into_iter()
        .find(|(letter, _)| Some(*letter) == suffix)
        .map_or((text, unit), |(_, unit)| (&text[..text.len() - 1], unit));
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// Size of a capture's buffer in bytes, written as for tcpdump's -B: in KiB, or with the suffix k, m or g.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BufferSize(pub u64);

/// Sizes that a buffer may have, in bytes.
const BUFFERS: RangeInclusive<u64> = 1 << 20..=64 << 30;

impl FromStr for BufferSize {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let size = bytes(text, 1 << 10).filter(|bytes| BUFFERS.contains(bytes));
        size.map(Self).ok_or_else(|| {
            Invalid(format!("{text:?} is not a size such as 65536 (KiB), 64m or 1g, of 1 MiB to 64 GiB"))
        })
    }
}

impl Word for BufferSize {}

impl Default for BufferSize {
    fn default() -> Self {
        Self((Pcap::DEFAULT_BLOCKS * Pcap::DEFAULT_BLOCK_SIZE) as u64)
    }
}

impl fmt::Display for BufferSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % (1 << 20) {
            0 => write!(f, "{}m", self.0 >> 20),
            _ => write!(f, "{}k", self.0 >> 10),
        }
    }
}

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

/// How many threads write a capture.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writers {
    /// As many as there are RX queues, and CPUs beside those of the workers.
    Auto,
    /// This many, or as many as there are RX queues.
    Count(u32),
}

/// The most writers that may be asked for.
const MOST_WRITERS: u32 = 1024;

impl FromStr for Writers {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(writers @ 1..=MOST_WRITERS) => Ok(Self::Count(writers)),
            _ if text == "auto" => Ok(Self::Auto),
            _ => Err(Invalid(format!("{text:?} is neither a number in 1..={MOST_WRITERS} nor `auto`"))),
        }
    }
}

impl Word for Writers {}

impl Default for Writers {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl fmt::Display for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(writers) => writers.fmt(f),
        }
    }
}

/// The address and TCP port of the HTTP server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HttpAddress(pub SocketAddr);

impl FromStr for HttpAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(Self).map_err(|_| {
            Invalid(format!(
                "{text:?} is not an address with a port, such as 127.0.0.1:9464, 0.0.0.0:8080 or [::1]:9464"
            ))
        })
    }
}

impl Word for HttpAddress {}

/// A share in percent, over 0 and at most 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.strip_suffix('%').unwrap_or(text).parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err(Invalid(format!("{text:?} is not a share such as 5, 0.5 or 5%, of at most 100%"))),
        }
    }
}

impl Word for Percent {}

#[cfg(test)]
mod tests {
    use super::{super::words::testing::read, *};

    #[test]
    fn an_http_address_has_a_port_and_no_name() {
        assert_eq!(read("[::1]:80"), Ok(HttpAddress("[::1]:80".parse().unwrap())));
        for text in ["127.0.0.1", "8080", ":8080", "localhost:8080", "::1:80", ""] {
            assert!(read::<HttpAddress>(text).unwrap_err().contains("127.0.0.1:9464"), "{text}");
        }
    }

    #[test]
    fn a_share_is_over_0_and_at_most_100_percent() {
        assert_eq!((read("5%"), read("0.5")), (Ok(Percent(5.0)), Ok(Percent(0.5))));
        for text in ["0", "100.1", "-1", "nan", "inf", "%", ""] {
            assert!(read::<Percent>(text).unwrap_err().contains("is not a share"), "{text}");
        }
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
    fn a_buffer_is_in_kib_unless_it_has_a_suffix() {
        for (text, bytes, written) in [
            ("65536", 64 << 20, "64m"),
            ("1025k", 1025 << 10, "1025k"),
            ("1m", 1 << 20, "1m"),
            ("64G", 64 << 30, "65536m"),
        ] {
            let size = read::<BufferSize>(text).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written));
            assert_eq!(read(written), Ok(size));
        }
        for text in ["", "0", "1023", "64", "65g", "18446744073709551615", "1.5m", "-1"] {
            assert!(read::<BufferSize>(text).unwrap_err().contains("of 1 MiB to 64 GiB"), "{text}");
        }
        assert_eq!(BufferSize::default().to_string(), "16m");
    }

    #[test]
    fn writers_are_a_number_or_auto() {
        assert_eq!((read("4"), read("auto")), (Ok(Writers::Count(4)), Ok(Writers::Auto)));
        for text in ["0", "1025", "-1", "all", ""] {
            assert!(read::<Writers>(text).unwrap_err().contains("nor `auto`"), "{text}");
        }
    }

    #[test]
    fn a_number_must_be_in_its_range() {
        assert_eq!((read("1"), read("4096")), (Ok(MaxOrigins(1)), Ok(MaxOrigins(4096))));
        assert_eq!(read::<MaxOrigins>("4097").unwrap_err(), "4097 is not in 1..=4096");
        assert!(
            ["0", "", "-1", "1.5", "18446744073709551616"].iter().all(|text| read::<Count>(text).is_err())
        );
    }
}
