//! The units of `packaging/systemd` under systemd, as PID 1 of a container in the lab: what works under the
//! shipped hardening, what is refused without its drop-in, and how the service starts, is watched, and stops.

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use common::{
    CAPTURE, Cable,
    mirror::{
        MIRROR, balanced_report, in_kernel, inject, names, program, readable_capture, send_while,
        set_tunables, sink, stop_thread, tunables, until, whole_capture,
    },
};
use mirror_lab::{SequenceLedger, Systemd, Traffic};
use nix::{
    sys::wait::{WaitPidFlag, waitpid},
    unistd::Pid,
};
use serde_json::Value;

const UNIT: &str = "mirror.service";
const CONFIGURATION: &str = "/etc/mirror/mirror.toml";
const CAPTURES: &str = "/var/lib/mirror";
/// The only worker.
const WORKER: &str = "q0-cap0";
/// Nobody but the test reads it: no user, and a drain that ends soon.
const PLAIN: &str = "drain-max = '1m'\ndrain-quiet = '200ms'\n";

/// A file of `packaging`.
fn packaged(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// systemd with the package's files in place, on the capture end of a cable.
struct Host {
    systemd: Systemd,
    cable: Cable,
}

impl Host {
    fn boot() -> Self {
        Self::boot_with_queues(1)
    }

    fn boot_with_queues(queues: u32) -> Self {
        let cable = Cable::with_queues(queues);
        let systemd = Systemd::boot(&cable.target, "systemd").expect("systemd");
        systemd.install(Path::new(MIRROR), "/usr/bin/mirror").expect("program");
        for unit in [UNIT, "mirror@.service"] {
            let text = packaged(&format!("systemd/{unit}"));
            systemd.write(&format!("/usr/lib/systemd/system/{unit}"), text).expect("unit");
        }
        // What the packages do when they are installed.
        let script = "useradd --system --user-group --home-dir /var/lib/mirror --no-create-home mirror && \
             install -d -o mirror -g mirror -m 0750 /var/lib/mirror && systemctl daemon-reload";
        mirror_lab::run(systemd.command("sh").args(["-ec", script])).expect("set up");
        Self { systemd, cable }
    }

    /// Writes the configuration, for this interface unless there is one.
    fn configure(&self, text: &str) {
        let text = format!("interface = '{CAPTURE}'\n{text}");
        self.systemd.write(CONFIGURATION, text).expect("configuration");
    }

    /// A drop-in of the package.
    fn add_drop_in(&self, name: &str) {
        let text = packaged(&format!("systemd/drop-ins/{name}"));
        self.add_text(name, &text);
    }

    fn add_text(&self, name: &str, text: &str) {
        self.systemd.write(&format!("/etc/systemd/system/{UNIT}.d/{name}"), text).expect("drop-in");
        self.systemd.ctl(&["daemon-reload"]).expect("reloaded");
    }

    fn property(&self, name: &str) -> String {
        self.systemd.property(UNIT, name).expect("property")
    }

    #[track_caller]
    fn starts(&self) {
        let started = self.systemd.try_ctl(&["start", UNIT]).expect("systemctl");
        assert!(started.status.success(), "{started:?}\n{}", self.said());
        assert_eq!(self.property("ActiveState"), "active");
        for words in ["sandbox: system call", "IPv6 stays on"] {
            assert!(!self.said().contains(words), "{}", self.said());
        }
    }

    /// A start fails, for good, with these words; returns all that was said.
    #[track_caller]
    fn refuses(&self, words: &str) -> String {
        let started = self.systemd.try_ctl(&["start", UNIT]).expect("systemctl");
        let said = self.said();
        assert!(!started.status.success() && said.contains(words), "{words:?} is missing in:\n{said}");
        self.systemd.ctl(&["stop", UNIT]).expect("stopped");
        self.systemd.try_ctl(&["reset-failed", UNIT]).expect("systemctl");
        said
    }

    /// Stops it, and says whether that went well.
    #[track_caller]
    fn stops(&self) {
        self.systemd.ctl(&["stop", UNIT]).expect("stopped");
        assert_eq!(self.property("Result"), "success", "{}", self.said());
    }

    fn said(&self) -> String {
        let journal = self.systemd.journal(UNIT).expect("journal");
        journal.into_iter().map(|(_, line)| line + "\n").collect()
    }

    /// Waits until the journal has this text.
    #[track_caller]
    fn says(&self, words: &str) {
        until(&format!("{words:?} is in the journal:\n{}", self.said()), || {
            self.said().contains(words).then_some(())
        });
    }

    /// Frames that the program has seen, by the run's control socket: the kernel may forward them.
    fn frames(&self) -> u64 {
        let status = mirror_lab::run(self.systemd.command("mirror").args(["status", "mirror", "--json"]));
        let status: Value = serde_json::from_str(&status.expect("status")).expect("JSON");
        status[0]["report"]["interfaces"][0]["xdp"]["seen"].as_u64().unwrap_or_default()
    }

    /// The last report that the run has written.
    fn report(&self) -> Value {
        balanced_report(&self.systemd.path(&format!("{CAPTURES}/report.json")))
    }

    /// Kills the run, and waits for the next process.
    #[track_caller]
    fn survives_a_kill(&self) {
        let restarts = || self.property("NRestarts").parse::<u32>().expect("a number");
        let (before, run) = (restarts(), self.property("MainPID"));
        mirror_lab::run(self.systemd.command("kill").args(["-KILL", &run])).expect("killed");
        until("it starts again", || (restarts() > before).then_some(()));
        until("it is ready", || (self.property("ActiveState") == "active").then_some(()));
    }

    /// The run, as this host numbers it.
    fn run(&self) -> Pid {
        let group = self.systemd.control_group(&self.property("ControlGroup"));
        let processes = fs::read_to_string(group.join("cgroup.procs")).expect("processes");
        // The monitor is the other one.
        let is_run = |pid: &&str| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "mirror")
        };
        let run = processes.lines().find(is_run).expect("the run");
        Pid::from_raw(run.parse().expect("a process id"))
    }

    #[track_caller]
    fn takes_packets(&self) {
        let before = self.frames();
        inject(&self.cable, 10);
        until("packets are taken", || (self.frames() >= before + 10).then_some(()));
    }
}

