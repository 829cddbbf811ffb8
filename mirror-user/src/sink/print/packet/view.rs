//! Bytes of a layer, which may be truncated.

/// A field is beyond the captured bytes: nothing after it can be printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Truncated;

/// A layer from its header on: the captured bytes, and its declared length or length on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(bytes: &'a [u8], len: usize) -> Self {
        Self { bytes, len }
    }

    /// All captured bytes; may be more than [`len`](Self::len), the declared length.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Length of the layer, captured or not.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bytes of the layer, if all are captured.
    pub(super) fn whole(&self) -> Option<&'a [u8]> {
        self.bytes.get(..self.len)
    }

    pub(super) fn has(&self, len: usize) -> bool {
        self.bytes.len() >= len
    }

    /// The view after `at` bytes.
    pub(super) fn after(&self, at: usize) -> Self {
        Self { bytes: self.bytes.get(at..).unwrap_or_default(), len: self.len.saturating_sub(at) }
    }

    /// The same with another length.
    pub(super) fn of_len(&self, len: usize) -> Self {
        Self { bytes: self.bytes, len }
    }

    /// The same without bytes after `len`, such as padding.
    pub(super) fn ending_at(&self, len: usize) -> Self {
        Self { bytes: &self.bytes[..self.bytes.len().min(len)], len }
    }

    pub(super) fn get(&self, at: usize, len: usize) -> Result<&'a [u8], Truncated> {
        self.bytes.get(at..).and_then(|bytes| bytes.get(..len)).ok_or(Truncated)
    }

    pub(super) fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Truncated> {
        self.bytes.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(Truncated)
    }

    pub(super) fn u8(&self, at: usize) -> Result<u8, Truncated> {
        self.array(at).map(|[byte]| byte)
    }

    pub(super) fn u16(&self, at: usize) -> Result<u16, Truncated> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(super) fn u24(&self, at: usize) -> Result<u32, Truncated> {
        self.array(at).map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    pub(super) fn u64(&self, at: usize) -> Result<u64, Truncated> {
        self.array(at).map(u64::from_be_bytes)
    }

    pub(super) fn u16_le(&self, at: usize) -> Result<u16, Truncated> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32_le(&self, at: usize) -> Result<u32, Truncated> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// The captured bytes of the layer.
    pub(super) fn here(&self) -> &'a [u8] {
        &self.bytes[..self.bytes.len().min(self.len)]
    }

    pub(super) fn u32(&self, at: usize) -> Result<u32, Truncated> {
        self.array(at).map(u32::from_be_bytes)
    }
}
