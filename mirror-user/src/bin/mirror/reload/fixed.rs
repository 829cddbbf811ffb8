//! Which settings are fixed when a run starts.

use anyhow::Context as _;
use mirror_user::settings::{Settings, SinkSettings};

/// What is printed of packets, and by which thread, besides the keys of captures and targets.
const PRINTING: [&str; 8] =
    ["print", "link", "hex", "hexascii", "ascii", "timestamps", "absolute", "verbose"];
/// Live besides those of outputs.
const LIVE: [&str; 5] = ["vni", "source", "filter", "outer-filter", "forward-seed"];

/// Refuses settings that differ in what is fixed from those that a run has.
pub(super) fn refuse_changed(present: &Settings, wanted: &Settings) -> anyhow::Result<()> {
    let table = |settings: &Settings| toml::Table::try_from(settings).context("settings");
    let (present, wanted) = (table(present)?, table(wanted)?);
    let is_changed = |key: &&&str| present.get(**key) != wanted.get(**key);
    let changed: Vec<_> =
        Settings::keys().iter().filter(|key| is_fixed(key)).filter(is_changed).copied().collect();
    match &changed[..] {
        [] => Ok(()),
        [one] => anyhow::bail!("`{one}` cannot change during a run: restart the run, or set it back"),
        several => anyhow::bail!(
            "`{}` cannot change during a run: restart the run, or set them back",
            several.join("`, `")
        ),
    }
}

/// Whether a key cannot change during a run.
fn is_fixed(key: &str) -> bool {
    let is_of_outputs = SinkSettings::keys().contains(&key) && !PRINTING.contains(&key);
    !is_of_outputs && !LIVE.contains(&key)
}
