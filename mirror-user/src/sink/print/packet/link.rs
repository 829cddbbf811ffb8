//! Ethernet and VLAN tags.

use etherparse::EtherType;

use super::{
    arp, bridge, hex, ipv4, ipv6, llc, routing,
    text::{Mac, Printed, Text, put},
    tunnels,
    view::{Truncated, View},
};

const ADDRESSES: usize = 12;
const HEADER: usize = 14;
/// The largest value that is a length and not an EtherType (IEEE 802.3 section 3.2.6).
const MAX_LENGTH: u16 = 1500;
/// LLC in frames that are too long for a length (draft-ietf-isis-ext-eth).
const ALTEON_JUMBO: u16 = 0x8870;
const REVERSE_ARP: EtherType = EtherType(0x8035);

/// Prints a frame; returns the captured length of its header.
pub(super) fn ethernet(text: &mut Text<'_>, frame: View<'_>) -> usize {
    text.protocol = "ether";
    let here = frame.bytes().len();
    if frame.len() < here {
        put!(text, "[length {} < caplen {here}]", frame.len());
        text.invalid();
        return frame.len();
    }
    let mut header_len = here;
    if contents(text, frame, &mut header_len).is_err() {
        text.cut();
    }
    header_len
}

fn contents(text: &mut Text<'_>, frame: View<'_>, header_len: &mut usize) -> Printed {
    frame.get(0, HEADER)?;
    if text.style.link {
        put_addresses(text, frame)?;
    }
    let mut length_type = frame.u16(ADDRESSES)?;
    let mut rest = frame.after(HEADER);
    let mut tags = 0;
    while is_tag(EtherType(length_type)) {
        if !rest.has(4) {
            text.protocol = "vlan";
            return Err(Truncated);
        }
        if text.style.link {
            let control = rest.u16(0)?;
            put_type(text, length_type);
            put_len(text, frame, tags);
            put!(text, "vlan {}, p {}", control & 0xfff, control >> 13);
            put!(text, "{}, ", if control & 0x1000 == 0 { "" } else { ", DEI" });
        }
        length_type = rest.u16(2)?;
        rest = rest.after(4);
        tags += 1;
    }
    *header_len = HEADER + 4 * tags;
    if length_type <= MAX_LENGTH {
        let payload = rest.ending_at(rest.len().min(length_type.into()));
        if text.style.link {
            put!(text, "802.3");
            if tags == 0 {
                put!(text, ", length {}: ", payload.len());
            }
        }
        *header_len += llc::print(text, payload, frame)?;
        return Ok(());
    }
    if length_type == ALTEON_JUMBO {
        *header_len += llc::print(text, rest, frame)?;
        return Ok(());
    }
    if text.style.link {
        put_type(text, length_type);
        put_len(text, frame, tags);
    }
    let source = Some(Mac(frame.array(6)?));
    if !payload_from(text, EtherType(length_type), rest, source)? {
        if !text.style.link {
            put_addresses(text, frame)?;
            put_type(text, length_type);
            put_len(text, frame, 0);
        }
        hex::hex(text, rest.bytes(), true);
    }
    Ok(())
}

/// A frame within a packet of another protocol.
pub(super) fn carried(text: &mut Text<'_>, frame: View<'_>) {
    if text.nest() {
        ethernet(text, frame);
    }
}

/// Prints the payload of an EtherType; returns whether the type is known.
pub(super) fn payload(text: &mut Text<'_>, kind: EtherType, payload: View<'_>) -> Printed<bool> {
    payload_from(text, kind, payload, None)
}

