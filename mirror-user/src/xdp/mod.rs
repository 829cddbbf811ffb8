//! The kernel half, from user space: load, attach, maps.

mod btf;
mod forward;
mod left;
mod link;
mod lists;
mod origins;
mod receiving;
mod split;
mod tunnels;

use std::{
    collections::BTreeSet,
    error::Error,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd, OwnedFd},
    sync::{Mutex, PoisonError},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, XskMap},
    programs::{ProgramError, Xdp},
};
use mirror_ebpf::mirror::{self as abi, Counter};

pub(crate) use forward::{ForwardTo, Sent, Targets};
use forward::{Forwarding, tracepoint};
pub(crate) use left::{LeftMaps, MapParts};
pub(crate) use link::Link;
use lists::Lists;

use crate::{
    account::{Dropped, ForwardedOrigins, Passed, XdpReport},
    error::with_causes,
    host::{
        HostError,
        addresses::Addresses,
        kernel::{KernelVersion, since},
        xdp::XdpMode,
    },
    select::Allow,
    tunnels::Tunnels,
};

/// Settings of the program, fixed before it is verified.
#[derive(Clone, Debug)]
pub(crate) struct Settings<'a> {
    /// Tunnels to take frames of, at most [`abi::MAX_PORTS`].
    pub(crate) tunnels: &'a Tunnels,
    pub(crate) allow: &'a Allow,
    /// Write the receive time in front of each frame.
    pub(crate) stamp: bool,
    /// Redirect fragments of datagrams that are ours.
    pub(crate) fragments: bool,
    /// Pass what is not addressed to the interface, see [`Program::set_addresses`].
    pub(crate) own: bool,
    /// Log rare states through aya-log.
    pub(crate) log: bool,
    /// Load the program for frames in several buffers. Minimum kernel version: 5.18.
    pub(crate) frags: bool,
    /// Forward what can be decapsulated in the kernel. In native mode, and not with `frags`.
    pub(crate) forward: Option<ForwardTo>,
    /// RX queues of the interface.
    pub(crate) queues: u32,
}

/// Why the kernel half could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramSetupError {
    /// The object could not be loaded.
    #[error("the eBPF object does not load: {}", with_causes(&**.source))]
    Load {
        /// What the loader said.
        source: Cause,
    },
    /// The kernel refused the program.
    #[error("the kernel refuses the eBPF program: {}", with_causes(&**.source))]
    Verify {
        /// What the kernel said.
        source: Cause,
    },
    /// A map could not be made, read or filled.
    #[error("eBPF map {name}: {}", with_causes(&**.source))]
    Map {
        /// The map's name.
        name: &'static str,
        /// What the kernel said.
        source: Cause,
    },
    /// The object lacks a part.
    #[error("the eBPF object has no {kind} {name}")]
    Missing {
        /// Program or map.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The kernel refused to attach the program.
    #[error("attach: {0}")]
    Attach(#[source] io::Error),
    /// The kernel has no bpf_link for XDP.
    #[error(
        "the kernel has no bpf_link for XDP (needs 5.9): the program would stay attached after a crash, so \
        it is not"
    )]
    NoLink,
    /// The device that frames are forwarded to was refused.
    #[error("the target is refused: {}", with_causes(&**.source))]
    Target {
        /// What the kernel said.
        source: Cause,
    },
    /// A file of the kernel could not be read.
    #[error("{path}: {source}")]
    Kernel {
        /// The file.
        path: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel's types (BTF) do not have the fields by which devices are recognised.
    #[error("the kernel's BTF does not describe devices as expected")]
    Types,
    /// The kernel's tracepoint does not name the map.
    #[error("the kernel's tracepoint xdp_redirect_err does not name the map (needs 5.13)")]
    NoMapId,
}

/// The cause of an error, as the eBPF loader has it.
type Cause = Box<dyn Error + Send + Sync>;

impl ProgramSetupError {
    pub(crate) fn load(source: EbpfError) -> Self {
        Self::Load { source: source.into() }
    }

    pub(crate) fn verify(source: ProgramError) -> Self {
        Self::Verify { source: source.into() }
    }

    fn host(source: HostError) -> Self {
        Self::Target { source: source.into() }
    }

    pub(crate) fn map(name: &'static str) -> impl Fn(MapError) -> Self {
        move |source| Self::Map { name, source: source.into() }
    }
}

