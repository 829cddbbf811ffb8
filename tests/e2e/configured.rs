//! Configuration files: they give the same runs as flags, errors have their line, and printed settings can be
//! read back.

use std::{
    fs,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use mirror_lab::{aws_twin, capture};
use serde_json::Value;
use tempfile::TempDir;

/// A directory with a capture and a configuration file.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().expect("directory"));
        let frames = aws_twin::aws_twin().expect("frames");
        capture::write_pcap(&desk.path("twin.pcap"), &frames).expect("written");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, text: &str) -> PathBuf {
        let file = self.path("mirror.toml");
        fs::write(&file, text).expect("written");
        file
    }

    fn mirror(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_mirror"))
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("mirror")
    }

    /// Exit code and messages of `mirror config check`.
    fn check(&self, text: &str) -> (Option<i32>, String) {
        self.file(text);
        let output = self.mirror(&["config", "check", "mirror.toml"]);
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    }
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn printed(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn file_and_flags_give_the_same_run_and_flags_override_the_file() {
    let desk = Desk::new();
    desk.file("read = 'twin.pcap'\njson = true\nfilter = 'udp port 53'\ncount = 5\nwait = 'spin'\n");
    let from_file = report(&desk.mirror(&["replay", "--config", "mirror.toml"]));
    assert_eq!((&from_file["filter"], &from_file["sinks"][0]["offered"]), (&"udp port 53".into(), &5.into()));
    let typed = report(&desk.mirror(&["replay", "-c", "7", "--config=mirror.toml", "tcp"]));
    assert_eq!((&typed["filter"], &typed["sinks"][0]["offered"]), (&"tcp".into(), &7.into()));
}

#[test]
fn a_flag_may_apply_to_an_output_of_the_file_and_a_key_to_one_of_the_flags() {
    let desk = Desk::new();
    for (file, typed) in [
        ("read = 'twin.pcap'\nwrite = 'x'\n", &["--format", "pcap-us"][..]),
        ("read = 'twin.pcap'\nformat = 'pcap-us'\n", &["-w", "x"]),
    ] {
        desk.file(file);
        let output = desk.mirror(&[&["replay", "--config", "mirror.toml"], typed].concat());
        assert!(output.status.success(), "{file}: {output:?}");
        // The magic number of classic pcap in microseconds.
        assert_eq!(
            fs::read(desk.path("x")).expect("a capture")[..4],
            0xa1b2_c3d4_u32.to_ne_bytes(),
            "{file}"
        );
        fs::remove_file(desk.path("x")).expect("removed");
    }
    let neither = desk.mirror(&["replay", "-r", "twin.pcap", "--format", "pcap-us"]);
    assert_eq!(neither.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&neither.stderr).contains("--format goes with -w FILE, which is required"),
        "{neither:?}"
    );
}

