//! Output is read back with `pcap-parser`, tshark and capinfos.

mod alloc;
mod ends;
mod faults;
mod files;
#[cfg(feature = "af-xdp")]
mod floods;
mod format;
mod held;
mod parts;
mod rotated;

use std::{
    fs::File,
    io,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime},
};

use pcap_parser::{Block, PcapBlockOwned, create_reader};

use super::{
    losses::Losses,
    part::{CaptureFormat, CapturePart, PartOutput},
    writer::{CaptureOutput, Writer},
    *,
};
use crate::{
    account::{InterfaceReport, QueueReport},
    sink::{
        SinkStats,
        testing::{Outer, offer},
    },
};

/// A packet as read back.
#[derive(Debug, Eq, PartialEq)]
struct Packet {
    interface: String,
    time: u64,
    original: u32,
    data: Vec<u8>,
}

/// A pcapng file as read back.
#[derive(Debug, Default)]
struct Contents {
    application: String,
    interfaces: Vec<String>,
    packets: Vec<Packet>,
    statistics: Vec<Seen>,
}

/// A statistics block as read back.
#[derive(Debug, Eq, PartialEq)]
struct Seen {
    interface: u32,
    received: u64,
    dropped: u64,
    dropped_by_system: u64,
    delivered: u64,
}

fn join((high, low): (u32, u32)) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn read(path: &Path) -> Contents {
    let mut contents = Contents::default();
    let mut reader = create_reader(1 << 20, File::open(path).unwrap()).unwrap();
    loop {
        match reader.next() {
            Ok((len, block)) => {
                let PcapBlockOwned::NG(block) = block else { panic!("not pcapng") };
                contents.add(&block);
                reader.consume(len);
            }
            Err(pcap_parser::PcapError::Eof) => return contents,
            Err(pcap_parser::PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Err(error) => panic!("{}: {error:?}", path.display()),
        }
    }
}

impl Contents {
    fn add(&mut self, block: &Block<'_>) {
        match block {
            Block::SectionHeader(header) => {
                self.application = header.shb_userappl().unwrap().unwrap().to_owned();
            }
            Block::InterfaceDescription(interface) => {
                assert_eq!(interface.if_tsresol, 9);
                self.interfaces.push(interface.if_name().unwrap().unwrap().to_owned());
            }
            Block::EnhancedPacket(packet) => self.packets.push(Packet {
                interface: self.interfaces[packet.if_id as usize].clone(),
                time: join((packet.ts_high, packet.ts_low)),
                original: packet.origlen,
                data: packet.data[..packet.caplen as usize].to_vec(),
            }),
            Block::InterfaceStatistics(statistics) => {
                let start = join(statistics.isb_starttime().unwrap().unwrap());
                assert!(start <= join(statistics.isb_endtime().unwrap().unwrap()));
                self.statistics.push(Seen {
                    interface: statistics.if_id,
                    received: statistics.isb_ifrecv().unwrap().unwrap(),
                    dropped: statistics.isb_ifdrop().unwrap().unwrap(),
                    // Known at the end of the run only.
                    dropped_by_system: statistics.isb_osdrop().map_or(0, Result::unwrap),
                    delivered: statistics.isb_usrdeliv().unwrap().unwrap(),
                });
            }
            other => panic!("a block of another kind: {other:?}"),
        }
    }
}

fn output_of(program: &str, args: &[&str], path: &Path) -> String {
    let output = Command::new(program)
        .args(args)
        .arg(path)
        .env("TZ", "UTC")
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed as a witness: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {stderr}", path.display());
    String::from_utf8(output.stdout).unwrap()
}

/// The given fields of each packet, from tshark.
fn tshark(path: &Path, fields: &[&str]) -> Vec<String> {
    let mut args = vec!["-n", "-T", "fields"];
    fields.iter().for_each(|field| args.extend(["-e", field]));
    args.push("-r");
    output_of("tshark", &args, path).lines().map(str::to_owned).collect()
}

fn report() -> Report {
    Report::new("file", SystemTime::UNIX_EPOCH)
}

/// A report with frames lost in the kernel.
fn report_with_losses(rx_dropped: u64, rx_ring_full: u64, redirect_failed: u64) -> Report {
    let mut report = report();
    let mut interface = InterfaceReport::default();
    interface.queues.push(QueueReport { rx_dropped, rx_ring_full, ..QueueReport::default() });
    interface.xdp.redirect_failed = Some(redirect_failed);
    report.interfaces.push(interface);
    report
}

fn worker(pcap: &Pcap) -> Box<dyn Sink> {
    // As with a ring: frames that cannot be written are dropped.
    let cx = WorkerContext::single(2048);
    SinkFactory::build(pcap, &cx).unwrap()
}

/// Frames with different contents, of which two in three are of one origin.
fn some_frames(count: u32) -> Vec<Outer> {
    (0..count)
        .map(|i| {
            let inner: Vec<u8> = (0..60 + i % 7).map(|at| (i + at).to_le_bytes()[0]).collect();
            let source = if i % 3 == 2 { [10, 0, 0, 2] } else { [10, 0, 0, 1] };
            Outer::new(source, 7, &inner).at(1_700_000_000_123_456_000 + u64::from(i))
        })
        .collect()
}

/// Offers frames, and waits until they are written.
fn put(sink: &mut dyn Sink, frames: &[Outer]) {
    for frames in frames.chunks(100) {
        offer(sink, frames).unwrap();
        sink.flush();
        let begun = Instant::now();
        while sink.stats().pending > 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", sink.stats());
            thread::yield_now();
        }
    }
}

/// Names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn written(frames: u64) -> SinkStats {
    SinkStats { written: frames, ..SinkStats::default() }
}

/// Runs a test of this binary in a process of its own, with a path for it.
///
/// `wrapper` is put before the command line.
fn in_a_process_of_its_own(wrapper: &[&str], test: &str, path: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let mut words = wrapper.iter().map(AsRef::as_ref).chain([this.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", &name, "--ignored", "--nocapture"]).env(PATH, path);
    command
}

/// The path given to a test that [`in_a_process_of_its_own`] runs.
fn path_from_parent() -> PathBuf {
    std::env::var_os(PATH).expect("another test runs this one").into()
}

const PATH: &str = "MIRROR_TEST_PATH";
