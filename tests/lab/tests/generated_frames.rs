//! Frames of the generator and the injector, as tcpdump and tshark see them. Needs root.

use std::collections::HashSet;

use mirror_ebpf::mirror::{Counter, PROGRAM};
use mirror_lab::{
    Generator, Injector, Lab, Result, Sequence, SequenceLedger, Traffic, VethEnd, VethOptions, VethPair,
    Witness, XdpProgram,
    aws_twin::{self, aws_twin},
    capture, tshark,
    xdp_program::{Settings, XdpAttach},
};

/// Two ends, the receiving one with a program that passes all frames, for tcpdump.
struct Cable {
    lab: Lab,
    veth: VethPair,
    program: XdpProgram,
}

fn cable() -> Result<Cable> {
    let lab = Lab::new()?;
    let (left, right) = (lab.namespace("left")?, lab.namespace("right")?);
    let veth =
        VethPair::create(VethEnd::new(&left, "gen0"), VethEnd::new(&right, "cap0"), &VethOptions::default())?;
    let mut program = XdpProgram::load(PROGRAM, &Settings::default())?;
    program.attach(&right, "cap0", XdpAttach::Native)?;
    Ok(Cable { lab, veth, program })
}

#[test]
fn generated_frames_are_well_formed_numbered_and_of_the_flows_asked_for() -> Result<()> {
    const FRAMES: u64 = 1_500;
    let Cable { lab, veth, program } = cable()?;
    let directory = tempfile::tempdir().expect("a directory for captures");
    let file = directory.path().join("generated.pcap");
    let witness = Witness::start(&veth.b.namespace, &veth.b.interface, &file, "")?;
    let traffic = Traffic {
        frame_len: 200,
        flows: 64,
        vnis: 3,
        vni_base: 7_000,
        rate: Some(20_000),
        ..Traffic::default()
    };
    let generator = Generator::load(&veth.a.namespace, &veth.a.interface, traffic)?;
    // In two runs: the numbers of the second follow those of the first.
    let generated = generator.send(FRAMES / 2)?.total() + generator.send(FRAMES / 2)?.total();
    let seen = witness.stop()?;
    assert_eq!((generated, seen.dropped), (FRAMES, 0));
    assert_eq!(program.counters()?.get(Counter::NoSocket), FRAMES);
    lab.teardown()?;

    assert_eq!(tshark::malformed(&file)?, "");
    let mut ledger = SequenceLedger::new();
    for frame in &seen.frames {
        assert_eq!(frame.len(), 200);
        ledger.outer(frame);
    }
    assert_eq!((ledger.received(), ledger.duplicates(), ledger.unreadable()), (FRAMES, 0, 0));
    assert!(ledger.missing(0, FRAMES).is_empty());
    assert_eq!(ledger.beyond(0, FRAMES), 0);
    assert!(!ledger.has(Sequence { cpu: 0, number: FRAMES }));
    let inner = tshark::decapsulate(&file)?;
    let vnis: HashSet<u32> = inner.iter().map(|inner| inner.vni).collect();
    assert_eq!(vnis, HashSet::from([7_000, 7_001, 7_002]));
    // Inner addresses and ports, and with them the outer source port.
    let inner_flows: HashSet<&[u8]> = inner.iter().map(|inner| &inner.bytes[26..38]).collect();
    let outer_ports: HashSet<&[u8]> = seen.frames.iter().map(|frame| &frame[34..36]).collect();
    assert_eq!((inner_flows.len(), outer_ports.len()), (64, 64));
    assert!(inner.iter().map(|inner| Sequence::of_inner(&inner.bytes)).all(|sequence| sequence.is_some()));
    Ok(())
}

