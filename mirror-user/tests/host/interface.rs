//! What the host side reads about interfaces, and its events.
use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use crate::namespace::Namespace;
use mirror_user::host::{
    HostError,
    interface::{Interface, interfaces},
    links::{LinkEvent, LinkWatch},
    statistics::loss_deltas,
    tunables::{BusyPollTunables, TunablesGuard},
    xdp::XdpMode,
};

/// Long enough for a busy machine; every wait ends at the event.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for an event that must not come.
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn an_interface_has_name_mtu_address_kind_and_driver() {
    let namespace = Namespace::with_pair(1);
    namespace.ip("link set target mtu 3400 address 02:00:00:00:17:01");
    let target = namespace.enter(|| Interface::named("target")).unwrap();
    assert_eq!((target.name.as_str(), target.mtu), ("target", 3400));
    assert_eq!(target.mac, Some([2, 0, 0, 0, 0x17, 1]));
    assert_eq!(target.kind.as_deref(), Some("veth"));
    assert_eq!(target.driver.unwrap().name, "veth");
    assert!(target.up && target.carrier);
    namespace.ip("link set peer down");
    let target = namespace.enter(|| Interface::named("target")).unwrap();
    assert!(target.up && !target.carrier);
    namespace.ip("link set target down");
    let target = namespace.enter(|| Interface::named("target")).unwrap();
    assert!(!target.up && !target.carrier);
}

#[test]
fn a_missing_interface_is_named_with_the_existing_ones() {
    let namespace = Namespace::with_pair(1);
    for name in ["ens5", "", "a-name-longer-than-the-kernel-takes"] {
        let error = namespace.enter(|| Interface::named(name)).unwrap_err();
        assert_eq!(error.to_string(), format!("{name}: no such interface; there are lo, peer, target"));
    }
}

#[test]
fn every_interface_of_the_namespace_is_listed_and_no_other() {
    let namespace = Namespace::with_pair(1);
    let names: Vec<_> = namespace.enter(interfaces).unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["lo", "peer", "target"]);
}

#[test]
fn queues_in_use_are_read_in_the_namespace_of_the_thread() {
    for queues in [1, 2] {
        let namespace = Namespace::with_pair(queues);
        assert_eq!(namespace.enter(|| Interface::named("target").unwrap().rx_queues()).unwrap(), queues);
        // A device without channels, in a namespace that /sys does not show.
        assert_eq!(namespace.enter(|| Interface::named("lo").unwrap().rx_queues()).unwrap(), 1);
    }
    assert_eq!(Interface::named("lo").unwrap().rx_queues().unwrap(), 1);
}

#[test]
fn xdp_features_of_veth_are_read() {
    let namespace = Namespace::with_pair(1);
    let features = namespace.enter(|| Interface::named("target").unwrap().xdp_features()).unwrap();
    let features = features.expect("kernel 6.3 and later have the netdev family");
    assert!(features.basic && features.redirect && features.rx_sg, "{features:?}");
    assert!(!features.zero_copy && !features.hardware, "{features:?}");
    let loopback = Interface::named("lo").unwrap().xdp_features().unwrap().unwrap();
    assert!(!loopback.basic && !loopback.redirect, "{loopback:?}");
}

