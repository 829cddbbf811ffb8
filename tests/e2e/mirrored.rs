//! Real HTTP, mirrored by the kernel: `mirror ingest` captures the frames that tcpdump captures at the source at the
//! same time. Needs root.

mod common;

use std::{path::Path, sync::Arc};

use common::{assert_balanced, settle};
use mirror_lab::{
    Exchange, Lab, MirrorSource, MirrorSourceOptions, Testimony, Witness,
    capture::{self, multiset},
    mirror_source,
};
use mirror_user::{
    Engine, Report,
    sink::pcap::{Pcap, Target},
};

const EXCHANGES: [Exchange; 4] =
    [Exchange::Get(0), Exchange::Get(300_000), Exchange::PostEcho(50_000), Exchange::Get(1)];

struct Seen {
    at_source: Testimony,
    inner: capture::CaptureFile,
    report: Report,
}

fn mirror(options: &MirrorSourceOptions, directory: &Path) -> Seen {
    let lab = Lab::new().expect("lab");
    let source = MirrorSource::raise(&lab, options).expect("mirror source");
    let file = directory.join("inner.pcapng");
    let pcap = Pcap::builder(Target::file(&file)).build().expect("capture file");
    let running = source
        .target()
        .enter(|| {
            Engine::builder(source.capture_interface()).sink(Arc::new(pcap)).build().and_then(Engine::start)
        })
        .expect("namespace")
        .unwrap_or_else(|error| panic!("engine: {error}"));
    let witness = directory.join("source.pcap");
    let witness =
        Witness::start(source.source(), source.mirrored_interface(), &witness, "").expect("tcpdump");
    source.http(&EXCHANGES).expect("HTTP");
    settle(&running);
    let at_source = witness.stop().expect("tcpdump");
    let report = running.stop();
    assert_balanced(&report);
    assert_eq!(at_source.dropped, 0);
    Seen { at_source, inner: capture::read(&file).expect("capture"), report }
}

#[test]
fn inner_frames_are_those_tcpdump_saw_at_the_source() {
    let directory = tempfile::tempdir().expect("directory");
    let Seen { at_source, inner, report } = mirror(&MirrorSourceOptions::default(), directory.path());
    assert!(at_source.frames.len() > 100, "only {} frames", at_source.frames.len());
    assert_eq!(report.frames.decapsulated, at_source.frames.len() as u64);
    let name = format!("vni-12345@{}", mirror_source::SOURCE);
    assert!(inner.packets.iter().all(|packet| packet.interface_name.as_deref() == Some(&*name)));
    assert!(
        multiset(inner.frames()) == multiset(at_source.frames),
        "inner frames are not those of the source"
    );
}

/// Offloads left on, as a careless set-up has them: the source mirrors super-frames, which the tunnel cuts up or the
/// target cannot take. The test says what arrives; that the books close is all that can be promised.
#[test]
fn with_offloads_on_the_books_close_over_whatever_arrives() {
    let directory = tempfile::tempdir().expect("directory");
    let options = MirrorSourceOptions { offloads: true, ..MirrorSourceOptions::default() };
    let Seen { at_source, report, .. } = mirror(&options, directory.path());
    let longest = at_source.frames.iter().map(Vec::len).max().unwrap_or(0);
    println!(
        "{} frames at the source, the longest of {longest} bytes; {} seen, {} decapsulated, {} truncated",
        at_source.frames.len(),
        report.accounting.seen,
        report.frames.decapsulated,
        report.frames.odd.truncated_inner
    );
    assert!(longest > 1514, "no super-frame at the source: offloads are not on");
    assert!(report.frames.decapsulated > 0);
}
