//! Suricata raises its alert for a request that it can see only in forwarded packets.
//!
//! Names begin with `suricata_sees`: these tests are skipped, with a message, on hosts whose distribution has
//! no Suricata.

use mirror_lab::{
    Exchange, Lab, MirrorSource, MirrorSourceOptions, Namespace, Suricata, Traffic, VethEnd, VethOptions,
    VethPair, suricata::SIGNATURE,
};

use super::{
    account,
    common::{
        Cable,
        mirror::{MIRROR, Mirror, sent_by_kernel, sink},
    },
    nothing, report_of,
};

/// The rule matches a request for this many bytes.
const BYTES: usize = 4_711;

/// Real HTTP, mirrored by the kernel's VXLAN device, forwarded to `target`, where Suricata listens on `ids0`
/// of the namespace that `listener` makes.
fn suricata_sees(target: &str, path_taken: &str, listener: impl FnOnce(&Lab, &MirrorSource) -> Namespace) {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let lab = Lab::new().expect("lab");
    let source = MirrorSource::raise(&lab, &MirrorSourceOptions::default()).expect("mirror source");
    let namespace = listener(&lab, &source);
    let mut command = source.target().command(MIRROR);
    let arguments = format!(
        "ingest -i {} --stats 1h --forward {target} --report report.json",
        source.capture_interface()
    );
    command.args(arguments.split_ascii_whitespace()).current_dir(path);
    let run = Mirror::start(command).attached_to(source.target(), source.capture_interface());
    let logs = tempfile::tempdir().expect("a directory for logs");
    let suricata =
        Suricata::start(&namespace, "ids0", logs.path(), &format!("/bytes/{BYTES}")).expect("Suricata");
    source.http(&[Exchange::Get(1), Exchange::Get(BYTES), Exchange::PostEcho(50_000)]).expect("HTTP");
    run.settled();
    // First the run, then Suricata: hosts that have communicated probe each other's address a while later.
    let report = report_of(run, path);
    let written = sink(&report, &format!("forward {target}"))["written"].as_u64().expect("a count");
    let by_kernel = sent_by_kernel(&report, 0);
    let forwarded = written + by_kernel;
    let found = suricata.stop_after(forwarded).expect("Suricata");
    assert!(forwarded > 30, "only {forwarded} frames");
    assert_eq!(report["interfaces"][0]["forward_path"]["path"], path_taken);
    assert_eq!(by_kernel > 0, path_taken == "kernel", "{by_kernel}");
    let all = (written, written, nothing(), nothing());
    assert_eq!(account(&report, &format!("forward {target}")), all);
    assert_eq!(report["frames"]["decapsulated"], written);
    let [alert] = found.alerts.as_slice() else { panic!("not one alert but {:?}", found.alerts) };
    let uri = format!("/bytes/{BYTES}");
    assert_eq!((alert.signature, alert.url.as_deref()), (SIGNATURE, Some(uri.as_str())));
    assert_eq!(alert.destination, source.server());
    println!(
        "forwarded {forwarded} frames, {by_kernel} by the kernel; Suricata: decoder.pkts {}, {:?}",
        found.packets, found.alerts
    );
    assert_eq!((found.packets, found.kernel_drops, found.invalid), (forwarded, 0, 0));
}

#[test]
fn suricata_sees_on_a_tap_what_the_kernel_mirrored() {
    // A persistent TAP, so that Suricata does not lose its interface with the run.
    suricata_sees("tap:ids0,persist", "user", |_, source| source.target().clone());
}

#[test]
fn suricata_sees_on_a_veth_what_the_kernel_mirrored() {
    // A persistent one for the same reason.
    suricata_sees("veth:ids0,persist", "kernel", |_, source| source.target().clone());
}

/// More than it can take.
#[test]
fn suricata_sees_or_drops_what_the_kernel_sends_at_full_rate() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let cable = Cable::with_queues(1);
    let arguments = "--forward veth:ids0,persist --forward-path kernel --report report.json";
    let run = Mirror::ingest(&cable, path, arguments);
    let logs = tempfile::tempdir().expect("a directory for logs");
    let suricata = Suricata::start(&cable.target, "ids0", logs.path(), "/").expect("Suricata");
    cable.generator(Traffic::default()).send(500_000).expect("generated");
    run.settled();
    let report = report_of(run, path);
    let sent = sent_by_kernel(&report, 0);
    let found = suricata.stop_after(sent).expect("Suricata");
    println!("{sent} sent; Suricata: decoder.pkts {}, kernel_drops {}", found.packets, found.kernel_drops);
    assert!(sent > 100_000, "{sent}");
    assert_eq!((found.packets + found.kernel_drops, found.invalid), (sent, 0));
}

#[test]
fn suricata_sees_at_the_other_end_of_an_interface_what_the_kernel_mirrored() {
    suricata_sees("dev:out0", "user", |lab, source| {
        let namespace = lab.namespace("beyond").expect("beyond");
        let (near, far) = (VethEnd::new(source.target(), "out0"), VethEnd::new(&namespace, "ids0"));
        VethPair::create(near, far, &VethOptions::default()).expect("veth");
        namespace
    });
}
