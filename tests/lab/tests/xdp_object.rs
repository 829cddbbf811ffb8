//! The compiled object against the ABI that user space is built with, and its tracepoint as a table. Needs
//! root.

use std::{num::NonZero, thread};

use aya::{
    Ebpf, EbpfLoader, TestRun as _,
    maps::{Array, Map, MapData, MapType, PerCpuArray},
    programs::{Program, RawTracePoint, RawTracePointRunOptions, Xdp},
};
use mirror_ebpf::{flow::Assignment, mirror as abi};
use mirror_lab::{Result, XdpProgram};

fn load() -> Result<Ebpf> {
    Ok(EbpfLoader::new().load(&XdpProgram::object()?).expect("the object is read"))
}

fn data<'a>(ebpf: &'a Ebpf, name: &str) -> &'a MapData {
    match ebpf.map(name).unwrap_or_else(|| panic!("no map {name}")) {
        Map::Array(data)
        | Map::DevMap(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::XskMap(data) => data,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn maps_have_the_names_and_sizes_of_the_abi() -> Result<()> {
    let ebpf = load()?;
    let size = |bytes: usize| u32::try_from(bytes).expect("a small value");
    let counters = size(size_of::<abi::PerCpu>());
    let fates = size(size_of::<abi::FateCounts>());
    let others = size(size_of::<abi::OtherOrigins>());
    // Key, value, entries; an LPM key is the prefix length and the address.
    let wanted = [
        (abi::MAP_COUNTERS, MapType::PerCpuArray, 4, counters, 1),
        (abi::MAP_VNIS, MapType::Hash, 4, 1, abi::MAX_VNIS),
        (abi::MAP_SOURCES_V4, MapType::LpmTrie, 8, 1, abi::MAX_SOURCES),
        (abi::MAP_SOURCES_V6, MapType::LpmTrie, 20, 1, abi::MAX_SOURCES),
        (abi::MAP_XSKS_ID, MapType::Array, 4, 4, 1),
        (abi::MAP_REDIRECT_FAILED, MapType::PerCpuArray, 4, 8, 1),
        (abi::MAP_XSKS, MapType::XskMap, 4, 4, 64),
        (abi::MAP_TARGETS, MapType::DevMap, 4, 8, abi::MAX_MEMBERS),
        (abi::MAP_TARGETS_ID, MapType::Array, 4, 4, 1),
        (abi::MAP_DEVICES, MapType::Hash, 8, 4, abi::MAX_MEMBERS),
        (abi::MAP_FATES, MapType::PerCpuArray, 4, fates, abi::MAX_MEMBERS),
        (abi::MAP_ASSIGNMENT, MapType::Array, 4, size(size_of::<Assignment>()), 1),
        (abi::MAP_TUNNELS, MapType::Array, 4, size(size_of::<abi::Tunnel>()), abi::MAX_MEMBERS),
        (abi::MAP_SINKS_OF_VNI, MapType::Hash, 4, 8, 1),
        (abi::MAP_SINKS_OF_V4, MapType::LpmTrie, 8, 8, 1),
        (abi::MAP_SINKS_OF_V6, MapType::LpmTrie, 20, 8, 1),
        (abi::MAP_ORIGINS, MapType::PerCpuHash, 24, 16, 1),
        (abi::MAP_RUN, MapType::PerCpuArray, 4, size(size_of::<abi::Run>()), 1),
        (abi::MAP_OTHER_ORIGINS, MapType::PerCpuArray, 4, others, 1),
    ];
    for (name, kind, key, value, entries) in wanted {
        let info = data(&ebpf, name).info().expect("information about a map of ours");
        assert_eq!(info.map_type().expect("a known type"), kind, "{name}");
        assert_eq!((info.key_size(), info.value_size(), info.max_entries()), (key, value, entries), "{name}");
    }
    Ok(())
}

#[test]
fn programs_have_the_names_and_kinds_of_the_abi() -> Result<()> {
    let ebpf = load()?;
    for name in [abi::PROGRAM, abi::PROGRAM_FRAGS, abi::PROGRAM_FORWARD] {
        assert!(matches!(ebpf.program(name), Some(Program::Xdp(_))), "{name}");
    }
    for name in [abi::PROGRAM_REDIRECT_ERR, abi::PROGRAM_FORWARD_ERR, abi::PROGRAM_FORWARD_SENT] {
        assert!(matches!(ebpf.program(name), Some(Program::RawTracePoint(_))), "{name}");
    }
    assert_eq!(ebpf.programs().count(), 6);
    Ok(())
}

#[test]
fn settings_have_the_names_and_sizes_of_the_abi() -> Result<()> {
    let object = XdpProgram::object()?;
    let mut loader = EbpfLoader::new();
    loader.override_global(abi::SETTING_PORTS, &[0_u16; abi::MAX_PORTS], true);
    loader.override_global(abi::SETTING_FLAGS, &0_u32, true);
    let path = abi::Path::default();
    loader.override_global(abi::SETTING_PATH, &path, true);
    loader.override_global(abi::SETTING_SEED, &0_u64, true);
    let others = abi::OtherSinks::default();
    loader.override_global(abi::SETTING_OTHER_SINKS, &others, true);
    loader.load(&object).expect("all settings are there");
    // The loader reports a setting that is missing, and one of another size.
    assert!(EbpfLoader::new().override_global("NO_SUCH_SETTING", &0_u8, true).load(&object).is_err());
    assert!(EbpfLoader::new().override_global(abi::SETTING_FLAGS, &0_u8, true).load(&object).is_err());
    Ok(())
}

#[test]
fn each_combination_of_settings_passes_the_verifier() -> Result<()> {
    let object = XdpProgram::object()?;
    let all = abi::FLAG_VNI_FILTER | abi::FLAG_SOURCE_FILTER | abi::FLAG_STAMP | abi::FLAG_LOG;
    let sums = |flags: &[u32]| {
        let sum = |bits: u32| (0..).zip(flags).map(|(bit, flag)| flag * (bits >> bit & 1)).sum();
        (0..1 << flags.len()).map(sum).collect::<Vec<u32>>()
    };
    let to_forward = sums(&[abi::FLAG_ORIGINS, abi::FLAG_GROUP, abi::FLAG_TUNNELS]);
    let to_split = sums(&[abi::FLAG_SPLIT_VNIS, abi::FLAG_SPLIT_SOURCES]);
    let mut programs = Vec::new();
    for flags in 0..=all {
        programs.extend([abi::PROGRAM, abi::PROGRAM_FRAGS].map(|entry| (entry, flags)));
        programs.extend(to_forward.iter().map(|own| (abi::PROGRAM_FORWARD, flags | own)));
    }
    for (split, own) in to_split.iter().flat_map(|split| to_forward.iter().map(move |own| (split, own))) {
        programs.extend([0, all].map(|flags| (abi::PROGRAM_FORWARD, flags | split | own)));
    }
    let verify = |programs: &[(&str, u32)]| {
        for (entry, flags) in programs {
            let mut ebpf = EbpfLoader::new()
                .override_global(abi::SETTING_PORTS, &[4789_u16.to_be(), 0, 0, 0], true)
                .override_global(abi::SETTING_FLAGS, flags, true)
                .load(&object)
                .expect("the object is read");
            let program: &mut Xdp =
                ebpf.program_mut(entry).expect("each entry").try_into().expect("an XDP program");
            program.load().unwrap_or_else(|error| panic!("{entry} with flags {flags:b}: {error:?}"));
        }
    };
    // A load is one CPU's work.
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for programs in programs.chunks(programs.len().div_ceil(cpus)) {
            scope.spawn(|| verify(programs));
        }
    });
    Ok(())
}

