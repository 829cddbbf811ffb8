//! Network namespaces: those of others by name or process, and one of our own that ends with this process.

use std::{
    fmt,
    fs::File,
    io, panic,
    path::PathBuf,
    thread::{self, Builder},
};

use nix::sched::{CloneFlags, setns, unshare};

use super::HostError;

/// A network namespace, as users name it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NetworkNamespace {
    /// One of `ip netns list`.
    Named(String),
    /// That of a process, by its id.
    OfProcess(u32),
}

impl NetworkNamespace {
    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Named(name) => PathBuf::from("/run/netns").join(name),
            Self::OfProcess(process) => format!("/proc/{process}/ns/net").into(),
        }
    }
}

impl fmt::Display for NetworkNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::OfProcess(process) => write!(f, "{process}"),
        }
    }
}

/// Where something is done: in the calling thread's network namespace, or in another one, which exists at
/// least as long as this value.
#[derive(Debug)]
pub(super) enum Place {
    Here,
    In(File),
}

impl Place {
    /// Opens the namespace of others. Needs CAP_SYS_PTRACE for a process of another user.
    pub(super) fn open(namespace: &NetworkNamespace) -> Result<Self, HostError> {
        let refused = |source| HostError::Namespace { namespace: namespace.clone(), source };
        let place = Self::In(File::open(namespace.path()).map_err(refused)?);
        // A file that is none is refused here, not later with another message.
        place.enter(|| ()).map_err(refused)?;
        Ok(place)
    }

    /// A new namespace without a name. It ends, with all virtual interfaces in it, when the last descriptor
    /// is closed that belongs to it, in whichever way the process ends. Needs CAP_SYS_ADMIN.
    pub(super) fn unnamed() -> io::Result<Self> {
        on_another_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map(Self::In)
        })?
    }

    /// Runs a closure there. Sockets stay in the namespace in which they were opened. Another namespace than
    /// this thread's needs CAP_SYS_ADMIN.
    pub(super) fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
        match self {
            Self::Here => Ok(inside()),
            Self::In(file) => on_another_thread(|| {
                setns(file, CloneFlags::CLONE_NEWNET)?;
                Ok(inside())
            })?,
        }
    }
}

/// A thread can change its namespace, so one is made for that. A panic continues in the caller.
fn on_another_thread<T: Send>(run: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = Builder::new().name("mirror-netns".to_owned()).spawn_scoped(scope, run)?;
        Ok(thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause)))
    })
}

#[cfg(test)]
mod tests {
    use nix::net::if_::if_nametoindex;

    use super::*;

    #[test]
    fn a_namespace_has_the_path_of_its_name_or_process() {
        let named = NetworkNamespace::Named("ids".to_owned());
        assert_eq!(named.path(), PathBuf::from("/run/netns/ids"));
        assert_eq!(NetworkNamespace::OfProcess(7).path(), PathBuf::from("/proc/7/ns/net"));
    }

    #[test]
    fn an_unnamed_namespace_is_new_and_this_thread_stays_in_its_own() {
        let identity = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = identity();
        let place = Place::unnamed().unwrap();
        let inside = place.enter(|| (identity(), if_nametoindex("lo").is_ok())).unwrap();
        assert!(inside.0 != before && inside.1, "{inside:?}");
        assert_eq!(identity(), before);
    }

    #[test]
    fn what_is_no_namespace_is_refused_by_its_name() {
        let missing = NetworkNamespace::Named("mirror-test-missing".to_owned());
        let error = Place::open(&missing).unwrap_err().to_string();
        assert!(error.contains("mirror-test-missing") && error.contains("No such file"), "{error}");
    }
}
