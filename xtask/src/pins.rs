//! Every version that this repository pins. The MSRV is `rust-version` in the root manifest, library versions
//! are in `[workspace.dependencies]` and `Cargo.lock`.

/// The Rust whose lints apply: a newer clippy may have more.
pub(crate) const LINT_RUST: &str = "1.95";

/// The MSRV, from the root manifest.
pub(crate) const MSRV: &str = env!("CARGO_PKG_RUST_VERSION");

/// The compiler of the committed eBPF objects.
pub(crate) const EBPF_RUST: &str = "1.96.0";

/// The LLVM of that compiler, and the one that `bpf-linker` and `llvm-strip` must come with.
pub(crate) const EBPF_LLVM: &str = "22";

/// Links the bitcode of the eBPF programs into one object.
pub(crate) const BPF_LINKER: CargoTool = CargoTool { name: "bpf-linker", version: "0.13.0", exact: true };

/// Licences, bans, sources and advisories of dependencies.
pub(crate) const CARGO_DENY: CargoTool = CargoTool { name: "cargo-deny", version: "0.20.2", exact: false };

/// Builds and runs libFuzzer targets.
pub(crate) const CARGO_FUZZ: CargoTool = CargoTool { name: "cargo-fuzz", version: "0.13.2", exact: false };

/// Makes the `.deb`.
pub(crate) const CARGO_DEB: CargoTool = CargoTool { name: "cargo-deb", version: "3.8.0", exact: false };

/// Makes the `.rpm`.
pub(crate) const CARGO_GENERATE_RPM: CargoTool =
    CargoTool { name: "cargo-generate-rpm", version: "0.21.1", exact: false };

/// Packages of PyPI, in an environment of their own: cargo with zig as its linker, which knows the symbols of
/// every version of glibc.
pub(crate) const ZIG: [(&str, &str); 2] = [("cargo-zigbuild", "0.24.1"), ("ziglang", "0.16.0")];

/// The version of glibc that packages are linked for: that of Amazon Linux 2, the oldest of the hosts.
pub(crate) const GLIBC: &str = "2.26";

/// A program that `cargo install` installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CargoTool {
    /// Package and program.
    pub(crate) name: &'static str,
    /// The version to install.
    pub(crate) version: &'static str,
    /// Whether only this version will do, because the result depends on it.
    pub(crate) exact: bool,
}
