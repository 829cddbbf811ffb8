//! Packets, interfaces and statistics, read by other programs.

use super::*;
use crate::sink::{
    handoff,
    origin::{OriginKey, OriginNames},
    pcap::format::{Interface, PacketHead, interface_description},
    testing::{offer, sessions},
};

/// Writes the frames with one worker; returns the factory's result.
fn write(builder: PcapBuilder, frames: &[Outer], report: &mut Report) {
    let pcap = builder.build().unwrap();
    let mut sink = worker(&pcap);
    offer(&mut *sink, frames).unwrap();
    sink.finish().unwrap();
    assert_eq!(sink.stats(), written(frames.len() as u64));
    pcap.close(report).unwrap();
}

#[test]
fn frames_read_back_are_those_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    let mut frames = some_frames(5000);
    frames[17] = frames[17].clone().cut_by(1000);
    // Small blocks, so that packets reach their end.
    write(Pcap::builder(Target::file(&path)).block_size(8192).blocks(4096), &frames, &mut report());
    let contents = read(&path);
    assert_eq!(contents.application, concat!("mirror ", env!("CARGO_PKG_VERSION")));
    assert_eq!(contents.interfaces, ["vni-7@10.0.0.1", "vni-7@10.0.0.2"]);
    assert_eq!(contents.packets.len(), frames.len());
    for (i, (packet, frame)) in contents.packets.iter().zip(&frames).enumerate() {
        let interface = contents.interfaces[usize::from(i % 3 == 2)].clone();
        let original = frame.frame().wire_len();
        let expected =
            Packet { interface, time: frame.frame().time(), original, data: frame.inner().to_vec() };
        assert_eq!(*packet, expected, "packet {i}");
    }
    assert_eq!(contents.packets[17].original as usize, frames[17].inner().len() + 1000);
}

#[test]
fn tshark_and_capinfos_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    let frames = some_frames(300);
    write(Pcap::builder(Target::file(&path)), &frames, &mut report());
    let seen = tshark(&path, &["frame.interface_name", "frame.time_epoch", "frame.len", "frame.cap_len"]);
    let expected: Vec<_> = frames
        .iter()
        .map(|frame| {
            let (time, len) = (frame.frame().time(), frame.inner().len());
            let (s, ns) = (time / 1_000_000_000, time % 1_000_000_000);
            format!("vni-7@{}\t{s}.{ns:09}\t{len}\t{len}", frame.frame().source())
        })
        .collect();
    assert_eq!(seen, expected);
    let infos = output_of("capinfos", &["-M"], &path);
    let value = |name: &str| {
        let line = infos.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {infos}")).trim().to_owned()
    };
    assert_eq!(value("Number of packets:"), "300");
    assert_eq!(value("File encapsulation:"), "ether");
    assert_eq!(value("Number of interfaces in file:"), "2");
    assert_eq!(value("Name ="), "vni-7@10.0.0.1");
    assert!(value("File timestamp precision:").starts_with("nanoseconds"), "{infos}");
    assert_eq!(value("Number of stat entries ="), "1");
}

#[test]
fn classic_pcap_keeps_times_to_the_nanosecond() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcap");
    let frames = vec![Outer::new([10, 0, 0, 1], 7, &[9; 61]).at(1_700_000_000_123_456_789).cut_by(39)];
    write(Pcap::builder(Target::file(&path)).format(Format::Pcap), &frames, &mut report());
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((&bytes[..4], bytes.len()), (&[0x4d, 0x3c, 0xb2, 0xa1][..], 24 + 16 + 61));
    let fields = ["frame.time_epoch", "frame.len", "frame.cap_len", "frame.encap_type"];
    assert_eq!(tshark(&path, &fields), ["1700000000.123456789\t100\t61\t1"]);
}

#[test]
fn outer_frames_are_written_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    let frames = some_frames(3);
    write(Pcap::builder(Target::file(&path)).outer(true), &frames, &mut report());
    let contents = read(&path);
    for (packet, frame) in contents.packets.iter().zip(&frames) {
        assert_eq!((&packet.data[..], packet.original as usize), (frame.bytes(), frame.bytes().len()));
    }
    assert_eq!(tshark(&path, &["vxlan.vni"]), ["7", "7", "7"]);
}

#[test]
fn a_snap_length_truncates_and_keeps_the_original_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    let frames = some_frames(2);
    write(Pcap::builder(Target::file(&path)).snaplen(33), &frames, &mut report());
    for (packet, frame) in read(&path).packets.iter().zip(&frames) {
        assert_eq!((&packet.data[..], packet.original as usize), (&frame.inner()[..33], frame.inner().len()));
    }
    let infos = output_of("capinfos", &["-I"], &path);
    assert!(infos.contains("Capture length = 33\n"), "{infos}");
}

#[test]
fn a_snap_length_of_0_does_not_truncate() {
    let pcap = Pcap::builder(Target::writer("test", io::sink())).snaplen(0).build().unwrap();
    assert_eq!(pcap.settings.snaplen, 262_144);
}

