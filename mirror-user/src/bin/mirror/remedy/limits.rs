//! Resources that ran out, wherever that happened.

use std::{error::Error, io};

use nix::errno::Errno;

/// What to do about a resource that ran out, by its errno; `None` where it is none of these.
pub(super) fn remedy(errno: i32) -> Option<&'static str> {
    match Errno::from_raw(errno) {
        Errno::EMFILE => {
            Some("raise the limit of open files: `ulimit -n 1024`, in a unit file `LimitNOFILE=1024`")
        }
        Errno::ENFILE => {
            Some("the host has no more files: end what holds them, or raise `sysctl fs.file-max`")
        }
        Errno::ENOMEM => Some(
            "no memory: raise what limits it (`ulimit -v`, `ulimit -l`; in a unit file `MemoryMax=`, \
            `LimitAS=`, `LimitMEMLOCK=`), or read fewer queues",
        ),
        Errno::EAGAIN => Some(
            "no more threads: raise the limit (`ulimit -u`; in a unit file `LimitNPROC=`, `TasksMax=`), or \
            read fewer queues",
        ),
        _ => None,
    }
}

/// The same of an error that says nothing of limits; `text` is the error with its causes.
pub(super) fn of_resource(error: &anyhow::Error, text: &str) -> Option<String> {
    // Where it is text already: as std::io::Error has it.
    let of_text = || text.rsplit_once("(os error ")?.1.split_once(')')?.0.parse().ok();
    let errno = error.chain().find_map(own_errno).or_else(of_text)?;
    // EAGAIN means other things elsewhere.
    let is_other = errno == Errno::EAGAIN as i32 && !text.contains("thread");
    if is_other || text.contains("ulimit") { None } else { remedy(errno).map(str::to_owned) }
}

fn own_errno(error: &(dyn Error + 'static)) -> Option<i32> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error.raw_os_error(),
        None => error.downcast_ref::<Errno>().map(|errno| *errno as i32),
    }
}
