//! Captures of many files: by size, by time, on demand, in a ring, by origin, compressed, with a minimum of
//! free space.

use std::{
    fs,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::*;
use crate::sink::testing::offer;

/// A capture of whole frames.
fn capture(builder: PcapBuilder, frames: &[Outer]) {
    let pcap = builder.build().unwrap();
    let mut sink = worker(&pcap);
    put(&mut *sink, frames);
    sink.finish().unwrap();
    assert_eq!(sink.stats(), written(frames.len() as u64));
    pcap.close(&report()).unwrap();
}

/// Packets of these files, each of which must be complete and count its packets.
fn packets(dir: &Path, files: &[impl AsRef<str>]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for file in files {
        let contents = read(&dir.join(file.as_ref()));
        let delivered: u64 = contents.statistics.iter().map(|seen| seen.delivered).sum();
        assert_eq!(delivered, contents.packets.len() as u64, "{}", file.as_ref());
        all.extend(contents.packets.into_iter().map(|packet| packet.data));
    }
    all
}

fn inner(frames: &[Outer]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.inner().to_vec()).collect()
}

fn numbered(name: &str, numbers: Range<usize>) -> Vec<String> {
    numbers.map(|number| if number == 0 { name.to_owned() } else { format!("{name}{number}") }).collect()
}

#[test]
fn a_file_ends_with_the_packet_that_exceeds_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let frames = some_frames(1000);
    capture(Pcap::builder(Target::file(dir.path().join("o.pcapng"))).rotate_size(10_000), &frames);
    let files = numbered("o.pcapng", 0..names(dir.path()).len());
    assert!(files.len() > 5, "{files:?}");
    assert_eq!(packets(dir.path(), &files), inner(&frames));
    // At most one packet and the statistics of two interfaces more.
    for file in &files[..files.len() - 1] {
        let len = fs::metadata(dir.path().join(file)).unwrap().len();
        assert!((10_001..10_500).contains(&len), "{file}: {len}");
    }
}

#[test]
fn a_classic_pcap_file_has_the_size_of_one_by_tcpdump() {
    let dir = tempfile::tempdir().unwrap();
    let frames = vec![Outer::new([10, 0, 0, 1], 7, &[0; 84]); 50];
    let path = dir.path().join("o.pcap");
    capture(Pcap::builder(Target::file(path)).format(Format::Pcap).rotate_size(1024), &frames);
    // A header of 24 bytes and 100 per packet: the file has exactly 1024 bytes after the tenth.
    assert_eq!(fs::metadata(dir.path().join("o.pcap1")).unwrap().len(), 24 + 11 * 100);
    assert_eq!(names(dir.path()).len(), 50_usize.div_ceil(11));
    for name in names(dir.path()) {
        let packets = tshark(&dir.path().join(&name), &["frame.len"]).len();
        assert!(packets == 11 || packets == 50 % 11, "{name}: {packets}");
    }
}

#[test]
fn a_size_below_the_header_gives_one_packet_per_file() {
    let dir = tempfile::tempdir().unwrap();
    let frames = some_frames(5);
    capture(Pcap::builder(Target::file(dir.path().join("o"))).rotate_size(1), &frames);
    assert_eq!(packets(dir.path(), &numbered("o", 0..5)), inner(&frames));
    assert_eq!(names(dir.path()).len(), 5);
}

#[test]
fn a_ring_keeps_the_last_files() {
    let dir = tempfile::tempdir().unwrap();
    let frames = some_frames(25);
    let builder = Pcap::builder(Target::file(dir.path().join("o"))).rotate_size(1).max_files(11);
    capture(builder, &frames);
    let files: Vec<_> = (0..11).map(|number| format!("o{number:02}")).collect();
    assert_eq!(names(dir.path()), files);
    // Files 3 to 10 were written in the second round, 0 to 2 in the third.
    let kept = [&frames[22..25], &frames[14..22]].concat();
    assert_eq!(packets(dir.path(), &files), inner(&kept));
}

#[test]
fn a_ring_refuses_taken_names_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("o7"), "precious").unwrap();
    let builder = Pcap::builder(Target::file(dir.path().join("o"))).rotate_size(1).max_files(10);
    let error = builder.build().unwrap_err().to_string();
    assert!(error.ends_with("o7: already exists; remove it or choose another name"), "{error}");
    assert_eq!(names(dir.path()), ["o7"]);
}