/// Whether the running kernel is older than this; one with an unreadable version counts as current.
pub(crate) fn kernel_before(version: KernelVersion) -> bool {
    KernelVersion::running().is_ok_and(|running| running < version)
}

/// The loaded program with its maps, and its link to the interface while attached.
pub(crate) struct Program {
    entry: &'static str,
    /// The kernel's id of it.
    id: u32,
    /// Changed while the engine is shared.
    xsks: Mutex<XskMap<MapData>>,
    counters: PerCpuArray<MapData, abi::PerCpu>,
    /// Of both.
    parts: MapParts,
    /// Written while the engine is shared.
    addresses: Mutex<OwnAddresses>,
    /// Changed while the engine is shared.
    lists: Mutex<Lists>,
    /// `None` where the kernel has no tracepoint that names the map (before 5.13).
    redirect_failed: Option<PerCpuArray<MapData, u64>>,
    /// With [`Settings::forward`].
    forwarding: Option<Forwarding>,
    /// Under a lock, so that a shared engine can detach.
    link: Mutex<Option<Link>>,
    /// Holds the programs, and with the tracepoint's program its link.
    ebpf: Ebpf,
}

impl Program {
    /// Loads the program and fills its allow-lists. Nothing is attached yet.
    pub(crate) fn load(settings: &Settings<'_>) -> Result<Self, ProgramSetupError> {
        let ports = places(settings.tunnels.vxlan());
        let geneve_ports = places(settings.tunnels.geneve());
        let forward = settings.forward.as_ref();
        let split = forward.and_then(|forward| forward.split.as_deref());
        let flags = abi::flags([
            (abi::FLAG_VNI_FILTER, !settings.allow.vni_list().is_empty()),
            (abi::FLAG_SOURCE_FILTER, !settings.allow.source_list().is_empty()),
            (abi::FLAG_STAMP, settings.stamp),
            (abi::FLAG_LOG, settings.log),
            (abi::FLAG_FRAGMENTS, settings.fragments),
            (abi::FLAG_OWN, settings.own),
            (abi::FLAG_ORIGINS, forward.is_some_and(|forward| forward.origins.is_some())),
            (abi::FLAG_GROUP, forward.is_some_and(|forward| forward.targets.table().is_some())),
            (abi::FLAG_TUNNELS, forward.is_some_and(|forward| forward.targets.have_tunnels())),
            (abi::FLAG_SPLIT_VNIS, split.is_some_and(|split| !split.vnis().is_empty())),
            (abi::FLAG_SPLIT_SOURCES, split.is_some_and(|split| !split.sources().is_empty())),
        ]);
        let path = forward.map(ForwardTo::path);
        let known_path = match &path {
            Some(Ok(path)) => *path,
            _ => abi::Path::default(),
        };
        let seed = forward.map_or(0, ForwardTo::seed);
        let other_sinks = split.map(split::other_sinks).unwrap_or_default();
        let [vnis, sources] = split::sizes(split);
        let mut ebpf = EbpfLoader::new()
            .override_global(abi::SETTING_PORTS, &ports, true)
            .override_global(abi::SETTING_GENEVE_PORTS, &geneve_ports, true)
            .override_global(abi::SETTING_FLAGS, &flags, true)
            .override_global(abi::SETTING_PATH, &known_path, true)
            .override_global(abi::SETTING_SEED, &seed, true)
            .override_global(abi::SETTING_OTHER_SINKS, &other_sinks, true)
            .map_max_entries(abi::MAP_XSKS, settings.queues)
            .map_max_entries(abi::MAP_ORIGINS, forward.and_then(ForwardTo::origins).unwrap_or(1))
            .map_max_entries(abi::MAP_SINKS_OF_VNI, vnis)
            .map_max_entries(abi::MAP_SINKS_OF_V4, sources)
            .map_max_entries(abi::MAP_SINKS_OF_V6, sources)
            .load(mirror_ebpf::MIRROR_OBJECT)
            .map_err(ProgramSetupError::load)?;
        let entry = match settings.forward {
            Some(_) => abi::PROGRAM_FORWARD,
            None if settings.frags => abi::PROGRAM_FRAGS,
            None => abi::PROGRAM,
        };
        let program = xdp(&mut ebpf, entry)?;
        program.load().map_err(ProgramSetupError::verify)?;
        let id = program.info().map_err(ProgramSetupError::verify)?.id();
        // Maps are taken out of the object only now: the program's load refers to them.
        let lists = Lists::open(&mut ebpf, settings.allow)?;
        split.map_or(Ok(()), |split| split::fill(&mut ebpf, split))?;
        let redirect_failed = watch_redirects(&mut ebpf)
            .inspect_err(|error| {
                let error = with_causes(error);
                tracing::warn!(error, "failed redirects cannot be attributed: they would show as residue");
            })
            .ok();
        let forwarding = forward
            .zip(path)
            .map(|(forward, path)| Forwarding::open(&mut ebpf, forward, path))
            .transpose()?;
        let parts = MapParts {
            counters: descriptor_of(&ebpf, abi::MAP_COUNTERS)?,
            xsks: descriptor_of(&ebpf, abi::MAP_XSKS)?,
        };
        Ok(Self {
            entry,
            id,
            parts,
            xsks: Mutex::new(take(&mut ebpf, abi::MAP_XSKS)?),
            counters: take(&mut ebpf, abi::MAP_COUNTERS)?,
            addresses: Mutex::new(OwnAddresses {
                own: take(&mut ebpf, abi::MAP_OWN)?,
                v4: take(&mut ebpf, abi::MAP_ADDRESSES_V4)?,
                v6: take(&mut ebpf, abi::MAP_ADDRESSES_V6)?,
            }),
            lists: Mutex::new(lists),
            redirect_failed,
            forwarding,
            link: Mutex::default(),
            ebpf,
        })
    }

