//! Telnet's commands at the start of a segment (RFC 854, RFC 855).

use super::super::{
    text::{Printed, Text, put},
    view::{Truncated, View},
};

const IAC: u8 = 255;
const SUBNEGOTIATION: u8 = 250;
const SUBNEGOTIATION_END: u8 = 240;
/// The commands from 236 on.
const FIRST_COMMAND: u8 = 236;
const COMMANDS: [&str; 20] = [
    "EOF", "SUSP", "ABORT", "EOR", "SE", "NOP", "DMARK", "BRK", "IP", "AO", "AYT", "EC", "EL", "GA", "SB",
    "WILL", "WONT", "DO", "DONT", "IAC",
];
const OPTIONS: [&str; 40] = [
    "BINARY",
    "ECHO",
    "RCP",
    "SUPPRESS GO AHEAD",
    "NAME",
    "STATUS",
    "TIMING MARK",
    "RCTE",
    "NAOL",
    "NAOP",
    "NAOCRD",
    "NAOHTS",
    "NAOHTD",
    "NAOFFD",
    "NAOVTS",
    "NAOVTD",
    "NAOLFD",
    "EXTEND ASCII",
    "LOGOUT",
    "BYTE MACRO",
    "DATA ENTRY TERMINAL",
    "SUPDUP",
    "SUPDUP OUTPUT",
    "SEND LOCATION",
    "TERMINAL TYPE",
    "END OF RECORD",
    "TACACS UID",
    "OUTPUT MARKING",
    "TTYLOC",
    "3270 REGIME",
    "X.3 PAD",
    "NAWS",
    "TSPEED",
    "LFLOW",
    "LINEMODE",
    "XDISPLOC",
    "OLD-ENVIRON",
    "AUTHENTICATION",
    "ENCRYPT",
    "NEW-ENVIRON",
];
const AUTHENTICATION: u8 = 37;
const ENCRYPT: u8 = 38;

pub(super) fn print(text: &mut Text<'_>, payload: View<'_>) -> Printed {
    text.protocol = "telnet";
    let (mut rest, mut separator) = (payload, " [telnet ");
    while rest.len() > 0 && rest.u8(0)? == IAC {
        // An incomplete command is detected before any of it is printed.
        let Some(len) = len(rest)? else { break };
        put!(text, "{separator}");
        separator = ", ";
        let here = rest.here();
        command(text, &here[1..here.len().min(len)]);
        if len > rest.len() {
            return Err(Truncated);
        }
        rest = rest.after(len);
    }
    if rest.len() < payload.len() {
        put!(text, "]");
    }
    Ok(())
}

/// Length of the command, if it is complete in this segment.
fn len(rest: View<'_>) -> Printed<Option<usize>> {
    if rest.len() < 2 {
        return Ok(None);
    }
    match rest.u8(1)? {
        ..FIRST_COMMAND => Ok(None),
        SUBNEGOTIATION => {
            if rest.len() < 3 {
                return Ok(None);
            }
            rest.u8(2)?;
            let mut at = 3;
            while rest.len() > at + 1 && (rest.u8(at)?, rest.u8(at + 1)?) != (IAC, SUBNEGOTIATION_END) {
                at += 1;
            }
            // tcpdump does not check the second byte of its end.
            Ok((rest.u8(at)? == IAC).then_some(at + 2))
        }
        251..=254 if rest.len() < 3 => Ok(None),
        251..=254 => rest.u8(2).map(|_| Some(3)),
        _ => Ok(Some(2)),
    }
}

/// A command without its escape byte (IAC).
fn command(text: &mut Text<'_>, bytes: &[u8]) {
    let Some((&command, rest)) = bytes.split_first() else { return };
    let name = COMMANDS.get(usize::from(command.wrapping_sub(FIRST_COMMAND))).unwrap_or(&"");
    if command == IAC {
        put!(text, "IAC IAC");
        return;
    }
    put!(text, "{name}");
    let Some((&option, rest)) = rest.split_first() else { return };
    match OPTIONS.get(usize::from(option)) {
        Some(option) => put!(text, " {option}"),
        None => put!(text, " {option:#x}"),
    }
    if command == SUBNEGOTIATION {
        subnegotiation(
            text,
            option,
            rest.strip_suffix(&[IAC, SUBNEGOTIATION_END])
                .or_else(|| rest.strip_suffix(&[IAC]))
                .unwrap_or(rest),
        );
    }
}

fn subnegotiation(text: &mut Text<'_>, option: u8, bytes: &[u8]) {
    const PLAIN: [&str; 3] = ["IS", "SEND", "INFO"];
    const AUTHENTICATE: [&str; 4] = ["IS", "SEND", "REPLY", "NAME"];
    const AUTHENTICATIONS: [&str; 16] = [
        "NULL",
        "KERBEROS_V4",
        "KERBEROS_V5",
        "SPX",
        "MINK",
        "SRP",
        "RSA",
        "SSL",
        "",
        "",
        "LOKI",
        "SSA",
        "KEA_SJ",
        "KEA_SJ_INTEG",
        "DSS",
        "NTLM",
    ];
    const ENCRYPTS: [&str; 9] =
        ["IS", "SUPPORT", "REPLY", "START", "END", "REQUEST-START", "REQUEST-END", "END_KEYID", "DEC_KEYID"];
    const ENCRYPTIONS: [&str; 10] = [
        "NULL",
        "DES_CFB64",
        "DES_OFB64",
        "DES3_CFB64",
        "DES3_OFB64",
        "",
        "CAST5_40_CFB64",
        "CAST5_40_OFB64",
        "CAST128_CFB64",
        "CAST128_OFB64",
    ];
    let tables: &[&[&str]] = match option {
        AUTHENTICATION => &[&AUTHENTICATE, &AUTHENTICATIONS],
        ENCRYPT => &[&ENCRYPTS, &ENCRYPTIONS],
        _ => &[&PLAIN],
    };
    for (place, &byte) in bytes.iter().enumerate() {
        let name = tables.get(place).and_then(|names| names.get(usize::from(byte)));
        match name.filter(|name| !name.is_empty()) {
            Some(name) => put!(text, " {name}"),
            None if byte == 0 => put!(text, " 0"),
            None => put!(text, " {byte:#x}"),
        }
    }
    put!(text, " SE");
}
