//! Attaching: in which mode, and what a refusal means.

use std::sync::Arc;

use super::{
    EngineError, InterfacePlan, Warning, XdpMode, diagnose,
    forward::{Choice, ForwardObstacle},
    options::Options,
    worker::Worker,
};
use crate::{
    error::with_causes,
    host::addresses::Addresses,
    xdp::{ForwardTo, Link, Program, ProgramSetupError, Settings},
};

/// An attached program.
pub(super) struct Attached {
    pub(super) program: Program,
    pub(super) mode: XdpMode,
    /// Which path forwarded frames take.
    pub(super) forward: Choice,
}

/// Loads and attaches the program in the first mode that the interface takes; or, if another process has
/// attached its own, loads it for that mode, ready to replace the other, but for the sockets.
pub(super) fn attach(
    options: &Options,
    plan: &mut InterfacePlan,
    forward: &Choice,
    stamp: bool,
    workers: &[Worker],
    addresses: Option<&Addresses>,
    mut inherited: Option<(Link, XdpMode)>,
) -> Result<Attached, EngineError> {
    let (name, kernel) = (plan.interface.name.clone(), plan.host.kernel);
    let failed = |error: ProgramSetupError| EngineError::Program {
        interface: name.clone(),
        counts_as_locked: diagnose::counts_as_locked(&error, kernel),
        source: error,
    };
    let cannot_forward = |obstacle| EngineError::ForwardPath { interface: name.clone(), obstacle };
    let modes = inherited.as_ref().map_or_else(|| plan.modes.clone(), |(_, mode)| vec![*mode]);
    let mut modes = modes.into_iter().peekable();
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
            forward: None,
            queues: plan.most_queues,
        };
        let choice = forward.on(plan, mode).map_err(cannot_forward)?;
        let (program, choice) =
            load_to_forward(&settings, plan.interface.index, choice).map_err(cannot_forward)?;
        let mut program = match program {
            Some(program) => program,
            None => Program::load(&settings).map_err(failed)?,
        };
        if let Some(addresses) = addresses {
            program.set_addresses(addresses).map_err(failed)?;
        }
        if inherited.is_none() {
            for worker in workers {
                program.set_socket(worker.place.queue, worker.socket).map_err(failed)?;
            }
        }
        let attached = match inherited.take() {
            Some((link, _)) => {
                program.inherit(link);
                Ok(())
            }
            None => program.attach(plan.interface.index, mode),
        };
        match attached {
            Ok(()) => {
                if let Choice::Kernel(path) = &choice {
                    plan.warnings.extend(path.doubts.iter().cloned().map(Warning::Forward));
                }
                return Ok(Attached { program, mode, forward: choice });
            }
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

/// Loads the program that forwards, if that was chosen and the kernel takes it.
fn load_to_forward(
    settings: &Settings<'_>,
    from: u32,
    choice: Choice,
) -> Result<(Option<Program>, Choice), ForwardObstacle> {
    let Choice::Kernel(path) = choice else { return Ok((None, choice)) };
    let forward = Some(ForwardTo {
        from,
        targets: Arc::clone(&path.targets),
        origins: path.origins,
        split: path.split.clone(),
    });
    let program = match Program::load(&Settings { forward, ..settings.clone() }) {
        Ok(program) => program,
        Err(error) => {
            let obstacle = ForwardObstacle::Refused { error: with_causes(&error) };
            return Ok((None, path.without(obstacle)?));
        }
    };
    let Some(reason) = program.sent_unknown() else { return Ok((Some(program), Choice::Kernel(path))) };
    let choice = path.without(ForwardObstacle::NotReported { reason: reason.to_owned() })?;
    let is_taken = matches!(choice, Choice::Kernel(_));
    Ok((is_taken.then_some(program), choice))
}
