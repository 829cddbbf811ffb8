//! The kernel's mirror source, with tcpdump on both ends and tshark between them. Needs root.

use mirror_lab::{
    Exchange, Lab, MirrorSource, MirrorSourceOptions, Result, Testimony, Witness, capture::multiset, tshark,
};

const EXCHANGES: [Exchange; 4] =
    [Exchange::Get(0), Exchange::Get(300_000), Exchange::PostEcho(50_000), Exchange::Get(1)];

struct Seen {
    at_source: Testimony,
    at_target: Vec<tshark::InnerFrame>,
    malformed: String,
}

fn mirror(options: &MirrorSourceOptions) -> Result<Seen> {
    let lab = Lab::new()?;
    let directory = tempfile::tempdir().expect("a directory for captures");
    let (source_file, target_file) =
        (directory.path().join("source.pcap"), directory.path().join("target.pcap"));
    let source = MirrorSource::raise(&lab, options)?;
    let at_source = Witness::start(source.source(), source.mirrored_interface(), &source_file, "")?;
    let at_target =
        Witness::start(source.target(), source.capture_interface(), &target_file, "udp port 4789")?;
    source.http(&EXCHANGES)?;
    let (at_source, at_target) = (at_source.stop()?, at_target.stop()?);
    assert_eq!((at_source.dropped, at_target.dropped), (0, 0));
    drop(source);
    lab.teardown()?;
    let malformed = tshark::malformed(&target_file)?;
    Ok(Seen { at_source, at_target: tshark::decapsulate(&target_file)?, malformed })
}

#[test]
fn the_target_gets_every_frame_of_the_source_byte_for_byte() -> Result<()> {
    let seen = mirror(&MirrorSourceOptions::default())?;
    assert!(seen.at_source.frames.len() > 100, "only {} frames", seen.at_source.frames.len());
    assert!(seen.at_target.iter().all(|inner| inner.vni == 12345));
    let inner = seen.at_target.into_iter().map(|inner| inner.bytes).collect();
    assert!(multiset(inner) == multiset(seen.at_source.frames), "inner frames are not those of the source");
    assert_eq!(seen.malformed, "");
    Ok(())
}

#[test]
fn offloads_make_the_source_mirror_super_frames() -> Result<()> {
    let seen = mirror(&MirrorSourceOptions { offloads: true, ..MirrorSourceOptions::default() })?;
    let longest = seen.at_source.frames.iter().map(Vec::len).max();
    assert!(longest > Some(1514), "the source's longest frame has {longest:?} bytes");
    println!("{} frames at the source, {} at the target", seen.at_source.frames.len(), seen.at_target.len());
    Ok(())
}
