//! The tools, each with its best settings.
//!
//! All have rings of [`BUFFER_MIB`] MiB and a snap length of [`SNAPLEN`] bytes, longer than any frame,
//! resolve no names and print no packets. The default timeouts stay: a shorter one means more wakeups.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use mirror_lab::suricata::CAPTURE_SETTINGS;

use super::{
    closing::{self, Counts},
    stage::{Place, VXLAN},
};
use crate::bed::RECEIVING;

/// Ring of each tool, MiB.
pub(super) const BUFFER_MIB: u64 = 16;
const SNAPLEN: usize = 4096;
/// Placeholder for the run's directory in an argument.
const DIRECTORY: &str = "{directory}";
/// The file that frames are written to, in that directory.
const CAPTURE: &str = "frames";
/// Files of a ring, and bytes of each: less than a trial writes, more than any cache.
const RING: (u64, u64) = (4, 256_000_000);
/// What a ring has at most: its files, and one that the oldest makes room for.
pub(super) const RING_BYTES: u64 = (RING.0 + 1) * RING.1;
/// Our report, likewise.
const REPORT: &str = "report.json";

/// The output of a tool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Output {
    /// Nothing.
    Counts,
    /// A classic pcap of whole outer frames.
    OuterPcap,
    /// A classic pcap of whole inner frames.
    InnerPcap,
    /// A pcapng of whole inner frames.
    InnerPcapng,
    /// A ring of classic pcap files of whole outer frames.
    OuterRing,
    /// The same of inner frames.
    InnerRing,
}

impl Output {
    pub(super) fn is_ring(self) -> bool {
        matches!(self, Self::OuterRing | Self::InnerRing)
    }
}

/// How to find that a tool is ready.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    /// It prints this.
    Says(&'static str),
    /// Its XDP program is on the interface.
    Program,
}

/// Where a tool reports its counts.
#[derive(Clone, Copy, Debug)]
enum Telling {
    /// In its closing lines.
    Says,
    /// In a file of the run's directory.
    File(&'static str),
}

/// A tool and how it is used.
#[derive(Clone, Debug)]
pub(super) struct Contestant {
    /// In the report.
    pub(super) name: String,
    /// The program.
    pub(super) program: &'static str,
    /// Prints its version.
    pub(super) version_option: &'static str,
    arguments: String,
    pub(super) place: Place,
    pub(super) output: Output,
    pub(super) ready: Ready,
    /// How long it needs after the last frame to have counted all: a little more than the timeout of its
    /// ring's blocks.
    pub(super) settles: Duration,
    telling: Telling,
    counts: fn(&str) -> Result<Counts>,
}

impl Contestant {
    /// Whether it writes frames, to one file or to a ring.
    pub(super) fn writes(&self) -> bool {
        self.output != Output::Counts
    }

    /// Its arguments, with the run's directory inserted.
    pub(super) fn arguments(&self, directory: &Path) -> Vec<String> {
        let directory = directory.to_string_lossy();
        self.arguments.split_ascii_whitespace().map(|word| word.replace(DIRECTORY, &directory)).collect()
    }

    /// The file it writes frames to.
    pub(super) fn capture(directory: &Path) -> PathBuf {
        directory.join(CAPTURE)
    }

    /// Writes its settings into the directory of the run.
    pub(super) fn settle_in(&self, directory: &Path) -> Result<()> {
        if self.program == "suricata" {
            fs::write(directory.join("suricata.yaml"), CAPTURE_SETTINGS)?;
        }
        Ok(())
    }