#[test]
fn a_ring_replaces_only_its_own_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o");
    let pcap = Pcap::builder(Target::file(&path)).rotate_size(1).max_files(2).build().unwrap();
    let mut sink = worker(&pcap);
    put(&mut *sink, &some_frames(2));
    // The first was moved away, and another file has its name.
    fs::rename(dir.path().join("o0"), dir.path().join("moved")).unwrap();
    fs::write(dir.path().join("o0"), "precious").unwrap();
    put(&mut *sink, &some_frames(1));
    let error = sink.finish().unwrap_err().to_string();
    assert!(error.contains("o0: already exists and is not of this run"), "{error}");
    assert_eq!((sink.stats().written, sink.stats().failed.total()), (2, 1));
    pcap.close(&report()).unwrap_err();
    assert_eq!(fs::read_to_string(dir.path().join("o0")).unwrap(), "precious");
    assert_eq!(names(dir.path()), ["moved", "o0", "o1"]);
}

#[test]
fn a_name_taken_during_a_run_stops_the_sink_and_keeps_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("o2"), "precious").unwrap();
    let pcap = Pcap::builder(Target::file(dir.path().join("o"))).rotate_size(1).build().unwrap();
    let mut sink = worker(&pcap);
    let frames = some_frames(3);
    put(&mut *sink, &frames);
    let error = sink.finish().unwrap_err().to_string();
    assert!(error.contains("o2: already exists") && error.contains("(2 frames written)"), "{error}");
    pcap.close(&report()).unwrap_err();
    assert_eq!(packets(dir.path(), &["o", "o1"]), inner(&frames[..2]));
    assert_eq!(fs::read_to_string(dir.path().join("o2")).unwrap(), "precious");
}

#[test]
fn files_rotate_by_time_without_frames_and_the_last_interval_calls_the_hook() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, over) = crossbeam_channel::bounded(1);
    let pcap = Pcap::builder(Target::file(dir.path().join("o-%Y.pcapng")))
        .rotate_every(Duration::from_millis(300))
        .max_files(3)
        .on_last(move || sender.send(()).unwrap())
        .build()
        .unwrap();
    let mut sink = worker(&pcap);
    let frames = some_frames(10);
    put(&mut *sink, &frames[..5]);
    over.recv_timeout(Duration::from_secs(60)).unwrap();
    // The run has not ended yet: frames go to the last file.
    put(&mut *sink, &frames[5..]);
    sink.finish().unwrap();
    pcap.close(&report()).unwrap();
    // All intervals are in the same year: numbers distinguish the files.
    let files = numbered(&format!("o-{}.pcapng", jiff::Zoned::now().year()), 0..3);
    assert_eq!(names(dir.path()), files);
    assert_eq!(packets(dir.path(), &files), inner(&frames));
    assert_eq!(packets(dir.path(), &files[1..2]), [[0; 0]; 0]);
}

#[test]
fn a_file_rotated_on_demand_has_the_next_free_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("o2"), "precious").unwrap();
    let pcap = Pcap::builder(Target::file(path("o"))).build().unwrap();
    let (mut sink, rotator) = (worker(&pcap), pcap.rotator().unwrap());
    let frames = some_frames(5);
    // Until the next file has its name too.
    let has_begun = || names(dir.path()).iter().any(|name| name.ends_with(".partial"));
    let rotate = |files| {
        rotator.rotate();
        while rotator.completed().files < files || !has_begun() {
            thread::yield_now();
        }
    };
    for (done, frame) in frames[..3].iter().enumerate() {
        put(&mut *sink, std::slice::from_ref(frame));
        rotate(done as u64 + 1);
    }
    // As logrotate does.
    fs::rename(path("o"), path("o.old")).unwrap();
    put(&mut *sink, &frames[3..4]);
    rotate(4);
    put(&mut *sink, &frames[4..]);
    sink.finish().unwrap();
    pcap.close(&report()).unwrap();
    assert_eq!(names(dir.path()), ["o", "o.old", "o1", "o2", "o3", "o4"]);
    assert_eq!(packets(dir.path(), &["o.old", "o1", "o3", "o4", "o"]), inner(&frames));
    assert_eq!(rotator.completed().last, Some(path("o")));
}