#[test]
fn without_an_interface_the_service_fails_once_and_names_the_line_to_edit() {
    let host = Host::boot();
    let shipped = packaged("mirror.toml");
    host.systemd.write(CONFIGURATION, &shipped).expect("configuration");
    let started = host.systemd.try_ctl(&["start", UNIT]).expect("systemctl");
    assert!(!started.status.success());
    let line = shipped.lines().position(|line| line.starts_with("#interface =")).expect("a line") + 1;
    let said = host.said();
    assert!(said.contains(&format!("mirror: {CONFIGURATION}:{line}: no interface is given")), "{said}");
    assert_eq!(host.property("ExecMainStatus"), "2");
    // No restart is planned, not even after RestartSec=.
    let states = || (host.property("ActiveState"), host.property("SubState"), host.property("NRestarts"));
    assert_eq!(states(), ("failed".into(), "failed".into(), "0".into()));
    // The file is missing: an assertion fails, and nothing is started.
    fs::remove_file(host.systemd.path(CONFIGURATION)).expect("removed");
    host.systemd.try_ctl(&["reset-failed", UNIT]).expect("systemctl");
    assert!(!host.systemd.try_ctl(&["start", UNIT]).expect("systemctl").status.success());
    assert_eq!(host.property("NRestarts"), "0");
}

#[test]
fn the_shipped_configuration_with_an_interface_starts_again_and_again() {
    let host = Host::boot();
    let with_interface = packaged("mirror.toml").replace("#interface = [\"ens6\"]", "interface = ['cap0']");
    let soon = with_interface.replace("drain-quiet = \"10s\"", "drain-quiet = \"200ms\"");
    host.systemd.write(CONFIGURATION, soon).expect("configuration");
    let mut pid = String::new();
    for _ in 0..2 {
        host.starts();
        host.takes_packets();
        pid = host.property("MainPID");
        host.stops();
    }
    host.starts();
    host.takes_packets();
    let running = host.property("MainPID");
    assert_ne!(pid, running);
    mirror_lab::run(host.systemd.command("kill").args(["-KILL", &running])).expect("killed");
    until("it starts again", || (host.property("NRestarts") == "1").then_some(()));
    until("it is ready", || (host.property("ActiveState") == "active").then_some(()));
    host.takes_packets();
    host.stops();
    let directory = host.systemd.path(CAPTURES);
    let names = names(&directory);
    let (hidden, complete): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.starts_with('.'));
    assert_eq!((hidden.len(), complete.len()), (1, 3), "{names:?}");
    for name in complete {
        assert_eq!(whole_capture(&directory.join(name)).packets.len(), 10, "{name}");
    }
}

