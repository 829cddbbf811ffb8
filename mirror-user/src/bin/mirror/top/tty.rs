//! The terminal of `mirror top`: entered, drawn on, and restored on every way out.

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH},
    flag, low_level,
};

use super::screen::{Line, Size};

/// Alternate screen, no cursor, no wrapping: DEC private modes of xterm, which tmux has, too.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// What was typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Key {
    /// q, the end of input, or a signal that ends the process.
    Quit,
}

/// A terminal that is drawn on. Dropping it restores it.
pub(super) struct Tty {
    /// The modes of standard input before; `None` if it is no terminal.
    before: Option<Termios>,
    quit: Arc<AtomicBool>,
    suspend: Arc<AtomicBool>,
    /// The terminal has another size, or was used by others.
    changed: Arc<AtomicBool>,
}

impl Tty {
    pub(super) fn enter() -> io::Result<Self> {
        let tty = Self {
            before: io::stdin().is_terminal().then(|| tcgetattr(io::stdin())).transpose()?,
            quit: Arc::default(),
            suspend: Arc::default(),
            changed: Arc::default(),
        };
        // Before the screen is entered: a signal then ends what `drop` restores.
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            flag::register(signal, Arc::clone(&tty.quit))?;
        }
        for signal in [SIGWINCH, SIGCONT] {
            flag::register(signal, Arc::clone(&tty.changed))?;
        }
        flag::register(SIGTSTP, Arc::clone(&tty.suspend))?;
        tty.take()?;
        Ok(tty)
    }

    /// Keys are not echoed, and come without an end of line; Ctrl-C and Ctrl-Z remain signals.
    fn take(&self) -> io::Result<()> {
        if let Some(before) = &self.before {
            let mut modes = before.clone();
            modes.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
            tcsetattr(io::stdin(), OptionalActions::Drain, &modes)?;
        }
        write(ENTER)
    }

    fn restore(&self) -> io::Result<()> {
        let left = write(LEAVE);
        if let Some(before) = &self.before {
            tcsetattr(io::stdin(), OptionalActions::Drain, before)?;
        }
        left
    }

    /// Whether all has to be drawn again.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    /// The next key within a time. Stops the process where Ctrl-Z asks for it.
    pub(super) fn key(&mut self, patience: Duration) -> io::Result<Option<Key>> {
        if self.suspend.swap(false, Ordering::Relaxed) {
            self.restore()?;
            low_level::emulate_default_handler(SIGTSTP)?;
            // Here again after SIGCONT.
            self.take()?;
            self.changed.store(true, Ordering::Relaxed);
        }
        let key = if self.before.is_some() {
            typed(patience)?
        } else {
            thread::sleep(patience);
            None
        };
        Ok(if self.quit.load(Ordering::Relaxed) { Some(Key::Quit) } else { key })
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = self.restore();
    }
}

/// Draws over what there is on a terminal with so many rows.
pub(super) fn draw(lines: &[Line], rows: usize) -> io::Result<()> {
    write(&frame(lines, rows))
}

/// Each row is erased before it is written: after its last column the cursor is still on that.
fn frame(lines: &[Line], rows: usize) -> String {
    let each: Vec<_> = lines.iter().map(|line| format!("\x1b[K{}", line.styled())).collect();
    let rest = if lines.len() < rows { "\r\n\x1b[J" } else { "" };
    format!("\x1b[H{}{rest}", each.join("\r\n"))
}

/// The size of the terminal, if standard output is one.
pub(super) fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some(Size { columns, rows })
}

fn typed(patience: Duration) -> io::Result<Option<Key>> {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
        Ok(0) | Err(Errno::EINTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut keys = [0; 64];
    let read = match stdin.lock().read(&mut keys) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
        // A terminal that has gone: EIO.
        result => result.unwrap_or(0),
    };
    Ok((read == 0 || keys[..read].iter().any(|key| b"qQ".contains(key))).then_some(Key::Quit))
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            rates::{View, tests::status},
            screen,
        },
        *,
    };

    #[test]
    fn nothing_is_erased_behind_the_last_column() {
        for rows in [5, 24] {
            let lines = screen::draw(&View::of(&status(1), None), Size { columns: 80, rows });
            let drawn = frame(&lines, rows);
            let rows_drawn: Vec<_> = drawn.split("\r\n").collect();
            for row in &rows_drawn {
                let text = row.trim_start_matches("\x1b[H").trim_start_matches("\x1b[K");
                assert!(
                    !text.contains("\x1b[K") && (text == "\x1b[J" || !text.contains("\x1b[J")),
                    "{text:?}"
                );
            }
            // What is below is erased, if there is anything, and nothing scrolls.
            assert!(rows_drawn.len() <= rows);
            assert_eq!(drawn.ends_with("\x1b[J"), rows == 24);
        }
    }
}
