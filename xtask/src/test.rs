//! `cargo xtask test`: the tests, as root and serially, because labs share this host's CPUs.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::ebpf::{self, toolchain::Toolchain};
use crate::setup::{self, Group};
use crate::{host, process, tree};

/// Prefix of the names of tests that run Suricata.
const SURICATA_TESTS: &str = "suricata_sees";
/// Prefix of the names of tests that run promtool.
const PROMTOOL_TESTS: &str = "promtool_finds";
/// Prefix of the names of tests that run Chromium.
const CHROMIUM_TESTS: &str = "chromium_shows";
/// Tests whose names begin so raise the limit of real-time priority.
const LIMIT_TESTS: &str = "limit_of_real_time";

/// The part that only `--all` runs: fewer tests than the workspace's, of less of the same code; only the
/// refusal of Zstandard is code of its own. `cargo xtask lint` builds all of it.
const WITHOUT_FEATURES: &str = "the library without its features";

/// Has tests repeat what fails rarely as often as they can, instead of a quarter of that.
const ALL_ROUNDS: &str = "MIRROR_ALL_ROUNDS";
/// Tests of many, slow and hostile clients at the highest rate without losses: half a minute of load.
const CLIENT_TESTS: &str = "slow_hostile_and_many_clients";

/// Mark of tests that read captures of real networks.
const CAPTURE_TESTS: &str = r#"#[ignore = "needs MIRROR_CAPTURES"]"#;
/// Folder with the captures of GENEVE in the tests of Zeek and of Suricata, by their names there.
const GENEVE_CAPTURES: &str = "MIRROR_GENEVE_CAPTURES";
/// The test that reads them.
const GENEVE_TEST: &str = "public_captures_of_geneve_are_replayed_as_tshark_reads_them";

