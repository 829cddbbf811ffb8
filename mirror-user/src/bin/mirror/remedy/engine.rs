//! Remedies of errors that kept the engine from starting.

use mirror_user::{
    engine::{
        AttachCause, EngineError, ForwardObstacle, HostCommand, Obstacle, OptionsError, SocketCause,
        SocketError, WorkerStep,
    },
    error::errno,
    escape::shell,
};
use nix::errno::Errno;

use super::host;

const ROOT: &str = "run it as root (`sudo mirror ingest …`)";
const GENERIC: &str = "use `--mode generic`";
const COPY: &str = "use `--bind copy`";
/// How to raise the limit of locked memory.
const MEMLOCK: &str = "raise the limit (`ulimit -l unlimited`, in a unit file `LimitMEMLOCK=infinity`)";

pub(super) fn remedy(error: &EngineError) -> Option<String> {
    match error {
        EngineError::Options(error) => options(error),
        EngineError::Host(error) => host::remedy(error),
        EngineError::Capabilities { .. } => Some(ROOT.to_owned()),
        EngineError::TakeOver(differs) if differs.of_socket => {
            Some("with `mirror upgrade --cold` it can, and packets pass to the host meanwhile".to_owned())
        }
        EngineError::Mtu(mtu) => Some(run(&mtu.command())),
        EngineError::NoSuchQueue { interface, .. } => {
            Some(format!("`ethtool -l {}` shows them", shell(interface)))
        }
        EngineError::HookHeld { interface, .. } => {
            let off = HostCommand::XdpOff { interface: interface.clone() };
            Some(format!("stop its owner, or, if it has none, {}", run(&off)))
        }
        EngineError::Program { counts_as_locked, .. } => counts_as_locked
            .then(|| format!("{MEMLOCK}, or add CAP_SYS_RESOURCE, with which mirror raises it")),
        EngineError::ForwardPath { obstacle, .. } => Some(forward_path(obstacle).to_owned()),
        EngineError::Attach { interface, cause, .. } => attach(interface, cause.as_ref()),
        EngineError::Socket { interface, cause, source, .. } => socket(interface, *cause, source),
        EngineError::Worker { step: WorkerStep::Priority, .. } => Some(format!(
            "{ROOT}, raise the limit (in a unit file `LimitRTPRIO=1`, for `--priority nice` \
            `LimitNICE=-20`), or leave `--priority` out for the best that is permitted"
        )),
        EngineError::Sink { .. }
        | EngineError::Worker { .. }
        | EngineError::Thread { .. }
        | EngineError::Cpus(_) => None,
        _ => None,
    }
}

pub(super) fn options(error: &OptionsError) -> Option<String> {
    let remedy = match error {
        OptionsError::NoInterface => "use -i, and `mirror -D` to list the interfaces",
        OptionsError::InterfaceName { .. } => "`mirror -D` lists the interfaces",
        OptionsError::InterfaceAny => {
            "name the interfaces: `mirror ingest -i ens5,ens6`, and `mirror -D` lists them"
        }
        OptionsError::GenericZeroCopy => "leave `--mode generic` or `--bind zerocopy` out",
        OptionsError::ForwardPath(obstacle) => forward_path(obstacle),
        OptionsError::NoQueue => "leave `--queues` out to read all",
        OptionsError::InterfaceTwice { .. }
        | OptionsError::TunnelPorts { .. }
        | OptionsError::TooManyVnis { .. }
        | OptionsError::TooManySources { .. }
        | OptionsError::Vni { .. }
        | OptionsError::RxRing { .. }
        | OptionsError::UmemFrames { .. }
        | OptionsError::ChunkSize { .. }
        | OptionsError::Batch { .. }
        | OptionsError::CountZero
        | OptionsError::QueueTwice { .. }
        | OptionsError::Cpu { .. }
        | OptionsError::ScatterGather { .. } => return None,
        _ => return None,
    };
    Some(remedy.to_owned())
}

