//! The server over real sockets: what it answers, and to whom while others are slow.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use super::*;
use crate::observed::Phase;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn serve() -> (SocketAddr, Arc<Observed>) {
    let config = HttpConfig { address: "127.0.0.1:0".parse().unwrap(), allowed: Vec::new(), most_loss: None };
    let listening = config.listen(None).unwrap();
    let (address, observed) = (listening.address().unwrap(), Arc::new(Observed::default()));
    listening.serve(&observed, || Ok(())).unwrap();
    (address, observed)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes after these bytes.
fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is the end, too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

const LIVE: &[u8] = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_request_in_pieces_is_answered_and_the_connection_closed() {
    let (address, _) = serve();
    let mut stream = connect(address);
    for byte in LIVE {
        stream.write_all(&[*byte]).unwrap();
    }
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nlive\n"), "{answer}");
}

#[test]
fn what_is_no_request_has_its_status_and_all_of_its_answer_arrives() {
    let (address, _) = serve();
    let long = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 40_000]].concat();
    for (bytes, status) in [
        (&b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"[..], "405"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00", "400"),
        (b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        (b"GET /live HTTP/1.1\r\nHost: attacker.example\r\n\r\n", "421"),
        (&long, "431"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", "503"),
    ] {
        let answer = ask(address, bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer:?}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
        assert_eq!(head.contains("Allow: GET, HEAD"), status == "405");
    }
}

#[test]
fn a_client_that_sends_nothing_is_answered_after_a_second() {
    let (address, _) = serve();
    let begun = Instant::now();
    let answer = ask(address, b"GET /live HT");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn while_all_places_are_taken_a_whole_request_is_answered_and_the_oldest_is_turned_away() {
    let (address, _) = serve();
    let begun = Instant::now();
    let mut slow: Vec<_> = (0..3 * CONNECTIONS)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"GET /live HT").unwrap();
            stream
        })
        .collect();
    for _ in 0..100 {
        let answer = ask(address, LIVE);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let was_quick = begun.elapsed() < Duration::from_secs(1);
    let answers: Vec<_> = slow.iter_mut().map(rest).collect();
    let with = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    let (turned_away, late) = (with("HTTP/1.1 503 "), with("HTTP/1.1 408 "));
    assert_eq!(turned_away + late, answers.len(), "{answers:?}");
    // On a machine that took longer, some had their time.
    if was_quick {
        assert!(turned_away >= 2 * CONNECTIONS, "{turned_away}");
        assert!(answers[0].starts_with("HTTP/1.1 503 "), "{:?}", answers[0]);
    }
}

#[test]
fn clients_wait_for_the_main_thread_and_not_for_each_other() {
    let (address, observed) = serve();
    observed.enter(Phase::Ingesting);
    let mut waits = connect(address);
    waits.write_all(b"GET /report HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    // It wants the report of a moment ago.
    while !observed.is_due(Instant::now()) {
        thread::yield_now();
    }
    assert!(ask(address, b"GET /health HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 503 "));
    let report = r#"{"schema": "mirror.report/1", "source": "af_xdp", "started": "1970-01-01T00:00:00Z"}"#;
    observed.publish(Instant::now(), serde_json::from_str(report).unwrap());
    let answer = rest(&mut waits);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("mirror.report/1"), "{answer}");
}

#[test]
fn a_client_may_close_its_sending_half_after_its_request() {
    let (address, _) = serve();
    let mut stream = connect(address);
    stream.write_all(LIVE).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(rest(&mut stream).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_port_in_use_is_an_error_with_its_remedy() {
    let (address, _) = serve();
    let config = HttpConfig { address, allowed: Vec::new(), most_loss: None };
    let error = config.listen(None).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("choose another port"), "{error}");
}
