//! The ABI between the two halves of `mirror`, and the compiled programs of the kernel half.
//!
//! Everything that both halves must agree on is defined here once: names of maps, programs and settings, the
//! order of the counters, the layout of the metadata area, header lengths and protocol numbers. The objects
//! are committed, so that neither users nor embedders need the eBPF toolchain; `cargo xtask ebpf --check`
//! rebuilds them and compares every instruction.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(feature = "programs"), warn(missing_docs))]

pub mod bench;
pub mod discard;
pub mod flow;
pub mod generator;
pub mod mirror;
#[cfg(feature = "programs")]
pub mod programs;
pub mod source;
pub mod wire;

/// Bytes aligned as the ELF reader needs them; `include_bytes!` guarantees no alignment.
#[cfg(not(target_arch = "bpf"))]
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

macro_rules! object {
    ($(#[$doc:meta])* $name:ident, $path:literal) => {
        $(#[$doc])*
        #[cfg(not(target_arch = "bpf"))]
        pub static $name: &[u8] = {
            static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!("../objects/", $path)));
            &BYTES.0
        };
    };
}

object!(
    /// ELF object of the XDP program and its tracepoint; names and layouts are in [`mirror`].
    MIRROR_OBJECT, "mirror.o"
);
object!(
    /// ELF object of the programs on devices that are made for readers; their names are in [`discard`].
    DISCARD_OBJECT, "discard.o"
);
object!(
    /// ELF object of the tc programs of a mirror source; names and layouts are in [`source`].
    SOURCE_OBJECT, "source.o"
);
object!(
    /// ELF object of the traffic generator of lab and benchmarks; names and layouts are in [`generator`].
    GENERATOR_OBJECT, "generator.o"
);
object!(
    /// ELF object of the programs that benchmarks measure ours against; names are in [`mod@bench`].
    BENCH_OBJECT, "bench.o"
);
