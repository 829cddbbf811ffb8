//! How a source ends, and what is left of it; and what does not start.

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::signal::Signal;

use super::{
    ETHERNET, Subnet, accept_all,
    common::mirror::{Mirror, mirror_in, names, until},
    filter, of_sessions, session,
};

impl Subnet {
    fn mirroring_all() -> Self {
        let subnet = Self::lay(true);
        subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session(1, "tmf-1")]);
        subnet
    }

    /// Programs at ingress and egress, and carriers.
    fn in_kernel(&self) -> [usize; 3] {
        let programs = |hook| {
            let query = || SchedClassifier::query_tcx(ETHERNET, hook);
            self.source.enter(query).expect("namespace").expect("programs").1.len()
        };
        let taps = self.source.ip("-brief link show type tun").expect("links").lines().count();
        [programs(TcAttachType::Ingress), programs(TcAttachType::Egress), taps]
    }
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
