//! A balancer made of nftables and conntrack, with health checks over HTTP.
//!
//! It does what a Network Load Balancer does for UDP: a new flow goes to a target by a hash of its addresses
//! and ports, and stays there while it lives. Targets are those that pass their health checks, or, if none
//! does, all. Flows of a target that fails its checks are ended, so that their next packets are sent anew.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use mirror_lab::{Namespace, VethEnd};

use super::{
    common::{http::Client, mirror::until},
    jhash,
};

/// Seed of the hash.
const SEED: u32 = 0x4d1b;
/// Between two health checks of a target; a Network Load Balancer's are 5 s apart at least.
const INTERVAL: Duration = Duration::from_millis(200);
/// So many in a row that agree turn a target healthy or unhealthy, the fewest that can be set.
const THRESHOLD: u32 = 2;
/// For so long an unhealthy target still gets packets; behind a Network Load Balancer for 30 to 40 s.
const LATENCY: Duration = Duration::from_secs(1);
/// For how long an answer is waited for, as by default.
const TIMEOUT: Duration = Duration::from_secs(6);

/// Address of a target on its own link to the balancer.
pub(crate) fn address(target: usize) -> String {
    format!("10.20.{target}.2")
}

/// The target of a new flow, by its source address and source port, among these.
pub(crate) fn choice(source: [u8; 4], port: u16, targets: &[usize]) -> usize {
    let modulus = u32::try_from(targets.len()).expect("a few targets");
    targets[jhash::of(source, port, modulus, SEED) as usize]
}

/// Stops its health checks when dropped.
pub(crate) struct Balancer {
    shared: Arc<Shared>,
    checks: Vec<JoinHandle<()>>,
}

struct Shared {
    namespace: Namespace,
    /// Whether a target is healthy, by number.
    targets: Mutex<BTreeMap<usize, bool>>,
    is_over: AtomicBool,
}

impl Balancer {
    /// Sends VXLAN that comes in at an interface to targets; there are none yet.
    pub(crate) fn new(inside: &VethEnd) -> Self {
        let namespace = inside.namespace.clone();
        namespace.sysctl("net/ipv4/ip_forward", "1").expect("forwarding");
        let shared = Shared { namespace, targets: Mutex::default(), is_over: AtomicBool::new(false) };
        shared.nft(
            "add table ip fleet
            add chain ip fleet prerouting { type nat hook prerouting priority dstnat; }",
        );
        Self { shared: Arc::new(shared), checks: Vec::new() }
    }

    /// Registers a target; it is unhealthy until its health checks pass.
    pub(crate) fn register(&mut self, target: usize) {
        self.shared.lock().insert(target, false);
        self.shared.apply(&self.shared.lock());
        let shared = Arc::clone(&self.shared);
        self.checks.push(thread::spawn(move || shared.check(target)));
    }

    /// Healthy targets.
    pub(crate) fn healthy(&self) -> Vec<usize> {
        self.shared.lock().iter().filter(|(_, healthy)| **healthy).map(|(target, _)| *target).collect()
    }

    /// Waits until these and no other targets are healthy.
    #[track_caller]
    pub(crate) fn sees_healthy(&self, targets: &[usize]) {
        until("targets are healthy, and others are not", || (self.healthy() == targets).then_some(()));
    }

    /// Ends all flows, as when each has been idle for long enough.
    pub(crate) fn end_flows(&self) {
        self.shared.conntrack("-F");
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for check in self.checks.drain(..) {
            if check.join().is_err() {
                eprintln!("a health check panicked");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, bool>> {
        self.targets.lock().expect("the balancer")
    }

    /// Checks a target's health until the end.
    fn check(&self, target: usize) {
        let address = format!("{}:8080", address(target));
        let client = Client { patience: TIMEOUT, ..Client::new(&self.namespace, &address) };
        let (mut healthy, mut differing) = (false, 0);
        while !self.is_over.load(Ordering::Relaxed) {
            let answer = client.ask("/health");
            let passes = answer.as_ref().is_ok_and(|(status, _)| (200..400).contains(status));
            differing = if passes == healthy { 0 } else { differing + 1 };
            if differing == THRESHOLD {
                (healthy, differing) = (passes, 0);
                println!(
                    "balancer: target {target} is {}: {answer:?}",
                    ["unhealthy", "healthy"][usize::from(healthy)]
                );
                self.turn(target, healthy);
            }
            thread::sleep(INTERVAL);
        }
    }

    fn turn(&self, target: usize, healthy: bool) {
        if !healthy {
            thread::sleep(LATENCY);
        }
        let mut targets = self.lock();
        targets.insert(target, healthy);
        self.apply(&targets);
        // After the rules, or a packet in between would go there again.
        if !healthy {
            self.conntrack(&format!("-D --reply-src {}", address(target)));
        }
    }

    /// In one transaction: each new flow goes by the old rule or by the new one.
    fn apply(&self, targets: &BTreeMap<usize, bool>) {
        let healthy: Vec<_> = targets.iter().filter(|(_, healthy)| **healthy).collect();
        let used = if healthy.is_empty() { targets.iter().collect() } else { healthy };
        let map: Vec<_> = used
            .iter()
            .enumerate()
            .map(|(slot, (target, _))| format!("{slot} : {}", address(**target)))
            .collect();
        let (modulus, map) = (map.len(), map.join(", "));
        self.nft(&format!(
            "flush chain ip fleet prerouting
            add rule ip fleet prerouting iifname in0 udp dport 4789 \
            dnat to jhash ip saddr . udp sport mod {modulus} seed {SEED} map {{ {map} }}"
        ));
    }

    fn nft(&self, rules: &str) {
        let mut nft = self.namespace.command("nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
        nft.stdin.take().expect("a pipe").write_all(format!("{rules}\n").as_bytes()).expect("rules");
        assert!(nft.wait().expect("nft").success(), "{rules}");
    }

    /// Ends flows. It fails where there are none.
    fn conntrack(&self, arguments: &str) {
        let mut conntrack = self.namespace.command("conntrack");
        let output = conntrack.args(arguments.split(' ')).output().expect("conntrack");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("flow entries have been deleted") || said.contains("emptied"), "{said}");
    }
}
