//! The style of printed packets.

/// How packets are printed; by default as by tcpdump without options. Each method is an option of tcpdump.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Style {
    pub(super) time: Time,
    pub(super) link: bool,
    pub(super) verbosity: u8,
    pub(super) dump: Dump,
    pub(super) dump_link: bool,
    pub(super) outer: bool,
    pub(super) absolute: bool,
}

/// The time before a packet, in µs resolution.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Time {
    /// Time of day in the local zone.
    #[default]
    Clock,
    /// None, as with `-t`.
    None,
    /// Seconds since the epoch, as with `-tt`.
    Epoch,
    /// Since the packet printed before, as with `-ttt`.
    SincePrevious,
    /// Date and time of day in the local zone, as with `-tttt`.
    Date,
    /// Since the first packet printed, as with `-ttttt`.
    SinceFirst,
}

/// The packet's bytes, on separate lines below it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Dump {
    /// Not printed.
    #[default]
    None,
    /// In hex, as with `-x`.
    Hex,
    /// In hex and as characters, as with `-X`.
    HexAscii,
    /// As characters, as with `-A`.
    Ascii,
}

impl Style {
    /// The format of the time.
    #[must_use]
    pub fn time(self, time: Time) -> Self {
        Self { time, ..self }
    }

    /// Prints the inner Ethernet header, as with `-e`.
    #[must_use]
    pub fn link(self, link: bool) -> Self {
        Self { link, ..self }
    }

    /// The verbosity, as with that many `-v`: 0 to 3.
    #[must_use]
    pub fn verbosity(self, verbosity: u8) -> Self {
        Self { verbosity, ..self }
    }

    /// Prints the inner packet's bytes; with `link` also its Ethernet header, as with `-xx`.
    #[must_use]
    pub fn dump(self, dump: Dump, link: bool) -> Self {
        Self { dump, dump_link: link, ..self }
    }

    /// Prints absolute TCP sequence numbers, as with `-S`, instead of relative ones.
    #[must_use]
    pub fn absolute_sequence_numbers(self, absolute: bool) -> Self {
        Self { absolute, ..self }
    }

    /// Prints a line for the outer headers before each packet.
    #[must_use]
    pub fn outer(self, outer: bool) -> Self {
        Self { outer, ..self }
    }
}
