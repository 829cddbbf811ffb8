//! Netlink requests on a socket of our own; neli reads and writes the messages.

use std::{
    io::{self, Cursor},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use neli::{
    FromBytesWithInput, Size, ToBytes,
    consts::nl::{NlType, NlmF},
    genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, NlattrBuilder},
    nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder},
    types::{GenlBuffer, NlBuffer},
};
use nix::errno::Errno;
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
        socket, sockopt,
    },
    time::{TimeVal, TimeValLike},
};

/// Dumps come in pieces of at most 32 KiB; one link with many virtual functions may be larger.
const BUFFER: usize = 128 << 10;
/// Generic netlink's controller, see `linux/genetlink.h`.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// How often a dump that changed meanwhile is requested again.
const DUMP_ATTEMPTS: usize = 8;

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A generic netlink message whose attributes are known by number.
pub(super) type Generic = Genlmsghdr<u8, u16>;

impl Netlink {
    /// A socket for requests; `groups` is the mask of multicast groups it receives as well (`RTMGRP_*`).
    pub(super) fn open(protocol: SockProtocol, groups: u32) -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        // The kernel answers before send(2) returns; the time limit is a safeguard.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
        Ok(Self::on(socket))
    }

    /// On a socket that another process has opened so.
    pub(super) fn on(socket: OwnedFd) -> Self {
        Self { socket, sequence: 0, buffer: vec![0; BUFFER] }
    }

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends one request and returns the answer: one payload, or for a dump all of them.
    pub(super) fn request<T, P>(&mut self, kind: T, dump: bool, payload: &P) -> io::Result<Vec<P>>
    where
        T: NlType + std::fmt::Debug,
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + Clone + std::fmt::Debug,
    {
        let flags = if dump { NlmF::DUMP } else { NlmF::empty() };
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(answers) = self.attempt(kind, flags, payload.clone())? {
                return Ok(answers);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the list changed each time it was read"))
    }

    /// Sends a request that changes something, and waits until that is done.
    pub(super) fn change<T, P>(&mut self, kind: T, payload: P) -> io::Result<()>
    where
        T: NlType + std::fmt::Debug,
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + Clone + std::fmt::Debug,
    {
        self.attempt(kind, NlmF::ACK, payload).map(drop)
    }

    /// The same for a request that makes something, which must not exist (EEXIST).
    pub(super) fn create<T, P>(&mut self, kind: T, payload: P) -> io::Result<()>
    where
        T: NlType + std::fmt::Debug,
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + Clone + std::fmt::Debug,
    {
        self.attempt(kind, NlmF::ACK | NlmF::CREATE | NlmF::EXCL, payload).map(drop)
    }

    /// The same for a request that makes something, in place of what there is.
    pub(super) fn replace<T, P>(&mut self, kind: T, payload: P) -> io::Result<()>
    where
        T: NlType + std::fmt::Debug,
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + Clone + std::fmt::Debug,
    {
        self.attempt(kind, NlmF::ACK | NlmF::CREATE | NlmF::REPLACE, payload).map(drop)
    }

    /// `None` when the list changed meanwhile (`NLM_F_DUMP_INTR`).
    fn attempt<T, P>(&mut self, kind: T, flags: NlmF, payload: P) -> io::Result<Option<Vec<P>>>
    where
        T: NlType + std::fmt::Debug,
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + Clone + std::fmt::Debug,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let message = NlmsghdrBuilder::default()
            .nl_type(kind)
            .nl_flags(NlmF::REQUEST | flags)
            .nl_seq(self.sequence)
            .nl_payload(NlPayload::Payload(payload))
            .build()
            .map_err(invalid)?;
        let mut bytes = Cursor::new(vec![0; message.padded_size()]);
        message.to_bytes(&mut bytes).map_err(invalid)?;
        // Without an address a netlink socket sends to the kernel.
        send(self.socket.as_raw_fd(), bytes.get_ref(), MsgFlags::empty())?;

        let mut answers = Vec::new();
        let mut changed = false;
        loop {
            for message in self.receive::<T, P>(MsgFlags::empty())? {
                if *message.nl_seq() != self.sequence {
                    continue;
                }
                changed |= message.nl_flags().contains(NlmF::DUMP_INTR);
                match message.nl_payload() {
                    NlPayload::Payload(answer) => {
                        answers.push(answer.clone());
                        if !flags.contains(NlmF::DUMP) {
                            return Ok(Some(answers));
                        }
                    }
                    NlPayload::Err(error) => return Err(errno(*error.error())),
                    NlPayload::DumpExtAck(end) if *end.error() != 0 => return Err(errno(*end.error())),
                    NlPayload::DumpExtAck(_) | NlPayload::Empty | NlPayload::Ack(_) => {
                        return Ok((!changed).then_some(answers));
                    }
                }
            }
        }
    }

    /// The messages of one datagram.
    pub(super) fn receive<T, P>(&mut self, flags: MsgFlags) -> io::Result<Vec<Nlmsghdr<T, P>>>
    where
        T: NlType + std::fmt::Debug,
        P: Size + FromBytesWithInput<Input = usize> + std::fmt::Debug,
    {
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, flags | MsgFlags::MSG_TRUNC)?;
        let bytes = self.buffer.get(..length).ok_or_else(|| invalid("an answer larger than the buffer"))?;
        let messages = NlBuffer::from_bytes_with_input(&mut Cursor::new(bytes), length).map_err(invalid)?;
        Ok(messages.into_iter().collect())
    }

    /// Discards the messages to the groups, and returns whether there were any, messages that the kernel had
    /// to drop (ENOBUFS) included.
    pub(super) fn drain(&mut self) -> io::Result<bool> {
        let mut heard = false;
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::ENOBUFS) => heard = true,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(heard),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The number of a generic netlink family; an error of kind `NotFound` where the kernel has none of that
    /// name.
    pub(super) fn family(&mut self, name: &str) -> io::Result<u16> {
        let request =
            generic(CTRL_CMD_GETFAMILY, &[(CTRL_ATTR_FAMILY_NAME, [name.as_bytes(), &[0]].concat())])?;
        let answers = self.request(GENL_ID_CTRL, false, &request)?;
        let id = answers.first().and_then(|family| attribute(family, CTRL_ATTR_FAMILY_ID));
        let id = id.and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
        id.ok_or_else(|| invalid("a generic netlink family without a number"))
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A generic netlink message of `command` with attributes whose values are in host byte order.
pub(super) fn generic(command: u8, attributes: &[(u16, Vec<u8>)]) -> io::Result<Generic> {
    let mut buffer = GenlBuffer::new();
    for (kind, value) in attributes {
        let kind = AttrTypeBuilder::default().nla_type(*kind).build().map_err(invalid)?;
        let value = neli::types::Buffer::from(value.clone());
        buffer.push(NlattrBuilder::default().nla_type(kind).nla_payload(value).build().map_err(invalid)?);
    }
    GenlmsghdrBuilder::default().cmd(command).version(1).attrs(buffer).build().map_err(invalid)
}

/// The value of an attribute of a generic netlink message.
pub(super) fn attribute(message: &Generic, kind: u16) -> Option<&[u8]> {
    let attribute = message.attrs().iter().find(|a| *a.nla_type().nla_type() == kind)?;
    Some(attribute.nla_payload().as_ref())
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.wrapping_neg())
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
