//! Whether a run is healthy: facts in, a verdict out.
//!
//! Lost packets do not make a run unhealthy unless asked for: behind a load balancer, taking an overloaded
//! target out moves its flows to the others, which then fail in turn.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use mirror_user::account::SinkState;
use serde_json::{Map, Value, json};

use crate::observed::Phase;

/// Between two evaluations.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// A worker without a tick for so long is not alive.
const LATE_TICK: Duration = Duration::from_secs(2);
/// For so long an interface may be down, as while a driver resets its link.
const DOWN: Duration = Duration::from_secs(5);
/// For so long a sink may wait for space.
const WAITING: Duration = Duration::from_secs(10);
/// For so long frames may wait for a sink's thread.
const LAG: Duration = Duration::from_secs(10);
/// Over which time losses are compared.
const WINDOW: Duration = Duration::from_secs(30);
/// A check turns after so many evaluations that say so, and back after so many.
const TO_WORSE: u32 = 2;
const TO_BETTER: u32 = 3;
/// A verdict older than this says nothing of the present.
const STALE: Duration = Duration::from_secs(5);
/// The most that is listed of a check.
const DETAILS: usize = 32;

/// What is known of a run at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) sinks: Vec<Sink>,
    /// Only if losses count.
    pub(crate) frames: Option<Frames>,
}

/// An interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// It was deleted.
    pub(crate) lost: bool,
    pub(crate) up: bool,
    pub(crate) hook: Hook,
    /// RX queues without a worker, although all were asked for.
    pub(crate) unread_queues: u32,
    /// Queues, and the time since their workers' last ticks.
    pub(crate) queues: Vec<(u32, Duration)>,
}

/// The program on an interface's XDP hook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Hook {
    Ours,
    Empty,
    Other(u32),
    Unknown,
}

/// A sink.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) state: SinkState,
    pub(crate) reason: Option<String>,
    pub(crate) lag: Option<Duration>,
}

/// Frames so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Frames {
    /// Those that were to be taken.
    pub(crate) all: u64,
    /// Of these, those lost in the kernel, or for want of a block.
    pub(crate) lost: u64,
}

/// How a check stands; the last is the worst.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Level {
    #[default]
    Ok,
    /// Something is wrong, and the run is still of use.
    Degraded,
    Failed,
}

impl Level {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// A sentence without names and addresses; empty if all is well.
    cause: String,
    /// Sentences with them.
    details: Vec<String>,
}

impl Finding {
    fn new(level: Level, cause: impl Into<String>, details: Vec<String>) -> Self {
        Self { level, cause: cause.into(), details }
    }

    /// With or without names and addresses.
    fn json(&self, named: bool) -> Value {
        let mut object = Map::new();
        object.insert("state".to_owned(), self.level.text().into());
        if !self.cause.is_empty() {
            object.insert("cause".to_owned(), self.cause.as_str().into());
        }
        if named && !self.details.is_empty() {
            object.insert("details".to_owned(), self.details.iter().take(DETAILS).cloned().collect());
        }
        object.into()
    }
}

/// The checks, by the names that they have in answers and metrics.
pub(crate) const ATTACHED: &str = "attached";
pub(crate) const QUEUES: &str = "queues";
pub(crate) const LINK: &str = "link";
pub(crate) const SINKS: &str = "sinks";
pub(crate) const LAGS: &str = "lag";
pub(crate) const LOSS: &str = "loss";
/// Of the run itself, whenever it is asked.
const RUN: &str = "run";

/// The checks of an evaluation.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) at: Instant,
    pub(crate) checks: BTreeMap<&'static str, Finding>,
    /// How long frames wait for the thread of each sink.
    pub(crate) lags: Vec<(String, Duration)>,
}

/// Evaluates facts once a second, and remembers what takes time.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// In percent; `None` if losses do not count.
    most_loss: Option<f64>,
    shown: BTreeMap<&'static str, Shown>,
    /// Since when interfaces are down, and sinks wait.
    down: BTreeMap<String, Instant>,
    waiting: BTreeMap<String, Instant>,
    counted: VecDeque<(Instant, Frames)>,
}

/// A check as it is shown, and how many evaluations in a row differ from that.
#[derive(Clone, Debug, Default)]
struct Shown {
    finding: Finding,
    worse: u32,
    better: u32,
}

