//! The files of a capture: when one ends and the next begins, what is done with it then.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use mirror_user::{
    escape,
    sink::pcap::{PcapBuilder, WhenFull},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Usage, lists};

/// How a capture is spread over files.
#[derive(Args, Debug)]
pub(crate) struct FilesArgs {
    /// Begin another file once one is larger than so many millions of bytes, before compression; k, m, g: KiB, MiB, GiB
    #[arg(short = 'C', long, help_heading = "Files", value_name = "SIZE", value_parser = lists::size, requires = "write")]
    file_size: Option<u64>,
    /// Begin another file each so many seconds, in replay by the times of the packets; strftime(3) in the name of -w is its
    /// time
    #[arg(
        short = 'G',
        long,
        help_heading = "Files",
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS),
        requires = "write"
    )]
    rotate_seconds: Option<u64>,
    /// With -C: so many files, then the oldest is replaced. With -G alone: end after so many files
    #[arg(
        short = 'W',
        long,
        help_heading = "Files",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        requires = "write"
    )]
    file_count: Option<u32>,
    /// Run `COMMAND FILE` for each file that is complete; it writes beneath the directory of -w, see --command-write
    #[arg(short = 'z', long, help_heading = "Files", value_name = "COMMAND", requires = "write")]
    pub(crate) postrotate_command: Option<PathBuf>,
    /// A file for each origin (VNI and source), which is in its name
    #[arg(long, help_heading = "Files", requires = "write")]
    per_origin: bool,
    /// With --per-origin: further origins share a file
    #[arg(
        long,
        help_heading = "Files",
        value_name = "COUNT",
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=4096),
        requires = "write"
    )]
    max_origins: u32,
    /// Leave so much space free, in the units of -C
    #[arg(long, help_heading = "Files", value_name = "SIZE", value_parser = lists::size, requires = "write")]
    min_free: Option<u64>,
    /// What to do when the file system is full, or less than --min-free is free
    #[arg(long, help_heading = "Files", value_enum, default_value_t = WhenFullArg::Wait, requires = "write")]
    when_full: WhenFullArg,
}

/// A hundred years.
const MOST_SECONDS: u64 = 100 * 366 * 24 * 3600;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhenFullArg {
    /// Drop packets until there is space again
    Wait,
    /// Delete the oldest complete files of this run, those of -z once their command has ended; wait where there is none
    Delete,
    /// End the capture
    Stop,
}

impl FilesArgs {
    /// What cannot go together.
    pub(crate) fn check(&self, stream: Option<&Path>) -> Result<(), Usage> {
        let rotates = self.file_size.is_some() || self.rotate_seconds.is_some();
        if self.file_count.is_some() && !rotates {
            return Err(Usage("-W counts the files of -C or -G: give one of them too".into()));
        }
        let of_files = [
            (rotates, "-C and -G"),
            (self.postrotate_command.is_some(), "-z"),
            (self.per_origin, "--per-origin"),
            (self.min_free.is_some(), "--min-free"),
        ];
        let Some(stream) = stream else { return Ok(()) };
        let name = escape::path(stream);
        if stream.extension().is_some_and(|ending| ending == "gz" || ending == "zst") {
            let message = format!(
                "-w {name}: only files are compressed; leave the ending out, and pipe it through the tool"
            );
            return Err(Usage(message));
        }
        match of_files.iter().find(|(given, _)| *given) {
            Some((_, flag)) => {
                Err(Usage(format!("{flag} asks for files, and -w {name} writes none; name a file")))
            }
            None => Ok(()),
        }
    }

    /// Whether other files follow the first, with numbers behind its name.
    pub(crate) fn are_numbered(&self) -> bool {
        self.file_size.is_some() || self.rotate_seconds.is_some()
    }

    /// Lets the process have as many files open as these may be.
    pub(crate) fn allow(&self) -> Result<(), Usage> {
        if self.per_origin { allow_files(u64::from(self.max_origins)) } else { Ok(()) }
    }

    /// Sets a capture up accordingly. `on_last` is called when the files of -G are all written.
    pub(crate) fn apply(
        &self,
        mut builder: PcapBuilder,
        by_packets: bool,
        on_last: impl FnOnce() + Send + 'static,
    ) -> PcapBuilder {
        if let Some(bytes) = self.file_size {
            builder = builder.rotate_size(bytes);
        }
        if let Some(seconds) = self.rotate_seconds {
            let every = Duration::from_secs(seconds);
            let rotated =
                if by_packets { builder.rotate_every_by_packets(every) } else { builder.rotate_every(every) };
            builder = rotated.on_last(on_last);
        }
        if let Some(files) = self.file_count {
            builder = builder.max_files(files);
        }
        if self.per_origin {
            builder = builder.per_origin(self.max_origins as usize);
        }
        let when_full = match self.when_full {
            WhenFullArg::Wait => WhenFull::Wait,
            WhenFullArg::Delete => WhenFull::Delete,
            WhenFullArg::Stop => WhenFull::Stop,
        };
        builder.min_free(self.min_free.unwrap_or(0), when_full)
    }
}

/// Lets the process have so many files open beside all else, as far as it may.
fn allow_files(files: u64) -> Result<(), Usage> {
    /// Rings, sockets, maps, standard streams.
    const BESIDE: u64 = 128;
    let limit = getrlimit(Resource::Nofile);
    if let Some(most) = limit.maximum.filter(|most| *most < files + BESIDE) {
        return Err(Usage(format!(
            "--max-origins {files}: the process may have {most} files open (`ulimit -Hn`); {} origins at most",
            most.saturating_sub(BESIDE)
        )));
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    Ok(())
}
