//! Raw `AF_PACKET` sockets bound to an interface: those that send given frames, and one that receives all.

use std::{
    io::{self, IoSlice},
    mem::size_of,
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrLike as _, bind, recv,
        send, sendmmsg, setsockopt, socket, sockopt,
    },
};

use crate::{
    error::{LabError, Result},
    namespace::Namespace,
};

/// Bytes that may wait in the socket before a send blocks.
const SEND_BUFFER: usize = 1 << 20;
/// How long a NIC without a queueing discipline may refuse a frame.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_micros(100);

/// See the module. It sends only: protocol 0 keeps the kernel from queueing what arrives (packet(7)).
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    interface: String,
    /// Whether frames go by no queueing discipline.
    direct: bool,
}

impl PacketSocket {
    pub(crate) fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket =
            open(namespace, interface, 0, |socket| setsockopt(socket, sockopt::SndBuf, &SEND_BUFFER))?;
        Ok(Self { socket, interface: interface.to_owned(), direct: false })
    }

    /// Passes frames to the driver without a queueing discipline (`PACKET_QDISC_BYPASS`, packet(7)), with
    /// retries while its ring is full. `fq_codel` drops frames that have waited long without an error or a
    /// count in `tx_dropped`.
    pub(crate) fn direct(mut self) -> Result<Self> {
        switch_on(&self.socket, libc::PACKET_QDISC_BYPASS)
            .map_err(|error| LabError::io(format!("PACKET_QDISC_BYPASS on {}", self.interface), error))?;
        self.direct = true;
        Ok(self)
    }

    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        let mut refused = None::<Instant>;
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
                Err(Errno::ENOBUFS)
                    if self.direct && refused.get_or_insert_with(Instant::now).elapsed() < REFUSED_FOR =>
                {
                    thread::sleep(AGAIN_AFTER);
                }
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

/// Sends [super-frames](crate::super_frames), which the device segments, or has whole.
#[derive(Debug)]
pub struct SuperFrameSocket {
    socket: OwnedFd,
    interface: String,
}

impl SuperFrameSocket {
    /// A socket on an interface.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if there is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = open(namespace, interface, 0, |socket| {
            setsockopt(socket, sockopt::SndBuf, &SEND_BUFFER)?;
            switch_on(socket, libc::PACKET_VNET_HDR)
        })?;
        Ok(Self { socket, interface: interface.to_owned() })
    }

    /// Sends a frame behind its virtio header; whether the device had room for it.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the kernel refuses it.
    pub fn send(&self, frame: &[u8]) -> Result<bool> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::ENOBUFS) => Ok(false),
            Err(error) => Err(LabError::io(format!("a super-frame on {}", self.interface), error)),
        }
    }
}

/// Sends one frame many times, as fast as the kernel takes it.
#[derive(Debug)]
pub struct RepeatSocket {
    socket: OwnedFd,
    interface: String,
}

impl RepeatSocket {
    /// A socket on an interface.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if there is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let PacketSocket { socket, interface, .. } = PacketSocket::open(namespace, interface)?;
        Ok(Self { socket, interface })
    }

    /// Sends it this long, so many times a system call (sendmmsg(2)), and returns how many the kernel took.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the kernel refuses it.
    pub fn send(&self, frame: &[u8], a_call: usize, time: Duration) -> Result<u64> {
        let mut headers = MultiHeaders::<LinkAddr>::preallocate(a_call, None);
        let parts = vec![[IoSlice::new(frame)]; a_call];
        let to = vec![None; a_call];
        let (start, mut taken) = (Instant::now(), 0);
        while start.elapsed() < time {
            let flags = MsgFlags::empty();
            let sent = sendmmsg(self.socket.as_raw_fd(), &mut headers, &parts, &to, [], flags)
                .map_err(|error| LabError::io(format!("frames on {}", self.interface), error))?;
            taken += sent.count() as u64;
        }
        Ok(taken)
    }
}

/// Receives every incoming and outgoing frame of an interface, like tcpdump, which guests do not have.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

/// Bytes that may wait in a [`Listener`].
const RECEIVE_BUFFER: usize = 8 << 20;
/// The longest frame that is received whole.
const LONGEST: usize = 65_536;

impl Listener {
    /// Starts to listen.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if there is no such interface, or the socket is refused.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let all = u16::try_from(libc::ETH_P_ALL).unwrap_or(0);
        let buffer = |socket: &OwnedFd| setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        Ok(Self { socket: open(namespace, interface, all, buffer)? })
    }

    /// What was received since the last call, in sequence.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the socket fails; an interface that goes down is not an error.
    pub fn frames(&self) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; LONGEST];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => frames.push(buffer[..len].to_vec()),
                Err(Errno::EAGAIN) => return Ok(frames),
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(error) => return Err(LabError::io("a raw socket that listens", error)),
            }
        }
    }
}

/// A socket of this protocol of Ethernet, which is 0 for none.
fn open(
    namespace: &Namespace,
    interface: &str,
    protocol: u16,
    prepare: impl FnOnce(&OwnedFd) -> nix::Result<()> + Send,
) -> Result<OwnedFd> {
    let opened = namespace.enter(|| {
        let index = if_nametoindex(interface)?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        prepare(&socket)?;
        let address = link_address(index, protocol).ok_or(Errno::EINVAL)?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(socket)
    })?;
    opened.map_err(|error: Errno| {
        LabError::io(format!("raw socket on {interface} in {}", namespace.name()), io::Error::from(error))
    })
}

/// Switches an option of packet(7) on.
fn switch_on(socket: &OwnedFd, option: libc::c_int) -> nix::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to an int that outlives the call, and the length is its size in bytes; the
    // kernel reads it.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            libc::c_int::BITS / 8,
        )
    };
    Errno::result(answer).map(drop)
}

/// The address that binds a packet socket to an interface by its index, and to a protocol.
fn link_address(index: u32, protocol: u16) -> Option<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).ok()?,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(index).ok()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = u32::try_from(size_of::<libc::sockaddr_ll>()).ok()?;
    // SAFETY: the pointer is to a whole `sockaddr_ll` of family AF_PACKET that outlives the call, and `len`
    // is its size; `from_raw` copies it.
    unsafe { LinkAddr::from_raw((&raw const address).cast::<libc::sockaddr>(), Some(len)) }
}
