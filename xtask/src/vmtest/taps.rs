//! A namespace of the host with two TAPs on a bridge: what a card of several queues is wired to, and its source.

use std::process::{self as this, Command};

use anyhow::Result;

use super::card::TAPS;
use crate::process;

/// See the module. Dropped, the namespace is gone with all that is in it.
#[derive(Debug)]
pub(super) struct Taps {
    namespace: String,
}

impl Taps {
    /// Makes it.
    ///
    /// # Errors
    /// Without root, or where this kernel has no TAPs or bridges.
    pub(super) fn raise() -> Result<Self> {
        let taps = Self { namespace: format!("vmtest-{}", this::id()) };
        process::output(Command::new("ip").args(["netns", "add", &taps.namespace]))?;
        // Neighbour discovery of the host would be among the frames.
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

    /// What the TAPs and their bridge count: a frame that is lost there is no loss of the guest's.
    ///
    /// # Errors
    /// Where they are gone.
    pub(super) fn counters(&self) -> Result<String> {
        process::output(Command::new("ip").args([
            "-n",
            &self.namespace,
            "-statistics",
            "-statistics",
            "link",
        ]))
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
