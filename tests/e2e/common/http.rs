//! A client of `--http`.

use std::{
    io::{Error, ErrorKind, Read as _, Result, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use mirror_lab::Namespace;
use serde_json::Value;

use super::{Cable, mirror::until};

/// Where a run listens, to be reached in its own namespace.
pub(crate) const LOOPBACK: &str = "127.0.0.1:9464";
/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of the server.
pub(crate) struct Client {
    pub(crate) namespace: Namespace,
    pub(crate) address: SocketAddr,
    /// How long it waits for a connection, and for each part of an answer.
    pub(crate) patience: Duration,
}

impl Client {
    pub(crate) fn new(namespace: &Namespace, address: &str) -> Self {
        let address = address.parse().expect("an address");
        Self { namespace: namespace.clone(), address, patience: PATIENCE }
    }

    /// To be reached by the run itself and on its host only.
    pub(crate) fn on_loopback(cable: &Cable) -> Self {
        Self::new(&cable.target, LOOPBACK)
    }

    pub(crate) fn connect(&self) -> Result<TcpStream> {
        let connect = || TcpStream::connect_timeout(&self.address, self.patience);
        let stream = self.namespace.enter(connect).expect("namespace")?;
        stream.set_read_timeout(Some(self.patience))?;
        Ok(stream)
    }

    /// Status and body of an answer, if there is one.
    pub(crate) fn ask(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = self.connect()?;
        // At once, as health checks do.
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let parts = || {
            let (head, body) = answer.split_once("\r\n\r\n")?;
            Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
        };
        parts().ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("{answer:?} is no answer")))
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask(path).expect("an answer")
    }

    /// The answer about health.
    #[track_caller]
    pub(crate) fn health(&self) -> (u16, Value) {
        let (status, body) = self.get("/health");
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    /// Waits until a check has this state, and returns it. The HTTP status agrees with that of the answer.
    #[track_caller]
    pub(crate) fn becomes(&self, check: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let (status, answer) = self.health();
            let is_healthy = ["ok", "degraded"].iter().any(|healthy| answer["status"] == *healthy);
            assert_eq!(status, if is_healthy { 200 } else { 503 }, "{answer:#}");
            let found = answer["checks"][check].clone();
            if found["state"] == state {
                let level = if check == "run" { "draining" } else { state };
                assert_eq!(answer["status"], level, "{answer:#}");
                return found;
            }
            last = answer;
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{check} does not become {state}: {last:#}");
    }

    #[track_caller]
    pub(crate) fn is_well(&self) {
        until("it is healthy", || (self.health().1["status"] == "ok").then_some(()));
    }
}
