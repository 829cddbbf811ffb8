//! Compressed files, which can be read to the last write at any time, and end well wherever they are cut back
//! to.
//!
//! Of gzip each write is a member of its own (RFC 1952 section 2.2), for whose checksum and length nothing
//! has to be known of those before it. Of Zstandard each write ends a block (RFC 8878 section 3.1.1) of the
//! one frame of the file, because Wireshark 4.0 loses its way between frames; the frame has no checksum, so
//! an empty last block ends it anywhere.

use std::{
    ffi::{OsStr, OsString},
    io,
};

use flate2::{Compress, Compression as Level, Crc, FlushCompress, Status};

/// How a file is compressed, by the ending of its name.
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
            .find(|kind| name.as_encoded_bytes().ends_with(kind.ending().as_bytes()))
            .unwrap_or(Self::None)
    }

    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// A name that ends in it, without it.
    pub(super) fn without_ending(self, name: &OsStr) -> OsString {
        let bytes = name.as_encoded_bytes();
        match bytes.strip_suffix(self.ending().as_bytes()) {
            // The endings are ASCII, so what is before them is as good a name as it was.
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

/// Compresses what is written to one file, in memory of its own.
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
/// Deflate may grow what it cannot compress, by 5 bytes in 16 KiB at most (RFC 1951 section 3.2.4), and has
/// an end.
const GZIP_MARGIN: usize = 64;
/// A frame's header, and that of a block for each flush.
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
    /// This build has no encoder of that kind, or it cannot be set up.
    pub(super) fn new(compression: Compression) -> io::Result<Option<Self>> {
        let kind = match compression {
            Compression::None => return Ok(None),
            Compression::Gzip => Kind::Gzip(Compress::new(Level::fast(), false)),
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                let mut stream = zstd::stream::raw::Encoder::new(1)?;
                // A file for each origin is many streams.
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

    /// These bytes as they are appended to the file. If they do not get there, further ones may make no
    /// sense, unless [`units_stand_alone`](Self::units_stand_alone).
    pub(super) fn unit(&mut self, bytes: &[u8]) -> io::Result<&[u8]> {
        self.unit.clear();
        match &mut self.kind {
            Kind::Gzip(deflate) => {
                self.unit.reserve(bytes.len() + bytes.len() / 1024 + GZIP_HEAD.len() + GZIP_MARGIN);
                self.unit.extend(GZIP_HEAD);
                deflate.reset();
                let status = deflate.compress_vec(bytes, &mut self.unit, FlushCompress::Finish);
                if !matches!(status, Ok(Status::StreamEnd)) {
                    return Err(io::Error::other("deflate did not come to its end"));
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
                    return Err(io::Error::other("Zstandard did not come to an end"));
                }
            }
        }
        Ok(&self.unit)
    }

    /// Forgets all units so far: nothing of them is in the file.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Gzip(deflate) => deflate.reset(),
            #[cfg(feature = "zstd")]
            Kind::Zstd(stream) => zstd::stream::raw::Operation::reinit(stream)?,
        }
        Ok(())
    }

    /// Whether what follows a unit that was cut off can still be read.
    pub(super) fn units_stand_alone(&self) -> bool {
        matches!(self.kind, Kind::Gzip(_))
    }

    /// What stands behind the last unit.
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
    fn a_kind_is_told_by_the_ending() {
        for (name, kind, stem) in [
            ("a.pcap", Compression::None, "a.pcap"),
            ("a.pcap.gz", Compression::Gzip, "a.pcap"),
            ("a.zst", Compression::Zstd, "a"),
            ("a.gz1", Compression::None, "a.gz1"),
        ] {
            let found = Compression::of(OsStr::new(name));
            assert_eq!((found, found.without_ending(OsStr::new(name))), (kind, stem.into()), "{name}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt as _;
            let name = OsStr::from_bytes(b"\xff.pcap.gz");
            assert_eq!(Compression::Gzip.without_ending(name), OsStr::from_bytes(b"\xff.pcap"));
        }
    }

    #[test]
    fn units_of_gzip_read_as_one_also_where_nothing_can_be_compressed() {
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
    fn zstandard_ends_well_behind_every_unit_also_where_nothing_can_be_compressed() {
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
    fn a_unit_takes_no_memory_anew() {
        let mut encoder = Encoder::new(Compression::Gzip).unwrap().unwrap();
        let bytes = noise(100_000);
        encoder.unit(&bytes).unwrap();
        let allocated = allocation_counter::measure(|| {
            encoder.unit(&bytes).unwrap();
        });
        assert_eq!(allocated.count_total, 0, "{allocated:?}");
    }
}
