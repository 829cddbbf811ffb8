//! File handles, which are opaque. tcpdump guesses the server's system from the bytes.

use super::{
    super::super::{
        text::{Printed, Text, put},
        view::{Truncated, View},
    },
    Cursor,
};

/// Bytes of a handle of version 2.
const VERSION_2: usize = 32;
/// Bytes printed of an unknown handle.
const MAX_PRINTED: usize = 32;

/// Prints a handle.
pub(super) fn print(text: &mut Text<'_>, cursor: &mut Cursor<'_>, is_version_3: bool) -> Printed {
    let words =
        if is_version_3 { usize::try_from(cursor.u32()? / 4).map_err(|_| Truncated)? } else { VERSION_2 / 4 };
    let bytes = cursor.bytes(words.checked_mul(4).ok_or(Truncated)?)?;
    put!(text, " fh ");
    let handle = View::new(bytes, bytes.len());
    match parsed(handle) {
        Ok(Some(Handle::Of { major, minor, file })) => put!(text, "{major},{minor}/{file}"),
        Ok(Some(Handle::Named { file })) => {
            // As many characters as it has words, up to its end.
            let name = bytes[1..14].split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
            text.escaped(&name[..name.len().min(words)]);
            put!(text, "/{file}");
        }
        Ok(None) | Err(Truncated) => {
            put!(text, "{}/", &"Unknown"[..words.min(7)]);
            bytes.iter().take(MAX_PRINTED).for_each(|byte| put!(text, "{byte:02X}"));
        }
    }
    Ok(())
}

enum Handle {
    Of { major: u32, minor: u32, file: u32 },
    Named { file: u32 },
}

fn parsed(handle: View<'_>) -> Printed<Option<Handle>> {
    let bytes: [u8; 16] = handle.array(0)?;
    let [a, b, c, d, e, f, g, h, i, j, ..] = bytes;
    let of = |major, minor, file| Ok(Some(Handle::Of { major, minor, file }));
    let osf = || {
        let device = handle.u32_le(0)?;
        of(device >> 20, device & 0xf_ffff, handle.u32_le(12)?)
    };
    let solaris = || {
        let major = u32::from(handle.u16(0)?) >> 2 & 0x3fff;
        of(major, handle.u24(1)? & 0x3_ffff, handle.u32(12)?)
    };
    match (a, b, c, d) {
        // Auspex.
        (0, 0, 0, 0) => of(g.into(), h.into(), handle.u32(12)?),
        (0, 0, ..) if e != 0 && f == 0 && (i, j) == (12, 0) => osf(),
        // IRIX 4.
        (0, 0, ..) if (e, f, g, h) == (0, 8, 0, 0) => of(c.into(), d.into(), handle.u32(8)?),
        // SunOS 4.
        (0, 0, ..) => of(c.into(), d.into(), handle.u32(12)?),
        // 4.4BSD.
        (_, _, 0, 0) if (g, h) == (0, 0) => of(b.into(), a.into(), handle.u32_le(12)?),
        // Ultrix.
        (_, _, 0, 0) if matches!((handle.u8(21), handle.u8(23)), (Ok(0), Ok(0))) => {
            of(b.into(), a.into(), handle.u32_le(4)?)
        }
        (_, _, 0, 0) if j == 10 => solaris(),
        (_, _, 0, 0) => Ok(None),
        _ if (i, j) == (12, 0) => osf(),
        // HP-UX 9.
        _ if (i, j) == (0, 10) && (e, f, g, h) == (0, 0, 0, 0) => {
            of(a.into(), handle.u24(1)?, handle.u32(12)?)
        }
        _ if (i, j) == (0, 10) => solaris(),
        // VMS.
        _ if handle.has(28) && is_name(&bytes[1..14]) => {
            let high = u32::from(handle.u16(26)?) << 16;
            Ok(Some(Handle::Named { file: high | u32::from(handle.u16_le(22)?) }))
        }
        _ => Ok(None),
    }
}

/// Whether these are only characters up to a terminator.
fn is_name(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|byte| !matches!(byte, b' '..=b'~')).unwrap_or(bytes.len());
    bytes[end..].iter().all(|byte| *byte == 0)
}
