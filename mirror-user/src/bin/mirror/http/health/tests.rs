//! Each state of each check, as facts and as the answer.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn interface(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        lost: false,
        up: true,
        hook: Hook::Ours,
        unread_queues: 0,
        queues: vec![(0, Duration::ZERO), (1, LATE_TICK)],
    }
}

fn sink(name: &str, required: bool) -> Sink {
    Sink { name: name.to_owned(), required, state: SinkState::Done, reason: None, lag: Some(LAG) }
}

fn well() -> Facts {
    Facts {
        interfaces: vec![interface("ens6"), interface("ens7")],
        sinks: vec![sink("pcap", false), sink("ids", true)],
        frames: None,
    }
}

/// Evaluates once a second.
struct Clock {
    health: Health,
    now: Instant,
}

impl Clock {
    fn new(most_loss: Option<f64>) -> Self {
        Self { health: Health::new(most_loss), now: Instant::now() }
    }

    /// The answer to somebody who may have names, after an evaluation.
    fn next(&mut self, facts: &Facts) -> (bool, Value) {
        self.now += SECOND;
        let verdict = self.health.evaluate(self.now, facts);
        answer(Phase::Ingesting, Some(&verdict), self.now, true)
    }

    /// After as many evaluations as every check needs to turn.
    fn settle(&mut self, facts: &Facts) -> (bool, Value) {
        (0..15).map(|_| self.next(facts)).last().unwrap()
    }
}

/// The answer when this is wrong for long.
#[track_caller]
fn wrong(change: impl FnOnce(&mut Facts)) -> (bool, Value) {
    let mut clock = Clock::new(None);
    assert_eq!(clock.settle(&well()).1["status"], "ok");
    let mut facts = well();
    change(&mut facts);
    let wrong = clock.settle(&facts);
    assert_eq!(clock.settle(&well()).1["status"], "ok", "and back");
    wrong
}

#[track_caller]
fn expect((healthy, answer): (bool, Value), is_healthy: bool, check: &str, cause: &str, detail: &str) {
    let state = if is_healthy { "degraded" } else { "failed" };
    assert_eq!(healthy, is_healthy, "{answer}");
    assert_eq!((&answer["status"], &answer["checks"][check]["state"]), (&json!(state), &json!(state)));
    assert_eq!(answer["checks"][check]["cause"], cause);
    assert_eq!(answer["checks"][check]["details"][0], detail, "{answer}");
    let bad = answer["checks"].as_object().unwrap().values().filter(|check| check["state"] != "ok");
    assert_eq!(bad.count(), 1, "{answer}");
}

#[test]
fn a_program_that_is_not_ours_fails_the_check_attached() {
    let cause = "an interface does not have this run's XDP program";
    let other = wrong(|facts| facts.interfaces[1].hook = Hook::Other(7));
    expect(other, false, ATTACHED, cause, "ens7: its XDP hook has another program, id 7");
    let empty = wrong(|facts| facts.interfaces[0].hook = Hook::Empty);
    expect(empty, false, ATTACHED, cause, "ens6: its XDP hook has no program");
    let mut unknown = well();
    unknown.interfaces[0].hook = Hook::Unknown;
    assert!(Clock::new(None).settle(&unknown).0);
}

#[test]
fn a_worker_that_is_late_and_a_queue_without_one_fail_the_check_queues() {
    let late = wrong(|facts| facts.interfaces[1].queues[1].1 = 3 * SECOND);
    let detail = "ens7 queue 1: no tick of its worker for 3 s";
    expect(late, false, QUEUES, "a queue has no live worker", detail);
    let unread = wrong(|facts| facts.interfaces[0].unread_queues = 2);
    let detail = "ens6: 2 RX queues were added after the start: restart";
    expect(unread, false, QUEUES, "a queue is not read", detail);
}

#[test]
fn one_interface_of_two_that_is_down_degrades_and_both_fail() {
    let one = wrong(|facts| facts.interfaces[1].up = false);
    expect(one, true, LINK, "1 of 2 interfaces are down", "ens7 is down, or has no carrier");
    let both = wrong(|facts| facts.interfaces.iter_mut().for_each(|interface| interface.up = false));
    expect(both, false, LINK, "every interface is down", "ens6 is down, or has no carrier");
    // Its queues and its program are gone, too.
    let lost = wrong(|facts| {
        let lost = &mut facts.interfaces[0];
        (lost.lost, lost.up, lost.hook, lost.queues[0].1) = (true, false, Hook::Empty, 60 * SECOND);
    });
    expect(lost, true, LINK, "1 of 2 interfaces are down", "ens6 was deleted");
}

#[test]
fn a_link_may_flap_for_less_than_five_seconds() {
    let mut clock = Clock::new(None);
    let mut down = well();
    down.interfaces.truncate(1);
    let up = down.clone();
    down.interfaces[0].up = false;
    for _ in 0..10 {
        for _ in 0..5 {
            assert!(clock.next(&down).0);
        }
        assert!(clock.next(&up).0);
    }
    let states: Vec<_> = (0..8).map(|_| clock.next(&down).0).collect();
    // From the sixth on it has been down for 5 s.
    assert_eq!(states, [true, true, true, true, true, true, false, false]);
}

