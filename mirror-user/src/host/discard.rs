//! Drops what is received on a device that is made for readers, at its tc ingress, before the host's stack.
//! AF_PACKET readers of every protocol, such as tcpdump and Suricata, come before that hook
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

/// Attached while it lives. From kernel 6.6 on, which has links for tc, the kernel detaches it with the
/// process. Before, a killed process leaves its filter on a device that stays; [`clear`](Self::clear) removes
/// it.
#[derive(Debug)]
pub(super) struct Discard(#[expect(dead_code, reason = "holds the program and its link")] Ebpf);

/// The priority of the filter on a kernel without links: before all others.
const PLACE: NlOptions = NlOptions { priority: 1, handle: TcHandle::new(0, 1), classid: None };

impl Discard {
    /// Attaches the program to an interface, before other programs. Needs CAP_BPF and CAP_NET_ADMIN.
    fn on(interface: &str) -> Result<Self, HostError> {
        attach(interface).map_err(|source| HostError::Discard { name: interface.to_owned(), source })
    }

    /// Keeps the traffic of an interface from the host's stack, or lets the host receive it: then what a
    /// killed process left is removed.
    pub(super) fn unless(to_host: bool, interface: &str) -> Result<Option<Self>, HostError> {
        if !to_host {
            return Self::on(interface).map(Some);
        }
        if let Err(error) = Self::clear(interface) {
            tracing::warn!(
                "{interface}: a filter that a killed run left may drop frames for the host: {error}"
            );
        }
        Ok(None)
    }

    /// Removes the filter that a killed process left on a device that stays.
    fn clear(interface: &str) -> Result<(), TcError> {
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
    // Tried instead of judged by the version: distributions carry features back.
    if program.attach_with_options(interface, TcAttachType::Ingress, link).is_err() {
        // The fallback would fail for the same reason, with another error.
        if let Some(shortage) = shortage() {
            return Err(shortage.into());
        }
        attach_filter(interface, program)?;
    }
    Ok(Discard(ebpf))
}

/// For kernels before 6.6: a filter of a queueing discipline, which lives as long as the device.
fn attach_filter(interface: &str, program: &mut SchedClassifier) -> Result<(), ProgramError> {
    // It may exist already; the filter's error reports all else.
    let _ = qdisc_add_clsact(interface);
    Discard::clear(interface)?;
    program.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(PLACE)).map(drop)
}
