//! What comes in by a device that is made for readers, kept from the host: a program at its tc ingress drops
//! it. AF_PACKET readers of every protocol, as tcpdump and Suricata are, are before that hook
//! (`__netif_receive_skb_core`).

use std::io;

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{NlOptions, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact, qdisc_detach_program},
    },
};
use mirror_ebpf::discard::PROGRAM;

use super::{HostError, limits::shortage};

/// In force while it lives, and with the process however that ends where the kernel has links for tc (6.6).
/// Before, a process that is killed leaves its filter on a device that stays; [`clear`](Self::clear) takes it
/// off.
pub(super) struct Discard(#[expect(dead_code, reason = "holds the program and its link")] Ebpf);

/// The priority of the filter on a kernel without links: before all others.
const PLACE: NlOptions = NlOptions { priority: 1, handle: TcHandle::new(0, 1), classid: None };

impl Discard {
    /// Puts the program on an interface, before what else is there. CAP_BPF and CAP_NET_ADMIN.
    pub(super) fn on(interface: &str) -> Result<Self, HostError> {
        attach(interface).map_err(|source| HostError::Discard { name: interface.to_owned(), source })
    }

    /// Takes off what a killed process left on a device that stays.
    pub(super) fn clear(interface: &str) -> Result<(), TcError> {
        match qdisc_detach_program(interface, TcAttachType::Ingress, PROGRAM) {
            Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

fn attach(interface: &str) -> Result<Discard, Box<dyn std::error::Error + Send + Sync>> {
    let mut ebpf = Ebpf::load(mirror_ebpf::DISCARD_OBJECT)?;
    let program = ebpf.program_mut(PROGRAM).ok_or("the eBPF object has no program of that name")?;
    let program: &mut SchedClassifier = program.try_into()?;
    program.load()?;
    let link = TcAttachOptions::TcxOrder(LinkOrder::first());
    // Tried, and not judged by the version: kernels get features of later ones.
    if program.attach_with_options(interface, TcAttachType::Ingress, link).is_err() {
        // Then the other way finds the same, and says something else.
        if let Some(shortage) = shortage() {
            return Err(shortage.into());
        }
        attach_filter(interface, program)?;
    }
    Ok(Discard(ebpf))
}

/// As kernels before 6.6 have it: a filter of a queueing discipline, which goes with the device and not with
/// the process.
fn attach_filter(interface: &str, program: &mut SchedClassifier) -> Result<(), ProgramError> {
    // One that is there already is as good; whatever else is wrong, the filter's own error says.
    let _ = qdisc_add_clsact(interface);
    Discard::clear(interface)?;
    program.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(PLACE)).map(drop)
}
