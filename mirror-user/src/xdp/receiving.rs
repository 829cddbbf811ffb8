//! What a veth needs to take redirected frames: an XDP program at its far end.

use std::io::ErrorKind;

use aya::{Ebpf, EbpfLoader, programs::Xdp};
use mirror_ebpf::discard::PROGRAM_PASS;

use super::{Link, ProgramSetupError, attach_by_link};
use crate::host::xdp::XdpMode;

/// A program that passes every frame, attached while this lives.
pub(super) struct Receiving {
    _link: Link,
    _ebpf: Ebpf,
}

impl Receiving {
    /// Attaches it to an interface of the calling thread's network namespace; `None` if another program is
    /// attached, such as that of an AF_XDP reader: any will do. Minimum kernel version: 5.18.
    pub(super) fn at(index: u32) -> Result<Option<Self>, ProgramSetupError> {
        let mut ebpf =
            EbpfLoader::new().load(mirror_ebpf::DISCARD_OBJECT).map_err(ProgramSetupError::load)?;
        let program: &mut Xdp = super::xdp(&mut ebpf, PROGRAM_PASS)?;
        program.load().map_err(ProgramSetupError::verify)?;
        match attach_by_link(program, index, XdpMode::Native) {
            Ok(link) => Ok(Some(Self { _link: link, _ebpf: ebpf })),
            Err(ProgramSetupError::Attach(error)) if error.kind() == ErrorKind::ResourceBusy => Ok(None),
            Err(error) => Err(error),
        }
    }
}
