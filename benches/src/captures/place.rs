//! Where captures are written: file systems in memory, and a disk beside its own rate.

use std::{
    fs::{File, remove_file},
    os::{fd::AsFd, unix::fs::FileExt as _},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, fstatfs, open};
use tempfile::TempDir;

use crate::{mounted::Mounted, stats::count};

/// `f_type` of tmpfs (statfs(2)).
const TMPFS: i64 = 0x0102_1994;
/// Blocks of the disk's own rate, and how many.
const BLOCK: usize = 1 << 20;
const BLOCKS: u64 = 2048;

/// A directory to write captures in, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// In the report.
    pub(super) name: &'static str,
    root: Root,
}

#[derive(Debug)]
enum Root {
    Memory(Mounted),
    Disk(TempDir),
}

impl Place {
    /// A file system in memory of this many bytes, with these options of tmpfs(5).
    pub(super) fn memory(name: &'static str, bytes: u64, options: &str) -> Result<Self> {
        let memory = Mounted::tmpfs(bytes, options)?;
        Ok(Self { name, root: Root::Memory(memory) })
    }

    /// The disk of the working directory; `None` if that is in memory.
    pub(super) fn disk() -> Result<Option<Self>> {
        let directory = TempDir::new_in(".")?;
        let file_system = fstatfs(File::open(directory.path())?.as_fd())?;
        if file_system.f_type == TMPFS {
            return Ok(None);
        }
        Ok(Some(Self { name: "disk", root: Root::Disk(directory) }))
    }

    pub(super) fn path(&self) -> &Path {
        match &self.root {
            Root::Memory(mounted) => mounted.path(),
            Root::Disk(directory) => directory.path(),
        }
    }

    /// Bytes a second of a plain sequential writer with `O_DIRECT`; `None` in memory.
    pub(super) fn own_rate(&self) -> Result<Option<f64>> {
        let Root::Disk(directory) = &self.root else { return Ok(None) };
        let path = directory.path().join("sequential");
        let begun = Instant::now();
        write_file(&path, BLOCKS)?;
        let seconds = begun.elapsed().as_secs_f64();
        remove_file(&path)?;
        Ok(Some(count(BLOCKS * BLOCK as u64) / seconds))
    }

    /// The same of a writer of a ring of files of this size, each of which replaces the oldest.
    pub(super) fn own_ring_rate(&self, files: u32, bytes: u64) -> Result<Option<f64>> {
        let Root::Disk(directory) = &self.root else { return Ok(None) };
        let paths: Vec<_> = (0..files).map(|number| directory.path().join(format!("ring{number}"))).collect();
        let blocks = bytes / BLOCK as u64;
        paths.iter().try_for_each(|path| write_file(path, blocks))?;
        let begun = Instant::now();
        for path in &paths {
            remove_file(path)?;
            write_file(path, blocks)?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        paths.iter().try_for_each(remove_file)?;
        Ok(Some(count(u64::from(files) * blocks * BLOCK as u64) / seconds))
    }
}

fn write_file(path: &Path, blocks: u64) -> Result<()> {
    const ALIGNMENT: usize = 4096;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::DIRECT | OFlags::CLOEXEC;
    let file: File = open(path, flags, Mode::RUSR | Mode::WUSR).context("O_DIRECT")?.into();
    let memory = vec![0x5a; BLOCK + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let block = &memory[start..start + BLOCK];
    for number in 0..blocks {
        file.write_all_at(block, number * BLOCK as u64)?;
    }
    Ok(())
}