#[test]
fn injected_frames_arrive_byte_for_byte_and_in_sequence() -> Result<()> {
    let Cable { lab, veth, program } = cable()?;
    let directory = tempfile::tempdir().expect("a directory for captures");
    let file = directory.path().join("injected.pcap");
    let witness = Witness::start(&veth.b.namespace, &veth.b.interface, &file, "")?;
    let frames = aws_twin()?;
    let sent = Injector::new(&veth.a.namespace, &veth.a.interface)?.send_all(&frames)?;
    let seen = witness.stop()?;
    assert_eq!(sent, u64::from(aws_twin::FRAMES));
    assert_eq!(program.counters()?.get(Counter::NoSocket), sent);
    assert!(seen.frames == frames, "{} frames arrived, and not as they were sent", seen.frames.len());
    lab.teardown()?;
    Ok(())
}

#[test]
fn a_stopped_generator_has_counted_what_it_sent() -> Result<()> {
    let Cable { lab, veth, program } = cable()?;
    let traffic = Traffic { rate: Some(100_000), ..Traffic::default() };
    let running = Generator::load(&veth.a.namespace, &veth.a.interface, traffic)?.start(100_000_000);
    while program.counters()?.get(Counter::Seen) < 1_000 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(!running.is_finished());
    let generated = running.stop()?.total();
    assert!(generated >= 1_000);
    assert_eq!(program.counters()?.get(Counter::Seen), generated);
    lab.teardown()
}

#[test]
fn the_generator_refuses_what_it_cannot_send() -> Result<()> {
    let Cable { lab, veth, .. } = cable()?;
    let wrong = [
        Traffic { frame_len: 99, ..Traffic::default() },
        Traffic { frame_len: 5_000, ..Traffic::default() },
        Traffic { flows: 0, ..Traffic::default() },
        Traffic { flows: 16_385, ..Traffic::default() },
        Traffic { vnis: 0, ..Traffic::default() },
        Traffic { vnis: 2, vni_base: 0xff_ffff, ..Traffic::default() },
        Traffic { rate: Some(0), ..Traffic::default() },
        Traffic { cpus: Vec::new(), ..Traffic::default() },
    ];
    for traffic in wrong {
        let shown = format!("{traffic:?}");
        assert!(Generator::load(&veth.a.namespace, &veth.a.interface, traffic).is_err(), "{shown}");
    }
    let nowhere = Generator::load(&veth.a.namespace, "gen1", Traffic::default());
    assert!(nowhere.expect_err("there is no gen1").to_string().contains("gen1"));
    lab.teardown()
}

/// The twin's header values, read by tshark, not by the code that wrote them.
#[test]
fn the_twin_has_the_header_values_of_aws() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory for captures");
    let file = directory.path().join("twin.pcap");
    capture::write_pcap(&file, &aws_twin()?)?;
    assert_eq!(capture::read(&file)?.frames(), aws_twin()?);
    assert_eq!(tshark::malformed(&file)?, "");
    // #1 is the outer header; without it, the inner one's value would do as well.
    let filter = "ip.dsfield#1 == 0 && ip.id#1 == 0 && ip.flags.df#1 == 0 && ip.flags.mf#1 == 0 \
                  && ip.frag_offset#1 == 0 && ip.ttl#1 == 255 && ip.hdr_len#1 == 20 && udp.checksum#1 == 0 \
                  && udp.srcport#1 >= 65408 && !vlan \
                  && frame[42:8] == 08:00:00:00:54:fa:11:00 && !tcp.analysis.flags";
    let fields = mirror_lab::run(std::process::Command::new("tshark").arg("-r").arg(&file).args([
        "-n",
        "-Y",
        filter,
        "-T",
        "fields",
        "-e",
        "frame.protocols",
    ]))?;
    assert_eq!(fields.lines().count(), 100);
    for protocol in ["ssh", "dns", "ntp"] {
        let count = fields.lines().filter(|line| line.ends_with(protocol)).count();
        assert!(count >= 20, "{count} frames of {protocol}");
    }
    let inner = tshark::decapsulate(&file)?;
    let outer = aws_twin()?;
    assert_eq!(inner.len(), 100);
    for (inner, outer) in inner.iter().zip(&outer) {
        assert_eq!(inner.bytes, outer[50..]);
    }
    Ok(())
}
