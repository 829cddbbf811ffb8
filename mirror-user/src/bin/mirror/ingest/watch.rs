//! What a run is watched for while it lasts.

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use mirror_user::{
    Report,
    engine::{Event, Running},
    log_limit::LogLimit,
};

use super::Ingest;
use crate::{conclude::ALL_ENDED, outputs::Outputs, signals::Asked, status::Status, terminal};

/// Watches a run until there is a reason to end it, and ends it.
pub(super) fn watch(running: Running, args: &Ingest, asked: &Asked, outputs: &Outputs) -> Report {
    /// How late a signal other than INT and TERM may be heard.
    const GLANCE: Duration = Duration::from_millis(100);
    let end = args.duration.map(|duration| Instant::now() + duration);
    let mut status = Status::new(args.stats, args.output.quiet || args.output.prints_to_terminal());
    let mut links = Links::new();
    loop {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) || asked.stop.load(Ordering::Relaxed) {
            return running.stop();
        }
        if outputs.are_over() {
            terminal::say!("{}", ALL_ENDED);
            return running.stop();
        }
        status.tell_if_due(now, || running.report());
        links.log_left_out(now);
        if asked.statistics.swap(false, Ordering::Relaxed) {
            status.tell(now, &running.report());
        }
        if asked.flush.swap(false, Ordering::Relaxed) {
            running.flush();
        }
        let next = [end, status.due()].into_iter().flatten().min();
        let wait = next.map_or(GLANCE, |next| next.saturating_duration_since(now).min(GLANCE));
        match running.wait(wait) {
            None => {}
            Some(Event::InterfaceDown { interface }) => links.is_down(&interface),
            Some(Event::InterfaceNoCarrier { interface }) => links.lost_carrier(interface),
            Some(Event::InterfaceUp { interface }) => links.is_up(&interface),
            Some(Event::QueuesUnread { interface, queues, read, frames }) => {
                tracing::warn!(
                    "{interface}: {queues} RX queues, of which {read} are read: what comes by the others \
                    passes to the host ({frames} frames so far); start mirror again to read them all"
                );
            }
            Some(Event::NotLocal { interface, frames }) => {
                tracing::warn!(
                    "{interface}: every tunnel packet of the last 5 s was addressed to another MAC or IP \
                    address and went to the host ({frames} so far); if they are meant to be read here (a \
                    SPAN port, promiscuous mode), start with `--destination any`"
                );
            }
            Some(Event::InterfaceDeleted { interface, goes_on: true }) => {
                tracing::error!("{interface}: the interface was deleted; ingest goes on with the others");
            }
            Some(Event::InterfaceDeleted { interface, .. }) => {
                tracing::error!("{interface}: the interface was deleted");
                return running.stop();
            }
            Some(Event::InterfaceReturned { interface }) => {
                tracing::warn!(
                    "{interface}: there is an interface of this name again, which is not read; start mirror \
                    again to read it"
                );
            }
            Some(_) => return running.stop(),
        }
    }
}

/// What is said of links that lose their carrier.
struct Links {
    begun: Instant,
    /// Those that lost it because the program was attached, and whether it is back.
    reset: BTreeMap<String, bool>,
    /// The other end of a cable may go up and down as it likes.
    limit: LogLimit,
}

impl Links {
    /// How long after the attach a carrier that goes is most likely the driver's doing: it closes the device
    /// in the attach itself, and the message comes at once.
    const RESET: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self { begun: Instant::now(), reset: BTreeMap::new(), limit: LogLimit::default() }
    }

    /// Whether one more line is logged.
    fn log(&mut self) -> bool {
        self.limit.passes(Instant::now())
    }

    /// Logs how many were not.
    fn log_left_out(&mut self, now: Instant) {
        if let Some(lines) = self.limit.left_out(now) {
            tracing::warn!("{lines} more lines about links that went up and down were not logged");
        }
    }

    fn is_down(&mut self, interface: &str) {
        if self.log() {
            tracing::warn!("{interface}: the link is down; ingest goes on when it is up again");
        }
    }

    fn lost_carrier(&mut self, interface: String) {
        if self.begun.elapsed() < Self::RESET && !self.reset.contains_key(&interface) {
            tracing::info!(
                "{interface}: the link lost its carrier right after the attach, for which some drivers reset \
                it; ingest begins when it is back"
            );
            self.reset.insert(interface, false);
        } else if self.log() {
            tracing::warn!("{interface}: the link has no carrier; ingest goes on when it is back");
        }
    }

    fn is_up(&mut self, interface: &str) {
        match self.reset.get_mut(interface) {
            Some(back) if !*back => {
                *back = true;
                tracing::info!("{interface}: the link is up");
            }
            _ => {
                if self.log() {
                    tracing::warn!("{interface}: the link is up, ingest goes on");
                }
            }
        }
    }
}
