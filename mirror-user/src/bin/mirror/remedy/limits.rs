//! Remedies of limits that were reached.

use std::{error::Error, io};

use nix::errno::Errno;

/// The remedy of a limit, by its errno; `None` for other errors.
pub(super) fn remedy(errno: i32) -> Option<&'static str> {
    match Errno::from_raw(errno) {
        Errno::EMFILE => {
            Some("raise the limit of open files: `ulimit -n 1024`, in a unit file `LimitNOFILE=1024`")
        }
        Errno::ENFILE => {
            Some("the host is out of open files: stop what holds them, or raise `sysctl fs.file-max`")
        }
        Errno::ENOMEM => Some(
            "no memory: raise its limit (`ulimit -v`, `ulimit -l`; in a unit file `MemoryMax=`, \
            `LimitAS=`, `LimitMEMLOCK=`), or read fewer queues",
        ),
        Errno::EROFS => Some(
            "the file system is read-only for this process: in the unit of a service, \
            `ReadWritePaths=DIRECTORY` permits one",
        ),
        Errno::EAGAIN => Some(
            "no more threads: raise the limit (`ulimit -u`; in a unit file `LimitNPROC=`, `TasksMax=`), or \
            read fewer queues",
        ),
        _ => None,
    }
}

/// The same for an error without a remedy of its own; `text` is the error with its causes.
pub(super) fn of_resource(error: &anyhow::Error, text: &str) -> Option<String> {
    // In text that std::io::Error has formatted.
    let of_text = || text.rsplit_once("(os error ")?.1.split_once(')')?.0.parse().ok();
    let errno = error.chain().find_map(own_errno).or_else(of_text)?;
    // EAGAIN has other causes elsewhere.
    let is_other = errno == Errno::EAGAIN as i32 && !text.contains("thread");
    if is_other || text.contains("ulimit") { None } else { remedy(errno).map(str::to_owned) }
}

fn own_errno(error: &(dyn Error + 'static)) -> Option<i32> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error.raw_os_error(),
        None => error.downcast_ref::<Errno>().map(|errno| *errno as i32),
    }
}
