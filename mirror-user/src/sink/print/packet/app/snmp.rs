//! SNMP, versions 1 (RFC 1157), 2c (RFC 1901) and 3 (RFC 3412), in the basic encoding rules of ASN.1 (X.690).
//!
//! Objects are printed by number. An element that the protocol does not expect is printed as such and ends
//! the message.

use std::ops::ControlFlow;

use super::super::{
    text::{Printed, Text, put},
    view::{Truncated, View},
};

/// Continue, or end the message, which is printed.
type Step<T = ()> = Printed<ControlFlow<(), T>>;

/// Unwraps a step, or returns its end.
macro_rules! step {
    ($step:expr) => {
        match $step? {
            ControlFlow::Continue(value) => value,
            ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
        }
    };
}

const END: Step = Ok(ControlFlow::Break(()));
const ON: Step = Ok(ControlFlow::Continue(()));

const GET: u32 = 0;
const GET_NEXT: u32 = 1;
const TRAP: u32 = 4;
const GET_BULK: u32 = 5;

const UNIVERSAL: [&str; 18] = [
    "U-0",
    "Boolean",
    "Integer",
    "Bitstring",
    "String",
    "Null",
    "ObjID",
    "ObjectDes",
    "U-8",
    "U-9",
    "U-10",
    "U-11",
    "U-12",
    "U-13",
    "U-14",
    "U-15",
    "Sequence",
    "Set",
];
const APPLICATION: [&str; 7] = ["IpAddress", "Counter", "Gauge", "TimeTicks", "Opaque", "C-5", "Counter64"];
const CONTEXT: [&str; 9] = [
    "GetRequest",
    "GetNextRequest",
    "GetResponse",
    "SetRequest",
    "Trap",
    "GetBulk",
    "Inform",
    "V2Trap",
    "Report",
];
const EXCEPTIONS: [&str; 3] = ["noSuchObject", "noSuchInstance", "endOfMibView"];
const PRIVATE: [&str; 1] = ["P-0"];
const ERRORS: [&str; 19] = [
    "noError",
    "tooBig",
    "noSuchName",
    "badValue",
    "readOnly",
    "genErr",
    "noAccess",
    "wrongType",
    "wrongLength",
    "wrongEncoding",
    "wrongValue",
    "noCreation",
    "inconsistentValue",
    "resourceUnavailable",
    "commitFailed",
    "undoFailed",
    "authorizationError",
    "notWritable",
    "inconsistentName",
];
const TRAPS: [&str; 7] = [
    "coldStart",
    "warmStart",
    "linkDown",
    "linkUp",
    "authenticationFailure",
    "egpNeighborLoss",
    "enterpriseSpecific",
];
const ENTERPRISE_SPECIFIC: i32 = 6;

#[derive(Clone, Copy)]
enum Kind {
    Any,
    Null,
    Octets,
    Object,
    Integer(i32),
    Unsigned(u32),
    Unsigned64(u64),
    String,
    Sequence,
    Address,
    Request(u32),
    Exception(&'static str),
}

struct Element<'a> {
    kind: Kind,
    /// Its value; the view has the value's length.
    value: View<'a>,
    /// The rest after it.
    rest: View<'a>,
}

pub(super) fn print(text: &mut Text<'_>, message: View<'_>) -> Printed {
    text.protocol = "snmp";
    put!(text, " ");
    let _ = self::message(text, message)?;
    Ok(())
}

fn message(text: &mut Text<'_>, message: View<'_>) -> Step {
    let sequence = step!(expected(text, message, "[!init SEQ]", |kind| matches!(kind, Kind::Sequence)));
    put_extra(text, &sequence, "iSEQ");
    let (version, rest) = step!(integer(text, sequence.value, "version"));
    match version {
        0 | 1 => community(text, rest, version),
        3 => version_3(text, rest),
        _ => {
            put!(text, "SNMP [version = {version}]");
            END
        }
    }
}

fn put_extra(text: &mut Text<'_>, element: &Element<'_>, what: &str) {
    if element.rest.len() > 0 {
        put!(text, "[{} extra after {what}]", element.rest.len());
    }
}

fn community(text: &mut Text<'_>, rest: View<'_>, version: i32) -> Step {
    let name = step!(string(text, rest, "comm"));
    if name.value.here() != b"public" {
        put!(text, "C=");
        put_string(text, name.value);
        put!(text, " ");
    }
    request(text, name.rest, version)
}