#[test]
fn origins_beyond_the_bound_share_one_interface() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    let frames: Vec<_> = (0..1000).map(|vni| Outer::new([10, 0, 0, 1], vni, &[0; 60])).collect();
    write(Pcap::builder(Target::file(&path)).max_interfaces(16), &frames, &mut report());
    let contents = read(&path);
    assert_eq!(contents.interfaces.len(), 17);
    assert_eq!((&*contents.interfaces[15], &*contents.interfaces[16]), ("vni-15@10.0.0.1", "other"));
    let other = contents.packets.iter().filter(|packet| packet.interface == "other").count();
    assert_eq!((contents.packets.len(), other), (1000, 984));
    assert_eq!(contents.statistics[16].delivered, 984);
}

#[test]
fn statistics_have_the_losses_of_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    write(Pcap::builder(Target::file(&path)), &some_frames(9), &mut report_with_losses(30, 7, 3));
    let of = |interface, frames| Seen {
        interface,
        received: frames,
        dropped: 40,
        dropped_by_system: 40,
        delivered: frames,
    };
    assert_eq!(read(&path).statistics, [of(0, 6), of(1, 3)]);
}

#[test]
fn workers_share_a_file_and_each_keeps_its_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcapng");
    let pcap = Pcap::builder(Target::file(&path)).block_size(8192).blocks(4096).build().unwrap();
    let frames: Vec<Vec<_>> = (0..2_u8)
        .map(|worker| {
            let frame = |i| Outer::new([10, 0, 0, 1 + i % 2], worker.into(), &[i; 60]).at(i.into());
            (0..250).map(frame).collect()
        })
        .collect();
    thread::scope(|scope| {
        for frames in &frames {
            scope.spawn(|| {
                let mut sink = worker(&pcap);
                offer(&mut *sink, frames).unwrap();
                sink.finish().unwrap();
            });
        }
    });
    pcap.close(&report()).unwrap();
    let contents = read(&path);
    assert_eq!(contents.interfaces.len(), 4);
    for worker in 0..2 {
        let prefix = format!("vni-{worker}@");
        let times: Vec<_> =
            contents.packets.iter().filter(|p| p.interface.starts_with(&prefix)).map(|p| p.time).collect();
        assert_eq!(times, (0..250).collect::<Vec<_>>());
    }
}

#[test]
fn a_capture_without_packets_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    for (name, format) in [("a.pcapng", Format::Pcapng), ("a.pcap", Format::Pcap)] {
        let path = dir.path().join(name);
        write(Pcap::builder(Target::file(&path)).format(format), &[], &mut report());
        assert_eq!(tshark(&path, &["frame.len"]), [""; 0]);
        // libpcap, unlike tshark, needs an interface.
        let tcpdump = Command::new("tcpdump").arg("-nr").arg(&path).output().unwrap();
        assert!(tcpdump.status.success() && tcpdump.stdout.is_empty(), "{name}: {tcpdump:?}");
    }
}

#[test]
fn padding_is_zero_also_in_a_used_block() {
    let frame = Outer::new([10, 0, 0, 1], 7, &[9; 61]);
    let head = PacketHead { interface: 3, time: 1 << 32 | 2, captured: 61, original: 70 };
    // A new block is not zero.
    let mut block = handoff::Block::new(256, 0);
    let out = block.push(Format::Pcapng.packet_len(61)).unwrap();
    Format::Pcapng.put_packet(out, head, frame.frame().inner());
    let words: Vec<u32> =
        block.bytes().chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    // Enhanced Packet Block, draft-ietf-opsawg-pcapng section 4.3.
    assert_eq!(words[..7], [6, 96, 3, 1, 2, 61, 70]);
    assert_eq!(words[22..], [9, 96]);
}

#[test]
fn an_interface_has_the_name_of_its_session_and_a_comment_about_it() {
    let names = OriginNames::from(sessions());
    let described = |vni| {
        let key = OriginKey::new([10, 0, 0, 1].into(), vni);
        let block = interface_description(Interface::Origin(key), &names, 1500);
        let (_, block) = pcap_parser::pcapng::parse_interfacedescriptionblock_le(&block).unwrap();
        let comment = block.options.iter().find(|option| option.code == pcap_parser::OptionCode::Comment);
        let comment = comment.map(|option| option.as_str().unwrap().to_owned());
        (block.if_name().unwrap().unwrap().to_owned(), comment)
    };
    let comment = "session tms-1, interface eni-1, owner 111122223333, Name=web 1";
    assert_eq!(described(7), ("web-1.vni-7@10.0.0.1".to_owned(), Some(comment.to_owned())));
    assert_eq!(described(8), ("vni-8@10.0.0.1".to_owned(), None));
}

#[test]
fn the_file_of_an_origin_has_the_name_of_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Pcap::builder(Target::file(dir.path().join("o.pcapng"))).per_origin(3).sessions(sessions());
    let frames = [7, 8].map(|vni| Outer::new([10, 0, 0, 1], vni, &[1; 60]));
    write(builder, &frames, &mut report());
    assert_eq!(names(dir.path()), ["o-vni-8@10.0.0.1.pcapng", "o-web-1.vni-7@10.0.0.1.pcapng"]);
}
