//! The lab leaves nothing behind, however it ends. Needs root.

use std::{
    os::unix::process::ExitStatusExt as _,
    panic,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use mirror_lab::{
    Lab, MirrorSource, MirrorSourceOptions, Result, VethEnd, VethOptions, VethPair, Witness, list, run,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Interfaces of the namespace the test itself runs in: no lab may touch it.
fn interfaces_here() -> Result<String> {
    run(Command::new("ip").args(["-brief", "link", "show"]))
}

fn alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
}

/// Whether a child was killed by another process; if not, it is killed now.
fn was_killed(mut child: Child) -> bool {
    let pid = i32::try_from(child.id()).expect("a process id");
    // It is not reaped yet, so the PID is still its own; after SIGKILL, this does nothing.
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("a child of ours");
    child.wait().expect("a child of ours").signal() == Some(Signal::SIGKILL as i32)
}

/// A process in a namespace, once it is there.
fn sleeper(namespace: &str) -> Child {
    let child = Command::new("ip")
        .args(["netns", "exec", namespace, "sleep", "1000"])
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep starts");
    let pid = child.id().to_string();
    let inside =
        || run(Command::new("ip").args(["netns", "pids", namespace])).is_ok_and(|pids| pids.contains(&pid));
    while !inside() {
        thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn teardown_removes_namespaces_interfaces_and_processes() -> Result<()> {
    let lab = Lab::new()?;
    let before = interfaces_here()?;
    let source = MirrorSource::raise(&lab, &MirrorSourceOptions::default())?;
    assert_eq!(list()?.len(), 3);
    assert!(source.source().ip("-brief link show")?.contains("vxlan0"));
    let sleeper = sleeper(source.target().name());
    drop(source);
    let torn_down = lab.teardown();
    assert!(was_killed(sleeper));
    torn_down?;
    assert_eq!(interfaces_here()?, before);
    // Under the lock of a new lab: another one may have begun since.
    let _lab = Lab::new()?;
    assert_eq!(list()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_panic_tears_down_too() -> Result<()> {
    let panicked = panic::catch_unwind(|| {
        let lab = Lab::new().expect("a lab");
        let namespace = lab.namespace("panics").expect("a namespace");
        let other = lab.namespace("too").expect("a namespace");
        let _cable = VethPair::create(
            VethEnd::new(&namespace, "a0"),
            VethEnd::new(&other, "b0"),
            &VethOptions::default(),
        )
        .expect("a cable");
        panic!("in the middle of {}", list().expect("namespaces").join(" "));
    });
    let message = panicked.expect_err("it panicked");
    assert!(message.downcast_ref::<String>().is_some_and(|message| message.contains("-panics")));
    let _lab = Lab::new()?;
    assert_eq!(list()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_lab_sweeps_what_a_killed_one_left() -> Result<()> {
    let lab = Lab::new()?;
    // What a killed process leaves: a namespace with an unused PID in its name, and a process in it.
    run(Command::new("ip").args(["netns", "add", "mir-4194305-left"]))?;
    run(Command::new("ip").args([
        "-n",
        "mir-4194305-left",
        "link",
        "add",
        "v0",
        "type",
        "veth",
        "peer",
        "v1",
    ]))?;
    run(Command::new("ip").args(["netns", "add", "mirror-of-somebody-else"]))?;
    let orphan = sleeper("mir-4194305-left");
    drop(lab);
    let lab = Lab::new();
    let swept = was_killed(orphan);
    let left = list();
    let foreign = run(Command::new("ip").args(["netns", "delete", "mirror-of-somebody-else"]));
    let lab = lab?;
    assert_eq!(left?, Vec::<String>::new());
    assert!(swept);
    foreign.expect("a namespace of another name is left alone");
    lab.teardown()
}

#[test]
fn a_closure_runs_in_the_namespace_and_its_panic_comes_out() -> Result<()> {
    let lab = Lab::new()?;
    let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
    VethPair::create(VethEnd::new(&a, "here0"), VethEnd::new(&b, "there0"), &VethOptions::default())?;
    let index = a.enter(|| nix::net::if_::if_nametoindex("here0"))?;
    assert!(index.is_ok());
    assert!(a.enter(|| nix::net::if_::if_nametoindex("there0"))?.is_err());
    assert!(nix::net::if_::if_nametoindex("here0").is_err(), "the caller's thread has moved");
    let panicked = panic::catch_unwind(panic::AssertUnwindSafe(|| a.enter(|| panic!("inside"))))
        .expect_err("it panicked");
    assert_eq!(panicked.downcast_ref::<&str>(), Some(&"inside"));
    lab.teardown()?;
    assert!(a.enter(|| ()).is_err(), "the namespace is gone");
    Ok(())
}

#[test]
fn a_failed_command_is_reported_with_all_its_output() -> Result<()> {
    let lab = Lab::new()?;
    let namespace = lab.namespace("fails")?;
    let error = namespace.ip("link set dev nowhere0 up").expect_err("there is no such interface").to_string();
    assert!(error.contains("link set dev nowhere0 up"), "{error}");
    assert!(error.contains("Cannot find device \"nowhere0\""), "{error}");
    lab.teardown()
}

#[test]
fn a_witness_that_cannot_capture_reports_the_cause() -> Result<()> {
    let lab = Lab::new()?;
    let namespace = lab.namespace("blind")?;
    let directory = tempfile::tempdir().expect("a directory for captures");
    let witness = Witness::start(&namespace, "nowhere0", &directory.path().join("none.pcap"), "");
    let error = witness.expect_err("there is no such interface").to_string();
    assert!(error.contains("nowhere0: No such device"), "{error}");
    lab.teardown()
}

#[test]
fn a_dropped_witness_leaves_no_tcpdump() -> Result<()> {
    let lab = Lab::new()?;
    let namespace = lab.namespace("watched")?;
    let directory = tempfile::tempdir().expect("a directory for captures");
    let witness = Witness::start(&namespace, "lo", &directory.path().join("lo.pcap"), "")?;
    let pid = witness.id();
    assert!(alive(pid));
    drop(witness);
    assert!(!alive(pid));
    lab.teardown()
}
