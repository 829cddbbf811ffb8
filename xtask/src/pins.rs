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

/// Reads and checks templates: parsers, the schemas of CloudFormation, the AWS CLI with a server for it, and
/// what Debian's cloud-init imports for its schema.
pub(crate) const TEMPLATE_TOOLS: PythonTools = PythonTools {
    environment: "templates",
    packages: &[
        "cfn-lint==1.58.0",
        "python-hcl2==8.1.4",
        "awscli==1.46.3",
        "moto[server]==5.2.5",
        "configobj==5.0.9",
        "jsonpatch==1.48",
        "jsonschema==4.26.0",
        "netifaces==0.11.0",
        "oauthlib==4.0.1",
    ],
};

/// Rules of security for templates. It wants another boto3 than the AWS CLI.
pub(crate) const CHECKOV: PythonTools =
    PythonTools { environment: "checkov", packages: &["checkov==3.3.30"] };

/// The npm package with the schema of Terraform's AWS provider, as types of its programming interface.
pub(crate) const TERRAFORM_PROVIDER: &str = "@cdktf/provider-aws@21.22.1";

/// Packages of PyPI, in a virtual environment of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PythonTools {
    /// Its name, below the target directory.
    pub(crate) environment: &'static str,
    /// As pip takes them.
    pub(crate) packages: &'static [&'static str],
}

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
