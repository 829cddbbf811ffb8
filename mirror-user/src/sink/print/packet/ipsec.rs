//! IPsec: AH (RFC 4302), ESP (RFC 4303), and compression (RFC 3173).

use etherparse::IpNumber;

use super::{
    text::{Printed, Text, put},
    view::{Truncated, View},
};

/// Prints an authentication header; returns the next protocol, and the header's length.
pub(super) fn authentication(text: &mut Text<'_>, header: View<'_>) -> Printed<(IpNumber, usize)> {
    const FIXED: usize = 12;
    text.protocol = "ah";
    let next = IpNumber(header.u8(0)?);
    put!(text, "AH");
    let words = header.u8(1)?;
    let len = (usize::from(words) + 2) * 4;
    put!(text, "(");
    if text.verbose() {
        put!(text, "length={words}({len}-bytes),");
    }
    match header.u16(2)? {
        0 => {}
        reserved => put!(text, "reserved=0x{reserved:x}[MustBeZero],"),
    }
    put!(text, "spi=0x{:08x},", header.u32(4)?);
    put!(text, "seq=0x{:x},icv=0x", header.u32(8)?);
    for at in FIXED..len {
        put!(text, "{:02x}", header.u8(at)?);
    }
    put!(text, "): ");
    Ok((next, len))
}

/// An encrypted payload.
pub(super) fn encapsulating(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const HEADER: usize = 8;
    text.protocol = "esp";
    if !packet.has(HEADER + 1) {
        return Err(Truncated);
    }
    put!(text, "ESP(spi=0x{:08x},seq=0x{:x}), length {}", packet.u32(0)?, packet.u32(4)?, packet.len());
    Ok(())
}

/// A compressed payload.
pub(super) fn compressed(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    text.protocol = "ipcomp";
    put!(text, "IPComp(cpi=0x{:04x})", packet.u16(2)?);
    Ok(())
}
