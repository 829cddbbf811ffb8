//! What a reload has changed, in words.

use std::fmt;

use mirror_user::escape;
use serde::{Deserialize, Serialize};

/// What has changed; sinks by their names.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Reloaded {
    /// Whether the run selects other packets.
    pub(crate) selection: bool,
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    /// Removed and added under the same name.
    pub(crate) replaced: Vec<String>,
    /// Those that get other packets.
    pub(crate) selected: Vec<String>,
}

impl Reloaded {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { selection, added, removed, replaced, selected } = self;
        let mut parts = Vec::new();
        parts.extend(selection.then(|| "the run selects other packets".to_owned()));
        for (names, what) in
            [(added, "added"), (removed, "removed"), (replaced, "replaced"), (selected, "other packets for")]
        {
            if !names.is_empty() {
                let names: Vec<_> = names.iter().map(|name| escape::line(name)).collect();
                parts.push(format!("{what} {}", names.join(", ")));
            }
        }
        match &parts[..] {
            [] => f.write_str("nothing has changed"),
            parts => f.write_str(&parts.join("; ")),
        }
    }
}
