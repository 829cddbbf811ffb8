//! Reading a frame where it lies, in the shape that the verifier follows.

use aya_ebpf::programs::{TcContext, XdpContext};

/// A context that gives a program direct access to its frame.
pub trait Context {
    /// Address of the first byte.
    fn data(&self) -> usize;
    /// Address after the last byte that may be read.
    fn data_end(&self) -> usize;
}

impl Context for XdpContext {
    #[inline(always)]
    fn data(&self) -> usize {
        XdpContext::data(self)
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        XdpContext::data_end(self)
    }
}

/// Of a frame that is not linear, only the linear part.
impl Context for TcContext {
    #[inline(always)]
    fn data(&self) -> usize {
        TcContext::data(self)
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        TcContext::data_end(self)
    }
}

/// Four bytes of a frame at an offset: under a mask, as a little-endian load gives them, they have one value.
#[derive(Debug)]
pub struct Fields {
    pub at: usize,
    pub mask: u32,
    pub value: u32,
}

/// The bytes of a frame, or its rest from a place on. They may be read only after [`holds`](Self::holds): the
/// verifier refuses any other program.
#[derive(Debug)]
pub struct Packet {
    pub start: usize,
    pub end: usize,
}

impl Packet {
    #[inline(always)]
    pub fn new(ctx: &impl Context) -> Self {
        Self { start: ctx.data(), end: ctx.data_end() }
    }

    /// Whether there are so many bytes.
    #[inline(always)]
    pub fn holds(&self, len: usize) -> bool {
        self.start + len <= self.end
    }

    #[inline(always)]
    pub fn u8(&self, offset: usize) -> u8 {
        // SAFETY: the caller has asked `holds`; the verifier refuses the program otherwise.
        unsafe { *((self.start + offset) as *const u8) }
    }

    /// Two bytes in network byte order, from an even offset: every header starts at an even address.
    #[inline(always)]
    pub fn u16(&self, offset: usize) -> u16 {
        // SAFETY: as in `u8`.
        unsafe { *((self.start + offset) as *const u16) }
    }

    /// Four bytes as a little-endian load gives them, from an even offset.
    #[inline(always)]
    pub fn u32_le(&self, offset: usize) -> u32 {
        u32::from(self.u16(offset)) | u32::from(self.u16(offset + 2)) << 16
    }

    /// Eight bytes as [`u32_le`](Self::u32_le).
    #[inline(always)]
    pub fn u64_le(&self, offset: usize) -> u64 {
        u64::from(self.u32_le(offset)) | u64::from(self.u32_le(offset + 4)) << 32
    }

    /// Four bytes in network byte order, from any offset.
    #[inline(always)]
    pub fn u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(offset))
    }

    /// Bytes from any offset.
    #[inline(always)]
    pub fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        // SAFETY: as in `u8`, and an array of bytes has no alignment.
        unsafe { *((self.start + offset) as *const [u8; N]) }
    }

    /// Compares several fields by one load.
    #[inline(always)]
    pub fn has(&self, fields: &Fields) -> bool {
        // SAFETY: as in `u8`. Frames start at multiples of 4, and so do the fields; where a CPU cannot load
        // from other addresses, the verifier refuses the program.
        let bytes = unsafe { *((self.start + fields.at) as *const u32) };
        bytes & fields.mask == fields.value
    }

    /// The rest of the frame. Its start is hidden from the compiler, which would otherwise compute the
    /// address again for a read, and the verifier knows the bound of the checked one only.
    #[inline(always)]
    #[must_use]
    pub fn from(&self, offset: usize) -> Self {
        Self { start: core::hint::black_box(self.start + offset), end: self.end }
    }
}