    /// What another process needs of its maps when this one has ended.
    pub(crate) fn lend_maps(&self) -> io::Result<MapParts> {
        let MapParts { counters, xsks } = &self.parts;
        Ok(MapParts { counters: counters.try_clone()?, xsks: xsks.try_clone()? })
    }

    /// Puts a bound socket into the XSKMAP: from now on frames of its queue are redirected.
    pub(crate) fn set_socket(&self, queue: u32, socket: impl AsRawFd) -> Result<(), ProgramSetupError> {
        let mut xsks = self.xsks.lock().unwrap_or_else(PoisonError::into_inner);
        xsks.set(queue, socket, 0).map_err(ProgramSetupError::map(abi::MAP_XSKS))
    }

    /// Takes the socket of a queue out of it: from now on frames of the queue pass to the host, counted.
    pub(crate) fn unset_socket(&self, queue: u32) -> Result<(), ProgramSetupError> {
        let mut xsks = self.xsks.lock().unwrap_or_else(PoisonError::into_inner);
        xsks.unset(queue).map_err(ProgramSetupError::map(abi::MAP_XSKS))
    }

    /// What frames must be addressed to, with [`Settings::own`].
    pub(crate) fn set_addresses(&self, addresses: &Addresses) -> Result<(), ProgramSetupError> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).set(addresses)
    }

    /// Takes frames of these tunnels, too.
    pub(crate) fn widen(&self, allow: &Allow) -> Result<(), ProgramSetupError> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).widen(allow)
    }

    /// Takes frames of these tunnels only.
    pub(crate) fn narrow(&self, allow: &Allow) -> Result<(), ProgramSetupError> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).narrow(allow)
    }

    /// Attaches by a bpf_link, which the kernel removes with the process. Minimum kernel version: 5.9.
    pub(crate) fn attach(&mut self, ifindex: u32, mode: XdpMode) -> Result<(), ProgramSetupError> {
        let link = attach_by_link(xdp(&mut self.ebpf, self.entry)?, ifindex, mode)?;
        *self.link.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(link);
        Ok(())
    }

    /// Its link, for another process that is to put its own program in the place of this one; `None` while it
    /// is not attached.
    pub(crate) fn link(&self) -> io::Result<Option<OwnedFd>> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.as_ref().map(|link| link.as_fd().try_clone_to_owned()).transpose()
    }

    /// Holds a link that another process has passed, by which that one's program is attached.
    pub(crate) fn inherit(&mut self, link: Link) {
        *self.link.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }

    /// Puts this program in the place of the one that the link attaches.
    pub(crate) fn replace(&self) -> Result<(), ProgramSetupError> {
        let program: &Xdp = self
            .ebpf
            .program(self.entry)
            .ok_or(ProgramSetupError::Missing { kind: "program", name: self.entry })?
            .try_into()
            .map_err(ProgramSetupError::verify)?;
        let program = program.fd().map_err(ProgramSetupError::verify)?;
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = link.as_ref().map_or(Ok(()), |link| link.replace_program(program.as_fd()));
        replaced.map_err(ProgramSetupError::Attach)
    }

    /// The kernel's id of it.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Detaches. When this returns, the driver's XDP path has stopped.
    pub(crate) fn detach(&self) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The log of rare states, if the program was loaded with it.
    pub(crate) fn logger(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        aya_log::EbpfLogger::init(&mut self.ebpf)
            .inspect_err(|error| tracing::warn!(%error, "no log from the XDP program"))
            .ok()
    }

    /// The program's counters, summed over all CPUs.
    pub(crate) fn report(&self) -> Result<XdpReport, ProgramSetupError> {
        let redirect_failed = self
            .redirect_failed
            .as_ref()
            .map(|map| map.get(&0, 0).map(|values: PerCpuValues<u64>| values.iter().sum()))
            .transpose()
            .map_err(ProgramSetupError::map(abi::MAP_REDIRECT_FAILED))?;
        Ok(XdpReport { redirect_failed, ..counted(&self.counters)? })
    }

    /// Why the kernel does not say what becomes of forwarded frames; `None` if it does, or if nothing is
    /// forwarded.
    pub(crate) fn sent_unknown(&self) -> Option<&str> {
        self.forwarding.as_ref().and_then(Forwarding::unknown)
    }

    /// What became of forwarded frames, by target; `None` where the kernel does not say, or nothing is
    /// forwarded.
    pub(crate) fn sent(&self) -> Result<Option<Vec<Sent>>, ProgramSetupError> {
        Ok(self.forwarding.as_ref().map(Forwarding::sent).transpose()?.flatten())
    }

    /// Forwarded frames by origin; empty unless that was asked for.
    pub(crate) fn forwarded_origins(&self) -> Result<ForwardedOrigins, ProgramSetupError> {
        self.forwarding.as_ref().map_or(Ok(ForwardedOrigins::default()), Forwarding::origins)
    }

    /// Has the program choose from the members that are up now, and send to the present next hops.
    pub(crate) fn follow_members(&self) -> Result<(), ProgramSetupError> {
        self.forwarding.as_ref().map_or(Ok(()), Forwarding::follow_members)
    }
}

