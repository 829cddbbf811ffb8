//! NTP (RFC 5905): version and mode.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

pub(super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    const MODES: [&str; 8] = [
        "unspecified",
        "symmetric active",
        "symmetric passive",
        "Client",
        "Server",
        "Broadcast",
        "Control Message",
        "Reserved",
    ];
    text.protocol = "ntp";
    let first = message.u8(0)?;
    let mode = MODES[usize::from(first & 7)];
    put!(text, "NTPv{}, {mode}, length {}", first >> 3 & 7, message.len());
    Ok(())
}
