//! Waiting for a queue that is about to be free.

use std::{
    error::Error,
    io, thread,
    time::{Duration, Instant},
};

use mirror_lab::{LabError, Result};

use crate::refused;

/// How long a queue may stay busy: the kernel frees that of a closed socket later, in a work item.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Binds a socket to a queue, and tries again while another one holds it. `what` names the socket.
///
/// # Errors
///
/// [`LabError::Unexpected`] with what was refused, or with how long the queue was busy.
pub fn bind_when_free<T, E: Error + 'static>(
    what: &str,
    mut bind: impl FnMut() -> std::result::Result<T, E>,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind() {
            Ok(bound) => return Ok(bound),
            Err(error) if !is_busy(&error) => return Err(refused(what, error)),
            Err(_) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(error) => {
                let refused = refused(what, error);
                return Err(LabError::Unexpected(format!(
                    "{refused}: another socket held the queue for {PATIENCE:?}"
                )));
            }
        }
    }
}

/// Whether it is EBUSY, or was caused by it.
fn is_busy(error: &(dyn Error + 'static)) -> bool {
    let this = error.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == io::ErrorKind::ResourceBusy);
    this || error.source().is_some_and(is_busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EBUSY: i32 = 16;
    const EINVAL: i32 = 22;

    /// As that of xsk-rs, whose cause has the errno.
    #[derive(Debug, thiserror::Error)]
    #[error("bind failed")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn a_busy_queue_is_tried_again_and_any_other_error_is_final() {
        let mut answers = [Err(EBUSY), Err(EBUSY), Ok(())].into_iter();
        let mut bind = || answers.next().expect("an answer").map_err(io::Error::from_raw_os_error);
        bind_when_free("a socket", &mut bind).expect("free the third time");

        let mut tries = 0;
        let refused = bind_when_free("a socket", || {
            tries += 1;
            Err::<(), _>(io::Error::from_raw_os_error(EINVAL))
        });
        assert_eq!(tries, 1);
        assert!(refused.expect_err("refused").to_string().starts_with("a socket: Invalid argument"));
    }

    #[test]
    fn a_queue_that_stays_busy_is_named_as_the_cause() {
        let bind = || Err::<(), _>(Wrapped(io::Error::from_raw_os_error(EBUSY)));
        let error = bind_when_free("a socket", bind).expect_err("busy").to_string();
        assert!(error.ends_with("another socket held the queue for 2s"), "{error}");
    }
}
