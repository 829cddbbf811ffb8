//! Errors and panics as text.

use std::{any::Any, error::Error, io};

/// An error with its causes, less those that it has in its own words already.
///
/// ```
/// let cause = std::io::Error::from_raw_os_error(2);
/// assert_eq!(mirror_user::error::with_causes(&cause), cause.to_string());
/// ```
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The errno at the bottom of an error, where it has one.
///
/// ```
/// let cause = std::io::Error::from_raw_os_error(2);
/// assert_eq!(mirror_user::error::errno(&cause), Some(2));
/// ```
#[must_use]
pub fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let own = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    own.or_else(|| error.source().and_then(errno))
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    format!("panicked: {message}")
}
