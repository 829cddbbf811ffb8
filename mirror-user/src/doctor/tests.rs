//! Doctor and start agree: on every recorded host, with other kernels and MTUs too, for all options.

use std::{fs, path::PathBuf};

use super::{
    Fact, Facts, Report, Severity,
    plan::{self, default_layout},
};
use crate::{
    doctor::InterfaceFacts,
    engine::{
        BindMode, HostCommand, Mode, Obstacle, OptionsError, Queues, XdpMode,
        layout::{Host, Layout, Refusal, Wanted, layout},
    },
    host::kernel::KernelVersion,
    xsk::HEADROOM,
};

const KERNELS: [(u16, u16); 9] = [(5, 10), (5, 15), (5, 18), (6, 1), (6, 3), (6, 5), (6, 6), (6, 12), (7, 3)];
const MTUS: [u32; 20] = [
    576, 1280, 1500, 1714, 1715, 2006, 2007, 3046, 3047, 3050, 3051, 3498, 3499, 3502, 3506, 3507, 3762,
    3763, 9001, 9216,
];

fn recorded() -> Vec<(String, Facts)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/profiles");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let profiles: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let facts = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), facts)
        })
        .collect();
    assert!(profiles.len() > 40, "{}", profiles.len());
    profiles
}

/// The host with another kernel, without XDP features before 6.3, and with another MTU at both ends.
fn mutated(facts: &Facts, kernel: (u16, u16), mtu: u32) -> Facts {
    let mut facts = facts.clone();
    facts.kernel = Fact::Known(format!("{}.{}.0", kernel.0, kernel.1));
    let Fact::Known(interfaces) = &mut facts.interfaces else { return facts };
    for interface in interfaces {
        interface.mtu = mtu;
        if let Some(peer) = &mut interface.peer {
            peer.mtu = mtu;
        }
        if kernel < (6, 3) {
            interface.xdp_features = Fact::Known(None);
        }
    }
    facts
}

/// Every host with its name.
fn every_host(mut see: impl FnMut(&str, &Facts, &InterfaceFacts)) {
    for (name, facts) in recorded() {
        for kernel in KERNELS {
            for mtu in MTUS {
                let facts = mutated(&facts, kernel, mtu);
                let name = format!("{name}, kernel {kernel:?}, MTU {mtu}");
                for interface in facts.interfaces.known().into_iter().flatten() {
                    see(&name, &facts, interface);
                }
            }
        }
    }
}

fn everything_wanted() -> Vec<Wanted<'static>> {
    const LISTS: [&[u32]; 2] = [&[0], &[0, 63]];
    let lists = LISTS.map(|list| Queues::List(list.to_vec()));
    // Leaked: it lives as long as the tests.
    let queues: &'static [Queues] =
        Vec::from([Queues::All]).into_iter().chain(lists).collect::<Vec<_>>().leak();
    let mut all = Vec::new();
    for mode in [Mode::Auto, Mode::Native, Mode::Generic] {
        for bind in [BindMode::Auto, BindMode::Copy, BindMode::ZeroCopy] {
            for scatter_gather in [false, true] {
                for queues in queues {
                    all.push(Wanted { mode, bind, chunk_size: None, scatter_gather, queues });
                }
            }
        }
    }
    all
}

/// The host after a command.
fn apply(command: &HostCommand, host: &Host) -> Host {
    let mut host = host.clone();
    match command {
        HostCommand::Mtu { interface, mtu } if *interface == host.interface => host.mtu = *mtu,
        HostCommand::Mtu { interface, mtu } => {
            let peer = host.peer.as_mut().filter(|peer| peer.name == *interface);
            peer.expect("an MTU of an interface that there is").mtu = *mtu;
        }
        HostCommand::Channels { combined, .. } => {
            let now = host.channels.as_mut().expect("channels");
            assert!((1..=now.max_combined).contains(combined), "{combined} of {now:?}");
            now.combined = *combined;
            host.rx_queues = *combined;
        }
        HostCommand::TxQueues { queues, .. } => {
            host.peer.as_mut().expect("the other end").tx_queues = Some(*queues);
        }
        HostCommand::Up { .. } | HostCommand::XdpOff { .. } => {
            panic!("{command} does not concern the layout")
        }
    }
    host
}

