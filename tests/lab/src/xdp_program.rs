//! The kernel half on its own, without the engine: loaded with given settings, run on given frames or
//! attached.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, TestRunOptions,
    maps::{
        PerCpuArray, XskMap,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{TestRun as _, Xdp, XdpMode},
};
use mirror_ebpf::{
    BENCH_OBJECT, MIRROR_OBJECT,
    mirror::{self as abi, COUNTERS, Counter, MAX_PORTS},
    wire,
};

use nix::time::{ClockId, clock_gettime};

use crate::{
    error::{LabError, Result},
    namespace::Namespace,
};

/// Directory of freshly built objects (`mirror.o`), to be tested instead of the committed one.
pub const OBJECTS_VARIABLE: &str = "MIRROR_EBPF_OBJECTS";

/// The interface that frames must be addressed to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Own {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 addresses.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses.
    pub v6: Vec<Ipv6Addr>,
}

/// Settings of the XDP program; the default is everything off but the VXLAN port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Ports of VXLAN in host order; 0 is an unused entry.
    pub ports: [u16; MAX_PORTS],
    /// The same of GENEVE.
    pub geneve_ports: [u16; MAX_PORTS],
    /// Drop VNIs that are not in the allow-list.
    pub vni_filter: bool,
    /// Drop outer sources that are not in the allow-lists.
    pub source_filter: bool,
    /// Write the receive time in front of the frame.
    pub stamp: bool,
    /// Redirect fragments of our datagrams.
    pub fragments: bool,
    /// Pass frames that are not addressed to this interface.
    pub own: Option<Own>,
    /// Count origins of forwarded frames, and forward each flow to the member of a group that has it.
    pub group: bool,
    /// Members may be tunnels.
    pub tunnels: bool,
    /// Forward what only the sink of the targets selects, by VNI and by outer source.
    pub split: Option<Split>,
}

/// Which sinks select frames.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Split {
    /// By VNI.
    pub vnis: Vec<(u32, abi::Sinks)>,
    /// Any other VNI.
    pub other_vnis: abi::Sinks,
    /// By outer IPv4 prefix.
    pub v4: Vec<(Ipv4Addr, u32, abi::Sinks)>,
    /// By outer IPv6 prefix.
    pub v6: Vec<(Ipv6Addr, u32, abi::Sinks)>,
    /// Any other source.
    pub other_sources: abi::Sinks,
}

impl Default for Settings {
    fn default() -> Self {
        let mut ports = [0; MAX_PORTS];
        ports[0] = wire::VXLAN_PORT;
        Self {
            ports,
            geneve_ports: [0; MAX_PORTS],
            vni_filter: false,
            source_filter: false,
            stamp: false,
            fragments: false,
            own: None,
            group: false,
            tunnels: false,
            split: None,
        }
    }
}

/// The counters of the XDP program, summed over all CPUs, in the order of [`Counter`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters([u64; COUNTERS]);

impl Counters {
    /// One of them.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// One of each named, the rest 0.
    pub fn of(counters: &[Counter]) -> Self {
        let mut values = Self::default();
        for counter in counters {
            values.0[*counter as usize] += 1;
        }
        values
    }

    /// The counts since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut delta = *self;
        for (value, before) in delta.0.iter_mut().zip(earlier.0) {
            *value -= before;
        }
        delta
    }

    /// The law of the program: every frame seen has exactly one verdict.
    pub fn verdicts(&self) -> u64 {
        self.0.iter().sum::<u64>() - self.get(Counter::Seen)
    }
}

/// Result of a test run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// XDP action.
    pub action: u32,
    /// The metadata area the program left in front of the frame.
    pub metadata: Vec<u8>,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Time of many test runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timed {
    /// XDP action of the last one.
    pub action: u32,
    /// CPU time of all of them, without that of other threads on the CPU.
    pub cpu_time: Duration,
}

/// The loaded object of the kernel half.
#[derive(Debug)]
pub struct XdpProgram {
    ebpf: Ebpf,
    entry: &'static str,
}

/// Room in each table of a [`Split`].
const MOST_SELECTED: u32 = 64;

/// Bytes of `struct xdp_md` up to `data_meta`: `data`, `data_end`, `data_meta`, each a `u32` offset in a test
/// run.
const CONTEXT_LEN: usize = 24;

