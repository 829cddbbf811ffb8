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
    /// Whether it writes frames.
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

/// All, in the order of the report. A quick run leaves out our pcapng.
pub(super) fn all(quick: bool, worker_cpu: usize) -> Vec<Contestant> {
    let captures = [Output::Counts, Output::OuterPcap];
    let mut all: Vec<_> = [Output::Counts, Output::InnerPcap]
        .map(|output| tcpdump("tcpdump-vxlan", VXLAN, Place::VxlanDevice, output))
        .into();
    all.extend(captures.map(|output| tcpdump("tcpdump", RECEIVING, Place::Interface, output)));
    all.extend(captures.map(dumpcap));
    all.extend(captures.map(netsniff));
    all.push(suricata());
    for output in [Output::Counts, Output::InnerPcap, Output::InnerPcapng] {
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
    }
}

/// The file to write to.
fn target(output: Output) -> String {
    if output == Output::Counts { "/dev/null".to_owned() } else { format!("{DIRECTORY}/{CAPTURE}") }
}

fn tcpdump(name: &str, interface: &str, place: Place, output: Output) -> Contestant {
    let buffer = BUFFER_MIB << 10;
    Contestant {
        name: named(name, output),
        program: "tcpdump",
        version_option: "--version",
        // Printing is its most expensive work: the fastest way to count is to write to /dev/null.
        arguments: format!("-i {interface} -n -p -s {SNAPLEN} -B {buffer} -Z root -w {}", target(output)),
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
        arguments: format!("-i {RECEIVING} -q -p -s {SNAPLEN} -B {BUFFER_MIB} -P -w {}", target(output)),
        place: Place::Interface,
        output,
        ready: Ready::Says("File: "),
        settles: Duration::from_millis(400),
        telling: Telling::Says,
        counts: closing::dumpcap,
    }
}

fn netsniff(output: Output) -> Contestant {
    let write = if output == Output::Counts { String::new() } else { format!("-o {}", target(output)) };
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
    /// The longest, which outlasts what theirs do.
    Long,
}

/// The end of the name of ours with the default ring.
pub(super) const DEFAULT_RING: &str = "-default-ring";

fn mirror(output: Output, wait: &str, ring: Ring, worker_cpu: usize) -> Contestant {
    let (name, format) = match output {
        Output::Counts => ("mirror-counters", ""),
        Output::InnerPcap | Output::OuterPcap => ("mirror-pcap", "pcap"),
        Output::InnerPcapng => ("mirror-pcapng", "pcapng"),
    };
    let write =
        if format.is_empty() { String::new() } else { format!("--format {format} -w {}", target(output)) };
    let wait_name = if wait == "poll" { String::new() } else { format!("-{wait}") };
    let (ring_name, ring) = match ring {
        Ring::Default => (DEFAULT_RING, ""),
        Ring::Long => ("", "--rx-ring 32768"),
    };
    Contestant {
        name: format!("{name}{wait_name}{ring_name}"),
        program: "mirror",
        version_option: "--version",
        arguments: format!(
            "ingest -i {RECEIVING} --cpus {worker_cpu} --wait {wait} {ring} -q --report \
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
}
