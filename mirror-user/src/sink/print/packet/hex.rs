//! A packet's bytes, on lines below it.

use super::text::{Text, put};

const PER_LINE: usize = 16;
/// Four digits and a space for each two bytes.
const WIDTH: usize = PER_LINE / 2 * 5;

/// In hex, and with `ascii` as characters.
pub(super) fn hex(text: &mut Text<'_>, bytes: &[u8], ascii: bool) {
    indented(text, bytes, ascii, "\t");
}

/// The same with another indentation.
pub(super) fn indented(text: &mut Text<'_>, bytes: &[u8], ascii: bool, indentation: &str) {
    for (line, bytes) in bytes.chunks(PER_LINE).enumerate() {
        put!(text, "\n{indentation}0x{:04x}: ", line * PER_LINE);
        let mut width = 0;
        for pair in bytes.chunks(2) {
            put!(text, " ");
            text.hex(pair, "");
            width += 1 + 2 * pair.len();
        }
        if ascii {
            put!(text, "{:1$}  ", "", WIDTH - width);
            bytes.iter().for_each(|&byte| put!(text, "{}", shown(byte)));
        }
    }
}

/// As characters: with tabs and line ends, so that a protocol of lines can be read.
pub(super) fn ascii(text: &mut Text<'_>, bytes: &[u8]) {
    put!(text, "\n");
    for (place, &byte) in bytes.iter().enumerate() {
        match (byte, bytes.get(place + 1..)) {
            (b'\t' | b' ' | b'\n', _) => put!(text, "{}", char::from(byte)),
            // The rest ends a line and the packet.
            (b'\r', Some([b'\n', _, ..] | [] | [_])) => {}
            (byte, _) => put!(text, "{}", shown(byte)),
        }
    }
}

fn shown(byte: u8) -> char {
    if byte.is_ascii_graphic() { char::from(byte) } else { '.' }
}
