//! Selection and outputs of a run, with defaults applied.

use std::{
    io::{self, IsTerminal as _},
    iter,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use ipnet::IpNet;
use mirror_user::{
    Tunnels, escape, hidden_file,
    select::{Allow, Filter, Selection},
    settings::{FileFormat, Many, OnOutputEnd, Settings, Snap, Written},
    sink::SinkNeeds,
};

use crate::{
    exit::Usage,
    files::Files,
    flag_values::repetitions,
    forward::Forwarding,
    print::Printing,
    reload::Permitted,
    sandbox::{Places, SandboxArg},
    sessions::Sessions,
    streams,
    writers::WriterPlan,
};

/// Selection, outputs, and the course of a run.
#[derive(Clone, Debug)]
pub(crate) struct OutputConfig {
    pub(crate) tunnels: Tunnels,
    /// Those of --vni.
    vnis: Vec<u32>,
    pub(crate) sessions: Sessions,
    sources: Vec<IpNet>,
    pub(crate) no_reassemble: bool,
    outer_filter: Option<String>,
    /// The words of the filter expression.
    pub(crate) expression: Vec<String>,
    pub(crate) write: Option<PathBuf>,
    /// Without one, the file name decides.
    pub(crate) format: Option<FileFormat>,
    pub(crate) outer: bool,
    pub(crate) unbuffered: bool,
    pub(crate) snap: Snap,
    pub(crate) files: Files,
    pub(crate) print: Printing,
    pub(crate) forward: Forwarding,
    pub(crate) json: bool,
    pub(crate) report: Option<PathBuf>,
    pub(crate) latency: bool,
    pub(crate) relinquish_privileges: Option<String>,
    pub(crate) sandbox: SandboxArg,
    /// Where a reload may create files, besides the directories of outputs.
    writable: Vec<PathBuf>,
    command_write: Vec<PathBuf>,
    command_connect: Option<Vec<u16>>,
    pub(crate) on_output_end: OnOutputEnd,
    pub(crate) count: Option<u64>,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    /// Further sinks, from a configuration file.
    pub(crate) tables: Vec<SinkTable>,
}

/// A sink with its own selection: a table `[[sink]]`.
#[derive(Clone, Debug)]
pub(crate) struct SinkTable {
    /// Its name in the report.
    pub(crate) name: String,
    /// Whether a run without it is unhealthy.
    pub(crate) required: bool,
    pub(crate) selection: Selection,
    pub(crate) output: OutputConfig,
}

impl OutputConfig {
    /// From resolved settings; the `[[sink]]` tables apart.
    pub(crate) fn of(settings: &Settings, tables: Vec<SinkTable>) -> Self {
        let path = |path: &Option<Written<PathBuf>>| path.as_deref().cloned();
        Self {
            tunnels: settings.port.clone().unwrap_or_default().into_value().0,
            vnis: settings.vni.as_deref().map(|list| list.0.clone()).unwrap_or_default(),
            sessions: Sessions::of(settings),
            sources: settings.source.as_deref().map(|list| list.0.clone()).unwrap_or_default(),
            no_reassemble: settings.no_reassemble.unwrap_or_default(),
            outer_filter: settings.outer_filter.as_deref().cloned(),
            expression: settings.filter.as_deref().map(|words| words.0.clone()).unwrap_or_default(),
            write: path(&settings.write),
            format: settings.format,
            outer: settings.outer.unwrap_or_default(),
            unbuffered: settings.unbuffered.unwrap_or_default(),
            snap: settings.snap.as_deref().copied().unwrap_or_default(),
            files: Files::of(settings),
            print: Printing::of(settings),
            forward: Forwarding::of(settings),
            json: settings.json.unwrap_or_default(),
            report: path(&settings.report),
            latency: settings.latency.unwrap_or_default(),
            relinquish_privileges: settings.relinquish_privileges.as_deref().cloned(),
            sandbox: settings.sandbox.unwrap_or_default(),
            writable: settings.writable.iter().flat_map(Many::values).cloned().collect(),
            command_write: settings.command_write.iter().flat_map(Many::values).cloned().collect(),
            command_connect: settings.command_connect.as_deref().map(|list| list.0.clone()),
            on_output_end: settings.on_output_end.unwrap_or_default(),
            count: settings.count.as_deref().map(|count| count.0),
            quiet: settings.quiet.unwrap_or_default(),
            verbose: repetitions(&settings.verbose),
            tables,
        }
    }

    /// The same sessions as another one, which has read them.
    pub(crate) fn with_sessions_of(self, other: &Self) -> Self {
        Self { sessions: other.sessions.clone(), ..self }
    }

    /// The VNIs that are accepted, in the sequence of --vni; all if there are none.
    pub(crate) fn vnis(&self) -> Vec<u32> {
        if self.vnis.is_empty() { self.sessions.vnis() } else { self.vnis.clone() }
    }

    /// Refuses sessions and VNIs that contradict each other.
    pub(crate) fn check_sessions(&self) -> Result<(), Usage> {
        self.sessions.check(!self.vnis.is_empty())
    }

    /// Which tunnels are selected.
    pub(crate) fn allow(&self) -> Allow {
        Allow::all().vnis(self.vnis()).sources(self.sources.iter().copied())
    }

    /// Which packets are selected.
    pub(crate) fn selection(&self) -> Result<Selection, Usage> {
        let compile =
            |expression: &str| Filter::compile(expression).map_err(|error| Usage(error.to_string()));
        let mut selection = Selection::all().allow(self.allow());
        if let Some(expression) = &self.outer_filter {
            selection = selection.outer_filter(compile(expression)?);
        }
        if !self.expression.is_empty() {
            selection = selection.filter(compile(&self.expression.join(" "))?);
        }
        Ok(selection)
    }

    /// Whether the same packets are selected.
    pub(crate) fn selects_like(&self, other: &Self) -> bool {
        self.vnis == other.vnis
            && self.sources == other.sources
            && self.outer_filter == other.outer_filter
            && self.expression == other.expression
    }

    /// Whether the capture is the same.
    pub(crate) fn captures_like(&self, other: &Self) -> bool {
        self.write == other.write
            && self.format == other.format
            && self.outer == other.outer
            && self.unbuffered == other.unbuffered
            && self.snap == other.snap
            && self.files == other.files
    }

    /// Whether packets are printed the same way.
    pub(crate) fn prints_like(&self, other: &Self) -> bool {
        self.verbose == other.verbose && self.outer == other.outer && self.print == other.print
    }

    /// The directories of the files that the run will complete, those of a reload included.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        let report = self.report.as_deref().map(hidden_file::directory_of);
        self.capture_directories().chain(report)
    }

    /// The directories of captures, those of a reload included.
    fn capture_directories(&self) -> impl Iterator<Item = &Path> {
        let captures = self.writes().filter(|path| streams::is_file(path));
        captures.map(hidden_file::directory_of).chain(self.writable.iter().map(PathBuf::as_path))
    }

    /// What the outputs of a reload may do.
    pub(crate) fn permitted(&self) -> Permitted {
        let sockets = self.all().flat_map(|output| output.forward.sockets()).map(hidden_file::directory_of);
        let ports = self.all().flat_map(|output| output.forward.connects());
        Permitted::of(self.capture_directories().chain(sockets), ports)
    }

    /// What the run writes and where, and what its commands may do.
    ///
    /// # Errors
    ///
    /// Flags about commands contradict the rest, or name no directory.
    pub(crate) fn places(&self) -> anyhow::Result<Places> {
        let commands = self.all().any(|output| output.files.postrotate_command.is_some());
        for (flag, given) in [
            ("--command-write", !self.command_write.is_empty()),
            ("--command-connect", self.command_connect.is_some()),
        ] {
            if given && !commands {
                return Err(Usage(format!("{flag} applies to commands, and none is given with -z")).into());
            }
        }
        let flagged = [("--command-write", &self.command_write), ("--writable", &self.writable)];
        for (flag, directory) in flagged.iter().flat_map(|(flag, all)| all.iter().map(move |one| (flag, one)))
        {
            let shown = || format!("{flag} {}", escape::path(directory));
            if !directory.metadata().with_context(shown)?.is_dir() {
                return Err(Usage(format!("{}: not a directory", shown())).into());
            }
        }
        Ok(Places {
            outputs: self.writes().filter(|path| !streams::is_stdout(path)).map(Path::to_owned).collect(),
            sockets: self.all().flat_map(|output| output.forward.sockets()).map(Path::to_owned).collect(),
            writable: self.writable.clone(),
            report: self.report.clone(),
            connect: self.all().flat_map(|output| output.forward.connects()).collect(),
            restored: Vec::new(),
            commands,
            command_write: self.command_write.clone(),
            command_connect: self.command_connect.clone().unwrap_or_default(),
        })
    }

    /// The verbosity of the log.
    pub(crate) fn log_verbosity(&self) -> u8 {
        if self.print.is_enabled() { 0 } else { self.verbose }
    }

    /// Why these outputs cannot pass to another process.
    pub(crate) fn obstacle_to_upgrade(&self) -> Option<String> {
        self.all().find_map(|output| {
            if output.prints() {
                return Some("packets are printed: another process cannot go on with that".to_owned());
            }
            let stream = output.write.as_deref().filter(|path| !streams::is_file(path));
            if let Some(path) = stream {
                let path = escape::path(path);
                return Some(format!("-w {path} is a stream: another process cannot go on with it"));
            }
            if output.files.are_per_origin() {
                return Some("files per origin: another process cannot go on with them".to_owned());
            }
            let target = output.forward.exclusive()?;
            Some(format!("--forward {target}: another process cannot open it beside this one"))
        })
    }

    /// Whether any output prints packets, tables included.
    pub(crate) fn prints(&self) -> bool {
        self.all().any(|output| output.print.is_enabled())
    }

    /// Whether packets are printed to a terminal, where they would break the live line.
    pub(crate) fn prints_to_terminal(&self) -> bool {
        self.prints() && io::stdout().is_terminal()
    }

    /// The outputs of flags, and of each table.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Self> {
        iter::once(self).chain(self.tables.iter().map(|table| &table.output))
    }

    /// The first output of these flags, if there is one: capture, text or target.
    pub(crate) fn first_output(&self) -> Option<String> {
        let write = self.write.as_ref().map(|path| escape::path(path).to_string());
        let write = write.or_else(|| self.print.is_enabled().then(|| "print".to_owned()));
        write.or_else(|| self.forward.targets().next())
    }

    /// How many files its outputs have open at once, without those of `--per-origin` and of readers.
    pub(crate) fn files_needed(&self, writers: &WriterPlan) -> u64 {
        /// A file and its directory.
        const FILE: u64 = 2;
        /// A device with its programs and links; sockets with a UMEM; of a veth pair all of these, and a
        /// namespace.
        const TARGET: u64 = 11;
        let captures = self.all().filter(|output| output.write.is_some());
        let files: usize = captures.map(|output| writers.count(output.files.writers)).sum();
        let files = files + usize::from(self.report.is_some());
        let prints = self.all().filter(|output| output.print.is_enabled()).count();
        let targets = self.all().map(|output| output.forward.targets().count()).sum::<usize>();
        files as u64 * FILE + prints as u64 + targets as u64 * TARGET
    }

    /// The paths of captures, from flags and tables.
    pub(crate) fn writes(&self) -> impl Iterator<Item = &Path> {
        self.all().filter_map(|output| output.write.as_deref())
    }

    /// The sinks of a run, what they need of packets, and their own selections.
    pub(crate) fn sink_needs(&self) -> Vec<(String, SinkNeeds, Option<Arc<Selection>>)> {
        let of = |output: &Self, selection: Option<Arc<Selection>>| {
            let forwards = output.forward.needs();
            let others = output.sink_names().len() - forwards.len();
            let needs = iter::repeat_n(SinkNeeds::Frames, others).chain(forwards);
            let sinks = output.sink_names().into_iter().zip(needs);
            sinks.map(move |(sink, needs)| (sink, needs, selection.clone())).collect()
        };
        let mut all: Vec<_> = of(self, None);
        all.extend(self.latency.then(|| ("latency".to_owned(), SinkNeeds::Frames, None)));
        for SinkTable { name, selection, output, .. } in &self.tables {
            let own: Vec<_> = of(output, Some(Arc::new(selection.clone())));
            all.extend(own.into_iter().map(|(_, needs, selection)| (name.clone(), needs, selection)));
        }
        all
    }

    /// The names of its sinks in the report.
    pub(crate) fn sink_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        names.extend(self.write.is_some().then(|| "pcap".to_owned()));
        names.extend(self.print.is_enabled().then(|| "print".to_owned()));
        names.extend(self.forward.sink_names());
        names
    }
}
