//! Our own view of the two rings that carry frames.
//!
//! libxdp makes socket and rings; its accessors are functions of a C library, at least two calls for each frame. Here
//! the same rings are mapped once more and worked on in place, by the protocol of
//! `Documentation/networking/af_xdp.rst` and the kernel's `net/xdp/xsk_queue.h`: each side owns one index, reads the
//! other's with acquire, and publishes its own with release.

use std::{
    io,
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::{AsRawFd, RawFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering},
};

/// Ring entries are read and written under this mask.
#[derive(Clone, Copy, Debug)]
struct Mask(u32);

impl Mask {
    fn place(self, index: u32) -> usize {
        (index & self.0) as usize
    }
}

/// The RX ring: the kernel produces, the worker consumes.
#[derive(Debug)]
pub(super) struct RxRing {
    memory: Memory<libc::xdp_desc>,
    /// Our index, up to where descriptors were given back.
    consumed: u32,
    /// The kernel's, as last read.
    produced: u32,
}

/// The fill ring: the worker produces, the kernel consumes.
#[derive(Debug)]
pub(super) struct FillRing {
    memory: Memory<u64>,
    /// Our index.
    produced: u32,
}

/// Maps the rings of a socket that libxdp has made, before anything was put into them.
pub(super) fn map(socket: &impl AsRawFd, rx: u32, fill: u32) -> io::Result<(RxRing, FillRing)> {
    let socket = socket.as_raw_fd();
    let offsets = offsets(socket)?;
    let rx = Memory::map(socket, rx, &offsets.rx, libc::XDP_PGOFF_RX_RING)?;
    let at = libc::off_t::try_from(libc::XDP_UMEM_PGOFF_FILL_RING).map_err(io::Error::other)?;
    let fill = Memory::map(socket, fill, &offsets.fr, at)?;
    Ok((RxRing { memory: rx, consumed: 0, produced: 0 }, FillRing { memory: fill, produced: 0 }))
}

impl RxRing {
    /// How many descriptors can be read, at most `most`. The kernel's index is read only when what is known of it does
    /// not suffice: each look costs the kernel's core its cache line.
    pub(super) fn available(&mut self, most: u32) -> u32 {
        if self.produced.wrapping_sub(self.consumed) < most {
            self.produced = self.memory.producer().load(Ordering::Acquire);
        }
        self.produced.wrapping_sub(self.consumed).min(most)
    }

    /// The `nth` of those that [`available`](Self::available) counted.
    pub(super) fn descriptor(&self, nth: u32) -> libc::xdp_desc {
        debug_assert!(nth < self.produced.wrapping_sub(self.consumed));
        let place = self.memory.entry(self.consumed.wrapping_add(nth));
        // SAFETY: within the entries, by the mask. The kernel wrote it before it published its index, which was read
        // with acquire, and writes there again only after `release`.
        unsafe { place.read() }
    }

    /// Gives the first `count` descriptors' places back.
    pub(super) fn release(&mut self, count: u32) {
        self.consumed = self.consumed.wrapping_add(count);
        self.memory.consumer().store(self.consumed, Ordering::Release);
    }
}

impl FillRing {
    /// Writes the `nth` entry behind what was submitted.
    ///
    /// It needs no look at the kernel's index, which would cost its core the cache line: the ring has a place for every
    /// chunk of the UMEM, and each chunk that is put here was taken out before. So the kernel has read the entry that
    /// is overwritten, even where it has not said so yet.
    pub(super) fn put(&mut self, nth: u32, address: u64) {
        let place = self.memory.entry(self.produced.wrapping_add(nth));
        // SAFETY: within the entries, by the mask. By the above the kernel is done with what was there, and reads it
        // again only after `submit`.
        unsafe { place.write(address) };
    }

    /// Hands the first `count` entries written over to the kernel.
    pub(super) fn submit(&mut self, count: u32) {
        self.produced = self.produced.wrapping_add(count);
        self.memory.producer().store(self.produced, Ordering::Release);
    }

