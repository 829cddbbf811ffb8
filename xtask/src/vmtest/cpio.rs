//! Archives of the "newc" format, which the kernel unpacks as its first root
//! (Documentation/driver-api/early-userspace).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

/// An archive being written.
#[derive(Debug)]
pub(super) struct Archive<W> {
    to: W,
    folders: BTreeSet<PathBuf>,
    number: u32,
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, folders: BTreeSet::new(), number: 0 }
    }

    /// A folder and those above it.
    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        let mut folder = PathBuf::new();
        for part in Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))) {
            folder.push(part);
            if self.folders.insert(folder.clone()) {
                let name = folder.to_string_lossy().into_owned();
                self.entry(&name, FOLDER, &[])?;
            }
        }
        Ok(())
    }

    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.below(path, FILE, bytes)
    }

    pub(super) fn program(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.below(path, PROGRAM, bytes)
    }

    pub(super) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.below(path, LINK, target.as_bytes())
    }

    /// Writes the trailer.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.number = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()
    }

    fn below(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = Path::new(path).parent() {
            self.folder(&folder.to_string_lossy())?;
        }
        self.entry(path.trim_start_matches('/'), mode, bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let size = u32::try_from(bytes.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{name}: over 4 GiB")))?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        self.number += 1;
        self.to.write_all(b"070701")?;
        // Number, mode, user, group, links, time, size, four parts of device numbers, size of the name,
        // checksum.
        let links = 1;
        for field in [self.number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
            write!(self.to, "{field:08x}")?;
        }
        self.to.write_all(name.as_bytes())?;
        // Header and name are 110 bytes and more; both they and the bytes end on a multiple of 4.
        self.to.write_all(&[0; 4][..1 + padding(110 + name.len() + 1)])?;
        self.to.write_all(bytes)?;
        self.to.write_all(&[0; 4][..padding(bytes.len())])
    }
}

fn padding(len: usize) -> usize {
    len.next_multiple_of(4) - len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.program("/bin/a", b"12345").unwrap();
        archive.link("/bin/b", "a").unwrap();
        archive.finish().unwrap();
        assert!(bytes.len().is_multiple_of(4));
        // The folder first: number 1, two names.
        assert!(bytes.starts_with(b"07070100000001000041ed"));
        assert_eq!(&bytes[94..102], b"00000004");
        assert_eq!(&bytes[110..116], b"bin\0\0\0");
        let file = &bytes[116..];
        assert!(file.starts_with(b"07070100000002000081ed"));
        assert_eq!(&file[54..62], b"00000005");
        assert_eq!(&file[110..116], b"bin/a\0");
        assert_eq!(&file[116..124], b"12345\0\0\0");
        assert!(file[124..].starts_with(b"07070100000003"));
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("TRAILER!!!").count(), 1);
    }
}
