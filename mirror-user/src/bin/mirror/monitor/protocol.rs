//! The protocol between a run and its monitor: a message of JSON each way, with descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::retry_on_intr,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest configuration file, in bytes.
pub(super) const LONGEST_FILE: usize = 64 << 10;
/// The longest message: JSON may take two bytes for one, for each line for example.
const LONGEST: usize = 2 * LONGEST_FILE + 4096;
/// The most descriptors of a message.
const MOST_DESCRIPTORS: usize = 8;

/// What a run may ask for.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// The configuration file as it is now.
    Configuration,
    /// A target of the configuration that was read last.
    Open {
        target: String,
        /// See [`ForwardBuilder::max_frame`](mirror_user::sink::forward::ForwardBuilder::max_frame).
        max_frame: usize,
    },
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It takes requests.
    Ready,
    /// The text of the file, which is valid.
    Configuration { text: String },
    /// The parts of a target, with descriptors; the last of them is its lifeline.
    Opened { interface: Option<(u32, String)> },
    /// Why it is refused.
    Refused { message: String },
}

/// Sends a message.
pub(super) fn send(socket: BorrowedFd<'_>, message: &impl Serialize, fds: &[OwnedFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let parts = [IoSlice::new(&bytes)];
    retry_on_intr(|| sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The bytes and descriptors of the next message; `None` if the other process has ended.
pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received =
        retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags))?;
    let fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    });
    let fds: Vec<_> = fds.collect();
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, fds)))
}

/// A message of bytes.
pub(super) fn parse<M: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<M> {
    serde_json::from_slice(bytes)
}
