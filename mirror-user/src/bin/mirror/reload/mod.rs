//! Reads the configuration of a run again, and changes the run accordingly, without losing a packet of what
//! stays.
//!
//! What is selected and which outputs there are can change; all else is fixed when the run starts. New
//! outputs are opened by the main thread, which the sandbox confines by then: beneath the directories that
//! were allowed at the start.

mod fixed;
mod permitted;
mod summary;

use anyhow::Context as _;
use mirror_user::{
    engine::{Change, ChangeError, Running},
    escape,
    settings::Settings,
};

pub(crate) use self::{permitted::Permitted, summary::Reloaded};
use crate::{
    config::ConfigSource,
    exit::Usage,
    memory,
    output_config::OutputConfig,
    outputs::{OpenContext, Outputs, PlannedOutput},
    places, streams,
};

/// Reloads a run.
pub(crate) struct Reloader<'r> {
    pub(crate) source: &'r ConfigSource,
    /// What the run has now.
    pub(crate) settings: Settings,
    pub(crate) output: OutputConfig,
    pub(crate) permitted: Permitted,
    pub(crate) cx: OpenContext<'r>,
    /// The longest frame, in bytes, and how many workers there are.
    pub(crate) max_frame: usize,
    pub(crate) workers: u64,
}

/// How the outputs of a run change.
struct Difference<'d> {
    added: Vec<&'d PlannedOutput<'d>>,
    removed: Vec<&'d str>,
    selected: Vec<&'d PlannedOutput<'d>>,
}

impl Reloader<'_> {
    /// Reads the configuration, and changes the run.
    ///
    /// # Errors
    ///
    /// Why nothing has changed.
    pub(crate) fn reload(&mut self, running: &Running, outputs: &mut Outputs) -> anyhow::Result<Reloaded> {
        let (settings, tables) = match &self.cx.monitor {
            Some(monitor) => self.source.of_text(&monitor.configuration()?)?,
            None => self.source.read()?,
        };
        fixed::refuse_changed(&self.settings, &settings)?;
        let wanted = OutputConfig::of(&settings, tables).with_sessions_of(&self.output);
        wanted.validate()?;
        let (present, planned) = (self.output.outputs(), wanted.outputs());
        let difference = Difference::of(&present, &planned);
        let leaving = running.leaving();
        difference.added.iter().try_for_each(|output| {
            self.refuse_unopenable(output, outputs)?;
            let leaving = outputs.removed(&leaving).map(|path| places::Output::single("-w", path));
            let written = present.iter().filter_map(PlannedOutput::place).chain(leaving);
            refuse_shared(output, written)
        })?;
        let mut change = Change::new();
        let selection = !self.output.selects_like(&wanted);
        if selection {
            change = change.select(wanted.selection()?);
        }
        let added = outputs.open_more(&difference.added, self.max_frame, &self.cx)?;
        let memory: usize = added.iter().map(|output| output.memory_per_worker).sum();
        memory::refuse_beyond_limit(self.workers * memory as u64, added.len() as u64)?;
        change = difference.removed.iter().fold(change, |change, name| change.remove(*name));
        for output in &difference.selected {
            let selection = output.selection().context("a table has a selection")?;
            change = change.select_for(&output.name, selection.clone());
        }
        change = added.iter().fold(change, |change, output| change.sink(output.sink.clone()));
        let summary = difference.summary(selection);
        if !summary.is_empty() {
            running.change(change).map_err(with_remedy)?;
        }
        outputs.change(&difference.removed, added);
        outputs.require(&planned);
        (self.settings, self.output) = (settings, wanted);
        Ok(summary)
    }

    /// Refuses an output that can be opened at the start of a run only.
    fn refuse_unopenable(&self, output: &PlannedOutput<'_>, outputs: &Outputs) -> anyhow::Result<()> {
        let name = escape::line(&output.name);
        if output.prints() {
            anyhow::bail!("sink {name}: an output that prints is opened at the start only: restart the run");
        }
        if let Some(path) = output.capture() {
            let shown = escape::path(path);
            if !streams::is_file(path) {
                anyhow::bail!(
                    "sink {name}: {shown} is a stream, and streams are opened at the start only: restart the \
                    run, or write to a file"
                );
            }
        }
        if output.has_command() && outputs.postrotate.is_none() {
            anyhow::bail!(
                "sink {name}: this run has started without commands of -z, and cannot run any: restart it"
            );
        }
        if self.cx.monitor.is_none()
            && let Some(target) = output.targets().iter().find(|target| target.has_parts())
        {
            anyhow::bail!(
                "sink {name}: {}: this run has dropped the privileges to open it: restart it, and without \
                --no-monitor a later one can be reloaded",
                escape::line(&target.to_string())
            );
        }
        self.permitted.refuse_beyond(output).with_context(|| format!("sink {name}"))
    }
}

