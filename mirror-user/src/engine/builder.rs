//! Describing a run.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};

use mirror_ebpf::mirror::{MAX_PORTS, MAX_SOURCES, MAX_VNIS};

use super::{
    BindMode, Destination, Engine, EngineError, ForwardPath, Inheritance, Mode, OnInterfaceLost,
    OptionsError, Priority, Queues, ThreadHook, Wait, forward, options::Options, plan,
};
use crate::{
    frame::MAX_BATCH, host::interface::may_be_name, select::Selection, sink::SinkFactory, tunnels::Tunnels,
    wire::vxlan::MAX_VNI,
};

/// Describes a run. Every setting has a default that works.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct EngineBuilder {
    options: Options,
}

/// Batch size that AF_XDP practice agrees on.
const DEFAULT_BATCH: u32 = 64;
/// Descriptors that an RX ring may have, a power of two.
const RX_RINGS: RangeInclusive<u32> = 64..=32768;

impl EngineBuilder {
    /// Descriptors of an RX ring by default: the most that leaves the frames' headers in a core's
    /// second-level cache, and 2 to 6 ms of the rates a queue has. `docs/experiments.md` has what longer ones
    /// cost.
    pub const DEFAULT_RX_RING: u32 = 8192;
    /// Chunks of a queue's UMEM by default: the RX ring and a batch.
    pub(crate) const DEFAULT_UMEM_FRAMES: u32 = Self::DEFAULT_RX_RING + DEFAULT_BATCH;

    pub(super) fn new(interface: String) -> Self {
        Self::default().interface(interface)
    }

    /// Adds an interface.
    pub fn interface(mut self, interface: impl Into<String>) -> Self {
        self.options.interfaces.push(interface.into());
        self
    }

    /// RX queues to read, of each interface. Default: all.
    pub fn queues(mut self, queues: Queues) -> Self {
        self.options.queues = queues;
        self
    }

