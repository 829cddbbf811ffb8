//! `--undo`: puts back what `--apply` has changed, as far as nobody else has changed it since.

use super::{
    outcome::{FileOutcome, FileState, Outcome, SettingOutcome, SettingState},
    record::{Change, Record, WrittenFile},
    system::System,
};

/// Puts settings back, the last one first, then removes the files, then the record. What fails stays in the
/// record, for another call.
///
/// # Errors
///
/// The record or a file cannot be read, written or removed.
pub(super) fn undo(system: &mut impl System) -> anyhow::Result<Outcome> {
    let mut record = Record::read(system)?;
    let mut outcome = Outcome::default();
    for at in (0..record.changes.len()).rev() {
        let undone = put_back(system, &record.changes[at]);
        if undone.state != SettingState::Failed {
            record.changes.remove(at);
            record.save(system)?;
        }
        outcome.settings.push(undone);
    }
    while let Some(WrittenFile { path, texts }) = record.files.first().cloned() {
        let state = match system.file(&path)? {
            None => FileState::Gone,
            Some(text) if texts.contains(&text) => {
                system.remove(&path)?;
                FileState::Removed
            }
            Some(_) => FileState::Left,
        };
        record.files.remove(0);
        record.save(system)?;
        outcome.files.push(FileOutcome { path, state, text: None });
    }
    Ok(outcome)
}

fn put_back(system: &mut impl System, change: &Change) -> SettingOutcome {
    let Change { setting, before, set, pending, .. } = change;
    let outcome = |state, value: &str, error: Option<String>| SettingOutcome {
        setting: setting.clone(),
        value: value.to_owned(),
        before: Some(before.clone()),
        state,
        error,
    };
    let current = match system.read(setting) {
        Ok(Some(current)) => current,
        // Its settings ended with it.
        Ok(None) => return outcome(SettingState::Gone, set, None),
        Err(error) => return outcome(SettingState::Failed, set, Some(error.to_string())),
    };
    if current == *before {
        outcome(SettingState::Unchanged, &current, None)
    } else if current == *set || *pending {
        match system.write(setting, before) {
            Ok(()) => outcome(SettingState::Restored, before, None),
            Err(error) => outcome(SettingState::Failed, &current, Some(error.to_string())),
        }
    } else {
        outcome(SettingState::Left, &current, None)
    }
}
