//! Which settings are fixed when a run starts.

use anyhow::Context as _;
use mirror_user::settings::{Settings, SinkSettings};

/// What is printed of packets, and by which thread, besides the keys of captures and targets.
const PRINTING: [&str; 8] =
    ["print", "link", "hex", "hexascii", "ascii", "timestamps", "absolute", "verbose"];
/// Live besides those of outputs.
const LIVE: [&str; 5] = ["vni", "source", "filter", "outer-filter", "forward-seed"];

/// What changes the others: a new process, and new sockets, where sockets are made with them.
const INSTEAD: &str =
    "use `mirror upgrade`, with `--cold` for queues, rings and bind mode, or restart the run";

/// Refuses settings that differ in what is fixed from those that a run has.
pub(super) fn refuse_changed(present: &Settings, wanted: &Settings) -> anyhow::Result<()> {
    let table = |settings: &Settings| toml::Table::try_from(settings).context("settings");
    let (present, wanted) = (table(present)?, table(wanted)?);
    let is_changed = |key: &&&str| present.get(**key) != wanted.get(**key);
    let changed: Vec<_> =
        Settings::keys().iter().filter(|key| is_fixed(key)).filter(is_changed).copied().collect();
    match &changed[..] {
        [] => Ok(()),
        [one] => anyhow::bail!("`{one}` cannot change by a reload: {INSTEAD}, or set it back"),
        several => {
            anyhow::bail!("`{}` cannot change by a reload: {INSTEAD}, or set them back", several.join("`, `"))
        }
    }
}

/// Whether a key cannot change during a run.
fn is_fixed(key: &str) -> bool {
    let is_of_outputs = SinkSettings::keys().contains(&key) && !PRINTING.contains(&key);
    !is_of_outputs && !LIVE.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_selected_and_outputs_are_live_and_all_else_is_fixed() {
        let live: Vec<_> = Settings::keys().iter().filter(|key| !is_fixed(key)).copied().collect();
        let expected = "vni source outer-filter filter write format outer unbuffered snap file-size \
            rotate-seconds file-count postrotate-command buffer-size writers per-origin max-origins min-free \
            when-full forward forward-balance forward-seed vlan-per-vni community-id";
        assert_eq!(live.join(" "), expected);
    }

    #[test]
    fn a_fixed_key_that_has_changed_is_named() {
        let settings = |text: &str| toml::from_str::<Settings>(text).unwrap().resolve();
        let start = settings("rx-ring = 4096\nvni = 7");
        let refused = |text: &str| refuse_changed(&start, &settings(text)).map_err(|error| error.to_string());
        assert_eq!(refused("rx-ring = 4096\nvni = '7,8'\nwrite = 'a.pcapng'"), Ok(()));
        let one = refused("vni = 7").unwrap_err();
        assert!(one.starts_with("`rx-ring` cannot change by a reload: use `mirror upgrade`"), "{one}");
        let several = refused("latency = true\nverbose = 1").unwrap_err();
        assert!(
            several.starts_with("`rx-ring`, `latency`, `verbose` cannot change by a reload"),
            "{several}"
        );
    }
}
