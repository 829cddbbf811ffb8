//! Forged origins do not take interfaces or files from later origins.

use super::*;
use crate::sink::{origin::OriginNames, pcap::Stream};

const TENANT: u32 = 0xff_ffff;

/// This many VNIs, each once.
fn flood(vnis: u32) -> Vec<Outer> {
    (0..vnis).map(|vni| Outer::new([198, 51, 100, 1], vni, &[0; 60])).collect()
}

fn tenant(count: u32) -> Vec<Outer> {
    (0..count).map(|i| Outer::new([10, 0, 0, 1], TENANT, &i.to_be_bytes().repeat(20))).collect()
}

#[test]
fn a_new_file_begins_without_the_interfaces_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = Pcap::builder(Target::file(dir.path().join("o.pcapng"))).build().unwrap();
    let rotator = pcap.rotator().unwrap();
    let mut sink = worker(&pcap);
    put(&mut *sink, &flood(5_000));
    put(&mut *sink, &tenant(10));
    rotator.rotate();
    while rotator.completed().files == 0 {
        thread::yield_now();
    }
    put(&mut *sink, &tenant(10));
    sink.finish().unwrap();
    pcap.close(&report()).unwrap();

    let first = read(&dir.path().join("o.pcapng"));
    assert_eq!((first.interfaces.len(), first.packets.len()), (4097, 5_010));
    assert!(first.packets[5_000..].iter().all(|packet| packet.interface == "other"));
    let second = read(&dir.path().join("o.pcapng1"));
    let tenant = format!("vni-{TENANT}@10.0.0.1");
    assert_eq!(second.interfaces, [&*tenant]);
    assert_eq!(second.packets.len(), 10);
}

#[test]
fn a_tenant_after_a_flood_has_its_own_file_and_the_flood_has_few() {
    for format in [Format::Pcapng, Format::Pcap] {
        let dir = tempfile::tempdir().unwrap();
        let builder = Pcap::builder(Target::file(dir.path().join("o.cap"))).format(format).per_origin(16);
        let pcap = builder.build().unwrap();
        let mut sink = worker(&pcap);
        put(&mut *sink, &flood(5_000));
        put(&mut *sink, &tenant(200));
        sink.finish().unwrap();
        assert_eq!(sink.stats(), written(5_200));
        pcap.close(&report()).unwrap();
        let names = names(dir.path());
        assert_eq!(names.len(), 16 + 1 + 1, "those that came first, the tenant, the others: {names:?}");
        let theirs = dir.path().join(format!("o-vni-{TENANT}@10.0.0.1.cap"));
        assert_eq!(tshark(&theirs, &["frame.number"]).len(), 200);
        let all: usize =
            names.iter().map(|name| tshark(&dir.path().join(name), &["frame.number"]).len()).sum();
        assert_eq!(all, 5_200);
    }
}

#[test]
fn an_origin_that_lost_its_file_gets_another() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = Pcap::builder(Target::file(dir.path().join("o.cap"))).per_origin(1).build().unwrap();
    let mut sink = worker(&pcap);
    let other: Vec<_> = (0..10).map(|_| Outer::new([10, 0, 0, 2], 5, &[0; 60])).collect();
    for frames in [tenant(10), other.clone(), tenant(10), other] {
        put(&mut *sink, &frames);
    }
    sink.finish().unwrap();
    pcap.close(&report()).unwrap();
    // One file is reassigned at once, and then one per second.
    let counts: Vec<_> = names(dir.path())
        .iter()
        .map(|name| (name.clone(), tshark(&dir.path().join(name), &["frame.number"]).len()))
        .collect();
    assert_eq!(counts.iter().map(|(_, packets)| packets).sum::<usize>(), 40, "{counts:?}");
    assert!(counts.len() >= 2, "{counts:?}");
}

#[test]
fn a_reader_that_joins_after_a_flood_gets_the_names_of_its_origins() {
    let mut stream = Stream::new(Format::Pcapng, OriginNames::default());
    let mut readers = [stream.begin(), stream.begin()];
    let parts = [flood(6_000), tenant(500), flood(3), tenant(2)].concat();
    for (number, frames) in parts.chunks(500).enumerate() {
        stream.clear();
        frames.iter().for_each(|frame| stream.put(&frame.frame(), None));
        let from = if number < 12 { 0 } else { 1 };
        // The second has everything except the flood; the first missed a part.
        for (out, announced) in readers[..=from].iter_mut().filter(|_| number != 3) {
            stream.add_to(out, announced);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let interfaces = |reader: usize| {
        let path = dir.path().join(reader.to_string());
        std::fs::write(&path, &readers[reader].0).unwrap();
        assert!(output_of("tcpdump", &["-tnr"], &path).lines().count() > 0);
        let contents = read(&path);
        let data: Vec<_> = contents.packets.iter().map(|packet| packet.data.len()).collect();
        assert_eq!(data.iter().filter(|len| **len == 80).count(), 502);
        contents.packets.into_iter().map(|packet| packet.interface).collect::<Vec<_>>()
    };
    let name = format!("vni-{TENANT}@10.0.0.1");
    let first = interfaces(0);
    assert_eq!((first.len(), &*first[0], &*first[5_500]), (6_005, "vni-0@198.51.100.1", "other"));
    let second = interfaces(1);
    let floods: Vec<_> = (0..3).map(|vni| format!("vni-{vni}@198.51.100.1")).collect();
    assert_eq!(second[500..503], floods);
    assert!(second[..500].iter().chain(&second[503..]).all(|interface| *interface == name));
}