#[test]
fn errors_in_a_file_are_reported_with_their_line() {
    let desk = Desk::new();
    let (code, said) = desk.check("count = 5\n\nprot = 4789\n");
    assert_eq!(code, Some(2));
    assert!(
        said.starts_with("mirror: mirror.toml:3:1: there is no key prot; there are: absolute, ascii, "),
        "{said}"
    );
    for (text, expected) in [
        ("wait = 'sleep'", "mirror.toml:1:1: wait: invalid value 'sleep' for '--wait <WAIT>'"),
        ("# lists\nvni = '9-'", "mirror.toml:2:1: vni: invalid value '9-'"),
        ("json = 1", "mirror.toml:1:1: json: true or false is wanted"),
        ("count = true", "mirror.toml:1:1: count: neither true nor false"),
        ("vni = [7,", "mirror.toml:1:10: "),
        (
            "filter = 'tcp prot 3'",
            "mirror.toml:1:1: filter: filter expression: syntax error\n  tcp prot 3\n      ^^^^",
        ),
        (
            "outer-filter = 'tcp port'",
            "mirror.toml:1:1: outer-filter: filter expression: syntax error: it ends",
        ),
        ("outer-filter = ['udp', 'port 53']", "mirror.toml:1:1: outer-filter: one value is wanted, not 2"),
        ("write = ['a', 'b']", "mirror.toml:1:1: write: one value is wanted, not 2"),
        ("forward = ['tap:a', 'tape:b']", "mirror.toml:1:1: forward: invalid value 'tape:b'"),
        ("vlan-per-vni = true", "mirror.toml:1:1: "),
        ("quiet = true\nverbose = 1", "mirror.toml:2:1: -q cannot be used with -v; with --print it can"),
        (
            "[[sink]]\nname = 'x'",
            "mirror.toml:1:1: a sink is for something: `write = \"FILE\"`, `print = true`",
        ),
        ("[[sink]]\nwrite = 'x'\nvni = 7", "mirror.toml:3:1: a sink has no key vni; it has: name, "),
        ("[[sink]]\nwrite = 'x'\nsources = 'here'", "mirror.toml:3:1: sources: invalid value 'here'"),
        (
            "[[sink]]\nwrite = 'x'\nfilter = 'tcp prot'",
            "mirror.toml:3:1: filter: filter expression: syntax error",
        ),
        (
            "[[sink]]\nwrite = 'x'\n[[sink]]\nwrite = 'x'",
            "mirror.toml:3:1: there are two sinks of the name x",
        ),
        ("config = 'other.toml'", "mirror.toml:1:1: there is no key config"),
    ] {
        let (code, said) = desk.check(text);
        assert_eq!(code, Some(2), "{text}");
        assert!(said.contains(expected), "{text}: {said}");
        let run = desk.mirror(&["replay", "-r", "twin.pcap", "--config", "mirror.toml"]);
        assert_eq!(run.status.code(), Some(2), "{text}");
        assert!(String::from_utf8_lossy(&run.stderr).contains(expected), "{text}");
    }
    let missing = desk.mirror(&["replay", "--config", "nowhere.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nowhere.toml: No such file"));
}

#[test]
fn each_sink_table_is_a_capture_with_its_own_selection() {
    let desk = Desk::new();
    desk.file(
        "read = 'twin.pcap'\njson = true\nwrite = 'all.pcapng'\n\n\
         [[sink]]\nname = 'dns'\nwrite = 'dns.pcap'\nformat = 'pcap'\nfilter = 'udp port 53'\n\n\
         [[sink]]\nwrite = 'elsewhere.pcapng'\nvnis = [1, '2-9']\n\n\
         [[sink]]\nname = 'here'\nwrite = 'here.pcapng'\nouter = true\nsources = '172.31.0.0/16'\n\
         outer-filter = 'src port 65408'\n",
    );
    let output = desk.mirror(&["replay", "--config", "mirror.toml"]);
    let report = report(&output);
    let figures = |sink: &Value| {
        let figure = |name: &str| sink[name].as_u64().expect("a number");
        (sink["name"].as_str().expect("a name").to_owned(), figure("written"), figure("deselected"))
    };
    let sinks: Vec<_> = report["sinks"].as_array().expect("sinks").iter().map(figures).collect();
    let expected = [
        ("counters", 100, 0),
        ("pcap", 100, 0),
        ("dns", 20, 80),
        ("elsewhere.pcapng", 0, 100),
        ("here", 11, 89),
    ];
    assert_eq!(sinks, expected.map(|(name, written, deselected)| (name.to_owned(), written, deselected)));
    assert_eq!(report["accounting"]["residue"], 0);
    let packets = |name: &str| capture::read(&desk.path(name)).expect(name).packets.len();
    assert_eq!(["all.pcapng", "dns.pcap", "elsewhere.pcapng", "here.pcapng"].map(packets), [100, 20, 0, 11]);
    let said = String::from_utf8_lossy(&output.stderr);
    for line in ["  80 not of its selection", "capture: dns.pcap", "capture: here.pcapng"] {
        assert!(said.lines().any(|expected| expected == line), "{line} in {said}");
    }
}

