//! Replies of a server.

use super::{
    super::super::{
        text::{Printed, Text, put},
        view::{Truncated, View},
    },
    Call, Cursor, handle, put_kind,
};

const ACCEPTED: u32 = 0;
const DENIED: u32 = 1;
/// Offset of the verifier in an accepted reply.
const VERIFIER: usize = 12;
/// Bytes of a file's attributes in version 3.
const ATTRIBUTES: usize = 84;
/// Bytes of the attributes that show whether it has changed.
const BEFORE: usize = 24;

pub(super) fn print(text: &mut Text<'_>, message: View<'_>, call: Option<Call>) -> Printed {
    match message.u32(8)? {
        ACCEPTED => {
            put!(text, "reply ok {}", message.len());
            call.map_or(Ok(()), |call| accepted(text, message, call))
        }
        DENIED => {
            put!(text, "reply ERR {}: ", message.len());
            denied(text, message)
        }
        status => {
            put!(text, "reply Unknown rpc response code={status} {}", message.len());
            Ok(())
        }
    }
}

fn denied(text: &mut Text<'_>, message: View<'_>) -> Printed {
    const WHY: [&str; 8] = [
        "OK",
        "Bogus Credentials (seal broken)",
        "Rejected Credentials (client should begin new session)",
        "Bogus Verifier (seal broken)",
        "Verifier expired or was replayed",
        "Credentials are too weak",
        "Bogus response verifier",
        "Unknown failure",
    ];
    match message.u32(12)? {
        0 => put!(text, "RPC Version mismatch ({}-{})", message.u32(16)?, message.u32(20)?),
        1 => {
            let why = message.u32(16)?;
            match usize::try_from(why).ok().and_then(|why| WHY.get(why)) {
                Some(why) => put!(text, "Auth {why}"),
                None => put!(text, "Auth Invalid failure code {why}"),
            }
        }
        status => put!(text, "Unknown reason for rejecting rpc message {status}"),
    }
    Ok(())
}

fn accepted(text: &mut Text<'_>, message: View<'_>, call: Call) -> Printed {
    call.put_name(text);
    let procedure = call.procedure();
    if !matches!(procedure, 1..=21) {
        return Ok(());
    }
    let len = usize::try_from(message.u32(VERIFIER + 4)?).map_err(|_| Truncated)?;
    if len >= message.len() {
        return Err(Truncated);
    }
    let cursor = &mut Cursor { message, at: VERIFIER + 8 + len.next_multiple_of(4) };
    match cursor.u32()? {
        0 => {}
        status => {
            match status {
                1 => put!(text, " PROG_UNAVAIL"),
                2 => put!(text, " PROG_MISMATCH"),
                3 => put!(text, " PROC_UNAVAIL"),
                4 => put!(text, " GARBAGE_ARGS"),
                5 => put!(text, " SYSTEM_ERR"),
                _ => put!(text, " ar_stat {status}"),
            }
            return Ok(());
        }
    }
    let status = cursor.u32()?;
    if status != 0 {
        put!(text, " ERROR: ");
        text.name_or(&ERRORS, status, format_args!("unk {status}"));
    }
    if call.is_version_3() {
        version_3(text, cursor, procedure, status == 0)
    } else {
        version_2(text, cursor, procedure, status == 0)
    }
}

