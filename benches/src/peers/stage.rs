//! The host that tools run on: mirrored frames are sent to it, without our XDP program.

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use mirror_ebpf::bench::PROGRAM_REDIRECT;
use mirror_lab::{
    Generated, Namespace, Traffic, XdpProgram,
    frames::{Outer, OuterIp, VXLAN_PORT},
    xdp_program::XdpAttach,
};

use crate::{
    bed::{Bed, RECEIVING},
    options::Options,
};

/// The kernel's VXLAN device.
pub(super) const VXLAN: &str = "vxlan0";

/// The device that a tool captures on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// The interface, with outer frames.
    Interface,
    /// A VXLAN device of the kernel on it, for one VNI.
    VxlanDevice,
    /// The interface, which the tool sets up itself.
    Own,
}

/// The host.
#[derive(Debug)]
pub(super) struct Stage {
    bed: Bed,
    kernel_cpu: usize,
}

/// What makes the kernel receive the frames; removed when it is dropped.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    /// A veth receives redirected frames only with an XDP program or with GRO; with the program, the peers
    /// receive more.
    _pass: Option<XdpProgram>,
    /// Never read: once it is full, the kernel drops datagrams without an ICMP answer.
    _port: Option<UdpSocket>,
    /// Where the VXLAN device is, if there is one.
    vxlan: Option<&'a Namespace>,
}

/// The program that redirects to sockets, without sockets: all frames pass.
fn pass_all(receiver: &Namespace) -> Result<XdpProgram> {
    let mut program = XdpProgram::load_floor(PROGRAM_REDIRECT)?;
    program.attach(receiver, RECEIVING, XdpAttach::Native)?;
    Ok(program)
}

impl Stage {
    pub(super) fn raise(options: &Options, mtu: u32) -> Result<Self> {
        let bed = Bed::new(1, mtu)?;
        let outer = Outer::sample(0);
        let OuterIp::V4 { destination, .. } = outer.ip else { bail!("the generator's frames are IPv4") };
        let mac = outer.destination_mac.map(|byte| format!("{byte:02x}")).join(":");
        bed.receiver.ip(&format!("link set dev {RECEIVING} address {mac}"))?;
        bed.cable.b.address(&format!("{destination}/24"))?;
        Ok(Self { bed, kernel_cpu: options.kernel_cpu })
    }

    /// Sends so many frames of one VNI and 64 flows, from the CPU of the kernel's half.
    pub(super) fn send(&self, frame_len: usize, rate: Option<u64>, frames: u64) -> Result<Generated> {
        let traffic = Traffic { frame_len, rate, cpus: vec![self.kernel_cpu], ..Traffic::default() };
        Ok(self.bed.generator(traffic)?.send(frames)?)
    }

    /// Description of the host in the report.
    pub(super) const SETTINGS: &'static str = "frames are addressed to the host; for all but ours an XDP \
        program passes them, and an unread UDP socket is bound to port 4789, or a VXLAN device \
        of their VNI is there";

    /// A command in the namespace of the host, on one CPU.
    pub(super) fn command(&self, cpu: usize, program: &Path) -> Command {
        let mut command = self.bed.receiver.command("taskset");
        command.args(["-c", &cpu.to_string()]).arg(program);
        command
    }

    /// Whether an XDP program is on the interface.
    pub(super) fn has_program(&self) -> Result<bool> {
        Ok(self.bed.receiver.ip(&format!("link show dev {RECEIVING}"))?.contains("prog/xdp"))
    }

    /// Makes the place.
    pub(super) fn prepare(&self, place: Place) -> Result<Prepared<'_>> {
        let receiver = &self.bed.receiver;
        Ok(match place {
            Place::Own => Prepared { _pass: None, _port: None, vxlan: None },
            Place::Interface => {
                let port = receiver.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, VXLAN_PORT)))?;
                let port = port.with_context(|| format!("UDP port {VXLAN_PORT}"))?;
                Prepared { _pass: Some(pass_all(receiver)?), _port: Some(port), vxlan: None }
            }
            Place::VxlanDevice => {
                let pass = pass_all(receiver)?;
                let vni = Traffic::default().vni_base;
                receiver.ip(&format!(
                    "link add {VXLAN} type vxlan id {vni} dstport {VXLAN_PORT} dev {RECEIVING} nolearning"
                ))?;
                let prepared = Prepared { _pass: Some(pass), _port: None, vxlan: Some(receiver) };
                receiver.ip(&format!("link set dev {VXLAN} up"))?;
                prepared
            }
        })
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if let Some(receiver) = self.vxlan
            && let Err(error) = receiver.ip(&format!("link delete dev {VXLAN}"))
        {
            eprintln!("bench: {error}");
        }
    }
}
