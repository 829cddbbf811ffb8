//! Frames forwarded by the program, as the library loads it, to a veth. Needs root.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mirror_ebpf::bench;
use mirror_lab::{
    Generator, InterfaceCounters, Lab, Namespace, Traffic, VethEnd, VethOptions, VethPair, XdpProgram,
    xdp_program::XdpAttach,
};

use super::{
    super::{Program, Settings},
    ForwardTo, Sent, Targets,
};
use crate::{
    account::{NotSent, XdpReport},
    host::{egress::Egress, interface::Interface, xdp::XdpMode},
    select::Allow,
    tunnels::Tunnels,
};

/// What the program and the tracepoints have counted.
type Counted = (XdpReport, u64, NotSent);

struct Cables {
    lab: Lab,
    sender: Namespace,
    target: Namespace,
    beyond: Namespace,
}

impl Cables {
    /// gen0 of the sender to cap0 of the target, out0 of the target to ids0 of its reader.
    fn lay() -> Self {
        let lab = Lab::new().unwrap();
        let space = |role| lab.namespace(role).unwrap();
        let (sender, target, beyond) = (space("sender"), space("target"), space("beyond"));
        for (near, far) in [((&sender, "gen0"), (&target, "cap0")), ((&target, "out0"), (&beyond, "ids0"))] {
            let (near, far) = (VethEnd::new(near.0, near.1), VethEnd::new(far.0, far.1));
            VethPair::create(near, far, &VethOptions::default()).unwrap();
        }
        Self { lab, sender, target, beyond }
    }

    /// A program at the far end, which drops what arrives.
    fn reader(&self) -> XdpProgram {
        let mut program = XdpProgram::load_floor(bench::PROGRAM_DROP).unwrap();
        program.attach(&self.beyond, "ids0", XdpAttach::Native).unwrap();
        program
    }

    fn program(&self) -> Program {
        self.target
            .enter(|| {
                let index = |name| Interface::named(name).unwrap().index;
                let out = Egress::Interface("out0".to_owned());
                let targets = Arc::new(Targets::prepare(vec![out], None, 0).unwrap());
                let forward = ForwardTo { from: index("cap0"), targets, origins: None, split: None };
                let mut program = Program::load(&Settings {
                    tunnels: &Tunnels::default(),
                    allow: &Allow::all(),
                    stamp: false,
                    fragments: true,
                    own: false,
                    log: false,
                    forward: Some(forward),
                    frags: false,
                    queues: 1,
                })
                .unwrap();
                program.attach(index("cap0"), XdpMode::Native).unwrap();
                program
            })
            .unwrap()
    }

    /// Sends frames, and waits until the program has seen all of them.
    fn send(&self, program: &Program, frames: u64, frame_len: usize) -> u64 {
        let before = program.report().unwrap().seen;
        let errors = || InterfaceCounters::read(&self.sender, "gen0").unwrap().xdp_xmit_errors();
        let errors_before = errors();
        let traffic = Traffic { frame_len, ..Traffic::default() };
        let sent = Generator::load(&self.sender, "gen0", traffic).unwrap().send(frames).unwrap().total();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = program.report().unwrap().seen - before;
            if seen + errors() - errors_before == sent {
                return seen;
            }
            assert!(Instant::now() < deadline, "{seen} of {sent} seen");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The counts at rest, of which the law must hold.
#[track_caller]
fn counted(program: &Program) -> Counted {
    thread::sleep(Duration::from_millis(50));
    let (report, targets) = (program.report().unwrap(), program.sent().unwrap().unwrap());
    let [Sent { sent, not_sent }] = <[_; 1]>::try_from(targets).ok().expect("one target");
    assert_eq!(report.forwarded, sent + not_sent.total(), "{report:?} {not_sent:?}");
    let judged = report.passed.total() + report.dropped.total();
    assert_eq!(report.seen, report.forwarded + report.redirected + judged, "{report:?}");
    (report, sent, not_sent)
}

#[test]
fn frames_sent_are_those_that_the_far_end_has() {
    for len in [114, 1450] {
        let cables = Cables::lay();
        let (_reader, program) = (cables.reader(), cables.program());
        let seen = cables.send(&program, 300_000, len);
        let (report, sent, not_sent) = counted(&program);
        println!("{len} bytes: {seen} seen, {sent} sent, {not_sent:?}");
        let far = InterfaceCounters::read(&cables.beyond, "ids0").unwrap();
        assert_eq!((report.forwarded, report.forwarded_outer_bytes), (seen, seen * len as u64));
        assert_eq!(report.forwarded_inner_bytes, seen * (len as u64 - 50));
        // veth counts no bytes of frames that a program drops.
        assert_eq!(far.xdp_packets(), sent);
        assert_eq!(sent, seen, "{not_sent:?}");
        cables.lab.teardown().unwrap();
    }
}

#[test]
fn what_the_target_does_not_take_is_counted_by_reason() {
    let cables = Cables::lay();
    let (reader, program) = (cables.reader(), cables.program());
    let mut before = counted(&program);
    let mut step = |what: &str, len: usize, count: fn(&Counted) -> u64| {
        let seen = cables.send(&program, 1_000, len);
        let now = counted(&program);
        println!("{what}: {:?} {} {:?}", now.0.dropped, now.1, now.2);
        assert_eq!((seen, count(&now) - count(&before)), (1_000, 1_000), "{what}: {now:?}");
        before = now;
    };
    step("up", 114, |(_, sent, _)| *sent);
    cables.target.ip("link set dev out0 mtu 400").unwrap();
    step("MTU", 1450, |(_, _, not)| not.too_large);
    cables.target.ip("link set dev out0 mtu 1500").unwrap();
    cables.target.ip("link set dev out0 down").unwrap();
    step("down", 114, |(_, _, not)| not.down + not.no_program);
    cables.target.ip("link set dev out0 up").unwrap();
    step("up again", 114, |(_, sent, _)| *sent);
    cables.beyond.ip("link set dev ids0 down").unwrap();
    step("far end down", 114, |(_, _, not)| not.refused + not.no_program);
    cables.beyond.ip("link set dev ids0 up").unwrap();
    drop(reader);
    step("no program", 114, |(_, _, not)| not.no_program);
    cables.target.ip("link del dev out0").unwrap();
    step("deleted", 114, |(report, _, _)| report.dropped.no_target);
    cables.lab.teardown().unwrap();
}
