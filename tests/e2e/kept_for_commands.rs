//! Files are neither deleted for space nor replaced in a ring before their -z command has ended. Needs root.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use common::{
    Cable,
    disk::SmallDisk,
    mirror::{Mirror, assert_next_run_works, balanced_report, burst, names, sink, until},
};
use mirror_lab::capture;
use nix::sys::signal::Signal;
use serde_json::json;

/// A directory with a command that waits for the file `go`, and then keeps a copy of its file.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        for name in ["out", "kept"] {
            fs::create_dir(path.join(name)).expect("created");
        }
        let program = "#!/bin/sh\n\
            set -e\n\
            n=$(mktemp kept/XXXXXX)\n\
            while [ ! -e go ]; do sleep 0.05; done\n\
            cp \"$1\" \"$n\"\n\
            mv \"$n\" \"$n-${1##*/}\"\n";
        let command = path.join("keep");
        fs::write(&command, program).expect("written");
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).expect("executable");
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn out(&self) -> PathBuf {
        self.path().join("out")
    }

    /// Lets the command continue.
    fn go(&self) {
        fs::write(self.path().join("go"), "").expect("written");
    }

    /// Packets of all copies; each file is copied once it is complete.
    fn packets(&self) -> u64 {
        let kept = self.path().join("kept");
        let packets = names(&kept).into_iter().map(|name| {
            let capture = capture::read(&kept.join(&name)).expect("a capture");
            assert!(!capture.torn && name.contains('-'), "{name} is not whole");
            assert!(!capture.packets.is_empty(), "{name}");
            capture.packets.len() as u64
        });
        packets.sum()
    }

    fn run(&self, cable: &Cable, flags: &str) -> Mirror {
        let flags = format!("-w out/x.pcapng -z ./keep --command-write kept --report report.json {flags}");
        Mirror::ingest(cable, self.path(), &flags)
    }
}

fn waits(run: &Mirror) -> bool {
    run.statistics().contains(", pcap waiting")
}

/// Sends until the capture waits, and then more.
fn burst_until_it_waits(cable: &Cable, run: &Mirror) {
    until("it waits", || {
        burst(cable, 1_000);
        waits(run).then_some(())
    });
    burst(cable, 1_000);
}

#[test]
fn no_file_is_deleted_for_space_before_its_command_has_ended() {
    let cable = Cable::with_queues(1);
    let place = Place::new();
    let disk = SmallDisk::mount(&place.out(), 2 << 20);
    let run = place.run(&cable, "-C 100k --min-free 1m --when-full delete");
    burst_until_it_waits(&cable, &run);
    let words = "the files of this run that are left are in use by a command";
    assert!(run.said().contains(words), "{}", run.said());
    let held: Vec<_> = names(&place.out()).into_iter().filter(|name| !name.starts_with('.')).collect();
    assert!(held.len() > 4, "{held:?}");
    assert!(held.contains(&"x.pcapng".to_owned()), "none was deleted: {held:?}");
    let under_way = names(&place.path().join("kept"));
    assert!(under_way.iter().all(|name| !name.contains('-')), "no command has ended: {under_way:?}");
    place.go();
    until("it resumes", || (!waits(&run)).then_some(()));
    // Long enough to delete every earlier file.
    burst(&cable, 40_000);
    until("the first is deleted", || (!place.out().join("x.pcapng").exists()).then_some(()));
    run.end_by(Signal::SIGINT).expect_code(0).expect_words(&["dropped: no_space"]);
    let report = balanced_report(&place.path().join("report.json"));
    let pcap = sink(&report, "pcap");
    assert_eq!((&pcap["state"], &pcap["failed"]), (&json!("done"), &json!({})));
    assert_eq!(pcap["written"], place.packets(), "each file had its command, in full");
    drop(disk);
    assert_next_run_works(&cable);
}

#[test]
fn no_file_of_a_ring_is_replaced_before_its_command_has_ended() {
    let cable = Cable::with_queues(1);
    let place = Place::new();
    let run = place.run(&cable, "-C 50k -W 3");
    burst_until_it_waits(&cable, &run);
    assert!(
        run.said().contains("x.pcapng0: the command for the earlier file of this name"),
        "{}",
        run.said()
    );
    // The fourth is complete except for its name, which the first still has.
    assert_eq!(names(&place.out()).len(), 4, "{:?}", names(&place.out()));
    place.go();
    until("it resumes", || (!waits(&run)).then_some(()));
    burst(&cable, 10_000);
    run.end_by(Signal::SIGINT).expect_code(0);
    let report = balanced_report(&place.path().join("report.json"));
    let pcap = sink(&report, "pcap");
    assert_eq!((&pcap["state"], &pcap["failed"]), (&json!("done"), &json!({})));
    assert_eq!(pcap["written"], place.packets(), "each file had its command, in full");
    assert_eq!(names(&place.out()), ["x.pcapng0", "x.pcapng1", "x.pcapng2"]);
    let copies = names(&place.path().join("kept")).into_iter().fold(BTreeMap::new(), |mut of, name| {
        *of.entry(name.split_once('-').expect("a name").1.to_owned()).or_insert(0) += 1;
        of
    });
    assert!(copies.values().all(|copies| *copies > 2), "the ring went round: {copies:?}");
    assert_next_run_works(&cable);
}
