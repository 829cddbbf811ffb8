//! The record of what `--apply` has changed, from which `--undo` puts it back.
//!
//! It is in `/etc/mirror`, beside the configuration, because it lasts as long as the files that it names:
//! over boots. `/run` does not, and `/var/lib/mirror` belongs to the user whom runs change to, who could have
//! root write what that user likes. It is replaced before each change, and again after it.

use anyhow::Context as _;
use mirror_user::{escape, host::settings::Setting};
use serde::{Deserialize, Serialize};

use super::{fix::Kept, system::System};

pub(super) const RECORD: &str = "/etc/mirror/applied.json";
const SCHEMA: &str = "mirror.applied/1";

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Record {
    schema: String,
    /// In the sequence in which they were made.
    pub(super) changes: Vec<Change>,
    pub(super) files: Vec<WrittenFile>,
}

/// A setting that was changed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Change {
    #[serde(flatten)]
    pub(super) setting: Setting,
    /// The value before the first change of it.
    pub(super) before: String,
    /// The value that the kernel had after the last one.
    pub(super) set: String,
    /// The value that was asked for, and is in the file.
    pub(super) wanted: String,
    /// RFC 3339.
    pub(super) time: String,
    /// The file that sets it at each start.
    pub(super) file: String,
    /// Whether the change has been announced and not been completed: then `set` says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) pending: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A file that was written.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct WrittenFile {
    pub(super) path: String,
    /// What it holds: while it is replaced, the old text or the new one.
    pub(super) texts: Vec<String>,
}

impl Default for Record {
    fn default() -> Self {
        Self { schema: SCHEMA.to_owned(), changes: Vec::new(), files: Vec::new() }
    }
}

impl Record {
    /// What the record holds; empty if there is none.
    pub(super) fn read(system: &impl System) -> anyhow::Result<Self> {
        let Some(text) = system.file(RECORD)? else { return Ok(Self::default()) };
        let record: Self = serde_json::from_str(&text)
            .with_context(|| format!("{RECORD}: not a record of `mirror doctor --apply`"))?;
        anyhow::ensure!(
            record.schema == SCHEMA,
            "{RECORD}: it is {}, not {SCHEMA}",
            escape::line(&record.schema)
        );
        Ok(record)
    }

    /// Replaces the file; removes it if there is nothing to undo.
    pub(super) fn save(&self, system: &mut impl System) -> anyhow::Result<()> {
        if !self.changes.is_empty() || !self.files.is_empty() {
            let mut text = serde_json::to_string_pretty(self).context("cannot write the record as JSON")?;
            text.push('\n');
            system.replace(RECORD, &text)
        } else if system.file(RECORD)?.is_some() {
            system.remove(RECORD)
        } else {
            Ok(())
        }
    }

    pub(super) fn change(&mut self, setting: &Setting) -> Option<&mut Change> {
        self.changes.iter_mut().find(|change| change.setting == *setting)
    }

    pub(super) fn written(&mut self, path: &str) -> Option<&mut WrittenFile> {
        self.files.iter_mut().find(|file| file.path == path)
    }

    /// All that files set: what has been applied, and what is new.
    pub(super) fn with(&self, new: &[Kept]) -> Vec<Kept> {
        let mut all: Vec<Kept> = self.changes.iter().map(Change::kept).collect();
        for kept in new {
            match all.iter_mut().find(|one| one.assignment.setting == kept.assignment.setting) {
                Some(one) => *one = kept.clone(),
                None => all.push(kept.clone()),
            }
        }
        all
    }
}

impl Change {
    pub(super) fn kept(&self) -> Kept {
        Kept::of(self.setting.clone(), &self.wanted, self.file.clone())
    }
}
