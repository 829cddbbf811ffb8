//! Progress on standard error: on a terminal one line that is overwritten, elsewhere one line per step.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

/// Erases the line when it is dropped.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
}

/// To the first column, then erase the line (ECMA-48).
const ERASE: &str = "\r\x1b[2K";

impl Progress {
    /// Nothing was shown yet.
    #[must_use]
    pub fn start() -> Self {
        Self { terminal: io::stderr().is_terminal() }
    }

    /// Shows the current step.
    pub fn show(&self, what: impl Display) {
        if self.terminal {
            // An error here must not stop the measurement.
            let _ignored = write!(io::stderr(), "{ERASE}{what}");
        } else {
            eprintln!("{what}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ignored = write!(io::stderr(), "{ERASE}");
        }
    }
}
