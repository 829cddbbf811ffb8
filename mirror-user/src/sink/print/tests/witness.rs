//! What tcpdump prints, and where that may differ.

use std::{process::Command, sync::Arc, time::SystemTime};

use super::{Lines, Outer, style};
use crate::{
    Report,
    sink::{
        SinkFactory, WorkerContext,
        pcap::{Format, Pcap, Target},
        testing::offer,
    },
};

/// A difference that the documentation lists: its name, and whether it is one of that kind.
type Difference = (&'static str, fn(&str, &str) -> bool);

const DIFFERENCES: &[Difference] = &[
    ("protocols over TCP", |ours, theirs| {
        let end = ours.find("Flags [").map_or(0, |flags| flags + ours[flags..].find('\n').unwrap_or(0));
        let (line, dump) = ours.split_at(end);
        line.contains(", length ") && theirs.starts_with(line) && theirs.ends_with(dump)
    }),
    ("protocols over UDP", |ours, theirs| starts_alike(ours, theirs, "UDP, ")),
    ("protocols over IP", |ours, theirs| {
        [" ip-proto-", "igmp dvmrp", "igmp pimv1", "igmp-3"]
            .iter()
            .any(|what| starts_alike(ours, theirs, what))
    }),
    ("DCCP, whose ports tcpdump prints beside the addresses", |ours, _| ours.contains(" ip-proto-33 ")),
    ("protocols over Ethernet", |ours, theirs| {
        // A type that tcpdump knows by more than its name.
        let dumped = ours.contains(": \n") && !ours.contains("Unknown");
        dumped || (ours.contains("STP ") && !theirs.contains("Unnumbered"))
    }),
    ("bytes of an empty packet", |ours, theirs| ours == " [|ip]\n" && theirs.starts_with(ours.trim_end())),
    ("extensions of ICMP", |ours, theirs| {
        theirs.strip_suffix(" [|icmp]\n").is_some_and(|start| start == ours.trim_end())
    }),
    ("rare ICMPv6", |ours, theirs| {
        let rare = ["ha discovery", "mobile router", "router renumbering", "node information", "RPL"];
        rare.iter().any(|what| starts_alike(ours, theirs, what))
    }),
    ("ARP of ATM", |ours, theirs| {
        ours.contains("ATM (len ") || theirs.contains("ATM, ") || theirs.contains("ARP [|arp]")
    }),
    ("bit strings in domain names", |ours, theirs| starts_alike(ours, theirs, " [|domain]")),
    ("digests of TCP", |ours, theirs| starts_alike(ours, theirs, " can't check")),
    ("multipath TCP", |ours, theirs| starts_alike(ours, theirs, "mptcp")),
    ("source routes in GRE", |ours, theirs| {
        starts_alike(ours, theirs, ", length ") && ours.contains("GREv0")
    }),
    ("chunks of SCTP", |ours, theirs| starts_alike(ours, theirs, "] ") && ours.contains(": sctp ")),
];

fn starts_alike(ours: &str, theirs: &str, up_to: &str) -> bool {
    ours.split_once(up_to).is_some_and(|(start, _)| theirs.starts_with(start))
}

/// A frame of which `wire_len` bytes were sent.
pub(super) fn outer(inner: &[u8], wire_len: usize) -> Outer {
    let cut = u32::try_from(wire_len - inner.len()).expect("a frame's length");
    Outer::new([10, 0, 0, 1], 7, inner).cut_by(cut)
}

/// Prints frames both ways.
pub(super) fn agree(frames: &[Outer], flags: &[&str]) {
    let (ours, theirs) = (ours(frames, flags), tcpdump(frames, flags));
    assert_eq!(ours.len(), theirs.len());
    for ((ours, theirs), frame) in ours.iter().zip(&theirs).zip(frames) {
        assert!(
            ours == theirs || DIFFERENCES.iter().any(|(_, is)| is(ours, theirs)),
            "{flags:?} of {:02x?}\n  ours   {ours:?}\n  theirs {theirs:?}",
            frame.inner()
        );
    }
}

fn ours(frames: &[Outer], flags: &[&str]) -> Vec<String> {
    let mut lines = Lines::new(style(flags));
    let line = |frame: &Outer| {
        let mut text = String::new();
        lines.line(&frame.frame(), &mut text);
        text.strip_prefix("vni-7@10.0.0.1 ").expect("the origin in front").to_owned()
    };
    frames.iter().map(line).collect()
}

fn tcpdump(frames: &[Outer], flags: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("inner.pcap");
    let pcap = Pcap::builder(Target::file(&file)).format(Format::Pcap).build().expect("capture");
    let patient = WorkerContext { wait_until: Some(Arc::default()), ..WorkerContext::single(2048) };
    let mut sink = pcap.build(&patient).expect("sink");
    offer(&mut *sink, frames).expect("written");
    sink.finish().expect("written");
    pcap.close(&mut Report::new("file", SystemTime::UNIX_EPOCH)).expect("complete");
    let output = Command::new("tcpdump")
        // Numbers tell where the text of one packet ends.
        .args(["-n", "-t", "-#"])
        .args(flags)
        .arg("-r")
        .arg(&file)
        .env("TZ", "UTC")
        .output()
        .expect("tcpdump is needed as a witness");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("ASCII");
    let mut packets = Vec::new();
    for line in text.split_inclusive('\n') {
        match line.strip_prefix(&format!("{:5}  ", packets.len() + 1)) {
            Some(line) => packets.push(line.to_owned()),
            None => packets.last_mut().expect("a number in front").push_str(line),
        }
    }
    packets
}
