//! Calls to a server.

use super::{
    super::super::{
        text::{Printed, Text, put},
        view::{Truncated, View},
    },
    Call, Cursor, handle, put_kind,
};

/// Offset of the credentials.
const CREDENTIALS: usize = 24;

pub(super) fn print(text: &mut Text<'_>, message: View<'_>, call: Call) -> Printed {
    call.put_name(text);
    let is_version_3 = call.is_version_3();
    let procedure = call.procedure();
    if !matches!(procedure, 1..=21) {
        return Ok(());
    }
    let cursor = &mut arguments(message)?;
    handle::print(text, cursor, is_version_3)?;
    match procedure {
        // Lookup, create, mkdir, remove, rmdir.
        3 | 8 | 9 | 12 | 13 => put_name(text, cursor)?,
        4 => access(text, cursor.u32()?),
        // Read.
        6 => {
            let offset = if is_version_3 { cursor.u64()? } else { cursor.u32()?.into() };
            put!(text, " {} bytes @ {offset}", cursor.u32()?);
        }
        7 if is_version_3 => {
            let (offset, count, _, len) = (cursor.u64()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
            put!(text, " {len} ({count}) bytes @ {offset}");
        }
        7 => {
            let (begin, offset, total, len) = (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
            put!(text, " {len} ({total}) bytes @ {offset} ({begin})");
        }
        // Symlink.
        10 => {
            put_name(text, cursor)?;
            put!(text, " ->");
            if is_version_3 {
                skip_attributes(cursor)?;
            }
            cursor.put_name(text)?;
        }
        // Mknod.
        11 => {
            put_name(text, cursor)?;
            let kind = cursor.u32()?;
            skip_attributes(cursor)?;
            put_kind(text, kind, "");
        }
        // Rename, link.
        14 | 15 => {
            if procedure == 14 {
                put_name(text, cursor)?;
            }
            put!(text, " ->");
            handle::print(text, cursor, is_version_3)?;
            put_name(text, cursor)?;
        }
        // Readdir, readdirplus.
        16 if !is_version_3 => {
            let offset = cursor.u32()?;
            put!(text, " {} bytes @ {offset}", cursor.u32()?);
        }
        16 | 17 => {
            let (cookie, _, count) = (cursor.u64()?, cursor.u64()?, cursor.u32()?);
            put!(text, " {count} bytes @ {}", cookie.cast_signed());
        }
        // Commit.
        21 => {
            let offset = cursor.u64()?;
            put!(text, " {} bytes @ {offset}", cursor.u32()?);
        }
        _ => {}
    }
    Ok(())
}

/// Offset of the arguments, after credentials and verifier.
fn arguments(message: View<'_>) -> Printed<Cursor<'_>> {
    // As in tcpdump, relative to the message's length and not to the rest of it.
    let mut left = message.len();
    let mut cursor = Cursor { message, at: CREDENTIALS };
    for is_last in [false, true] {
        if left < 8 {
            return Err(Truncated);
        }
        cursor.u32()?;
        let start = cursor.at;
        cursor.opaque()?;
        let len = cursor.at - start + 4;
        if len > left || (is_last && len == left) {
            return Err(Truncated);
        }
        left -= len;
    }
    Ok(cursor)
}

fn put_name(text: &mut Text<'_>, cursor: &mut Cursor<'_>) -> Printed {
    put!(text, " ");
    cursor.put_name(text)
}

fn access(text: &mut Text<'_>, flags: u32) {
    const FLAGS: [(u32, &str); 6] = [
        (0x01, "NFS_ACCESS_READ"),
        (0x02, "NFS_ACCESS_LOOKUP"),
        (0x04, "NFS_ACCESS_MODIFY"),
        (0x08, "NFS_ACCESS_EXTEND"),
        (0x10, "NFS_ACCESS_DELETE"),
        (0x20, "NFS_ACCESS_EXECUTE"),
    ];
    match flags {
        0 => {}
        0x3f => put!(text, " NFS_ACCESS_FULL"),
        1..0x3f => {
            put!(text, " ");
            text.bits(flags, &FLAGS, "|");
        }
        _ => put!(text, " {flags:04x}"),
    }
}

/// Attributes to set, each after a flag of its presence.
fn skip_attributes(cursor: &mut Cursor<'_>) -> Printed {
    // Mode, owner, group; then the size, of which tcpdump skips a word.
    for _ in 0..4 {
        if cursor.u32()? != 0 {
            cursor.u32()?;
        }
    }
    for _ in 0..2 {
        // The client's own time.
        if cursor.u32()? == 2 {
            cursor.u64()?;
        }
    }
    Ok(())
}
