//! Production goes on whatever becomes of copies, and copies are not mirrored again.

use std::net::Ipv4Addr;

use super::{
    CLIENT, Subnet, accept_all, account, common::mirror::until, filter, of_directions, of_sessions, session,
};

/// No host has it.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);

#[test]
fn a_download_is_whole_while_the_target_cannot_be_reached() {
    const BYTES: usize = 20_000_000;
    let subnet = Subnet::lay(true);
    subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session(1, "tmf-1")]);
    let _server = subnet.serve(80);
    let source = subnet.mirror_to(NOBODY, "");
    subnet.get(80, BYTES);
    let report = subnet.end(source);
    let of = |counter| of_sessions(&report, counter);
    assert_eq!([of("sent"), of("oversize")], [0, 0], "{report:#}");
    let failed = &report["interfaces"][0]["sessions"][0]["send_failed"];
    assert_eq!(failed["unresolved"], of("segments"), "{report:#}");
    assert_ne!(of("segments"), 0, "{report:#}");
}

/// They leave by the interface that is mirrored, with everything else, and the target answers with ICMP
/// errors: it has no VXLAN device.
#[test]
fn copies_and_icmp_errors_about_them_are_not_mirrored() {
    let subnet = Subnet::lay(false);
    subnet.set_up(&[filter("tmf-1", &accept_all(), &accept_all())], &[session(1, "tmf-1")]);
    let _server = subnet.serve(80);
    // The switch sends copies to it, too, until it knows the target.
    let witness = subnet.witness(&format!("ip host {CLIENT}"));
    let source = subnet.mirror();
    subnet.get(80, 50_000);
    let seen = witness.stop().expect("witness").frames.len() as u64;
    let all_are_sent =
        || account(&source).contains(&format!(" {seen} segments = {seen} sent;")).then_some(());
    until("copies are sent", all_are_sent);
    let report = subnet.end(source);
    assert_eq!(of_sessions(&report, "sent"), seen, "{report:#}");
    let [errors, copies] = of_directions(&report, "/excluded/copy");
    assert_eq!(copies, seen, "{report:#}");
    assert!(errors > 0, "{report:#}");
}
