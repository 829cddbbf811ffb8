//! NFS, versions 2 (RFC 1094) and 3 (RFC 1813), over ONC RPC (RFC 5531). A reply has only the number of its
//! call, so calls are remembered.

mod call;
mod handle;
mod reply;

use super::super::{
    network::Network,
    text::{Printed, Text, put},
    view::{Truncated, View},
};

const PORT: u16 = 2049;
const CALL: u32 = 0;
const REPLY: u32 = 1;

/// The remembered fields of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Call {
    procedure: u32,
    version: u32,
}

/// Procedures, by their numbers in version 3.
const PROCEDURES: [&str; 22] = [
    "null",
    "getattr",
    "setattr",
    "lookup",
    "access",
    "readlink",
    "read",
    "write",
    "create",
    "mkdir",
    "symlink",
    "mknod",
    "remove",
    "rmdir",
    "rename",
    "link",
    "readdir",
    "readdirplus",
    "fsstat",
    "fsinfo",
    "pathconf",
    "commit",
];
/// Stand-ins for procedures of version 2 without one in version 3.
const NONE: u32 = 25;
/// The same, by their numbers in version 2.
const VERSION_2: [u32; 26] = [
    0, 1, 2, NONE, 3, 5, 6, NONE, 7, 8, 12, 14, 15, 10, 9, 13, 16, 18, NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, NONE,
];

impl Call {
    fn is_version_3(self) -> bool {
        self.version == 3
    }

    /// The procedure's number in version 3.
    fn procedure(self) -> u32 {
        let version_2 = usize::try_from(self.procedure).ok().and_then(|number| VERSION_2.get(number));
        match version_2 {
            Some(number) if !self.is_version_3() => *number,
            _ => self.procedure,
        }
    }

    fn put_name(self, text: &mut Text<'_>) {
        let number = self.procedure();
        match usize::try_from(number).ok().and_then(|number| PROCEDURES.get(number)) {
            Some(name) => put!(text, " {name}"),
            None if number == NONE => put!(text, " nop"),
            None => put!(text, " proc-{number}"),
        }
    }
}

/// Prints a message to or from the server, after its length in TCP; returns whether it is one.
pub(super) fn over_tcp(
    text: &mut Text<'_>,
    payload: View<'_>,
    ports: (u16, u16),
    below: &Network,
) -> Printed<bool> {
    let (true, Ok(head)) = (payload.len() >= 4, payload.u32(0)) else { return Ok(false) };
    let rest = payload.after(4);
    let len = usize::try_from(head & 0x7fff_ffff).map_err(|_| Truncated)?.min(rest.len());
    print(text, rest.of_len(len), ports, below, ": ")
}

/// Prints a message to or from the server; returns whether it is one.
pub(in super::super) fn over_udp(
    text: &mut Text<'_>,
    message: View<'_>,
    ports: (u16, u16),
    below: &Network,
) -> Printed<bool> {
    print(text, message, ports, below, "")
}

fn print(
    text: &mut Text<'_>,
    message: View<'_>,
    (source, destination): (u16, u16),
    below: &Network,
    before: &str,
) -> Printed<bool> {
    let Ok(direction) = message.u32(4) else { return Ok(false) };
    let (is_call, is_reply) =
        (destination == PORT && direction == CALL, source == PORT && direction == REPLY);
    if !is_call && !is_reply {
        return Ok(false);
    }
    let number = message.u32(0)?;
    put!(text, "{before}NFS {} xid {number} ", if is_call { "request" } else { "reply" });
    text.protocol = "nfs";
    if is_call {
        put!(text, "{}", message.len());
        let (version, procedure) = (message.u32(16)?, message.u32(20)?);
        let call = Call { procedure, version };
        text.memory.remember_call([below.source.0, below.destination.0], number, call);
        call::print(text, message, call)?;
    } else {
        let call = text.memory.call([below.destination.0, below.source.0], number);
        reply::print(text, message, call)?;
    }
    Ok(true)
}

/// Reads a message word by word.
struct Cursor<'a> {
    message: View<'a>,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn u32(&mut self) -> Printed<u32> {
        let word = self.message.u32(self.at)?;
        self.at += 4;
        Ok(word)
    }

    fn u64(&mut self) -> Printed<u64> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    fn bytes(&mut self, len: usize) -> Printed<&'a [u8]> {
        let bytes = self.message.get(self.at, len)?;
        self.at += len;
        Ok(bytes)
    }

    /// A string of bytes after its length, padded to words.
    fn opaque(&mut self) -> Printed<&'a [u8]> {
        let len = usize::try_from(self.u32()?).map_err(|_| Truncated)?;
        let padded = len.checked_next_multiple_of(4).ok_or(Truncated)?;
        self.bytes(padded).map(|bytes| &bytes[..len])
    }

    fn put_name(&mut self, text: &mut Text<'_>) -> Printed {
        const MOST: u32 = u32::MAX - 3;
        if self.message.u32(self.at)? > MOST {
            put!(text, "[cannot pad to 32-bit boundaries]");
            text.invalid();
            return Err(Truncated);
        }
        let name = self.opaque()?;
        put!(text, "\"");
        text.escaped(name);
        put!(text, "\"");
        Ok(())
    }
}

fn put_kind(text: &mut Text<'_>, kind: u32, otherwise: &str) {
    const KINDS: [(u32, &str); 7] =
        [(0, "NON"), (1, "REG"), (2, "DIR"), (3, "BLK"), (4, "CHR"), (5, "LNK"), (8, "FIFO")];
    put!(text, " ");
    text.name_or(&KINDS, kind, format_args!("unk-ft {kind}{otherwise}"));
}
