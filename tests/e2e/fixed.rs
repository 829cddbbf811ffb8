//! `mirror doctor --fix --apply` and `--undo` on interfaces of a lab. In a mount namespace of their own they
//! see a copy of `/etc` and a stand-in of the huge pages, so that nothing of this host changes. Needs root.

mod common;

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use common::mirror::{MIRROR, until};
use mirror_lab::{Lab, Namespace};
use serde_json::Value;
use tempfile::TempDir;

const SYSCTLS: &str = "sysctl.d/60-mirror.conf";
const DROP_IN: &str = "systemd/system/mirror.service.d/60-host.conf";
const RECORD: &str = "mirror/applied.json";
/// A file of the kernel's that a test must not change.
const PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Mounts what stands for the host's own, then becomes the command.
const MOUNTS: &str = r#"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" lab /etc
mount --bind "$1/$2" /proc/sys/vm/nr_hugepages
mount --bind "$1/pages" /sys/kernel/mm/hugepages/hugepages-2048kB
mount -t tmpfs lab /run
shift 2
exec "$@"
"#;

/// A host with an interface in a network namespace.
struct Host {
    directory: TempDir,
    _lab: Lab,
    namespace: Namespace,
}

impl Host {
    /// `tap0` has a driver without multi-buffer XDP, and an MTU for which it would need that.
    fn new() -> Self {
        let lab = Lab::new().expect("lab");
        let namespace = lab.namespace("host").expect("namespace");
        namespace.ip("tuntap add mode tap name tap0").expect("TAP device");
        namespace.ip("link set dev tap0 mtu 9001 up").expect("MTU");
        let host = Self { directory: tempfile::tempdir().expect("directory"), _lab: lab, namespace };
        for directory in ["upper", "work", "pages"] {
            fs::create_dir(host.at(directory)).expect("directory");
        }
        for file in ["nr_hugepages", "pages/nr_hugepages", "pages/free_hugepages"] {
            fs::write(host.at(file), "0\n").expect("file");
        }
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// `mirror doctor …`, with this file in the place of the huge pages.
    fn command(&self, pages: &str, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command("unshare");
        command.args(["--mount", "sh", "-ec", MOUNTS, "sh"]).arg(self.directory.path());
        command.args([pages, MIRROR, "doctor"]).args(arguments).stdin(Stdio::null());
        command
    }

    fn doctor(&self, arguments: &[&str]) -> Output {
        self.command("nr_hugepages", arguments).output().expect("doctor")
    }

    /// It ends with this exit code; returns what it printed.
    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.doctor(arguments);
        let printed = [&output.stdout[..], &output.stderr[..]].concat();
        let printed = String::from_utf8(printed).expect("UTF-8");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {printed}");
        printed
    }

    /// A file of `/etc`, if there is one that is not this host's own.
    fn etc(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at("upper").join(path)).ok()
    }

    fn mtu(&self, interface: &str) -> u64 {
        self.link(interface)["mtu"].as_u64().expect("MTU")
    }

    fn link(&self, interface: &str) -> Value {
        let mut command = self.namespace.command("ip");
        let shown = mirror_lab::run(command.args(["-json", "link", "show", "dev", interface]));
        let shown: Value = serde_json::from_str(&shown.expect("link")).expect("JSON");
        shown[0].clone()
    }

    fn pages(&self) -> String {
        fs::read_to_string(self.at("nr_hugepages")).expect("pages").trim().to_owned()
    }

    /// All that may be changed.
    fn state(&self, interface: &str) -> (u64, String, [Option<String>; 3]) {
        (self.mtu(interface), self.pages(), [SYSCTLS, DROP_IN, RECORD].map(|path| self.etc(path)))
    }
}

const APPLY: [&str; 4] = ["-i", "tap0", "--fix", "--apply"];