#[test]
fn a_program_named_like_a_subcommand_reads_a_file() {
    let desk = Desk::new();
    desk.file("read = 'twin.pcap'\njson = true\n");
    symlink(env!("CARGO_BIN_EXE_mirror"), desk.path("replay")).expect("link");
    let mut program = Command::new("./replay");
    program.args(["replay", "--config", "mirror.toml"]).current_dir(desk.0.path());
    let output = program.arg0("replay").output().expect("mirror");
    assert_eq!(report(&output)["frames"]["decapsulated"], 100);
}

#[test]
fn two_sinks_cannot_have_standard_output() {
    let desk = Desk::new();
    desk.file("read = 'twin.pcap'\nwrite = '-'\n[[sink]]\nwrite = '-'\n");
    let output = desk.mirror(&["replay", "--config", "mirror.toml"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("two sinks both want standard output"));
}

#[test]
fn printed_settings_are_a_file_with_the_same_settings() {
    let desk = Desk::new();
    let text = "interface = ['ens6', 'ens7']\nqueues = '0-3'\nvni = [7, '100-199']\nrx-ring = 16384\n\
                write = 'a \"b\".pcapng'\nouter = true\nverbose = 2\nfilter = 'tcp port 443'\n\
                [[sink]]\nwrite = 'b'\nvnis = [7, '8-9']\nouter = false\n";
    assert_eq!(desk.check(text), (Some(0), "mirror.toml: 8 keys, 1 sink, nothing wrong\n".to_owned()));
    let first = printed(desk.mirror(&["config", "print", "mirror.toml"]));
    for line in [
        "interface = [\"ens6\", \"ens7\"]",
        "rx-ring = 16384",
        "wait = \"poll\"  # default",
        "# cpus is not set",
    ] {
        assert!(first.lines().any(|printed| printed == line), "{line} in {first}");
    }
    desk.file(&first);
    let second = printed(desk.mirror(&["config", "print", "mirror.toml"]));
    let settings = |text: &str| text.replace("  # default", "");
    assert_eq!(settings(&first), settings(&second));
    assert!(Path::new(&desk.path("mirror.toml")).is_file());
}

/// What a run refuses without touching the host, in a file and as flags.
#[test]
fn the_check_refuses_with_position_what_a_run_refuses_on_any_host() {
    let desk = Desk::new();
    let rows = [
        ("# a ring\nrx-ring = 3", "2:1: rx-ring: an RX ring of 3 descriptors"),
        ("port = [1, 2, 3, 4, 5]", "1:1: port: between 1 and 4 tunnel ports"),
        ("  port = 0", "1:3: port: between 1 and 4"),
        ("interface = 'lo,lo'", "1:1: interface: an interface is named twice"),
        ("interface = ['lo', 'lo']", "1:1: interface: an interface is named twice"),
        ("interface = ''", "1:1: interface: \"\" is no name of an interface"),
        ("interface = ['ens6', '']", "1:1: interface: \"\" is no name of an interface"),
        ("interface = 'ens6,'", "1:1: interface: \"\" is no name of an interface"),
        ("interface = 'a/b'", "1:1: interface: \"a/b\" is no name of an interface"),
        ("interface = 'any'", "1:1: interface: the pseudo-interface any"),
        ("count = 0\ninterface = 'ens6'", "1:1: count: invalid value '0'"),
        ("interface = 'ens6'\nqueues = '0,0'", "2:1: queues: invalid value '0,0'"),
        ("bind = 'zerocopy'\nmode = 'generic'", "2:1: zero-copy needs native mode"),
        ("write = 'x'\nreport = './x'", "2:1: -w x and --report ./x name the same file"),
        (
            "report = 'x'\n[[sink]]\nwrite = 'down/../x'",
            "2:1: -w down/../x and --report x name the same file",
        ),
        ("[[sink]]\nwrite = 'x'\n[[sink]]\nwrite = 'link/x'", "3:1: -w x and -w link/x name the same file"),
        ("write = 'x'\nfile-size = 1\n[[sink]]\nwrite = 'x7'", "3:1: -w x and -w x7: one is among the names"),
        ("write = '-'\njson = true", "2:1: -w - and --json both want standard output"),
        ("write = '-'\nfile-size = 1", "2:1: -C and -G asks for files"),
        ("report = '-'", "1:1: --report takes a file"),
        ("write = 'x'\nfile-count = 2", "2:1: -W counts the files of -C or -G"),
        ("write = 'a%2/x'\nrotate-seconds = 60", "2:1: "),
        ("[[sink]]\nname = 'counters'\nwrite = 'x'", "2:1: there are two sinks counters"),
        ("write = 'y'\n[[sink]]\nname = 'pcap'\nwrite = 'x'", "3:1: there are two sinks pcap"),
        ("forward = ['tap:a', 'tap:a']", "1:1: tap:a: named twice"),
        (
            "forward = 'vxlan:192.0.2.7'\nvlan-per-vni = true",
            "2:1: --vlan-per-vni is for targets veth:, tap: and dev:",
        ),
        (
            "forward-path = 'kernel'\nforward = 'dev:out0'\nfilter = 'udp'",
            "3:1: the kernel cannot forward: a filter expression selects frames; use `--forward-path user`",
        ),
        (
            "forward-path = 'kernel'\nforward = 'tap:a'",
            "1:1: the kernel cannot forward: sink forward tap:a: ",
        ),
        ("forward-path = 'kernel'", "1:1: the kernel cannot forward: there is no target to forward to"),
        (
            "[[sink]]\nforward = 'pcap-over-ip:listen=./x'\n[[sink]]\nwrite = 'x'",
            "3:1: -w x and --forward pcap-over-ip:listen= ./x name the same file",
        ),
    ];
    fs::create_dir(desk.path("down")).expect("directory");
    symlink(".", desk.path("link")).expect("link");
    for (text, expected) in rows {
        let (code, said) = desk.check(text);
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.starts_with(&format!("mirror: mirror.toml:{expected}")), "{text}:\n{said}");
        // A run with this file reports the same, and neither leaves files behind.
        let replays =
            !["interface", "rx-ring", "port =", "bind", "count", "path"].iter().any(|key| text.contains(key));
        let command =
            if replays { vec!["replay", "-r", "twin.pcap"] } else { vec!["ingest", "--interface=ens6"] };
        let command = if text.contains("interface") { vec!["ingest"] } else { command };
        let run = desk.mirror(&[&command[..], &["--config", "mirror.toml"]].concat());
        assert_eq!((run.status.code(), run.stdout.len()), (Some(2), 0), "{text}");
        assert!(String::from_utf8_lossy(&run.stderr).contains(expected), "{text}: {run:?}");
        let mut left: Vec<_> = fs::read_dir(desk.0.path())
            .expect("directory")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["down", "link", "mirror.toml", "twin.pcap"], "{text}");
    }
    // Flags override what is wrong in the file.
    desk.file("read = 'twin.pcap'\nwrite = 'x'\nreport = './x'\n");
    assert!(desk.mirror(&["replay", "--config", "mirror.toml", "--report", "y"]).status.success());
    desk.file("read = 'twin.pcap'\nformat = 'pcap'\nwrite = 'z'\n");
    assert!(desk.mirror(&["replay", "--config", "mirror.toml", "-w", "z2"]).status.success());
    // Flags alone are validated in the same way.
    for words in ["-w a --report ./a", "-w down/a --report link/down/a", "-w a -C 1 --report a1"] {
        let words: Vec<_> = ["replay", "-r", "twin.pcap"].into_iter().chain(words.split(' ')).collect();
        let run = desk.mirror(&words);
        assert_eq!(run.status.code(), Some(2), "{run:?}");
        assert!(!desk.path(".a.partial").exists() && !desk.path("a").exists(), "{words:?}");
    }
    // What depends on the host is not checked.
    for text in ["interface = 'nope0'", "cpus = 1000", "write = 'nowhere/x'", "read = 'nowhere'"] {
        assert_eq!(desk.check(text).0, Some(0), "{text}");
    }
}
