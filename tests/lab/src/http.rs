//! A real HTTP server over real TCP, and curl as its client.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    command::line,
    error::{LabError, Result},
    namespace::Namespace,
};

/// How long either side of a connection waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a body, either way.
const MAX_BODY: u64 = 1 << 30;

/// What `GET /` answers with.
pub const PAGE: &str = "<html><body><h1>Hello from Web Server</h1></body></html>\n";

/// An HTTP/1.1 server (RFC 9112): `GET /bytes/N` answers with N bytes, `POST /echo` with what it was sent,
/// and both end the connection; `GET /` answers with [`PAGE`], and the client ends it. Stops when dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens at an address of the namespace; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the address is not to be had.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let failed = |error| LabError::io(format!("HTTP server at {address}"), error);
        let listener = namespace.enter(|| TcpListener::bind(address))?.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // Polled, so that a stop needs no connection of its own, which would be mirrored.
        listener.set_nonblocking(true).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || serve(&listener, &stop)
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("lab: the HTTP server panicked");
        }
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((connection, _)) => {
                    scope.spawn(move || {
                        if let Err(error) = answer(&connection) {
                            // The client's test fails, too; this has the reason.
                            eprintln!("lab: HTTP server: {error}");
                        }
                    });
                }
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    });
}

fn answer(connection: &TcpStream) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(connection);
    while let Some(request) = Request::read(&mut reader)? {
        let (response, ends) = request.response();
        // In one segment, if it fits.
        (&*connection).write_all(&response)?;
        if ends {
            break;
        }
    }
    Ok(())
}

struct Request {
    line: String,
    body: Vec<u8>,
    /// Whether the client has asked for the end of the connection.
    closes: bool,
}

impl Request {
    /// None at the end of the connection.
    fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let (mut body_len, mut closes) = (0_u64, !line.trim_end().ends_with("HTTP/1.1"));
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            let Some((name, value)) = header.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                body_len = value.parse().map_err(io::Error::other)?;
            } else if name.eq_ignore_ascii_case("connection") {
                closes |= value.eq_ignore_ascii_case("close");
            }
        }
        let mut body = Vec::new();
        reader.take(body_len.min(MAX_BODY)).read_to_end(&mut body)?;
        Ok(Some(Self { line, body, closes }))
    }

    /// Its response, and whether that ends the connection.
    fn response(self) -> (Vec<u8>, bool) {
        let mut words = self.line.split_ascii_whitespace();
        let (status, body, closes) = match (words.next(), words.next()) {
            (Some("POST"), Some("/echo")) => ("200 OK", self.body, true),
            (Some("GET"), Some("/")) => ("200 OK", PAGE.into(), self.closes),
            (Some("GET"), Some(path)) => match path.strip_prefix("/bytes/").map(str::parse) {
                Some(Ok(len)) if (len as u64) <= MAX_BODY => ("200 OK", pattern(len), true),
                _ => ("404 Not Found", Vec::new(), true),
            },
            _ => ("400 Bad Request", Vec::new(), true),
        };
        let closing = if closes { "Connection: close\r\n" } else { "" };
        let mut response =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{closing}\r\n", body.len()).into_bytes();
        response.extend(body);
        (response, closes)
    }
}

/// Bytes that depend on their offset.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|place| b"0123456789abcdef"[place / 16 % 16]).collect()
}

/// Does one exchange with curl in the namespace: a POST of `upload` bytes where there are any, else a GET of
/// `download` bytes; either way the body that came back is compared.
///
/// # Errors
///
/// [`LabError::Command`] if curl fails, [`LabError::Unexpected`] if the body is another.
pub fn exchange(client: &Namespace, server: SocketAddr, request: Exchange) -> Result<()> {
    let mut curl = client.command("curl");
    // `Expect:` off: one exchange is one request and one answer.
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--noproxy",
        "*",
        "--max-time",
        "20",
        "--header",
        "Expect:",
    ]);
    let (path, upload, wanted) = match request {
        Exchange::Page => ("/".to_owned(), None, PAGE.into()),
        Exchange::Get(len) => (format!("/bytes/{len}"), None, pattern(len)),
        Exchange::PostEcho(len) => ("/echo".to_owned(), Some(pattern(len)), pattern(len)),
    };
    if upload.is_some() {
        curl.args(["--data-binary", "@-"]);
    }
    curl.arg(format!("http://{server}{path}"));
    curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error| LabError::io("curl", error);
    let mut child = curl.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // On a thread of its own: curl may write its answer before it has read all of ours.
        let feeder = scope.spawn(move || match (stdin, upload) {
            (Some(mut stdin), Some(upload)) => stdin.write_all(&upload),
            _ => Ok(()),
        });
        let output = child.wait_with_output();
        feeder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(output)
    });
    let output = output.map_err(failed)?;
    if !output.status.success() {
        return Err(LabError::Command {
            command: line(&curl),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    if output.stdout != wanted {
        return Err(LabError::Unexpected(format!(
            "{} bytes came back by HTTP, not the {} asked for",
            output.stdout.len(),
            wanted.len()
        )));
    }
    Ok(())
}

/// A request and its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exchange {
    /// Download [`PAGE`].
    Page,
    /// Download so many bytes.
    Get(usize),
    /// Upload so many bytes and get them back.
    PostEcho(usize),
}