/// The host and the options after the remedy of a refusal: a command, or another option.
fn remedied<'a>(refusal: &Refusal, host: &Host, wanted: &Wanted<'a>) -> (Host, Wanted<'a>) {
    let mut wanted = wanted.clone();
    let host = refusal.command().map_or_else(|| host.clone(), |command| apply(&command, host));
    match refusal {
        Refusal::Mtu(_) => {}
        Refusal::Options(OptionsError::GenericZeroCopy) => wanted.bind = BindMode::Copy,
        Refusal::Options(OptionsError::ScatterGather { .. }) => wanted.scatter_gather = false,
        Refusal::Options(other) => panic!("{other} is not the layout's to say"),
        Refusal::NoSuchQueue { .. } => wanted.queues = &Queues::All,
    }
    (host, wanted)
}

#[test]
fn the_doctor_predicts_exactly_what_a_start_does() {
    let mut runs = 0;
    every_host(|name, facts, interface| {
        let report = Report::of(facts.clone());
        let errors = |subject: &str| {
            report.findings.iter().any(|one| one.severity == Severity::Error && one.subject == subject)
        };
        let layout = default_layout(facts, interface);
        let runs_here = layout.is_some() && !errors("host") && !errors(&interface.name);
        let text = report.to_string();
        let line =
            text.lines().find_map(|line| line.strip_prefix(&format!("{}: would run: ", interface.name)));
        assert_eq!(line.is_some(), runs_here, "{name}: {text}");
        let (Some(line), Some(layout)) = (line, layout) else { return };
        runs += 1;
        let Layout { mode, frags, scatter_gather, chunk_size, rx_queues, .. } = layout;
        let parts: Vec<&str> = line.split(", ").collect();
        let native = mode == XdpMode::Native;
        assert_eq!(parts[0], if native { "native" } else { "generic" }, "{name}");
        assert_eq!(parts[1], "copy", "{name}");
        assert!(parts[2].starts_with(&format!("{rx_queues} queue")), "{name}: {line}");
        assert_eq!(parts[3], format!("chunk {chunk_size}"), "{name}");
        assert_eq!(parts.contains(&"multi-buffer program"), frags && native, "{name}: {line}");
        assert_eq!(parts.contains(&"several descriptors a frame"), scatter_gather, "{name}: {line}");
        // Generic mode always has a warning.
        if !native {
            let why = report.findings.iter().any(|one| one.message.starts_with("native mode is refused: "));
            assert!(why, "{name}: {text}");
        }
    });
    assert!(runs > 1_000, "{runs}");
}

