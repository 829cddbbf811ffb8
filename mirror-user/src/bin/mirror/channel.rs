//! Messages between processes of one run: JSON, with descriptors, over a SOCK_SEQPACKET socket.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::retry_on_intr,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
        socketpair,
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// The longest text that a message holds, in bytes.
pub(crate) const LONGEST_TEXT: usize = 64 << 10;
/// The longest message: JSON may take two bytes for one, for each line for example.
const LONGEST: usize = 2 * LONGEST_TEXT + 4096;
/// The most descriptors of a message.
pub(crate) const MOST_DESCRIPTORS: usize = 64;

/// Both ends of a connection.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    pass(socket, &serde_json::to_vec(message)?, descriptors)
}

/// Sends bytes with descriptors.
pub(crate) fn pass(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let parts = [IoSlice::new(bytes)];
    retry_on_intr(|| sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The bytes and descriptors of the next message; `None` if the other process has ended.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags));
    let received = match received {
        // The other end was closed with messages unread.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        received => received?,
    };
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let descriptors: Vec<_> = descriptors.collect();
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, descriptors)))
}

/// Whether there is a message, or the end; waits for one, at most so long.
pub(crate) fn has_message(socket: BorrowedFd<'_>, milliseconds: u16) -> io::Result<bool> {
    match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::from(milliseconds)) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A message of bytes.
pub(crate) fn parse<M: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<M> {
    serde_json::from_slice(bytes)
}

/// A text of any length, as a descriptor to send.
pub(crate) fn text(text: &str) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create(c"mirror-text", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    Ok(file.into())
}

/// The text of a descriptor.
pub(crate) fn read_text(descriptor: OwnedFd) -> io::Result<String> {
    let mut file = std::fs::File::from(descriptor);
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Borrows descriptors to send.
pub(crate) fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(OwnedFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn messages_come_with_their_descriptors_and_texts_of_any_length() {
        let (ours, theirs) = pair().unwrap();
        let long = "é".repeat(2 * LONGEST);
        let texts: Vec<_> = (0..MOST_DESCRIPTORS).map(|number| text(&format!("{number}{long}"))).collect();
        let texts: Vec<_> = texts.into_iter().map(Result::unwrap).collect();
        assert!(!has_message(theirs.as_fd(), 0).unwrap());
        send(ours.as_fd(), &"hello", &borrowed(&texts)).unwrap();
        assert!(has_message(theirs.as_fd(), 0).unwrap());
        drop(texts);
        let (bytes, descriptors) = receive(theirs.as_fd()).unwrap().unwrap();
        assert_eq!(parse::<String>(&bytes).unwrap(), "hello");
        assert_eq!(descriptors.len(), MOST_DESCRIPTORS);
        for (number, descriptor) in descriptors.into_iter().enumerate() {
            assert_eq!(read_text(descriptor).unwrap(), format!("{number}{long}"));
        }
    }

    #[test]
    fn an_end_is_no_message_and_one_that_is_too_long_is_an_error() {
        let (ours, theirs) = pair().unwrap();
        rustix::net::send(&ours, &vec![b'1'; LONGEST + 1], SendFlags::empty()).unwrap();
        assert_eq!(receive(theirs.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        send(ours.as_fd(), &Value::Null, &[]).unwrap();
        drop(ours);
        assert_eq!(receive(theirs.as_fd()).unwrap().unwrap().0, b"null");
        assert!(receive(theirs.as_fd()).unwrap().is_none());
        // With a message unread at the other end.
        let (ours, theirs) = pair().unwrap();
        send(theirs.as_fd(), &Value::Null, &[]).unwrap();
        drop(ours);
        assert!(receive(theirs.as_fd()).unwrap().is_none());
    }
}
