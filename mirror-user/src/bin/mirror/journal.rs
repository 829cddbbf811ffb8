//! Priorities of lines in systemd's journal: sd-daemon(3).

use std::{
    env,
    fmt::Write as _,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::OnceLock,
};

use rustix::fs::fstat;
use tracing::Level;

/// A priority of syslog(3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Priority {
    Error = 3,
    Warning = 4,
    Information = 6,
    Debug = 7,
}

impl Priority {
    pub(crate) fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Information,
            Level::DEBUG | Level::TRACE => Self::Debug,
        }
    }

    /// The text with the priority before each line, if standard error is a stream to the journal.
    pub(crate) fn mark(self, text: &str) -> String {
        if is_standard_error() { self.before_lines(text) } else { text.to_owned() }
    }

    fn before_lines(self, text: &str) -> String {
        let mut marked = String::with_capacity(text.len() + 4);
        for (at, line) in text.split('\n').enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            // Writing to a string does not fail.
            let _ = write!(marked, "{separator}<{}>{line}", self as u8);
        }
        marked
    }
}

/// Whether standard error is a stream to the journal, and not, say, a file that it was redirected to.
fn is_standard_error() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| {
        let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
        is_stream(&stream, io::stderr().as_fd())
    })
}

/// Whether a descriptor is the stream that `$JOURNAL_STREAM` names, as device and inode: `8:1234`.
fn is_stream(named: &str, descriptor: BorrowedFd<'_>) -> bool {
    let Some((device, inode)) = named.split_once(':') else { return false };
    let same = |found: u64, text: &str| text.parse() == Ok(found);
    fstat(descriptor).is_ok_and(|found| same(found.st_dev, device) && same(found.st_ino, inode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn each_line_has_its_priority() {
        assert_eq!(Priority::Error.before_lines("one"), "<3>one");
        assert_eq!(Priority::Information.before_lines("one\n  two"), "<6>one\n<6>  two");
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        assert_eq!(levels.map(|level| Priority::of(level) as u8), [3, 4, 6, 7, 7]);
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let (stream, other) = UnixStream::pair().unwrap();
        let found = fstat(&stream).unwrap();
        let named = format!("{}:{}", found.st_dev, found.st_ino);
        assert!(is_stream(&named, stream.as_fd()));
        assert!(!is_stream(&named, other.as_fd()));
        for wrong in ["", "8", ":", "8:", &format!("{named}0"), &format!("{}:x", found.st_dev)] {
            assert!(!is_stream(wrong, stream.as_fd()), "{wrong}");
        }
    }
}
