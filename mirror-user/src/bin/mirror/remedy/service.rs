//! Drop-ins that permit a service what its unit does not.

use std::env;

/// Where packages have them.
const DIRECTORY: &str = "/usr/share/mirror/drop-ins";

/// How to add a drop-in, if this is a service of systemd; else nothing.
pub(super) fn drop_in(name: &str) -> String {
    // Set for each process of a unit: systemd.exec(5).
    if env::var_os("INVOCATION_ID").is_none() {
        return String::new();
    }
    format!(
        " (in a service: `install -D -m 0644 -t /etc/systemd/system/UNIT.service.d {DIRECTORY}/{name}`, \
        then `systemctl daemon-reload`)"
    )
}