    /// Its counts, from its output.
    pub(super) fn counts(&self, said: &str, directory: &Path) -> Result<Counts> {
        match self.telling {
            Telling::Says => (self.counts)(said),
            Telling::File(name) => {
                let output =
                    fs::read_to_string(directory.join(name)).with_context(|| format!("no {name}"))?;
                (self.counts)(&output)
            }
        }
    }
}

/// The end of the name of those that write a ring of files.
pub(super) const RING_OF_FILES: &str = "-files";

/// All, in the order of the report. A quick run leaves out our pcapng.
pub(super) fn all(quick: bool, worker_cpu: usize) -> Vec<Contestant> {
    let captures = [Output::Counts, Output::OuterPcap, Output::OuterRing];
    let mut all: Vec<_> = [Output::Counts, Output::InnerPcap, Output::InnerRing]
        .map(|output| tcpdump("tcpdump-vxlan", VXLAN, Place::VxlanDevice, output))
        .into();
    all.extend(captures.map(|output| tcpdump("tcpdump", RECEIVING, Place::Interface, output)));
    all.extend(captures.map(dumpcap));
    all.extend(captures.map(netsniff));
    all.push(suricata());
    for output in [Output::Counts, Output::InnerPcap, Output::InnerPcapng, Output::InnerRing] {
        if !(quick && output == Output::InnerPcapng) {
            all.extend(["poll", "spin"].map(|wait| mirror(output, wait, Ring::Long, worker_cpu)));
            all.push(mirror(output, "poll", Ring::Default, worker_cpu));
        }
    }
    all
}

/// Names the variant that writes after the one that does not.
fn named(name: &str, output: Output) -> String {
    match output {
        Output::Counts => name.to_owned(),
        Output::OuterPcap | Output::InnerPcap => format!("{name}-pcap"),
        Output::InnerPcapng => format!("{name}-pcapng"),
        Output::OuterRing | Output::InnerRing => format!("{name}-pcap{RING_OF_FILES}"),
    }
}

/// The file to write to.
fn target(output: Output) -> String {
    if output == Output::Counts { "/dev/null".to_owned() } else { format!("{DIRECTORY}/{CAPTURE}") }
}

/// The options that make a ring of its output, from the number of files and the bytes of one.
fn ring(output: Output, options: impl Fn(u64, u64) -> String) -> String {
    if output.is_ring() { options(RING.0, RING.1) } else { String::new() }
}

fn tcpdump(name: &str, interface: &str, place: Place, output: Output) -> Contestant {
    let buffer = BUFFER_MIB << 10;
    Contestant {
        name: named(name, output),
        program: "tcpdump",
        version_option: "--version",
        // Printing is its most expensive work: the fastest way to count is to write to /dev/null.
        arguments: format!(
            "-i {interface} -n -p -s {SNAPLEN} -B {buffer} -Z root -w {} {}",
            target(output),
            ring(output, |files, bytes| format!("-C {} -W {files}", bytes / 1_000_000))
        ),
        place,
        output,
        ready: Ready::Says("listening on"),
        settles: Duration::from_millis(1100),
        telling: Telling::Says,
        counts: closing::tcpdump,
    }
}

fn dumpcap(output: Output) -> Contestant {
    Contestant {
        name: named("dumpcap", output),
        program: "dumpcap",
        version_option: "--version",
        arguments: format!(
            "-i {RECEIVING} -q -p -s {SNAPLEN} -B {BUFFER_MIB} -P -w {} {}",
            target(output),
            ring(output, |files, bytes| format!("-b filesize:{} -b files:{files}", bytes / 1000))
        ),
        place: Place::Interface,
        output,
        ready: Ready::Says("File: "),
        settles: Duration::from_millis(400),
        telling: Telling::Says,
        counts: closing::dumpcap,
    }
}

fn netsniff(output: Output) -> Contestant {
    let write = match output {
        Output::Counts => String::new(),
        // It takes a directory for the files of a ring.
        _ if output.is_ring() => {
            ring(output, |files, bytes| format!("-o {DIRECTORY} -F {}MiB -O {files}", bytes >> 20))
        }
        _ => format!("-o {}", target(output)),
    };
    Contestant {
        name: named("netsniff-ng", output),
        program: "netsniff-ng",
        version_option: "--version",
        // Otherwise it would set sysctls and the affinity of interrupts.
        arguments: format!("-i {RECEIVING} -s -M -A -Q -S {BUFFER_MIB}MiB {write}"),
        place: Place::Interface,
        output,
        ready: Ready::Says("Running!"),
        settles: Duration::from_millis(400),
        telling: Telling::Says,
        counts: closing::netsniff,
    }
}

fn suricata() -> Contestant {
    Contestant {
        name: "suricata".to_owned(),
        program: "suricata",
        version_option: "-V",
        arguments: format!(
            "-c {DIRECTORY}/suricata.yaml -l {DIRECTORY} -S /dev/null --runmode workers \
            --af-packet={RECEIVING}"
        ),
        place: Place::Interface,
        output: Output::Counts,
        ready: Ready::Says("Engine started"),
        settles: Duration::from_millis(200),
        telling: Telling::File("stats.log"),
        counts: closing::suricata,
    }
}

/// Our RX ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ring {
    /// The default: a quarter of the memory of the others' rings, or less.
    Default,
    /// The longest, which outlasts what theirs do; before files, a buffer of the same 64 MiB.
    Long,
}

