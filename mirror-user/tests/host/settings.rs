//! Settings of interfaces are read and written as `ip` and `ethtool` show them.

use std::process::Command;

use mirror_user::host::{HostError, settings::Setting};

use crate::namespace::Namespace;

fn interface() -> String {
    "target".to_owned()
}

/// What `ethtool` prints, in the calling thread's namespace.
fn ethtool(option: &str) -> String {
    let output = Command::new("ethtool").args([option, "target"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn settings_are_those_that_ip_and_ethtool_show() {
    let namespace = Namespace::with_pair(4);
    namespace.enter(|| {
        let mtu = Setting::Mtu { interface: interface() };
        assert_eq!(mtu.read().unwrap(), "1500");
        mtu.write("3498").unwrap();
        let shown = Command::new("ip").args(["link", "show", "dev", "target"]).output().unwrap();
        assert!(String::from_utf8_lossy(&shown.stdout).contains(" mtu 3498 "), "{shown:?}");
        let queues = Setting::TxQueues { interface: interface() };
        assert_eq!(queues.read().unwrap(), "4");
        queues.write("2").unwrap();
        let shown = ethtool("-l");
        let now: Vec<_> = shown.lines().skip_while(|line| !line.starts_with("Current")).collect();
        assert!(now[1].ends_with('4') && now[2].ends_with('2'), "{shown}");
        for (offload, words) in [("rx-gro", "generic-receive-offload"), ("rx-vlan-filter", "rx-vlan-filter")]
        {
            let setting = Setting::Offload { interface: interface(), offload: offload.to_owned() };
            let before = setting.read().unwrap();
            assert!(ethtool("-k").contains(&format!("{words}: {before}")), "{offload}");
            let other = if before == "on" { "off" } else { "on" };
            let changeable = offload == "rx-gro";
            assert_eq!(setting.write(other).is_ok(), changeable, "{offload}");
            let after = if changeable { other } else { &before };
            assert!(ethtool("-k").contains(&format!("{words}: {after}")), "{offload}");
        }
    });
}

#[test]
fn a_setting_that_is_refused_says_which_and_why() {
    let namespace = Namespace::with_pair(1);
    namespace.enter(|| {
        for (setting, value, words) in [
            (
                Setting::Mtu { interface: interface() },
                "9",
                "target: MTU: cannot be set to 9: Invalid argument",
            ),
            (Setting::Mtu { interface: interface() }, "-1", "not a value of this setting"),
            (Setting::TxQueues { interface: interface() }, "2", "target: TX queues: cannot be set to 2"),
            (Setting::RxRing { interface: interface() }, "512", "descriptors of RX rings"),
            (Setting::RssKey { interface: interface() }, "6d:5a", "Operation not supported"),
            (Setting::RssKey { interface: interface() }, "xy", "not a value of this setting"),
        ] {
            let error = setting.write(value).unwrap_err();
            assert!(
                matches!(error, HostError::Setting { .. }) && error.to_string().contains(words),
                "{error}"
            );
        }
        let gone = Setting::Mtu { interface: "gone".to_owned() };
        assert!(matches!(gone.read(), Err(HostError::NoSuchInterface { .. })));
        assert!(matches!(gone.write("1500"), Err(HostError::NoSuchInterface { .. })));
    });
}