#[test]
fn the_journal_has_the_priority_of_each_line() {
    let host = Host::boot();
    host.configure(PLAIN);
    host.starts();
    host.stops();
    host.configure("write = '/nowhere/x.pcapng'\n");
    host.systemd.try_ctl(&["start", UNIT]).expect("systemctl");
    let journal = host.systemd.journal(UNIT).expect("journal");
    let priority = |words: &str| {
        let found = journal.iter().find(|(_, line)| line.contains(words));
        found.unwrap_or_else(|| panic!("{words:?} is missing in {journal:#?}")).0
    };
    assert_eq!(priority("listening on"), 6);
    assert_eq!(priority("packets captured"), 6);
    assert_eq!(priority("/nowhere"), 3);
    assert!(journal.iter().all(|(_, line)| !line.starts_with('<')), "{journal:#?}");
}

#[test]
fn outputs_work_under_the_shipped_unit_or_are_refused_with_their_drop_in() {
    let host = Host::boot();
    for outputs in [
        "forward = 'tap:out0'",
        "forward = 'pcap-over-ip:listen=127.0.0.1:57012'",
        "write = '/var/lib/mirror/all-%s.pcapng'\nrotate-seconds = 3600\nrelinquish-privileges = 'mirror'\n\
         postrotate-command = 'true'",
        "priority = 'realtime'",
        "wait = 'spin'",
        "http = '127.0.0.1:9464'",
        "sandbox = 'require'",
    ] {
        host.configure(&format!("{PLAIN}{outputs}\n"));
        host.starts();
        // Without a reader, the output fails.
        let reader = outputs.contains("listen=").then(|| {
            let connect = || TcpStream::connect(("127.0.0.1", 57012)).expect("a reader");
            host.cable.target.enter(connect).expect("namespace")
        });
        host.takes_packets();
        host.stops();
        drop(reader);
    }
    host.configure(&format!("{PLAIN}forward = 'veth:out0'\n"));
    host.refuses("drop-ins/veth.conf");
    host.add_drop_in("veth.conf");
    host.starts();
    host.takes_packets();
    host.stops();
    host.configure(&format!("{PLAIN}write = '/srv/all.pcapng'\n"));
    host.refuses("ReadWritePaths=");
    host.configure(&format!("{PLAIN}write = '/srv/all-2.pcapng'\n"));
    host.add_text("captures.conf", "[Service]\nReadWritePaths=/srv\n");
    host.starts();
    host.stops();
}

/// A network namespace of the container, by name, with a process of another user in a second one.
fn namespaces(host: &Host) -> (Child, String) {
    mirror_lab::run(host.systemd.command("ip").args(["netns", "add", "sensor"])).expect("namespace");
    let script =
        "unshare --net setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'echo $$; sleep 600'";
    let mut command = host.systemd.command("sh");
    let mut process = command.args(["-ec", script]).stdout(Stdio::piped()).spawn().expect("process");
    let mut pid = String::new();
    let printed = process.stdout.as_mut().expect("its output");
    BufReader::new(printed).read_line(&mut pid).expect("its number");
    (process, pid.trim().to_owned())
}

/// Packets that an interface of a network namespace has received.
fn received(host: &Host, enter: &[&str], interface: &str) -> u64 {
    let mut command = host.systemd.command("nsenter");
    let shown =
        mirror_lab::run(command.args(enter).args(["ip", "-json", "-stats", "link", "show", interface]));
    let shown: Value = serde_json::from_str(&shown.expect("link")).expect("JSON");
    shown[0]["stats64"]["rx"]["packets"].as_u64().expect("a count")
}

