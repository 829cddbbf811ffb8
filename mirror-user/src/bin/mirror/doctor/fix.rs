//! `--fix`: the remedies that are settings of the host, as files that set them at each start.
//!
//! Those of an interface go into a drop-in of the service, as commands before its start: udev and DHCP
//! clients set MTU and channels of the interfaces that they know, each host in its own way, and before that.

use std::fmt::Write as _;

use mirror_user::doctor::Report;

const SYSCTL: &str = "/etc/sysctl.d/60-mirror.conf";
const DROP_IN: &str = "/etc/systemd/system/mirror.service.d/60-host.conf";

/// The files, each after its path and the command that has it read; nothing if no setting is to be changed.
pub(super) fn files(report: &Report) -> String {
    let remedies = report.findings.iter().filter_map(|finding| finding.remedy.as_deref());
    let (mut settings, mut commands) = (Vec::new(), Vec::new());
    for remedy in remedies {
        if let Some(set) = remedy.strip_prefix("sysctl -w ") {
            settings.extend(set.split(' ').map(|setting| setting.replacen('=', " = ", 1)));
        } else if is_setting(remedy) {
            // A percent sign begins a specifier there.
            commands.push(format!("ExecStartPre=+/usr/sbin/{}", remedy.replace('%', "%%")));
        }
    }
    let mut text = String::new();
    let mut add = |file: &str, read: &str, head: &str, mut lines: Vec<String>| {
        lines.dedup();
        if !lines.is_empty() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# {file}, then `{read}`\n{head}{}", lines.join("\n") + "\n");
        }
    };
    add(SYSCTL, "sysctl --system", "", settings);
    add(DROP_IN, "systemctl daemon-reload", "[Service]\n", commands);
    text
}

/// Whether a command sets what an interface loses with a boot (MTU, channels, rings, features, RSS key), and
/// no state of a moment, such as another program on its XDP hook.
fn is_setting(remedy: &str) -> bool {
    let words: Vec<_> = remedy.split(' ').collect();
    matches!(
        &words[..],
        ["ip", "link", "set", "dev", _, "mtu", _] | ["ethtool", "-L" | "-G" | "-K" | "-X", ..]
    )
}

#[cfg(test)]
mod tests {
    use mirror_user::doctor::Facts;

    use super::*;

    fn of_profile(text: &str) -> String {
        let facts: Facts = serde_json::from_str(text).unwrap();
        files(&Report::of(facts))
    }

    #[test]
    fn remedies_that_are_settings_become_files() {
        let text = of_profile(include_str!("../../../../tests/profiles/ena-in-box-mtu-9001-channels.json"));
        assert_eq!(
            text,
            "# /etc/sysctl.d/60-mirror.conf, then `sysctl --system`\n\
             vm.nr_hugepages = 68\n\n\
             # /etc/systemd/system/mirror.service.d/60-host.conf, then `systemctl daemon-reload`\n\
             [Service]\n\
             ExecStartPre=+/usr/sbin/ip link set dev ens6 mtu 3498\n\
             ExecStartPre=+/usr/sbin/ethtool -L ens6 combined 2\n\
             ExecStartPre=+/usr/sbin/ethtool -G ens6 rx 16384\n\n"
        );
    }

    #[test]
    fn states_of_a_moment_are_in_no_file() {
        assert!(is_setting("ethtool -K eth9 rx-gro-hw off"));
        assert!(!is_setting("ip link set dev ens6 xdp off") && !is_setting("ip link set dev ens6 up"));
        let text = of_profile(include_str!("../../../../tests/profiles/hook-held.json"));
        assert!(!text.contains("xdp off"), "{text}");
    }
}