impl XdpProgram {
    /// The object under test: from the directory in [`OBJECTS_VARIABLE`] where it is set, else the committed
    /// one.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the file is not there.
    pub fn object() -> Result<Vec<u8>> {
        match std::env::var_os(OBJECTS_VARIABLE) {
            Some(directory) => {
                let path = PathBuf::from(directory).join("mirror.o");
                fs::read(&path).map_err(|error| LabError::file(&path, error))
            }
            None => Ok(MIRROR_OBJECT.to_vec()),
        }
    }

    /// Loads an entry point ([`abi::PROGRAM`] or [`abi::PROGRAM_FRAGS`]) with these settings.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the verifier refuses it or a setting does not exist.
    pub fn load(entry: &'static str, settings: &Settings) -> Result<Self> {
        let Settings {
            ports,
            geneve_ports,
            vni_filter,
            source_filter,
            stamp,
            fragments,
            own,
            group,
            tunnels,
            split,
        } = settings;
        let [ports, geneve_ports] = [ports, geneve_ports].map(|ports| ports.map(u16::to_be));
        let flags = abi::flags([
            (abi::FLAG_VNI_FILTER, *vni_filter),
            (abi::FLAG_SOURCE_FILTER, *source_filter),
            (abi::FLAG_STAMP, *stamp),
            (abi::FLAG_FRAGMENTS, *fragments),
            (abi::FLAG_OWN, own.is_some()),
            (abi::FLAG_ORIGINS, *group),
            (abi::FLAG_GROUP, *group),
            (abi::FLAG_TUNNELS, *tunnels),
            (abi::FLAG_SPLIT_VNIS, split.as_ref().is_some_and(|split| !split.vnis.is_empty())),
            (
                abi::FLAG_SPLIT_SOURCES,
                split.as_ref().is_some_and(|split| !(split.v4.is_empty() && split.v6.is_empty())),
            ),
        ]);
        let mut others = abi::OtherSinks::default();
        if let Some(split) = split {
            (others[abi::OTHER_VNIS], others[abi::OTHER_SOURCES]) = (split.other_vnis, split.other_sources);
        }
        let mut ebpf = EbpfLoader::new()
            .override_global(abi::SETTING_PORTS, &ports, true)
            .override_global(abi::SETTING_GENEVE_PORTS, &geneve_ports, true)
            .override_global(abi::SETTING_FLAGS, &flags, true)
            .override_global(abi::SETTING_OTHER_SINKS, &others, true)
            .map_max_entries(abi::MAP_SINKS_OF_VNI, MOST_SELECTED)
            .map_max_entries(abi::MAP_SINKS_OF_V4, MOST_SELECTED)
            .map_max_entries(abi::MAP_SINKS_OF_V6, MOST_SELECTED)
            .load(&Self::object()?)
            .map_err(|error| LabError::bpf("the mirror object", error))?;
        load(&mut ebpf, entry)?;
        let mut program = Self { ebpf, entry };
        if let Some(own) = own {
            program.set_own(own)?;
        }
        if let Some(split) = split {
            program.set_split(split)?;
        }
        Ok(program)
    }

    fn set_split(&mut self, split: &Split) -> Result<()> {
        for (vni, sinks) in &split.vnis {
            self.map(abi::MAP_SINKS_OF_VNI, |map| {
                aya::maps::HashMap::<_, u32, abi::Sinks>::try_from(map)?.insert(vni, sinks, 0)
            })?;
        }
        for (source, len, sinks) in &split.v4 {
            let key = Key::new(*len, source.octets());
            self.map(abi::MAP_SINKS_OF_V4, |map| {
                LpmTrie::<_, [u8; 4], abi::Sinks>::try_from(map)?.insert(&key, sinks, 0)
            })?;
        }
        for (source, len, sinks) in &split.v6 {
            let key = Key::new(*len, source.octets());
            self.map(abi::MAP_SINKS_OF_V6, |map| {
                LpmTrie::<_, [u8; 16], abi::Sinks>::try_from(map)?.insert(&key, sinks, 0)
            })?;
        }
        Ok(())
    }

    fn set_own(&mut self, own: &Own) -> Result<()> {
        let value = abi::own(own.mac, own.v4.first().map(Ipv4Addr::octets), !own.v6.is_empty());
        self.map(abi::MAP_OWN, |map| aya::maps::Array::<_, abi::Own>::try_from(map)?.set(0, value, 0))?;
        for address in &own.v4 {
            self.map(abi::MAP_ADDRESSES_V4, |map| {
                aya::maps::HashMap::<_, [u8; 4], u8>::try_from(map)?.insert(address.octets(), 1, 0)
            })?;
        }
        for address in &own.v6 {
            self.map(abi::MAP_ADDRESSES_V6, |map| {
                aya::maps::HashMap::<_, [u8; 16], u8>::try_from(map)?.insert(address.octets(), 1, 0)
            })?;
        }
        Ok(())
    }

