//! Adds up the counts of workers, interfaces and sinks to a report.

use std::sync::Arc;

use super::{
    change::Sinks,
    interface::{ClosedAccount, LiveInterface},
    worker::Published,
};
use crate::{account::Report, pipeline, sink::SinkFactory};

/// What the workers of each interface have published.
pub(super) fn published(interfaces: &[LiveInterface]) -> Vec<Vec<Published>> {
    interfaces.iter().map(|interface| interface.published().collect()).collect()
}

/// A report of parts that are still counting: each is up to a tick old, so the laws are not compared.
pub(super) fn live(
    report: &mut Report,
    interfaces: &[LiveInterface],
    published: &[Vec<Published>],
    sinks: &[Arc<dyn SinkFactory>],
) {
    report.expect_sinks(sinks.iter().map(SinkFactory::name));
    for (interface, published) in interfaces.iter().zip(published) {
        for Published { counters, .. } in published {
            report.add_worker(&counters.frames, &counters.sinks);
        }
        report.interfaces.push(interface.report(published));
        report.forwarded_origins.push(interface.forwarded_origins());
    }
    pipeline::add_sinks(report, sinks);
    // They are in the sinks' part now.
    report.forwarded_origins.clear();
}

/// The report of a run that has ended, from final counts.
pub(super) fn at_rest(report: &mut Report, interfaces: Vec<ClosedAccount>, sinks: &mut Sinks) {
    report.expect_sinks(sinks.all().iter().map(SinkFactory::name));
    for ClosedAccount { report: interface, origins, outcomes } in interfaces {
        for outcome in outcomes {
            report.add_worker(&outcome.counters.frames, &outcome.counters.sinks);
            report.ended_by = report.ended_by.take().or(outcome.died);
        }
        report.interfaces.push(interface);
        report.forwarded_origins.push(origins);
    }
    report.close();
    sinks.complete(report);
    pipeline::close_sinks(report, &sinks.all());
    report.forwarded_origins.clear();
}
