//! tshark's own decapsulation: where it says the inner frame starts and the outer datagram ends, there it does.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{
    command::run,
    error::{LabError, Result},
};

/// An inner frame as tshark sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InnerFrame {
    /// Number of the outer frame in the file, from 1.
    pub number: u64,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Its bytes: from its Ethernet header to the end of the outer UDP datagram.
    pub bytes: Vec<u8>,
}

/// The inner frame of every VXLAN packet of a capture file, in file order.
///
/// # Errors
///
/// [`LabError::Command`] where tshark fails, [`LabError::Unexpected`] where its answer has another shape.
pub fn decapsulate(file: &Path) -> Result<Vec<InnerFrame>> {
    let mut tshark = Command::new("tshark");
    // -x adds the bytes and their place to each layer; without reassembly and name lookups, nothing of one packet
    // depends on another.
    tshark.arg("-r").arg(file).args(["-n", "-T", "json", "-x", "--no-duplicate-keys", "-Y", "vxlan"]);
    tshark.args(["-J", "frame eth udp vxlan", "-o", "ip.defragment:FALSE"]);
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
/// [`LabError::Command`] where tshark fails.
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
/// [`LabError::Command`] where tshark fails.
pub fn summary(file: &Path, packets: u32) -> Result<String> {
    run(Command::new("tshark").arg("-r").arg(file).args(["-n", "-c", &packets.to_string()]))
}

fn inner(packet: &Value) -> Option<InnerFrame> {
    let layers = packet.pointer("/_source/layers")?;
    let frame = hex(layers.pointer("/frame_raw/0")?.as_str()?)?;
    let number = layers.pointer("/frame/frame.number")?.as_str()?.parse().ok()?;
    let vni = layers.pointer("/vxlan/vxlan.vni")?.as_str()?.parse().ok()?;
    // The VXLAN header's place tells which of the Ethernet headers is the inner one: the first behind it.
    let vxlan = layers.pointer("/vxlan_raw/1")?.as_u64()?;
    let ethernets = layers.get("eth_raw")?.as_array()?;
    let start =
        ethernets.iter().filter_map(|raw| raw.get(1)?.as_u64()).filter(|place| *place > vxlan).min()?;
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
