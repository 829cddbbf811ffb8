//! A network namespace with one veth pair, removed on every way out.

use std::{
    fs::File,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// A namespace with `target` (what is asked about) and `peer` (what feeds it), both up.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// The pair has `queues` queues a side.
    pub(crate) fn with_pair(queues: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self { name: format!("mirror-doctor-{}-{next}", std::process::id()) };
        run(&["netns", "add", &namespace.name]);
        let queues = queues.to_string();
        let queues = ["numrxqueues", &queues, "numtxqueues", &queues];
        let ends =
            [&["link", "add", "target"][..], &queues, &["type", "veth", "peer", "name", "peer"], &queues]
                .concat();
        namespace.ip(&ends);
        namespace.ip(&["link", "set", "target", "up"]);
        namespace.ip(&["link", "set", "peer", "up"]);
        namespace
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        run(&[&["-n", &self.name], arguments].concat());
    }

    /// Runs `work` on a thread of its own inside the namespace (and outside of it in `/sys`, which stays the host's).
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace is there");
            setns(file, CloneFlags::CLONE_NEWNET).expect("setns needs root");
            work()
        };
        thread::scope(|scope| {
            scope.spawn(entered).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = Command::new("ip").args(["netns", "del", &self.name]).status();
        if !thread::panicking() {
            assert!(removed.expect("ip runs").success(), "{} is not removed", self.name);
        }
    }
}

fn run(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {} (these tests need root): {errors}", arguments.join(" "));
}
