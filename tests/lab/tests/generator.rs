//! The generator's counts against the kernel's and against those of an independent XDP program. Needs root.

#![expect(clippy::cast_precision_loss, reason = "figures compared within per cents")]

use mirror_ebpf::mirror::{Counter, PROGRAM};
use mirror_lab::{
    Generated, Generator, InterfaceCounters, Lab, Result, Traffic, VethEnd, VethOptions, VethPair, frames,
    generator,
    xdp_program::{Counters, Settings, XdpAttach, XdpProgram},
};

/// A source that is in no allow-list: the program drops all of ours, which is the fastest that can be
/// counted.
const DROP_ALL: Settings = Settings {
    ports: [frames::VXLAN_PORT, 0, 0, 0],
    geneve_ports: [0; 4],
    vni_filter: false,
    source_filter: true,
    stamp: false,
    fragments: false,
    own: None,
    group: false,
    tunnels: false,
    split: None,
};

struct Run {
    generated: Generated,
    program: Counters,
    sender: InterfaceCounters,
    receiver: InterfaceCounters,
}

fn run(queues: u32, traffic: Traffic, frames: u64) -> Result<Run> {
    let lab = Lab::new()?;
    let (left, right) = (lab.namespace("left")?, lab.namespace("right")?);
    // Fits the longest frame, in one buffer.
    let options = VethOptions { queues, mtu: 3498, ..VethOptions::default() };
    let veth = VethPair::create(VethEnd::new(&left, "gen0"), VethEnd::new(&right, "cap0"), &options)?;
    let mut program = XdpProgram::load(PROGRAM, &DROP_ALL)?;
    program.attach(&veth.b.namespace, &veth.b.interface, XdpAttach::Native)?;
    let generated = Generator::load(&left, "gen0", traffic)?.send(frames)?;
    let program = program.counters()?;
    let sender = InterfaceCounters::read(&left, "gen0")?;
    let receiver = InterfaceCounters::read(&right, "cap0")?;
    lab.teardown()?;
    Ok(Run { generated, program, sender, receiver })
}

fn explain(run: &Run, frames: u64) {
    let Run { generated, program, sender, receiver } = run;
    println!("{generated:?} = {:.0} frames/s, errors {}", generated.rate(), sender.xdp_xmit_errors());
    assert_eq!(generated.total(), frames);
    assert_eq!(program.get(Counter::Seen) + sender.xdp_xmit_errors(), frames);
    assert_eq!(program.get(Counter::SourceRefused), program.get(Counter::Seen));
    assert_eq!(receiver.xdp_packets(), program.get(Counter::Seen));
}

#[test]
fn the_longest_frames_are_sent() -> Result<()> {
    let traffic = Traffic { frame_len: generator::MAX_FRAME, ..Traffic::default() };
    let run = run(1, traffic, 10_000)?;
    explain(&run, 10_000);
    Ok(())
}

#[test]
fn every_frame_at_full_speed_is_seen_or_counted_as_an_error() -> Result<()> {
    let run = run(1, Traffic::default(), 1_000_000)?;
    explain(&run, 1_000_000);
    Ok(())
}

#[test]
fn two_threads_fill_two_queues() -> Result<()> {
    let run = run(2, Traffic { cpus: vec![0, 1], ..Traffic::default() }, 1_000_001)?;
    explain(&run, 1_000_001);
    assert_eq!(run.generated.per_cpu, [(0, 500_001), (1, 500_000)]);
    for queue in 0..2 {
        let packets = run.receiver.driver[&format!("rx_queue_{queue}_xdp_packets")];
        assert!(packets > 400_000, "queue {queue} got {packets}");
    }
    Ok(())
}

#[test]
fn a_limited_rate_is_kept_and_loses_nothing() -> Result<()> {
    // Other work on the host may keep the sending thread from its CPU; it must not take that for its own
    // pace.
    const TRIES: u32 = 5;
    for (rate, cpus) in [(100_000, vec![0]), (300_000, vec![0, 1])] {
        let frames = 2 * rate;
        let queues = u32::try_from(cpus.len()).unwrap_or(1);
        let mut kept = 0.0_f64;
        for _ in 0..TRIES {
            let run =
                run(queues, Traffic { rate: Some(rate), cpus: cpus.clone(), ..Traffic::default() }, frames)?;
            explain(&run, frames);
            assert_eq!(run.sender.xdp_xmit_errors(), 0);
            let reached = run.generated.rate() / rate as f64;
            assert!(reached < 1.01, "{rate} frames/s asked for, {:.0} sent", run.generated.rate());
            kept = kept.max(reached);
            if kept > 0.95 {
                break;
            }
        }
        assert!(kept > 0.95, "of {rate} frames/s asked for, {kept:.2} at best");
    }
    Ok(())
}
