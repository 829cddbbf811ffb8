//! Remedies of errors, in flags and commands of this program. The errors of the library only say what is
//! wrong, with names and numbers.

mod engine;
mod host;
mod limits;
mod service;

use std::error::Error;

use mirror_user::{
    engine::{EngineError, OptionsError},
    error::with_causes,
    host::HostError,
    sink::forward::OpenError,
};

/// An error with its causes and its remedy.
pub(crate) fn with_remedy(error: &anyhow::Error) -> String {
    let text = with_causes(error.as_ref());
    match error.chain().find_map(of).or_else(|| limits::of_resource(error, &text)) {
        Some(remedy) => format!("{text}; {remedy}"),
        None => text,
    }
}

/// An error of options, with its remedy.
pub(crate) fn of_options(error: &OptionsError) -> String {
    engine::options(error).map_or_else(|| error.to_string(), |remedy| format!("{error}; {remedy}"))
}

/// The remedy of an error of the library or of one of its causes.
fn of(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<EngineError>() {
        return engine::remedy(error);
    }
    match error.downcast_ref::<OpenError>() {
        Some(OpenError::Host(error)) => return host::remedy(error),
        Some(OpenError::Xsk(error)) => return engine::forward(error),
        _ => {}
    }
    host::remedy(error.downcast_ref::<HostError>()?)
}

#[cfg(test)]
mod tests;
