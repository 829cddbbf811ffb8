//! The socket: UMEM, fill ring, RX ring.

use std::{
    ffi::CString,
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use mirror_lab_xsk::bind_when_free;

/// Sizes of a socket's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// Descriptors of the RX ring, a power of two. The fill ring has twice as many.
    pub rx_ring: u32,
    /// Chunks of the UMEM, at most as many as the fill ring has descriptors.
    pub umem_frames: u32,
    /// Bytes of a chunk, 2048 or 4096.
    pub chunk_size: u32,
    /// Bytes in front of a frame beside those that XDP keeps for itself: they decide which of its bytes share
    /// a line.
    pub headroom: u32,
}

impl Sizes {
    /// Descriptors of the longest RX ring that the engine takes.
    pub const LONGEST_RX_RING: u32 = 32_768;
    /// Chunks beyond those that the RX ring holds: a batch, as the engine has it.
    pub const SPARE: u32 = 64;

    /// The same with the longest RX ring.
    #[must_use]
    pub fn longest_ring(self) -> Self {
        let (rx_ring, umem_frames) = (Self::LONGEST_RX_RING, Self::LONGEST_RX_RING + Self::SPARE);
        Self { rx_ring, umem_frames, ..self }
    }
}

/// Memory that is mapped as long as this lives.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, and this value is its only owner.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(len: usize, flags: i32, fd: i32, offset: libc::off_t) -> io::Result<Self> {
        // SAFETY: the kernel chooses where, so nothing that exists is mapped over.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a mapping at address 0"))?;
        Ok(Self { start, len })
    }

    fn umem(len: usize) -> io::Result<Self> {
        Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1, 0)
    }

    fn ring(socket: &OwnedFd, len: usize, offset: libc::off_t) -> io::Result<Self> {
        Self::new(len, libc::MAP_SHARED | libc::MAP_POPULATE, socket.as_raw_fd(), offset)
    }

    /// A pointer `offset` bytes into it.
    fn at<T>(&self, offset: u64) -> *mut T {
        self.start.as_ptr().wrapping_add(usize::try_from(offset).unwrap_or(usize::MAX)).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the whole of one mapping, made in `new`, and no pointer into it outlives its owner.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// User space's end of a ring: producer and consumer indices, and entries of type `T`.
#[derive(Debug)]
struct Ring<T> {
    producer: *const AtomicU32,
    consumer: *const AtomicU32,
    entries: *mut T,
    mask: u32,
    /// Ours: the consumer of RX, the producer of fill.
    own: u32,
    /// The kernel's, as last read.
    other: u32,
    _mapping: Mapping,
}

// SAFETY: its pointers go into the mapping it owns.
unsafe impl<T> Send for Ring<T> {}

impl<T> Ring<T> {
    fn map(
        socket: &OwnedFd,
        entries: u32,
        offsets: &libc::xdp_ring_offset,
        page_offset: libc::off_t,
    ) -> io::Result<Self> {
        let len = offsets.desc + u64::from(entries) * size_of::<T>() as u64;
        let mapping = Mapping::ring(socket, usize::try_from(len).unwrap_or(usize::MAX), page_offset)?;
        Ok(Self {
            producer: mapping.at(offsets.producer),
            consumer: mapping.at(offsets.consumer),
            entries: mapping.at(offsets.desc),
            mask: entries - 1,
            own: 0,
            other: 0,
            _mapping: mapping,
        })
    }
}

impl Ring<libc::xdp_desc> {
    /// How many descriptors are there to be read, at most `most`.
    fn peek(&mut self, most: u32) -> u32 {
        if self.other.wrapping_sub(self.own) < most {
            // SAFETY: the pointer is into the mapping, at the offset the kernel gave for its producer index.
            self.other = unsafe { &*self.producer }.load(Ordering::Acquire);
        }
        self.other.wrapping_sub(self.own).min(most)
    }

    /// The address in the `nth` of the descriptors that [`peek`](Self::peek) counted.
    fn address(&self, nth: u32) -> u64 {
        let place = (self.own.wrapping_add(nth) & self.mask) as usize;
        // SAFETY: masked, so within the entries; the kernel writes there again only after `release`.
        unsafe { self.entries.wrapping_add(place).read() }.addr
    }

    fn release(&mut self, count: u32) {
        self.own = self.own.wrapping_add(count);
        // SAFETY: as in `peek`, for the consumer index.
        unsafe { &*self.consumer }.store(self.own, Ordering::Release);
    }
}

impl Ring<u64> {
    /// Writes the `nth` entry after those that were submitted. There is always room: the ring holds all
    /// chunks there are.
    fn put(&mut self, nth: u32, address: u64) {
        let place = (self.own.wrapping_add(nth) & self.mask) as usize;
        // SAFETY: masked, so within the entries; the kernel reads there only after `submit`.
        unsafe { self.entries.wrapping_add(place).write(address) };
    }

    fn submit(&mut self, count: u32) {
        self.own = self.own.wrapping_add(count);
        // SAFETY: as in `peek` above, for the producer index.
        unsafe { &*self.producer }.store(self.own, Ordering::Release);
    }
}

/// An AF_XDP socket bound to one queue in copy mode, all of its chunks in the fill ring.
#[derive(Debug)]
pub struct RawSocket {
    rx: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
    umem: Mapping,
    socket: OwnedFd,
}

impl RawSocket {
    /// Binds in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn open(interface: &str, queue: u32, sizes: Sizes) -> Result<Self> {
        let Sizes { rx_ring, umem_frames, chunk_size, headroom } = sizes;
        ensure!(rx_ring.is_power_of_two() && umem_frames <= rx_ring * 2, "impossible sizes: {sizes:?}");
        // SAFETY: no pointer is given.
        let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error()).context("AF_XDP socket");
        }
        // SAFETY: it was just made and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };

        let bytes = u64::from(umem_frames) * u64::from(chunk_size);
        let umem = Mapping::umem(usize::try_from(bytes)?).context("UMEM")?;
        // SAFETY: all of its fields are numbers.
        let mut registration: libc::xdp_umem_reg = unsafe { mem::zeroed() };
        registration.addr = umem.start.as_ptr().expose_provenance() as u64;
        registration.len = bytes;
        registration.chunk_size = chunk_size;
        registration.headroom = headroom;
        set(&socket, libc::XDP_UMEM_REG, &registration).context("XDP_UMEM_REG")?;
        set(&socket, libc::XDP_UMEM_FILL_RING, &(rx_ring * 2)).context("XDP_UMEM_FILL_RING")?;
        // Never used, but bind asks for one.
        set(&socket, libc::XDP_UMEM_COMPLETION_RING, &64_u32).context("XDP_UMEM_COMPLETION_RING")?;
        set(&socket, libc::XDP_RX_RING, &rx_ring).context("XDP_RX_RING")?;
        let offsets: libc::xdp_mmap_offsets =
            get(&socket, libc::XDP_MMAP_OFFSETS).context("XDP_MMAP_OFFSETS")?;
        let rx = Ring::map(&socket, rx_ring, &offsets.rx, libc::XDP_PGOFF_RX_RING).context("RX ring")?;
        let fill_at = libc::off_t::try_from(libc::XDP_UMEM_PGOFF_FILL_RING)?;
        let mut fill = Ring::map(&socket, rx_ring * 2, &offsets.fr, fill_at).context("fill ring")?;
        for chunk in 0..umem_frames {
            fill.put(chunk, u64::from(chunk) * u64::from(chunk_size));
        }
        fill.submit(umem_frames);
        bind(&socket, interface, queue)?;
        Ok(Self { rx, fill, umem, socket })
    }

    /// Takes up to `most` frames off the RX ring and gives their chunks back; `look` is given where each
    /// lies.
    pub(super) fn take(&mut self, most: u32, mut look: impl FnMut(*const u8)) -> u32 {
        let count = self.rx.peek(most);
        if count == 0 {
            return 0;
        }
        for nth in 0..count {
            let address = self.rx.address(nth);
            look(self.umem.at::<u8>(address));
            // Aligned chunks: the kernel takes any address within one for the whole.
            self.fill.put(nth, address);
        }
        self.rx.release(count);
        self.fill.submit(count);
        count
    }

    /// Sleeps until the RX ring has something, or the time is over.
    pub(super) fn sleep(&self, milliseconds: i32) {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which lives through the call. What it returns says no more than the ring does.
        unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
    }

    /// The kernel's own account of the socket.
    ///
    /// # Errors
    ///
    /// Where the kernel has none.
    pub fn statistics(&self) -> Result<libc::xdp_statistics> {
        get(&self.socket, libc::XDP_STATISTICS).context("XDP_STATISTICS")
    }

    /// The socket, for the XSKMAP.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd as _;
        self.socket.as_fd()
    }
}

fn set<T>(socket: &OwnedFd, option: i32, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let value = ptr::from_ref(value).cast();
    // SAFETY: the kernel reads `len` bytes of a value of that size during the call.
    let refused = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, value, len) };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option that consists of numbers.
fn get<T: Copy>(socket: &OwnedFd, option: i32) -> io::Result<T> {
    // SAFETY: the callers' types have numbers for fields, for which zeros are values.
    let mut value: T = unsafe { mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let place = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `len` bytes to a value of that size.
    let refused = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, place, &raw mut len) };
    if refused == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn bind(socket: &OwnedFd, interface: &str, queue: u32) -> Result<()> {
    let name = CString::new(interface)?;
    // SAFETY: a string that ends with 0 and lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "{interface}: no such interface");
    let address = libc::sockaddr_xdp {
        sxdp_family: u16::try_from(libc::AF_XDP)?,
        sxdp_flags: libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: index,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = libc::socklen_t::try_from(size_of_val(&address))?;
    bind_when_free(&format!("{interface}: an AF_XDP socket on queue {queue}"), || {
        // SAFETY: the kernel reads `len` bytes of an address of that size during the call.
        let refused = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })?;
    Ok(())
}
