//! What is answered to a request, from memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    access::{Access, is_this_host},
    board::Board,
    health,
    metrics::Exporter,
    page,
    request::Request,
    status::Status,
};
use crate::observed::{Observation, Phase};

/// How long an answer may wait for the main thread to observe.
const PATIENCE: Duration = Duration::from_millis(2500);

/// The head and the body of a response.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) head: Vec<u8>,
    pub(super) body: Arc<[u8]>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Answer {
    Now(Response),
    /// When the main thread has observed.
    Later(Pending),
}

/// A request that waits for an observation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    wanted: Observed,
    head: bool,
    until: Instant,
}

/// What is made of an observation.
#[derive(Clone, Copy, Debug)]
enum Observed {
    Report,
    Metrics,
}

/// Makes the answers.
#[derive(Debug)]
pub(super) struct Answers {
    board: Arc<Board>,
    exporter: Exporter,
    /// The report that was written last, for clients that ask within a second.
    written: Option<(Instant, Arc<[u8]>)>,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Answers {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { board, exporter: Exporter::default(), written: None }
    }

    /// Whose questions these are.
    pub(super) fn asked(&self) -> &crate::observed::Observed {
        &self.board.observed
    }

    /// The answer to a request, to a client with this access.
    pub(super) fn answer(&mut self, request: &Request<'_>, access: Access) -> Answer {
        let now = Instant::now();
        let is_known_host = access != Access::Local || request.host.is_none_or(is_this_host);
        let head = request.head;
        if !is_known_host {
            return Answer::Now(refusal(
                Status::MisdirectedRequest,
                "the Host field does not name this host",
            ));
        }
        let wanted = match request.path {
            "/health" => return Answer::Now(self.health(now, head, access)),
            "/live" => return Answer::Now(self.live(now, head)),
            _ if access == Access::Health => {
                let text = "only /health and /live, unless --http-allow has this client's address";
                return Answer::Now(refusal(Status::Forbidden, text));
            }
            "/" => return Answer::Now(page::page(head)),
            "/report" => Observed::Report,
            "/metrics" => Observed::Metrics,
            _ => return Answer::Now(refusal(Status::NotFound, "no such page")),
        };
        self.continued(Pending { wanted, head, until: now + PATIENCE })
    }

    /// The answer to a request that waits.
    pub(super) fn continued(&mut self, pending: Pending) -> Answer {
        let observed = &self.board.observed;
        let phase = observed.phase();
        // After the end nothing is observed any more.
        let last = || observed.last().filter(|_| phase == Phase::Stopping);
        match observed.ask(Duration::ZERO).or_else(last) {
            Some(observation) => Answer::Now(self.observed(&observation, pending)),
            None if phase == Phase::Starting => {
                Answer::Now(refusal(Status::ServiceUnavailable, "starting: queues are not bound yet"))
            }
            None if Instant::now() >= pending.until => {
                Answer::Now(refusal(Status::ServiceUnavailable, "the main thread does not answer"))
            }
            None => Answer::Later(pending),
        }
    }

    fn observed(&mut self, observation: &Observation, pending: Pending) -> Response {
        let Pending { wanted, head, .. } = pending;
        match wanted {
            Observed::Report => match self.report(observation) {
                Ok(body) => response(Status::Ok, JSON, &[], body, head),
                Err(error) => refusal(Status::ServiceUnavailable, &error.to_string()),
            },
            Observed::Metrics => {
                if self.exporter.listed().len() == 0 {
                    self.exporter.list(self.board.listed());
                }
                let before = self.exporter.listed().len();
                let text = self.exporter.text(&observation.report, &self.board.state());
                if self.exporter.listed().len() > before {
                    self.board.list(self.exporter.listed().collect());
                }
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                response(Status::Ok, kind, &[], text.into_bytes().into(), head)
            }
        }
    }

    fn report(&mut self, observation: &Observation) -> serde_json::Result<Arc<[u8]>> {
        if let Some((at, body)) = &self.written
            && *at == observation.at
        {
            return Ok(Arc::clone(body));
        }
        let body: Arc<[u8]> = serde_json::to_vec(&*observation.report)?.into();
        self.written = Some((observation.at, Arc::clone(&body)));
        Ok(body)
    }

    fn health(&self, now: Instant, head: bool, access: Access) -> Response {
        let verdict = self.board.state().verdict;
        let (healthy, answer) =
            health::answer(self.board.observed.phase(), verdict.as_deref(), now, access != Access::Health);
        let status = if healthy { Status::Ok } else { Status::ServiceUnavailable };
        let body = format!("{answer}\n").into_bytes();
        response(status, JSON, &[], body.into(), head)
    }

    fn live(&self, now: Instant, head: bool) -> Response {
        let (status, text) = match self.board.is_live(now) {
            true => (Status::Ok, "live\n"),
            false => (Status::ServiceUnavailable, "the main loop does not turn\n"),
        };
        response(status, TEXT, &[], text.as_bytes().into(), head)
    }
}

