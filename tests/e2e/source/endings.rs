//! How a source ends, and what is left of it; and what does not start.

use aya::{
    maps::{Map, MapData, MapInfo, PerCpuArray, loaded_maps},
    programs::{SchedClassifier, TcAttachType},
};
use mirror_ebpf::source as abi;
use nix::sys::signal::Signal;

use super::{
    ETHERNET, Subnet, accept_all,
    common::mirror::{Mirror, mirror_in, names, threads, until},
    filter, of_sessions, session,
};

impl Subnet {
    fn mirroring_all() -> Self {
        let subnet = Self::lay(true);
        subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session(1, "tmf-1")]);
        subnet
    }

    /// Programs at ingress and egress, and carriers.
    pub(super) fn in_kernel(&self) -> [usize; 3] {
        let programs = |hook, name: &str| {
            let query = || SchedClassifier::query_tcx(ETHERNET, hook);
            // Kernels before 6.6 do not know the question.
            let links = self.source.enter(query).expect("namespace").map_or(0, |found| found.1.len());
            let filters = self.source.tc(&format!("filter show dev {ETHERNET} {name}")).unwrap_or_default();
            links + filters.lines().filter(|line| line.contains(&format!("source_{name}"))).count()
        };
        let taps = self.source.ip("-brief link show type tun").expect("links").lines().count();
        [programs(TcAttachType::Ingress, "ingress"), programs(TcAttachType::Egress, "egress"), taps]
    }
}

#[test]
fn the_thread_that_reads_packets_has_no_capability_and_makes_few_system_calls() {
    let subnet = Subnet::mirroring_all();
    let source = subnet.mirror_with("--sandbox require");
    let agent = until("the thread is confined", || {
        let found = threads(source.pid()).into_iter().find(|(name, _)| name == "agent")?;
        (found.1["Seccomp"] == 2).then_some(found.1)
    });
    for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(agent[set], 0, "{set}: {agent:x?}");
    }
    let _server = subnet.serve(80);
    subnet.get(80, 100_000);
    let report = subnet.end(source);
    assert_ne!(of_sessions(&report, "sent"), 0);
}

/// What the ingress program of the one source that is in the kernel has seen.
fn seen() -> u64 {
    let is_ours = |map: &MapInfo| map.name_as_str() == Some(abi::MAP_COUNTS);
    let mut maps = loaded_maps().filter_map(Result::ok).filter(is_ours);
    let map = MapData::from_id(maps.next().expect("a map of counters").id()).expect("opened");
    let counts: PerCpuArray<_, abi::Counts> = Map::PerCpuArray(map).try_into().expect("counters");
    counts.get(&abi::INGRESS, 0).expect("read").iter().map(|cpu| cpu[abi::Count::Seen as usize]).sum()
}

#[test]
fn filters_of_clsact_that_outlive_their_source_do_nothing_and_are_removed() {
    let subnet = Subnet::mirroring_all();
    let _server = subnet.serve(80);
    let source = subnet.mirror_with("--attach clsact");
    subnet.get(80, 1_000);
    assert_ne!(seen(), 0);
    source.end_by(Signal::SIGKILL);
    until("the kernel removes the carrier", || (subnet.in_kernel() == [1, 1, 0]).then_some(()));
    until("the programs do nothing", || {
        let before = seen();
        subnet.get(80, 1_000);
        (seen() == before).then_some(())
    });
    for removed in ["filters removed", "nothing to remove"] {
        let arguments = format!("source --clean --interface eni-1={ETHERNET}");
        let run = Mirror::start(mirror_in(&subnet.source, subnet.path(), &arguments));
        run.end().expect_code(0).expect_words(&[removed]);
        assert_eq!(subnet.in_kernel(), [0; 3], "{removed}");
    }
    subnet.mirror_with("--attach clsact").end_by(Signal::SIGKILL);
    let source = subnet.mirror_with("--attach clsact");
    subnet.get(80, 1_000);
    assert_eq!(subnet.in_kernel(), [1, 1, 1], "those of the killed one are removed");
    let report = subnet.end(source);
    assert_eq!(report["interfaces"][0]["hook"], "clsact");
    assert_ne!(of_sessions(&report, "sent"), 0);
    assert_eq!(subnet.in_kernel(), [0; 3]);
}

