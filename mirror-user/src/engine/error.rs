//! Why an engine does not start. Each error says what is wrong, with names and numbers; the remedy is the
//! embedding program's, in its own flags and commands.

use std::{fmt, io};

use super::{
    cause::{AttachCause, MtuTooLarge, SocketCause},
    forward::ForwardObstacle,
    hand_over::TakeOverError,
    words::running,
};
use crate::{
    host::{HostError, kernel::KernelVersion, limits::Capability, xdp::XdpHook},
    sink::SinkError,
    xdp::ProgramSetupError,
    xsk::SocketError,
};

/// Why an engine could not be built or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The options contradict each other, or the host's facts.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The process lacks capabilities.
    #[error("live ingest needs {}", names(.missing))]
    Capabilities {
        /// What is missing.
        missing: Vec<Capability>,
    },
    /// The host refused to be asked, or has no such interface.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The driver does not take the MTU in native mode, or frames of that size would be lost.
    #[error("{}: {}", .0.interface, .0)]
    Mtu(Box<MtuTooLarge>),
    /// A queue was asked for that is not there.
    #[error("{interface}: there is no RX queue {queue}: it has {queues}, from 0")]
    NoSuchQueue {
        /// The interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// How many there are.
        queues: u32,
    },
    /// Another program holds the interface's XDP hook.
    #[error("{interface}: an XDP program is attached already ({})", described(.hook))]
    HookHeld {
        /// The interface.
        interface: String,
        /// The program.
        hook: XdpHook,
    },
    /// The program could not be loaded, or its maps not be filled.
    #[error("{interface}: {source}{}", if *.counts_as_locked { LOCKED_MAPS } else { "" })]
    Program {
        /// The interface.
        interface: String,
        /// Whether this kernel counts maps against the limit of locked memory (before 5.11), and refused one
        /// as it does beyond the limit.
        counts_as_locked: bool,
        /// What failed.
        source: ProgramSetupError,
    },
    /// The program could not be attached.
    #[error("{interface}: attach failed: {source}{}", after_colon(.cause))]
    Attach {
        /// The interface.
        interface: String,
        /// What the kernel means by that, where it is known. A bpf_link carries no message of the driver: the
        /// cause is inferred from the errno and the interface's facts.
        cause: Option<AttachCause>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel path of forwarding was requested, and the interface cannot do it.
    #[error("{interface}: the kernel cannot forward: {obstacle}")]
    ForwardPath {
        /// The interface.
        interface: String,
        /// Why not.
        obstacle: ForwardObstacle,
    },
    /// A queue's socket could not be set up.
    #[error("{interface} queue {queue}: {source}{}", after_colon(.cause))]
    Socket {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel means by that, where it is known.
        cause: Option<SocketCause>,
        /// What failed.
        source: SocketError,
    },
    /// A sink could not be built.
    #[error("sink {sink}: {source}")]
    Sink {
        /// The sink's name.
        sink: String,
        /// In its own words.
        source: SinkError,
    },
    /// The thread of a worker could not be started, pinned, or prepared.
    #[error("{interface} queue {queue}: {step}: {source}")]
    Worker {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What was tried.
        step: WorkerStep,
        /// What the system said.
        source: io::Error,
    },
    /// Another thread of the engine could not be started or prepared.
    #[error("thread {name}: {source}")]
    Thread {
        /// The thread's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The run of another process cannot be taken over with these options.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// What another process hands over could not be used.
    #[error("{interface}: what another process hands over: {source}")]
    Inherited {
        /// The interface.
        interface: String,
        /// What the system said.
        source: io::Error,
    },
    /// The CPUs that the process may use could not be read (sched_getaffinity(2)).
    #[error("the CPUs this process may use: {0}")]
    Cpus(#[source] io::Error),
}

const LOCKED_MAPS: &str = ": before kernel 5.11 BPF maps count against the limit of locked memory, whatever \
    the capabilities";

/// What a worker's thread does before it has its socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WorkerStep {
    /// The thread starts.
    Start,
    /// The thread is pinned.
    Pin {
        /// To this CPU.
        cpu: usize,
    },
    /// The thread gets its [`Priority`](super::Priority).
    Priority,
    /// The embedder's [`ThreadHook`](super::ThreadHook) runs.
    Hook,
}

impl fmt::Display for WorkerStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("thread"),
            Self::Pin { cpu } => write!(f, "pinning to CPU {cpu}"),
            Self::Priority => f.write_str("setting its priority (sched_setattr(2))"),
            Self::Hook => f.write_str("preparing the thread"),
        }
    }
}