#[test]
fn pairs_with_an_end_in_another_network_namespace_work_with_their_drop_in() {
    let host = Host::boot();
    let (mut process, pid) = namespaces(&host);
    let (named, of_process) = (["--net=/run/netns/sensor"], [format!("--net=/proc/{pid}/ns/net")]);
    let of_process = of_process.each_ref().map(String::as_str);
    for (netns, enter) in [("sensor", &named[..]), (&pid, &of_process[..])] {
        // What the kernel forwards is not changed by a reload.
        let plain = format!("{PLAIN}forward-path = 'user'\n");
        host.configure(&format!("{plain}forward = 'veth:out0,netns={netns}'\n"));
        host.refuses("drop-ins/veth.conf");
        host.add_drop_in("veth.conf");
        host.starts();
        host.takes_packets();
        until("the other end has them", || (received(&host, enter, "out0") >= 10).then_some(()));
        // By a reload, the monitor makes it.
        let two = format!("{plain}forward = ['veth:out0,netns={netns}', 'veth:out1,netns={netns}']\n");
        host.configure(&two);
        let reloaded = host.systemd.try_ctl(&["reload", UNIT]).expect("systemctl");
        assert!(reloaded.status.success(), "{}", host.said());
        host.takes_packets();
        until("the second has them", || (received(&host, enter, "out1") >= 10).then_some(()));
        host.stops();
        fs::remove_file(host.systemd.path(&format!("/etc/systemd/system/{UNIT}.d/veth.conf")))
            .expect("removed");
        host.systemd.ctl(&["daemon-reload"]).expect("reloaded");
    }
    process.kill().expect("killed");
    process.wait().expect("its end");
}

#[test]
fn what_doctor_applies_is_set_at_each_start_of_the_service() {
    // Names have no percent sign: the kernel takes it for `%d`.
    const ODD: &str = "e$H\"'\\;-";
    let host = Host::boot();
    // What is not of this container must not change.
    let cover = "echo 0 > /pages; mount --bind /pages /proc/sys/vm/nr_hugepages";
    mirror_lab::run(host.systemd.command("sh").args(["-ec", cover])).expect("covered");
    // Without multi-buffer XDP, and with an MTU for which it would need that.
    let ip = |arguments: &[&str]| {
        let mut command = host.cable.target.command("ip");
        mirror_lab::run(command.args(arguments)).expect("ip")
    };
    ip(&["tuntap", "add", "mode", "tap", "name", ODD]);
    ip(&["link", "set", "dev", ODD, "mtu", "9001", "up"]);
    let mtu = || {
        let shown: Value = serde_json::from_str(&ip(&["-json", "link", "show", "dev", ODD])).expect("JSON");
        shown[0]["mtu"].as_u64().expect("MTU")
    };
    let name = ODD.replace('\\', "\\\\").replace('"', "\\\"");
    host.systemd.write(CONFIGURATION, format!("interface = \"{name}\"\n{PLAIN}")).expect("configuration");
    let doctor = |arguments: &[&str]| {
        mirror_lab::run(host.systemd.command("mirror").arg("doctor").args(arguments)).expect("doctor")
    };
    doctor(&["--config", CONFIGURATION, "--fix", "--apply"]);
    assert_eq!((mtu(), host.property("NeedDaemonReload")), (3498, "no".to_owned()));
    assert_ne!(fs::read_to_string(host.systemd.path("/pages")).expect("pages"), "0\n");
    for _ in 0..2 {
        // As after a boot; and a second time, when all is set already.
        host.starts();
        assert_eq!(mtu(), 3498);
        let mut live = host.systemd.command("mirror");
        live.args(["doctor", "--config", CONFIGURATION, "--fix", "--apply"]);
        let refused = live.output().expect("doctor");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && said.contains("stop it first"), "{said}");
        host.stops();
        ip(&["link", "set", "dev", ODD, "mtu", "9001"]);
        host.starts();
        assert_eq!(mtu(), 3498);
        host.stops();
    }
    doctor(&["--undo"]);
    assert_eq!(mtu(), 9001);
    assert!(!host.systemd.path(&format!("/etc/systemd/system/{UNIT}.d")).exists());
    host.starts();
    assert_eq!(mtu(), 9001);
    host.stops();
}

#[test]
fn busy_polling_is_refused_without_its_drop_in_and_its_settings_are_restored_with_it() {
    let host = Host::boot();
    let before = ["0", "0"];
    set_tunables(&host.cable, before);
    host.configure(&format!("{PLAIN}wait = 'busy-poll'\n"));
    host.refuses("drop-ins/busy-poll.conf");
    assert_eq!(tunables(&host.cable), before);
    host.add_drop_in("busy-poll.conf");
    host.starts();
    assert_ne!(tunables(&host.cable), before);
    host.takes_packets();
    host.stops();
    assert_eq!(tunables(&host.cable), before);
}

