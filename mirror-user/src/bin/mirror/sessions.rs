//! `--sessions` and `--session`: by what origins are named, and the VNIs that are selected by it.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use mirror_user::{
    escape,
    mirroring::{KnownSession, SessionTable},
    settings::{Many, Settings},
};

use crate::{exit::Usage, filter};

/// The sessions of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    files: Vec<PathBuf>,
    /// By id or name; all without.
    selected: Vec<String>,
    /// Of the files, once they are read.
    table: Option<Arc<SessionTable>>,
}

impl Sessions {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            files: settings.sessions.iter().flat_map(Many::values).cloned().collect(),
            selected: settings.session.iter().flat_map(Many::values).cloned().collect(),
            table: None,
        }
    }

    /// Validates the flags, without reading a file. `has_vnis`: whether --vni is given.
    pub(crate) fn check(&self, has_vnis: bool) -> Result<(), Usage> {
        let Some(name) = self.selected.first() else { return Ok(()) };
        let name = escape::line(name);
        if self.files.is_empty() {
            return Err(Usage(format!(
                "--session {name}: no file describes sessions; give one with --sessions FILE"
            )));
        }
        if has_vnis {
            return Err(Usage(format!(
                "--session {name} and --vni both say which VNIs are accepted: omit one of them"
            )));
        }
        Ok(())
    }

    /// Reads the files.
    pub(crate) fn read(&mut self) -> anyhow::Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        let all = filter::read(&self.files).with_context(|| format!("--sessions {}", self.shown()))?;
        let table = all.session_table();
        let table = self.select(table)?;
        self.table = Some(Arc::new(table));
        Ok(())
    }

    /// The sessions that a run is to know: all, or those with the VNIs of the selected ones.
    fn select(&self, table: SessionTable) -> Result<SessionTable, Usage> {
        let files = self.shown();
        if table.sessions().is_empty() {
            return Err(Usage(format!(
                "--sessions {files}: there is no session; add what `aws ec2 \
                describe-traffic-mirror-sessions` prints"
            )));
        }
        let mut vnis = Vec::new();
        for name in &self.selected {
            let before = vnis.len();
            vnis.extend(table.named(name).map(|session| session.vni));
            if vnis.len() == before {
                let all: Vec<_> = table.sessions().iter().map(both_names).collect();
                let (name, all) = (escape::line(name), all.join(", "));
                return Err(Usage(format!(
                    "--session {name}: no session in {files} has this id or tag Name; there are: {all}"
                )));
            }
        }
        Ok(if self.selected.is_empty() { table } else { table.with_vnis(&vnis) })
    }

    /// The files, for people.
    fn shown(&self) -> String {
        let files: Vec<_> = self.files.iter().map(|file| escape::path(file).to_string()).collect();
        files.join(", ")
    }

    /// What names origins; `None` without --sessions.
    pub(crate) fn table(&self) -> Option<&Arc<SessionTable>> {
        self.table.as_ref()
    }

    /// The VNIs of the selected sessions; none if all packets are taken.
    pub(crate) fn vnis(&self) -> Vec<u32> {
        let selected = self.table.iter().filter(|_| !self.selected.is_empty());
        let mut vnis: Vec<_> =
            selected.flat_map(|table| table.sessions()).map(|session| session.vni).collect();
        vnis.sort_unstable();
        vnis.dedup();
        vnis
    }
}

/// The id of a session, and its name if it has one.
fn both_names(session: &KnownSession) -> String {
    let id = escape::line(&session.id);
    session.name().map_or_else(|| id.to_string(), |name| format!("{id} ({})", escape::line(name)))
}