    fn map(
        &mut self,
        name: &'static str,
        change: impl FnOnce(&mut aya::maps::Map) -> std::result::Result<(), aya::maps::MapError>,
    ) -> Result<()> {
        let map = self.ebpf.map_mut(name).ok_or_else(|| missing(name))?;
        change(map).map_err(|error| LabError::bpf(name, error))
    }

    /// Loads one of the programs that ours is measured against ([`mirror_ebpf::bench`]), which read no frame
    /// and count nothing.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the verifier refuses it.
    pub fn load_floor(entry: &'static str) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .load(BENCH_OBJECT)
            .map_err(|error| LabError::bpf("the benchmarks' object", error))?;
        load(&mut ebpf, entry)?;
        Ok(Self { ebpf, entry })
    }

    /// The loader's handle, for maps without a method here.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Allows a VNI.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the map refuses.
    pub fn allow_vni(&mut self, vni: u32) -> Result<()> {
        let name = abi::MAP_VNIS;
        let map = self.ebpf.map_mut(name).ok_or_else(|| missing(name))?;
        let mut map =
            aya::maps::HashMap::<_, u32, u8>::try_from(map).map_err(|error| LabError::bpf(name, error))?;
        map.insert(vni, 1, 0).map_err(|error| LabError::bpf(name, error))
    }

    /// Allows outer IPv4 sources.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the map refuses.
    pub fn allow_source_v4(&mut self, network: [u8; 4], prefix_len: u32) -> Result<()> {
        self.allow_source(abi::MAP_SOURCES_V4, network, prefix_len)
    }

    /// Allows outer IPv6 sources.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the map refuses.
    pub fn allow_source_v6(&mut self, network: [u8; 16], prefix_len: u32) -> Result<()> {
        self.allow_source(abi::MAP_SOURCES_V6, network, prefix_len)
    }

    fn allow_source<K: aya::Pod>(&mut self, name: &'static str, network: K, prefix_len: u32) -> Result<()> {
        let map = self.ebpf.map_mut(name).ok_or_else(|| missing(name))?;
        let mut map = LpmTrie::<_, K, u8>::try_from(map).map_err(|error| LabError::bpf(name, error))?;
        map.insert(&Key::new(prefix_len, network), 1, 0).map_err(|error| LabError::bpf(name, error))
    }

    /// Ages every entry of the map of fragmented datagrams by this much, and returns their number.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the map cannot be read or written.
    pub fn age_announcements(&mut self, by: Duration) -> Result<usize> {
        let name = abi::MAP_FRAGMENTS;
        let map = self.ebpf.map_mut(name).ok_or_else(|| missing(name))?;
        // The value as words: its time, and what comes with it.
        let mut map = aya::maps::HashMap::<_, abi::FragmentKey, [u64; 2]>::try_from(map)
            .map_err(|error| LabError::bpf(name, error))?;
        let all: Vec<_> =
            map.iter().collect::<std::result::Result<_, _>>().map_err(|error| LabError::bpf(name, error))?;
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        for (key, [time, next]) in &all {
            map.insert(key, [time.saturating_sub(by), *next], 0)
                .map_err(|error| LabError::bpf(name, error))?;
        }
        Ok(all.len())
    }

    /// Sets the AF_XDP socket of a queue.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the map refuses the descriptor.
    pub fn set_socket(&mut self, queue: u32, socket: impl std::os::fd::AsFd) -> Result<()> {
        let name = abi::MAP_XSKS;
        let map = self.ebpf.map_mut(name).ok_or_else(|| missing(name))?;
        let mut map = XskMap::try_from(map).map_err(|error| LabError::bpf(name, error))?;
        map.set(queue, socket.as_fd(), 0).map_err(|error| LabError::bpf(name, error))
    }

