//! The bpf_link of an XDP program: as long as one descriptor of it is open, in whichever process, its program
//! is attached.
#![expect(unsafe_code, reason = "bpf(2): aya gives no descriptor of a link, and takes none")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use crate::host::xdp::XdpMode;

/// Commands of bpf(2), and the type of attachment (`enum bpf_cmd`, `enum bpf_attach_type` of `linux/bpf.h`).
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const ATTACH_XDP: u32 = 37;

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads.
#[repr(C)]
struct Create {
    program: RawFd,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// The part that `BPF_LINK_UPDATE` reads.
#[repr(C)]
struct Update {
    link: RawFd,
    program: RawFd,
    flags: u32,
    replaced: u32,
}

/// A link to an interface.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Attaches a loaded program. Minimum kernel version: 5.9.
    pub(super) fn create(program: BorrowedFd<'_>, ifindex: u32, mode: XdpMode) -> io::Result<Self> {
        // `XDP_FLAGS_*` of `linux/if_link.h`.
        let flags = match mode {
            XdpMode::Generic | XdpMode::Several => 1 << 1,
            XdpMode::Native => 1 << 2,
            XdpMode::Hardware => 1 << 3,
        };
        let created = bpf(
            LINK_CREATE,
            &Create { program: program.as_raw_fd(), ifindex, attach_type: ATTACH_XDP, flags },
        )?;
        // SAFETY: the call has succeeded, so this is a new descriptor that nothing else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(created) }))
    }

    /// The link behind a descriptor that another process has passed.
    pub(crate) fn of(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Puts another loaded program in the place of the attached one, atomically: each frame is seen by one of
    /// them. Minimum kernel version: 5.9.
    pub(super) fn replace_program(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let (link, program) = (self.0.as_raw_fd(), program.as_raw_fd());
        bpf(LINK_UPDATE, &Update { link, program, flags: 0, replaced: 0 }).map(drop)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: `attributes` has the layout and the length that the kernel reads for this command, and is read
    // during the call only; the rest of the union counts as zero.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match RawFd::try_from(result) {
        Ok(descriptor) if descriptor >= 0 => Ok(descriptor),
        _ => Err(io::Error::last_os_error()),
    }
}
