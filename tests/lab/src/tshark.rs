//! tshark's own decapsulation, as the reference of where the inner frame starts and the outer datagram ends;
//! and tshark as a reader of pcap-over-IP.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddrV4,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    command::{end, ends_within, interrupt, line, run},
    error::{LabError, Result},
    namespace::Namespace,
};

/// How long a reader of pcap-over-IP waits for the stream's header, and then for all of its packets.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one that is dropped may take to shut down cleanly.
const ENDING: Duration = Duration::from_secs(3);
/// What tshark says once it is connected and has read the header.
const CONNECTED: &str = "Capture started";

/// An inner frame as tshark sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InnerFrame {
    /// Number of the outer frame in the file, from 1.
    pub number: u64,
    /// VXLAN network identifier, or that of GENEVE without VXLAN.
    pub vni: u32,
    /// Its bytes: from its Ethernet header to the end of the outer UDP datagram.
    pub bytes: Vec<u8>,
}

/// The inner frame of every VXLAN packet of a capture file, and of every GENEVE packet with one and without
/// VXLAN, in file order.
///
/// # Errors
///
/// [`LabError::Command`] if tshark fails, [`LabError::Unexpected`] if its answer has another shape.
pub fn decapsulate(file: &Path) -> Result<Vec<InnerFrame>> {
    let mut tshark = Command::new("tshark");
    // -x adds the bytes and their place to each layer; without reassembly and name lookups, nothing of one
    // packet depends on another.
    tshark.arg("-r").arg(file).args([
        "-n",
        "-T",
        "json",
        "-x",
        "--no-duplicate-keys",
        "-Y",
        "vxlan || geneve",
    ]);
    tshark.args(["-J", "frame eth udp vxlan geneve", "-o", "ip.defragment:FALSE"]);
    let answer = run(&mut tshark)?;
    let packets: Vec<Value> = serde_json::from_str(&answer)
        .map_err(|error| LabError::Unexpected(format!("tshark's JSON of {}: {error}", file.display())))?;
    packets
        .iter()
        .map(|packet| {
            inner(packet).ok_or_else(|| {
                LabError::Unexpected(format!("{}: no VXLAN with an inner frame in {packet}", file.display()))
            })
        })
        .collect()
}

/// What tshark finds malformed in a capture file, one line a frame; empty where all is well.
///
/// # Errors
///
/// [`LabError::Command`] if tshark fails.
pub fn malformed(file: &Path) -> Result<String> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args([
        "-n",
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
        "-Y",
    ]);
    tshark
        .arg("_ws.malformed || _ws.unreassembled || ip.checksum.status == Bad || udp.checksum.status == Bad");
    run(&mut tshark)
}

/// One line a packet, as tshark prints it: for people.
///
/// # Errors
///
/// [`LabError::Command`] if tshark fails.
pub fn summary(file: &Path, packets: u32) -> Result<String> {
    run(Command::new("tshark").arg("-r").arg(file).args(["-n", "-c", &packets.to_string()]))
}

/// A tshark that reads a pcap stream from a TCP server, as `tshark -i TCP@ADDRESS:PORT` does. Dropping it
/// stops it.
#[derive(Debug)]
pub struct PcapOverIp {
    child: Child,
    command: String,
    /// Lines of its standard error, read by a thread so that waiting for one has an end.
    said: Receiver<String>,
    packets: u32,
}

