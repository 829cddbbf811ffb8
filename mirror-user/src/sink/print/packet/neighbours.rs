//! Neighbour discovery (RFC 4861).

use std::net::Ipv6Addr;

use etherparse::icmpv6;

use super::{
    dns, hex,
    text::{Address, Printed, Text, put},
    view::{Truncated, View},
};

/// Prints a message after its name, and with `-v` its options.
pub(super) fn print(text: &mut Text<'_>, message: View<'_>, kind: u8) -> Printed {
    const ROUTER_FLAGS: [(u32, &str); 4] =
        [(0x80, "managed"), (0x40, "other stateful"), (0x20, "home agent"), (0x02, "ipv6 only")];
    const NEIGHBOUR_FLAGS: [(u32, &str); 3] =
        [(0x8000_0000, "router"), (0x4000_0000, "solicited"), (0x2000_0000, "override")];
    let verbose = text.verbose();
    let options = match kind {
        icmpv6::TYPE_ROUTER_ADVERTISEMENT => {
            if verbose {
                message.get(0, 16)?;
                put!(text, "\n\thop limit {}, Flags [", message.u8(4)?);
                let flags = message.u8(5)?;
                text.bits(flags.into(), &ROUTER_FLAGS, ", ");
                put!(text, "], pref {}, router lifetime {}s, ", preference(flags), message.u16(6)?);
                put!(text, "reachable time {}ms, retrans timer {}ms", message.u32(8)?, message.u32(12)?);
            }
            16
        }
        icmpv6::TYPE_NEIGHBOR_SOLICITATION => {
            put!(text, ", who has {}", Address::v6(message, 8)?);
            24
        }
        icmpv6::TYPE_NEIGHBOR_ADVERTISEMENT => {
            put!(text, ", tgt is {}", Address::v6(message, 8)?);
            if verbose {
                put!(text, ", Flags [");
                text.bits(message.u32(4)?, &NEIGHBOUR_FLAGS, ", ");
                put!(text, "]");
            }
            24
        }
        icmpv6::TYPE_REDIRECT_MESSAGE => {
            put!(text, ", {}", Address::v6(message, 24)?);
            put!(text, " to {}", Address::v6(message, 8)?);
            40
        }
        _ => 8,
    };
    if verbose { each_option(text, message.after(options)) } else { Ok(()) }
}

fn each_option(text: &mut Text<'_>, mut options: View<'_>) -> Printed {
    while !options.bytes().is_empty() {
        let units = options.u8(1)?;
        if options.len() == 0 {
            return Ok(());
        }
        let (kind, len) = (options.u8(0)?, usize::from(units) * 8);
        if len == 0 || !options.has(len) {
            return Err(Truncated);
        }
        put!(text, "\n\t  {} option ({kind}), length {len} ({units}): ", name(kind));
        if !option(text, kind, options.ending_at(len))? {
            return Ok(());
        }
        if text.style.verbosity > 1 {
            hex::indented(text, options.get(2, len - 2)?, false, "\t    ");
        }
        options = options.after(len);
    }
    Ok(())
}

/// Prints an option; returns whether tcpdump continues after it.
fn option(text: &mut Text<'_>, kind: u8, option: View<'_>) -> Printed<bool> {
    const PREFIX_FLAGS: [(u32, &str); 3] = [(0x80, "onlink"), (0x40, "auto"), (0x20, "router")];
    match kind {
        1 | 2 => text.hex(option.get(2, option.len() - 2)?, ":"),
        3 => {
            put!(text, "{}/{}", Address::v6(option, 16)?, option.u8(2)?);
            put!(text, "{}, Flags [", if option.len() == 32 { "" } else { "badlen" });
            text.bits(option.u8(3)?.into(), &PREFIX_FLAGS, ", ");
            put!(text, "], valid time ");
            lifetime(text, option.u32(4)?);
            put!(text, ", pref. time ");
            lifetime(text, option.u32(8)?);
        }
        5 => put!(text, " {}{}", option.u32(4)?, if option.len() == 8 { "" } else { "bad option length" }),
        7 => put!(text, " {}ms", option.u32(4)?),
        25 => {
            put!(text, " lifetime {}s,", option.u32(4)?);
            for at in (8..option.len()).step_by(16).take((option.len() - 8) / 16) {
                put!(text, " addr: {}", Address::v6(option, at)?);
            }
        }
        31 => {
            put!(text, " lifetime {}s, domain(s):", option.u32(4)?);
            let mut at = 8;
            while option.u8(at).is_ok_and(|len| len != 0) {
                put!(text, " ");
                at = dns::name::print(text, option, at)?;
            }
        }
        8 => put!(text, " preference {}, lifetime {}", option.u16(4)?, option.u16(6)?),
        24 => route(text, option)?,
        4 => hex::indented(text, option.bytes(), false, "\t    "),
        _ if text.style.verbosity == 1 => {
            hex::indented(text, option.get(2, option.len() - 2)?, false, "\t  ");
            return Ok(false);
        }
        _ => {}
    }
    Ok(true)
}

/// RFC 4191 section 2.3: of the prefix, as many bytes as it needs.
fn route(text: &mut Text<'_>, option: View<'_>) -> Printed {
    let len = match option.len() {
        8 => 0,
        16 => 8,
        24 => 16,
        _ => return Err(Truncated),
    };
    let mut prefix = [0; 16];
    prefix[..len].copy_from_slice(option.get(8, len)?);
    put!(text, " {}/{}", Address(Ipv6Addr::from(prefix).into()), option.u8(2)?);
    put!(text, ", pref={}, lifetime=", preference(option.u8(3)?));
    lifetime(text, option.u32(4)?);
    Ok(())
}

/// RFC 4191 section 2.1.
fn preference(flags: u8) -> &'static str {
    ["medium", "high", "rsv", "low"][usize::from(flags >> 3 & 3)]
}

fn lifetime(text: &mut Text<'_>, seconds: u32) {
    match seconds {
        u32::MAX => put!(text, "infinity"),
        _ => put!(text, "{seconds}s"),
    }
}

fn name(kind: u8) -> &'static str {
    match kind {
        1 => "source link-address",
        2 => "destination link-address",
        3 => "prefix info",
        4 => "redirected header",
        5 => "mtu",
        7 => "advertisement interval",
        8 => "homeagent information",
        24 => "route info",
        25 => "rdnss",
        31 => "dnssl",
        _ => "unknown",
    }
}