/// The same, with the sender's address.
pub(super) fn payload_from(
    text: &mut Text<'_>,
    kind: EtherType,
    payload: View<'_>,
    source: Option<Mac>,
) -> Printed<bool> {
    match kind {
        EtherType::IPV4 => ipv4::print(text, payload)?,
        EtherType::IPV6 => ipv6::print(text, payload)?,
        EtherType::ARP | REVERSE_ARP => arp::print(text, payload)?,
        EtherType(0xfefe) if payload.here().is_empty() => {
            text.protocol = "isoclns";
            text.cut();
        }
        EtherType(0xfefe) => routing::osi(text, payload.after(1))?,
        EtherType(0x8863 | 0x8864 | 0x3c12 | 0x3c13) => tunnels::pppoe(text, payload)?,
        EtherType(0x888e) => bridge::authentication(text, payload)?,
        EtherType(0x880b) if payload.len() == 0 => {}
        EtherType(0x880b) => {
            put!(text, ": ");
            tunnels::ppp(text, payload)?;
        }
        EtherType(0x8809) => bridge::slow(text, payload)?,
        EtherType(0x8902 | 0xabcd) => bridge::fault_management(text, payload)?,
        EtherType(0x88cc) => bridge::lldp(text, payload)?,
        EtherType(0x894f) => tunnels::nsh(text, payload)?,
        EtherType(0x9000) => bridge::loopback(text, payload)?,
        EtherType(0x8847 | 0x8848) => tunnels::mpls(text, payload)?,
        EtherType(0x886f) => bridge::load_balancing(text, payload)?,
        EtherType(0x0707 | 0x8947) => bridge::geonet(text, payload, source)?,
        EtherType(0x1111) => bridge::calm_fast(text, payload, source)?,
        EtherType(0x88a2) => bridge::ata(text, payload)?,
        EtherType(0x88f7) => bridge::ptp(text, payload)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn is_tag(kind: EtherType) -> bool {
    matches!(
        kind,
        EtherType::VLAN_TAGGED_FRAME
            | EtherType::PROVIDER_BRIDGING
            | EtherType::VLAN_DOUBLE_TAGGED_FRAME
            | EtherType(0x9200)
    )
}

fn put_addresses(text: &mut Text<'_>, frame: View<'_>) -> Printed {
    put!(text, "{} > {}, ", Mac(frame.array(6)?), Mac(frame.array(0)?));
    Ok(())
}

fn put_type(text: &mut Text<'_>, kind: u16) {
    put!(text, "ethertype {} (0x{kind:04x})", ethertype_name(kind).unwrap_or("Unknown"));
}

/// The frame's length, once, after the first type.
fn put_len(text: &mut Text<'_>, frame: View<'_>, tags: usize) {
    match tags {
        0 => put!(text, ", length {}: ", frame.len()),
        _ => put!(text, ", "),
    }
}

/// A type as tcpdump names it.
pub(super) fn ethertype_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        0x0200 => "PUP",
        0x0500 => "Sprite",
        0x0600 => "NS",
        0x0707 => "GeoNet (old)",
        0x0800 => "IPv4",
        0x0806 => "ARP",
        0x1000 => "Trail",
        0x1111 => "CALM FAST",
        0x6001 => "MOP DL",
        0x6002 => "MOP RC",
        0x6003 => "DN",
        0x6004 => "LAT",
        0x6007 => "SCA",
        0x6558 => "TEB",
        0x8035 => "Reverse ARP",
        0x8038 => "Lanbridge",
        0x803c => "DEC DNS",
        0x803e => "DEC DTS",
        0x805b => "VEXP",
        0x805c => "VPROD",
        0x809b => "Appletalk",
        0x80f3 => "Appletalk ARP",
        0x8100 => "802.1Q",
        0x8137 => "IPX",
        0x86dd => "IPv6",
        0x8808 => "MPCP",
        0x8809 => "Slow Protocols",
        0x880b => "PPP",
        0x8847 => "MPLS unicast",
        0x8848 => "MPLS multicast",
        0x8863 => "PPPoE D",
        0x8864 => "PPPoE S",
        0x886f => "MS NLB heartbeat",
        0x8870 => "Jumbo",
        0x888e => "EAPOL",
        0x8899 => "Realtek protocols",
        0x88a2 => "AoE",
        0x88a8 => "802.1Q-QinQ",
        0x88ca => "TIPC",
        0x88cc => "LLDP",
        0x88e5 => "802.1AE MACsec",
        0x88f7 => "PTP",
        0x8902 => "CFM",
        0x893a => "IEEE1905.1",
        0x8947 => "GeoNet",
        0x894f => "NSH",
        0x9000 => "Loopback",
        0x9100 => "802.1Q-9100",
        0x9200 => "802.1Q-9200",
        0xabcd => "CFM (old)",
        0xd28b => "Arista Vendor Specific Protocol",
        0xfefe => "OSI",
        _ => return None,
    })
}