impl PcapOverIp {
    /// Connects to a server that listens already, and returns once the header of its stream has come. It
    /// reads `packets` packets and prints these fields (`ip.src`, `frame.len`) of each.
    ///
    /// # Errors
    ///
    /// [`LabError::Command`] with tshark's own words where it does not connect or no header comes in time.
    pub fn connect(
        namespace: &Namespace,
        server: SocketAddrV4,
        packets: u32,
        fields: &[&str],
    ) -> Result<Self> {
        let mut tshark = namespace.command("tshark");
        tshark.args(["-n", "-l", "-i", &format!("TCP@{server}"), "-c", &packets.to_string()]);
        tshark.args(["-a", &format!("duration:{}", PATIENCE.as_secs()), "-T", "fields"]);
        tshark.args(fields.iter().flat_map(|field| ["-e", field]));
        tshark.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tshark.spawn().map_err(|error| LabError::io("tshark", error))?;
        let (tell, said) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            // Ends with tshark, or with the first line that nobody wants any more.
            thread::spawn(move || {
                BufReader::new(stderr)
                    .lines()
                    .map_while(std::result::Result::ok)
                    .try_for_each(|line| tell.send(line))
            });
        }
        let reader = Self { child, command: line(&tshark), said, packets };
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while let Ok(line) = reader.said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(CONNECTED) {
                return Ok(reader);
            }
            lines.push(line);
        }
        Err(reader.failed(&format!("no header of a stream within {PATIENCE:?}"), &lines))
    }

    /// Waits until all packets have come and gives a row for each, with the fields in the order asked for;
    /// one that a packet does not have is empty.
    ///
    /// # Errors
    ///
    /// [`LabError::Command`] if fewer came before the stream or the time ended.
    pub fn wait(mut self) -> Result<Vec<Vec<String>>> {
        let failed = |error| LabError::io("tshark", error);
        let mut output = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut output).map_err(failed)?;
        }
        self.child.wait().map_err(failed)?;
        let rows: Vec<Vec<String>> =
            output.lines().map(|row| row.split('\t').map(str::to_owned).collect()).collect();
        if rows.len() as u64 != u64::from(self.packets) {
            let lines: Vec<String> = self.said.iter().collect();
            return Err(self.failed(&format!("{} of {} packets", rows.len(), self.packets), &lines));
        }
        Ok(rows)
    }

    fn failed(&self, status: &str, said: &[String]) -> LabError {
        LabError::Command {
            command: self.command.clone(),
            status: status.to_owned(),
            stderr: said.join("; "),
        }
    }
}

impl Drop for PcapOverIp {
    fn drop(&mut self) {
        // Cleanly, if possible: it has a dumpcap of its own to end and a file to remove.
        if matches!(self.child.try_wait(), Ok(None)) && interrupt(&self.child, "tshark").is_ok() {
            ends_within(&mut self.child, ENDING);
        }
        end(&mut self.child);
    }
}

fn inner(packet: &Value) -> Option<InnerFrame> {
    let layers = packet.pointer("/_source/layers")?;
    let frame = hex(layers.pointer("/frame_raw/0")?.as_str()?)?;
    let number = layers.pointer("/frame/frame.number")?.as_str()?.parse().ok()?;
    let (vni, tunnel) = match layers.pointer("/vxlan/vxlan.vni") {
        Some(vni) => (vni, "/vxlan_raw/1"),
        None => (layers.pointer("/geneve/geneve.vni")?, "/geneve_raw/1"),
    };
    let vni = vni.as_str()?;
    let vni = vni.strip_prefix("0x").map_or_else(|| vni.parse(), |hex| u32::from_str_radix(hex, 16)).ok()?;
    // The header's place tells which of the Ethernet headers is the inner one: the first behind it.
    let tunnel = layers.pointer(tunnel)?.as_u64()?;
    let ethernets = layers.get("eth_raw")?.as_array()?;
    let start =
        ethernets.iter().filter_map(|raw| raw.get(1)?.as_u64()).filter(|place| *place > tunnel).min()?;
    // One UDP header, or a list where the inner packet is UDP as well: the outer one comes first.
    let udp = layers.get("udp")?;
    let udp = udp.get(0).unwrap_or(udp);
    let (offset, len) =
        (udp.pointer("/udp.payload_raw/1")?.as_u64()?, udp.pointer("/udp.payload_raw/2")?.as_u64()?);
    let range = usize::try_from(start).ok()?..usize::try_from(offset + len).ok()?;
    Some(InnerFrame { number, vni, bytes: frame.get(range)?.to_vec() })
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}
