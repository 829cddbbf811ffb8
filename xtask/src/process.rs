//! Child processes: echoed before they start, always waited for, and signalled when we are.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The signal that requested a stop; 0 if none.
static STOPPED_BY: AtomicI32 = AtomicI32::new(0);

/// From here on INT, TERM and HUP do not end this process: they are forwarded to its children, and the
/// running command is waited for, so that labs are removed before the prompt is back.
///
/// # Errors
/// If no handler or thread can be installed.
pub(crate) fn watch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot install signal handlers")?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for number in signals.forever() {
                STOPPED_BY.store(number, Ordering::SeqCst);
                // Ctrl-C on a terminal has reached the whole foreground group already; a second signal would
                // stop at once.
                if number == SIGINT && in_foreground() {
                    continue;
                }
                let Ok(signal) = Signal::try_from(number) else { continue };
                for pid in descendants(std::process::id().cast_signed(), &parents()) {
                    // It may have ended in the meantime, which is fine.
                    let _ended_already = signal::kill(Pid::from_raw(pid), signal);
                }
            }
        })
        .context("cannot start the signal thread")?;
    Ok(())
}

/// Runs `command` on our own standard streams, after echoing it.
///
/// # Errors
/// If it cannot be started, or we were asked to stop meanwhile.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    eprintln!("$ {}", display(command));
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
    let status = child.wait().with_context(|| format!("cannot wait for `{name}`"))?;
    stopped()?;
    Ok(status)
}

/// Runs `command` beside others: what it prints follows its echo when it has ended, in one piece.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_apart(command: &mut Command) -> Result<ExitStatus> {
    let shown = display(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    eprint!("$ {shown}\n{}{}", said[0], said[1]);
    stopped()?;
    Ok(output.status)
}

/// Whether to continue.
///
/// # Errors
/// If a signal asked us to stop.
pub(crate) fn stopped() -> Result<()> {
    match STOPPED_BY.load(Ordering::SeqCst) {
        0 => Ok(()),
        number => bail!("stopped by {}", Signal::try_from(number).map_or("a signal", Signal::as_str)),
    }
}

/// Runs `command` like [`run`], and fails unless it succeeds.
///
/// # Errors
/// As [`run`], and where its exit status is not 0.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let status = run(command)?;
    if !status.success() {
        // The whole command is on the screen already.
        let subcommand = command.get_args().next().unwrap_or_default().to_string_lossy().into_owned();
        bail!("`{} {subcommand}` failed: {status}", program_name(command));
    }
    Ok(())
}

/// Runs `command` without an echo and returns its standard output; standard error is inherited.
///
/// # Errors
/// If it cannot be started, fails, or prints what is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", display(command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", display(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", display(command)))
}

/// The standard output of a query; `None` if the command cannot be started or fails.
pub(crate) fn output_quietly(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok())?
}

/// The exit code for a child that ended with `status`: its own, or 128 plus the signal, as in shells.
pub(crate) fn code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Variables that locate this host's tools.
const NOT_SHOWN: [&str; 2] = ["CARGO_HOME", "PATH"];

/// `command` as a shell command, with its environment.
pub(crate) fn display(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value.filter(|_| NOT_SHOWN.iter().all(|hidden| name != *hidden)) {
            let _infallible = write!(line, "{}={} ", name.to_string_lossy(), quote(&value.to_string_lossy()));
        }
    }
    line.push_str(&quote(&program_name(command)));
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&quote(&arg.to_string_lossy()));
    }
    line
}

/// `cargo` for the cargo that runs us, whose path is long.
fn program_name(command: &Command) -> String {
    let program = command.get_program();
    let cargo = env::var_os("CARGO");
    if cargo.is_some_and(|cargo| cargo == program) {
        "cargo".into()
    } else {
        program.to_string_lossy().into_owned()
    }
}

/// `word`, quoted for a POSIX shell if necessary.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''").replace('\x1f', " "))
    }
}

fn in_foreground() -> bool {
    tcgetpgrp(std::io::stdin()).is_ok_and(|foreground| foreground == getpgrp())
}

/// Process and parent of every process of this host. `/proc/PID/task/TID/children` would be shorter, but is a
/// kernel option.
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, parent_in_stat(&stat)?))
        })
        .collect()
}

/// proc_pid_stat(5): the second field is a name in parentheses that may hold anything, the fourth is the
/// parent.
fn parent_in_stat(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn descendants(root: i32, parents: &[(i32, i32)]) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|&&(_, p)| p == parent).map(|&(pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_children_are_found_and_strangers_are_not() {
        let parents = [(1, 0), (10, 1), (11, 10), (12, 11), (13, 10), (20, 1)];
        assert_eq!(descendants(10, &parents), [11, 13, 12]);
        assert!(descendants(20, &parents).is_empty());
    }

    #[test]
    fn a_process_name_with_parentheses_hides_no_parent() {
        assert_eq!(parent_in_stat("42 (a) b (c)) S 7 42 42 0"), Some(7));
    }

    #[test]
    fn our_own_child_is_seen_in_proc() {
        let mut child = Command::new("sleep").arg("5").spawn().unwrap();
        let found = descendants(std::process::id().cast_signed(), &parents());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id().cast_signed()));
    }

    #[test]
    fn a_command_is_shown_quoted_for_a_shell() {
        let mut command = Command::new("cargo");
        command.args(["doc", "--no-deps", "it's"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(display(&command), r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\''s'");
    }

    #[test]
    fn a_child_that_ends_by_a_signal_gives_the_code_a_shell_would() {
        let status = Command::new("sh").args(["-c", "kill -TERM $$"]).status().unwrap();
        assert_eq!(format!("{:?}", code(status)), format!("{:?}", ExitCode::from(143)));
    }
}
