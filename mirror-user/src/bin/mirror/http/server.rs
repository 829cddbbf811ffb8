//! The HTTP thread: one thread, a bounded number of connections, no call that waits for a client.
//!
//! A client whose request is there when it is accepted takes no place. When all places are taken, the client
//! that has kept its place longest without a request is turned away: clients that are slow on purpose do not
//! keep a load balancer's health checks out.

use std::{
    io::ErrorKind,
    net::TcpListener,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    answers::Answers,
    connection::{Connection, TO_SEND, Wants},
};
use crate::observed::{Listener, WITHHELD};

/// Places for clients that have to be waited for.
pub(crate) const CONNECTIONS: usize = 16;
/// The most clients that are accepted before others go on.
const AT_ONCE: usize = 32;
/// Then the thread rests: so it accepts some thousand clients a second at most, and takes a part of a CPU.
const REST: Duration = Duration::from_millis(10);
/// How often clients that wait for an observation are looked after.
const OBSERVED: Duration = Duration::from_millis(20);
/// After the system has refused to accept, for want of file descriptors or memory.
const REFUSED: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Server {
    pub(super) listener: TcpListener,
    pub(super) answers: Answers,
    pub(super) allowed: Vec<IpNet>,
    pub(super) connections: Vec<Connection>,
}

impl Server {
    /// Answers until the process ends.
    pub(super) fn run(mut self) -> ! {
        loop {
            self.wait();
            let observed = self.answers.asked();
            observed.serves(Listener::Http, self.connections.len());
            if !observed.is_withheld() && self.accept() >= AT_ONCE {
                thread::sleep(REST);
            }
            self.drive();
        }
    }

    /// Lets all connections go on.
    fn drive(&mut self) {
        let answers = &mut self.answers;
        self.connections.retain_mut(|connection| {
            connection.drive(answers);
            connection.wants() != Wants::Nothing
        });
    }

    /// Waits until there is something to do.
    fn wait(&self) {
        let (now, mut wait) = (Instant::now(), TO_SEND);
        let mut polled = if self.answers.asked().is_withheld() {
            wait = WITHHELD;
            Vec::new()
        } else {
            vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)]
        };
        for connection in &self.connections {
            wait = wait.min(connection.until().saturating_duration_since(now));
            let events = match connection.wants() {
                Wants::Read => PollFlags::POLLIN,
                Wants::Write => PollFlags::POLLOUT,
                // One that closes would end the wait at once.
                Wants::Observation | Wants::Nothing => {
                    wait = wait.min(OBSERVED);
                    continue;
                }
            };
            polled.push(PollFd::new(connection.stream().as_fd(), events));
        }
        // Not before the time has come.
        let wait = u16::try_from(wait.as_millis() + 1).unwrap_or(u16::MAX);
        match poll(&mut polled, PollTimeout::from(wait)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => thread::sleep(REFUSED),
        }
    }

    /// Accepts those who wait, and returns how many.
    fn accept(&mut self) -> usize {
        for accepted in 0..AT_ONCE {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    // A client that has gone has no addresses.
                    if let Ok(connection) = Connection::new(stream, peer.ip(), &self.allowed) {
                        self.begin(connection);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return accepted,
                // The client has gone, or a signal came.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) => {
                    thread::sleep(REFUSED);
                    return accepted;
                }
            }
        }
        AT_ONCE
    }

    fn begin(&mut self, mut connection: Connection) {
        connection.drive(&mut self.answers);
        if connection.wants() == Wants::Nothing {
            return;
        }
        if self.connections.len() >= CONNECTIONS {
            // The request of one of them may have come by now.
            self.drive();
        }
        if self.connections.len() >= CONNECTIONS {
            // They are in the order in which they came.
            match self.connections.iter().position(Connection::is_idle) {
                Some(oldest) => self.connections.remove(oldest).turn_away(),
                None => return connection.turn_away(),
            }
        }
        self.connections.push(connection);
    }
}