#[test]
fn what_fix_prints_is_set_kept_recorded_and_put_back() {
    let real = fs::read_to_string(PAGES).expect("the host's own");
    let host = Host::new();
    let before = host.state("tap0");
    assert_eq!(before, (9001, "0".to_owned(), [None, None, None]));
    let printed = host.ends(0, &["-i", "tap0", "--fix"]);
    assert_eq!(host.state("tap0"), before, "nothing is changed without --apply");
    let said = host.ends(0, &APPLY);
    assert!(said.contains("set        tap0: MTU: 3498, before 9001"), "{said}");
    assert!(said.contains("written    /etc/sysctl.d/60-mirror.conf"), "{said}");
    assert_eq!((host.mtu("tap0"), host.pages()), (3498, "17".to_owned()));
    for path in [SYSCTLS, DROP_IN] {
        let text = host.etc(path).expect(path);
        assert!(printed.contains(&text), "{path}: {text}\nis not in\n{printed}");
    }
    assert_eq!(host.ends(0, &["-i", "tap0", "--fix"]), printed, "what is set stays in the files");
    let record: Value = serde_json::from_str(&host.etc(RECORD).expect("record")).expect("JSON");
    assert_eq!(record["schema"], "mirror.applied/1");
    let mtu = &record["changes"][1];
    assert_eq!((&mtu["before"], &mtu["set"]), (&"9001".into(), &"3498".into()), "{record:#}");
    // After a boot; and again, with nothing left to do.
    host.namespace.ip("link set dev tap0 mtu 9001").expect("MTU");
    for _ in 0..2 {
        host.ends(0, &APPLY);
        assert_eq!(host.mtu("tap0"), 3498);
    }
    let said = host.ends(0, &["--undo"]);
    assert!(said.contains("restored   tap0: MTU: 9001"), "{said}");
    assert_eq!(host.state("tap0"), before);
    assert!(host.ends(0, &["--undo"]).contains("nothing to undo"));
    assert_eq!(fs::read_to_string(PAGES).expect("the host's own"), real);
    assert!(!Path::new("/etc").join(SYSCTLS).exists());
}

#[test]
fn json_names_each_setting_and_file_and_what_became_of_it() {
    let host = Host::new();
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&host.ends(0, &[arguments, &["--json"]].concat())).expect("JSON")
    };
    for (arguments, states) in [
        (&["-i", "tap0", "--fix"][..], ["planned", "planned"]),
        (&APPLY[..], ["set", "written"]),
        (&["--undo"][..], ["restored", "removed"]),
    ] {
        let outcome = json(arguments);
        assert_eq!(outcome["schema"], "mirror.fix/1");
        let settings = outcome["settings"].as_array().expect("settings");
        let mtu = settings.iter().find(|one| one["setting"] == "mtu").expect("the MTU");
        assert_eq!((&mtu["interface"], &mtu["state"]), (&"tap0".into(), &states[0].into()));
        assert_eq!(outcome["files"][1]["state"], states[1], "{outcome:#}");
    }
    let findings = json(&["-i", "tap0"]);
    let all = findings["findings"].as_array().expect("findings").iter();
    let settings: Vec<_> = all.filter_map(|finding| finding["settings"].as_array()).flatten().collect();
    assert!(settings.iter().any(|one| one["setting"] == "mtu" && one["value"] == "3498"), "{settings:?}");
}

#[test]
fn settings_that_others_have_changed_since_are_left_and_files_of_others_are_not_replaced() {
    let host = Host::new();
    fs::create_dir_all(host.at("upper/sysctl.d")).expect("directory");
    fs::write(host.at("upper").join(SYSCTLS), "vm.nr_hugepages = 5\n").expect("file");
    let before = host.state("tap0");
    let said = host.ends(1, &APPLY);
    assert!(said.contains("60-mirror.conf") && said.contains("nothing was changed"), "{said}");
    assert_eq!(host.state("tap0"), before);
    fs::remove_file(host.at("upper").join(SYSCTLS)).expect("removed");
    host.ends(0, &APPLY);
    host.namespace.ip("link set dev tap0 mtu 3000").expect("MTU");
    fs::write(host.at("upper").join(DROP_IN), "[Service]\nLimitRTPRIO=2\n").expect("file");
    let said = host.ends(0, &["--undo"]);
    assert!(said.contains("left       tap0: MTU: 3000") && said.contains("before it was 9001"), "{said}");
    assert!(said.contains("left       /etc/systemd/system/mirror.service.d/60-host.conf"), "{said}");
    assert_eq!((host.mtu("tap0"), host.pages(), host.etc(SYSCTLS)), (3000, "0".to_owned(), None));
    assert!(host.etc(DROP_IN).is_some() && host.etc(RECORD).is_none());
}