    /// CPUs for the workers, used in turn. Default: those the process may use, from the last one down,
    /// because interrupts tend to sit on the first.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.options.cpus = cpus.into_iter().collect();
        self
    }

    /// XDP mode. Default: [`Mode::Auto`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.options.mode = mode;
        self
    }

    /// How frames get into the UMEM. Default: [`BindMode::Auto`].
    pub fn bind(mut self, bind: BindMode) -> Self {
        self.options.bind = bind;
        self
    }

    /// How workers wait. Default: [`Wait::Poll`].
    pub fn wait(mut self, wait: Wait) -> Self {
        self.options.wait = wait;
        self
    }

    /// How workers compete with other threads for their CPUs. Default: [`Priority::Auto`].
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = priority;
        self
    }

    /// Whether frames must be addressed to the interface. Default: [`Destination::Own`].
    pub fn destination(mut self, destination: Destination) -> Self {
        self.options.destination = destination;
        self
    }

    /// Which path frames take to the target of a sink that forwards them. Default: [`ForwardPath::Auto`].
    pub fn forward_path(mut self, path: ForwardPath) -> Self {
        self.options.forward_path = path;
        self
    }

    /// Whether the run continues when one of several interfaces is deleted. Default:
    /// [`OnInterfaceLost::End`].
    pub fn on_interface_lost(mut self, then: OnInterfaceLost) -> Self {
        self.options.on_interface_lost = then;
        self
    }

    /// Tunnels to take frames of, at most four; `[4789, 6081]` is VXLAN on the one port and GENEVE on the
    /// other. Default: VXLAN on 4789.
    pub fn tunnels(mut self, tunnels: impl Into<Tunnels>) -> Self {
        self.options.tunnels = tunnels.into();
        self
    }

    /// Which frames are selected. The XDP program drops those of other VNIs and outer sources, and counts
    /// them; frames that a filter does not match count as deselected, for each sink. Default: all.
    pub fn select(mut self, selection: impl Into<Selection>) -> Self {
        self.options.selection = selection.into();
        self
    }

    /// Ends the run after exactly this many inner frames, over all workers. Default: no end.
    pub fn count(mut self, frames: u64) -> Self {
        self.options.count = Some(frames);
        self
    }

    /// Descriptors of each RX ring, a power of two; the fill ring has twice as many. Default: 8192.
    /// A larger one absorbs longer scheduling delays; a smaller one stays in the caches, and is faster.
    pub fn rx_ring(mut self, descriptors: u32) -> Self {
        self.options.rx_ring = descriptors;
        self
    }

    /// Chunks of each queue's UMEM, at most as many as the fill ring takes, twice the RX ring. Default: the
    /// RX ring and a batch. More are never needed, and each makes it more likely that the kernel reuses a
    /// chunk that has left the caches.
    pub fn umem_frames(mut self, chunks: u32) -> Self {
        self.options.umem_frames = Some(chunks);
        self
    }

    /// Bytes of a chunk, 2048 or 4096. Default: 2048 if the MTU allows.
    pub fn chunk_size(mut self, bytes: u32) -> Self {
        self.options.chunk_size = Some(bytes);
        self
    }

    /// Frames a batch takes, 1 to [`MAX_BATCH`]. Default: 64.
    pub fn batch(mut self, frames: usize) -> Self {
        self.options.batch = frames;
        self
    }

    /// Whether to try huge pages for the UMEM, with ordinary pages as the fallback. Default: yes.
    pub fn huge_pages(mut self, wanted: bool) -> Self {
        self.options.huge_pages = wanted;
        self
    }

    /// Whether sockets take frames in several descriptors (`XDP_USE_SG`) even where the MTU does not need it.
    /// Default: only where a frame may be larger than a chunk takes. Minimum kernel version: 6.6.
    pub fn scatter_gather(mut self, wanted: bool) -> Self {
        self.options.scatter_gather = wanted;
        self
    }

    /// Whether outer frames that were fragmented on their way are [reassembled](crate::reassembly). Without,
    /// the XDP program passes them to the host. Default: yes. It takes up to
    /// [`MEMORY`](crate::reassembly::MEMORY) as fragments come, and an LRU map in the kernel.
    pub fn reassemble(mut self, wanted: bool) -> Self {
        self.options.reassemble = wanted;
        self
    }

    /// Has the XDP program log rare states, as `tracing` events through the `log` facade. Default: no.
    pub fn kernel_log(mut self, wanted: bool) -> Self {
        self.options.kernel_log = wanted;
        self
    }

    /// Called on each of the engine's threads before its first frame. Default: nothing.
    pub fn on_thread_ready(mut self, hook: ThreadHook) -> Self {
        self.options.hook = Some(hook);
        self
    }

    /// Goes on with a run of another process, instead of a new one: its sockets, with the frames in them, and
    /// its interfaces' attachment. The options that sockets depend on must be the same. Minimum kernel
    /// version: 6.4.
    pub fn take_over(mut self, inheritance: Inheritance) -> Self {
        self.options.inheritance = Some(Arc::new(inheritance));
        self
    }

    /// Adds a sink. A run without any still counts.
    pub fn sink(mut self, sink: impl SinkFactory + 'static) -> Self {
        self.options.sinks.push(Arc::new(sink));
        self
    }

    /// Checks the options that do not depend on the host. [`build`](Self::build) does so first.
    ///
    /// # Errors
    ///
    /// [`EngineError::Options`].
    pub fn validate(&self) -> Result<(), EngineError> {
        Ok(validate(&self.options)?)
    }

    /// Checks the options against the host, and makes the plan. Changes nothing.
    ///
    /// # Errors
    ///
    /// What contradicts itself, is missing, or does not fit the host.
    pub fn build(self) -> Result<Engine, EngineError> {
        self.validate()?;
        let options = self.options;
        if options.interfaces.is_empty() {
            return Err(OptionsError::NoInterface.into());
        }
        let plan = plan::make(&options)?;
        Ok(Engine { options, plan })
    }
}

/// All defaults, and no interface yet: [`interface`](EngineBuilder::interface) adds them.
impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            options: Options {
                interfaces: Vec::new(),
                queues: Queues::default(),
                cpus: Vec::new(),
                mode: Mode::default(),
                bind: BindMode::default(),
                wait: Wait::default(),
                priority: Priority::default(),
                destination: Destination::default(),
                forward_path: ForwardPath::default(),
                on_interface_lost: OnInterfaceLost::default(),
                tunnels: Tunnels::default(),
                selection: Selection::all(),
                count: None,
                rx_ring: Self::DEFAULT_RX_RING,
                umem_frames: None,
                chunk_size: None,
                batch: DEFAULT_BATCH as usize,
                huge_pages: true,
                scatter_gather: false,
                reassemble: true,
                kernel_log: false,
                hook: None,
                sinks: Vec::new(),
                inheritance: None,
            },
        }
    }
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder").field("interfaces", &self.options.interfaces).finish_non_exhaustive()
    }
}

