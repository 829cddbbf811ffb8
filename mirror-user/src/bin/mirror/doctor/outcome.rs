//! What `--fix`, `--apply` and `--undo` did, as text or as JSON.

use std::{collections::BTreeSet, fmt, path::Path};

use mirror_user::{escape::line, host::settings::Setting};
use serde::Serialize;

/// The JSON is `mirror.fix/1`; fields may be added, never renamed.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    schema: &'static str,
    pub(super) settings: Vec<SettingOutcome>,
    pub(super) files: Vec<FileOutcome>,
    /// Programs that the files call.
    #[serde(skip)]
    pub(super) programs: BTreeSet<String>,
    /// Those of them that are not there.
    missing_programs: Vec<String>,
    /// Why systemd did not read its files again.
    pub(super) not_reloaded: Option<String>,
    /// Whether ingest can run then; null where that was not looked at.
    pub(super) can_run: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(super) struct SettingOutcome {
    #[serde(flatten)]
    pub(super) setting: Setting,
    /// The value it has, or is to have.
    pub(super) value: String,
    /// The value before `--apply`.
    pub(super) before: Option<String>,
    pub(super) state: SettingState,
    pub(super) error: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SettingState {
    /// `--fix` names it.
    Planned,
    /// `--apply` has set it.
    Set,
    /// It cannot be read or set.
    Failed,
    /// Its interface is gone.
    Gone,
    /// `--undo` has put the old value back.
    Restored,
    /// It has its old value already.
    Unchanged,
    /// Somebody else has changed it since.
    Left,
}

#[derive(Debug, Serialize)]
pub(super) struct FileOutcome {
    pub(super) path: String,
    pub(super) state: FileState,
    /// What it holds then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FileState {
    Planned,
    Written,
    /// It holds the right text already.
    Unchanged,
    Removed,
    Gone,
    /// Somebody else has changed it since.
    Left,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            schema: "mirror.fix/1",
            settings: Vec::new(),
            files: Vec::new(),
            programs: BTreeSet::new(),
            missing_programs: Vec::new(),
            not_reloaded: None,
            can_run: None,
        }
    }
}

impl Outcome {
    /// Whether all was done.
    pub(super) fn is_complete(&self) -> bool {
        self.settings.iter().all(|one| one.state != SettingState::Failed) && self.not_reloaded.is_none()
    }

    /// Whether a file of systemd's has changed.
    pub(super) fn changed_units(&self) -> bool {
        let changed = |one: &&FileOutcome| matches!(one.state, FileState::Written | FileState::Removed);
        self.files.iter().filter(changed).any(|one| one.path.starts_with("/etc/systemd/"))
    }

    /// Looks which of the programs that the files call are not there.
    pub(super) fn find_programs(&mut self) {
        let missing = self.programs.iter().filter(|program| !Path::new(program).exists());
        self.missing_programs = missing.cloned().collect();
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for SettingOutcome { setting, value, before, state, error } in &self.settings {
            let setting = setting.to_string();
            let (setting, value) = (line(&setting), line(value));
            let before = before.as_deref().map(line).unwrap_or_default();
            match (state, error) {
                (SettingState::Failed, Some(error)) => writeln!(f, "failed     {}", line(error))?,
                (SettingState::Failed, None) => writeln!(f, "failed     {setting}: {value}")?,
                (SettingState::Planned, _) => writeln!(f, "planned    {setting}: {value}")?,
                (SettingState::Set, _) => writeln!(f, "set        {setting}: {value}, before {before}")?,
                (SettingState::Gone, _) => writeln!(f, "gone       {setting}: there is no such interface")?,
                (SettingState::Restored, _) => writeln!(f, "restored   {setting}: {value}")?,
                (SettingState::Unchanged, _) => writeln!(f, "unchanged  {setting}: {value}")?,
                (SettingState::Left, _) => writeln!(
                    f,
                    "left       {setting}: {value}, as somebody else has set it since; before it was {before}"
                )?,
            }
        }
        for FileOutcome { path, state, .. } in &self.files {
            let path = line(path);
            match state {
                FileState::Planned => writeln!(f, "planned    {path}")?,
                FileState::Written => writeln!(f, "written    {path}")?,
                FileState::Unchanged => writeln!(f, "unchanged  {path}")?,
                FileState::Removed => writeln!(f, "removed    {path}")?,
                FileState::Gone => writeln!(f, "gone       {path}")?,
                FileState::Left => writeln!(f, "left       {path}: changed since it was written")?,
            }
        }
        for program in &self.missing_programs {
            let package = if program.ends_with("/ip") { "iproute2 or iproute" } else { "ethtool" };
            writeln!(f, "missing    {program}, which the drop-in calls: install {package}")?;
        }
        if let Some(reason) = &self.not_reloaded {
            writeln!(f, "failed     run `systemctl daemon-reload`: {}", line(reason))?;
        }
        if self.can_run == Some(false) {
            writeln!(f, "ingest cannot run yet: `mirror doctor` says why")?;
        }
        Ok(())
    }
}
