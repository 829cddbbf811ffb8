//! UMEM: the memory of frames, shared with the kernel.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    ptr::{self, NonNull},
};

use rustix::{
    fs::{FallocateFlags, MemfdFlags, fallocate, fstat, fstatfs, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
    net::{
        sockopt,
        xdp::{XdpUmemReg, XdpUmemRegFlags},
    },
};

use super::SocketError;

/// Bytes of the huge pages that are used if there are any.
const HUGE_PAGE: usize = 2 << 20;

/// Whether the UMEM lies in huge pages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum HugePages {
    /// If there are enough free ones.
    #[default]
    Try,
    Never,
}

/// How many chunks of how many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    pub(super) count: u32,
    /// 2048 to the size of a page, a power of two.
    pub(super) size: u32,
    /// Bytes in front of a frame beside those that XDP keeps for itself.
    pub(super) headroom: u32,
}

impl Chunks {
    fn bytes(self) -> usize {
        self.count as usize * self.size as usize
    }

    /// Address of each chunk, relative to the UMEM.
    pub(super) fn addresses(self) -> impl Iterator<Item = u64> {
        (0..self.count).map(move |nth| u64::from(nth) * u64::from(self.size))
    }
}

/// A mapped memfd, as long as this lives.
///
/// A memfd and no private memory: a process that is handed the file can map the same frames, and a fork
/// copies nothing.
#[derive(Debug)]
pub(super) struct Umem {
    start: NonNull<u8>,
    /// Bytes mapped: whole pages.
    len: usize,
    chunks: Chunks,
    in_huge_pages: bool,
    file: OwnedFd,
}

// SAFETY: the mapping belongs to the process, and the owner of this value is the only one in it to use it.
unsafe impl Send for Umem {}

impl Umem {
    /// Allocates the memory, on the memory node of the calling thread.
    pub(super) fn allocate(chunks: Chunks, huge_pages: HugePages) -> Result<Self, SocketError> {
        if huge_pages == HugePages::Try {
            match Self::map(chunks, true) {
                Ok(umem) => return Ok(umem),
                Err(error) => tracing::debug!(%error, "no huge pages for the UMEM"),
            }
        }
        Self::map(chunks, false)
            .map_err(|source| SocketError::Umem { bytes: chunks.bytes() as u64, source: source.into() })
    }

    fn map(chunks: Chunks, in_huge_pages: bool) -> rustix::io::Result<Self> {
        let (page, kind) = if in_huge_pages {
            (HUGE_PAGE, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB)
        } else {
            (rustix::param::page_size(), MemfdFlags::empty())
        };
        let len = chunks.bytes().next_multiple_of(page);
        let file = memfd_create(c"mirror-umem", MemfdFlags::CLOEXEC | kind)?;
        ftruncate(&file, len as u64)?;
        // Every page now, or none: a pool of huge pages or a memory limit that falls short is an error here,
        // and SIGBUS where the page is touched.
        fallocate(&file, FallocateFlags::empty(), 0, len as u64)?;
        Self::over(file, len, chunks, in_huge_pages)
    }

