//! Blocks that are written together, and past the page cache.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    process::Stdio,
    sync::atomic::AtomicBool,
};

use super::*;

/// Frames of a real size, numbered from this one on.
fn numbered(first: u32, count: u32) -> Vec<Outer> {
    (first..first + count)
        .map(|number| {
            let mut inner = [0x5a; 1400];
            inner[..4].copy_from_slice(&number.to_be_bytes());
            Outer::new([10, 0, 0, 1], 7, &inner).at(1_700_000_000_000_000_000 + u64::from(number))
        })
        .collect()
}

/// A worker that waits for blocks, as over a capture file: nothing is dropped.
fn patient_worker(pcap: &Pcap) -> Box<dyn Sink> {
    let cx =
        WorkerContext { wait_until: Some(Arc::new(AtomicBool::new(false))), ..WorkerContext::single(2048) };
    SinkFactory::build(pcap, &cx).unwrap()
}

fn offer_numbered(sink: &mut dyn Sink, from: u32, to: u32) {
    for first in (from..to).step_by(100) {
        offer(sink, &numbered(first, 100.min(to - first))).unwrap();
    }
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[..4].try_into().unwrap())
}

/// The whole packets of a file that may end within one: its bytes up to there, and their numbers.
fn whole_packets(path: &Path) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap();
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (mut at, mut numbers) = (0, Vec::new());
    while let (Some(kind), Some(len)) = (word(at), word(at + 4)) {
        let len = len as usize;
        assert!(len >= 12 && len.is_multiple_of(4), "at {at} of {}: a block of {len} bytes", bytes.len());
        let Some(block) = bytes.get(at..at + len) else { break };
        assert_eq!(block[len - 4..], block[4..8], "at {at}");
        if kind == 6 {
            numbers.push(number(&block[28..]));
        }
        at += len;
    }
    numbers
}

#[test]
fn blocks_written_together_are_whole_and_in_order_in_every_file_of_a_rotation() {
    const FRAMES: u32 = 30_000;
    for size in [None, Some(9_999_999)] {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = Pcap::builder(Target::file(dir.path().join("o")));
        if let Some(size) = size {
            builder = builder.rotate_size(size);
        }
        let pcap = builder.build().unwrap();
        let mut sink = patient_worker(&pcap);
        offer_numbered(&mut *sink, 0, FRAMES);
        sink.finish().unwrap();
        assert_eq!(sink.stats(), written(FRAMES.into()));
        pcap.close(&report()).unwrap();
        let (mut numbers, mut delivered) = (Vec::new(), 0);
        let files = names(dir.path()).len();
        for file in 0..files {
            let name = if file == 0 { "o".to_owned() } else { format!("o{file}") };
            let path = dir.path().join(name);
            let contents = read(&path);
            numbers.extend(contents.packets.iter().map(|packet| number(&packet.data)));
            delivered += contents.statistics.iter().map(|seen| seen.delivered).sum::<u64>();
            let file = std::fs::metadata(&path).unwrap();
            assert!(file.blocks() * 512 < file.len() + (64 << 10), "no space is kept behind the end");
        }
        assert_eq!(files, size.map_or(1, |_| 5));
        assert!(numbers.iter().copied().eq(0..FRAMES), "{} packets", numbers.len());
        assert_eq!(delivered, u64::from(FRAMES));
    }
}

#[test]
fn a_second_origin_in_the_middle_is_described_before_its_packets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o");
    let pcap = Pcap::builder(Target::file(&path)).build().unwrap();
    let mut sink = patient_worker(&pcap);
    offer_numbered(&mut *sink, 0, 5_000);
    offer(&mut *sink, &[Outer::new([10, 0, 0, 2], 8, &[1; 1400])]).unwrap();
    offer_numbered(&mut *sink, 5_000, 10_000);
    sink.finish().unwrap();
    pcap.close(&report()).unwrap();
    let contents = read(&path);
    let of = |name| contents.packets.iter().filter(|packet| packet.interface == name).count();
    assert_eq!((of("vni-7@10.0.0.1"), of("vni-8@10.0.0.2")), (10_000, 1));
    assert_eq!(tshark(&path, &["frame.number"]).len(), 10_001);
}

#[test]
fn a_full_disk_cuts_blocks_written_together_after_a_whole_packet() {
    on_ext4("held::child_on_a_full_disk", "-O ^has_journal", "rw");
    let mount = r#"mkdir "$MIRROR_TEST_PATH/mnt" && mount -t tmpfs -o size=40m,huge=always none \
        "$MIRROR_TEST_PATH/mnt" && exec "$@""#;
    let dir = tempfile::tempdir().unwrap();
    let wrapper = ["unshare", "-m", "sh", "-c", mount, "sh"];
    let status =
        in_a_process_of_its_own(&wrapper, "held::child_on_a_full_disk", dir.path()).status().unwrap();
    assert!(status.success(), "in memory of 40 MiB (mounting it takes root): {status}");
}

#[test]
#[ignore = "run by another test, on a disk of 40 MiB"]
fn child_on_a_full_disk() {
    let path = path_from_parent().join("mnt/out");
    let pcap = Pcap::builder(Target::file(&path)).when_full(WhenFull::Stop).build().unwrap();
    let mut sink = patient_worker(&pcap);
    let mut offered = 0;
    while offered < 100_000 && offer(&mut *sink, &numbered(offered, 100)).is_ok() {
        offered += 100;
    }
    assert!(offered < 100_000, "the disk takes all");
    // The writer of direct writes, where there are any: not on tmpfs.
    assert_eq!(has_thread("mirror-pcap-io"), path_from_parent().join("disk").exists());
    sink.finish().unwrap_err();
    let stats = sink.stats();
    assert_eq!((stats.pending, stats.total() % 100), (0, 0), "{stats:?}");
    assert!(stats.written > 10_000 && stats.failed.total() > 0, "{stats:?}");
    pcap.close(&report()).unwrap_err();
    let numbers = whole_packets(&path);
    assert_eq!(numbers.len() as u64, stats.written);
    assert!(numbers.iter().copied().map(u64::from).eq(0..stats.written));
    assert_eq!(tshark(&path, &["frame.number"]).len() as u64, stats.written);
}