fn version_3(text: &mut Text<'_>, rest: View<'_>) -> Step {
    let header = step!(expected(text, rest, "[!message]", |kind| matches!(kind, Kind::Sequence)));
    let (_, fields) = step!(integer(text, header.value, "msgID"));
    let (_, fields) = step!(integer(text, fields, "msgMaxSize"));
    let flags = step!(string(text, fields, "msgFlags"));
    if flags.value.len() != 1 {
        put!(text, "[msgFlags size {}]", flags.value.len());
        return END;
    }
    let bits = flags.value.u8(0)?;
    if !matches!(bits, 0 | 1 | 3 | 4 | 5 | 7) {
        put!(text, "[msgFlags=0x{bits:02X}]");
        return END;
    }
    put!(text, "F=");
    for (bit, letter) in [(1, "a"), (2, "p"), (4, "r")] {
        put!(text, "{}", if bits & bit == 0 { "" } else { letter });
    }
    put!(text, " ");
    let model = step!(element(text, flags.rest));
    let Kind::Integer(number) = model.kind else {
        put!(text, "[msgSecurityModel!=INT]");
        put_element(text, &model)?;
        return END;
    };
    put_extra(text, &model, "message SEQ");
    if number != 3 {
        put!(text, "[security model {number}]");
        return END;
    }
    let security = step!(string(text, header.rest, "msgSecurityParameters"));
    // Errors in there do not end the message.
    let _ = user_security(text, security.value)?;
    scoped(text, security.rest)
}

/// The parameters of the user-based security model (RFC 3414 section 2.4).
fn user_security(text: &mut Text<'_>, parameters: View<'_>) -> Step {
    let sequence = step!(expected(text, parameters, "[!usm]", |kind| matches!(kind, Kind::Sequence)));
    let engine = step!(string(text, sequence.value, "msgAuthoritativeEngineID"));
    let (_, rest) = step!(integer(text, engine.rest, "msgAuthoritativeEngineBoots"));
    let (_, rest) = step!(integer(text, rest, "msgAuthoritativeEngineTime"));
    let user = step!(string(text, rest, "msgUserName"));
    put!(text, "U=");
    put_string(text, user.value);
    put!(text, " ");
    let authentication = step!(string(text, user.rest, "msgAuthenticationParameters"));
    let privacy = step!(string(text, authentication.rest, "msgPrivacyParameters"));
    put_extra(text, &privacy, "usm SEQ");
    ON
}

fn scoped(text: &mut Text<'_>, rest: View<'_>) -> Step {
    let sequence = step!(expected(text, rest, "[!scoped PDU]", |kind| matches!(kind, Kind::Sequence)));
    let engine = step!(string(text, sequence.value, "contextEngineID"));
    put!(text, "E=");
    put_octets(text, engine.value);
    put!(text, " ");
    let name = step!(string(text, engine.rest, "contextName"));
    put!(text, "C=");
    put_string(text, name.value);
    put!(text, " ");
    request(text, name.rest, 3)
}

/// A request, response or trap.
fn request(text: &mut Text<'_>, rest: View<'_>, version: i32) -> Step {
    let request = step!(element(text, rest));
    let Kind::Request(kind) = request.kind else {
        put!(text, "[no PDU]");
        return END;
    };
    put_extra(text, &request, "PDU");
    put_element(text, &request)?;
    put!(text, " ");
    match (version, kind) {
        (0, 5..) => put!(text, "[v2 PDU in v1 message]"),
        (1, TRAP) => put!(text, "[v1 PDU in v2 message]"),
        (_, TRAP) => return trap(text, request.value),
        _ => return fields(text, kind, request.value),
    }
    END
}

fn fields(text: &mut Text<'_>, kind: u32, rest: View<'_>) -> Step {
    let asks = !matches!(kind, 2 | GET_BULK);
    let (_, rest) = step!(integer(text, rest, "reqId"));
    let (status, rest) = step!(integer(text, rest, "errorStatus"));
    let is_error = !asks && kind != GET_BULK && status != 0;
    match (asks, kind) {
        (true, _) if status != 0 => {
            put!(text, "[errorStatus(");
            put_error(text, status);
            put!(text, ")!=0]");
        }
        (_, GET_BULK) => put!(text, " N={status}"),
        _ if status != 0 => {
            put!(text, " ");
            put_error(text, status);
        }
        _ => {}
    }
    let (index, rest) = step!(integer(text, rest, "errorIndex"));
    match (asks, kind) {
        (true, _) if index != 0 => put!(text, "[errorIndex({index})!=0]"),
        (_, GET_BULK) => put!(text, " M={index}"),
        _ if index != 0 && is_error => put!(text, "@{index}"),
        _ if index != 0 => put!(text, "[errorIndex({index}) w/o errorStatus]"),
        _ if is_error => put!(text, "[errorIndex==0]"),
        _ => {}
    }
    variables(text, kind, rest)
}

fn put_error(text: &mut Text<'_>, status: i32) {
    match usize::try_from(status).ok().and_then(|status| ERRORS.get(status)) {
        Some(error) => put!(text, "{error}"),
        None => put!(text, "err={}", status.cast_unsigned()),
    }
}

