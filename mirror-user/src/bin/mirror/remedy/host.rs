//! Remedies of errors of the host.

use std::io;

use mirror_user::{
    error::errno,
    escape,
    host::{HostError, namespace::NetworkNamespace},
};
use nix::errno::Errno;

use super::{limits, service};

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
        HostError::Veth { source, .. } => match Errno::from_raw(source.raw_os_error()?) {
            Errno::EPERM | Errno::EACCES => {
                return Some(format!(
                    "run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN{}; a `tap:` target needs no \
                    CAP_SYS_ADMIN",
                    service::drop_in("veth.conf")
                ));
            }
            Errno::EOPNOTSUPP => "this kernel has no veth: run `modprobe veth`, or use a `tap:` target",
            number @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN) => {
                return limits::remedy(number as i32).map(str::to_owned);
            }
            _ => return None,
        },
        HostError::NameTaken { name, in_use: true } => {
            return Some(format!("stop that run, or choose another name than {}", escape::line(name)));
        }
        HostError::NameTaken { name, in_use: false } => {
            let name = escape::shell(name);
            return Some(format!(
                "choose another name, send to it as it is with `dev:{name}`, or delete it: `ip link delete \
                dev {name}`"
            ));
        }
        HostError::Namespace { namespace, source } => match Errno::from_raw(source.raw_os_error()?) {
            number @ (Errno::EPERM | Errno::EACCES) => {
                let trace = if number == Errno::EACCES { " and CAP_SYS_PTRACE" } else { "" };
                return Some(format!(
                    "run it as root, or with CAP_SYS_ADMIN{trace}{}",
                    service::drop_in("veth.conf")
                ));
            }
            Errno::ENOENT if matches!(namespace, NetworkNamespace::OfProcess(_)) => {
                "there is no such process: name one that runs, such as `docker inspect -f '{{.State.Pid}}' \
                CONTAINER` prints"
            }
            Errno::ENOENT => {
                "`ip netns list` lists those that have a name; for a container give a process id"
            }
            Errno::EINVAL => "it is not a network namespace: `ip netns list` lists them",
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
        HostError::Write { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            return Some(format!("it is read-only for this process{}", service::drop_in("busy-poll.conf")));
        }
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