#[test]
fn a_reload_is_applied_and_one_that_is_refused_says_why() {
    let host = Host::boot();
    host.configure(&format!("{PLAIN}write = '/var/lib/mirror/one.pcapng'\n"));
    host.starts();
    host.configure(&format!("{PLAIN}write = '/var/lib/mirror/two.pcapng'\n"));
    host.systemd.ctl(&["reload", UNIT]).expect("reloaded");
    inject(&host.cable, 10);
    until("packets are taken", || (host.frames() >= 10).then_some(()));
    host.configure("vni = 'x'\n");
    assert!(!host.systemd.try_ctl(&["reload", UNIT]).expect("systemctl").status.success());
    assert_eq!(host.property("ActiveState"), "active");
    assert!(host.said().contains("vni"), "{}", host.said());
    host.stops();
    assert_eq!(whole_capture(&host.systemd.path("/var/lib/mirror/two.pcapng")).packets.len(), 10);
}

#[test]
fn the_watchdog_restarts_a_run_whose_worker_hangs_and_leaves_one_that_drains() {
    let host = Host::boot();
    host.add_text("watchdog.conf", "[Service]\nWatchdogSec=3s\nRestartSec=100ms\n");
    // Longer than the watchdog's time.
    host.configure("drain-max = '7s'\ndrain-quiet = '7s'\n");
    host.starts();
    let run = host.property("MainPID");
    host.stops();
    assert_eq!(host.property("NRestarts"), "0");
    host.starts();
    assert_ne!(host.property("MainPID"), run);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((host.property("NRestarts"), host.property("ActiveState")), ("0".into(), "active".into()));
    let worker = stop_thread(host.run(), WORKER);
    host.says("Watchdog timeout");
    // A process whose thread is traced ends when its tracer has seen that end.
    waitpid(worker, Some(WaitPidFlag::__WALL)).expect("its end");
    until("it is restarted", || (host.property("NRestarts") == "1").then_some(()));
    until("it is ready", || (host.property("ActiveState") == "active").then_some(()));
    host.takes_packets();
    host.stops();
}

/// Until the account that is left last has all packets so far.
const ACCOUNT: Duration = Duration::from_secs(1);

#[test]
fn a_run_whose_process_is_killed_goes_on_with_the_packets_in_its_rings_and_its_account() {
    let host = Host::boot();
    host.add_drop_in("fd-store.conf");
    host.configure(&format!(
        "{PLAIN}write = '{CAPTURES}/%s.pcapng'\nrotate-seconds = 3600\nreport = '{CAPTURES}/report.json'\n"
    ));
    host.starts();
    let (mut sent, mut held) = (0, None);
    for kills in 1..=3 {
        inject(&host.cable, 10);
        std::thread::sleep(ACCOUNT);
        let run = host.property("MainPID");
        mirror_lab::run(host.systemd.command("kill").args(["-KILL", &run])).expect("killed");
        // While there is no process.
        inject(&host.cable, 500);
        until("it starts again", || (host.property("NRestarts") == kills.to_string()).then_some(()));
        until("it is ready", || (host.property("ActiveState") == "active").then_some(()));
        inject(&host.cable, 10);
        sent += 520;
        until("all packets are taken", || (host.frames() == sent).then_some(()));
        std::thread::sleep(ACCOUNT);
        // Nothing of the killed process stays in the kernel.
        assert_eq!(*held.get_or_insert_with(in_kernel), in_kernel(), "after {kills}");
    }
    host.says("0 packets that it had taken after its last account are lost");
    host.stops();
    let report = host.report();
    assert_eq!(report["frames"]["received"], sent, "{report:#}");
    assert_eq!(report["restarts"]["count"], 3);
    assert_eq!(
        (&report["restarts"]["lost_frames"], &report["interfaces"][0]["xdp"]["passed"]["no_socket"]),
        (&0.into(), &0.into())
    );
    assert_eq!(program(&host.cable), None);
}