#[test]
fn every_refusal_has_a_remedy_that_ends_it() {
    let wanted = everything_wanted();
    let mut refused = 0;
    every_host(|name, facts, interface| {
        for wanted in &wanted {
            let (mut host, mut wanted) = (plan::host(facts, interface), wanted.clone());
            let mut before: Option<Refusal> = None;
            for step in 0.. {
                let Err(refusal) = layout(&host, &wanted) else { break };
                refused += 1;
                assert!(step < 4, "{name}: {wanted:?}: still {refusal}");
                assert_ne!(before.as_ref(), Some(&refusal), "{name}: {wanted:?}: the remedy has not helped");
                let was_mtu = matches!(before, Some(Refusal::Mtu(_)));
                assert!(
                    !(was_mtu && matches!(refusal, Refusal::Mtu(_))),
                    "{name}: two MTUs to set: {refusal}"
                );
                (host, wanted) = remedied(&refusal, &host, &wanted);
                before = Some(refusal);
            }
        }
    });
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn the_limit_named_in_a_refusal_of_an_mtu_is_the_drivers() {
    let native = Wanted { mode: Mode::Native, ..Wanted::DEFAULT };
    let mut refused = 0;
    every_host(|name, facts, interface| {
        let host = plan::host(facts, interface);
        let Err(Refusal::Mtu(too_large)) = layout(&host, &native) else { return };
        refused += 1;
        assert!(
            too_large.lossless <= too_large.most && too_large.most < too_large.mtu,
            "{name}: {too_large}"
        );
        let at = |mtu| {
            let interface = too_large.other_end.as_ref().unwrap_or(&too_large.interface).clone();
            layout(&apply(&HostCommand::Mtu { interface, mtu }, &host), &native)
        };
        assert!(at(too_large.most).is_ok(), "{name}: {too_large}");
        assert!(at(too_large.most + 1).is_err(), "{name}: {too_large}");
    });
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn every_remedy_of_a_native_mode_obstacle_removes_it() {
    let mut helped = 0;
    every_host(|name, facts, interface| {
        let mut host = plan::host(facts, interface);
        for step in 0.. {
            let layout = layout(&host, &Wanted::DEFAULT).unwrap();
            let Some(command) = layout.obstacles.iter().find_map(Obstacle::command) else {
                assert!(
                    step == 0 || layout.mode == XdpMode::Native || !layout.obstacles.is_empty(),
                    "{name}"
                );
                break;
            };
            assert!(step < 3, "{name}: still {:?}", layout.obstacles);
            helped += 1;
            host = apply(&command, &host);
        }
    });
    assert!(helped > 1_000, "{helped}");
}

#[test]
fn behind_a_load_balancer_an_mtu_takes_104_bytes_of_headers_and_a_frame() {
    let (_, mut facts) = recorded().into_iter().find(|(name, _)| name == "ena-2.14-mtu-9001").unwrap();
    let found = |facts: &Facts| {
        let findings = Report::of(facts.clone()).findings;
        let mut found = findings.into_iter().filter(|one| one.message.starts_with("at MTU "));
        let finding = found.next().map(|one| (one.severity, one.message));
        assert!(found.next().is_none());
        finding
    };
    assert_eq!(found(&facts), None, "no port of GENEVE");
    facts.tunnels = [4789, 6081].into();
    for (mtu, severity, frame) in [
        (60, Severity::Warning, 0),
        (1617, Severity::Warning, 1513),
        (1618, Severity::Note, 1514),
        (3498, Severity::Note, 3394),
        (8567, Severity::Note, 8463),
        (8568, Severity::Ok, 8464),
        (9001, Severity::Ok, 8464),
    ] {
        let (found, message) = found(&mutated(&facts, (6, 12), mtu)).unwrap();
        assert_eq!(found, severity, "{mtu}");
        let expected = format!("at MTU {mtu}, mirrored frames of up to {frame} bytes fit");
        assert!(message.starts_with(&expected), "{message}");
    }
    // Without frames of several buffers, by the MTU that native mode needs.
    let (_, message) = found(&mutated(&facts, (6, 1), 9001)).unwrap();
    assert!(message.starts_with("at MTU 3498, mirrored frames of up to 3394 bytes fit"), "{message}");
}

#[test]
fn every_layout_that_loses_frames_has_a_warning() {
    let wanted = everything_wanted();
    let since_6_6 = |host: &Host| host.kernel.is_some_and(|kernel| kernel >= KernelVersion::new(6, 6));
    every_host(|name, facts, interface| {
        let host = plan::host(facts, interface);
        for wanted in &wanted {
            let Ok(layout) = layout(&host, wanted) else { continue };
            let context = format!("{name}: {wanted:?}: {layout:?}");
            // Earlier kernels cannot redirect frames of several buffers to AF_XDP.
            assert!(since_6_6(&host) || !(layout.frags || layout.scatter_gather), "{context}");
            let largest = host.mtu + 14 + 8;
            let fits = largest + HEADROOM <= layout.chunk_size;
            assert!(fits || layout.scatter_gather || !layout.warnings.is_empty(), "{context}");
            assert!(layout.chunk_size <= 4096 && layout.chunk_size <= host.page_size, "{context}");
            assert!(layout.modes.contains(&layout.mode), "{context}");
            let fell_back = wanted.mode == Mode::Auto && layout.mode == XdpMode::Generic;
            assert!(!fell_back || !layout.obstacles.is_empty(), "{context}");
        }
    });
}