/// The counters of a program, summed over all CPUs, but for redirects that failed.
fn counted(counters: &PerCpuArray<MapData, abi::PerCpu>) -> Result<XdpReport, ProgramSetupError> {
    let values = counters.get(&0, 0).map_err(ProgramSetupError::map(abi::MAP_COUNTERS))?;
    let of = |counter: Counter| values.iter().map(|cpu| cpu[counter as usize]).sum();
    Ok(XdpReport {
        seen: of(Counter::Seen),
        redirected: of(Counter::Redirected),
        redirect_failed: None,
        passed: Passed {
            not_tunnel: of(Counter::NotTunnel),
            fragment: of(Counter::Fragment),
            malformed: of(Counter::Malformed),
            extension: of(Counter::Extension),
            not_local: of(Counter::NotLocal),
            geneve: of(Counter::Geneve),
            no_socket: of(Counter::NoSocket),
        },
        no_socket_at_start: 0,
        no_socket_at_upgrade: 0,
        dropped: Dropped {
            vni: of(Counter::VniRefused),
            source: of(Counter::SourceRefused),
            no_target: of(Counter::NoTarget),
        },
        forwarded: of(Counter::Forwarded),
        forwarded_outer_bytes: values.iter().map(|cpu| cpu[abi::FORWARDED_OUTER_BYTES]).sum(),
        forwarded_inner_bytes: values.iter().map(|cpu| cpu[abi::FORWARDED_INNER_BYTES]).sum(),
    })
}

/// Ports as the program has them.
fn places(ports: &[u16]) -> [u16; abi::MAX_PORTS] {
    let mut places = [0; abi::MAX_PORTS];
    for (place, port) in places.iter_mut().zip(ports) {
        *place = port.to_be();
    }
    places
}

/// Attaches a loaded program by a bpf_link, which the kernel removes with the process. Minimum kernel
/// version: 5.9.
fn attach_by_link(program: &Xdp, ifindex: u32, mode: XdpMode) -> Result<Link, ProgramSetupError> {
    if kernel_before(since::BPF_LINK) {
        return Err(ProgramSetupError::NoLink);
    }
    let program = program.fd().map_err(ProgramSetupError::verify)?;
    Link::create(program.as_fd(), ifindex, mode).map_err(ProgramSetupError::Attach)
}

