//! HAProxy as a load balancer for HTTP.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
};

use crate::{
    command::{end, wait_for_listener},
    error::{LabError, Result},
    namespace::Namespace,
};

/// An HAProxy that hands requests to one server, with the address of the client in `X-Forwarded-For`, as an
/// Application Load Balancer does; and that checks the health of the server. Stopped when dropped.
#[derive(Debug)]
pub struct Balancer {
    child: Child,
}

impl Balancer {
    /// Starts one at an address of the namespace, and returns once it listens. Its configuration is written
    /// to this directory.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] without HAProxy, [`LabError::Unexpected`] if it ends, or does not listen.
    pub fn start(
        namespace: &Namespace,
        directory: &Path,
        address: SocketAddr,
        server: SocketAddr,
    ) -> Result<Self> {
        let file = directory.join("haproxy.cfg");
        let configuration = format!(
            "defaults
    mode http
    timeout connect 10s
    timeout client 10s
    timeout server 10s
listen web
    bind {address}
    option forwardfor
    option httpchk GET /
    server web-1 {server} check inter 100ms
"
        );
        fs::write(&file, configuration).map_err(|error| LabError::file(&file, error))?;
        let mut command = namespace.command("haproxy");
        // -db: in the foreground.
        command.args(["-q", "-db", "-f"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| LabError::io("haproxy", error))?;
        let mut balancer = Self { child };
        wait_for_listener(namespace, address, &mut balancer.child, &command)?;
        Ok(balancer)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