#[test]
fn a_repeated_name_gets_a_number() {
    let dir = tempfile::tempdir().unwrap();
    // Tenths of a second: ten names.
    let builder =
        Pcap::builder(Target::file(dir.path().join("o-%1f"))).rotate_every(Duration::from_secs(3600));
    let pcap = builder.build().unwrap();
    let (mut sink, rotator) = (worker(&pcap), pcap.rotator().unwrap());
    let frames = some_frames(20);
    for (done, frame) in frames.iter().enumerate() {
        put(&mut *sink, std::slice::from_ref(frame));
        thread::sleep(Duration::from_millis(110));
        rotator.rotate();
        while rotator.completed().files < done as u64 + 1 {
            thread::yield_now();
        }
    }
    sink.finish().unwrap();
    assert_eq!(sink.stats(), written(20));
    pcap.close(&report()).unwrap();
    let files = names(dir.path());
    assert_eq!(files.len(), 21, "{files:?}");
    assert!(files.iter().any(|name| name.len() > "o-0".len()), "{files:?}");
    assert_eq!(packets(dir.path(), &files).len(), 20);
}

#[test]
fn the_hook_runs_for_each_file_after_its_rename() {
    let dir = tempfile::tempdir().unwrap();
    let completed = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let completed = Arc::clone(&completed);
        move |path: &Path| completed.lock().unwrap().push((path.to_owned(), read(path).packets.len()))
    };
    let builder = Pcap::builder(Target::file(dir.path().join("o"))).rotate_size(1).on_file(hook);
    capture(builder, &some_frames(3));
    let expected: Vec<_> = numbered("o", 0..3).iter().map(|name| (dir.path().join(name), 1)).collect();
    assert_eq!(*completed.lock().unwrap(), expected);
}

#[test]
fn losses_are_in_the_statistics_of_the_file_of_that_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o");
    let pcap = Pcap::builder(Target::file(path)).block_size(4096).build().unwrap();
    let (mut sink, rotator) = (worker(&pcap), pcap.rotator().unwrap());
    // Larger than a block: dropped.
    let large = Outer::new([10, 0, 0, 1], 7, &[0; 9000]);
    put(&mut *sink, &[large.clone(), large.clone()]);
    put(&mut *sink, &some_frames(2));
    sink.tick(Instant::now());
    rotator.rotate();
    while rotator.completed().files == 0 {
        thread::yield_now();
    }
    put(&mut *sink, &[large]);
    put(&mut *sink, &some_frames(3));
    sink.finish().unwrap();
    pcap.close(&report_with_losses(5, 0, 0)).unwrap();
    let seen = |file: &str| {
        let contents = read(&dir.path().join(file));
        contents
            .statistics
            .iter()
            .map(|seen| (seen.received, seen.delivered, seen.dropped))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen("o"), [(4, 2, 2)]);
    assert_eq!(seen("o1"), [(3, 2, 6), (1, 1, 5)]);
}

#[test]
fn gzip_zstd_and_tshark_read_compressed_files() {
    for (name, program) in [("o.pcapng.gz", "gzip"), ("o.pcapng.zst", "zstd")] {
        if cfg!(not(feature = "zstd")) && program == "zstd" {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let frames = some_frames(1000);
        capture(Pcap::builder(Target::file(dir.path().join(name))).rotate_size(30_000), &frames);
        let files = names(dir.path());
        assert!(files.len() > 2 && files.contains(&name.replace("pcapng", "pcapng1")), "{files:?}");
        let mut all = 0;
        for file in &files {
            let path = dir.path().join(file);
            output_of(program, &["-t"], &path);
            all += tshark(&path, &["frame.len"]).len();
            output_of(program, &["-d", "-q"], &path);
            let unpacked = path.with_extension("");
            let len = fs::metadata(&unpacked).unwrap().len();
            let last = *file == format!("o.pcapng{}.{}", files.len() - 1, &name[9..]);
            assert!(last || len > 30_000, "{file}: {len} before compression");
            read(&unpacked);
        }
        assert_eq!(all, 1000);
    }
}

#[test]
fn a_compressed_file_is_readable_to_the_last_block_while_written() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = Pcap::builder(Target::file(dir.path().join("o.gz"))).build().unwrap();
    let mut sink = worker(&pcap);
    put(&mut *sink, &some_frames(250));
    assert_eq!(sink.stats(), written(250), "they count as written");
    let hidden = pcap.hidden_path().unwrap();
    let plain = dir.path().join("plain");
    let unpacked = Command::new("gzip").args(["-dc"]).stdin(File::open(hidden).unwrap()).output().unwrap();
    assert!(unpacked.status.success());
    fs::write(&plain, unpacked.stdout).unwrap();
    assert_eq!(read(&plain).packets.len(), 250);
}