fn trap(text: &mut Text<'_>, rest: View<'_>) -> Step {
    put!(text, " ");
    let enterprise = step!(expected(text, rest, "[enterprise!=OID]", |kind| matches!(kind, Kind::Object)));
    put_element(text, &enterprise)?;
    put!(text, " ");
    let agent = step!(expected(text, enterprise.rest, "[agent-addr!=INETADDR]", |kind| {
        matches!(kind, Kind::Address)
    }));
    put_element(text, &agent)?;
    let (generic, rest) = step!(integer(text, agent.rest, "generic-trap"));
    match usize::try_from(generic).ok().and_then(|generic| TRAPS.get(generic)) {
        Some(name) => put!(text, " {name}"),
        None => put!(text, " gt={generic}"),
    }
    let (specific, rest) = step!(integer(text, rest, "specific-trap"));
    if generic == ENTERPRISE_SPECIFIC {
        put!(text, " s={specific}");
    } else if specific != 0 {
        put!(text, "[specific-trap({specific})!=0]");
    }
    put!(text, " ");
    let time =
        step!(expected(text, rest, "[time-stamp!=TIMETICKS]", |kind| matches!(kind, Kind::Unsigned(_))));
    put_element(text, &time)?;
    variables(text, TRAP, time.rest)
}

/// Objects and their values.
fn variables(text: &mut Text<'_>, kind: u32, rest: View<'_>) -> Step {
    let list = step!(expected(text, rest, "[!SEQ of varbind]", |kind| matches!(kind, Kind::Sequence)));
    put_extra(text, &list, "SEQ of varbind");
    let asks = matches!(kind, GET | GET_NEXT | GET_BULK);
    let mut rest = list.value;
    while rest.len() > 0 {
        put!(text, " ");
        let variable = step!(expected(text, rest, "[!varbind]", |kind| matches!(kind, Kind::Sequence)));
        rest = variable.rest;
        let name =
            step!(expected(text, variable.value, "[objName!=OID]", |kind| matches!(kind, Kind::Object)));
        put_element(text, &name)?;
        put!(text, "{}", if asks { "" } else { "=" });
        let value = step!(element(text, name.rest));
        if !matches!(value.kind, Kind::Null) {
            put!(text, "{}", if asks { "[objVal!=NULL]" } else { "" });
            put_element(text, &value)?;
        }
    }
    ON
}

fn integer<'a>(text: &mut Text<'_>, view: View<'a>, what: &str) -> Step<(i32, View<'a>)> {
    let element = step!(element(text, view));
    if let Kind::Integer(number) = element.kind {
        return Ok(ControlFlow::Continue((number, element.rest)));
    }
    put!(text, "[{what}!=INT]");
    put_element(text, &element)?;
    Ok(ControlFlow::Break(()))
}

fn string<'a>(text: &mut Text<'_>, view: View<'a>, what: &str) -> Step<Element<'a>> {
    let element = step!(element(text, view));
    if matches!(element.kind, Kind::String) {
        return Ok(ControlFlow::Continue(element));
    }
    put!(text, "[{what}!=STR]");
    put_element(text, &element)?;
    Ok(ControlFlow::Break(()))
}

fn expected<'a>(
    text: &mut Text<'_>,
    view: View<'a>,
    otherwise: &str,
    is_it: impl Fn(Kind) -> bool,
) -> Step<Element<'a>> {
    let element = step!(element(text, view));
    if is_it(element.kind) {
        return Ok(ControlFlow::Continue(element));
    }
    put!(text, "{otherwise}");
    put_element(text, &element)?;
    Ok(ControlFlow::Break(()))
}

