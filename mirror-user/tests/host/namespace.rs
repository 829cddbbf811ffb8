//! A lab of one namespace with one veth pair, all of it asked about from inside.

use mirror_lab::Lab;

/// A namespace with `target` (what is asked about) and `peer` (what feeds it), both up.
pub(crate) struct Namespace {
    inside: mirror_lab::Namespace,
    lab: Lab,
}

impl Namespace {
    /// The pair has `queues` queues a side.
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

    /// Runs `work` on a thread of its own inside the namespace (and outside of it in `/sys`, which stays the
    /// host's).
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.inside.enter(work).unwrap()
    }
}