/// What is wrong with the options of a run, on any host or on this one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is no interface to read.
    #[error("no interface is given")]
    NoInterface,
    /// No interface has this name.
    #[error("{name:?} is no name of an interface: 1 to 15 characters, no /, no : and no space")]
    InterfaceName {
        /// The name asked for.
        name: String,
    },
    /// libpcap's pseudo-interface, which has no XDP hook.
    #[error("the pseudo-interface any has no XDP hook")]
    InterfaceAny,
    /// An interface can be read once.
    #[error("an interface is named twice; each can be read once")]
    InterfaceTwice {
        /// The interface.
        interface: String,
    },
    /// No tunnel port, too many of them, or port 0.
    #[error("between 1 and {most} tunnel ports can be read, none of them 0")]
    TunnelPorts {
        /// How many were asked for.
        given: usize,
        /// How many can be read.
        most: usize,
    },
    /// More VNIs than the XDP program's map takes.
    #[error("{given} VNIs: at most {most} can be accepted")]
    TooManyVnis {
        /// How many were asked for.
        given: usize,
        /// How many are possible.
        most: usize,
    },
    /// More outer sources than the XDP program's maps take.
    #[error("{given} outer sources: at most {most} can be accepted")]
    TooManySources {
        /// How many were asked for.
        given: usize,
        /// How many are possible.
        most: usize,
    },
    /// A VNI has 24 bits (RFC 7348 section 5).
    #[error("VNI {vni} does not fit 24 bits")]
    Vni {
        /// The VNI asked for.
        vni: u32,
    },
    /// The size of an RX ring.
    #[error("an RX ring of {given} descriptors: a power of two from {least} to {most} is needed")]
    RxRing {
        /// The size asked for.
        given: u32,
        /// The smallest.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// The kernel has no zero-copy in generic mode.
    #[error("zero-copy needs native mode")]
    GenericZeroCopy,
    /// Chunks that the fill ring has no room for would never be used.
    #[error("a UMEM of {given} frames: 1 to {most} are possible, as many as the fill ring holds")]
    UmemFrames {
        /// How many were asked for.
        given: u32,
        /// How many are possible: twice the RX ring.
        most: u32,
    },
    /// The size of a chunk.
    #[error("a chunk of {given} bytes: 2048 or 4096 are possible")]
    ChunkSize {
        /// The size asked for, in bytes.
        given: u32,
    },
    /// The size of a batch.
    #[error("a batch of {given} frames: 1 to {most} are possible")]
    Batch {
        /// The size asked for.
        given: usize,
        /// The largest.
        most: usize,
    },
    /// A run of 0 frames.
    #[error("a count of 0 frames asks for nothing")]
    CountZero,
    /// An empty list of queues.
    #[error("the list of queues is empty")]
    NoQueue,
    /// A queue has one socket.
    #[error("queue {queue} is named twice; each has one socket")]
    QueueTwice {
        /// The queue.
        queue: u32,
    },
    /// The process may not use a CPU that was asked for.
    #[error("CPU {cpu} is not one this process may use; it may use {}", listed(.allowed))]
    Cpu {
        /// The CPU asked for.
        cpu: usize,
        /// Those that it may use.
        allowed: Vec<usize>,
    },
    /// The kernel path of forwarding was requested, and the other options exclude it.
    #[error("the kernel cannot forward: {0}")]
    ForwardPath(ForwardObstacle),
    /// The kernel has no frames in several descriptors (`XDP_USE_SG`, 6.6 and later).
    #[error("frames in several descriptors need kernel 6.6 or later, {}", running(*.kernel))]
    ScatterGather {
        /// The running kernel's version, where it is known.
        kernel: Option<KernelVersion>,
    },
}

fn names(capabilities: &[Capability]) -> String {
    capabilities.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")
}

fn listed(numbers: &[usize]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn described(hook: &XdpHook) -> String {
    let name = hook.name.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    format!("{} mode, id {}{name}", hook.mode.name(), hook.program)
}

fn after_colon(cause: &Option<impl fmt::Display>) -> String {
    cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Embedders have no flags.
    #[test]
    fn modules_of_the_engine_name_no_flag_of_the_command() {
        fn visit(path: &Path, words: &[String]) {
            if path.is_dir() {
                return fs::read_dir(path).unwrap().for_each(|entry| visit(&entry.unwrap().path(), words));
            }
            let text = fs::read_to_string(path).unwrap();
            for (number, line) in (1..).zip(text.lines()) {
                assert!(!words.iter().any(|word| line.contains(word)), "{}:{number}: {line}", path.display());
            }
        }
        let words = ["-", "mirror ", "sudo ", "ulimit"].map(|word| format!("`{word}"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for module in ["engine", "xdp", "xsk", "host"] {
            visit(&source.join(module), &words);
        }
    }
}
