//! The files of a capture: rotation, the command of -z, and free space.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use mirror_user::{
    escape,
    settings::{
        BufferSize, FileCount, MaxOrigins, RotateSeconds, Settings, Size, WhenFull, Writers, Written,
    },
    sink::pcap::PcapBuilder,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    exit::Usage,
    flag_values::{given, path},
};

/// How a capture is split into files.
#[derive(Args, Debug)]
pub(crate) struct FilesArgs {
    /// Start a new file once one is larger than SIZE before compression: in millions of bytes, or with k, m
    /// or g in KiB, MiB or GiB
    #[arg(short = 'C', long, help_heading = "Files", value_name = "SIZE")]
    file_size: Option<Written<Size>>,
    /// Start a new file every SECONDS, in replay by packet timestamps; the name of -w may have a time format
    /// as of strftime(3)
    #[arg(short = 'G', long, help_heading = "Files", value_name = "SECONDS")]
    rotate_seconds: Option<Written<RotateSeconds>>,
    /// With -C: keep at most COUNT files, replacing the oldest. With -G alone: stop after COUNT files
    #[arg(short = 'W', long, help_heading = "Files", value_name = "COUNT")]
    file_count: Option<Written<FileCount>>,
    /// Run `COMMAND FILE` for each completed file; it may write beneath the directory of -w, see
    /// --command-write
    #[arg(short = 'z', long, help_heading = "Files", value_name = "COMMAND")]
    postrotate_command: Option<PathBuf>,
    /// Memory in which packets wait for the writer, for each worker: in KiB as tcpdump's, or with k, m or g
    /// in KiB, MiB or GiB. Packets that find it full are dropped and counted (`no_block`)
    #[arg(short = 'B', long, help_heading = "Files", value_name = "SIZE")]
    buffer_size: Option<Written<BufferSize>>,
    /// With ingest: write with N threads, each to its own file with a number in its name; at most one for
    /// each queue. `auto`: as many as there are CPUs beside the workers'
    #[arg(long, help_heading = "Files", value_name = "N|auto")]
    writers: Option<Written<Writers>>,
    /// Write one file per origin (VNI and source), which is part of its name
    #[arg(long, help_heading = "Files")]
    per_origin: bool,
    /// With --per-origin: how many origins have their own file at a time; the others share one
    #[arg(long, help_heading = "Files", value_name = "COUNT")]
    max_origins: Option<Written<MaxOrigins>>,
    /// Keep at least SIZE free on the file system, in the units of -C
    #[arg(long, help_heading = "Files", value_name = "SIZE")]
    min_free: Option<Written<Size>>,
    /// What to do when the file system is full, or has less than --min-free
    #[arg(long, help_heading = "Files", value_enum)]
    when_full: Option<WhenFull>,
}

impl FilesArgs {
    /// Stores the flags that were given.
    pub(crate) fn fill(self, settings: &mut Settings) {
        let Self {
            file_size,
            rotate_seconds,
            file_count,
            postrotate_command,
            buffer_size,
            writers,
            per_origin,
            max_origins,
            min_free,
            when_full,
        } = self;
        settings.file_size = file_size;
        settings.rotate_seconds = rotate_seconds;
        settings.file_count = file_count;
        settings.postrotate_command = path(postrotate_command.as_ref());
        settings.buffer_size = buffer_size;
        settings.writers = writers;
        settings.per_origin = given(per_origin);
        settings.max_origins = max_origins;
        settings.min_free = min_free;
        settings.when_full = when_full;
    }
}

/// How a capture is split into files, with defaults applied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Files {
    file_size: Option<u64>,
    rotate_seconds: Option<u64>,
    file_count: Option<u32>,
    pub(crate) postrotate_command: Option<PathBuf>,
    buffer_size: BufferSize,
    pub(crate) writers: Writers,
    per_origin: bool,
    max_origins: MaxOrigins,
    min_free: Option<u64>,
    when_full: WhenFull,
}