/// What frames must be addressed to.
struct OwnAddresses {
    own: Array<MapData, abi::Own>,
    v4: HashMap<MapData, [u8; 4], u8>,
    v6: HashMap<MapData, [u8; 16], u8>,
}

impl OwnAddresses {
    /// Addresses that stay are never missing in between. Where a family has more than the map holds, the MAC
    /// alone decides.
    fn set(&mut self, addresses: &Addresses) -> Result<(), ProgramSetupError> {
        let fits = |len: usize| len <= abi::MAX_ADDRESSES as usize;
        let v4: BTreeSet<_> =
            addresses.v4.iter().map(Ipv4Addr::octets).filter(|_| fits(addresses.v4.len())).collect();
        let v6: BTreeSet<_> =
            addresses.v6.iter().map(Ipv6Addr::octets).filter(|_| fits(addresses.v6.len())).collect();
        if !fits(addresses.v4.len()) || !fits(addresses.v6.len()) {
            tracing::warn!(
                "more than {} addresses: frames are taken by their MAC address alone",
                abi::MAX_ADDRESSES
            );
        }
        let own = abi::own(addresses.mac.unwrap_or_default(), v4.first().copied(), !v6.is_empty());
        let failed = ProgramSetupError::map;
        replace(&mut self.v4, &v4, || self.own.set(0, own, 0)).map_err(failed(abi::MAP_ADDRESSES_V4))?;
        replace(&mut self.v6, &v6, || Ok(())).map_err(failed(abi::MAP_ADDRESSES_V6))
    }
}

/// Makes a hash set hold these keys; `between` runs after the additions and before the removals.
fn replace<K: aya::Pod + Ord>(
    map: &mut HashMap<MapData, K, u8>,
    wanted: &BTreeSet<K>,
    between: impl FnOnce() -> Result<(), MapError>,
) -> Result<(), MapError> {
    let there: BTreeSet<K> = map.keys().collect::<Result<_, _>>()?;
    for key in wanted.difference(&there) {
        map.insert(key, 1, 0)?;
    }
    between()?;
    there.difference(wanted).try_for_each(|key| map.remove(key))
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, ProgramSetupError> {
    ebpf.program_mut(name)
        .ok_or(ProgramSetupError::Missing { kind: "program", name })?
        .try_into()
        .map_err(ProgramSetupError::verify)
}

/// A descriptor of a map that is still in the object.
fn descriptor_of(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, ProgramSetupError> {
    let Some(Map::PerCpuArray(map) | Map::XskMap(map)) = ebpf.map(name) else {
        return Err(ProgramSetupError::Missing { kind: "map", name });
    };
    let copied = map.fd().as_fd().try_clone_to_owned().map_err(MapError::IoError);
    copied.map_err(ProgramSetupError::map(name))
}

pub(crate) fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, ProgramSetupError> {
    let map = ebpf.take_map(name).ok_or(ProgramSetupError::Missing { kind: "map", name })?;
    M::try_from(map).map_err(ProgramSetupError::map(name))
}

/// Attaches the program that counts redirects which failed after the XDP program's verdict. Minimum kernel
/// version: 5.13.
fn watch_redirects(ebpf: &mut Ebpf) -> Result<PerCpuArray<MapData, u64>, ProgramSetupError> {
    if kernel_before(since::MAP_ID_IN_TRACEPOINT) {
        return Err(ProgramSetupError::NoMapId);
    }
    let name = abi::MAP_XSKS;
    let Some(Map::XskMap(xsks)) = ebpf.map(name) else {
        return Err(ProgramSetupError::Missing { kind: "map", name });
    };
    let id = xsks.info().map_err(ProgramSetupError::map(name))?.id();
    tracepoint(ebpf, abi::PROGRAM_REDIRECT_ERR)?.load().map_err(ProgramSetupError::verify)?;
    let name = abi::MAP_XSKS_ID;
    let mut place: Array<MapData, u32> = take(ebpf, name)?;
    place.set(0, id, 0).map_err(ProgramSetupError::map(name))?;
    tracepoint(ebpf, abi::PROGRAM_REDIRECT_ERR)?
        .attach(abi::TRACEPOINT_REDIRECT_ERR)
        .map_err(ProgramSetupError::verify)?;
    take(ebpf, abi::MAP_REDIRECT_FAILED)
}
