//! Forwarded packets, as their readers see them: tcpdump and Suricata on TAP devices and veths, another
//! mirror target, tshark over TCP. Needs root.

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod groups;
mod ids;
mod kernel;
mod split;
mod strangers;
mod targets;
mod tunnel;
mod veth;

use std::path::Path;

use common::{
    Cable,
    mirror::{Mirror, balanced_report, inject, sink},
};
use mirror_lab::{Namespace, VethEnd, VethOptions, VethPair};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A veth pair to another namespace: `out0` in the target's namespace, `ids0` in the other.
struct Beyond {
    namespace: Namespace,
    _link: VethPair,
}

impl Beyond {
    fn lay(cable: &Cable, options: &VethOptions) -> Self {
        let namespace = cable.lab.namespace("beyond").expect("beyond");
        let (near, far) = (VethEnd::new(&cable.target, "out0"), VethEnd::new(&namespace, "ids0"));
        Self { _link: VethPair::create(near, far, options).expect("veth"), namespace }
    }
}

/// Stops a run cleanly and returns its report, with residue 0.
#[track_caller]
fn report_of(run: Mirror, directory: &Path) -> Value {
    run.end_by(Signal::SIGINT).expect_code(0);
    balanced_report(&directory.join("report.json"))
}

/// Sends frames to a run, and waits until its outputs have counted them.
fn sender<'a>(cable: &'a Cable, run: &'a Mirror) -> impl FnMut(u32) + use<'a> {
    let mut sent = 0;
    move |frames| {
        inject(cable, frames);
        sent += u64::from(frames);
        run.has(sent);
        // Handed to the forwarder's thread, and counted there.
        run.settled();
    }
}

/// A sink's offered, written, dropped and failed.
#[track_caller]
fn account(report: &Value, name: &str) -> (u64, u64, Value, Value) {
    let sink = sink(report, name);
    let number = |key: &str| sink[key].as_u64().expect("a count");
    (number("offered"), number("written"), sink["dropped"].clone(), sink["failed"].clone())
}

fn nothing() -> Value {
    serde_json::json!({})
}
