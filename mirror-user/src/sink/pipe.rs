//! Standard output, usually a pipe, and other writers that are not files by name.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write},
    thread,
    time::Duration,
};

/// A writer with a name for messages.
pub(super) struct Pipe {
    name: String,
    out: Box<dyn Write + Send>,
    /// The same where it is a regular file (a shell's `>`): it can be truncated.
    file: Option<File>,
}

/// A write that failed before its end.
pub(super) struct PartialWrite {
    /// Bytes written.
    pub(super) taken: usize,
    /// Whether a buffer of the writer may still output some of the others.
    pub(super) is_unclear: bool,
    pub(super) error: io::Error,
}

impl Pipe {
    pub(super) fn new(name: impl Into<String>, out: impl Write + Send + 'static) -> Self {
        Self { name: name.into(), out: Box::new(out), file: None }
    }

    /// Standard output, where possible without the standard library's line buffer.
    pub(super) fn stdout() -> io::Result<Self> {
        #[cfg(unix)]
        let out = {
            use std::os::fd::AsFd;
            File::from(io::stdout().as_fd().try_clone_to_owned()?)
        };
        #[cfg(windows)]
        let out = {
            use std::os::windows::io::AsHandle;
            File::from(io::stdout().as_handle().try_clone_to_owned()?)
        };
        #[cfg(not(any(unix, windows)))]
        return Ok(Self::new(STDOUT, io::stdout()));
        #[cfg(any(unix, windows))]
        {
            let file = if out.metadata()?.is_file() { Some(out.try_clone()?) } else { None };
            Ok(Self { file, ..Self::new(STDOUT, out) })
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// As [`write`].
    pub(super) fn write(&mut self, bytes: &[u8], stop: impl Fn() -> bool) -> Result<(), PartialWrite> {
        write(&mut self.out, bytes, stop)
    }

    /// Truncates the last bytes written; an error for a pipe, whose reader has them.
    pub(super) fn cut(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let mut file = self.file.as_ref().ok_or(io::ErrorKind::NotSeekable)?;
        let whole = file.stream_position()?.saturating_sub(bytes as u64);
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole)).map(drop)
    }
}

/// Writes all bytes and flushes; the error has the number of bytes written. `stop` ends a wait for a full
/// pipe.
pub(super) fn write(out: &mut dyn Write, bytes: &[u8], stop: impl Fn() -> bool) -> Result<(), PartialWrite> {
    let mut taken = 0;
    while taken < bytes.len() {
        let error = match out.write(&bytes[taken..]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(more) => {
                taken += more;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A pipe inherited in non-blocking mode: rare, so polling is enough.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stop() => {
                thread::sleep(FULL_PIPE);
                continue;
            }
            Err(error) => error,
        };
        return Err(PartialWrite { taken, is_unclear: false, error });
    }
    // Bytes that an embedder's writer buffers and cannot flush may be lost: none of them count.
    out.flush().map_err(|error| PartialWrite { taken: 0, is_unclear: true, error })
}

pub(super) const STDOUT: &str = "standard output";

/// Interval between attempts to write to a full pipe.
const FULL_PIPE: Duration = Duration::from_millis(1);