#[test]
fn packets_that_a_killed_process_had_taken_are_counted_as_lost() {
    const KILLS: u64 = 3;
    let kept = |host: &Host| host.property("NFileDescriptorStore");
    // Of both queues; another rate is for measurements.
    let rate = std::env::var("MIRROR_KILL_PPS").map_or(50_000, |text| text.parse().expect("a number"));
    let host = Host::boot_with_queues(2);
    host.add_drop_in("fd-store.conf");
    host.configure(&format!(
        "{PLAIN}write = '{CAPTURES}/%s.pcapng'\nrotate-seconds = 3600\nreport = '{CAPTURES}/report.json'\n\
        rx-ring = 32768\n"
    ));
    host.starts();
    let traffic = Traffic { cpus: vec![0, 1], ..Traffic::default() };
    let sent = send_while(&host.cable, &traffic, rate, || {
        std::thread::sleep(ACCOUNT);
        let whole = kept(&host);
        for kill in 1..=KILLS {
            host.survives_a_kill();
            // The second process is killed at once, with the first account that it leaves.
            if kill == 1 {
                until("the run is kept", || (kept(&host) == whole).then_some(()));
            } else {
                std::thread::sleep(ACCOUNT);
            }
        }
    });
    until("all packets are taken", || (host.frames() == sent).then_some(()));
    host.stops();
    let report = host.report();
    let restarts = &report["restarts"];
    let of_queues = |name: &str| {
        let queues = report["interfaces"][0]["queues"].as_array().expect("queues");
        queues.iter().map(|queue| queue[name].as_u64().expect("a number")).sum::<u64>()
    };
    let [received, ring_full, lost] = ["received", "rx_ring_full", "lost_at_restart"].map(of_queues);
    assert_eq!(received + ring_full + lost, sent, "{report:#}");
    assert_eq!((&restarts["count"], &restarts["lost_frames"]), (&KILLS.into(), &lost.into()));
    // At most what came between two accounts, late ones, too.
    assert!(lost > 0 && lost < KILLS * rate, "{report:#}");
    // Each packet is in a file, that of a killed process, too, but those; and none twice but in batches.
    let held = sink(&report, "pcap")["failed"]["process_ended"].as_u64().unwrap_or_default();
    let mut ledger = SequenceLedger::new();
    let directory = host.systemd.path(CAPTURES);
    for name in names(&directory).iter().filter(|name| name.contains(".pcapng")) {
        readable_capture(&directory.join(name)).packets.iter().for_each(|packet| ledger.inner(&packet.bytes));
    }
    let (missing, twice) = (sent - ledger.received(), ledger.duplicates());
    assert!(missing <= lost + ring_full + held, "{missing} are missing: {report:#}");
    assert!(twice <= KILLS * 2 * 64 && ledger.unreadable() == 0, "{twice} twice: {ledger:?}");
    println!(
        "{sent} packets at {rate} a second, {KILLS} kills: {received} received, {lost} taken by a process \
        after its last account, {ring_full} lost in full rings, {held} held by the capture; in no \
        file {missing}, twice {twice}; at most {:.0} ms without a process",
        restarts["longest_s"].as_f64().expect("seconds") * 1e3
    );
}

#[test]
fn a_run_that_cannot_be_kept_is_refused_and_what_no_longer_fits_is_given_up() {
    let host = Host::boot();
    host.add_drop_in("fd-store.conf");
    host.configure(&format!("{PLAIN}count = 5\n"));
    host.refuses("cannot be kept in the unit's file descriptor store");
    host.configure(PLAIN);
    // One that is too small is found out when the run is there.
    host.add_text("small.conf", "[Service]\nFileDescriptorStoreMax=3\nEnvironment=FDSTORE=3\n");
    host.starts();
    host.says("the file descriptor store takes 3 descriptors, and this run has");
    host.stops();
    fs::remove_file(host.systemd.path(&format!("/etc/systemd/system/{UNIT}.d/small.conf"))).expect("removed");
    host.systemd.ctl(&["daemon-reload"]).expect("reloaded");
    host.starts();
    host.takes_packets();
    std::thread::sleep(ACCOUNT);
    // The next process has other queues.
    host.configure(&format!("{PLAIN}rx-ring = 1024\n"));
    host.survives_a_kill();
    host.says("the run that the last process has left is not continued");
    host.says("the RX ring cannot change");
    host.takes_packets();
    host.stops();
    assert_eq!(program(&host.cable), None);
}

