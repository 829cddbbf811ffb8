//! UDP (RFC 768).

use etherparse::IpNumber;

use super::{
    app, checksum,
    network::Network,
    text::{Printed, Text, put},
    view::{Truncated, View},
};

const HEADER: usize = 8;

/// A datagram.
pub(super) fn print(text: &mut Text<'_>, datagram: View<'_>, below: &Network) -> Printed {
    text.protocol = "udp";
    let Ok(destination) = datagram.u16(2) else {
        if below.protocol == IpNumber::UDP {
            below.put_hosts(text);
            put!(text, " ");
        }
        return Err(Truncated);
    };
    let source = datagram.u16(0)?;
    below.put_endpoints(text, IpNumber::UDP, source, destination);
    if datagram.len() < HEADER {
        put!(text, "truncated-udp {}", datagram.len());
        return Ok(());
    }
    let len = match usize::from(datagram.u16(4)?) {
        // A jumbogram (RFC 2675 section 4).
        0 if datagram.len() > 0xffff => datagram.len(),
        len => len,
    };
    if len < HEADER {
        put!(text, "truncated-udplength {len}");
        return Ok(());
    }
    if !datagram.has(HEADER) {
        return Err(Truncated);
    }
    let covered = len.min(datagram.len());
    let payload = datagram.after(HEADER).of_len(covered - HEADER);
    if app::nfs_over_udp(text, payload, (source, destination), below)? {
        return Ok(());
    }
    if text.verbose() && !below.fragment && (below.is_v6() || text.style.verbosity > 1) {
        verdict(text, datagram.of_len(covered), below)?;
    }
    if app::over_udp(text, payload, (source, destination))? {
        return Ok(());
    }
    if len > datagram.len() && !below.fragment {
        put!(text, "UDP, bad length {} > {}", len - HEADER, payload.len());
    } else {
        put!(text, "UDP, length {}", len - HEADER);
    }
    Ok(())
}

/// Whether the checksum is right.
fn verdict(text: &mut Text<'_>, datagram: View<'_>, below: &Network) -> Printed {
    let here = datagram.u16(6)?;
    if here == 0 && !below.is_v6() {
        put!(text, "[no cksum] ");
    } else if let Some(whole) = datagram.whole() {
        match checksum::expected(&checksum::with_pseudo_header(whole, below, IpNumber::UDP), here) {
            None => put!(text, "[udp sum ok] "),
            Some(expected) => put!(text, "[bad udp cksum 0x{here:04x} -> 0x{expected:04x}!] "),
        }
    }
    Ok(())
}