/// Frames of this many origins in turn.
fn of_origins(origins: u32, count: u32) -> Vec<Outer> {
    let frame =
        |i: u32| Outer::new([10, 0, 0, 1], i % origins, &i.to_be_bytes().repeat(20)).at(u64::from(i) << 30);
    (0..count).map(frame).collect()
}

#[test]
fn each_origin_has_a_file_and_those_beyond_the_bound_share_one() {
    for format in [Format::Pcapng, Format::Pcap] {
        let dir = tempfile::tempdir().unwrap();
        let frames = of_origins(5, 500);
        capture(Pcap::builder(Target::file(dir.path().join("o.cap"))).format(format).per_origin(3), &frames);
        let names = names(dir.path());
        assert_eq!(
            names,
            ["o-other.cap", "o-vni-0@10.0.0.1.cap", "o-vni-1@10.0.0.1.cap", "o-vni-2@10.0.0.1.cap"]
        );
        for (name, vnis) in names.iter().zip([vec![3, 4], vec![0], vec![1], vec![2]]) {
            let path = dir.path().join(name);
            let theirs: Vec<_> = frames.iter().filter(|frame| vnis.contains(&frame.vni())).collect();
            let times: Vec<_> = theirs
                .iter()
                .map(|frame| {
                    let time = frame.captured().time();
                    format!("{}.{:09}\t80", time / 1_000_000_000, time % 1_000_000_000)
                })
                .collect();
            assert_eq!(tshark(&path, &["frame.time_epoch", "frame.len"]), times, "{name}");
            if format == Format::Pcapng {
                let contents = read(&path);
                let interfaces: Vec<_> = vnis.iter().map(|vni| format!("vni-{vni}@10.0.0.1")).collect();
                assert_eq!(contents.interfaces, interfaces);
                assert!(
                    contents.packets.iter().zip(&theirs).all(|(packet, frame)| packet.data == frame.inner()
                        && packet.interface == format!("vni-{}@10.0.0.1", frame.vni()))
                );
                let delivered: Vec<_> = contents.statistics.iter().map(|seen| seen.delivered).collect();
                assert_eq!(delivered, vec![100; vnis.len()]);
            }
        }
    }
}

#[test]
fn files_per_origin_have_the_same_packet_time_intervals() {
    let dir = tempfile::tempdir().unwrap();
    // In one block, which the writer sorts by origin: early frames of the second follow late ones of the
    // first.
    let at =
        |origin: u8, second: u64| Outer::new([10, 0, 0, origin], 7, &[origin; 60]).at(second * 1_000_000_000);
    let seconds = [0, 3, 9, 10, 12, 31];
    let frames: Vec<_> =
        seconds.iter().flat_map(|second| [at(1, 100 + second), at(2, 100 + second)]).collect();
    for format in [Format::Pcapng, Format::Pcap, Format::PcapMicros] {
        let builder = Pcap::builder(Target::file(dir.path().join("o-%s"))).format(format);
        let every = Duration::from_secs(10);
        let pcap = builder.per_origin(3).rotate_every_by_packets(every).build().unwrap();
        let mut sink = worker(&pcap);
        offer(&mut *sink, &frames).unwrap();
        sink.finish().unwrap();
        assert_eq!(sink.stats(), written(12));
        pcap.close(&report()).unwrap();
        let expected =
            [100, 110, 131].map(|second| [1, 2].map(|last| format!("o-{second}-vni-7@10.0.0.{last}")));
        assert_eq!(names(dir.path()), expected.concat());
        for (file, times) in expected.iter().flatten().zip([3, 3, 2, 2, 1, 1]) {
            let found = tshark(&dir.path().join(file), &["frame.time_epoch"]);
            assert_eq!(found.len(), times, "{file}: {found:?}");
            fs::remove_file(dir.path().join(file)).unwrap();
        }
    }
}