/// A pipe in the place of the first setting blocks the call at that change.
#[test]
fn a_call_that_is_killed_leaves_a_record_from_which_undo_works() {
    let host = Host::new();
    let before = host.state("tap0");
    nix::unistd::mkfifo(&host.at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    let mut call = host.command("pipe", &APPLY).stdout(Stdio::null()).spawn().expect("doctor");
    // It reads the old value, then is about to write.
    let mut pipe = OpenOptions::new().write(true).open(host.at("pipe")).expect("pipe");
    pipe.write_all(b"0\n").expect("the old value");
    drop(pipe);
    let record = until("a record", || host.etc(RECORD));
    assert!(record.contains("\"pending\": true"), "{record}");
    call.kill().expect("killed");
    call.wait().expect("its end");
    fs::write(host.at("nr_hugepages"), "12\n").expect("as the kernel might have it");
    host.ends(0, &["--undo"]);
    assert_eq!(host.state("tap0"), before);
}

#[test]
fn several_interfaces_with_odd_names_are_set_and_quoted() {
    // No name may have a percent sign: the kernel takes it for `%d`.
    const ODD: &str = "e$H\"'\\;-";
    let host = Host::new();
    let mut command = host.namespace.command("ip");
    mirror_lab::run(command.args(["tuntap", "add", "mode", "tap", "name", ODD])).expect("TAP device");
    let mut command = host.namespace.command("ip");
    mirror_lab::run(command.args(["link", "set", "dev", ODD, "mtu", "9001", "up"])).expect("MTU");
    // Native mode needs no more TX queues at the other end than RX queues here.
    host.namespace
        .ip("link add cap0 numrxqueues 2 numtxqueues 2 type veth peer gen0 numrxqueues 4 numtxqueues 4")
        .expect("veth");
    for end in ["cap0", "gen0"] {
        host.namespace.ip(&format!("link set dev {end} up")).expect("up");
    }
    let channels =
        || mirror_lab::run(host.namespace.command("ethtool").args(["-l", "gen0"])).expect("ethtool");
    let before = channels();
    let list = format!("{ODD},tap0,cap0");
    host.ends(0, &["-i", &list, "--fix", "--apply"]);
    assert_eq!((host.mtu(ODD), host.mtu("tap0")), (3498, 3498));
    assert_ne!(channels(), before);
    // The UMEMs of one run: 17 for each TAP device, 17 for each queue of the pair or less.
    assert!(host.pages().parse::<u32>().expect("pages") > 34, "{}", host.pages());
    let text = host.etc(DROP_IN).expect("drop-in");
    assert!(text.contains("dev \"e$$H\\\"'\\\\;-\" mtu 3498"), "{text}");
    assert!(text.contains("ExecStartPre=-+/usr/sbin/ethtool -L gen0 tx 2"), "{text}");
    host.ends(0, &["--undo"]);
    assert_eq!((host.mtu(ODD), host.mtu("tap0"), channels()), (9001, 9001, before));
}

#[test]
fn interfaces_come_from_a_configuration_file() {
    let host = Host::new();
    let file = host.at("mirror.toml");
    let path = file.to_str().expect("UTF-8");
    fs::write(&file, "interface = ['tap0']\nport = '4789,6081'\n").expect("configuration");
    let said = host.ends(0, &["--config", path, "--fix", "--apply"]);
    assert!(said.contains("tap0: MTU: 3498"), "{said}");
    host.ends(0, &["--undo"]);
    fs::write(&file, "#interface = ['tap0']\n").expect("configuration");
    let said = host.ends(2, &["--config", path, "--fix", "--apply"]);
    assert!(said.contains("mirror.toml:1: no interface is given"), "{said}");
}

#[test]
fn what_cannot_be_applied_is_refused_with_its_reason() {
    let host = Host::new();
    let before = host.state("tap0");
    for (code, arguments, words) in [
        (2, &["--fix", "--apply"][..], "name them with `-i IF`"),
        (2, &["-i", "tap0", "--apply"][..], "--fix"),
        (2, &["--undo", "--fix"][..], "cannot be used with"),
        (1, &["-i", "tap0,nope", "--fix", "--apply"][..], "nope: no such interface"),
    ] {
        let said = host.ends(code, arguments);
        assert!(said.contains(words), "{words:?} is missing in {said}");
    }
    // Where the other user can read it.
    let copy = host.at("mirror");
    fs::copy(MIRROR, &copy).expect("copy");
    for path in [host.directory.path(), &copy] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("mode");
    }
    for arguments in [&["-i", "lo", "--fix", "--apply"][..], &["--undo"][..]] {
        let output = Command::new(&copy).arg("doctor").args(arguments).uid(65534).output().expect("doctor");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("run it as root"), "{said}");
    }
    assert_eq!(host.state("tap0"), before);
}
