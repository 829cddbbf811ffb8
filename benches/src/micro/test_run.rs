//! Cost of the XDP program per packet, by verdict, beside programs that read nothing: `BPF_PROG_TEST_RUN`,
//! which calls the program repeatedly on one frame.
//!
//! The receive time is off: a test run would reserve metadata in front of the same frame each time.

use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use mirror_ebpf::{
    bench as floor,
    mirror::{Counter, PROGRAM},
};
use mirror_lab::{
    XdpProgram,
    frames::{Outer, OuterIp, inner_of_len},
    xdp_program::{Counters, Own, Settings},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, Uid},
};
use rustix::{
    fd::{AsFd, OwnedFd},
    net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt::set_xdp_rx_ring_size},
};

use super::miss;
use crate::{
    options::Options,
    report::schema::{Goal, Micro, Report},
    stats::spread,
};

/// Runs of a program in one system call: 2 or 3 ms, much longer than the call itself, and shorter than a time
/// slice.
const REPEAT: u32 = 1 << 18;
/// Rounds here per round of the ladder.
const ROUNDS: usize = 10;
/// The cost of the minimal program is subtracted from ours, round by round.
const FLOOR: &str = "xdp/minimal/redirect";
const OURS: &str = "xdp/mirror/redirect";
const OVER_FLOOR: &str = "xdp/mirror/redirect-over-minimal";
const GOAL_NS: f64 = 6.0;
/// The addresses that `--destination own`, the default, checks.
const OWN: &str = "xdp/mirror/redirect-own";
const OWN_OVER_ANY: &str = "xdp/mirror/redirect-own-over-any";
const GOAL_OWN_NS: f64 = 3.0;

/// XDP actions (`enum xdp_action`, include/uapi/linux/bpf.h).
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

const VNI: u32 = 12_345;
const OTHER_VNI: u32 = 54_321;

/// A program, a frame and its verdict.
struct Subject {
    name: &'static str,
    program: XdpProgram,
    frame: Vec<u8>,
    action: u32,
    /// Time of one run, ns, by round.
    samples: Vec<f64>,
}

impl Subject {
    fn new(name: &'static str, program: XdpProgram, frame: Vec<u8>, action: u32) -> Self {
        Self { name, program, frame, action, samples: Vec::new() }
    }

    fn measure(&mut self) -> Result<()> {
        let timed = self.program.time(&self.frame, REPEAT)?;
        ensure!(timed.action == self.action, "{}: XDP action {}", self.name, timed.action);
        self.samples.push(timed.cpu_time.as_secs_f64() * 1e9 / f64::from(REPEAT));
        Ok(())
    }
}

/// Measures all subjects in rounds.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<()> {
    if !Uid::effective().is_root() {
        miss(report, "the XDP program: test runs need root".to_owned());
        return Ok(());
    }
    // The CPU is this part's alone.
    thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            let mut cpus = CpuSet::new();
            cpus.set(options.worker_cpu)
                .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
                .with_context(|| format!("cannot run on CPU {}", options.worker_cpu))?;
            measure(options, report)
        });
        measuring.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let socket = xdp_socket()?;
    let mut subjects = floors(&socket)?;
    subjects.extend(ours(&socket)?);
    let count = subjects.len();
    for round in 0..ROUNDS * options.rounds {
        options.go_on()?;
        for place in 0..count {
            subjects[(round + place) % count].measure()?;
        }
    }

    let samples =
        |name: &str| subjects.iter().find(|subject| subject.name == name).map(|found| &found.samples);
    let (Some(floor), Some(ours), Some(own)) = (samples(FLOOR), samples(OURS), samples(OWN)) else {
        return Ok(());
    };
    let over_floor = spread(ours.iter().zip(floor).map(|(ours, floor)| ours - floor));
    report.goals.push(Goal::at_most(
        "XDP program over the minimal redirect program, ns",
        GOAL_NS,
        over_floor,
    ));
    let own_over_any = spread(own.iter().zip(ours).map(|(own, any)| own - any));
    report.goals.push(Goal::at_most(
        "XDP program with `--destination own` over the same with `any`, ns",
        GOAL_OWN_NS,
        own_over_any,
    ));
    let micro = |name: &str, per_frame| Micro { name: name.to_owned(), unit: "ns".to_owned(), per_frame };
    for Subject { name, samples, .. } in subjects {
        report.micro.push(micro(name, spread(samples)));
    }
    report.micro.push(micro(OVER_FLOOR, over_floor));
    report.micro.push(micro(OWN_OVER_ANY, own_over_any));
    Ok(())
}

