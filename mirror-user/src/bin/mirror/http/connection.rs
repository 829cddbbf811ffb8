//! One client: a request, an answer, the end. Nothing here waits.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    mem,
    net::{IpAddr, Shutdown, TcpStream},
    time::{Duration, Instant},
};

use super::{
    access::Access,
    answers::{Answer, Answers, Pending, Response, refusal},
    request::{LONGEST, Parsed, parse},
    status::Status,
};

/// How long a client may take to send its request, to take its answer, and to close after a refusal.
pub(super) const TO_SEND: Duration = Duration::from_secs(1);
const TO_TAKE: Duration = Duration::from_secs(10);
const TO_CLOSE: Duration = Duration::from_secs(1);
/// What a client that was refused may still send. If bytes were left unread, the kernel would reset the
/// connection, and the client might not see its answer.
const MOST_REST: usize = 64 << 10;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    access: Access,
    /// When it must have gone on to its next state.
    until: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The request, as far as it has come.
    Reading(Vec<u8>),
    Pending(Pending),
    Writing {
        response: Response,
        written: usize,
        then_rest: bool,
    },
    /// How many bytes have been discarded.
    Rest(usize),
    Over,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wants {
    Read,
    Write,
    /// An observation of the main thread.
    Observation,
    Nothing,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(stream: TcpStream, peer: IpAddr, allowed: &[ipnet::IpNet]) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let access = Access::of(stream.local_addr()?.ip(), peer, allowed);
        let until = Instant::now() + TO_SEND;
        Ok(Self { stream, access, until, state: State::Reading(Vec::new()) })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn wants(&self) -> Wants {
        match &self.state {
            State::Reading(_) | State::Rest(_) => Wants::Read,
            State::Writing { .. } => Wants::Write,
            State::Pending(_) => Wants::Observation,
            State::Over => Wants::Nothing,
        }
    }

    /// Whether it has not sent its request yet, or has had its answer: others need its place more.
    pub(super) fn is_idle(&self) -> bool {
        self.wants() == Wants::Read
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn drive(&mut self, answers: &mut Answers) {
        loop {
            let state = mem::replace(&mut self.state, State::Over);
            let is_late = Instant::now() >= self.until;
            let (state, goes_on) = match state {
                State::Reading(_) if is_late => {
                    (self.refuse(Status::RequestTimeout, "the request did not come within 1 s"), true)
                }
                State::Reading(bytes) => self.read(bytes, answers),
                State::Pending(pending) => match answers.continued(pending) {
                    Answer::Now(response) => (self.write(response, false), true),
                    Answer::Later(pending) => (State::Pending(pending), false),
                },
                State::Writing { .. } | State::Rest(_) if is_late => (State::Over, false),
                State::Writing { response, written, then_rest } => {
                    self.go_on_writing(response, written, then_rest)
                }
                State::Rest(discarded) => self.discard(discarded),
                State::Over => (State::Over, false),
            };
            self.state = state;
            if !goes_on {
                return;
            }
        }
    }

    /// Ends it, with a status if that can be written at once.
    pub(super) fn turn_away(mut self) {
        let Response { head, body } = refusal(Status::ServiceUnavailable, "too many connections: try again");
        // If the buffer of its socket is full, it has an answer already.
        let _ = self.stream.write(&[&head[..], &body[..]].concat());
    }

    fn read(&mut self, mut bytes: Vec<u8>, answers: &mut Answers) -> (State, bool) {
        let mut chunk = [0; LONGEST];
        let room = LONGEST - bytes.len();
        match self.stream.read(&mut chunk[..room]) {
            // It has closed before its request was complete.
            Ok(0) => return (State::Over, false),
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (State::Reading(bytes), false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return (State::Reading(bytes), true),
            Err(_) => return (State::Over, false),
        }
        match parse(&bytes) {
            Parsed::Partial => (State::Reading(bytes), true),
            Parsed::Refused(status) => (self.refuse(status, status.line()), true),
            Parsed::Request(request) => match answers.answer(&request, self.access) {
                Answer::Now(response) => (self.write(response, false), true),
                Answer::Later(pending) => (State::Pending(pending), false),
            },
        }
    }

    fn refuse(&mut self, status: Status, why: &str) -> State {
        self.write(refusal(status, why), true)
    }

    fn write(&mut self, response: Response, then_rest: bool) -> State {
        self.until = Instant::now() + TO_TAKE;
        State::Writing { response, written: 0, then_rest }
    }

    fn go_on_writing(&mut self, response: Response, mut written: usize, then_rest: bool) -> (State, bool) {
        loop {
            let head = response.head.len();
            let left = match written.checked_sub(head) {
                None => &response.head[written..],
                Some(of_body) => &response.body[of_body.min(response.body.len())..],
            };
            if left.is_empty() {
                break;
            }
            match self.stream.write(left) {
                Ok(length) => written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return (State::Writing { response, written, then_rest }, false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return (State::Over, false),
            }
        }
        if self.stream.shutdown(Shutdown::Write).is_err() || !then_rest {
            return (State::Over, false);
        }
        self.until = Instant::now() + TO_CLOSE;
        (State::Rest(0), true)
    }

    fn discard(&mut self, discarded: usize) -> (State, bool) {
        let mut chunk = [0; LONGEST];
        match self.stream.read(&mut chunk) {
            Ok(0) => (State::Over, false),
            Ok(length) if discarded + length > MOST_REST => (State::Over, false),
            Ok(length) => (State::Rest(discarded + length), true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (State::Rest(discarded), false),
            Err(error) if error.kind() == ErrorKind::Interrupted => (State::Rest(discarded), true),
            Err(_) => (State::Over, false),
        }
    }
}