#[test]
fn frames_after_the_last_interval_are_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let ended = Arc::new(Mutex::new(0));
    let count = Arc::clone(&ended);
    let frames: Vec<_> =
        (0..50).map(|second| Outer::new([10, 0, 0, 1], 7, &[1; 60]).at(second * 1_000_000_000)).collect();
    let pcap = Pcap::builder(Target::file(dir.path().join("o")))
        .rotate_every_by_packets(Duration::from_secs(10))
        .max_files(2)
        .on_last(move || *count.lock().unwrap() += 1)
        .build()
        .unwrap();
    let mut sink = worker(&pcap);
    put(&mut *sink, &frames);
    sink.finish().unwrap();
    let stats = sink.stats();
    assert_eq!(
        (stats.written, stats.dropped.iter().collect::<Vec<_>>()),
        (20, vec![("after_last_file", 30)])
    );
    pcap.close(&report()).unwrap();
    assert_eq!((names(dir.path()), *ended.lock().unwrap()), (vec!["o".to_owned(), "o1".to_owned()], 1));
    let lost: u64 = ["o", "o1"]
        .iter()
        .flat_map(|file| read(&dir.path().join(file)).statistics)
        .map(|seen| seen.dropped)
        .sum();
    assert_eq!(lost, 30, "they are in the statistics");
}

#[test]
fn each_origin_rotates_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut frames = of_origins(1, 50);
    // Its address is that of the other with a number appended.
    frames.extend((0..5).map(|_| Outer::new([10, 0, 0, 11], 0, &[0; 60])));
    frames.extend((0..5).map(|_| Outer::new([10, 0, 0, 1], 9, &[0; 60])));
    let builder = Pcap::builder(Target::file(dir.path().join("o"))).rotate_size(2_000).per_origin(256);
    capture(builder, &frames);
    let files = names(dir.path());
    assert_eq!(files.iter().filter(|name| name.contains("vni-9@")).count(), 1);
    assert!(files.len() > 3 && files.contains(&"o-vni-0@10.0.0.1".to_owned()), "{files:?}");
    assert!(files.contains(&"o-vni-0@10.0.0.1-1".to_owned()), "{files:?}");
    assert_eq!(packets(dir.path(), &files).len(), 60);
}

#[test]
fn headers_only_keeps_the_original_length() {
    for (outer, before) in [(false, 0), (true, 50)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.pcapng");
        let inner =
            mirror_lab::frames::inner_udp(([10, 0, 0, 1].into(), 1), ([10, 0, 0, 2].into(), 9), &[0x5a; 500]);
        let inner = inner.unwrap();
        let frames = [Outer::new([10, 0, 0, 1], 7, &inner)];
        capture(Pcap::builder(Target::file(&path)).headers_only(true).outer(outer), &frames);
        let fields = ["frame.cap_len", "frame.len", "udp.dstport", "data.len"];
        let (captured, whole) = (before + 42, before + 542);
        let ports = if outer { "4789,9" } else { "9" };
        assert_eq!(tshark(&path, &fields), [format!("{captured}\t{whole}\t{ports}\t")]);
    }
}

#[test]
fn options_of_files_are_refused_for_a_stream() {
    for builder in [
        Pcap::builder(Target::stdout()).rotate_size(1),
        Pcap::builder(Target::stdout()).per_origin(1),
        Pcap::builder(Target::stdout()).min_free(1, WhenFull::Stop),
    ] {
        assert!(builder.build().unwrap_err().to_string().starts_with("standard output: not a file"));
    }
}

