//! The text of one packet, and formats that many protocols share.

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    memory::Memory,
    view::{Truncated, View},
};
use crate::sink::print::Style;

/// Whether a layer was printed completely.
pub(super) type Printed<T = ()> = Result<T, Truncated>;

/// The output of a packet's text.
pub(super) struct Text<'o> {
    out: &'o mut String,
    pub(super) style: Style,
    /// State from earlier packets.
    pub(super) memory: &'o mut Memory,
    /// The name to print if bytes are missing.
    pub(super) protocol: &'static str,
    /// Headers of IP, PPP and carried Ethernet so far.
    nested: u8,
}

/// The deepest nesting of these headers that is printed: real tunnels have a few levels, and each uses stack
/// space.
const MAX_NESTED: u8 = 32;

/// Appends formatted text, which is ASCII. Bytes of the packet must go through [`Text::escaped`].
macro_rules! put {
    ($text:expr, $($format:tt)*) => {
        $text.put(format_args!($($format)*))
    };
}
pub(super) use put;

impl<'o> Text<'o> {
    pub(super) fn new(out: &'o mut String, style: Style, memory: &'o mut Memory) -> Self {
        Self { out, style, memory, protocol: "", nested: 0 }
    }

    pub(super) fn put(&mut self, text: fmt::Arguments<'_>) {
        match text.as_str() {
            // Without the cost of formatting.
            Some(text) => self.out.push_str(text),
            // Writing to a String cannot fail.
            None => drop(self.out.write_fmt(text)),
        }
    }

    /// Whether header fields and checksums are printed.
    pub(super) fn verbose(&self) -> bool {
        self.style.verbosity > 0
    }

    /// Whether to print one more of these headers; prints a mark if not. Every recursion of protocols goes
    /// through here.
    pub(super) fn nest(&mut self) -> bool {
        self.nested += 1;
        if self.nested > MAX_NESTED {
            put!(self, "[nested too deeply]");
        }
        self.nested <= MAX_NESTED
    }

    /// Marks what follows as missing.
    pub(super) fn cut(&mut self) {
        let protocol = self.protocol;
        put!(self, " [|{protocol}]");
    }

    /// Marks what precedes as invalid.
    pub(super) fn invalid(&mut self) {
        put!(self, " (invalid)");
    }

    /// Names of the bits that are set, or `none`.
    pub(super) fn bits(&mut self, bits: u32, names: &[(u32, &str)], separator: &str) {
        let mut first = true;
        for (_, name) in names.iter().filter(|(bit, _)| bits & bit != 0) {
            put!(self, "{}{name}", if first { "" } else { separator });
            first = false;
        }
        if first {
            put!(self, "none");
        }
    }

    /// A number's name in a table, or the text for numbers that have none.
    pub(super) fn name_or(
        &mut self,
        names: &[(u32, &str)],
        number: impl Into<u32>,
        otherwise: fmt::Arguments<'_>,
    ) {
        let number = number.into();
        match names.iter().find(|(known, _)| *known == number) {
            Some((_, name)) => put!(self, "{name}"),
            None => self.put(otherwise),
        }
    }

    /// The protocol's name in capitals.
    pub(super) fn capitals(&mut self) {
        let protocol = self.protocol;
        protocol.chars().for_each(|letter| put!(self, "{}", letter.to_ascii_uppercase()));
    }

    /// Marks a length as invalid, and the packet as truncated if it is.
    pub(super) fn invalid_of(&mut self, layer: View<'_>) -> Printed {
        self.invalid();
        layer.get(0, layer.len()).map(|_| ())
    }

    /// Characters up to the first 0 or the end of the field.
    pub(super) fn padded(&mut self, field: View<'_>, len: usize) -> Printed {
        for at in 0..len {
            match field.u8(at)? {
                0 => break,
                byte => self.escaped(&[byte]),
            }
        }
        Ok(())
    }

    /// Characters that are known to be printable or tabs.
    pub(super) fn printable(&mut self, bytes: &[u8]) {
        for chunk in bytes.utf8_chunks() {
            put!(self, "{}", chunk.valid());
        }
    }

    /// Bytes as two digits each.
    pub(super) fn hex(&mut self, bytes: &[u8], separator: &str) {
        for (place, byte) in bytes.iter().enumerate() {
            put!(self, "{}{byte:02x}", if place == 0 { "" } else { separator });
        }
    }

    /// Characters of a packet, escaped for a terminal: `^C` for a control character, `M-c` for one above
    /// ASCII.
    pub(super) fn escaped(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if !byte.is_ascii() {
                put!(self, "M-");
            }
            let byte = byte & 0x7f;
            if byte.is_ascii_control() {
                put!(self, "^{}", char::from(byte ^ 0x40));
            } else {
                put!(self, "{}", char::from(byte));
            }
        }
    }

    /// Seconds in their largest units, as in `1d2h`.
    pub(super) fn seconds(&mut self, mut seconds: u32) {
        if seconds == 0 {
            put!(self, "0s");
        }
        for (unit, name) in
            [(31_536_000, "y"), (604_800, "w"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")]
        {
            if seconds >= unit {
                put!(self, "{}{name}", seconds / unit);
                seconds %= unit;
            }
        }
    }
}

/// A hardware address.
#[derive(Clone, Copy)]
pub(super) struct Mac(pub(super) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c, d, e, g]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An IP address, in tcpdump's notation: that of RFC 5952, but IPv4-compatible IPv6 addresses end as IPv4
/// ones do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) IpAddr);

impl Address {
    pub(super) fn v4(view: View<'_>, at: usize) -> Printed<Self> {
        view.array::<4>(at).map(|octets| Self(Ipv4Addr::from(octets).into()))
    }

    pub(super) fn v6(view: View<'_>, at: usize) -> Printed<Self> {
        view.array::<16>(at).map(|octets| Self(Ipv6Addr::from(octets).into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(v6) => match v6.segments() {
                [0, 0, 0, 0, 0, 0, high, _] if high != 0 => {
                    let [.., a, b, c, d] = v6.octets();
                    write!(f, "::{}", Ipv4Addr::new(a, b, c, d))
                }
                _ => v6.fmt(f),
            },
            IpAddr::V4(v4) => v4.fmt(f),
        }
    }
}