#[test]
fn a_required_sink_that_has_ended_fails_and_another_degrades() {
    let end = |facts: &mut Facts, nth: usize, state| {
        facts.sinks[nth].state = state;
        facts.sinks[nth].reason = Some("Broken pipe".to_owned());
    };
    for state in [SinkState::Ended, SinkState::Failed] {
        let required = wrong(|facts| end(facts, 1, state));
        expect(required, false, SINKS, "a required sink has ended", "ids has ended: Broken pipe");
        let other = wrong(|facts| end(facts, 0, state));
        expect(other, true, SINKS, "a sink has ended", "pcap has ended: Broken pipe");
    }
    let waits = wrong(|facts| end(facts, 1, SinkState::Waiting));
    expect(waits, false, SINKS, "a required sink waits for space", "ids waits: Broken pipe");
    let waits = wrong(|facts| end(facts, 0, SinkState::Waiting));
    expect(waits, true, SINKS, "a sink waits for space", "pcap waits: Broken pipe");
}

#[test]
fn a_required_sink_may_wait_for_less_than_ten_seconds() {
    let mut clock = Clock::new(None);
    let mut waiting = well();
    waiting.sinks[1].state = SinkState::Waiting;
    // Ten seconds from the first, and two evaluations.
    assert!((0..11).all(|_| clock.next(&waiting).0));
    assert!(!clock.next(&waiting).0);
}

#[test]
fn frames_that_wait_for_a_sink_fail_the_check_lag() {
    let late = wrong(|facts| facts.sinks[0].lag = Some(11 * SECOND));
    let cause = "frames wait for a sink's thread for more than 10 s";
    expect(late, false, LAGS, cause, "pcap: frames have waited for 11 s");
}

#[test]
fn losses_count_only_if_asked_for_and_over_thirty_seconds() {
    // A tenth is lost for 10 s, then nothing.
    let series = |clock: &mut Clock| {
        let mut frames = Frames::default();
        let mut states = Vec::new();
        for second in 0..60 {
            frames.all += 100;
            frames.lost += if second < 10 { 10 } else { 0 };
            let facts = Facts { frames: Some(frames), ..well() };
            states.push(clock.next(&facts).0);
        }
        states
    };
    assert!(series(&mut Clock::new(None)).iter().all(|healthy| *healthy));
    let states = series(&mut Clock::new(Some(5.0)));
    // The first evaluation has nothing to compare with, and two must agree.
    assert_eq!(states[..3], [true, true, false]);
    // 90 of 1,800 are 5 %, which is not more; and three evaluations must agree.
    assert_eq!(states.iter().rposition(|healthy| !healthy), Some(19));
    let mut clock = Clock::new(Some(5.0));
    series(&mut clock);
    assert!(clock.health.counted.len() <= 31, "bounded");
    let mut clock = Clock::new(Some(10.0));
    assert!(series(&mut clock).iter().all(|healthy| *healthy), "a tenth is not more than 10 %");
}

#[test]
fn a_check_turns_after_two_evaluations_and_back_after_three() {
    let mut clock = Clock::new(None);
    let mut bad = well();
    bad.interfaces[0].hook = Hook::Empty;
    let good = well();
    let mut states =
        |facts: &Facts, times: usize| (0..times).map(|_| clock.next(facts).0).collect::<Vec<_>>();
    assert_eq!(states(&bad, 1), [true]);
    assert_eq!(states(&good, 1), [true]);
    assert_eq!(states(&bad, 3), [true, false, false]);
    assert_eq!(states(&good, 2), [false, false]);
    assert_eq!(states(&bad, 1), [false]);
    assert_eq!(states(&good, 4), [false, false, true, true]);
}

#[test]
fn a_run_that_starts_ends_or_does_not_evaluate_is_unhealthy_at_once() {
    let now = Instant::now();
    let verdict = Health::default().evaluate(now, &well());
    let status = |phase, verdict, now| {
        let (healthy, answer) = answer(phase, verdict, now, false);
        (healthy, answer["status"].as_str().unwrap().to_owned(), answer["checks"]["run"]["cause"].clone())
    };
    let fine = status(Phase::Ingesting, Some(&verdict), now + STALE);
    assert_eq!(fine, (true, "ok".to_owned(), Value::Null));
    for (phase, verdict, now, expected) in [
        (Phase::Starting, None, now, "starting"),
        (Phase::Ingesting, None, now, "starting"),
        (Phase::Ingesting, Some(&verdict), now + STALE + SECOND, "failed"),
        (Phase::Draining, Some(&verdict), now, "draining"),
        (Phase::Stopping, Some(&verdict), now, "draining"),
    ] {
        let (healthy, status, cause) = status(phase, verdict, now);
        assert_eq!((healthy, status.as_str()), (false, expected));
        assert!(cause.is_string());
    }
}

#[test]
fn who_may_not_have_names_gets_states_and_causes_without_them() {
    let mut facts = well();
    facts.interfaces.iter_mut().for_each(|interface| interface.up = false);
    facts.interfaces[0].hook = Hook::Other(7);
    facts.sinks[1].state = SinkState::Ended;
    facts.sinks[1].reason = Some("connect 10.0.0.1: refused".to_owned());
    facts.sinks[0].lag = Some(60 * SECOND);
    let mut clock = Clock::new(None);
    clock.settle(&facts);
    let verdict = clock.health.evaluate(clock.now, &facts);
    let text = |named| answer(Phase::Ingesting, Some(&verdict), clock.now, named).1.to_string();
    for name in ["ens6", "ids", "pcap", "10.0.0.1", "id 7"] {
        assert!(!text(false).contains(name), "{}", text(false));
        assert!(text(true).contains(name), "{}", text(true));
    }
    assert_eq!(text(false).matches("failed").count(), 5, "status and four checks: {}", text(false));
}