#[test]
fn the_object_has_no_trace_of_the_host_it_was_built_on() -> Result<()> {
    let object = XdpProgram::object()?;
    let text = String::from_utf8_lossy(&object);
    for trace in ["/home/", "/root/", "/usr/", "/work", "/tmp/", "/build", "/opt/"] {
        assert!(!text.contains(trace), "the object holds a path below {trace}");
    }
    Ok(())
}

/// `xdp_redirect_err(dev, xdp, tgt, err, map_type, map_id, index)`: which errors are ours to count.
#[test]
fn the_tracepoint_counts_what_no_socket_counts() -> Result<()> {
    const OURS: u32 = 77;
    const OTHERS: u32 = 78;
    let mut ebpf = load()?;
    let ids = ebpf.map_mut(abi::MAP_XSKS_ID).expect("the map");
    Array::<_, u32>::try_from(ids).expect("an array").set(0, OURS, 0).expect("its one place");
    let program: &mut RawTracePoint = ebpf
        .program_mut(abi::PROGRAM_REDIRECT_ERR)
        .expect("the tracepoint")
        .try_into()
        .expect("a raw tracepoint");
    program.load().expect("the verifier accepts it");

    let table = [
        ("ENXIO: no socket bound", libc::ENXIO, OURS, 1),
        ("EINVAL: socket of another queue", libc::EINVAL, OURS, 1),
        ("ENETDOWN", libc::ENETDOWN, OURS, 1),
        ("EOPNOTSUPP", libc::EOPNOTSUPP, OURS, 1),
        ("ENOSPC: counted as rx_dropped", libc::ENOSPC, OURS, 0),
        ("ENOMEM: counted as rx_dropped", libc::ENOMEM, OURS, 0),
        ("ENOBUFS: counted as rx_ring_full", libc::ENOBUFS, OURS, 0),
        ("another's map", libc::EINVAL, OTHERS, 0),
    ];
    for (name, errno, map, counted) in table {
        let before = failed(&ebpf);
        let mut args = [0; 12];
        // As the kernel stores an int and a u32: in the low half, with any upper half.
        args[3] = u64::from((-errno).cast_unsigned()) | 0xffff_ffff << 32;
        args[5] = u64::from(map);
        let program: &RawTracePoint = ebpf
            .program(abi::PROGRAM_REDIRECT_ERR)
            .expect("the tracepoint")
            .try_into()
            .expect("a raw tracepoint");
        program.test_run(RawTracePointRunOptions { args, cpu: None }).expect("a test run");
        assert_eq!(failed(&ebpf) - before, counted, "{name}");
    }
    Ok(())
}