    /// Runs the program once on a frame (`BPF_PROG_TEST_RUN`), as if received on queue 0.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the kernel refuses the run: frames under 14 bytes, for one.
    pub fn run(&self, frame: &[u8]) -> Result<Outcome> {
        let mut frame_out = vec![0; frame.len() + 256];
        let mut context_out = [0; CONTEXT_LEN];
        let data_end = u32::try_from(frame.len())
            .map_err(|_| LabError::Unexpected(format!("a frame of {} bytes", frame.len())))?;
        let mut context_in = [0; CONTEXT_LEN];
        context_in[4..8].copy_from_slice(&data_end.to_ne_bytes());
        let result = self
            .program()?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut frame_out),
                ctx_in: Some(&context_in),
                ctx_out: Some(&mut context_out),
                ..TestRunOptions::new()
            })
            .map_err(|error| LabError::bpf(format!("a test run on {} bytes", frame.len()), error))?;
        let written = usize::try_from(result.data_size_out).unwrap_or_default();
        frame_out.truncate(written);
        // Offsets from the start of the output, which is the metadata if there is any.
        let word = |at: usize| {
            context_out.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
        };
        let metadata_len = usize::try_from(word(0) - word(8)).unwrap_or_default();
        let frame = frame_out.split_off(metadata_len.min(frame_out.len()));
        Ok(Outcome { action: result.return_value, metadata: frame_out, frame })
    }

    /// Runs the program this many times on one frame, in one system call.
    ///
    /// Nothing is reset between two runs: metadata that the program reserves adds up.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn time(&self, frame: &[u8], repeat: u32) -> Result<Timed> {
        let program = self.program()?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        // A test run is work of the thread that asks for it.
        let cpu_time = || {
            let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
            now.map(Duration::from).map_err(|error| LabError::io("the thread's CPU time", error))
        };
        let start = cpu_time()?;
        let result = program
            .test_run(options)
            .map_err(|error| LabError::bpf(format!("{repeat} test runs of {}", self.entry), error))?;
        Ok(Timed { action: result.return_value, cpu_time: cpu_time()?.saturating_sub(start) })
    }

    /// Attaches it to an interface for as long as this value lives, natively or by the generic path.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the driver refuses.
    pub fn attach(&mut self, namespace: &Namespace, interface: &str, mode: XdpAttach) -> Result<()> {
        let entry = self.entry;
        let program: &mut Xdp = self
            .ebpf
            .program_mut(entry)
            .ok_or_else(|| missing(entry))?
            .try_into()
            .map_err(|error| LabError::bpf(entry, error))?;
        let mode = match mode {
            XdpAttach::Native => XdpMode::Driver,
            XdpAttach::Generic => XdpMode::Skb,
        };
        let attached = namespace.enter(|| program.attach(interface, mode))?;
        attached.map(drop).map_err(|error| LabError::bpf(format!("{interface}: attach {entry}"), error))
    }

    /// The counters so far.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let name = abi::MAP_COUNTERS;
        let map = self.ebpf.map(name).ok_or_else(|| missing(name))?;
        let map = PerCpuArray::<_, abi::PerCpu>::try_from(map).map_err(|error| LabError::bpf(name, error))?;
        let per_cpu = map.get(&0, 0).map_err(|error| LabError::bpf(name, error))?;
        let mut sum = Counters::default();
        for values in per_cpu.iter() {
            for (total, value) in sum.0.iter_mut().zip(values) {
                *total += value;
            }
        }
        Ok(sum)
    }

    /// Instructions that the verifier has processed; `None` before kernel 5.16, which does not report it.
    ///
    /// # Errors
    ///
    /// [`LabError::Bpf`] if the kernel does not tell of the program.
    pub fn verified(&self) -> Result<Option<u32>> {
        let info = self.program()?.info().map_err(|error| LabError::bpf(self.entry, error))?;
        Ok(info.verified_instruction_count())
    }

    fn program(&self) -> Result<&Xdp> {
        let program = self.ebpf.program(self.entry).ok_or_else(|| missing(self.entry))?;
        program.try_into().map_err(|error| LabError::bpf(self.entry, error))
    }
}

/// How to attach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XdpAttach {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

fn load(ebpf: &mut Ebpf, entry: &'static str) -> Result<()> {
    let program: &mut Xdp = ebpf
        .program_mut(entry)
        .ok_or_else(|| missing(entry))?
        .try_into()
        .map_err(|error| LabError::bpf(entry, error))?;
    program.load().map_err(|error| LabError::bpf(format!("loading {entry}"), error))
}

fn missing(name: &str) -> LabError {
    LabError::Unexpected(format!("the object has no {name}; rebuild it with `cargo xtask ebpf`"))
}
