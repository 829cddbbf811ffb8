//! `--apply`: sets what `--fix` prints, and writes the files.

use anyhow::Context as _;
use mirror_user::{escape, host::settings::Assignment};

use super::{
    fix::{self, Kept, Planned},
    outcome::{FileOutcome, FileState, Outcome, SettingOutcome, SettingState},
    record::{Change, Record, WrittenFile},
    system::System,
};

/// Sets all, as far as the host lets it, and writes the files that keep what was set.
///
/// # Errors
///
/// A file is there that is not ours, and nothing was changed; or the record or a file cannot be written.
pub(super) fn apply(system: &mut impl System, wanted: &[Kept], now: &str) -> anyhow::Result<Outcome> {
    let mut record = Record::read(system)?;
    for planned in fix::files(&record.with(wanted)) {
        refuse_foreign(system, &mut record, &planned)?;
    }
    let mut outcome = Outcome::default();
    for kept in wanted {
        outcome.settings.push(set(system, &mut record, kept, now)?);
    }
    for planned in fix::files(&record.with(&[])) {
        outcome.files.push(write(system, &mut record, planned)?);
    }
    outcome.programs = record.changes.iter().filter_map(|change| change.kept().program()).collect();
    Ok(outcome)
}

/// Somebody else's file is not replaced, nor one that somebody has changed.
fn refuse_foreign(system: &impl System, record: &mut Record, planned: &Planned) -> anyhow::Result<()> {
    let Some(there) = system.file(&planned.path)? else { return Ok(()) };
    let is_ours = record.written(&planned.path).is_some_and(|written| written.texts.contains(&there));
    anyhow::ensure!(
        is_ours || there == planned.text,
        "{path}: not written by `mirror doctor --apply`, or changed since; move it away (`mv {shell} \
         {shell}.old`), or add to it by hand what `mirror doctor --fix` prints; nothing was changed",
        path = escape::line(&planned.path),
        shell = escape::shell(&planned.path),
    );
    Ok(())
}

fn set(
    system: &mut impl System,
    record: &mut Record,
    kept: &Kept,
    now: &str,
) -> anyhow::Result<SettingOutcome> {
    let Assignment { setting, value: wanted, .. } = &kept.assignment;
    let outcome = |state, before: Option<&str>, error: Option<String>| SettingOutcome {
        setting: setting.clone(),
        value: wanted.clone(),
        before: before.map(str::to_owned),
        state,
        error,
    };
    let current = match system.read(setting) {
        Ok(Some(current)) => current,
        Ok(None) => return Ok(outcome(SettingState::Gone, None, None)),
        Err(error) => return Ok(outcome(SettingState::Failed, None, Some(error.to_string()))),
    };
    let earlier = record.change(setting).cloned();
    let before = earlier.as_ref().map_or(&current, |change| &change.before).clone();
    let change = Change {
        setting: setting.clone(),
        before: before.clone(),
        set: wanted.clone(),
        wanted: wanted.clone(),
        time: now.to_owned(),
        file: kept.file.clone(),
        pending: true,
    };
    put(record, change.clone());
    record.save(system).context("nothing more was changed")?;
    if let Err(error) = system.write(setting, wanted) {
        match earlier {
            Some(earlier) => put(record, earlier),
            None => record.changes.retain(|change| change.setting != *setting),
        }
        record.save(system)?;
        return Ok(outcome(SettingState::Failed, Some(&current), Some(error.to_string())));
    }
    // Of huge pages, for one, there may be fewer than were asked for.
    let set = system.read(setting).ok().flatten().unwrap_or_else(|| wanted.clone());
    put(record, Change { set: set.clone(), pending: false, ..change });
    record.save(system)?;
    Ok(SettingOutcome { value: set, ..outcome(SettingState::Set, Some(&before), None) })
}

/// Replaces the change of a setting, or adds one.
fn put(record: &mut Record, change: Change) {
    match record.change(&change.setting) {
        Some(there) => *there = change,
        None => record.changes.push(change),
    }
}

fn write(system: &mut impl System, record: &mut Record, planned: Planned) -> anyhow::Result<FileOutcome> {
    let Planned { path, text, .. } = planned;
    let there = system.file(&path)?;
    let state = if there.as_ref() == Some(&text) { FileState::Unchanged } else { FileState::Written };
    if state == FileState::Written || record.written(&path).is_none() {
        match record.written(&path) {
            Some(written) => written.texts.push(text.clone()),
            None => record.files.push(WrittenFile { path: path.clone(), texts: vec![text.clone()] }),
        }
        record.save(system)?;
        if state == FileState::Written {
            system.replace(&path, &text)?;
        }
    }
    // An earlier call may have been killed between the two.
    if let Some(written) = record.written(&path).filter(|written| written.texts.len() > 1) {
        written.texts = vec![text.clone()];
        record.save(system)?;
    }
    Ok(FileOutcome { path, state, text: Some(text) })
}

#[cfg(test)]
mod tests;