/// Programs that read nothing.
fn floors(socket: &OwnedFd) -> Result<Vec<Subject>> {
    let frame = ours_by(|_| ())?;
    let drop = XdpProgram::load_floor(floor::PROGRAM_DROP)?;
    let mut redirect = XdpProgram::load_floor(floor::PROGRAM_REDIRECT)?;
    redirect.set_socket(0, socket)?;
    Ok(vec![
        Subject::new("xdp/minimal/drop", drop, frame.clone(), XDP_DROP),
        Subject::new(FLOOR, redirect, frame, XDP_REDIRECT),
    ])
}

/// Ours, loaded anew for each verdict, so that none profits from caches that another has warmed.
fn ours(socket: &OwnedFd) -> Result<Vec<Subject>> {
    use Counter::{Fragment, NotTunnel, Redirected, SourceRefused, VniRefused};
    let default = Settings::default();
    let vni_filter = Settings { vni_filter: true, ..Settings::default() };
    let source_filter = Settings { source_filter: true, ..Settings::default() };
    let sample = Outer::sample(VNI);
    let OuterIp::V4 { destination, .. } = sample.ip else { bail!("a sample over IPv4") };
    let own = Own { mac: sample.destination_mac, v4: vec![destination], v6: Vec::new() };
    let own = Settings { own: Some(own), ..Settings::default() };
    let other_port = ours_by(|outer| outer.destination_port = 53)?;
    let other_vni = ours_by(|outer| outer.vni = OTHER_VNI)?;
    let fragment = ours_by(|outer| {
        if let OuterIp::V4 { more_fragments, .. } = &mut outer.ip {
            *more_fragments = true;
        }
    })?;
    let ipv6 = ours_by(|outer| *outer = Outer::sample_v6(VNI, &[]))?;
    let plain = ours_by(|_| ())?;
    let table = [
        (OURS, &default, plain.clone(), XDP_REDIRECT, Redirected),
        (OWN, &own, plain.clone(), XDP_REDIRECT, Redirected),
        ("xdp/mirror/redirect-ipv6", &default, ipv6, XDP_REDIRECT, Redirected),
        ("xdp/mirror/redirect-vni-allowed", &vni_filter, plain.clone(), XDP_REDIRECT, Redirected),
        ("xdp/mirror/pass-not-tunnel", &default, other_port, XDP_PASS, NotTunnel),
        ("xdp/mirror/pass-fragment", &default, fragment, XDP_PASS, Fragment),
        ("xdp/mirror/drop-vni", &vni_filter, other_vni, XDP_DROP, VniRefused),
        ("xdp/mirror/drop-source", &source_filter, plain, XDP_DROP, SourceRefused),
    ];
    table
        .into_iter()
        .map(|(name, settings, frame, action, counter)| {
            let mut program = XdpProgram::load(PROGRAM, settings)?;
            program.set_socket(0, socket)?;
            program.allow_vni(VNI)?;
            // Another network than the frame's.
            program.allow_source_v4([192, 0, 2, 0], 24)?;
            // Check that it is this verdict, and not another with the same action.
            program.run(&frame)?;
            let counted = program.counters()?;
            ensure!(counted == Counters::of(&[Counter::Seen, counter]), "{name}: {counted:?}");
            Ok(Subject::new(name, program, frame, action))
        })
        .collect()
}

/// A frame of ours, with a change.
fn ours_by(change: impl FnOnce(&mut Outer)) -> Result<Vec<u8>> {
    let mut outer = Outer::sample(VNI);
    change(&mut outer);
    Ok(outer.encapsulate(&inner_of_len(64)?)?)
}

/// An AF_XDP socket with an RX ring and nothing else: enough for a map to hold it.
fn xdp_socket() -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .context("an AF_XDP socket; the kernel needs CONFIG_XDP_SOCKETS")?;
    set_xdp_rx_ring_size(socket.as_fd(), 64).context("the RX ring of an AF_XDP socket")?;
    Ok(socket)
}