#[test]
fn a_clsact_qdisc_is_removed_by_the_source_that_added_it_once_it_has_no_filter() {
    let subnet = Subnet::mirroring_all();
    let tc = |arguments: &str| subnet.source.tc(arguments).expect("tc");
    let is_there = || tc(&format!("qdisc show dev {ETHERNET}")).contains("clsact");
    let others_filter = format!("filter add dev {ETHERNET} egress protocol ip u32 match u32 0 0 flowid :1");
    let run = |meanwhile: &dyn Fn()| {
        let source = subnet.mirror_with("--attach clsact");
        assert!(is_there());
        meanwhile();
        subnet.end(source);
        assert_eq!(subnet.in_kernel(), [0; 3]);
        is_there()
    };
    assert!(!run(&|| {}), "nobody else has a use for it");
    assert!(run(&|| drop(tc(&others_filter))), "a filter of another is in it");
    tc(&format!("filter delete dev {ETHERNET} egress"));
    assert!(run(&|| {}), "it was there before");
}

#[test]
fn nothing_is_left_of_a_source_that_is_killed_and_the_next_one_starts() {
    let subnet = Subnet::mirroring_all();
    let _server = subnet.serve(80);
    let source = subnet.mirror();
    assert_eq!(subnet.in_kernel(), [1, 1, 1]);
    source.end_by(Signal::SIGKILL);
    until("the kernel removes programs and carriers", || (subnet.in_kernel() == [0; 3]).then_some(()));
    subnet.get(80, 1_000);
    let target = subnet.ingest("");
    let source = subnet.mirror();
    subnet.get(80, 1_000);
    let (source, _) = subnet.end_both(source, target);
    assert_ne!(of_sessions(&source, "sent"), 0);
    assert_eq!(subnet.in_kernel(), [0; 3]);
}

#[test]
fn int_and_term_end_a_source_with_a_whole_account() {
    let subnet = Subnet::mirroring_all();
    let _server = subnet.serve(80);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let source = subnet.mirror();
        subnet.get(80, 100_000);
        let report = subnet.ended(source.end_by(signal));
        assert_eq!(report["schema"], "mirror.source/1");
        // Nobody takes it at the target, and that is not the source's to know.
        assert!(of_sessions(&report, "sent") > 100_000 / 1_460, "{signal}: {report:#}");
        assert_eq!(names(subnet.path()), ["mirroring.json", "source.json"], "{signal}");
        assert_eq!(subnet.in_kernel(), [0; 3], "{signal}");
    }
}

#[test]
fn what_cannot_be_mirrored_is_named_and_nothing_is_left() {
    let subnet = Subnet::mirroring_all();
    subnet.source.ip("link add eth1 type veth peer name eth2").expect("interfaces");
    let with_address = "--target tmt-1=10.0.0.3";
    for (arguments, reason) in [
        (
            format!("eni-1={ETHERNET} --interface eni-7=eth1 {with_address}"),
            "eni-7: no session has this source",
        ),
        (format!("eni-1={ETHERNET}"), "tmt-1: no address known"),
        (format!("eni-1=lo {with_address}"), "lo: its packets have no Ethernet header"),
    ] {
        let arguments =
            format!("source --config mirroring.json --report source.json --interface {arguments}");
        let run = Mirror::start(mirror_in(&subnet.source, subnet.path(), &arguments));
        run.end().expect_code(2).expect_words(&[reason]);
        assert_eq!(subnet.in_kernel(), [0; 3], "{arguments}");
        assert_eq!(names(subnet.path()), ["mirroring.json"], "{arguments}");
    }
}
