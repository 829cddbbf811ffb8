//! A namespace of the host with two TAPs on a bridge, which connect a multi-queue NIC and its source.

use std::fmt;
use std::process::{self as this, Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::card::TAPS;
use crate::process;

/// Frames that crossed from the source's TAP to the card's.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crossed {
    /// Out of the guest, through the source's TAP.
    from: u64,
    /// Into the guest, through the NIC's TAP.
    to: u64,
    /// Dropped by one of them, or by the bridge.
    dropped: u64,
}

impl Crossed {
    /// From what `ip -json -statistics link` prints.
    fn parse(shown: &str) -> Option<Self> {
        let links: Vec<Value> = serde_json::from_str(shown).ok()?;
        let mut crossed = Self::default();
        for link in &links {
            let count = |path: &str| link.pointer(path).and_then(Value::as_u64);
            match link["ifname"].as_str()? {
                name if name == TAPS[0] => crossed.to = count("/stats64/tx/packets")?,
                name if name == TAPS[1] => crossed.from = count("/stats64/rx/packets")?,
                _ => {}
            }
            crossed.dropped += count("/stats64/rx/dropped")? + count("/stats64/tx/dropped")?;
        }
        Some(crossed)
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            from: self.from - before.from,
            to: self.to - before.to,
            dropped: self.dropped - before.dropped,
        }
    }
}

impl fmt::Display for Crossed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, dropped } = self;
        write!(f, "on the host {from} frames left the source, {to} came to the card, {dropped} were dropped")
    }
}

/// See the module. Dropping it removes the namespace.
#[derive(Debug)]
pub(super) struct Taps {
    namespace: String,
}

impl Taps {
    /// Creates it.
    ///
    /// # Errors
    /// Without root, or where this kernel has no TAPs or bridges.
    pub(super) fn raise() -> Result<Self> {
        let taps = Self { namespace: format!("vmtest-{}", this::id()) };
        process::output(Command::new("ip").args(["netns", "add", &taps.namespace]))?;
        // The host's neighbour discovery would be among the frames.
        taps.run("sysctl", "-q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")?;
        taps.ip("link add bridge type bridge mcast_snooping 0")?;
        taps.ip("link set bridge up")?;
        for (tap, queues) in TAPS.into_iter().zip([" multi_queue", ""]) {
            taps.ip(&format!("tuntap add dev {tap} mode tap{queues}"))?;
            taps.ip(&format!("link set dev {tap} mtu 9216 txqueuelen 10000 master bridge up"))?;
        }
        Ok(taps)
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Counters of the TAPs and the bridge: frames lost there are not lost by the guest.
    ///
    /// # Errors
    /// If they are gone.
    pub(super) fn counters(&self) -> Result<String> {
        process::output(Command::new("ip").args([
            "-n",
            &self.namespace,
            "-statistics",
            "-statistics",
            "link",
        ]))
    }

    /// The frames that crossed so far.
    ///
    /// # Errors
    /// As [`Self::counters`].
    pub(super) fn crossed(&self) -> Result<Crossed> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.namespace, "-json", "-statistics", "link"]);
        Crossed::parse(&process::output(&mut command)?).context("`ip -json` printed no statistics of links")
    }

    fn ip(&self, arguments: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.namespace]).args(arguments.split(' '));
        process::output(&mut command).map(drop)
    }

    fn run(&self, program: &str, arguments: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).args(arguments.split(' '));
        process::output(&mut command).map(drop)
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        if let Err(error) = process::output(Command::new("ip").args(["netns", "delete", &self.namespace])) {
            eprintln!("vmtest: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_on_the_tap_are_read_and_reported() {
        let link = |name: &str, rx: u64, tx: u64| {
            format!(
                r#"{{"ifname":"{name}","stats64":{{"rx":{{"packets":{rx},"dropped":0}},
                    "tx":{{"packets":{tx},"dropped":1}}}}}}"#
            )
        };
        let shown =
            |rx: u64| format!("[{},{},{}]", link("lo", 0, 0), link("vmtest0", 7, rx), link("vmtest1", rx, 9));
        let crossed = |rx: u64| Crossed::parse(&shown(rx)).unwrap();
        assert_eq!(
            crossed(30).since(crossed(10)).to_string(),
            "on the host 20 frames left the source, 20 came to the card, 0 were dropped"
        );
        assert_eq!(crossed(10).dropped, 3);
        assert_eq!(Crossed::parse("[{}]"), None);
    }
}