/// The end of the name of ours with the default ring.
pub(super) const DEFAULT_RING: &str = "-default-ring";

fn mirror(output: Output, wait: &str, rx_ring: Ring, worker_cpu: usize) -> Contestant {
    let name = named(if output == Output::Counts { "mirror-counters" } else { "mirror" }, output);
    let format = if output == Output::InnerPcapng { "pcapng" } else { "pcap" };
    let write = if output == Output::Counts {
        String::new()
    } else {
        let files = ring(output, |files, bytes| format!("-C {} -W {files}", bytes / 1_000_000));
        format!("--format {format} -w {} {files}", target(output))
    };
    let wait_name = if wait == "poll" { String::new() } else { format!("-{wait}") };
    let write = if write.is_empty() || rx_ring == Ring::Default { write } else { format!("-B 64m {write}") };
    let (ring_name, rx_ring) = match rx_ring {
        Ring::Default => (DEFAULT_RING, ""),
        Ring::Long => ("", "--rx-ring 32768"),
    };
    Contestant {
        name: format!("{name}{wait_name}{ring_name}"),
        program: "mirror",
        version_option: "--version",
        arguments: format!(
            "ingest -i {RECEIVING} --cpus {worker_cpu} --wait {wait} {rx_ring} -q --report \
            {DIRECTORY}/{REPORT} {write}"
        ),
        place: Place::Own,
        output,
        ready: Ready::Program,
        settles: Duration::from_millis(200),
        telling: Telling::File(REPORT),
        counts: closing::mirror,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_name_and_those_that_write_are_named_so() {
        let all = all(false, 1);
        let mut names: Vec<_> = all.iter().map(|contestant| contestant.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for contestant in all {
            assert_eq!(contestant.writes(), contestant.name.contains("-pcap"), "{}", contestant.name);
        }
    }

    #[test]
    fn the_directory_of_the_run_is_inserted() {
        let arguments =
            tcpdump("tcpdump", "rx0", Place::Interface, Output::OuterPcap).arguments(Path::new("/d"));
        assert_eq!(arguments.last().map(String::as_str), Some("/d/frames"));
    }

    #[test]
    fn a_ring_has_its_files_in_the_units_of_each_tool() {
        let of = |contestant: Contestant| contestant.arguments(Path::new("/d")).join(" ");
        let tcpdump = tcpdump("tcpdump", "rx0", Place::Interface, Output::OuterRing);
        assert!(of(tcpdump).ends_with("-w /d/frames -C 256 -W 4"));
        assert!(of(dumpcap(Output::OuterRing)).ends_with("-w /d/frames -b filesize:256000 -b files:4"));
        assert!(of(netsniff(Output::OuterRing)).ends_with("-o /d -F 244MiB -O 4"));
        let ours = mirror(Output::InnerRing, "poll", Ring::Default, 1);
        assert_eq!(ours.name, "mirror-pcap-files-default-ring");
        assert!(of(ours).ends_with("--format pcap -w /d/frames -C 256 -W 4"));
    }
}
