//! tcpdump's output, and the permitted differences.

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

/// A difference that the documentation lists: its name, and whether it is one of that kind. Given are what
/// both print before they part, and what each prints from there on.
type Difference = (&'static str, fn(&Parted<'_>) -> bool);

/// Two texts from their first difference.
struct Parted<'t> {
    alike: &'t str,
    ours: &'t str,
    theirs: &'t str,
    verbose: bool,
}

impl<'t> Parted<'t> {
    fn new(ours: &'t str, theirs: &'t str, flags: &[&str]) -> Self {
        let at = ours.bytes().zip(theirs.bytes()).take_while(|(ours, theirs)| ours == theirs).count();
        let verbose = flags.iter().any(|flag| flag.starts_with("-v"));
        Self { alike: &ours[..at], ours: &ours[at..], theirs: &theirs[at..], verbose }
    }

    /// The line of the first difference, up to it.
    fn line(&self) -> &str {
        self.alike.trim_end().rsplit('\n').next().unwrap_or_default()
    }
}

/// Payloads that tcpdump prints more of with `-v`, by what both print of them.
const DETAILED: &[&str] = &[
    "BFDv",
    "BGP",
    "BOOTP/DHCP",
    "CDPv",
    "CFMv",
    "CLNP",
    "DTPv",
    "EAP",
    "EIGRP",
    "ES-IS",
    "GeoNet",
    "HSRPv",
    "IS-IS",
    "LACPv",
    "LLDP",
    "MARKERv",
    "NSH, ",
    "NFS ",
    "NTPv",
    "OAM",
    "OSI NLPID",
    "OSPFv",
    "PIMv",
    "PPPoE",
    "RADIUS",
    "RIPv",
    "STP ",
    "SYSLOG",
    "UDLDv",
    "VRRPv",
    "VTPv",
    "AoE",
    "babel",
    "dhcp6",
    "sFlowv",
];

/// tcpdump's output for payloads that are not printed here.
const UNPRINTED: &[&str] = &[
    "DCCP",
    " rx ",
    "EGPv",
    "OpenFlow",
    "isakmp",
    "UDP-encap",
    "mobility",
    "PGM",
    "RSVP",
    "LDP",
    "hncp",
    "nbp-",
    "at-#",
    "at-",
    "zip-",
    "aep-",
    "igrp",
    "mpcp",
    "Realtek",
    "RLDP",
    "Q.9",
    "[|q.933]",
    "tipc",
    "TIPC",
    "MPCP",
    "dccp",
    "auto-rp",
];

const DIFFERENCES: &[Difference] = &[
    ("details of payloads, with -v", |parted| {
        parted.verbose
            && DETAILED.iter().any(|name| parted.line().contains(name) || parted.theirs.contains(name))
    }),
    ("payloads that are not printed", |parted| {
        let ours = format!("{}{}", parted.line(), parted.ours);
        let theirs = parted.theirs.lines().next().unwrap_or_default();
        let announced = ["UDP, ", " ip-proto-", "ethertype ", "OSI NLPID", ", length "];
        announced.iter().any(|words| ours.contains(words))
            && UNPRINTED.iter().any(|name| theirs.contains(name))
    }),
    ("source routes in GRE", |parted| parted.line().contains("GREv0") && parted.line().contains(", off 0x")),
    ("PPP in PPP, in HDLC-like framing", |parted| {
        parted.alike.ends_with("unknown PPP protocol (0x") && parted.ours.starts_with("7e")
    }),
    ("bytes of an empty packet", |parted| parted.alike == " [|ip]\n" && parted.ours.is_empty()),
];

/// A frame of which `wire_len` bytes were sent.
pub(super) fn outer(inner: &[u8], wire_len: usize) -> Outer {
    let cut = u32::try_from(wire_len - inner.len()).expect("a frame's length");
    Outer::new([10, 0, 0, 1], 7, inner).cut_by(cut)
}

/// Prints frames with both.
pub(super) fn agree(frames: &[Outer], flags: &[&str]) {
    let (ours, theirs) = (ours(frames, flags), tcpdump(frames, flags));
    assert_eq!(ours.len(), theirs.len());
    for ((ours, theirs), frame) in ours.iter().zip(&theirs).zip(frames) {
        assert!(
            ours == theirs || DIFFERENCES.iter().any(|(_, is)| is(&Parted::new(ours, theirs, flags))),
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
    pcap.close(&Report::new("file", SystemTime::UNIX_EPOCH)).expect("complete");
    let output = Command::new("tcpdump")
        // Numbers mark the end of each packet's text.
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
