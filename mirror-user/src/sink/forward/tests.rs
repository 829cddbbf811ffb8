//! Nothing is allocated per frame, neither by workers nor by sending threads.

use std::{
    fs, io,
    net::TcpListener,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use allocation_counter::measure;
use mirror_lab::{Lab, VethEnd, VethOptions, VethPair};

use super::{
    output::{Device, PcapOverIp, StreamOptions, TapDevice, Transmit, Tunnel, new_socket},
    vlan::{Tagger, Vlans},
    *,
};
use crate::{
    account::MemberReport,
    frame::MAX_BATCH,
    host::tap::TapOptions,
    sink::{
        handoff::Outcome,
        origin::OriginNames,
        pcap::Format,
        testing::{Outer, offer},
    },
};

/// Frames of different flows: UDP from different ports.
fn some_frames(count: u16) -> Vec<Outer> {
    let frame = |port: u16| {
        let mut inner = vec![2; 60];
        inner[12..14].copy_from_slice(&[8, 0]);
        inner[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
        inner[34..36].copy_from_slice(&port.to_be_bytes());
        Outer::new([10, 0, 0, 1], 7, &inner)
    };
    (0..count).map(frame).collect()
}

fn records(frames: &[Outer]) -> Vec<u8> {
    let mut records = Vec::new();
    for frame in frames {
        let frame = frame.frame();
        let start = records.len();
        records.resize(start + record::len(&frame), 0);
        record::put(&frame, &mut records[start..]);
    }
    records
}

#[test]
fn workers_allocate_nothing_for_one_target_or_a_group() {
    let target = || "pcap-over-ip:listen=127.0.0.1:0".parse().unwrap();
    let other = "pcap-over-ip:connect=127.0.0.1:9".parse().unwrap();
    for builder in [Forward::builder(target()), Forward::builder(target()).member(other)] {
        let forward = builder.blocks(4).block_size(16 << 10).build().unwrap();
        let mut sink = forward.build(&WorkerContext::single(2048)).unwrap();
        let frames = some_frames(10_000);
        offer(&mut *sink, &frames[..MAX_BATCH]).unwrap();
        let lent: Vec<_> = frames.iter().map(Outer::frame).collect();
        let allocated = measure(|| {
            for batch in lent.chunks(MAX_BATCH) {
                sink.batch(&crate::Batch::new(0, batch)).unwrap();
                sink.tick(Instant::now());
            }
        });
        assert_eq!(allocated.count_total, 0, "{allocated:?}");
        sink.finish().unwrap();
        let stats = sink.stats();
        assert_eq!((stats.total(), stats.pending), (10_000 + MAX_BATCH as u64, 0));
        drop(sink);
        forward.close(&Report::new("file", SystemTime::now())).unwrap();
    }
}

#[test]
fn live_members_are_those_of_the_last_tick() {
    let target = || "pcap-over-ip:listen=127.0.0.1:0".parse().unwrap();
    let other = "pcap-over-ip:connect=127.0.0.1:9".parse().unwrap();
    let forward = Forward::builder(target()).member(other).build().unwrap();
    let entry = || {
        let (mut entry, mut report) = (SinkReport::default(), Report::new("file", SystemTime::now()));
        for _ in 0..2 {
            forward.report(&mut entry, &mut report);
        }
        (entry.members, report.warnings.len())
    };
    let frames = |members: &[MemberReport]| -> u64 {
        let of =
            |member: &MemberReport| member.written + member.pending + member.dropped.values().sum::<u64>();
        members.iter().map(of).sum()
    };
    let mut sinks: Vec<_> = (0..2).map(|_| forward.build(&WorkerContext::single(2048)).unwrap()).collect();
    let lent = some_frames(40);
    for sink in &mut sinks {
        offer(&mut **sink, &lent).unwrap();
    }
    assert_eq!(frames(&entry().0), 0, "not before a tick");
    sinks.iter_mut().for_each(|sink| sink.tick(Instant::now()));
    let (members, warnings) = entry();
    let no_member: u64 =
        sinks.iter().map(|sink| sink.stats().dropped.iter().map(no_member).sum::<u64>()).sum();
    assert_eq!((members.len(), frames(&members) + no_member), (2, 80));
    assert!(warnings <= 1, "the seed is named once");
    assert!(members.iter().all(|member| member.readers.is_some()));
    sinks.iter_mut().for_each(|sink| sink.finish().unwrap());
    let (members, _) = entry();
    assert_eq!(frames(&members) + no_member, 80);
    assert!(members.iter().all(|member| member.pending == 0), "{members:?}");
    forward.close(&Report::new("file", SystemTime::now())).unwrap();
}

/// Frames dropped because no member was up; they belong to no member.
fn no_member((reason, frames): (&'static str, u64)) -> u64 {
    if reason == "no_member" { frames } else { 0 }
}

/// The same number of allocations for many frames as for few, once buffers have grown.
#[test]
fn outputs_allocate_nothing_per_frame() {
    let lab = Lab::new().unwrap();
    let (near, far) = (lab.namespace("near").unwrap(), lab.namespace("far").unwrap());
    let ends = (VethEnd::new(&near, "out0"), VethEnd::new(&far, "far0"));
    let link = VethPair::create(ends.0, ends.1, &VethOptions::default()).unwrap();
    link.a.address("10.99.0.1/24").unwrap();
    near.ip("neighbour add 10.99.0.2 lladdr 02:00:00:00:00:07 dev out0 nud permanent").unwrap();
    let (few, many) = (records(&some_frames(10)), records(&some_frames(1000)));
    let tagger = || Some(Tagger::new(Vlans::of([])));
    let measured = near.enter(|| {
        let mut outputs: Vec<(&str, Box<dyn Transmit>)> = vec![
            ("tap", Box::new(TapDevice::open("tap0", TapOptions::new(1500), None).unwrap())),
            ("tap with VLANs", Box::new(TapDevice::open("tap1", TapOptions::new(1500), tagger()).unwrap())),
            ("device", Box::new(Device::open("out0", new_socket, tagger()).unwrap())),
            ("tunnel", Box::new(Tunnel::open("10.99.0.2:4789".parse().unwrap(), None, 7).unwrap())),
        ];
        let count = |output: &mut dyn Transmit, records: &[u8], frames: u64| {
            let mut outcome = Outcome::default();
            let allocated = measure(|| output.send(records, &mut outcome)).count_total;
            assert_eq!(outcome, Outcome { written: frames, ..Outcome::default() });
            allocated
        };
        let mut measured = Vec::new();
        for (name, output) in &mut outputs {
            count(&mut **output, &many, 1000);
            measured.push((*name, count(&mut **output, &few, 10), count(&mut **output, &many, 1000)));
        }
        measured
    });
    for (name, few, many) in measured.unwrap() {
        assert_eq!(few, many, "{name}");
    }
}

#[test]
fn a_stream_allocates_nothing_per_frame_but_buffers_of_slow_readers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let options = StreamOptions {
        format: Format::Pcapng,
        community_id: true,
        patient: false,
        names: OriginNames::default(),
    };
    let mut output = PcapOverIp::connect(to, options, Arc::default());
    output.check().unwrap();
    let (mut reader, _) = listener.accept().unwrap();
    let reading = thread::spawn(move || io::copy(&mut reader, &mut io::sink()).unwrap());
    let (few, many) = (records(&some_frames(10)), records(&some_frames(1000)));
    let mut count = |records: &[u8]| {
        let allocated = measure(|| output.send(records, &mut Outcome::default())).count_total;
        // The reader has everything before the next.
        output.drain(Duration::from_secs(5)).unwrap();
        allocated
    };
    count(&many);
    count(&many);
    assert_eq!((count(&few), count(&many)), (0, 0));
    output.finish(Duration::from_secs(5)).unwrap();
    drop(output);
    assert!(reading.join().unwrap() > 0);
}

#[test]
fn libpcap_reads_a_stream_without_packets() {
    let directory = tempfile::tempdir().unwrap();
    for format in [Format::Pcapng, Format::Pcap] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options =
            StreamOptions { format, community_id: false, patient: false, names: OriginNames::default() };
        let mut output = PcapOverIp::connect(listener.local_addr().unwrap(), options, Arc::default());
        output.check().unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        output.finish(Duration::from_secs(5)).unwrap();
        drop(output);
        let file = directory.path().join("stream");
        io::copy(&mut reader, &mut fs::File::create(&file).unwrap()).unwrap();
        let tcpdump = Command::new("tcpdump").arg("-nr").arg(&file).output().unwrap();
        assert!(tcpdump.status.success(), "{format:?}: {tcpdump:?}");
    }
}
