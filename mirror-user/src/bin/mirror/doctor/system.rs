//! What `--apply` and `--undo` change: settings and files of the host.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use mirror_user::{
    escape,
    host::{HostError, run_state, settings::Setting},
};

/// The most bytes of a file that are read; ours have far fewer.
const MOST: u64 = 1 << 20;

/// A host. Each change is complete or not made, and lasts once the call returns.
pub(super) trait System {
    /// The value of a setting; `None` if its interface is gone.
    fn read(&self, setting: &Setting) -> Result<Option<String>, HostError>;
    fn write(&mut self, setting: &Setting, value: &str) -> Result<(), HostError>;
    /// A file's text, if there is one.
    fn file(&self, path: &str) -> anyhow::Result<Option<String>>;
    fn replace(&mut self, path: &str, text: &str) -> anyhow::Result<()>;
    fn remove(&mut self, path: &str) -> anyhow::Result<()>;
}

/// This host.
pub(super) struct ThisHost;

impl System for ThisHost {
    fn read(&self, setting: &Setting) -> Result<Option<String>, HostError> {
        match setting.read() {
            Ok(value) => Ok(Some(value)),
            Err(HostError::NoSuchInterface { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, setting: &Setting, value: &str) -> Result<(), HostError> {
        setting.write(value)
    }

    fn file(&self, path: &str) -> anyhow::Result<Option<String>> {
        read(path).with_context(|| format!("cannot read {}", escape::path(path)))
    }

    fn replace(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        replace(Path::new(path), text).with_context(|| format!("cannot write {}", escape::path(path)))
    }

    fn remove(&mut self, path: &str) -> anyhow::Result<()> {
        remove(Path::new(path)).with_context(|| format!("cannot remove {}", escape::path(path)))
    }
}

/// Only what root wrote: it says what root is to write next.
fn read(path: &str) -> io::Result<Option<String>> {
    // Does not block on a FIFO.
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    run_state::trusted(&file)?;
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// A reader sees the old file or the new one, after a crash of the host too.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    const EVERYBODY_READS: u32 = 0o644;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"));
    };
    make_directories(parent)?;
    // systemd and sysctl read names that end in `.conf`. One that is there was left by a killed process.
    let hidden = parent.join(format!(".{}.new", name.to_string_lossy()));
    match fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&hidden)?;
    let written = file
        .write_all(text.as_bytes())
        // Whatever the umask.
        .and_then(|()| file.set_permissions(Permissions::from_mode(EVERYBODY_READS)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&hidden, path))
        .and_then(|()| File::open(parent)?.sync_all());
    if written.is_err() {
        // The error that counts is the first.
        let _ = fs::remove_file(&hidden);
    }
    written
}

/// As `mkdir -p`, for all to read, whatever the umask.
fn make_directories(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directories(path.parent().ok_or(error)?)?;
            make_directories(path)
        }
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a file, and its directory if that is one of drop-ins with nothing else in it.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    let Some(parent) = path.parent() else { return Ok(()) };
    if parent.as_os_str().as_encoded_bytes().ends_with(b".service.d") {
        match fs::remove_dir(parent) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_replaced_as_a_whole_and_directories_of_drop_ins_are_not_left_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let drop_ins = scratch.path().join("system/mirror.service.d");
        let file = drop_ins.join("60-host.conf");
        let path = file.to_str().unwrap();
        let mut host = ThisHost;
        assert_eq!(host.file(path).unwrap(), None);
        for text in ["one\n", "two\n"] {
            host.replace(path, text).unwrap();
            assert_eq!(host.file(path).unwrap().as_deref(), Some(text));
        }
        fs::write(drop_ins.join(".60-host.conf.new"), "left by a killed process").unwrap();
        host.replace(path, "three\n").unwrap();
        assert_eq!(fs::read_dir(&drop_ins).unwrap().count(), 1);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
        host.remove(path).unwrap();
        assert!(!drop_ins.exists() && drop_ins.parent().unwrap().exists());
        host.replace(path, "four\n").unwrap();
        fs::write(drop_ins.join("veth.conf"), "").unwrap();
        host.remove(path).unwrap();
        assert!(drop_ins.join("veth.conf").exists());
    }

    #[test]
    fn a_file_that_others_could_have_written_is_not_believed() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("applied.json");
        fs::write(&file, "{}").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert!(ThisHost.file(file.to_str().unwrap()).is_err());
        let link = scratch.path().join("link");
        symlink("/etc/hostname", &link).unwrap();
        assert!(ThisHost.file(link.to_str().unwrap()).is_err());
    }
}
