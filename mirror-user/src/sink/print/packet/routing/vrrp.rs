//! VRRP, versions 2 (RFC 3768) and 3 (RFC 5798).

use super::super::{
    text::{Printed, Text, put},
    view::View,
};

const ADVERTISEMENT: u8 = 1;
/// The fields of every VRRP packet (RFC 5798 section 5.1.1.3).
const TTL: u8 = 255;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>, ttl: u8) -> Printed {
    const AUTHENTICATIONS: [(u32, &str); 3] = [(0, "none"), (1, "simple"), (2, "ah")];
    text.protocol = "vrrp";
    put!(text, "VRRP");
    let first = packet.u8(0)?;
    let (version, kind) = (first >> 4, first & 0xf);
    put!(text, "v{version}, ");
    text.name_or(&[(1, "Advertisement")], kind, format_args!("unknown type ({kind})"));
    if ttl != TTL {
        put!(text, ", (ttl {ttl})");
    }
    if !(2..=3).contains(&version) || kind != ADVERTISEMENT {
        return Ok(());
    }
    put!(text, ", vrid {}, prio {}", packet.u8(1)?, packet.u8(2)?);
    if version == 2 {
        let authentication = packet.u8(4)?;
        put!(text, ", authtype ");
        text.name_or(&AUTHENTICATIONS, authentication, format_args!("#{authentication}"));
        put!(text, ", intvl {}s", packet.u8(5)?);
    } else {
        put!(text, ", intvl {}cs", packet.u16(4)? & 0xfff);
    }
    put!(text, ", length {}", packet.len());
    Ok(())
}
