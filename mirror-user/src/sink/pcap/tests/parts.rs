//! Captures in parts.

use super::*;
use crate::account::{SinkReport, SinkState};

fn parts_of(paths: &[PathBuf], set: impl Fn(PcapBuilder) -> PcapBuilder) -> PcapParts {
    let built = paths.iter().map(|path| set(Pcap::builder(Target::file(path))).build().unwrap());
    PcapParts::new(built.collect())
}

fn worker(pcap: &PcapParts, worker: usize) -> Box<dyn Sink> {
    pcap.build(&WorkerContext { worker, workers: 4, ..WorkerContext::single(2048) }).unwrap()
}

fn frames(vni: u32, count: u64) -> Vec<Outer> {
    (0..count).map(|nth| Outer::new([10, 0, 0, 1], vni, &[7; 60]).at(1_000_000 + nth)).collect()
}

fn entry(pcap: &PcapParts) -> SinkReport {
    let mut entry = SinkReport::default();
    pcap.report(&mut entry, &mut report());
    entry
}

#[test]
fn each_worker_has_one_part_and_each_part_is_complete_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [0, 1].map(|part| part_path(&dir.path().join("o.pcapng"), part, 2));
    let pcap = parts_of(&paths, |builder| builder);
    let mut sinks: Vec<_> = (0..4).map(|number| worker(&pcap, number)).collect();
    for (sink, vni) in sinks.iter_mut().zip(100..) {
        offer(&mut **sink, &frames(vni, 3)).unwrap();
    }
    for sink in &mut sinks {
        sink.finish().unwrap();
        assert_eq!(sink.stats().written, 3);
    }
    pcap.close(&report()).unwrap();
    for (path, vnis) in paths.iter().zip([[100, 102], [101, 103]]) {
        let contents = read(path);
        let mut names: Vec<_> = contents.packets.iter().map(|packet| packet.interface.clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names, vnis.map(|vni| format!("vni-{vni}@10.0.0.1")));
        let delivered: u64 = contents.statistics.iter().map(|statistics| statistics.delivered).sum();
        assert_eq!((contents.packets.len(), delivered), (6, 6));
    }
    let members = entry(&pcap).members;
    let shown: Vec<_> = members.iter().map(|member| (member.target.as_str(), member.written)).collect();
    let names: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(shown, [(names[0], 6), (names[1], 6)]);
}

#[test]
fn a_part_that_ends_loses_its_own_frames_and_ends_the_capture_only_with_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [0, 1].map(|part| part_path(&dir.path().join("o"), part, 2));
    // The second file of the first part cannot have its name.
    let pcap = parts_of(&paths, |builder| builder.rotate_size(1));
    std::fs::write(dir.path().join("o-01"), "precious").unwrap();
    let [mut one, mut other] = [0, 1].map(|number| worker(&pcap, number));
    for frame in frames(7, 3) {
        let _ = offer(&mut *one, std::slice::from_ref(&frame));
        one.flush();
        offer(&mut *other, std::slice::from_ref(&frame)).unwrap();
    }
    let _ = one.finish();
    other.finish().unwrap();
    assert!(one.stats().failed.total() > 0, "{:?}", one.stats());
    assert_eq!(other.stats().written, 3);
    assert_eq!(pcap.halted(), None, "the other goes on");
    let members = entry(&pcap).members;
    assert!(members[0].reason.as_ref().is_some_and(|reason| reason.contains("already exists")));
    assert_eq!((&members[1].reason, members[1].written), (&None, 3));
    let ended = pcap.close(&report()).unwrap_err().to_string();
    assert!(ended.contains("o-01: already exists"), "{ended}");
    assert_eq!(std::fs::read(dir.path().join("o-01")).unwrap(), b"precious");
    let packets = ["o-1", "o-11", "o-12"].map(|name| read(&dir.path().join(name)).packets.len());
    assert_eq!(packets, [1, 1, 1]);
}

#[test]
fn a_capture_leaves_the_space_that_others_are_about_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let free_space = FreeSpace::default();
    let builder = Pcap::builder(Target::file(dir.path().join("o"))).min_free(1, WhenFull::Wait);
    let pcap = builder.min_free_with(&free_space).build().unwrap();
    let mut sink = super::worker(&pcap);
    let claim = free_space.claim(u64::MAX / 2);
    put(&mut *sink, &frames(7, 1));
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait("it waits", &|| pcap.halted().is_some());
    assert!(pcap.halted().unwrap().reason.contains("below the minimum of 1"), "{:?}", pcap.halted());
    drop(claim);
    wait("it resumes", &|| pcap.halted().is_none());
    put(&mut *sink, &frames(7, 1));
    sink.finish().unwrap();
    assert_eq!((sink.stats().written, sink.stats().dropped.total()), (1, 1));
    pcap.close(&report()).unwrap();
    assert_eq!(free_space.claim(0).of_all(), 0, "what is written is claimed no longer");
}

#[test]
fn a_capture_is_halted_for_good_only_if_every_part_is() {
    let dir = tempfile::tempdir().unwrap();
    let halted = |when_full: [WhenFull; 2]| {
        let mut numbers = 0..;
        let built = when_full.map(|when_full| {
            let target = Target::file(dir.path().join(format!("{:?}", numbers.next())));
            Pcap::builder(target).min_free(u64::MAX, when_full).build().unwrap()
        });
        let pcap = PcapParts::new(built.into());
        for number in 0..2 {
            let mut sink = worker(&pcap, number);
            let _ = offer(&mut *sink, &frames(7, 1));
            let _ = sink.finish();
        }
        pcap.halted().map(|halt| halt.state)
    };
    assert_eq!(halted([WhenFull::Stop, WhenFull::Wait]), Some(SinkState::Waiting));
    assert_eq!(halted([WhenFull::Stop, WhenFull::Stop]), Some(SinkState::Ended));
    assert_eq!(halted([WhenFull::Delete, WhenFull::Wait]), Some(SinkState::Waiting));
    let only = PcapParts::new(Vec::new());
    assert!(only.build(&WorkerContext::single(64)).is_err());
}