impl Shown {
    /// The next evaluation: small changes of the cause are shown at once, changes of the level if they last.
    fn next(&mut self, found: Finding) -> &Finding {
        let (worse, better) = (found.level > self.finding.level, found.level < self.finding.level);
        self.worse = if worse { self.worse + 1 } else { 0 };
        self.better = if better { self.better + 1 } else { 0 };
        let turns = self.worse >= TO_WORSE || self.better >= TO_BETTER;
        if turns {
            (self.worse, self.better) = (0, 0);
        }
        if turns || !(worse || better) {
            self.finding = found;
        }
        &self.finding
    }
}

impl Health {
    pub(crate) fn new(most_loss: Option<f64>) -> Self {
        Self { most_loss, ..Self::default() }
    }

    /// Whether [`Facts::frames`] are needed.
    pub(crate) fn counts_losses(&self) -> bool {
        self.most_loss.is_some()
    }

    pub(crate) fn evaluate(&mut self, now: Instant, facts: &Facts) -> Verdict {
        let mut found = BTreeMap::from([
            (ATTACHED, attached(&facts.interfaces)),
            (QUEUES, queues(&facts.interfaces)),
            (LINK, self.link(now, &facts.interfaces)),
            (SINKS, self.sinks(now, &facts.sinks)),
            (LAGS, lag(&facts.sinks)),
        ]);
        if let Some((most, frames)) = self.most_loss.zip(facts.frames) {
            found.insert(LOSS, self.loss(now, most, frames));
        }
        let mut checks = BTreeMap::new();
        for (name, finding) in found {
            checks.insert(name, self.shown.entry(name).or_default().next(finding).clone());
        }
        let lags = facts.sinks.iter().map(|sink| (sink.name.clone(), sink.lag.unwrap_or_default()));
        Verdict { at: now, checks, lags: lags.collect() }
    }

    fn link(&mut self, now: Instant, interfaces: &[Interface]) -> Finding {
        let is_down = |interface: &&Interface| interface.lost || !interface.up;
        remember(&mut self.down, now, interfaces.iter().filter(is_down).map(|down| &down.name));
        let long = |interface: &&Interface| {
            let since = self.down.get(&interface.name);
            is_down(interface)
                && (interface.lost || since.is_some_and(|since| now.duration_since(*since) >= DOWN))
        };
        let down: Vec<_> = interfaces.iter().filter(long).collect();
        let details = down.iter().map(|interface| {
            let what = if interface.lost { "was deleted" } else { "is down, or has no carrier" };
            format!("{} {what}", interface.name)
        });
        let details = details.collect();
        match (down.len(), interfaces.len()) {
            (0, _) => Finding::default(),
            (down, all) if down == all => Finding::new(Level::Failed, "every interface is down", details),
            (down, all) => {
                Finding::new(Level::Degraded, format!("{down} of {all} interfaces are down"), details)
            }
        }
    }

    fn sinks(&mut self, now: Instant, sinks: &[Sink]) -> Finding {
        let waiting = sinks.iter().filter(|sink| sink.state == SinkState::Waiting);
        remember(&mut self.waiting, now, waiting.map(|sink| &sink.name));
        let mut finding = Finding::default();
        for sink in sinks {
            let (what, cause) = match sink.state {
                SinkState::Done => continue,
                SinkState::Waiting => {
                    let since = self.waiting.get(&sink.name);
                    if since.is_none_or(|since| now.duration_since(*since) < WAITING) {
                        continue;
                    }
                    ("waits", "waits for space")
                }
                _ => ("has ended", "has ended"),
            };
            let (level, kind) = match sink.required {
                true => (Level::Failed, "a required sink"),
                false => (Level::Degraded, "a sink"),
            };
            let reason = sink.reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
            finding.details.push(format!("{} {what}{reason}", sink.name));
            if level > finding.level {
                (finding.level, finding.cause) = (level, format!("{kind} {cause}"));
            }
        }
        finding
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of losses")]
    fn loss(&mut self, now: Instant, most: f64, frames: Frames) -> Finding {
        self.counted.push_back((now, frames));
        // The last of those before the window is where it begins.
        while self.counted.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.counted.pop_front();
        }
        let Some((_, before)) = self.counted.front() else { return Finding::default() };
        let all = frames.all.saturating_sub(before.all);
        let lost = frames.lost.saturating_sub(before.lost);
        let percent = if all == 0 { 0.0 } else { lost as f64 * 100.0 / all as f64 };
        if percent <= most {
            return Finding::default();
        }
        let cause = format!("{percent:.2} % of the frames of the last 30 s were lost, more than {most} %");
        Finding::new(Level::Failed, cause, Vec::new())
    }
}