/// Sets up and runs the tests; with `args`, one run of `cargo test` with them, else those of the workspace
/// and, with `all`, those of the library without its features.
///
/// # Errors
/// If root, AF_XDP or (if `require_ebpf` or under CI) the eBPF toolchain is missing, and if a test
/// fails.
pub(crate) fn run(yes: bool, require_ebpf: bool, all: bool, args: &[OsString]) -> Result<ExitCode> {
    if !host::is_root() {
        bail!(
            "most tests open AF_XDP sockets in namespaces of their own, which needs root; run\n  {}",
            host::as_root("test")
        );
    }
    setup::ensure(&[Group::Build, Group::Lab, Group::Test], yes, "test")?;
    require_af_xdp(&fs::read_to_string("/proc/net/protocols").context("cannot read /proc/net/protocols")?)?;

    let fresh = fresh_objects(require_ebpf || host::is_ci())?;
    let captures = captures();
    let has_suricata = host::program("suricata").is_some();
    let has_promtool = host::program("promtool").is_some();
    let has_chromium = host::program("chromium").is_some();
    let raises_limits = raises_limits()?;
    let left_out = left_out(has_suricata, has_promtool, has_chromium, raises_limits, all);
    let cargo_test = || {
        let mut command = host::cargo();
        command.arg("test").arg("--locked").env("RUST_TEST_THREADS", "1");
        if all {
            command.env(ALL_ROUNDS, "1");
        }
        for (name, value) in [("MIRROR_EBPF_OBJECTS", &fresh), ("MIRROR_CAPTURES", &captures)] {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    };

    if !args.is_empty() {
        let mut command = cargo_test();
        if !chooses_packages(args) {
            command.arg("--workspace");
        }
        return Ok(process::code(process::run(command.args(args))?));
    }
    // Both, even if the first fails: a failure in only one of them is a hint.
    let mut failed = Vec::new();
    let runs: [(&str, &[&str]); 2] = [
        ("the workspace", &["--workspace", "--no-fail-fast"]),
        (WITHOUT_FEATURES, &["--package", "mirror-user", "--no-default-features", "--no-fail-fast"]),
    ];
    for (name, arguments) in runs.into_iter().filter(|(name, _)| all || *name != WITHOUT_FEATURES) {
        if !process::run(cargo_test().args(arguments).args(&left_out))?.success() {
            failed.push(name);
        }
    }
    let of_captures = capture_tests()?;
    if captures.is_some() {
        // By name: other ignored tests are run by other tests.
        let arguments = ["--workspace", "--lib", "--tests", "--no-fail-fast", "--", "--ignored"];
        if !process::run(cargo_test().args(arguments).args(&of_captures))?.success() {
            failed.push("the captures of real networks");
        }
    }
    let has_geneve = env::var_os(GENEVE_CAPTURES).is_some();
    if has_geneve {
        let arguments = ["--package", "mirror-user", "--test", "geneve", "--", "--ignored", GENEVE_TEST];
        if !process::run(cargo_test().args(arguments))?.success() {
            failed.push("the public captures of GENEVE");
        }
    }
    // At the end, where it is noticed.
    if !all {
        eprintln!(
            "test: NOT checked without --all: {WITHOUT_FEATURES}, which `cargo xtask lint` builds; \
            {CLIENT_TESTS}…; the other three quarters of the rounds of what fails rarely"
        );
    }
    if !has_geneve {
        eprintln!(
            "test: NOT checked: {GENEVE_TEST}; set {GENEVE_CAPTURES} to the folder with the public captures \
            that the test names"
        );
    }
    if captures.is_none() {
        eprintln!(
            "test: NOT checked: captures of real networks; set MIRROR_CAPTURES to the folder that has them, \
            and run this again: {}",
            of_captures.join(", ")
        );
    }
    if !raises_limits {
        eprintln!(
            "test: NOT checked here: {LIMIT_TESTS}…: root lacks CAP_SYS_RESOURCE on this host; `cargo xtask \
            vmtest` runs them"
        );
    }
    if !has_suricata {
        eprintln!(
            "test: NOT checked: what Suricata sees of forwarded packets: it is not on this host, and its \
            distribution has no package of it; install Suricata 7, as suricata.io has it, and run this \
            again"
        );
    }
    if !has_promtool {
        eprintln!(
            "test: NOT checked: what promtool says of the metrics: it is not on this host, and its \
            distribution has no package of it; install Prometheus, as prometheus.io has it, and run this \
            again"
        );
    }
    if !has_chromium {
        eprintln!(
            "test: NOT checked: the page in a browser; install Chromium as `chromium`, and run this again"
        );
    }
    if !failed.is_empty() {
        bail!("tests failed in {}", failed.join(" and "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Arguments that skip what this host cannot run. If Suricata and Prometheus have packages, setup has
/// installed them.
fn left_out(
    has_suricata: bool,
    has_promtool: bool,
    has_chromium: bool,
    raises_limits: bool,
    all: bool,
) -> Vec<&'static str> {
    let tests = [
        (has_suricata, SURICATA_TESTS),
        (has_promtool, PROMTOOL_TESTS),
        (has_chromium, CHROMIUM_TESTS),
        (raises_limits, LIMIT_TESTS),
        (all, CLIENT_TESTS),
    ];
    let skipped = tests.into_iter().filter(|(can, _)| !can);
    let skipped: Vec<_> = skipped.flat_map(|(_, tests)| ["--skip", tests]).collect();
    if skipped.is_empty() { skipped } else { [&["--"], &skipped[..]].concat() }
}

/// Whether root may raise a hard limit here, which takes CAP_SYS_RESOURCE; containers often lack it.
fn raises_limits() -> Result<bool> {
    let mut command = Command::new("prlimit");
    let tried = command.args(["--rtprio=1:1", "true"]).stderr(Stdio::null()).status();
    Ok(tried.context("cannot run prlimit")?.success())
}

/// Names of the tests that read captures of real networks.
fn capture_tests() -> Result<Vec<String>> {
    Ok(tree::sources("rs")?.iter().flat_map(|source| marked(&source.text)).collect())
}

/// Names of the functions with the mark [`CAPTURE_TESTS`].
fn marked(source: &str) -> Vec<String> {
    let mut lines = source.lines().map(str::trim);
    let mut names = Vec::new();
    while lines.by_ref().any(|line| line == CAPTURE_TESTS) {
        let name = lines.next().and_then(|line| line.strip_prefix("fn ")?.split_once('('));
        names.extend(name.map(|(name, _)| name.to_owned()));
    }
    names
}

/// Whether `args` select packages.
fn chooses_packages(args: &[OsString]) -> bool {
    args.iter().take_while(|arg| *arg != "--").filter_map(|arg| arg.to_str()).any(|arg| {
        arg.starts_with("-p")
            || ["--package", "--workspace", "--manifest-path"].iter().any(|option| {
                arg == *option || arg.strip_prefix(option).is_some_and(|rest| rest.starts_with('='))
            })
    })
}

/// The kernel lists the protocol families that it has.
fn require_af_xdp(protocols: &str) -> Result<()> {
    if !protocols.lines().any(|line| line.split_whitespace().next() == Some("XDP")) {
        bail!(
            "this kernel has no AF_XDP (no XDP in /proc/net/protocols), and the tests would prove nothing \
            without it: boot one with CONFIG_XDP_SOCKETS=y, as Debian, Ubuntu and Amazon Linux 2023 have it"
        );
    }
    Ok(())
}

/// Builds the eBPF programs from the current source, for their tests.
fn fresh_objects(required: bool) -> Result<Option<PathBuf>> {
    match Toolchain::find() {
        Ok(toolchain) => ebpf::build(&toolchain).map(Some),
        Err(error) if required => Err(error.context("the program tests must run on a fresh build here")),
        Err(error) => {
            eprintln!(
                "note: the program tests run on the committed objects, not on a fresh build: {error:#}"
            );
            Ok(None)
        }
    }
}

/// The directory with captures of real networks, which are not part of this repository.
fn captures() -> Option<PathBuf> {
    let folder = env::var_os("MIRROR_CAPTURES")
        .map_or_else(|| host::workspace().join("../shared/captures"), PathBuf::from);
    match folder.canonicalize() {
        Ok(folder) => Some(folder),
        Err(error) => {
            eprintln!("note: no captures of real networks: {}: {error}", folder.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_af_xdp_is_refused_with_the_remedy() {
        let header = "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh \
            ss gs se re bi br ha uh gp em\n";
        let with = format!(
            "{header}PACKET    1472      0      -1   NI       0   no   kernel\n\
            XDP       1088      0      -1   NI       0   no   kernel\n"
        );
        require_af_xdp(&with).unwrap();
        let error = require_af_xdp(header).unwrap_err().to_string();
        assert!(error.contains("CONFIG_XDP_SOCKETS=y"), "{error}");
    }

    #[test]
    fn tests_of_suricata_are_left_out_only_where_it_is_missing() {
        assert!(left_out(true, true, true, true, true).is_empty());
        assert_eq!(left_out(false, true, true, true, true), ["--", "--skip", "suricata_sees"]);
        assert_eq!(left_out(true, false, true, true, true), ["--", "--skip", "promtool_finds"]);
        assert_eq!(left_out(true, true, false, true, true), ["--", "--skip", "chromium_shows"]);
        assert_eq!(left_out(false, false, false, false, false).len(), 11);
        assert_eq!(
            left_out(true, true, true, true, false),
            ["--", "--skip", "slow_hostile_and_many_clients"]
        );
        let watched = fs::read_to_string(host::workspace().join("tests/e2e/watched.rs")).unwrap();
        assert!(watched.contains(&format!("\nfn {CLIENT_TESTS}")));
        let tests = fs::read_to_string(host::workspace().join("tests/lab/tests/suricata.rs")).unwrap();
        let names =
            tests.lines().filter_map(|line| line.strip_prefix("fn ")?.strip_suffix("() -> Result<()> {"));
        let names: Vec<_> = names.collect();
        assert!(!names.is_empty());
        assert!(names.iter().all(|name| name.starts_with(SURICATA_TESTS)), "{names:?}");
    }

    #[test]
    fn tests_of_real_captures_are_found_by_their_mark() {
        let source = format!(
            "{CAPTURE_TESTS}\nfn one() {{}}\nfn other() {{}}\n    {CAPTURE_TESTS}\n    fn two() {{}}"
        );
        assert_eq!(marked(&source), ["one", "two"]);
        let names = capture_tests().unwrap();
        assert!(names.len() >= 4 && names.iter().all(|name| name.contains("capture")), "{names:?}");
    }

    #[test]
    fn an_explicit_choice_of_packages_is_kept() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in ["-p mirror-user", "--package=mirror-user", "--workspace --lib", "-pmirror-user"] {
            assert!(chooses_packages(&words(line)), "{line}");
        }
        for line in ["--lib", "replay", "some_test -- -p"] {
            assert!(!chooses_packages(&words(line)), "{line}");
        }
    }
}
