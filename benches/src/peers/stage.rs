//! Where tools listen: a host that mirrored frames are sent to, as it is without our XDP program.

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use mirror_lab::{
    Generated, Namespace, Traffic,
    frames::{Outer, OuterIp, VXLAN_PORT},
};

use crate::{
    bed::{Bed, RECEIVING},
    options::Options,
};

/// The kernel's VXLAN device.
pub(super) const VXLAN: &str = "vxlan0";

/// What a tool listens to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// The interface, as the frames come.
    Interface,
    /// A VXLAN device of the kernel on it, for the one VNI.
    VxlanDevice,
    /// The interface, which the tool prepares for itself.
    Own,
}

/// The host.
#[derive(Debug)]
pub(super) struct Stage {
    bed: Bed,
    kernel_cpu: usize,
}

/// What makes the kernel take the frames in; gone when it is dropped.
#[derive(Debug)]
pub(super) enum Prepared<'a> {
    Nothing,
    /// Never read: once it is full, the kernel drops what comes, and answers none of it with ICMP.
    Port(#[expect(dead_code, reason = "held, not read")] UdpSocket),
    /// In this namespace.
    VxlanDevice(&'a Namespace),
}

impl Stage {
    pub(super) fn raise(options: &Options) -> Result<Self> {
        let bed = Bed::new(1)?;
        let outer = Outer::sample(0);
        let OuterIp::V4 { destination, .. } = outer.ip else { bail!("the generator's frames are IPv4") };
        let mac = outer.destination_mac.map(|byte| format!("{byte:02x}")).join(":");
        bed.receiver.ip(&format!("link set dev {RECEIVING} address {mac}"))?;
        bed.cable.b.address(&format!("{destination}/24"))?;
        // Without a program, a veth takes in redirected frames only while it runs NAPI, which is for GRO. The kernel
        // makes skbs in bulk then, which it does not with a program that passes everything.
        bed.cable.b.gro(true)?;
        Ok(Self { bed, kernel_cpu: options.kernel_cpu })
    }

    /// Sends so many frames of one VNI and 64 flows, from the CPU of the kernel's half.
    pub(super) fn send(&self, frame_len: usize, rate: Option<u64>, frames: u64) -> Result<Generated> {
        let traffic = Traffic { frame_len, rate, cpus: vec![self.kernel_cpu], ..Traffic::default() };
        Ok(self.bed.generator(traffic)?.send(frames)?)
    }

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
            Place::Own => Prepared::Nothing,
            Place::Interface => {
                let port = receiver.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, VXLAN_PORT)))?;
                Prepared::Port(port.with_context(|| format!("UDP port {VXLAN_PORT}"))?)
            }
            Place::VxlanDevice => {
                let vni = Traffic::default().vni_base;
                receiver.ip(&format!(
                    "link add {VXLAN} type vxlan id {vni} dstport {VXLAN_PORT} dev {RECEIVING} nolearning"
                ))?;
                let device = Prepared::VxlanDevice(receiver);
                receiver.ip(&format!("link set dev {VXLAN} up"))?;
                device
            }
        })
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if let Self::VxlanDevice(receiver) = self
            && let Err(error) = receiver.ip(&format!("link delete dev {VXLAN}"))
        {
            eprintln!("bench: {error}");
        }
    }
}
