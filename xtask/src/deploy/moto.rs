//! A server that answers the AWS CLI, for as long as this value lives. It keeps what is made; it does not
//! know everything, and validates little: options and their form are checked by the CLI itself, and
//! parameters of stacks by `server.py`.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::tools;
use crate::pins;

const SERVER: &str = include_str!("server.py");

/// The running server.
pub(super) struct Moto {
    process: Child,
    ports: [u16; 2],
}

impl Moto {
    /// # Errors
    /// If it does not start.
    pub(super) fn start() -> Result<Self> {
        let mut process = Command::new(tools::program(&pins::TEMPLATE_TOOLS, "python"))
            .args(["-c", SERVER])
            // It ends with us, whose end of the pipe closes.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start moto")?;
        let said = process.stdout.take().context("moto has no output")?;
        for line in BufReader::new(said).lines() {
            if let Some(ports) = line.context("cannot read what moto says")?.strip_prefix("ports ") {
                return Ok(Self { process, ports: serde_json::from_str(ports).context("no ports")? });
            }
        }
        process.wait().context("cannot wait for moto")?;
        bail!("moto ended at once")
    }

    /// Runs a script of bash whose `aws` talks to the server alone, and returns what it printed.
    ///
    /// # Errors
    /// If it fails; with all that it said.
    pub(super) fn run(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let bin = tools::program(&pins::TEMPLATE_TOOLS, "");
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([bin].into_iter().chain(env::split_paths(&path)))?;
        let [moto, cloudformation] = self.ports;
        let url = |port| format!("http://127.0.0.1:{port}");
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script, "bash"]).args(arguments).env("PATH", path).envs([
            ("AWS_ENDPOINT_URL", url(moto).as_str()),
            ("AWS_ENDPOINT_URL_CLOUDFORMATION", url(cloudformation).as_str()),
            ("AWS_ACCESS_KEY_ID", "none"),
            ("AWS_SECRET_ACCESS_KEY", "none"),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_PAGER", ""),
        ]);
        tools::quietly(&mut command)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It has ended, or is about to: nothing else is to be done here.
        let _ended = self.process.wait();
    }
}
