//! The doctor: its exact report on recorded hosts, and what it finds on a live one.
//!
//! `profiles/*.json` are facts as `mirror doctor --json` prints them under `facts`, composed from the
//! documentation of drivers and AWS; the `.txt` beside each is the whole report. After a change of wording,
//! `mirror doctor --facts FILE.json` prints the new one, to be read before it is committed.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::namespace::Namespace;
use mirror_user::{
    Engine, Tunnels,
    doctor::{Facts, Report, Severity, gather},
    engine::Warning,
    host::xdp::XdpMode,
};

fn profiles() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/profiles")
}

/// Names of the profiles with this extension.
fn names(extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(profiles()).unwrap().map(|entry| entry.unwrap().path());
    let wanted = entries.filter(|path| path.extension().is_some_and(|one| one == extension));
    wanted.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn facts(name: &str) -> Facts {
    let json = fs::read_to_string(profiles().join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{name}.json: {error}"))
}

#[test]
fn every_recorded_host_gets_its_exact_report() {
    let recorded = names("json");
    assert!(recorded.len() >= 12, "{recorded:?}");
    assert_eq!(recorded, names("txt"), "each profile has its report and each report its profile");
    for name in recorded {
        let expected = fs::read_to_string(profiles().join(format!("{name}.txt"))).unwrap();
        let report = Report::of(facts(&name)).to_string();
        assert!(report == expected, "{name}: is\n{report}\nand should be\n{expected}");
    }
}

#[test]
fn ingest_can_run_exactly_if_there_is_no_error() {
    for name in names("json") {
        let report = Report::of(facts(&name));
        let error = report.findings.iter().any(|finding| finding.severity == Severity::Error);
        // All profiles but one are of one interface.
        if report.facts.asked.is_some() {
            assert_eq!(report.can_run, !error, "{name}");
            assert_eq!(report.plans.len(), usize::from(!error), "{name}");
        }
    }
}

#[test]
fn facts_survive_json() {
    for name in names("json") {
        let facts = facts(&name);
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), facts, "{name}");
    }
    let live = gather(&[], &Tunnels::default());
    let json = serde_json::to_string(&live).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), live);
}

#[test]
fn every_remedy_is_one_line_and_every_message_a_sentence_part() {
    for name in names("json") {
        for finding in Report::of(facts(&name)).findings {
            assert!(
                !finding.message.contains('\n') && !finding.message.ends_with('.'),
                "{name}: {}",
                finding.message
            );
            assert!(
                finding.remedy.is_none_or(|remedy| !remedy.contains('\n') && !remedy.is_empty()),
                "{name}"
            );
        }
    }
}

#[test]
fn facts_of_a_veth_pair_are_gathered() {
    let namespace = Namespace::with_pair(2);
    namespace.ip("link set peer mtu 1600");
    let facts = namespace.enter(|| gather(&["target"], &Tunnels::default()));
    let [target] = facts.interfaces.known().unwrap().as_slice() else {
        panic!("one interface was asked about")
    };
    assert_eq!((target.name.as_str(), target.mtu), ("target", 1500));
    assert_eq!((target.up, target.carrier), (true, Some(true)));
    assert_eq!(target.driver.as_ref().unwrap().name, "veth");
    assert_eq!(target.rx_queues.known(), Some(&2));
    let channels = target.channels.known().unwrap();
    assert_eq!((channels.rx, channels.tx, channels.max_rx), (2, 2, 2));
    let features = target.xdp_features.known().unwrap().unwrap();
    assert!(features.basic && features.redirect);
    assert_eq!(target.xdp_hook.known(), Some(&None));
    let peer = target.peer.as_ref().unwrap();
    assert_eq!((peer.name.as_str(), peer.mtu, peer.tx_queues), ("peer", 1600, Some(2)));
    // veth has neither rings nor RSS: the reason is kept.
    assert!(target.rss.reason().unwrap().contains("not supported"), "{:?}", target.rss);
    assert!(target.irqs.reason().unwrap().contains("another network namespace"), "{:?}", target.irqs);

    let report = Report::of(facts);
    assert!(report.can_run, "{report}");
    assert_eq!(
        (report.plans[0].mode, report.plans[0].queues, report.plans[0].chunk),
        (XdpMode::Native, 2, 2048)
    );
}

/// Loads our program as ingest does and attaches it.
fn attach(
    index: u32,
    program: &str,
    mode: aya::programs::XdpMode,
) -> Result<aya::Ebpf, aya::programs::ProgramError> {
    let mut object = aya::Ebpf::load(mirror_ebpf::MIRROR_OBJECT).unwrap();
    let program: &mut aya::programs::Xdp = object.program_mut(program).unwrap().try_into().unwrap();
    program.load()?;
    program.attach_to_if_index(index, mode)?;
    Ok(object)
}