fn validate(options: &Options) -> Result<(), OptionsError> {
    let Options {
        interfaces,
        tunnels,
        selection,
        rx_ring,
        umem_frames,
        chunk_size,
        batch,
        count,
        queues,
        mode,
        bind,
        ..
    } = options;
    if let Some(name) = interfaces.iter().find(|name| !may_be_name(name)) {
        return Err(OptionsError::InterfaceName { name: name.clone() });
    }
    if interfaces.iter().any(|name| name == "any") {
        return Err(OptionsError::InterfaceAny);
    }
    if let Some(name) = twice(interfaces) {
        return Err(OptionsError::InterfaceTwice { interface: name.clone() });
    }
    if tunnels.is_empty() || tunnels.len() > MAX_PORTS || tunnels.contains(0) {
        return Err(OptionsError::TunnelPorts { given: tunnels.len(), most: MAX_PORTS });
    }
    let (vnis, sources) = (selection.allow.vni_list(), selection.allow.source_list());
    if vnis.len() > MAX_VNIS as usize {
        return Err(OptionsError::TooManyVnis { given: vnis.len(), most: MAX_VNIS as usize });
    }
    if sources.len() > MAX_SOURCES as usize {
        return Err(OptionsError::TooManySources { given: sources.len(), most: MAX_SOURCES as usize });
    }
    if !rx_ring.is_power_of_two() || !RX_RINGS.contains(rx_ring) {
        let (least, most) = (*RX_RINGS.start(), *RX_RINGS.end());
        return Err(OptionsError::RxRing { given: *rx_ring, least, most });
    }
    if *mode == Mode::Generic && *bind == BindMode::ZeroCopy {
        return Err(OptionsError::GenericZeroCopy);
    }
    if let Some(frames) = umem_frames.filter(|&frames| frames == 0 || frames > rx_ring * 2) {
        return Err(OptionsError::UmemFrames { given: frames, most: rx_ring * 2 });
    }
    if let Some(size) = chunk_size.filter(|&size| size != 2048 && size != 4096) {
        return Err(OptionsError::ChunkSize { given: size });
    }
    if !(1..=MAX_BATCH).contains(batch) {
        return Err(OptionsError::Batch { given: *batch, most: MAX_BATCH });
    }
    if *count == Some(0) {
        return Err(OptionsError::CountZero);
    }
    if let Some(&vni) = vnis.last().filter(|vni| **vni > MAX_VNI) {
        return Err(OptionsError::Vni { vni });
    }
    if let Queues::List(list) = queues {
        if list.is_empty() {
            return Err(OptionsError::NoQueue);
        }
        if let Some(&queue) = twice(list) {
            return Err(OptionsError::QueueTwice { queue });
        }
    }
    forward::validate(options)
}

/// The first that is there a second time.
fn twice<T: Ord>(list: &[T]) -> Option<&T> {
    let mut before = BTreeSet::new();
    list.iter().find(|one| !before.insert(*one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(EngineBuilder) -> EngineBuilder) -> OptionsError {
        match change(EngineBuilder::new("ens5".to_owned())).validate() {
            Err(EngineError::Options(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_valid() {
        EngineBuilder::new("ens5".to_owned()).validate().unwrap();
    }

    #[test]
    fn a_run_without_an_interface_is_valid_and_not_built() {
        EngineBuilder::default().validate().unwrap();
        let built = EngineBuilder::default().build();
        assert!(matches!(built, Err(EngineError::Options(OptionsError::NoInterface))), "{built:?}");
    }

    #[test]
    fn options_that_are_out_of_range_are_refused_with_their_numbers() {
        use OptionsError as E;
        let rows: [(E, E); 10] = [
            (refused(|run| run.interface("any")), E::InterfaceAny),
            (refused(|run| run.interface("ens5")), E::InterfaceTwice { interface: "ens5".to_owned() }),
            (refused(|run| run.rx_ring(96)), E::RxRing { given: 96, least: 64, most: 32768 }),
            (refused(|run| run.rx_ring(65536)), E::RxRing { given: 65536, least: 64, most: 32768 }),
            (refused(|run| run.rx_ring(64).umem_frames(129)), E::UmemFrames { given: 129, most: 128 }),
            (refused(|run| run.chunk_size(8192)), E::ChunkSize { given: 8192 }),
            (refused(|run| run.batch(0)), E::Batch { given: 0, most: MAX_BATCH }),
            (refused(|run| run.queues(Queues::List(vec![]))), E::NoQueue),
            (refused(|run| run.queues(Queues::List(vec![0, 3, 0]))), E::QueueTwice { queue: 0 }),
            (refused(|run| run.mode(Mode::Generic).bind(BindMode::ZeroCopy)), E::GenericZeroCopy),
        ];
        for (refused, expected) in rows {
            assert_eq!(refused, expected);
        }
    }
}