fn version_3(text: &mut Text<'_>, cursor: &mut Cursor<'_>, procedure: u32, is_good: bool) -> Printed {
    match procedure {
        // Getattr.
        1 if is_good => attributes(text, cursor, true),
        // Setattr, write, remove, rmdir, commit.
        2 | 7 | 12 | 13 | 21 => changed(cursor, is_good),
        3 if is_good => {
            handle::print(text, cursor, true)?;
            skip_attributes(cursor)
        }
        // Access.
        4 => {
            skip_attributes(cursor)?;
            if is_good {
                put!(text, " c {:04x}", cursor.u32()?);
            }
            Ok(())
        }
        5 if is_good => {
            skip_attributes(cursor)?;
            put!(text, " ");
            cursor.put_name(text)
        }
        // Read, readdir, readdirplus.
        6 | 16 | 17 => skip_attributes(cursor),
        // Create, mkdir, symlink, mknod.
        8..=11 => created(text, cursor, is_good),
        18 => {
            skip_attributes(cursor)?;
            if cursor.message.get(cursor.at, 52).is_err() {
                return missing(is_good);
            }
            put!(text, " tbytes {} fbytes {} abytes {}", cursor.u64()?, cursor.u64()?, cursor.u64()?);
            Ok(())
        }
        19 => {
            skip_attributes(cursor)?;
            if is_good {
                cursor.message.get(cursor.at, 48)?;
                let mut words = [0; 7];
                for word in &mut words {
                    *word = cursor.u32()?;
                }
                let [read, read_best, _, write, write_best, _, directory] = words;
                put!(
                    text,
                    " rtmax {read} rtpref {read_best} wtmax {write} wtpref {write_best} dtpref {directory}"
                );
            }
            Ok(())
        }
        20 => {
            skip_attributes(cursor)?;
            if is_good {
                cursor.message.get(cursor.at, 24)?;
                put!(text, " linkmax {} namemax {}", cursor.u32()?, cursor.u32()?);
                for flag in ["notrunc", "chownres", "igncase", "keepcase"] {
                    put!(text, " {}", if cursor.u32()? == 0 { "" } else { flag });
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn version_2(text: &mut Text<'_>, cursor: &mut Cursor<'_>, procedure: u32, is_good: bool) -> Printed {
    match procedure {
        11 => created(text, cursor, is_good),
        // In version 3 these begin with attributes also on failure.
        17 | 19 | 20 | 21 | 4 => version_3(text, cursor, procedure, is_good),
        _ if !is_good => Ok(()),
        // Getattr, setattr.
        1 | 2 => attributes(text, cursor, false),
        // Lookup, create, mkdir.
        3 | 8 | 9 => {
            handle::print(text, cursor, false)?;
            cursor.message.get(cursor.at + 16, 4).map(|_| ())
        }
        5 => {
            put!(text, " ");
            cursor.put_name(text)
        }
        // Read, write.
        6 | 7 => cursor.message.get(cursor.at + 16, 4).map(|_| ()),
        // Readdir.
        16 => {
            put!(text, " offset 0x{:x} size {} ", cursor.u32()?, cursor.u32()?);
            put!(text, "{}", if cursor.u32()? == 0 { "" } else { " eof" });
            Ok(())
        }
        18 => {
            cursor.message.get(cursor.at, 20)?;
            put!(text, " tsize {} bsize {}", cursor.u32()?, cursor.u32()?);
            put!(text, " blocks {} bfree {} bavail {}", cursor.u32()?, cursor.u32()?, cursor.u32()?);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A file's kind, mode, owner, group and size.
fn attributes(text: &mut Text<'_>, cursor: &mut Cursor<'_>, is_version_3: bool) -> Printed {
    cursor.message.get(cursor.at + 16, 4)?;
    let (kind, mode, _) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let (owner, group) = (cursor.u32()?.cast_signed(), cursor.u32()?.cast_signed());
    put_kind(text, kind, " ");
    put!(text, " {mode:o} ids {owner}/{group}");
    let size = if is_version_3 { cursor.u64()? } else { cursor.u32()?.into() };
    put!(text, " sz {size}");
    Ok(())
}

/// Optional attributes.
fn skip_attributes(cursor: &mut Cursor<'_>) -> Printed {
    if cursor.u32()? != 0 {
        cursor.at += ATTRIBUTES;
    }
    Ok(())
}

/// Marks a missing part; after an error prints nothing, as tcpdump.
fn missing(is_good: bool) -> Printed {
    if is_good { Err(Truncated) } else { Ok(()) }
}

/// Attributes before and after a change.
fn changed(cursor: &mut Cursor<'_>, is_good: bool) -> Printed {
    if cursor.u32()? != 0 && cursor.bytes(BEFORE).is_err() {
        return missing(is_good);
    }
    cursor.u32().map(|_| ())
}

fn created(text: &mut Text<'_>, cursor: &mut Cursor<'_>, is_good: bool) -> Printed {
    if !is_good {
        return changed(cursor, is_good);
    }
    if cursor.u32()? != 0 {
        handle::print(text, cursor, true)?;
    }
    Ok(())
}

/// The error, as tcpdump names it.
const ERRORS: [(u32, &str); 34] = [
    (1, "Operation not permitted"),
    (2, "No such file or directory"),
    (5, "Input/output error"),
    (6, "Device not configured"),
    (11, "Resource deadlock avoided"),
    (12, "Cannot allocate memory"),
    (13, "Permission denied"),
    (17, "File exists"),
    (18, "Cross-device link"),
    (19, "Operation not supported by device"),
    (20, "Not a directory"),
    (21, "Is a directory"),
    (22, "Invalid argument"),
    (26, "Text file busy"),
    (27, "File too large"),
    (28, "No space left on device"),
    (30, "Read-only file system"),
    (31, "Too many links"),
    (45, "Operation not supported"),
    (62, "Too many levels of symbolic links"),
    (63, "File name too long"),
    (66, "Directory not empty"),
    (69, "Disc quota exceeded"),
    (70, "Stale NFS file handle"),
    (71, "Too many levels of remote in path"),
    (99, "Write cache flushed to disk"),
    (10_001, "Illegal NFS file handle"),
    (10_002, "Update synchronization mismatch"),
    (10_003, "READDIR/READDIRPLUS cookie is stale"),
    (10_004, "Operation not supported"),
    (10_005, "Buffer or request is too small"),
    (10_006, "Unspecified error on server"),
    (10_007, "Object of that type not supported"),
    (10_008, "Request couldn't be completed in time"),
];
