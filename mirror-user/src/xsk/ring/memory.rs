//! The pages of a ring.

use std::{
    io,
    marker::PhantomData,
    os::fd::AsFd,
    ptr::{self, NonNull},
    sync::atomic::AtomicU32,
};

use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    net::xdp::XdpRingOffset,
};

/// Ring entries are read and written under this mask.
#[derive(Clone, Copy, Debug)]
struct Mask(u32);

impl Mask {
    fn place(self, index: u32) -> usize {
        (index & self.0) as usize
    }
}

/// The pages of a ring with entries of type `T`, as long as this lives.
#[derive(Debug)]
pub(in crate::xsk) struct Memory<T> {
    start: NonNull<u8>,
    len: usize,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    mask: Mask,
    _entries: PhantomData<*mut T>,
}

// SAFETY: the pages belong to the process, and the owner of this value is the only one in it to use this
// mapping.
unsafe impl<T> Send for Memory<T> {}

impl<T> Memory<T> {
    /// Maps a ring of a socket. It has been given its size, a power of two, and before kernel 6.4 is not
    /// bound yet.
    pub(in crate::xsk) fn map(
        socket: impl AsFd,
        entries: u32,
        offsets: &XdpRingOffset,
        page_offset: u64,
    ) -> io::Result<Self> {
        if !entries.is_power_of_two() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no power of two"));
        }
        let offset = |of: u64| usize::try_from(of).map_err(io::Error::other);
        // Kernels before 5.4 have none; they have no need_wakeup either, and are not bound with it.
        let flags = offsets.flags.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        let at = offset(offsets.desc)?;
        let len = at + entries as usize * size_of::<T>();
        let (protection, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: the kernel chooses the place, so nothing that exists is mapped over.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, kind, socket, page_offset) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self {
            start,
            len,
            producer: offset(offsets.producer)?,
            consumer: offset(offsets.consumer)?,
            flags: offset(flags)?,
            entries: at,
            mask: Mask(entries - 1),
            _entries: PhantomData,
        })
    }

    pub(super) fn producer(&self) -> &AtomicU32 {
        self.index(self.producer)
    }

    pub(super) fn consumer(&self) -> &AtomicU32 {
        self.index(self.consumer)
    }

    pub(super) fn flags(&self) -> &AtomicU32 {
        self.index(self.flags)
    }

    fn index(&self, offset: usize) -> &AtomicU32 {
        let place = self.start.as_ptr().wrapping_add(offset).cast();
        // SAFETY: the kernel said that a u32 of the ring lies at this offset of its pages, which are mapped
        // as long as `self` is; both sides access it atomically only.
        unsafe { AtomicU32::from_ptr(place) }
    }

    pub(super) fn entry(&self, index: u32) -> *mut T {
        let entries: *mut T = self.start.as_ptr().wrapping_add(self.entries).cast();
        entries.wrapping_add(self.mask.place(index))
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: the whole of the mapping made in `map`; every reference into it borrows `self`.
        if let Err(error) = unsafe { munmap(self.start.as_ptr().cast(), self.len) } {
            tracing::debug!(error = %io::Error::from(error), "munmap of a ring");
        }
    }
}

/// Both sides of a ring without a kernel: two mappings of one memfd.
#[cfg(test)]
pub(in crate::xsk) mod testing {
    use std::sync::atomic::Ordering;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    const OFFSETS: XdpRingOffset = XdpRingOffset { producer: 0, consumer: 64, flags: Some(68), desc: 128 };

    /// A ring whose indices are both `start`: ours, and the one that plays the kernel's part.
    pub(in crate::xsk) fn pair<T>(entries: u32, start: u32) -> (Memory<T>, Memory<T>) {
        let (ours, kernel, _) = three(entries, start);
        (ours, kernel)
    }

    /// The same, with the mapping of another process.
    pub(in crate::xsk) fn three<T>(entries: u32, start: u32) -> (Memory<T>, Memory<T>, Memory<T>) {
        let file = memfd_create(c"ring", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 1 << 20).unwrap();
        let map = || Memory::map(&file, entries, &OFFSETS, 0).unwrap();
        let (ours, kernel, others) = (map(), map(), map());
        kernel.producer().store(start, Ordering::Relaxed);
        kernel.consumer().store(start, Ordering::Relaxed);
        (ours, kernel, others)
    }

    /// What the kernel does: writes these descriptors, then publishes them.
    pub(in crate::xsk) fn produce(
        kernel: &Memory<libc::xdp_desc>,
        descriptors: impl IntoIterator<Item = libc::xdp_desc>,
    ) {
        let mut index = kernel.producer().load(Ordering::Relaxed);
        for descriptor in descriptors {
            // SAFETY: within the entries, by the mask; the other side reads them after the store below.
            unsafe { kernel.entry(index).write(descriptor) };
            index = index.wrapping_add(1);
        }
        kernel.producer().store(index, Ordering::Release);
    }

    /// How many entries were submitted to the kernel.
    pub(in crate::xsk) fn submitted<T>(kernel: &Memory<T>) -> u32 {
        kernel.producer().load(Ordering::Acquire)
    }

    #[test]
    fn a_ring_whose_size_is_no_power_of_two_is_refused() {
        let file = memfd_create(c"ring", MemfdFlags::CLOEXEC).unwrap();
        for entries in [0, 3, 100, u32::MAX] {
            Memory::<u64>::map(&file, entries, &OFFSETS, 0).unwrap_err();
        }
    }

    #[test]
    fn entries_lie_behind_each_other_and_the_last_is_followed_by_the_first() {
        let (ring, _) = pair::<u64>(4, 0);
        let first = ring.entry(0);
        for index in [0_u32, 1, 2, 3, 4, 7, u32::MAX - 3, u32::MAX] {
            assert_eq!(ring.entry(index), first.wrapping_add((index % 4) as usize), "{index}");
        }
    }
}
