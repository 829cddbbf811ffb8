//! DHCPv6 (RFC 8415): the kind of a message.

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

pub(super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    const KINDS: [&str; 15] = [
        "solicit",
        "advertise",
        "request",
        "confirm",
        "renew",
        "rebind",
        "reply",
        "release",
        "decline",
        "reconfigure",
        "inf-req",
        "relay-fwd",
        "relay-reply",
        "leasequery",
        "leasequery-reply",
    ];
    text.protocol = "dhcp6";
    put!(text, "dhcp6");
    if !message.has(4) {
        text.cut();
        return Ok(());
    }
    let kind = message.u8(0)?;
    match usize::from(kind).checked_sub(1).and_then(|kind| KINDS.get(kind)) {
        Some(name) => put!(text, " {name}"),
        None => put!(text, " msgtype-{kind}"),
    }
    Ok(())
}
