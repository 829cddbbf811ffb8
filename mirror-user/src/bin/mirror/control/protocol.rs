//! The protocol of the control socket: a line of JSON as request, a line of JSON as answer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{ingest::DrainLimits, observed::Phase, reload::Reloaded, upgrade::Upgraded};

/// The schema of requests and answers. Fields may be added, never renamed.
pub(super) const SCHEMA: &str = "mirror.control/1";
/// The longest request, in bytes.
pub(super) const LONGEST_REQUEST: usize = 4096;
/// The longest answer that a client reads, in bytes.
pub(super) const LONGEST_ANSWER: u64 = 64 << 20;

/// What is requested.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// How the run stands.
    Status,
    /// To take packets until no more come, then stop.
    Drain,
    /// To read its configuration file again, and to change accordingly.
    Reload,
    /// To pass to a new process of the executable that is installed now.
    Upgrade,
    /// The same, with new sockets.
    ColdUpgrade,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Request<'a> {
    pub(super) schema: Cow<'a, str>,
    pub(super) request: Action,
}

/// An answer on the wire; `R` is a report, or a reference to one. It has one of five.
#[derive(Debug, Deserialize, Serialize)]
struct Answer<R> {
    schema: Cow<'static, str>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    status: Option<RunStatus<R>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    draining: Option<DrainTimes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reloaded: Option<Reloaded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgraded: Option<Upgraded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Refusal>,
}

/// A default that asks nothing of `R`.
fn none<T>() -> Option<T> {
    None
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome<R> {
    Status(Box<RunStatus<R>>),
    Draining(DrainTimes),
    Reloaded(Reloaded),
    Upgraded(Upgraded),
    Refused(Refusal),
}

/// How a run stands.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct RunStatus<R> {
    pub(crate) name: String,
    pub(crate) pid: u32,
    /// Of `mirror`.
    pub(crate) version: String,
    pub(crate) phase: Phase,
    /// How the run drains when it is asked to stop; null if it stops at once.
    pub(crate) drain: Option<DrainTimes>,
    /// The report as it stands; null while the run starts.
    pub(crate) report: Option<R>,
}

/// How long a drain takes, in seconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct DrainTimes {
    /// At most.
    pub(crate) max_s: f64,
    /// Without a packet.
    pub(crate) quiet_s: f64,
}

