//! One SIOCETHTOOL request.
//!
//! The kernel writes as much as the *driver* has at that moment: string sets and statistics may have grown
//! since their number was asked for, and kernels before 6.19 write past the end of what user space offered.
//! So a request lies flush against a page that nothing may write to, and one that grew is refused with EFAULT
//! instead of overwriting memory.
#![expect(unsafe_code, reason = "ioctl(2) takes a pointer to memory the kernel writes to")]

use std::{
    ffi::{c_char, c_void},
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    slice,
};

/// A request, and then the answer, of a fixed number of bytes.
///
/// `mapping` is `mapped` bytes long: pages that can be read and written, then one that cannot. The `length`
/// bytes before that last page are the request.
pub(super) struct Request {
    mapping: NonNull<u8>,
    mapped: usize,
    start: usize,
    length: usize,
}

impl Request {
    /// A request of `length` zero bytes that starts with its command number.
    pub(super) fn new(command: u32, length: usize) -> io::Result<Self> {
        let page = page_size()?;
        let too_long =
            || io::Error::new(io::ErrorKind::InvalidInput, "an ethtool request of impossible length");
        let usable = length.max(4).checked_next_multiple_of(page).ok_or_else(too_long)?;
        let mapped = usable.checked_add(page).ok_or_else(too_long)?;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory in use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping =
            NonNull::new(address.cast::<u8>()).ok_or_else(|| io::Error::other("mmap gave a null page"))?;
        // From here on Drop unmaps.
        let mut request = Self { mapping, mapped, start: usable - length.max(4), length: length.max(4) };
        // SAFETY: these are the first `usable` bytes of our own mapping, to which no reference exists yet.
        let answer = unsafe { libc::mprotect(address, usable, libc::PROT_READ | libc::PROT_WRITE) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        request.set_u32(0, command);
        Ok(request)
    }

    /// The request as it is now.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is inside the mapping (constructor).
        let first = unsafe { self.mapping.add(self.start) };
        // SAFETY: `start..start + length` ends where the usable pages end (constructor); they stay mapped,
        // zeroed by the kernel and ours as long as `self`, and `&self` keeps `bytes_mut` and `send` from
        // changing them meanwhile.
        unsafe { slice::from_raw_parts(first.as_ptr(), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        let first = unsafe { self.mapping.add(self.start) };
        // SAFETY: as in `bytes`, and `&mut self` makes this the only reference.
        unsafe { slice::from_raw_parts_mut(first.as_ptr(), self.length) }
    }

    /// The `u32` at byte `offset`; 0 past the end.
    pub(super) fn u32(&self, offset: usize) -> u32 {
        let bytes = self.bytes().get(offset..).and_then(<[u8]>::first_chunk);
        bytes.copied().map_or(0, u32::from_ne_bytes)
    }

    /// Puts a `u32` at byte `offset`; nothing past the end.
    pub(super) fn set_u32(&mut self, offset: usize, value: u32) {
        if let Some(bytes) = self.bytes_mut().get_mut(offset..).and_then(<[u8]>::first_chunk_mut) {
            *bytes = value.to_ne_bytes();
        }
    }

    /// Puts bytes at `offset`; nothing if they would end past the end.
    pub(super) fn set_bytes(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        if let Some(place) = self.bytes_mut().get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
    }

    /// Sends the request to the driver of the interface called `name`; the answer is in [`Self::bytes`] then.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let mut ifr_name = [0; libc::IFNAMSIZ];
        if name.len() >= ifr_name.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name too long for an interface"));
        }
        for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
            *to = c_char::from_ne_bytes([from]);
        }
        let data = self.bytes_mut().as_mut_ptr().cast::<c_char>();
        let mut ifreq = libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
        // SAFETY: `ifreq` is a whole `struct ifreq` that outlives the call. The kernel reads and writes
        // behind `data` from there upwards only: up to `length` bytes are ours by `&mut self`, and what a
        // driver says beyond them meets the page without access, where the kernel stops with EFAULT.
        let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut ifreq) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, was made with this length, and no reference into it outlives `self`.
        let answer = unsafe { libc::munmap(self.mapping.as_ptr().cast::<c_void>(), self.mapped) };
        debug_assert_eq!(answer, 0, "munmap of our own mapping");
    }
}

fn page_size() -> io::Result<usize> {
    // SAFETY: sysconf(3) only reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|size| size.is_power_of_two()).ok_or_else(io::Error::last_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_every_length_around_a_page_hold_what_is_put_at_their_ends() {
        let page = page_size().unwrap();
        for length in [4, 8, page - 1, page, page + 1, 3 * page] {
            let mut request = Request::new(7, length).unwrap();
            assert_eq!(request.bytes().len(), length);
            assert_eq!(request.u32(0), 7);
            request.set_u32(length - 4, 0xDEAD_BEEF);
            assert_eq!(request.u32(length - 4), 0xDEAD_BEEF);
        }
    }

    #[test]
    fn past_the_end_reads_nothing_and_writes_nothing() {
        let mut request = Request::new(7, 8).unwrap();
        request.set_u32(5, 1);
        request.set_u32(usize::MAX, 1);
        request.set_bytes(6, &[1, 2, 3]);
        request.set_bytes(usize::MAX, &[1]);
        assert_eq!((request.u32(4), request.u32(5), request.u32(usize::MAX)), (0, 0, 0));
        request.set_bytes(4, &[1, 2, 3, 4]);
        assert_eq!(request.bytes()[4..], [1, 2, 3, 4]);
    }

    #[test]
    fn an_answer_larger_than_the_request_never_lands_past_its_end() {
        const ETHTOOL_GSTRINGS: u32 = 0x1b;
        const ETH_SS_FEATURES: u32 = 4;
        const ONE_STRING: usize = 12 + 32;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut request = Request::new(ETHTOOL_GSTRINGS, ONE_STRING).unwrap();
        request.set_u32(4, ETH_SS_FEATURES);
        request.set_u32(8, 1);
        // The kernel has some sixty names of features for every device: it met the page without access, or,
        // if it looks at the length offered, gave nothing.
        match request.send(std::os::fd::AsFd::as_fd(&socket), "lo") {
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EFAULT), "{error}"),
            Ok(()) => assert!(request.u32(8) <= 1, "{} strings in the room of one", request.u32(8)),
        }
    }
}
