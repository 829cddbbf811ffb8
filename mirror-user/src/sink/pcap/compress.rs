//! Compressed files that are readable up to the last write at any time, and valid when truncated to any
//! write.
//!
//! With gzip each write is a member (RFC 1952 section 2.2), whose checksum and length do not depend on
//! earlier members. With Zstandard each write ends a block (RFC 8878 section 3.1.1) of the file's only frame,
//! because Wireshark 4.0 fails between frames. The frame has no checksum, so an empty last block can end it
//! anywhere.

use std::{
    ffi::{OsStr, OsString},
    io,
};

use flate2::{Compress, Compression as Level, Crc, FlushCompress, Status};

/// How a file is compressed, by the suffix of its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(super) fn of(name: &OsStr) -> Self {
        [Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|kind| name.as_encoded_bytes().ends_with(kind.suffix().as_bytes()))
            .unwrap_or(Self::None)
    }

    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// A name without the suffix, if it has it.
    pub(super) fn without_suffix(self, name: &OsStr) -> OsString {
        let bytes = name.as_encoded_bytes();
        match bytes.strip_suffix(self.suffix().as_bytes()) {
            // Suffixes are ASCII, so the rest is as valid a name as the whole.
            Some(stem) => without(name, stem.len()),
            None => name.to_owned(),
        }
    }
}

/// The first bytes of a name.
#[cfg(unix)]
fn without(name: &OsStr, stem: usize) -> OsString {
    use std::os::unix::ffi::OsStrExt as _;
    OsStr::from_bytes(&name.as_bytes()[..stem]).to_owned()
}

/// The first bytes of a name, where it is Unicode.
#[cfg(not(unix))]
fn without(name: &OsStr, stem: usize) -> OsString {
    name.to_str().and_then(|name| name.get(..stem)).map_or_else(|| name.to_owned(), OsString::from)
}

/// Compresses what is written to one file, in its own buffer.
pub(super) struct Encoder {
    kind: Kind,
    unit: Vec<u8>,
}

enum Kind {
    Gzip(Compress),
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::raw::Encoder<'static>),
}

/// Magic number, deflate, no flags, no time, no extra flags, unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Deflate can expand data by up to 5 bytes in 16 KiB (RFC 1951 section 3.2.4), plus its end.
const GZIP_MARGIN: usize = 64;
/// The frame's header, and a block header for each flush.
#[cfg(feature = "zstd")]
const ZSTD_MARGIN: usize = 64;
/// A window of 128 KiB.
#[cfg(feature = "zstd")]
const ZSTD_WINDOW_LOG: u32 = 17;
/// A raw block without bytes, the last of its frame (RFC 8878 section 3.1.1.2).
#[cfg(feature = "zstd")]
const ZSTD_LAST_BLOCK: [u8; 3] = [1, 0, 0];