#[test]
fn too_little_space_at_the_start_is_waited_for_unless_set_to_stop() {
    for (when_full, words) in [
        (WhenFull::Wait, "; free space to continue"),
        (WhenFull::Delete, "no file of this run is left to delete; free space to continue"),
        (WhenFull::Stop, " (0 frames written); free space and start again"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let builder = Pcap::builder(Target::file(dir.path().join("o"))).min_free(u64::MAX, when_full);
        let pcap = builder.build().unwrap();
        let mut sink = worker(&pcap);
        put(&mut *sink, &some_frames(3));
        let ended = sink.finish();
        let halt = pcap.halted().unwrap();
        assert!(halt.reason.contains("bytes are free, below the minimum of"), "{halt:?}");
        assert!(halt.reason.contains(words), "{halt:?}");
        let stops = when_full == WhenFull::Stop;
        assert_eq!((ended.is_err(), halt.is_final()), (stops, stops));
        let SinkStats { failed, dropped, .. } = sink.stats();
        assert_eq!((failed.total(), dropped.total()), if stops { (3, 0) } else { (0, 3) });
    }
}

#[test]
fn a_kept_file_is_neither_deleted_for_space_nor_replaced_in_a_ring() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Arc::new(AtomicBool::new(true));
    let keeps = {
        let kept = Arc::clone(&kept);
        move |path: &Path| path.ends_with("o0") && kept.load(Ordering::Relaxed)
    };
    let builder = Pcap::builder(Target::file(dir.path().join("o"))).rotate_size(1).max_files(2);
    let pcap = builder.keep_while(keeps).build().unwrap();
    let mut sink = worker(&pcap);
    // The third is written next to the first, and gets its name when a fourth packet would complete it.
    for frame in &some_frames(3) {
        put(&mut *sink, std::slice::from_ref(frame));
    }
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait("three are written", &|| sink.stats().written == 3);
    assert_eq!(pcap.halted(), None, "nothing is lost so far");
    put(&mut *sink, &some_frames(1));
    wait("it waits", &|| pcap.halted().is_some());
    assert!(pcap.halted().unwrap().reason.contains("o0: the command for the earlier file"));
    let first = read(&dir.path().join("o0")).packets;
    assert_eq!(first.len(), 1);
    kept.store(false, Ordering::Relaxed);
    wait("it resumes by itself", &|| pcap.halted().is_none());
    put(&mut *sink, &some_frames(1));
    sink.finish().unwrap();
    let stats = sink.stats();
    assert_eq!((stats.written, stats.dropped.total(), stats.failed.total()), (4, 1, 0), "{stats:?}");
    pcap.close(&report()).unwrap();
    assert_eq!(names(dir.path()), ["o0", "o1"]);
    assert_eq!(pcap.halted(), None);
}

#[test]
fn only_the_oldest_files_are_deleted_to_keep_space_free() {
    let dir = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=1m,mode=700 none "$MIRROR_TEST_PATH" && exec "$@""#;
    let wrapper = ["unshare", "-m", "sh", "-c", mount, "sh"];
    let test = "rotated::child_with_a_minimum_of_free_space";
    let status = in_a_process_of_its_own(&wrapper, test, dir.path()).status().unwrap();
    assert!(status.success(), "on a disk of 1 MiB (mounting one takes root): {status}");
}

#[test]
#[ignore = "run by another test, on a disk of 1 MiB"]
fn child_with_a_minimum_of_free_space() {
    let dir = path_from_parent();
    let free = || {
        let space = rustix::fs::statvfs(&dir).unwrap();
        space.f_bavail * space.f_frsize
    };
    fs::write(dir.join("o"), "precious").unwrap();
    let frames = some_frames(20_000);
    let build = |name: &str, when_full| {
        Pcap::builder(Target::file(dir.join(name)))
            .block_size(16 << 10)
            .rotate_size(100_000)
            .min_free(400_000, when_full)
            .build()
            .unwrap()
    };
    let pcap = build("deleting", WhenFull::Delete);
    let mut sink = worker(&pcap);
    put(&mut *sink, &frames);
    sink.finish().unwrap();
    assert_eq!(sink.stats(), written(20_000));
    pcap.close(&report()).unwrap();
    assert!(free() > 390_000, "{}", free());
    let files = names(&dir).len();
    assert!((4..8).contains(&files), "{:?}", names(&dir));
    let completed = pcap.rotator().unwrap().completed();
    assert!(completed.files > 10, "{completed:?}");
    // The last packets are there without a gap.
    let last = packets(&dir, &[completed.last.unwrap().file_name().unwrap().to_str().unwrap()]);
    assert_eq!(last.last(), inner(&frames).last());

    fs::write(dir.join("theirs"), [1; 100_000]).unwrap();
    let files = names(&dir).len();
    let pcap = build("stopping", WhenFull::Stop);
    let mut sink = worker(&pcap);
    put(&mut *sink, &frames[..1]);
    let error = sink.finish().unwrap_err().to_string();
    assert!(error.contains("below the minimum of 400000 (0 frames written)"), "{error}");
    pcap.close(&report()).unwrap_err();
    assert!(names(&dir).len() >= files, "nothing was deleted");
    assert_eq!(fs::read_to_string(dir.join("o")).unwrap(), "precious");
}
