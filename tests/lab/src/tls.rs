//! TLS as OpenSSL speaks it: a server, and connections to it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use crate::{
    command::{end, run, wait_for_listener},
    error::{LabError, Result},
    namespace::Namespace,
};

const PROGRAM: &str = "openssl";

/// An `openssl s_server` that answers each line with its characters in reverse. Stopped when dropped.
#[derive(Debug)]
pub struct TlsServer {
    child: Child,
}

impl TlsServer {
    /// Starts one at an address of the namespace, with a key and a certificate in this directory, and returns
    /// once it listens.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] without OpenSSL, [`LabError::Command`] without a certificate,
    /// [`LabError::Unexpected`] if it ends, or does not listen.
    pub fn start(namespace: &Namespace, directory: &Path, address: SocketAddr) -> Result<Self> {
        let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
        let mut request = namespace.command(PROGRAM);
        request.args(["req", "-x509", "-nodes", "-subj", "/CN=endpoint", "-newkey", "ec"]);
        request.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout"]).arg(&key);
        run(request.arg("-out").arg(&certificate))?;
        let mut command = namespace.command(PROGRAM);
        command.args(["s_server", "-quiet", "-rev", "-accept", &address.to_string(), "-key"]).arg(key);
        command.arg("-cert").arg(certificate).stdin(Stdio::null()).stdout(Stdio::null());
        // A dozen lines a connection.
        command.stderr(Stdio::null());
        let child = command.spawn().map_err(|error| LabError::io(PROGRAM, error))?;
        let mut server = Self { child };
        wait_for_listener(namespace, address, &mut server.child, &command)?;
        Ok(server)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// An `openssl s_client` that is connected to a [`TlsServer`]. Stopped when dropped.
#[derive(Debug)]
pub struct TlsConnection {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl TlsConnection {
    /// Connects from a namespace.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] without OpenSSL.
    pub fn open(namespace: &Namespace, server: SocketAddr) -> Result<Self> {
        let mut command = namespace.command(PROGRAM);
        command.args(["s_client", "-quiet", "-connect", &server.to_string()]);
        // The certificate is its own issuer, which it would report.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| LabError::io(PROGRAM, error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(LabError::Unexpected("s_client has no pipes".to_owned()));
        };
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    /// Sends a line and waits for the answer, which is compared.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] and [`LabError::Unexpected`] if there is none, or another.
    pub fn converse(&mut self, words: &str) -> Result<()> {
        let failed = |error| LabError::io(PROGRAM, error);
        writeln!(self.stdin, "{words}").map_err(failed)?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).map_err(failed)?;
        let wanted: String = words.chars().rev().collect();
        if answer.trim_end() != wanted {
            return Err(LabError::Unexpected(format!("{answer:?} came back by TLS, not {wanted:?}")));
        }
        Ok(())
    }
}

impl Drop for TlsConnection {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
