//! The outputs that a configuration plans, each of which is a sink of the run.

use std::path::Path;

use mirror_user::{select::Selection, sink::forward::Target};

use crate::{
    output_config::{OutputConfig, SinkTable},
    places,
    validate::in_table,
};

/// An output of a run that is to be opened, or was.
#[derive(Debug)]
pub(crate) struct PlannedOutput<'c> {
    /// The name of its sink in the report.
    pub(crate) name: String,
    pub(super) config: &'c OutputConfig,
    pub(super) table: Option<&'c SinkTable>,
    pub(super) kind: Kind<'c>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'c> {
    Capture(&'c Path),
    Print,
    /// A group of targets.
    Forward(&'c [Target]),
}

impl OutputConfig {
    /// All outputs, those of tables last.
    pub(crate) fn outputs(&self) -> Vec<PlannedOutput<'_>> {
        let mut outputs = self.own_outputs(None);
        outputs.extend(self.tables.iter().flat_map(|table| table.output.own_outputs(Some(table))));
        outputs
    }

    /// The outputs of these flags, or of this table.
    fn own_outputs<'c>(&'c self, table: Option<&'c SinkTable>) -> Vec<PlannedOutput<'c>> {
        let write = self.write.as_deref().map(Kind::Capture);
        let print = self.print.is_enabled().then_some(Kind::Print);
        let forwards = self.forward.groups().map(Kind::Forward);
        let kinds = write.into_iter().chain(print).chain(forwards);
        let planned = kinds.zip(self.sink_names()).zip(1..).map(|((kind, sink), nth)| {
            // A table may have several sinks: the first has its name.
            let name = table.map_or_else(|| sink.clone(), |table| in_table(&table.name, nth, &sink));
            PlannedOutput { name, config: self, table, kind }
        });
        planned.collect()
    }
}

impl PlannedOutput<'_> {
    /// Whether this is that output with, at most, other packets selected.
    pub(crate) fn is_opened_like(&self, other: &PlannedOutput<'_>) -> bool {
        let (own, others) = (self.config, other.config);
        let is_alike = match self.kind {
            Kind::Capture(_) => own.captures_like(others),
            Kind::Print => own.prints_like(others),
            Kind::Forward(_) => own.forward.opens_like(&others.forward),
        };
        is_alike && self.kind == other.kind && self.table.is_some() == other.table.is_some()
    }

    /// The selection of its table.
    pub(crate) fn selection(&self) -> Option<&Selection> {
        self.table.map(|table| &table.selection)
    }

    /// Whether that is the same.
    pub(crate) fn selects_like(&self, other: &PlannedOutput<'_>) -> bool {
        self.table.is_none() || self.config.selects_like(other.config)
    }

    /// Whether the run is unhealthy without it.
    pub(crate) fn is_required(&self) -> bool {
        self.table.is_some_and(|table| table.required)
    }

    /// The file that it begins with, or the stream that it writes to.
    pub(crate) fn capture(&self) -> Option<&Path> {
        match self.kind {
            Kind::Capture(path) => Some(path),
            Kind::Print | Kind::Forward(_) => None,
        }
    }

    /// The files that it writes, if it is a capture.
    pub(crate) fn place(&self) -> Option<places::Output<'_>> {
        self.capture().map(|path| self.config.capture_place(path))
    }

    /// Whether it prints packets.
    pub(crate) fn prints(&self) -> bool {
        self.kind == Kind::Print
    }

    /// Whether it runs a command for each completed file.
    pub(crate) fn has_command(&self) -> bool {
        self.capture().is_some() && self.config.files.postrotate_command.is_some()
    }

    /// The Unix sockets that readers connect to.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &Path> {
        self.targets().iter().filter_map(Target::socket)
    }

    /// The TCP ports that it connects to.
    pub(crate) fn connects(&self) -> impl Iterator<Item = u16> {
        self.targets().iter().filter_map(Target::connects)
    }

    /// What it forwards to.
    pub(crate) fn targets(&self) -> &[Target] {
        match self.kind {
            Kind::Forward(targets) => targets,
            Kind::Capture(_) | Kind::Print => &[],
        }
    }
}