#[test]
fn a_program_on_the_hook_is_reported_with_mode_id_and_name() {
    let namespace = Namespace::with_pair(1);
    namespace.enter(|| {
        let target = Interface::named("target").unwrap();
        assert_eq!(target.xdp_hook().unwrap(), None);
        for (mode, expected) in [
            (aya::programs::XdpMode::Driver, XdpMode::Native),
            (aya::programs::XdpMode::Skb, XdpMode::Generic),
        ] {
            let mut object = aya::Ebpf::load(mirror_ebpf::MIRROR_OBJECT).unwrap();
            let program = object.program_mut(mirror_ebpf::mirror::PROGRAM).unwrap();
            let program: &mut aya::programs::Xdp = program.try_into().unwrap();
            program.load().unwrap();
            let id = program.info().unwrap().id();
            program.attach_to_if_index(target.index, mode).unwrap();
            let hook = target.xdp_hook().unwrap().expect("a program is attached");
            assert_eq!((hook.mode, hook.program, hook.name.as_deref()), (expected, id, Some("mirror")));
            drop(object);
            // A process forked by another test may hold the link until its exec.
            let deadline = Instant::now() + PATIENCE;
            while target.xdp_hook().unwrap().is_some() {
                assert!(Instant::now() < deadline, "the program is still on the hook");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
}

#[test]
fn counters_increase_by_the_frames_sent() {
    let namespace = Namespace::with_pair(2);
    namespace.ip("addr add 10.17.0.1/24 dev peer");
    namespace.ip("neigh add 10.17.0.2 lladdr 02:00:00:00:17:02 dev peer");
    namespace.enter(|| {
        let target = Interface::named("target").unwrap();
        let before = target.statistics().unwrap();
        let sender = UdpSocket::bind("10.17.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(b"counted", "10.17.0.2:4789").unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        let after = loop {
            let now = target.statistics().unwrap();
            if now["rx_packets"] >= before["rx_packets"] + 100 || Instant::now() > deadline {
                break now;
            }
        };
        let moved = after["rx_packets"] - before["rx_packets"];
        assert!((100..110).contains(&moved), "{moved}: 100 datagrams and little neighbour discovery");
        assert!(after["rx_bytes"] - before["rx_bytes"] >= 100 * 49);
        // veth's own ethtool statistics: their presence shows that strings and values match by name.
        assert_eq!(after["peer_ifindex"], u64::from(Interface::named("peer").unwrap().index));
        assert!(after.contains_key("rx_queue_1_drops"), "{after:?}");
        let deltas = loss_deltas(&before, &after);
        assert_eq!((deltas["rx_packets"], deltas.contains_key("rx_bytes")), (moved, false));
    });
}

#[test]
fn link_down_up_and_deletion_are_each_reported_once() {
    let namespace = Namespace::with_pair(1);
    let (index, mut watch) =
        namespace.enter(|| (Interface::named("target").unwrap().index, LinkWatch::open().unwrap()));
    // Outside of the namespace: the watch stays where it was opened.
    let mut next = |what: &str, expected: LinkEvent| loop {
        let event = watch.next(PATIENCE).unwrap().unwrap_or_else(|| panic!("{what}: no event"));
        let (LinkEvent::Up { index: of }
        | LinkEvent::Down { index: of }
        | LinkEvent::NoCarrier { index: of }
        | LinkEvent::Deleted { index: of }) = event
        else {
            panic!("{what}: {event:?}")
        };
        // The peer loses and regains its carrier, too.
        if of == index {
            assert_eq!(event, expected, "{what}");
            break;
        }
    };
    namespace.ip("link set target down");
    next("set down", LinkEvent::Down { index });
    namespace.ip("link set target up");
    next("set up", LinkEvent::Up { index });
    namespace.ip("link set peer down");
    next("carrier lost", LinkEvent::NoCarrier { index });
    namespace.ip("link set peer up");
    next("carrier found", LinkEvent::Up { index });
    namespace.ip("link del target");
    // The kernel sets a link down before it deletes it.
    next("deleted: down first", LinkEvent::Down { index });
    next("deleted", LinkEvent::Deleted { index });
}

#[test]
fn a_link_with_an_expected_name_is_reported_once_whether_existing_created_or_renamed() {
    let namespace = Namespace::with_pair(1);
    let mut watch = namespace.enter(LinkWatch::open).unwrap();
    let named = |watch: &mut LinkWatch, patience| loop {
        match watch.next(patience).unwrap() {
            Some(LinkEvent::Named { name, .. }) => return Some(name),
            Some(_) => {}
            None => return None,
        }
    };
    watch.expect("target").unwrap();
    assert_eq!(named(&mut watch, PATIENCE).as_deref(), Some("target"), "it is there");
    watch.expect("made").unwrap();
    watch.expect("renamed").unwrap();
    assert_eq!(named(&mut watch, QUIET), None);
    namespace.ip("link add other type veth peer name another");
    assert_eq!(named(&mut watch, QUIET), None, "another name");
    namespace.ip("link add made type veth peer name makers");
    assert_eq!(named(&mut watch, PATIENCE).as_deref(), Some("made"));
    namespace.ip("link set other name renamed");
    assert_eq!(named(&mut watch, PATIENCE).as_deref(), Some("renamed"));
    namespace.ip("link set renamed up");
    assert_eq!(named(&mut watch, QUIET), None, "once");
}

#[test]
fn a_watch_without_events_waits_for_its_timeout() {
    let namespace = Namespace::with_pair(1);
    let mut watch = namespace.enter(LinkWatch::open).unwrap();
    while watch.next(QUIET).unwrap().is_some() {}
    namespace.ip("link set target alias a-change-of-no-consequence");
    let start = Instant::now();
    assert_eq!(watch.next(QUIET).unwrap(), None);
    let waited = start.elapsed();
    assert!(waited >= QUIET && waited < QUIET + PATIENCE, "{waited:?}");
}

#[test]
fn after_lost_events_the_watch_reports_the_current_state() {
    let namespace = Namespace::with_pair(1);
    let (index, mut watch) =
        namespace.enter(|| (Interface::named("target").unwrap().index, LinkWatch::open().unwrap()));
    namespace.ip("link set target down");
    // Each change of an alias is a message of some 2 KiB, and the socket holds 208 KiB.
    let flood: String = (0..600).map(|n| format!("link set peer alias n{n}\n")).collect();
    let batch = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(batch.path(), flood).unwrap();
    namespace.ip(&format!("-batch {}", batch.path().display()));
    namespace.ip("link del target");
    let mut last = None;
    while let Some(event) = watch.next(QUIET).unwrap() {
        match event {
            LinkEvent::Up { index: of }
            | LinkEvent::Down { index: of }
            | LinkEvent::Deleted { index: of }
                if of == index =>
            {
                last = Some(event);
            }
            _ => {}
        }
    }
    assert!(watch.overruns() > 0, "the flood did not overrun the socket");
    assert_eq!(last, Some(LinkEvent::Deleted { index }));
}

#[test]
fn busy_poll_settings_are_set_and_restored() {
    // In the host's own namespace, where /sys shows the interface; nobody else knows this pair.
    let name = format!("mdoc{}", std::process::id() % 100_000);
    let ip = |arguments: &[&str]| {
        assert!(std::process::Command::new("ip").args(arguments).status().unwrap().success(), "needs root");
    };
    struct Pair<'a>(&'a str);
    impl Drop for Pair<'_> {
        fn drop(&mut self) {
            std::process::Command::new("ip").args(["link", "del", self.0]).status().unwrap();
        }
    }
    let peer = format!("{name}p");
    ip(&["link", "add", &name, "type", "veth", "peer", "name", &peer]);
    let _pair = Pair(&name);
    let interface = Interface::named(&name).unwrap();
    let values = || {
        ["napi_defer_hard_irqs", "gro_flush_timeout"].map(|file| {
            std::fs::read_to_string(format!("/sys/class/net/{name}/{file}")).unwrap().trim_end().to_owned()
        })
    };
    std::fs::write(format!("/sys/class/net/{name}/gro_flush_timeout"), "777").unwrap();
    let before = values();
    assert_eq!(before[1], "777");
    let wanted = BusyPollTunables::default();

    let guard = TunablesGuard::set(&interface, wanted).unwrap();
    assert_eq!(values(), ["2", "200000"]);
    guard.restore().unwrap();
    assert_eq!(values(), before);

    let guard = TunablesGuard::set(&interface, wanted).unwrap();
    assert_eq!(values(), ["2", "200000"]);
    drop(guard);
    assert_eq!(values(), before);
}

#[test]
fn settings_of_a_namespace_that_sys_does_not_show_are_refused() {
    let namespace = Namespace::with_pair(1);
    let error = namespace.enter(|| {
        let target = Interface::named("target").unwrap();
        TunablesGuard::set(&target, BusyPollTunables::default()).map(drop).unwrap_err()
    });
    assert!(matches!(error, HostError::OtherNamespace { .. }), "{error}");
}