/// Waits for the hook of `target`: a process forked by another test may hold the link until its exec.
fn hook_is_free() {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !Report::of(gather(&["target"], &Tunnels::default())).can_run {
        assert!(Instant::now() < deadline, "the hook is still held");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn index(name: &str) -> u32 {
    mirror_user::host::interface::Interface::named(name).unwrap().index
}

#[test]
fn a_held_hook_is_an_error_that_names_the_holder() {
    let namespace = Namespace::with_pair(1);
    namespace.enter(|| {
        let held =
            attach(index("target"), mirror_ebpf::mirror::PROGRAM, aya::programs::XdpMode::Driver).unwrap();
        let facts = gather(&["target"], &Tunnels::default());
        let hook = facts.interfaces.known().unwrap()[0].xdp_hook.known().unwrap().clone().unwrap();
        assert_eq!((hook.mode, hook.name.as_deref()), (XdpMode::Native, Some("mirror")));
        let report = Report::of(facts);
        assert!(!report.can_run);
        let error = report.findings.iter().find(|finding| finding.severity == Severity::Error).unwrap();
        assert!(
            error.message.ends_with("(mirror) in native mode: another mirror captures here; stop it first")
        );
        drop(held);
        hook_is_free();
    });
}

#[test]
fn the_doctor_knows_the_kernels_mtu_limit_of_veth() {
    let namespace = Namespace::with_pair(1);
    // The other end's MTU decides which program can be attached.
    for (own, other, frags) in
        [(1500, 3506, false), (1500, 3507, true), (3498, 3506, false), (3499, 3507, true), (9001, 9001, true)]
    {
        namespace.ip(&format!("link set target mtu {own}"));
        namespace.ip(&format!("link set peer mtu {other}"));
        namespace.enter(|| {
            let report = Report::of(gather(&["target"], &Tunnels::default()));
            let plan = &report.plans[0];
            assert_eq!((plan.mode, plan.frags), (XdpMode::Native, frags), "{own} {other}: {report}");
            for (program, expected) in
                [(mirror_ebpf::mirror::PROGRAM, !frags), (mirror_ebpf::mirror::PROGRAM_FRAGS, true)]
            {
                let attached = attach(index("target"), program, aya::programs::XdpMode::Driver);
                assert_eq!(attached.is_ok(), expected, "{program} {own} {other}: {:?}", attached.err());
                drop(attached);
                hook_is_free();
            }
        });
    }
}

#[test]
fn a_start_plans_what_the_doctor_predicts() {
    let namespace = Namespace::with_pair(2);
    for (own, other) in
        [(576, 1500), (1500, 1500), (1714, 1715), (3498, 3498), (3507, 3506), (3700, 3700), (9001, 9001)]
    {
        namespace.ip(&format!("link set target mtu {own}"));
        namespace.ip(&format!("link set peer mtu {other}"));
        let (report, engine) = namespace.enter(|| {
            (Report::of(gather(&["target"], &Tunnels::default())), Engine::builder("target").build().unwrap())
        });
        let (said, planned) = (&report.plans[0], &engine.plan().interfaces[0]);
        let mode = planned.modes[0] == XdpMode::Native;
        assert_eq!(said.mode == XdpMode::Native, mode, "{own} {other}: {report}");
        assert_eq!(
            (said.frags, said.scatter_gather, said.chunk, said.queues),
            (
                planned.frags,
                planned.scatter_gather,
                planned.chunk_size,
                u32::try_from(planned.queues.len()).unwrap()
            ),
            "{own} {other}: {report}"
        );
        assert_eq!(planned.warnings, [], "{own} {other}");
    }
    namespace.ip("link set peer down");
    let engine = namespace.enter(|| Engine::builder("target").build().unwrap());
    let warnings = &engine.plan().interfaces[0].warnings;
    assert_eq!(*warnings, [Warning::NoCarrier]);
    namespace.ip("link set target down");
    let engine = namespace.enter(|| Engine::builder("target").build().unwrap());
    let warnings = &engine.plan().interfaces[0].warnings;
    assert_eq!(*warnings, [Warning::Down]);
    let command = Warning::Down.command("target").map(|command| command.to_string());
    assert_eq!(command.as_deref(), Some("ip link set dev target up"));
}

#[test]
fn the_doctor_knows_the_kernels_queue_limit_of_veth() {
    let namespace = Namespace::with_pair(2);
    namespace.enter(|| {
        let ethtool = |arguments: &[&str]| {
            assert!(std::process::Command::new("ethtool").args(arguments).status().unwrap().success());
        };
        ethtool(&["-L", "target", "rx", "1"]);
        let report = Report::of(gather(&["target"], &Tunnels::default()));
        assert_eq!(report.plans[0].mode, XdpMode::Generic, "{report}");
        attach(index("target"), mirror_ebpf::mirror::PROGRAM, aya::programs::XdpMode::Driver).unwrap_err();
        let remedy =
            report.findings.iter().find_map(|finding| finding.remedy.as_deref().filter(|m| m.contains("-L")));
        let words: Vec<&str> = remedy.expect("a remedy").split(' ').collect();
        ethtool(&words[1..]);
        assert_eq!(Report::of(gather(&["target"], &Tunnels::default())).plans[0].mode, XdpMode::Native);
        drop(attach(index("target"), mirror_ebpf::mirror::PROGRAM, aya::programs::XdpMode::Driver).unwrap());
    });
}

#[test]
fn other_sockets_on_the_ports_of_tunnels_are_found() {
    let namespace = Namespace::with_pair(1);
    let quiet = namespace.enter(|| gather(&["target"], &Tunnels::default()));
    assert_eq!(quiet.port_holders.known().map(Vec::len), Some(0));

    // A process, which is this test.
    namespace.enter(|| {
        let _socket = std::net::UdpSocket::bind("127.0.0.1:4789").unwrap();
        let holders = gather(&["target"], &Tunnels::default()).port_holders.known().unwrap().clone();
        assert_eq!((holders.len(), holders[0].address.as_str()), (1, "127.0.0.1"));
        let me = format!("({})", std::process::id());
        assert!(holders[0].processes.iter().any(|process| process.ends_with(&me)), "{holders:?}");

        let _geneve = std::net::UdpSocket::bind("[::]:6081").unwrap();
        let facts = gather(&["target"], &Tunnels::from([6081]));
        let holders = facts.port_holders.known().unwrap();
        assert_eq!(holders.iter().map(|holder| holder.port).collect::<Vec<_>>(), [6081]);
        let text = Report::of(facts).to_string();
        assert!(text.contains("UDP 6081 is bound by") && !text.contains("UDP 4789"), "{text}");
    });

    // The kernel's device, for one VNI and for all.
    namespace.ip("link add vx17 type vxlan id 17 dstport 4789 dev peer");
    namespace.ip("link set vx17 up");
    namespace.ip("link add vxall type vxlan external dstport 4790");
    let facts = namespace.enter(|| gather(&["target"], &Tunnels::default()));
    let devices = facts.vxlan.known().unwrap();
    let found: Vec<_> =
        devices.iter().map(|device| (device.name.as_str(), device.vni, device.port)).collect();
    assert_eq!(found, [("vx17", Some(17), 4789), ("vxall", None, 4790)]);
    // Its sockets belong to no process.
    let holders = facts.port_holders.known().unwrap();
    assert!(!holders.is_empty() && holders.iter().all(|holder| holder.processes.is_empty()), "{holders:?}");
    let report = Report::of(facts);
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.message.starts_with("vx17 (VNI 17) receives on UDP 4789"))
    );
}

#[test]
fn a_vxlan_device_moved_to_another_namespace_as_docker_does_is_found_by_its_socket() {
    let host = Namespace::with_pair(1);
    let container = host.another();
    host.ip("link add vx18 type vxlan id 18 dstport 4789 dev peer");
    host.ip(&format!("link set vx18 netns {}", container.name()));
    container.ip("link set vx18 up").unwrap();
    let facts = host.enter(|| gather(&["target"], &Tunnels::default()));
    assert_eq!(facts.vxlan.known().map(Vec::len), Some(0));
    let report = Report::of(facts);
    let warning = report.findings.iter().find(|finding| finding.message.contains("UDP 4789")).unwrap();
    assert!(warning.message.contains("Docker's overlay networks"), "{warning:?}");
}

#[test]
fn a_missing_interface_is_an_error_that_lists_the_existing_ones() {
    let namespace = Namespace::with_pair(1);
    let report = Report::of(namespace.enter(|| gather(&["ens5"], &Tunnels::default())));
    assert!(!report.can_run && report.plans.is_empty());
    let text = report.to_string();
    assert!(text.contains("ens5: no such interface; there are lo, peer, target"), "{text}");
    assert!(text.ends_with("there is no interface to run on\n"), "{text}");
}