impl Encoder {
    /// `None` for a file that is not compressed.
    ///
    /// # Errors
    ///
    /// This build has no such encoder, or its setup fails.
    pub(super) fn new(compression: Compression) -> io::Result<Option<Self>> {
        let kind = match compression {
            Compression::None => return Ok(None),
            Compression::Gzip => Kind::Gzip(Compress::new(Level::fast(), false)),
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                let mut stream = zstd::stream::raw::Encoder::new(1)?;
                // One file per origin means many streams.
                stream.set_parameter(zstd::zstd_safe::CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
                Kind::Zstd(stream)
            }
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this build cannot write Zstandard; build with the feature `zstd`, or write .gz",
                ));
            }
        };
        Ok(Some(Self { kind, unit: Vec::new() }))
    }

    /// Compresses bytes to a unit to append to the file. If that is not written, later units can be decoded
    /// only if units are [independent](Self::has_independent_units).
    pub(super) fn unit(&mut self, bytes: &[u8]) -> io::Result<&[u8]> {
        self.unit.clear();
        match &mut self.kind {
            Kind::Gzip(deflate) => {
                self.unit.reserve(bytes.len() + bytes.len() / 1024 + GZIP_HEAD.len() + GZIP_MARGIN);
                self.unit.extend(GZIP_HEAD);
                deflate.reset();
                let status = deflate.compress_vec(bytes, &mut self.unit, FlushCompress::Finish);
                if !matches!(status, Ok(Status::StreamEnd)) {
                    return Err(io::Error::other("deflate did not finish"));
                }
                let mut crc = Crc::new();
                crc.update(bytes);
                self.unit.extend(crc.sum().to_le_bytes());
                self.unit.extend(crc.amount().to_le_bytes());
            }
            #[cfg(feature = "zstd")]
            Kind::Zstd(stream) => {
                use zstd::stream::raw::{InBuffer, Operation as _, OutBuffer};

                self.unit.reserve(zstd::zstd_safe::compress_bound(bytes.len()) + ZSTD_MARGIN);
                let mut input = InBuffer::around(bytes);
                let mut output = OutBuffer::around(&mut self.unit);
                while input.pos() < bytes.len() {
                    stream.run(&mut input, &mut output)?;
                }
                if stream.flush(&mut output)? != 0 {
                    return Err(io::Error::other("Zstandard did not finish"));
                }
            }
        }
        Ok(&self.unit)
    }

    /// Restarts the stream; call it only if no unit is in the file.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Gzip(deflate) => deflate.reset(),
            #[cfg(feature = "zstd")]
            Kind::Zstd(stream) => zstd::stream::raw::Operation::reinit(stream)?,
        }
        Ok(())
    }

    /// Whether a unit can be decoded without the one before it.
    pub(super) fn has_independent_units(&self) -> bool {
        matches!(self.kind, Kind::Gzip(_))
    }

    /// The bytes after the last unit.
    pub(super) fn end(&self) -> &'static [u8] {
        match self.kind {
            Kind::Gzip(_) => &[],
            #[cfg(feature = "zstd")]
            Kind::Zstd(_) => &ZSTD_LAST_BLOCK,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_u32;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(len)
        .collect()
    }

    #[test]
    fn the_suffix_decides_the_compression() {
        for (name, kind, stem) in [
            ("a.pcap", Compression::None, "a.pcap"),
            ("a.pcap.gz", Compression::Gzip, "a.pcap"),
            ("a.zst", Compression::Zstd, "a"),
            ("a.gz1", Compression::None, "a.gz1"),
        ] {
            let found = Compression::of(OsStr::new(name));
            assert_eq!((found, found.without_suffix(OsStr::new(name))), (kind, stem.into()), "{name}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt as _;
            let name = OsStr::from_bytes(b"\xff.pcap.gz");
            assert_eq!(Compression::Gzip.without_suffix(name), OsStr::from_bytes(b"\xff.pcap"));
        }
    }

    #[test]
    fn gzip_units_decode_as_one_stream_also_if_incompressible() {
        let mut encoder = Encoder::new(Compression::Gzip).unwrap().unwrap();
        let (mut packed, mut all) = (Vec::new(), Vec::new());
        for bytes in [noise(300_000), vec![7; 300_000], Vec::new(), noise(1)] {
            packed.extend(encoder.unit(&bytes).unwrap());
            all.extend(bytes);
        }
        let mut read = Vec::new();
        flate2::read::MultiGzDecoder::new(&*packed).read_to_end(&mut read).unwrap();
        assert!(read == all);
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstandard_is_valid_after_every_unit_also_if_incompressible() {
        let mut encoder = Encoder::new(Compression::Zstd).unwrap().unwrap();
        let (mut packed, mut all) = (Vec::new(), Vec::new());
        for bytes in [noise(300_000), vec![7; 300_000], noise(1)] {
            packed.extend(encoder.unit(&bytes).unwrap());
            all.extend(bytes);
            let ended = [&packed[..], encoder.end()].concat();
            assert!(zstd::decode_all(&*ended).unwrap() == all);
        }
    }

    #[test]
    fn a_unit_reuses_its_buffer() {
        let mut encoder = Encoder::new(Compression::Gzip).unwrap().unwrap();
        let bytes = noise(100_000);
        encoder.unit(&bytes).unwrap();
        let allocated = allocation_counter::measure(|| {
            encoder.unit(&bytes).unwrap();
        });
        assert_eq!(allocated.count_total, 0, "{allocated:?}");
    }
}