#[test]
fn a_run_that_is_kept_is_upgraded_and_its_next_process_is_kept_too() {
    let host = Host::boot();
    host.add_drop_in("fd-store.conf");
    host.configure(&format!("{PLAIN}report = '{CAPTURES}/report.json'\n"));
    host.starts();
    host.takes_packets();
    for flags in [&["mirror"][..], &["mirror", "--cold"]] {
        let mut command = host.systemd.command("mirror");
        let upgraded = command.arg("upgrade").args(flags).output().expect("mirror");
        assert!(upgraded.status.success(), "{upgraded:?}\n{}", host.said());
        host.takes_packets();
        std::thread::sleep(ACCOUNT);
        host.survives_a_kill();
        assert!(!host.said().contains("is not continued"), "{}", host.said());
        host.takes_packets();
    }
    host.stops();
    let report = host.report();
    assert_eq!((&report["restarts"]["count"], &report["restarts"]["lost_frames"]), (&2.into(), &0.into()));
    assert_eq!(report["frames"]["received"], 50, "{report:#}");
}

#[test]
fn instances_have_their_own_configuration_and_control_socket() {
    let host = Host::boot();
    host.configure(PLAIN);
    let text = fs::read_to_string(host.systemd.path(CONFIGURATION)).expect("configuration");
    host.systemd.write("/etc/mirror/tenant-7.toml", text).expect("configuration");
    host.systemd.ctl(&["start", "mirror@tenant-7.service"]).expect("started");
    host.systemd.ctl(&["reload", "mirror@tenant-7.service"]).expect("reloaded");
    // It is the interface that can be captured once.
    host.refuses(CAPTURE);
    assert!(host.systemd.path("/run/mirror/tenant-7.sock").exists(), "of the other instance");
    mirror_lab::run(host.systemd.command("mirror").args(["status", "tenant-7"])).expect("status");
    host.systemd.ctl(&["stop", "mirror@tenant-7.service"]).expect("stopped");
}

#[test]
fn an_upgrade_of_the_package_upgrades_each_running_service_and_stops_none() {
    let host = Host::boot();
    host.configure(PLAIN);
    let text = fs::read_to_string(host.systemd.path(CONFIGURATION)).expect("configuration");
    host.systemd.write("/etc/mirror/tenant-7.toml", text).expect("configuration");
    host.systemd.ctl(&["start", "mirror@tenant-7.service"]).expect("started");
    let run = host.systemd.property("mirror@tenant-7.service", "MainPID").expect("property");
    // It stands for a new version that cannot take over.
    let new = "#!/bin/sh\necho \"$@\" >> /upgrades\nexit 1\n";
    host.systemd.write("/new/mirror", new).expect("program");
    let script =
        format!("chmod +x /new/mirror\nPATH=/new:$PATH\n{}\nupgrade_running", packaged("upgrade-running.sh"));
    let output = host.systemd.command("sh").args(["-ec", &script]).output().expect("the script");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("systemctl restart mirror@tenant-7.service"), "{said}");
    let upgraded = fs::read_to_string(host.systemd.path("/upgrades")).expect("the calls");
    assert_eq!(upgraded, "upgrade tenant-7\n");
    let after = host.systemd.property("mirror@tenant-7.service", "MainPID").expect("property");
    assert_eq!(after, run);
    host.systemd.ctl(&["stop", "mirror@tenant-7.service"]).expect("stopped");
}

#[test]
fn a_run_is_upgraded_under_the_unit_and_systemd_follows_its_new_process() {
    let host = Host::boot();
    host.add_text("watchdog.conf", "[Service]\nWatchdogSec=3s\n");
    host.configure(&format!("{PLAIN}relinquish-privileges = 'mirror'\n"));
    host.starts();
    host.takes_packets();
    let before = host.property("MainPID");
    let upgraded = host.systemd.command("mirror").args(["upgrade", "mirror"]).output().expect("mirror");
    assert!(upgraded.status.success(), "{upgraded:?}\n{}", host.said());
    until("systemd knows the new process", || (host.property("MainPID") != before).then_some(()));
    // The watchdog hears of the new one.
    std::thread::sleep(Duration::from_secs(4));
    host.takes_packets();
    assert_eq!((host.property("ActiveState"), host.property("NRestarts")), ("active".into(), "0".into()));
    host.systemd.ctl(&["reload", UNIT]).expect("reloaded");
    host.stops();
}