impl<'d> Difference<'d> {
    fn of(present: &'d [PlannedOutput<'_>], wanted: &'d [PlannedOutput<'_>]) -> Self {
        let same = |output: &PlannedOutput<'_>, others: &'d [PlannedOutput<'_>]| {
            others.iter().find(|other| other.name == output.name && other.is_opened_like(output))
        };
        let removed = present.iter().filter(|output| same(output, wanted).is_none());
        let added = wanted.iter().filter(|output| same(output, present).is_none());
        let selected = wanted
            .iter()
            .filter(|output| same(output, present).is_some_and(|present| !present.selects_like(output)));
        Self {
            removed: removed.map(|output| output.name.as_str()).collect(),
            added: added.collect(),
            selected: selected.collect(),
        }
    }

    fn summary(&self, selection: bool) -> Reloaded {
        let names =
            |outputs: &[&PlannedOutput<'_>]| outputs.iter().map(|output| output.name.clone()).collect();
        let mut summary = Reloaded {
            selection,
            added: names(&self.added),
            removed: self.removed.iter().map(|name| (*name).to_owned()).collect(),
            replaced: Vec::new(),
            selected: names(&self.selected),
        };
        let is_replaced = |name: &mut String| self.removed.contains(&name.as_str());
        summary.replaced = summary.added.extract_if(.., is_replaced).collect();
        summary.removed.retain(|name| !summary.replaced.contains(name));
        summary
    }
}

/// Refuses a capture to files that the run writes already.
fn refuse_shared<'p>(
    output: &PlannedOutput<'_>,
    written: impl Iterator<Item = places::Output<'p>>,
) -> anyhow::Result<()> {
    for there in written {
        let Some(own) = output.place() else { return Ok(()) };
        if let Err(Usage(message)) = places::distinct(&[own, there]) {
            anyhow::bail!(
                "sink {}: {message}, which the run writes already: choose another name, or restart the run",
                escape::line(&output.name)
            );
        }
    }
    Ok(())
}

fn with_remedy(error: ChangeError) -> anyhow::Error {
    let remedy = match error {
        ChangeError::ForwardedInKernel { .. } => {
            ": restart the run to apply the configuration, and with `--forward-path user` a later one can be \
            reloaded"
        }
        _ => return error.into(),
    };
    anyhow::anyhow!("{error}{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outputs of a configuration with these keys and tables.
    fn config(text: &str) -> OutputConfig {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mirror.toml");
        let source = ConfigSource::of(crate::config::Command::Ingest, Settings::default(), Some(file));
        let (settings, tables) = source.of_text(text).unwrap();
        OutputConfig::of(&settings, tables)
    }

    #[track_caller]
    fn assert_changes(present: &str, wanted: &str, expected: &str) {
        let (present, wanted) = (config(present), config(wanted));
        let (present, wanted) = (present.outputs(), wanted.outputs());
        assert_eq!(Difference::of(&present, &wanted).summary(false).to_string(), expected);
    }

    const A: &str = "[[sink]]\nname = 'a'\nvnis = 7\nwrite = 'a.pcapng'\n";

    #[test]
    fn only_outputs_that_are_opened_otherwise_are_replaced() {
        assert_changes(A, A, "nothing has changed");
        assert_changes("", A, "added a");
        assert_changes(A, "write = 'b.pcapng'", "added pcap; removed a");
        assert_changes(A, &A.replace("a.pcapng", "b.pcapng"), "replaced a");
        assert_changes(A, &format!("{A}snap = 64\n"), "replaced a");
        assert_changes(A, &A.replace("vnis = 7", "vnis = 8"), "other packets for a");
        assert_changes(A, &format!("{A}filter = 'tcp'\n"), "other packets for a");
        assert_changes(A, &format!("{A}required = true\n"), "nothing has changed");
        assert_changes(A, &A.replace("'a'", "'b'"), "added b; removed a");
    }

    #[test]
    fn each_target_is_an_output_unless_flows_are_spread_over_them() {
        let with = |targets: &str| format!("forward = [{targets}]\n");
        let (one, two) = (with("'tap:x'"), with("'tap:x', 'tap:y'"));
        assert_changes(&one, &two, "added forward tap:y");
        assert_changes(&two, &one, "removed forward tap:y");
        let spread = format!("{two}forward-balance = 'flow'\n");
        assert_changes(&spread, &spread.replace("tap:y", "tap:z"), "replaced forward");
        assert_changes(&two, &spread, "added forward; removed forward tap:x, forward tap:y");
        assert_changes(&two, &format!("{two}vlan-per-vni = true\n"), "replaced forward tap:x, forward tap:y");
    }
}
