//! Messages that are sent many at a time: sendmmsg(2).

use std::{
    fmt,
    io::{self, IoSlice},
    os::fd::{AsRawFd as _, BorrowedFd},
};

use arrayvec::ArrayVec;
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg},
};

/// The most messages per system call.
pub(crate) const BURST: usize = 64;

/// The destination of each: that of the socket.
const NOWHERE: &[Option<SockaddrStorage>; BURST] = &[None; BURST];

/// Room for the headers of a burst. It holds pointers, and is not `Send`.
pub(crate) struct Burst(MultiHeaders<SockaddrStorage>);

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Burst").finish_non_exhaustive()
    }
}

impl Burst {
    pub(crate) fn new() -> Self {
        Self(MultiHeaders::preallocate(BURST, None))
    }

    /// Sends at most [`BURST`] messages, each in two parts, to where the socket is connected or bound to.
    /// Does not block. Calls `outcome` with how many were sent, and with the error of each that was not.
    pub(crate) fn send<H: AsRef<[u8]>>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: &[(H, &[u8])],
        mut outcome: impl FnMut(io::Result<u64>),
    ) {
        let mut rest = messages;
        while !rest.is_empty() {
            let parts: ArrayVec<[IoSlice<'_>; 2], BURST> = rest
                .iter()
                .map(|(headers, payload)| [IoSlice::new(headers.as_ref()), IoSlice::new(payload)])
                .collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let sent = sendmmsg(socket.as_raw_fd(), &mut self.0, &parts, &NOWHERE[..parts.len()], [], flags)
                .map(Iterator::count);
            match sent {
                Ok(sent) => {
                    outcome(Ok(sent as u64));
                    rest = rest.get(sent.max(1)..).unwrap_or_default();
                }
                Err(Errno::EINTR) => {}
                // The error is about the first of them.
                Err(errno) => {
                    outcome(Err(errno.into()));
                    rest = &rest[1..];
                }
            }
        }
    }
}
