//! GeoNetworking (ETSI EN 302 636) and CALM FAST, protocols between vehicles.

use super::super::{
    text::{Mac, Printed, Text, put},
    view::View,
};

const HEADER: usize = 36;

pub(in super::super) fn print(text: &mut Text<'_>, packet: View<'_>, source: Option<Mac>) -> Printed {
    text.protocol = "geonet";
    put!(text, "GeoNet ");
    if let Some(source) = source {
        put!(text, "src:{source}");
    }
    put!(text, "; ");
    if packet.len() < HEADER {
        put!(text, " (common header length {} < {HEADER})", packet.len());
        text.invalid();
        return Ok(());
    }
    let (first, second) = (packet.u8(0)?, packet.u8(1)?);
    let (payload, hops) = (packet.u16(4)?, packet.u8(7)?);
    let (next, kind, subkind) = (first & 0xf, second >> 4, second & 0xf);
    let next_name = ["Any", "BTP-A", "BTP-B", "IPv6"].get(usize::from(next)).unwrap_or(&"Unknown");
    put!(text, "v:{} NH:{next}-{next_name} ", first >> 4);
    let (name, extended) = match (kind, subkind) {
        (0, _) => ("Any", Some(0)),
        (1, _) => ("Beacon", Some(0)),
        (2, _) => ("GeoUnicast", None),
        (3, 0) => ("GeoAnycastCircle", None),
        (3, 1) => ("GeoAnycastRect", None),
        (3, 2) => ("GeoAnycastElipse", None),
        (4, 0) => ("GeoBroadcastCircle", None),
        (4, 1) => ("GeoBroadcastRect", None),
        (4, 2) => ("GeoBroadcastElipse", None),
        (5, 0) => ("TopoScopeBcast-SH", Some(0)),
        (5, 1) => ("TopoScopeBcast-MH", Some(32)),
        (6, 0) => ("LocService-Request", None),
        (6, 1) => ("LocService-Reply", None),
        _ => ("Unknown", None),
    };
    put!(text, "HT:{kind}-{subkind}-{name} HopLim:{hops} Payload:{payload} ");
    let address = packet.get(8, 8)?;
    put!(text, "GN_ADDR:");
    text.hex(address, ":");
    put!(text, " ");
    put!(text, "lat:{} ", packet.u32(20)?);
    put!(text, "lon:{}", packet.u32(24)?);
    packet.get(0, HEADER)?;
    let Some(extended) = extended else { return Ok(()) };
    let rest = packet.after(HEADER);
    if rest.len() < extended {
        put!(text, " (header size {extended} > {})", rest.len());
        text.invalid();
        return Ok(());
    }
    rest.get(0, extended)?;
    if matches!(next, 1 | 2) {
        transport(text, rest.after(extended))?;
    }
    Ok(())
}

/// The basic transport protocol, and the head of what it carries.
fn transport(text: &mut Text<'_>, packet: View<'_>) -> Printed {
    const KINDS: [(u32, &str); 10] = [
        (0, "CAM"),
        (1, "DENM"),
        (101, "TPEGM"),
        (102, "TSPDM"),
        (103, "VPM"),
        (104, "SRM"),
        (105, "SLAM"),
        (106, "ecoCAM"),
        (107, "ITM"),
        (150, "SA"),
    ];
    if packet.len() < 4 {
        put!(text, " (BTP length {} < 4)", packet.len());
        text.invalid();
        return Ok(());
    }
    put!(text, "; BTP Dst:{}", packet.u16(0)?);
    put!(text, " Src:{}", packet.u16(2)?);
    if packet.len() >= 6 {
        put!(text, "; ItsPduHeader v:{}", packet.u8(4)?);
        let kind = packet.u8(5)?;
        put!(text, " t:{kind}-");
        text.name_or(&KINDS, kind, format_args!("unknown ({kind})"));
    }
    Ok(())
}

pub(in super::super) fn calm_fast(text: &mut Text<'_>, packet: View<'_>, source: Option<Mac>) -> Printed {
    text.protocol = "calm_fast";
    put!(text, "CALM FAST");
    if let Some(source) = source {
        put!(text, " src:{source}");
    }
    put!(text, "; ");
    if packet.len() < 2 {
        put!(text, " (length {} < 2)", packet.len());
        return text.invalid_of(packet);
    }
    put!(text, "SrcNwref:{}; ", packet.u8(0)?);
    put!(text, "DstNwref:{}; ", packet.u8(1)?);
    Ok(())
}
