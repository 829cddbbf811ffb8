//! A raw `AF_PACKET` socket bound to an interface: frames leave it as they are given.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, send, setsockopt,
        socket, sockopt,
    },
};

use crate::{
    error::{LabError, Result},
    namespace::Namespace,
};

/// Bytes that may wait in the socket before a send blocks.
const SEND_BUFFER: usize = 1 << 20;

/// See the module. It sends only: protocol 0 keeps the kernel from queueing what arrives (packet(7)).
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    interface: String,
}

impl PacketSocket {
    pub(crate) fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let failed = |error: Errno| {
            LabError::io(format!("raw socket on {interface} in {}", namespace.name()), io::Error::from(error))
        };
        let socket = namespace.enter(|| {
            let index = if_nametoindex(interface)?;
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER)?;
            let address = link_address(index).ok_or(Errno::EINVAL)?;
            bind(socket.as_raw_fd(), &address)?;
            Ok(socket)
        })?;
        Ok(Self { socket: socket.map_err(failed)?, interface: interface.to_owned() })
    }

    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(sent) if sent == frame.len() => return Ok(()),
                Ok(sent) => {
                    return Err(LabError::Unexpected(format!(
                        "{sent} of {} bytes sent on {}",
                        frame.len(),
                        self.interface
                    )));
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    return Err(LabError::io(
                        format!("a frame of {} bytes on {}", frame.len(), self.interface),
                        error,
                    ));
                }
            }
        }
    }
}

/// The address that binds a packet socket to an interface by its index, to no protocol.
fn link_address(index: u32) -> Option<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).ok()?,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index).ok()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = u32::try_from(size_of::<libc::sockaddr_ll>()).ok()?;
    // SAFETY: the pointer is to a whole `sockaddr_ll` of family AF_PACKET that outlives the call, and `len` is its
    // size; `from_raw` copies it.
    unsafe { LinkAddr::from_raw((&raw const address).cast::<libc::sockaddr>(), Some(len)) }
}