/// An answer that is only its status, and why.
pub(super) fn refusal(status: Status, why: &str) -> Response {
    let allow = [("Allow", "GET, HEAD")];
    let fields = if status == Status::MethodNotAllowed { &allow[..] } else { &[] };
    response(status, TEXT, fields, format!("{why}\n").into_bytes().into(), false)
}

/// A response; to HEAD without its body.
pub(super) fn response(
    status: Status,
    kind: &str,
    fields: &[(&str, &str)],
    body: Arc<[u8]>,
    head_only: bool,
) -> Response {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
        X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n{fields}\
        Connection: close\r\n\r\n",
        status.line(),
        body.len(),
    );
    Response { head: head.into_bytes(), body: if head_only { Arc::default() } else { body } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::request::Parsed, observed};

    fn report() -> mirror_user::Report {
        let text = r#"{"schema": "mirror.report/1", "source": "af_xdp", "started": "1970-01-01T00:00:00Z"}"#;
        serde_json::from_str(text).unwrap()
    }

    struct Asked {
        answers: Answers,
        observed: Arc<observed::Observed>,
    }

    impl Asked {
        fn new() -> Self {
            let observed = Arc::new(observed::Observed::default());
            Self { answers: Answers::new(Board::new(&observed)), observed }
        }

        /// Status line, fields and body.
        fn get(&mut self, request: &str, access: Access) -> Option<String> {
            let bytes = format!("{request}\r\n\r\n").into_bytes();
            let Parsed::Request(request) = crate::http::request::parse(&bytes) else { panic!("{request}") };
            match self.answers.answer(&request, access) {
                Answer::Now(Response { head, body }) => {
                    Some(String::from_utf8([&head[..], &body[..]].concat()).unwrap())
                }
                Answer::Later(_) => None,
            }
        }
    }

    #[track_caller]
    fn has_status(answer: Option<String>, status: &str) -> String {
        let answer = answer.expect("an answer at once");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        answer
    }

    #[test]
    fn every_path_says_that_a_run_is_starting_until_it_has_started() {
        let mut asked = Asked::new();
        for path in ["/health", "/metrics", "/report"] {
            let answer = has_status(asked.get(&format!("GET {path} HTTP/1.0"), Access::Local), "503");
            assert!(answer.contains("starting"), "{answer}");
        }
        has_status(asked.get("GET /live HTTP/1.0", Access::Local), "200");
        has_status(asked.get("GET / HTTP/1.0", Access::Local), "200");
    }

    #[test]
    fn report_and_metrics_wait_for_an_observation() {
        let mut asked = Asked::new();
        asked.observed.enter(Phase::Ingesting);
        for path in ["/report", "/metrics"] {
            assert_eq!(asked.get(&format!("GET {path} HTTP/1.0"), Access::Local), None);
        }
        assert!(asked.observed.is_due(Instant::now()));
        asked.observed.publish(Instant::now(), report());
        let answer = has_status(asked.get("GET /report HTTP/1.0", Access::Local), "200");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(serde_json::from_str::<mirror_user::Report>(body).unwrap(), report());
        let answer = has_status(asked.get("GET /metrics HTTP/1.0", Access::Allowed), "200");
        assert!(answer.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("\n# TYPE mirror_build_info gauge\n"), "{answer}");
    }

    #[test]
    fn strangers_get_health_and_life_alone() {
        let mut asked = Asked::new();
        asked.observed.enter(Phase::Ingesting);
        for path in ["/", "/report", "/metrics", "/other"] {
            has_status(asked.get(&format!("GET {path} HTTP/1.0"), Access::Health), "403");
        }
        has_status(asked.get("GET /health HTTP/1.1\r\nHost: any.example", Access::Health), "503");
        has_status(asked.get("GET /live HTTP/1.1\r\nHost: any.example", Access::Health), "200");
        has_status(asked.get("GET /other HTTP/1.0", Access::Local), "404");
    }

    #[test]
    fn on_loopback_another_name_is_refused_for_every_path() {
        let mut asked = Asked::new();
        for path in ["/", "/health", "/live", "/report", "/metrics"] {
            for (host, status) in [("localhost:9464", "200 503"), ("attacker.example:9464", "421")] {
                let answer = asked.get(&format!("GET {path} HTTP/1.1\r\nHost: {host}"), Access::Local);
                let answer = answer.expect("an answer at once");
                assert!(status.contains(answer.split(' ').nth(1).unwrap()), "{host}{path}: {answer}");
            }
        }
    }

    #[test]
    fn an_answer_to_head_has_the_length_and_not_the_body() {
        let mut asked = Asked::new();
        let get = asked.get("GET /live HTTP/1.0", Access::Local).unwrap();
        let head = asked.get("HEAD /live HTTP/1.0", Access::Local).unwrap();
        assert_eq!(get.strip_suffix("live\n"), Some(&head[..]));
        assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }
}
