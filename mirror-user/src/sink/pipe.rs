//! Standard output, usually a pipe, and what else takes bytes without a name in a file system.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write},
    thread,
    time::Duration,
};

/// Takes bytes, under a name for messages.
pub(super) struct Pipe {
    name: String,
    out: Box<dyn Write + Send>,
    /// The same where it is a regular file, as behind `>` of a shell: to be cut back.
    file: Option<File>,
}

/// A write that did not come to its end.
pub(super) struct PartialWrite {
    /// Bytes that were taken.
    pub(super) taken: usize,
    /// Nobody knows which of the others may come out yet.
    pub(super) is_unclear: bool,
    pub(super) error: io::Error,
}

impl Pipe {
    pub(super) fn new(name: impl Into<String>, out: impl Write + Send + 'static) -> Self {
        Self { name: name.into(), out: Box::new(out), file: None }
    }

    /// Standard output, where possible without the line buffer that the standard library puts before it.
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

    /// Takes back the last bytes that were written, as far as that can be done: a reader of a pipe has them.
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

/// Writes and flushes all of it, and says how much was taken if that does not work. `stop` ends a wait for a
/// full pipe.
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
            // A pipe inherited in non-blocking mode. To look again is enough for the rare case.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stop() => {
                thread::sleep(FULL_PIPE);
                continue;
            }
            Err(error) => error,
        };
        return Err(PartialWrite { taken, is_unclear: false, error });
    }
    // What an embedder's writer buffers and cannot flush, nobody has: none of it counts.
    out.flush().map_err(|error| PartialWrite { taken: 0, is_unclear: true, error })
}

pub(super) const STDOUT: &str = "standard output";

/// How long to leave a full pipe alone.
const FULL_PIPE: Duration = Duration::from_millis(1);
