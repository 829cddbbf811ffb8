//! Production's traffic, by iperf3.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use super::bed::{CLIENT, Hosts};
use crate::process::{Process, last_line};

/// The client's iperf3, to which the host sends. It ends when this is dropped.
pub(super) struct Server {
    _process: Process,
    _directory: TempDir,
}

impl Server {
    pub(super) fn start(hosts: &Hosts) -> Result<Self> {
        let directory = tempfile::tempdir().context("a directory")?;
        let mut command = hosts.client.command("iperf3");
        command.args(["--server", "--bind", CLIENT, "--forceflush"]);
        let mut process = Process::start(command, directory.path()).context("iperf3")?;
        process.wait_until(|said| Ok(said.contains("listening"))).context("iperf3")?;
        Ok(Self { _process: process, _directory: directory })
    }
}

/// What the host sends to the client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// Datagrams a second of so many bytes of payload.
    Udp { rate: u64, payload: u64 },
    /// A connection with this limit, in bits a second.
    Tcp { rate: Option<u64> },
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    /// Bits of payload a second that the client received.
    pub(super) bits: f64,
    /// Datagrams that the host sent, by the client's count.
    pub(super) sent: u64,
    /// Datagrams of those that did not arrive.
    pub(super) lost: u64,
}

impl Load {
    /// Bits of payload a second that are asked for.
    pub(super) fn asked(self) -> Option<u64> {
        match self {
            Self::Udp { rate, payload } => Some(rate * payload * 8),
            Self::Tcp { rate } => rate,
        }
    }

    fn command(self, hosts: &Hosts, seconds: u64) -> Command {
        let mut command = hosts.host.command("iperf3");
        command.args(["--client", CLIENT, "--json", "--time", &seconds.to_string()]);
        command.args(["--bitrate", &self.asked().unwrap_or(0).to_string()]);
        if let Self::Udp { payload, .. } = self {
            command.args(["--udp", "--length", &payload.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Sends it for so many seconds.
    pub(super) fn send(self, hosts: &Hosts, seconds: u64) -> Result<Carried> {
        self.send_beside(hosts, seconds, |_| Ok(())).map(|(carried, ())| carried)
    }

    /// The same, with something done meanwhile; it is given the time that the sending takes.
    pub(super) fn send_beside<T>(
        self,
        hosts: &Hosts,
        seconds: u64,
        meanwhile: impl FnOnce(Duration) -> Result<T>,
    ) -> Result<(Carried, T)> {
        let iperf = self.command(hosts, seconds).spawn().context("iperf3")?;
        let done = meanwhile(Duration::from_secs(seconds));
        let output = iperf.wait_with_output().context("iperf3")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let parsed: Value = serde_json::from_str(&said)
            .with_context(|| format!("iperf3: {}", last_line(&String::from_utf8_lossy(&output.stderr))))?;
        if let Some(error) = parsed.get("error") {
            bail!("iperf3: {error}");
        }
        Ok((self.carried(&parsed).with_context(|| format!("iperf3: {said}"))?, done?))
    }

    fn carried(self, said: &Value) -> Option<Carried> {
        let end = said.get("end")?;
        Some(match self {
            Self::Tcp { .. } => {
                Carried { bits: end.pointer("/sum_received/bits_per_second")?.as_f64()?, sent: 0, lost: 0 }
            }
            Self::Udp { payload, .. } => {
                let of = |field: &str| end.pointer(field)?.as_u64();
                let (sent, lost) = (of("/sum/packets")?, of("/sum/lost_packets")?);
                let seconds = end.pointer("/sum/seconds")?.as_f64()?;
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let bits = ((sent - lost.min(sent)) * payload * 8) as f64 / seconds;
                Carried { bits, sent, lost }
            }
        })
    }
}
