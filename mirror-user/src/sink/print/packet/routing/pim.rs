//! PIM (RFC 7761): the kind of a message.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const KINDS: [&str; 12] = [
        "Hello",
        "Register",
        "Register Stop",
        "Join / Prune",
        "Bootstrap",
        "Assert",
        "Graft",
        "Graft Acknowledgement",
        "Candidate RP Advertisement",
        "Prune Refresh",
        "DF Election",
        "ECMP Redirect",
    ];
    text.protocol = "pim";
    let first = packet.u8(0)?;
    put!(text, "PIMv{}", first >> 4);
    if first >> 4 == 2 {
        put!(text, ", {}", KINDS.get(usize::from(first & 0xf)).unwrap_or(&"Unknown Type"));
    }
    put!(text, ", length {}", packet.len());
    Ok(())
}
