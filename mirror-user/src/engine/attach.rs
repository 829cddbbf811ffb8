//! Attaching: in which mode, and what a refusal means.

use std::io;

use super::{EngineError, InterfacePlan, Mode, builder::Options, interface::Worker};
use crate::xdp::{self, Program, ProgramSetupError, Settings};

/// Loads and attaches the program in the first mode that the interface takes.
pub(super) fn attach(
    options: &Options,
    plan: &mut InterfacePlan,
    stamp: bool,
    workers: &[Worker],
) -> Result<(Program, Mode), EngineError> {
    let name = plan.interface.name.clone();
    let failed = |error: ProgramSetupError| EngineError::Program {
        interface: name.clone(),
        reason: xdp::chain(&error),
    };
    for (position, &mode) in plan.modes.iter().enumerate() {
        let native = mode == Mode::Native;
        let settings = Settings {
            ports: &options.ports,
            allow: &options.selection.allow,
            stamp,
            log: options.kernel_log,
            frags: plan.frags && native,
            queues: plan.most_queues,
        };
        let mut program = Program::load(&settings).map_err(failed)?;
        for worker in workers {
            program.set_socket(worker.place.queue, worker.socket).map_err(failed)?;
        }
        match program.attach(plan.interface.index, native) {
            Ok(()) => return Ok((program, mode)),
            Err(ProgramSetupError::Attach(cause)) => {
                let is_last = position + 1 == plan.modes.len();
                let final_cause = matches!(
                    cause.raw_os_error(),
                    Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::ENODEV)
                );
                let reason = attach_advice(plan, native, &cause);
                if is_last || final_cause {
                    return Err(EngineError::Attach { interface: name, reason, source: cause });
                }
                plan.warnings.push(format!(
                    "{name}: generic mode, several times slower than native, which failed: {reason}"
                ));
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(EngineError::Options(format!("{name}: no mode to attach in")))
}

/// A bpf_link carries no word from the driver: the cause is inferred from the errno and the interface's facts.
fn attach_advice(plan: &InterfacePlan, native: bool, cause: &io::Error) -> String {
    let interface = &plan.interface;
    let (name, mtu) = (&interface.name, interface.mtu);
    let driver = interface.driver.as_ref().map_or("its driver", |driver| driver.name.as_str());
    match cause.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => {
            format!("another XDP program came first; stop its owner, or run `ip link set dev {name} xdp off`")
        }
        Some(libc::EPERM) => "CAP_NET_ADMIN and CAP_BPF are needed; run as root".to_owned(),
        Some(libc::ENODEV) => "the interface has gone".to_owned(),
        Some(libc::ENOSPC) => format!(
            "{driver} has too few RX queues for its peer's TX queues; `ethtool -L {name} rx N` with N no less than \
             the peer's tx"
        ),
        Some(libc::EOPNOTSUPP) if native => {
            format!("{driver} has no native XDP; use `--mode generic`")
        }
        Some(libc::EINVAL | libc::ERANGE) if native && mtu > 1500 => format!(
            "{driver} refuses ({cause}), most likely for its MTU of {mtu}; run `ip link set dev {name} mtu 1500` (most \
             drivers take up to 3498), and see `mirror doctor -i {name}`"
        ),
        Some(libc::EINVAL | libc::ERANGE | libc::ENOMEM) if native => format!(
            "{driver} refuses ({cause}), most likely for want of free channels; run `ethtool -L {name} combined N` with \
             N at most half the maximum, and see `mirror doctor -i {name}`"
        ),
        _ => format!("{cause}; see `mirror doctor -i {name}`"),
    }
}