/// The element at the start.
fn element<'a>(text: &mut Text<'_>, view: View<'a>) -> Step<Element<'a>> {
    let ends = Ok(ControlFlow::Break(()));
    if view.len() == 0 {
        put!(text, "[nothing to parse]");
        return ends;
    }
    let first = view.u8(0)?;
    let (mut number, mut at) = (u32::from(first & 0x1f), 1);
    if number == 0x1f {
        number = 0;
        loop {
            let byte = view.u8(at)?;
            if at >= view.len() {
                put!(text, "[Xtagfield?]");
                return ends;
            }
            at += 1;
            // It has eight bits, as in tcpdump.
            number = (number << 7 | u32::from(byte & 0x7f)) & 0xff;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    if at >= view.len() {
        put!(text, "[no asnlen]");
        return ends;
    }
    let mut len = u32::from(view.u8(at)?);
    at += 1;
    if len & 0x80 != 0 {
        let octets = usize::try_from(len & 0x7f).map_err(|_| Truncated)?;
        if view.len() - at < octets {
            put!(text, "[asnlen? {}<{octets}]", view.len() - at);
            return ends;
        }
        let Ok(octets) = view.get(at, octets) else {
            text.cut();
            return ends;
        };
        len = octets.iter().fold(0, |len, &octet| len << 8 | u32::from(octet));
        at += octets.len();
    }
    let is_constructed = first & 0x20 != 0;
    let form = if is_constructed { 'C' } else { 'P' };
    let value_len = usize::try_from(len).map_err(|_| Truncated)?;
    if view.len() - at < value_len {
        put!(text, "[len{}<asnlen{len}]", view.len() - at);
        return ends;
    }
    let names: &[&str] = [&UNIVERSAL[..], &APPLICATION, &CONTEXT, &PRIVATE][usize::from(first >> 6)];
    let Some(name) = usize::try_from(number).ok().and_then(|number| names.get(number)) else {
        // tcpdump's name of every class.
        put!(text, "[id?{form}/x/{number}]");
        return ends;
    };
    if view.get(at, value_len).is_err() {
        text.cut();
        return ends;
    }
    let value = view.after(at).of_len(value_len);
    let class = first >> 6;
    let kind = match (is_constructed, class, number) {
        (false, 0, 4) => Kind::String,
        (false, 0, 2) => {
            if value_len == 0 {
                put!(text, "[asnlen=0]");
                return ends;
            }
            let sign = if value.u8(0)? & 0x80 == 0 { 0 } else { -1 };
            Kind::Integer(value.here().iter().fold(sign, |number, &byte| number << 8 | i32::from(byte)))
        }
        (false, 0, 6) => Kind::Object,
        (false, 0, 5) => Kind::Null,
        (false, 1, 0) => Kind::Address,
        (false, 1, 1..=3) => {
            Kind::Unsigned(value.here().iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
        }
        (false, 1, 6) => {
            Kind::Unsigned64(value.here().iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
        }
        (false, 2, 0..=2) => Kind::Exception(EXCEPTIONS[usize::try_from(number).map_err(|_| Truncated)?]),
        (false, 2, _) => Kind::Any,
        (true, 0, 16) => Kind::Sequence,
        (true, 2, _) => Kind::Request(number),
        (false, ..) => {
            put!(text, "[P/{}/{name}]", ["U", "A", "", "x"][usize::from(class)]);
            Kind::Octets
        }
        (true, ..) => {
            put!(text, "C/{}/{name}", if class == 0 { "U" } else { "x" });
            Kind::Octets
        }
    };
    Ok(ControlFlow::Continue(Element { kind, value, rest: view.after(at + value_len) }))
}

fn put_element(text: &mut Text<'_>, element: &Element<'_>) -> Printed {
    let value = element.value;
    match element.kind {
        Kind::Any => put!(text, "[BE_ANY!?]"),
        Kind::Null => {}
        Kind::Octets => put_octets(text, value),
        Kind::Object => put_object(text, value.here()),
        Kind::Integer(number) => put!(text, "{number}"),
        Kind::Unsigned(number) => put!(text, "{number}"),
        Kind::Unsigned64(number) => put!(text, "{number}"),
        Kind::String => put_string(text, value),
        Kind::Sequence => put!(text, "Seq({})", value.len()),
        Kind::Address => {
            put!(text, "{}", if value.len() == 4 { "" } else { "[inetaddr len!=4]" });
            for (place, byte) in value.here().iter().enumerate() {
                put!(text, "{}{byte}", if place == 0 { "" } else { "." });
            }
        }
        Kind::Request(number) => {
            put!(text, "{}({})", CONTEXT[usize::try_from(number).map_err(|_| Truncated)?], value.len());
        }
        Kind::Exception(name) => put!(text, "[{name}]"),
    }
    Ok(())
}

fn put_object(text: &mut Text<'_>, bytes: &[u8]) {
    let (mut number, mut is_first) = (0_i32, true);
    for byte in bytes {
        number = (number << 7).wrapping_add(i32::from(byte & 0x7f));
        if byte & 0x80 != 0 {
            continue;
        }
        if is_first {
            // The first two numbers are encoded as one (X.690 section 8.19.4).
            is_first = false;
            let first = (number / 40).min(2);
            put!(text, ".{}", first.cast_unsigned());
            number = number.wrapping_sub(first.wrapping_mul(40));
        }
        put!(text, ".{}", number.cast_unsigned());
        number = 0;
    }
}

fn put_octets(text: &mut Text<'_>, value: View<'_>) {
    value.here().iter().for_each(|byte| put!(text, "_{byte:02x}"));
}

fn put_string(text: &mut Text<'_>, value: View<'_>) {
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~');
    if value.here().iter().all(is_text) {
        put!(text, "\"");
        text.escaped(value.here());
        put!(text, "\"");
    } else {
        text.hex(value.here(), "_");
    }
}