/// Keeps since when each of these is there; forgets others.
fn remember<'n>(
    since: &mut BTreeMap<String, Instant>,
    now: Instant,
    names: impl Iterator<Item = &'n String>,
) {
    let known = std::mem::take(since);
    for name in names {
        since.insert(name.clone(), known.get(name).copied().unwrap_or(now));
    }
}

fn attached(interfaces: &[Interface]) -> Finding {
    let mut details = Vec::new();
    for Interface { name, hook, .. } in interfaces.iter().filter(|interface| !interface.lost) {
        match hook {
            Hook::Ours | Hook::Unknown => {}
            Hook::Empty => details.push(format!("{name}: its XDP hook has no program")),
            Hook::Other(id) => details.push(format!("{name}: its XDP hook has another program, id {id}")),
        }
    }
    if details.is_empty() {
        return Finding::default();
    }
    Finding::new(Level::Failed, "an interface does not have this run's XDP program", details)
}

fn queues(interfaces: &[Interface]) -> Finding {
    let (mut late, mut unread) = (Vec::new(), Vec::new());
    for interface in interfaces.iter().filter(|interface| !interface.lost) {
        let name = &interface.name;
        for (queue, since) in interface.queues.iter().filter(|(_, since)| *since > LATE_TICK) {
            let since = since.as_secs_f64();
            late.push(format!("{name} queue {queue}: no tick of its worker for {since:.0} s"));
        }
        if interface.unread_queues > 0 {
            let count = interface.unread_queues;
            unread.push(format!("{name}: {count} RX queues were added after the start: restart"));
        }
    }
    let cause = match (late.is_empty(), unread.is_empty()) {
        (true, true) => return Finding::default(),
        (false, _) => "a queue has no live worker",
        (true, false) => "a queue is not read",
    };
    Finding::new(Level::Failed, cause, [late, unread].concat())
}

fn lag(sinks: &[Sink]) -> Finding {
    let late = sinks.iter().filter_map(|sink| Some((&sink.name, sink.lag.filter(|lag| *lag > LAG)?)));
    let details: Vec<_> = late
        .map(|(name, lag)| format!("{name}: frames have waited for {:.0} s", lag.as_secs_f64()))
        .collect();
    if details.is_empty() {
        return Finding::default();
    }
    Finding::new(Level::Failed, "frames wait for a sink's thread for more than 10 s", details)
}

/// The answer about a run's health: whether it is healthy, and each check. `named` is whether names and
/// addresses may be in it.
pub(crate) fn answer(phase: Phase, verdict: Option<&Verdict>, now: Instant, named: bool) -> (bool, Value) {
    let mut checks = Map::new();
    let found = verdict.into_iter().flat_map(|verdict| &verdict.checks);
    for (name, finding) in found.clone() {
        checks.insert((*name).to_owned(), finding.json(named));
    }
    let fresh = verdict.is_some_and(|verdict| now.saturating_duration_since(verdict.at) <= STALE);
    let (status, cause) = match phase {
        Phase::Starting => ("starting", "queues are not bound yet"),
        Phase::Draining => ("draining", "the run ends when no more frames come"),
        Phase::Stopping => ("draining", "the run is stopping"),
        Phase::Ingesting if verdict.is_none() => ("starting", "nothing was checked yet"),
        Phase::Ingesting if !fresh => ("failed", "the main thread has not evaluated the checks for 5 s"),
        Phase::Ingesting => (found.map(|(_, finding)| finding.level).max().unwrap_or_default().text(), ""),
    };
    let is_healthy = matches!(status, "ok" | "degraded");
    let run = match cause {
        "" => Finding::default(),
        cause => Finding::new(Level::Failed, cause, Vec::new()),
    };
    checks.insert(RUN.to_owned(), run.json(named));
    (is_healthy, json!({ "status": status, "checks": checks }))
}

#[cfg(test)]
mod tests;
