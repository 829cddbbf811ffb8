//! Validates outputs, as far as that is possible without opening them.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
};

use mirror_user::{
    escape,
    settings::Snap,
    sink::pcap::{Pcap, Target},
};

use crate::{
    exit::Usage,
    output_config::OutputConfig,
    places,
    streams::{self, Stream, Streams},
};

impl OutputConfig {
    /// Validates flags and configuration files, before a run opens anything. Asks the file system only what
    /// paths are and which are the same. Returns the outputs that are streams.
    pub(crate) fn validate(&self) -> anyhow::Result<Streams> {
        self.all().try_for_each(Self::require_outputs)?;
        if self.quiet && self.log_verbosity() > 0 {
            let message = "-q cannot be used with -v; with --print it can, where -v is about packets";
            return Err(Usage(message.into()).into());
        }
        self.check_sessions()?;
        let streams = Streams::identify(self.writes())?;
        for output in self.all() {
            let stream = output.write.as_deref().filter(|path| streams.of(path).is_some());
            output.files.check(stream)?;
            if let Some(path) = &output.write {
                let target = if stream.is_some() { Target::stdout() } else { Target::file(path) };
                output.files.apply(Pcap::builder(target), false, || {}).validate()?;
            }
            output.forward.check()?;
        }
        self.share_stdout(streams.to_stdout())?;
        if self.report.as_deref().is_some_and(streams::is_stdout) {
            let message = "--report takes a file; --json prints the report to standard output";
            return Err(Usage(message.into()).into());
        }
        self.share_files(&streams)?;
        self.share_names()?;
        Ok(streams)
    }

    /// Rejects flags about an output that is not there. Flags at their default are ignored.
    pub(crate) fn require_outputs(&self) -> Result<(), Usage> {
        let write = ("-w FILE", self.write.is_some());
        let packets = ("-w FILE or --print", self.write.is_some() || self.print.is_enabled());
        let own = [
            (self.format.is_some(), "--format", write),
            (self.outer, "--outer", packets),
            (self.unbuffered, "-U", write),
            (self.snap != Snap::default(), "-s", write),
        ];
        let files = self.files.given().map(|(given, flag)| (given, flag, write));
        let print = ("--print", self.print.is_enabled());
        let printing = self.print.given().map(|(given, flag)| (given, flag, print));
        let forward = ("--forward TARGET", self.forward.targets().next().is_some());
        let forwarding = self.forward.given().map(|(given, flag)| (given, flag, forward));
        let all = own.into_iter().chain(files).chain(printing).chain(forwarding);
        match all.into_iter().find(|(given, _, (_, there))| *given && !there) {
            Some((_, flag, (output, _))) => {
                Err(Usage(format!("{flag} goes with {output}, which is required")))
            }
            None => Ok(()),
        }
    }

    /// The files of its capture.
    pub(crate) fn capture_place<'p>(&self, path: &'p Path) -> places::Output<'p> {
        places::Output {
            flag: "-w",
            path,
            is_series: self.files.are_numbered(),
            has_parts: self.files.may_write_parts(),
        }
    }

    /// Each file has only one output.
    fn share_files(&self, streams: &Streams) -> Result<(), Usage> {
        let captures = self.all().filter_map(|output| Some((output, output.write.as_deref()?)));
        let has_place = |path| matches!(streams.of(path), None | Some(Stream::Special));
        let captures =
            captures.filter(|(_, path)| has_place(path)).map(|(output, path)| output.capture_place(path));
        let report = self.report.iter().map(|path| places::Output::single("--report", path));
        let files = captures.chain(report);
        let sockets = self.all().flat_map(|output| output.forward.sockets());
        let files =
            files.chain(sockets.map(|path| places::Output::single("--forward pcap-over-ip:listen=", path)));
        places::distinct(&files.collect::<Vec<_>>())
    }

    /// Each sink has its own name.
    fn share_names(&self) -> Result<(), Usage> {
        let mut names = vec!["counters".to_owned()];
        names.extend(self.outputs().into_iter().map(|output| output.name));
        match names.iter().enumerate().find(|(nth, name)| names[..*nth].contains(name)) {
            Some((_, name)) => {
                Err(Usage(format!("there are two sinks {}; names must differ", escape::line(name))))
            }
            None => Ok(()),
        }
    }

    /// Standard output carries only one output.
    fn share_stdout(&self, writes: usize) -> Result<(), Usage> {
        let prints = self.all().filter(|output| output.print.is_enabled()).count();
        let (message, remedy) = match (writes, prints, self.json) {
            (0, 0, _) | (0, 1, false) => return Ok(()),
            (1, 0, false) => return Ok(()),
            (1, 0, true) => ("-w - and --json both want standard output", "use --report FILE for the report"),
            (0, 1, true) => {
                ("--print and --json both want standard output", "use --report FILE for the report")
            }
            (1, 1, _) => ("-w - and --print both want standard output", "write the capture to a file"),
            _ => ("two sinks both want standard output", "write the captures to files, and print once"),
        };
        Err(Usage(format!("{message}; {remedy}")))
    }

    /// Captures are not written to a terminal.
    pub(crate) fn refuse_terminal(&self) -> Result<(), Usage> {
        if self.writes().any(streams::is_stdout) && io::stdout().is_terminal() {
            let message = "-w - would write a capture to the terminal; pipe it: `… -w - | tshark -r -`";
            return Err(Usage(message.to_owned()));
        }
        Ok(())
    }
}

/// The name of a table's sink: the first has the table's name.
pub(crate) fn in_table(table: &str, nth: usize, sink: &str) -> String {
    if nth == 1 { table.to_owned() } else { format!("{table} {sink}") }
}
