//! `--print` and its flags, with tcpdump's letters.

use clap::{ArgAction, Args};
use mirror_user::settings::Settings;
use mirror_user::sink::print::{Dump, Print, PrintBuilder, PrintError, Style, Time};

use crate::{
    flag_values::{given, repeated, repetitions},
    outputs::OpenContext,
    sandbox::ThreadKind,
};

/// What is printed of each packet.
#[derive(Args, Debug)]
pub(crate) struct PrintArgs {
    /// Print the inner packets to standard output, one line each, as tcpdump -n does; -v, -vv and -vvv then
    /// apply to packets, not to the log
    #[arg(long, help_heading = "Printing")]
    print: bool,
    /// Print the link-level header, VLAN tags included
    #[arg(short = 'e', help_heading = "Printing")]
    link: bool,
    /// Print each packet in hex; twice: with its link-level header
    #[arg(short = 'x', help_heading = "Printing", action = ArgAction::Count)]
    hex: u8,
    /// Print each packet in hex and ASCII; twice: with its link-level header
    #[arg(short = 'X', help_heading = "Printing", action = ArgAction::Count)]
    hexascii: u8,
    /// Print each packet in ASCII; twice: with its link-level header
    #[arg(short = 'A', help_heading = "Printing", action = ArgAction::Count)]
    ascii: u8,
    /// Timestamps: -t none, -tt seconds since 1970-01-01 UTC, -ttt delta to the previous packet, -tttt with
    /// date, -ttttt delta to the first packet
    #[arg(short = 't', help_heading = "Printing", action = ArgAction::Count)]
    timestamps: u8,
    /// Print absolute, rather than relative, TCP sequence numbers
    #[arg(short = 'S', help_heading = "Printing")]
    absolute: bool,
}

impl PrintArgs {
    /// Stores the flags that were given.
    pub(crate) fn fill(self, settings: &mut Settings) {
        let Self { print, link, hex, hexascii, ascii, timestamps, absolute } = self;
        settings.print = given(print);
        settings.link = given(link);
        settings.hex = repeated(hex);
        settings.hexascii = repeated(hexascii);
        settings.ascii = repeated(ascii);
        settings.timestamps = repeated(timestamps);
        settings.absolute = given(absolute);
    }
}

/// What is printed of each packet, with defaults applied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Printing {
    print: bool,
    link: bool,
    hex: u8,
    hexascii: u8,
    ascii: u8,
    timestamps: u8,
    absolute: bool,
}

impl Printing {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            print: settings.print.unwrap_or_default(),
            link: settings.link.unwrap_or_default(),
            hex: repetitions(&settings.hex),
            hexascii: repetitions(&settings.hexascii),
            ascii: repetitions(&settings.ascii),
            timestamps: repetitions(&settings.timestamps),
            absolute: settings.absolute.unwrap_or_default(),
        }
    }

    /// Which of its flags were given that have no effect without --print.
    pub(crate) fn given(&self) -> [(bool, &'static str); 5] {
        [
            (self.link, "-e"),
            (self.hex > 0, "-x"),
            (self.hexascii > 0, "-X"),
            (self.ascii > 0, "-A"),
            (self.timestamps > 0, "-t"),
        ]
    }

    /// Whether packets are printed.
    pub(crate) fn is_enabled(&self) -> bool {
        self.print
    }

    /// Opens the printer.
    pub(crate) fn open(&self, verbosity: u8, outer: bool, cx: &OpenContext<'_>) -> Result<Print, PrintError> {
        let style = self.style().verbosity(verbosity).outer(outer);
        let builder = cx.sessions.iter().cloned().fold(Print::builder(style), PrintBuilder::sessions);
        builder.on_thread_start(cx.threads.or_panic(ThreadKind::Printer)).build()
    }

    fn style(&self) -> Style {
        let time = match self.timestamps {
            0 => Time::Clock,
            1 => Time::None,
            2 => Time::Epoch,
            3 => Time::SincePrevious,
            4 => Time::Date,
            _ => Time::SinceFirst,
        };
        // tcpdump's order of precedence.
        let (dump, times) = match (self.hexascii, self.hex, self.ascii) {
            (0, 0, 0) => (Dump::None, 0),
            (0, 0, times) => (Dump::Ascii, times),
            (0, times, _) => (Dump::Hex, times),
            (times, ..) => (Dump::HexAscii, times),
        };
        Style::default()
            .time(time)
            .link(self.link)
            .dump(dump, times > 1)
            .absolute_sequence_numbers(self.absolute)
    }
}