fn forward_path(obstacle: &ForwardObstacle) -> &'static str {
    match obstacle {
        ForwardObstacle::NoTarget => "name one with `--forward TARGET`",
        _ => "use `--forward-path user`",
    }
}

fn attach(interface: &str, cause: Option<&AttachCause>) -> Option<String> {
    let name = shell(interface);
    let doctor = format!("see `mirror doctor -i {name}`");
    let Some(cause) = cause else { return Some(doctor) };
    let step = cause.command(interface).map_or_else(|| doctor.clone(), |command| run(&command));
    Some(match cause {
        AttachCause::HookTaken => format!("stop its owner, or {step}"),
        AttachCause::NotPermitted => ROOT.to_owned(),
        AttachCause::InterfaceGone => return None,
        AttachCause::Obstacle { obstacle: Obstacle::NoNative { .. }, .. }
        | AttachCause::NoNative { .. }
        | AttachCause::VirtioQueues { usable: None } => GENERIC.to_owned(),
        AttachCause::Obstacle { .. } | AttachCause::VirtioQueues { .. } => format!("{step}, or {GENERIC}"),
        AttachCause::TooFewRxQueues { .. } => {
            format!("run `ethtool -L {name} rx N` with N no less than the peer's tx")
        }
        AttachCause::Mtu { most: Some(_), .. } => format!("{step}, the most that the driver takes"),
        AttachCause::Mtu { most: None, .. } => {
            format!("run `ip link set dev {name} mtu 1500` (many drivers take up to 3498), and {doctor}")
        }
        AttachCause::Channels { .. } => {
            format!("run `ethtool -L {name} combined N` with N at most half the maximum, and {doctor}")
        }
        _ => doctor,
    })
}

fn socket(interface: &str, cause: Option<SocketCause>, source: &SocketError) -> Option<String> {
    let Some(cause) = cause else {
        // Limits have their own remedy.
        let limited = matches!(errno(source).map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE));
        let umem = matches!(source, SocketError::Umem { .. });
        return (!limited && !umem).then(|| format!("see `mirror doctor -i {}`", shell(interface)));
    };
    let remedy = match cause {
        SocketCause::QueueTaken => "stop the program that reads it",
        SocketCause::NoZeroCopy | SocketCause::NoAccessPlatform | SocketCause::ZeroCopyRefused => COPY,
        SocketCause::UmemMemory => {
            let memory = format!(
                "{MEMLOCK}, add CAP_IPC_LOCK, or take less memory (`--rx-ring 2048`, fewer `--queues`)"
            );
            let is_other = errno(source) == Some(Errno::ENOMEM as i32);
            let other =
                "; if that is not it, the limit of address space (`ulimit -v`) or of the control group";
            return Some(if is_other { memory + other } else { memory });
        }
        SocketCause::RingMemory => return Some(format!("{MEMLOCK}, or read fewer queues")),
        SocketCause::NotPermitted => ROOT,
        SocketCause::InterfaceDown => {
            return Some(run(&HostCommand::Up { interface: interface.to_owned() }));
        }
        SocketCause::NoBusyPoll => "`--wait spin` works everywhere",
        SocketCause::InterfaceGone | SocketCause::NoAfXdp => return None,
        _ => return None,
    };
    Some(remedy.to_owned())
}

/// Remedies for a target of `--forward`.
pub(super) fn forward(error: &SocketError) -> Option<String> {
    match (error, errno(error).map(Errno::from_raw)) {
        (SocketError::Bind(_), Some(Errno::EBUSY)) => Some(
            "another AF_XDP socket is on its queue 0: stop its owner, or forward to another interface"
                .to_owned(),
        ),
        (SocketError::Umem { .. }, Some(Errno::ENOBUFS | Errno::ENOMEM)) => Some(format!(
            "its memory counts against the limit of locked memory without CAP_IPC_LOCK: {MEMLOCK}, or add \
            CAP_IPC_LOCK"
        )),
        _ => None,
    }
}

fn run(command: &HostCommand) -> String {
    format!("run `{command}`")
}