impl From<DrainLimits> for DrainTimes {
    fn from(DrainLimits { max, quiet }: DrainLimits) -> Self {
        Self { max_s: max.as_secs_f64(), quiet_s: quiet.as_secs_f64() }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Refusal {
    pub(crate) reason: RefusalReason,
    /// In a sentence, with the remedy.
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefusalReason {
    /// Not a request, or one that this release does not know.
    BadRequest,
    NotPermitted,
    /// The run does not drain.
    NoDrain,
    /// The run has no configuration file.
    NoConfig,
    /// The configuration was refused; nothing has changed.
    Configuration,
    /// The run could not pass to a new process; it goes on as it is.
    Upgrade,
    /// The run stops already.
    Stopping,
    #[serde(other)]
    Other,
}

impl Refusal {
    pub(super) fn new(reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Action {
    /// The request as a line.
    pub(super) fn line(self) -> serde_json::Result<Vec<u8>> {
        line(&Request { schema: SCHEMA.into(), request: self })
    }

    /// Of a request without its end of line.
    pub(super) fn parse(request: &[u8]) -> Result<Self, Refusal> {
        let bad = |message| Refusal::new(RefusalReason::BadRequest, message);
        let Request { schema, request } = serde_json::from_slice(request)
            .map_err(|error| bad(format!("not a request of {SCHEMA}: {error}")))?;
        if schema == SCHEMA {
            Ok(request)
        } else {
            Err(bad(format!("this release has {SCHEMA}; use the `mirror` of the run")))
        }
    }
}

impl<R: Serialize> Outcome<R> {
    /// The answer as a line.
    pub(super) fn line(self) -> serde_json::Result<Vec<u8>> {
        let mut answer = Answer {
            schema: SCHEMA.into(),
            status: None,
            draining: None,
            reloaded: None,
            upgraded: None,
            refused: None,
        };
        match self {
            Self::Status(status) => answer.status = Some(*status),
            Self::Draining(times) => answer.draining = Some(times),
            Self::Reloaded(reloaded) => answer.reloaded = Some(reloaded),
            Self::Upgraded(upgraded) => answer.upgraded = Some(upgraded),
            Self::Refused(refusal) => answer.refused = Some(refusal),
        }
        line(&answer)
    }
}

impl<R: DeserializeOwned> Outcome<R> {
    /// Of an answer; `None` if this release does not know its kind.
    pub(super) fn parse(answer: &[u8]) -> serde_json::Result<Option<Self>> {
        let Answer { schema: _, status, draining, reloaded, upgraded, refused } =
            serde_json::from_slice(answer)?;
        let status = status.map(|status| Self::Status(Box::new(status)));
        let draining = draining.map(Self::Draining);
        let reloaded = reloaded.map(Self::Reloaded);
        let upgraded = upgraded.map(Self::Upgraded);
        Ok(status.or(draining).or(reloaded).or(upgraded).or(refused.map(Self::Refused)))
    }
}

fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use mirror_user::Report;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written_and_with_fields_of_later_releases() {
        for (action, text) in [
            (Action::Status, r#"{"schema":"mirror.control/1","request":"status"}"#),
            (Action::Drain, r#"{"schema":"mirror.control/1","request":"drain"}"#),
            (Action::Reload, r#"{"schema":"mirror.control/1","request":"reload"}"#),
            (Action::Upgrade, r#"{"schema":"mirror.control/1","request":"upgrade"}"#),
            (Action::ColdUpgrade, r#"{"schema":"mirror.control/1","request":"cold_upgrade"}"#),
        ] {
            assert_eq!(action.line().unwrap(), format!("{text}\n").into_bytes());
            assert_eq!(Action::parse(text.as_bytes()), Ok(action));
            let later = text.replacen('{', r#"{"later":[1],"#, 1);
            assert_eq!(Action::parse(later.as_bytes()), Ok(action));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        for (request, expected) in [
            ("", "not a request of mirror.control/1"),
            ("status", "not a request of mirror.control/1"),
            (r#"{"schema":"mirror.control/1","request":"reboot"}"#, "unknown variant `reboot`"),
            (r#"{"schema":"mirror.control/2","request":"status"}"#, "use the `mirror` of the run"),
            (r#"{"request":"status"}"#, "missing field `schema`"),
        ] {
            let refusal = Action::parse(request.as_bytes()).unwrap_err();
            assert_eq!(refusal.reason, RefusalReason::BadRequest, "{request}");
            assert!(refusal.message.contains(expected), "{request}: {}", refusal.message);
        }
    }

    #[test]
    fn answers_are_read_as_they_are_written() {
        let report =
            r#"{"schema": "mirror.report/1", "source": "af_xdp", "started": "1970-01-01T00:00:00Z"}"#;
        let status = RunStatus {
            name: "a\n".to_owned(),
            pid: 7,
            version: "0.1.0".to_owned(),
            phase: Phase::Draining,
            drain: Some(DrainTimes { max_s: 180.0, quiet_s: 0.1 }),
            report: Some(serde_json::from_str::<Report>(report).unwrap()),
        };
        for outcome in [
            Outcome::Status(Box::new(status)),
            Outcome::Draining(DrainTimes { max_s: 1.0, quiet_s: 2.0 }),
            Outcome::Reloaded(Reloaded {
                selection: true,
                added: vec!["a".to_owned()],
                ..Reloaded::default()
            }),
            Outcome::Upgraded(Upgraded { pid: 7, pauses_ns: vec![1], ..Upgraded::default() }),
            Outcome::Refused(Refusal::new(RefusalReason::NoDrain, "no")),
        ] {
            let line = outcome.clone().line().unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(Outcome::<Report>::parse(&line).unwrap(), Some(outcome));
        }
        let parse = |answer: &str| Outcome::<Report>::parse(answer.as_bytes()).unwrap();
        let later = parse(r#"{"schema":"mirror.control/1","refused":{"reason":"later","message":"no"}}"#);
        assert_eq!(later, Some(Outcome::Refused(Refusal::new(RefusalReason::Other, "no"))));
        assert_eq!(parse(r#"{"schema":"mirror.control/1","later":7}"#), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(Action::parse(&bytes).is_err());
        }
    }
}