/// Runs a test on a disk of 40 MiB with ext4, in `mnt` of its directory.
fn on_ext4(test: &str, make: &str, mount: &str) {
    let script = format!(
        r#"truncate -s 40M "$MIRROR_TEST_PATH/disk" && mkfs.ext4 -q -m 0 {make} "$MIRROR_TEST_PATH/disk" \
        && mkdir "$MIRROR_TEST_PATH/mnt" \
        && mount -o loop,{mount} "$MIRROR_TEST_PATH/disk" "$MIRROR_TEST_PATH/mnt" && exec "$@""#
    );
    let dir = tempfile::tempdir().unwrap();
    let status = in_a_process_of_its_own(&["unshare", "-m", "sh", "-c", &script, "sh"], test, dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "on a disk of 40 MiB (mounting one takes root): {status}");
}

fn has_thread(name: &str) -> bool {
    let mut threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads.any(|thread| {
        let comm = std::fs::read_to_string(thread.unwrap().path().join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    })
}

fn free_bytes(dir: &Path) -> u64 {
    let space = rustix::fs::statvfs(dir).unwrap();
    space.f_bavail * space.f_frsize
}

#[test]
fn a_ring_that_fills_its_disk_waits_for_the_space_of_deleted_files_and_loses_nothing() {
    on_ext4("held::child_with_a_ring_on_a_full_disk", "-O ^has_journal", "discard");
}

#[test]
#[ignore = "run by another test, on a disk of 40 MiB"]
fn child_with_a_ring_on_a_full_disk() {
    const FRAMES: u32 = 200_000;
    const FILES: u32 = 4;
    let dir = path_from_parent().join("mnt");
    // A tenth of a file is left beside the ring.
    let all = free_bytes(&dir);
    let size = all * 10 / 41;
    let pcap = Pcap::builder(Target::file(dir.join("o"))).rotate_size(size).max_files(FILES).build().unwrap();
    let mut sink = patient_worker(&pcap);
    offer_numbered(&mut *sink, 0, FRAMES);
    sink.finish().unwrap();
    assert_eq!(sink.stats(), written(FRAMES.into()));
    assert!(has_thread("mirror-pcap-rm"));
    pcap.close(&report()).unwrap();
    let turns = pcap.rotator().unwrap().completed().files;
    assert!(turns > 20, "{turns} files");
    // The names that the last files have, the oldest first.
    let mut numbers = Vec::new();
    for turn in turns - u64::from(FILES)..turns {
        numbers.extend(whole_packets(&dir.join(format!("o{}", turn % u64::from(FILES)))));
    }
    let kept = u32::try_from(numbers.len()).unwrap();
    assert!(numbers.into_iter().eq(FRAMES - kept..FRAMES), "{kept} packets");
    let taken: u64 =
        std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let free = free_bytes(&dir);
    assert!(free + taken > all - (1 << 20), "{free} free beside {taken}: deleted files have space");
}

#[test]
fn where_direct_writes_are_refused_captures_go_through_the_page_cache() {
    on_ext4("held::child_without_direct_writes", "-O has_journal -J size=4", "data=journal");
}

#[test]
#[ignore = "run by another test, on a disk of 40 MiB"]
fn child_without_direct_writes() {
    let path = path_from_parent().join("mnt/o");
    let pcap = Pcap::builder(Target::file(&path)).build().unwrap();
    let mut sink = patient_worker(&pcap);
    offer_numbered(&mut *sink, 0, 10_000);
    sink.finish().unwrap();
    assert_eq!(sink.stats(), written(10_000));
    assert!(!has_thread("mirror-pcap-io"));
    pcap.close(&report()).unwrap();
    assert!(whole_packets(&path).into_iter().eq(0..10_000));
}

#[test]
fn a_process_killed_at_any_point_leaves_the_packets_that_it_counted_and_nothing_else() {
    for point in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = in_a_process_of_its_own(&[], "held::child_until_killed", &dir.path().join("o"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let counts = lines.filter_map(|line| line.strip_prefix("written ")?.parse::<usize>().ok());
        let enough = 500 + 397 * point;
        let counted = counts.into_iter().find(|&frames| frames > enough).expect("the child writes");
        child.kill().unwrap();
        child.wait().unwrap();
        let numbers = whole_packets(&dir.path().join(".o.partial"));
        assert!(numbers.len() >= counted, "{} of at least {counted}", numbers.len());
        assert!((0..).zip(&numbers).all(|(expected, &number)| expected == number));
    }
}

#[test]
#[ignore = "run by another test, which kills it"]
fn child_until_killed() {
    let pcap = Pcap::builder(Target::file(path_from_parent())).build().unwrap();
    let mut sink = patient_worker(&pcap);
    let start = Instant::now();
    let mut offered = 0;
    // The parent kills it long before this.
    while start.elapsed() < Duration::from_secs(60) {
        offer(&mut *sink, &numbered(offered, 100)).unwrap();
        offered += 100;
        println!("written {}", sink.stats().written);
    }
}