    /// Maps the memory of another process, which has passed its file.
    pub(super) fn adopt(file: OwnedFd, chunks: Chunks) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Umem { bytes: chunks.bytes() as u64, source };
        let found = fstat(&file).map_err(|error| failed(error.into()))?;
        let kind = fstatfs(&file).map_err(|error| failed(error.into()))?.f_type;
        let len = usize::try_from(found.st_size).unwrap_or_default();
        // A shorter file would be SIGBUS where it ends.
        if !(chunks.bytes()..chunks.bytes() + HUGE_PAGE).contains(&len) {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "the file has another size")));
        }
        Self::over(file, len, chunks, kind == libc::HUGETLBFS_MAGIC).map_err(|error| failed(error.into()))
    }

    fn over(file: OwnedFd, len: usize, chunks: Chunks, in_huge_pages: bool) -> rustix::io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: the kernel chooses the place, so nothing that exists is mapped over.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, flags, file.as_fd(), 0) }?;
        let start: NonNull<u8> = NonNull::new(start.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        // The kernel and descriptors name places in it by number.
        let _ = start.as_ptr().expose_provenance();
        Ok(Self { start, len, chunks, in_huge_pages, file })
    }

    /// Registers it with a socket. The kernel pins its pages until the socket is closed, and counts them as
    /// locked.
    pub(super) fn register(&self, socket: impl AsFd) -> Result<(), SocketError> {
        let registration = XdpUmemReg {
            addr: self.base() as u64,
            len: self.chunks.bytes() as u64,
            chunk_size: self.chunks.size,
            headroom: self.chunks.headroom,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        sockopt::set_xdp_umem_reg(socket, registration)
            .map_err(|source| SocketError::Umem { bytes: self.chunks.bytes() as u64, source: source.into() })
    }

    /// Address of the first byte, whose provenance is exposed.
    pub(super) fn base(&self) -> usize {
        self.start.as_ptr().addr()
    }

    /// The first byte.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its file, by which another process can map it.
    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(super) fn in_huge_pages(&self) -> bool {
        self.in_huge_pages
    }
}

impl Drop for Umem {
    fn drop(&mut self) {
        // SAFETY: the whole of the mapping made in `map`; every holder of an address in it belongs to the
        // socket that owns this. The kernel has its pages by itself.
        if let Err(error) = unsafe { munmap(self.start.as_ptr().cast(), self.len) } {
            tracing::debug!(error = %io::Error::from(error), "munmap of the UMEM");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS: Chunks = Chunks { count: 65, size: 2048, headroom: 0 };

    #[test]
    fn chunks_follow_each_other_without_a_gap() {
        let addresses: Vec<_> = CHUNKS.addresses().collect();
        assert_eq!((addresses.len(), addresses[0], addresses[64]), (65, 0, 64 * 2048));
    }

    #[test]
    fn the_mapping_has_whole_pages_that_can_be_written() {
        let umem = Umem::allocate(CHUNKS, HugePages::Never).unwrap();
        let page = rustix::param::page_size();
        assert!(
            umem.len >= CHUNKS.bytes() && umem.len.is_multiple_of(page) && umem.base().is_multiple_of(page)
        );
        assert!(!umem.in_huge_pages());
        let last = umem.start().as_ptr().wrapping_add(umem.len - 1);
        // SAFETY: the last byte of the mapping, which nobody else has an address in.
        unsafe { last.write(1) };
    }

    #[test]
    fn a_pool_of_huge_pages_that_is_too_small_is_an_error_before_it_is_touched() {
        /// Bytes: more than any host this runs on has in huge pages.
        const TOO_MANY: Chunks = Chunks { count: 1 << 28, size: 4096, headroom: 0 };
        Umem::map(TOO_MANY, true).unwrap_err();
    }

    #[test]
    fn another_process_maps_the_same_chunks_and_no_file_of_another_size() {
        let umem = Umem::allocate(CHUNKS, HugePages::Never).unwrap();
        let file = || umem.file().try_clone().unwrap();
        let other = Umem::adopt(file(), CHUNKS).unwrap();
        assert!(!other.in_huge_pages());
        let last = |umem: &Umem| umem.start().as_ptr().wrapping_add(umem.len - 1);
        // SAFETY: the last byte of both mappings, of which only this test has the address.
        unsafe { last(&umem).write(7) };
        // SAFETY: as above.
        assert_eq!(unsafe { last(&other).read() }, 7);
        let larger = Chunks { count: CHUNKS.count * 2, ..CHUNKS };
        Umem::adopt(file(), larger).unwrap_err();
    }

    #[test]
    fn a_refused_umem_is_reported_with_its_size() {
        let umem = Umem::allocate(CHUNKS, HugePages::Never).unwrap();
        // A socket of another family takes no UMEM.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = umem.register(&socket).unwrap_err().to_string();
        assert!(error.starts_with("UMEM of 133120 bytes: "), "{error}");
    }
}