impl Files {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            file_size: settings.file_size.as_deref().map(|size| size.0),
            rotate_seconds: settings.rotate_seconds.as_deref().map(|seconds| seconds.0),
            file_count: settings.file_count.as_deref().map(|count| count.0),
            postrotate_command: settings.postrotate_command.as_deref().cloned(),
            buffer_size: settings.buffer_size.as_deref().copied().unwrap_or_default(),
            writers: settings.writers.as_deref().copied().unwrap_or_default(),
            per_origin: settings.per_origin.unwrap_or_default(),
            max_origins: settings.max_origins.as_deref().copied().unwrap_or_default(),
            min_free: settings.min_free.as_deref().map(|size| size.0),
            when_full: settings.when_full.unwrap_or_default(),
        }
    }

    /// Which of its flags differ from their defaults.
    pub(crate) fn given(&self) -> [(bool, &'static str); 10] {
        [
            (self.file_size.is_some(), "-C"),
            (self.rotate_seconds.is_some(), "-G"),
            (self.file_count.is_some(), "-W"),
            (self.postrotate_command.is_some(), "-z"),
            (self.buffer_size != BufferSize::default(), "-B"),
            (self.writers != Writers::default(), "--writers"),
            (self.per_origin, "--per-origin"),
            (self.max_origins != MaxOrigins::default(), "--max-origins"),
            (self.min_free.is_some(), "--min-free"),
            (self.when_full != WhenFull::default(), "--when-full"),
        ]
    }

    /// Rejects flags that cannot be combined.
    pub(crate) fn check(&self, stream: Option<&Path>) -> Result<(), Usage> {
        let rotates = self.file_size.is_some() || self.rotate_seconds.is_some();
        if self.file_count.is_some() && !rotates {
            return Err(Usage("-W counts the files of -C or -G: give one of them too".into()));
        }
        let of_files = [
            (rotates, "-C and -G"),
            (self.postrotate_command.is_some(), "-z"),
            (self.writes_parts(), "--writers"),
            (self.per_origin, "--per-origin"),
            (self.min_free.is_some(), "--min-free"),
        ];
        let Some(stream) = stream else { return Ok(()) };
        let name = escape::path(stream);
        if stream.extension().is_some_and(|ending| ending == "gz" || ending == "zst") {
            let message = format!(
                "-w {name}: only files are compressed; drop the suffix, and pipe it through gzip or zstd"
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

    /// Whether numbered files follow the first.
    pub(crate) fn are_numbered(&self) -> bool {
        self.file_size.is_some() || self.rotate_seconds.is_some()
    }

    /// Whether several writers are asked for by number; `auto` may choose one.
    pub(crate) fn writes_parts(&self) -> bool {
        matches!(self.writers, Writers::Count(2..))
    }

    /// Whether there may be several writers, each with files of its own.
    pub(crate) fn may_write_parts(&self) -> bool {
        self.writers == Writers::Auto || self.writes_parts()
    }

    /// Whether each origin has files of its own.
    pub(crate) fn are_per_origin(&self) -> bool {
        self.per_origin
    }

    /// Raises the limit of open files to what these files may need, with this many writers.
    pub(crate) fn allow(&self, writers: usize) -> Result<(), Usage> {
        if self.per_origin { allow_files(u64::from(self.max_origins.0), writers as u64) } else { Ok(()) }
    }

    /// Configures a capture accordingly. `on_last` is called when all files of -G are written.
    pub(crate) fn apply(
        &self,
        mut builder: PcapBuilder,
        by_packets: bool,
        on_last: impl FnOnce() + Send + 'static,
    ) -> PcapBuilder {
        builder = builder.memory(self.buffer_size.0);
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
            builder = builder.per_origin(self.max_origins.0 as usize);
        }
        builder.min_free(self.min_free.unwrap_or(0), self.when_full.into())
    }
}

/// Raises the limit of open files to those of this many origins and writers besides all others, if the hard
/// limit permits.
fn allow_files(origins: u64, writers: u64) -> Result<(), Usage> {
    /// Rings, sockets, maps, standard streams.
    const BESIDE: u64 = 128;
    let limit = getrlimit(Resource::Nofile);
    if let Some(most) = limit.maximum.filter(|most| *most < origins * writers + BESIDE) {
        return Err(Usage(format!(
            "--max-origins {origins}: at most {most} files may be open (`ulimit -Hn`), enough for {} origins",
            most.saturating_sub(BESIDE) / writers
        )));
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
    Ok(())
}
