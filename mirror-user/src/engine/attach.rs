//! Attaching: in which mode, and what a refusal means.

use super::{EngineError, InterfacePlan, Mode, advice, options::Options, worker::Worker};
use crate::host::addresses::Addresses;
use crate::xdp::{Program, ProgramSetupError, Settings};

/// Loads and attaches the program in the first mode that the interface takes.
pub(super) fn attach(
    options: &Options,
    plan: &mut InterfacePlan,
    stamp: bool,
    workers: &[Worker],
    addresses: Option<&Addresses>,
) -> Result<(Program, Mode), EngineError> {
    let (name, kernel) = (plan.interface.name.clone(), plan.host.kernel);
    let failed = |error: ProgramSetupError| EngineError::Program {
        interface: name.clone(),
        reason: advice::load(&error, kernel),
    };
    for (position, &mode) in plan.modes.iter().enumerate() {
        let native = mode == Mode::Native;
        let settings = Settings {
            tunnels: &options.tunnels,
            allow: &options.selection.allow,
            stamp,
            own: addresses.is_some(),
            log: options.kernel_log,
            fragments: options.reassemble,
            frags: plan.frags && native,
            queues: plan.most_queues,
        };
        let mut program = Program::load(&settings).map_err(failed)?;
        if let Some(addresses) = addresses {
            program.set_addresses(addresses).map_err(failed)?;
        }
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
                let reason = advice::attach(&plan.host, &plan.obstacles, native, &cause);
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
