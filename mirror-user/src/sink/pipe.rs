//! Standard output, usually a pipe, and what else takes bytes without a name in a file system.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

/// Takes bytes, under a name for messages.
pub(super) struct Pipe {
    name: String,
    out: Box<dyn Write + Send>,
}

/// A write that did not come to its end.
pub(super) struct Torn {
    /// Bytes that were taken.
    pub(super) taken: usize,
    pub(super) error: io::Error,
}

impl Pipe {
    pub(super) fn new(name: impl Into<String>, out: impl Write + Send + 'static) -> Self {
        Self { name: name.into(), out: Box::new(out) }
    }

    /// Standard output, where possible without the line buffer that the standard library puts before it.
    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self::new(STDOUT, stdout()?))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// As [`write`].
    pub(super) fn write(&mut self, bytes: &[u8], stop: impl Fn() -> bool) -> Result<(), Torn> {
        write(&mut self.out, bytes, stop)
    }
}

/// Writes and flushes all of it, and says how much was taken if that does not work. `stop` ends a wait for a full pipe.
pub(super) fn write(out: &mut dyn Write, bytes: &[u8], stop: impl Fn() -> bool) -> Result<(), Torn> {
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
        return Err(Torn { taken, error });
    }
    // What an embedder's writer buffers and cannot flush, nobody has: none of it counts.
    out.flush().map_err(|error| Torn { taken: 0, error })
}

pub(super) const STDOUT: &str = "standard output";

/// How long to leave a full pipe alone.
const FULL_PIPE: Duration = Duration::from_millis(1);

fn stdout() -> io::Result<impl Write + Send> {
    #[cfg(unix)]
    {
        use std::{fs::File, os::fd::AsFd};
        Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }
    #[cfg(windows)]
    {
        use std::{fs::File, os::windows::io::AsHandle};
        Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
    }
    #[cfg(not(any(unix, windows)))]
    Ok(io::stdout())
}
