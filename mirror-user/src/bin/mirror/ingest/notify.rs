//! What systemd is sent about the state of the service: `sd_notify(3)`.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::channel;

/// The socket named by `$NOTIFY_SOCKET`, if the run is such a service (`Type=notify`).
#[derive(Debug)]
pub(super) struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// Connects at once: the sandbox would deny an abstract socket later.
    pub(super) fn connect() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Self(None);
        };
        let socket = connect(&path).inspect_err(|error| {
            tracing::warn!(%error, "$NOTIFY_SOCKET: systemd cannot be notified");
        });
        Self(socket.ok())
    }

    /// Sends a state, such as `READY=1`.
    pub(super) fn notify(&self, state: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::warn!(%error, "systemd cannot be notified of {state}");
        }
    }

    /// Sends a state with a descriptor; waits for a while until systemd has room for it.
    pub(super) fn pass(&self, state: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        /// In ms.
        const PATIENCE: u16 = 5000;
        let socket = self.0.as_ref().ok_or_else(|| io::Error::other("there is no $NOTIFY_SOCKET"))?.as_fd();
        let send = || channel::pass(socket, state.as_bytes(), &[descriptor]);
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(socket, PollFlags::POLLOUT)], PollTimeout::from(PATIENCE))?;
                send()
            }
            sent => sent,
        }
    }
}

/// A path, or an abstract name after `@`.
fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A service manager that does not read must not stop the run.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn states_are_sent_to_sockets_with_paths_and_with_abstract_names() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("mirror-notify-{}", std::process::id());
        let abstracted = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstracted).unwrap();
        for (path, socket) in [(path.into_os_string(), &by_path), (format!("@{name}").into(), &by_name)] {
            Notifier(Some(connect(&path).unwrap())).notify("READY=1");
            assert_eq!(received(socket), "READY=1");
        }
    }

    #[test]
    fn a_service_manager_that_has_gone_does_not_stop_the_run() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier(Some(connect(path.as_os_str()).unwrap()));
        drop(socket);
        notifier.notify("STOPPING=1");
        assert!(connect(path.as_os_str()).is_err());
    }
}