    /// Whether the driver sleeps until it is told of new entries (`XDP_USE_NEED_WAKEUP`).
    pub(super) fn needs_wakeup(&self) -> bool {
        self.memory.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The TX ring: the sender produces, the kernel consumes.
#[derive(Debug)]
pub(super) struct TxRing {
    memory: Memory<libc::xdp_desc>,
    /// Our index.
    produced: u32,
}

/// The completion ring: the kernel produces, the sender consumes.
#[derive(Debug)]
pub(super) struct CompletionRing {
    memory: Memory<u64>,
    /// Our index.
    consumed: u32,
}

/// Maps the rings of a socket that sends, before anything was put into them.
pub(super) fn map_transmit(
    socket: &impl AsRawFd,
    tx: u32,
    completion: u32,
) -> io::Result<(TxRing, CompletionRing)> {
    let socket = socket.as_raw_fd();
    let offsets = offsets(socket)?;
    let tx = Memory::map(socket, tx, &offsets.tx, libc::XDP_PGOFF_TX_RING)?;
    let at = libc::off_t::try_from(libc::XDP_UMEM_PGOFF_COMPLETION_RING).map_err(io::Error::other)?;
    let completion = Memory::map(socket, completion, &offsets.cr, at)?;
    Ok((TxRing { memory: tx, produced: 0 }, CompletionRing { memory: completion, consumed: 0 }))
}

impl TxRing {
    /// Writes the `nth` descriptor behind what was submitted. The caller keeps fewer than the ring has places between
    /// what the kernel has taken and this.
    pub(super) fn put(&mut self, nth: u32, descriptor: libc::xdp_desc) {
        let place = self.memory.entry(self.produced.wrapping_add(nth));
        // SAFETY: within the entries, by the mask. The kernel has taken what was there, and reads it again only after
        // `submit`.
        unsafe { place.write(descriptor) };
    }

    /// Hands the first `count` descriptors written over to the kernel.
    pub(super) fn submit(&mut self, count: u32) {
        self.produced = self.produced.wrapping_add(count);
        self.memory.producer().store(self.produced, Ordering::Release);
    }

    /// How many descriptors the kernel has not said it took.
    pub(super) fn outstanding(&self) -> u32 {
        self.produced.wrapping_sub(self.memory.consumer().load(Ordering::Acquire))
    }

    /// Makes what is outstanding invalid, so that the kernel skips it: an address beyond the UMEM. In copy mode the kernel
    /// looks at the ring within sendto(2) and poll(2) only, which the caller of this is not in.
    pub(super) fn void(&mut self) {
        let outstanding = self.outstanding();
        for behind in 1..=outstanding {
            let place = self.memory.entry(self.produced.wrapping_sub(behind));
            // SAFETY: within the entries, by the mask; by the above nobody reads it meanwhile.
            unsafe { place.write(libc::xdp_desc { addr: u64::MAX, len: 0, options: 0 }) };
        }
    }
}

impl CompletionRing {
    /// Takes the address of one chunk that the kernel is done with.
    pub(super) fn take(&mut self) -> Option<u64> {
        if self.memory.producer().load(Ordering::Acquire) == self.consumed {
            return None;
        }
        // SAFETY: within the entries, by the mask. The kernel wrote it before it published its index, which was read
        // with acquire, and writes there again only after the store below.
        let address = unsafe { self.memory.entry(self.consumed).read() };
        self.consumed = self.consumed.wrapping_add(1);
        self.memory.consumer().store(self.consumed, Ordering::Release);
        Some(address)
    }
}

/// The pages of a ring, as long as this lives.
#[derive(Debug)]
struct Memory<T> {
    start: NonNull<u8>,
    len: usize,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    mask: Mask,
    _entries: PhantomData<*mut T>,
}

// SAFETY: the pages belong to the process, and whoever has this value is the only one in it to use this mapping.
unsafe impl<T> Send for Memory<T> {}

impl<T> Memory<T> {
    fn map(
        socket: RawFd,
        entries: u32,
        offsets: &libc::xdp_ring_offset,
        page_offset: libc::off_t,
    ) -> io::Result<Self> {
        assert!(entries.is_power_of_two(), "libxdp has refused other sizes");
        let offset = |of: u64| usize::try_from(of).map_err(io::Error::other);
        let at = offset(offsets.desc)?;
        let len = at + entries as usize * size_of::<T>();
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: the kernel chooses the place, so nothing that exists is mapped over.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, socket, page_offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self {
            start,
            len,
            producer: offset(offsets.producer)?,
            consumer: offset(offsets.consumer)?,
            flags: offset(offsets.flags)?,
            entries: at,
            mask: Mask(entries - 1),
            _entries: PhantomData,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        self.index(self.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.index(self.consumer)
    }

    fn flags(&self) -> &AtomicU32 {
        self.index(self.flags)
    }

    fn index(&self, offset: usize) -> &AtomicU32 {
        let place = self.start.as_ptr().wrapping_add(offset).cast();
        // SAFETY: the kernel said that a u32 of the ring lies at this offset of its pages, which are mapped as long as
        // `self` is; both sides access it atomically only.
        unsafe { AtomicU32::from_ptr(place) }
    }

    fn entry(&self, index: u32) -> *mut T {
        let entries: *mut T = self.start.as_ptr().wrapping_add(self.entries).cast();
        entries.wrapping_add(self.mask.place(index))
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: the whole of the mapping made in `map`; every reference into it borrows `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Where in a ring's pages what lies.
fn offsets(socket: RawFd) -> io::Result<libc::xdp_mmap_offsets> {
    let mut offsets = MaybeUninit::<libc::xdp_mmap_offsets>::zeroed();
    let mut len = libc::socklen_t::try_from(size_of_val(&offsets)).map_err(io::Error::other)?;
    let place = offsets.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `len` bytes to a place of that size.
    let refused =
        unsafe { libc::getsockopt(socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, place, &raw mut len) };
    if refused != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all of it is numbers, and it began as zeros.
    Ok(unsafe { offsets.assume_init() })
}
