//! How far a run is, on standard error: one line that is overwritten on a terminal, a line each elsewhere.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

/// Takes the line back when it is dropped.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
}

/// To the first column, then erase the line (ECMA-48).
const ERASE: &str = "\r\x1b[2K";

impl Progress {
    /// Nothing is shown yet.
    #[must_use]
    pub fn start() -> Self {
        Self { terminal: io::stderr().is_terminal() }
    }

    /// Shows what is being done now.
    pub fn show(&self, what: impl Display) {
        if self.terminal {
            // What cannot be shown is no reason to stop measuring.
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
