//! Remedies of errors of the host.

use mirror_user::{error::errno, host::HostError};
use nix::errno::Errno;

use super::limits;

pub(super) fn remedy(error: &HostError) -> Option<String> {
    let remedy = match error {
        HostError::NoSuchInterface { .. } => "`mirror -D` lists them",
        HostError::Tap { source, .. } => match Errno::from_raw(source.raw_os_error()?) {
            Errno::EINVAL => "the name is invalid, or another kind of interface has it: choose another",
            Errno::EBUSY => "another process has it: stop that, or choose another name",
            Errno::EPERM | Errno::EACCES => "run it as root",
            Errno::ENOENT | Errno::ENODEV => "/dev/net/tun is missing: run `modprobe tun`",
            _ => return None,
        },
        HostError::Discard { source, .. } => match errno(&**source).map(Errno::from_raw) {
            Some(Errno::EPERM | Errno::EACCES) => {
                "run it as root, or with CAP_BPF and CAP_NET_ADMIN; or let the host receive packets with \
                `,to-host`"
            }
            Some(Errno::ENOENT | Errno::EOPNOTSUPP) => {
                "run `modprobe -a sch_ingress cls_bpf`; or let the host receive packets with `,to-host`"
            }
            Some(number @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
                limits::remedy(number as i32).unwrap_or_default()
            }
            _ => "let the host receive packets with `,to-host`, or use another target",
        },
        HostError::Write { .. } => "only root in the host's own namespace may write it",
        HostError::SettingsHeld { .. } => "stop that run first",
        HostError::Netlink { .. }
        | HostError::Ethtool { .. }
        | HostError::Read { .. }
        | HostError::Unexpected { .. }
        | HostError::OtherNamespace { .. } => return None,
        _ => return None,
    };
    Some(remedy.to_owned())
}