fn failed(ebpf: &Ebpf) -> u64 {
    let map = ebpf.map(abi::MAP_REDIRECT_FAILED).expect("the map");
    let map = PerCpuArray::<_, u64>::try_from(map).expect("a per-CPU array");
    map.get(&0, 0).expect("its one place").iter().sum()
}

/// The same tracepoint, for frames that a device is not even given.
#[test]
fn the_forwarders_tracepoint_names_why_a_frame_was_not_queued() -> Result<()> {
    use abi::Fate::{Down, NoProgram, Other, TooLarge};
    const OURS: u32 = 77;
    const OTHERS: u32 = 78;
    let mut ebpf = load()?;
    let ids = ebpf.map_mut(abi::MAP_TARGETS_ID).expect("the map");
    Array::<_, u32>::try_from(ids).expect("an array").set(0, OURS, 0).expect("its one place");
    let program: &mut RawTracePoint = ebpf
        .program_mut(abi::PROGRAM_FORWARD_ERR)
        .expect("the tracepoint")
        .try_into()
        .expect("a raw tracepoint");
    program.load().expect("the verifier accepts it");
    let table = [
        (libc::ENETDOWN, OURS, Some(Down)),
        (libc::EOPNOTSUPP, OURS, Some(NoProgram)),
        (libc::EMSGSIZE, OURS, Some(TooLarge)),
        (libc::ENOMEM, OURS, Some(Other)),
        (libc::EOVERFLOW, OURS, Some(Other)),
        (libc::ENETDOWN, OTHERS, None),
    ];
    for (errno, map, fate) in table {
        let before = fates(&ebpf);
        let mut args = [0; 12];
        args[3] = u64::from((-errno).cast_unsigned()) | 0xffff_ffff << 32;
        args[5] = u64::from(map);
        let program: &RawTracePoint = ebpf
            .program(abi::PROGRAM_FORWARD_ERR)
            .expect("the tracepoint")
            .try_into()
            .expect("a raw tracepoint");
        program.test_run(RawTracePointRunOptions { args, cpu: None }).expect("a test run");
        let mut wanted = before;
        if let Some(fate) = fate {
            wanted[fate as usize] += 1;
        }
        assert_eq!(fates(&ebpf), wanted, "errno {errno}");
    }
    Ok(())
}

fn fates(ebpf: &Ebpf) -> abi::FateCounts {
    let map = ebpf.map(abi::MAP_FATES).expect("the map");
    let map = PerCpuArray::<_, abi::FateCounts>::try_from(map).expect("a per-CPU array");
    let mut sum = abi::FateCounts::default();
    for values in map.get(&0, 0).expect("its one place").iter() {
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    sum
}
