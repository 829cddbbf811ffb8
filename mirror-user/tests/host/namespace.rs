//! A namespace with a veth pair, examined from inside.

use mirror_lab::Lab;

/// A namespace with `target` (the interface under test) and `peer` (its sender), both up.
pub(crate) struct Namespace {
    inside: mirror_lab::Namespace,
    lab: Lab,
}

impl Namespace {
    /// The pair has `queues` queues per side.
    pub(crate) fn with_pair(queues: u32) -> Self {
        let lab = Lab::new().expect("these tests need root");
        let inside = lab.namespace("host").unwrap();
        let namespace = Self { inside, lab };
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        namespace.ip(&format!("link add target {queues} type veth peer name peer {queues}"));
        namespace.ip("link set target up");
        namespace.ip("link set peer up");
        namespace
    }

    /// One more namespace, empty.
    pub(crate) fn another(&self) -> mirror_lab::Namespace {
        self.lab.namespace("container").unwrap()
    }

    /// Runs `ip` inside, arguments separated by blanks.
    pub(crate) fn ip(&self, arguments: &str) {
        self.inside.ip(arguments).unwrap();
    }

    /// Runs `work` on a thread inside the namespace (but with the host's `/sys`).
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.inside.enter(work).unwrap()
    }
}
