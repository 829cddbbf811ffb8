//! Standard error: log lines, and a live line that they do not break.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use mirror_user::escape;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};

use crate::journal::Priority;

/// Whether a live line is on the terminal.
static LIVE: AtomicBool = AtomicBool::new(false);

/// Removes the live line, so that something else can be printed.
pub(crate) fn clear_live_line() {
    if LIVE.swap(false, Ordering::Relaxed) {
        // Errors are ignored: nobody is there to read them.
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

/// Prints a line to standard error. If its reader has gone (`2>&1 | tee`, after Ctrl-C), the run and its
/// report must not end, as they would with `eprintln!`.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::terminal::print(format_args!($($text)*))
    };
}
pub(crate) use say;

pub(crate) fn print(line: std::fmt::Arguments<'_>) {
    print_as(Priority::Information, &line.to_string());
}

/// Prints why the command fails.
pub(crate) fn print_error(text: &str) {
    print_as(Priority::Error, text);
}

fn print_as(priority: Priority, text: &str) {
    // As above.
    let _ = writeln!(io::stderr().lock(), "{}", priority.mark(&escape::terminal(text)));
}

/// Replaces the live line.
pub(crate) fn live_line(text: &str) {
    LIVE.store(true, Ordering::Relaxed);
    // As above.
    let _ = write!(io::stderr(), "\r{}\x1b[K", escape::line(text));
    let _ = io::stderr().flush();
}

/// Writes to standard error, after clearing the live line.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = io::StderrLock<'static>;

    fn make_writer(&'a self) -> Self::Writer {
        clear_live_line();
        io::stderr().lock()
    }
}

/// Formats an event as one line, whatever it contains: level and fields.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut fields = String::new();
        context.field_format().format_fields(Writer::new(&mut fields), event)?;
        let level = *event.metadata().level();
        let colour = match level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            Level::DEBUG => 34,
            Level::TRACE => 35,
        };
        let fields = escape::line(&fields);
        if writer.has_ansi_escapes() {
            writeln!(writer, "\x1b[{colour}m{level:>5}\x1b[0m {fields}")
        } else {
            writeln!(writer, "{}", Priority::of(level).mark(&format!("{level:>5} {fields}")))
        }
    }
}

/// Sends the library's events to standard error: warnings and errors; with `-v` also information, with `-vv`
/// everything.
pub(crate) fn start_log(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn,mirror=info",
        (false, 1) => "info,mirror_user=debug",
        (false, _) => "debug,mirror_user=trace",
    };
    let filter = EnvFilter::try_from_env("MIRROR_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr)
        .with_ansi(io::stderr().is_terminal())
        // They would go to standard error, which is what failed.
        .log_internal_errors(false)
        .event_format(Line)
        .init();
}
