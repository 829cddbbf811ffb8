//! Attaching: in which mode, and what a refusal means.

use super::{EngineError, InterfacePlan, Warning, XdpMode, diagnose, options::Options, worker::Worker};
use crate::host::addresses::Addresses;
use crate::xdp::{Program, ProgramSetupError, Settings};

/// Loads and attaches the program in the first mode that the interface takes.
pub(super) fn attach(
    options: &Options,
    plan: &mut InterfacePlan,
    stamp: bool,
    workers: &[Worker],
    addresses: Option<&Addresses>,
) -> Result<(Program, XdpMode), EngineError> {
    let (name, kernel) = (plan.interface.name.clone(), plan.host.kernel);
    let failed = |error: ProgramSetupError| EngineError::Program {
        interface: name.clone(),
        counts_as_locked: diagnose::counts_as_locked(&error, kernel),
        source: error,
    };
    let mut modes = plan.modes.clone().into_iter().peekable();
    loop {
        // There is always one: see `layout`.
        let mode = modes.next().unwrap_or(XdpMode::Generic);
        let settings = Settings {
            tunnels: &options.tunnels,
            allow: &options.selection.allow,
            stamp,
            own: addresses.is_some(),
            log: options.kernel_log,
            fragments: options.reassemble,
            frags: plan.frags && mode == XdpMode::Native,
            queues: plan.most_queues,
        };
        let mut program = Program::load(&settings).map_err(failed)?;
        if let Some(addresses) = addresses {
            program.set_addresses(addresses).map_err(failed)?;
        }
        for worker in workers {
            program.set_socket(worker.place.queue, worker.socket).map_err(failed)?;
        }
        match program.attach(plan.interface.index, mode) {
            Ok(()) => return Ok((program, mode)),
            Err(ProgramSetupError::Attach(source)) => {
                let is_final = matches!(
                    source.raw_os_error(),
                    Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::ENODEV)
                );
                let cause = diagnose::attach(&plan.host, &plan.obstacles, mode, &source);
                if is_final || modes.peek().is_none() {
                    return Err(EngineError::Attach { interface: name, cause, source });
                }
                plan.warnings.push(Warning::NativeRefused { error: source.to_string(), cause });
            }
            Err(error) => return Err(failed(error)),
        }
    }
}
