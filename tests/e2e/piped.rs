//! `-w` to streams: named pipes, descriptors, devices. Live ingest needs root.

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use common::{
    Cable,
    mirror::{
        MIRROR, Mirror, assert_next_run_works, balanced_report, frames, ingest, inject, names, program, sink,
        until,
    },
};
use mirror_lab::{Traffic, capture};
use nix::sys::signal::Signal;

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

/// `bash` with `mirror` as `$0`, in a directory with `in.pcap`.
fn script(directory: &Path, script: &str) -> Output {
    Command::new("bash").args(["-c", script, MIRROR]).current_dir(directory).output().expect("bash")
}

fn with_capture() -> (tempfile::TempDir, Vec<Vec<u8>>) {
    let directory = tempfile::tempdir().expect("directory");
    let (outer, inner) = frames(20);
    capture::write_pcap(&directory.path().join("in.pcap"), &outer).expect("written");
    (directory, inner)
}

#[track_caller]
fn expect(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
}

#[test]
fn descriptors_pipes_and_devices_are_written_like_standard_output() {
    let (directory, inner) = with_capture();
    let path = directory.path();
    mkfifo(&path.join("fifo"));
    for line in [
        r#""$0" replay -q -r in.pcap -w /dev/stdout > out"#,
        r#""$0" replay -q -r in.pcap -w /dev/fd/1 | cat > out"#,
        r#""$0" replay -q -r in.pcap -w /dev/fd/7 7> out"#,
        r#""$0" replay -q -r in.pcap -w /proc/self/fd/7 7>&1 > other | cat > out"#,
        r#""$0" replay -q -r in.pcap -w >(cat > out) && wait $!"#,
        r#"cat fifo > out & "$0" replay -q -r in.pcap -w fifo && wait"#,
        r#""$0" replay -q -r in.pcap -w /dev/null && "$0" replay -q -r in.pcap -w - > out"#,
    ] {
        let _ = fs::remove_file(path.join("out"));
        expect(&script(path, line), 0, &[]);
        until("the capture is there", || (fs::metadata(path.join("out")).ok()?.len() > 1_000).then_some(()));
        thread::sleep(Duration::from_millis(50));
        let read = capture::read(&path.join("out")).expect("capture");
        assert!(!read.torn && read.frames() == inner, "{line}");
    }
    assert!(names(path).iter().all(|name| !name.contains("partial")), "{:?}", names(path));
}

#[test]
fn a_stream_takes_one_capture_without_rotation() {
    let (directory, _) = with_capture();
    let path = directory.path();
    mkfifo(&path.join("fifo"));
    let table = "[[sink]]\nname = 'two'\nwrite = 'fifo'\n";
    fs::write(path.join("two.toml"), table).expect("written");
    fs::write(path.join("out.toml"), table.replace("'fifo'", "'/dev/fd/1'")).expect("written");
    for (line, words) in [
        ("-w /dev/stdout --json > out", &["both want standard output"][..]),
        ("-w /dev/fd/1 --print > out", &["both want standard output"]),
        ("-w /dev/fd/9 --json 9>&1 | cat > out; exit ${PIPESTATUS[0]}", &["both want standard output"]),
        ("-w - --config out.toml > out", &["two sinks both want standard output"]),
        ("-w ./fifo --config two.toml", &["are the same pipe"]),
        ("-w fifo -C 1", &["-C and -G asks for files, and -w fifo writes none"]),
        ("-w /dev/null -G 1", &["-C and -G asks for files, and -w /dev/null writes none"]),
        ("-w /dev/stdout -z true > out", &["-z asks for files"]),
        ("-w fifo --per-origin", &["--per-origin asks for files"]),
        ("-w fifo --min-free 1", &["--min-free asks for files"]),
        ("-w /dev/stdout --report /dev/stdout > out", &["--report takes a file"]),
    ] {
        expect(&script(path, &format!(r#""$0" replay -q -r in.pcap {line}"#)), 2, words);
    }
    let closed = script(path, r#""$0" replay -q -r in.pcap -w /dev/fd/42"#);
    expect(&closed, 1, &["/dev/fd/42: cannot use descriptor 42: Bad file descriptor"]);
}

#[test]
fn symbolic_links_and_pipes_of_others_are_refused() {
    let (directory, _) = with_capture();
    let path = directory.path();
    mkfifo(&path.join("fifo"));
    symlink("fifo", path.join("link")).expect("link");
    symlink("/dev/null", path.join("null")).expect("link");
    for link in ["link", "null"] {
        let output = script(path, &format!(r#""$0" replay -q -r in.pcap -w {link}"#));
        expect(&output, 1, &["already exists; remove it"]);
    }
    // Where anybody may create a pipe, it may be anybody's.
    let open = path.join("open");
    fs::create_dir(&open).expect("directory");
    let others =
        r"chmod 1777 open && mkfifo -m 666 open/theirs && chown 65534 open/theirs; cat open/theirs > got &";
    let output = script(
        path,
        &format!(r#"{others} "$0" replay -q -r in.pcap -w open/theirs; code=$?; kill $!; exit $code"#),
    );
    expect(&output, 1, &["this pipe belongs to user 65534"]);
    assert_eq!(fs::metadata(path.join("got")).expect("file").len(), 0);
}

#[test]
fn a_report_replaces_only_an_earlier_report() {
    let (directory, _) = with_capture();
    let path = directory.path();
    let run = |arguments: &str| script(path, &format!(r#""$0" replay -q -r in.pcap {arguments}"#));
    expect(&run("--report report.json"), 0, &[]);
    expect(&run("--report report.json -c 5"), 0, &[]);
    let report = balanced_report(&path.join("report.json"));
    assert_eq!(report["sinks"][0]["offered"], 5);
    // No capture replaces it, and a run that does not start leaves it.
    expect(&run("-w report.json"), 1, &["already exists"]);
    expect(&run("--report report.json -w in.pcap"), 1, &["already exists"]);
    assert_eq!(balanced_report(&path.join("report.json"))["sinks"][0]["offered"], 5);
    fs::write(path.join("other.json"), "{\"schema\": \"mine/1\"}").expect("written");
    symlink("report.json", path.join("link.json")).expect("link");
    for name in ["other.json", "link.json", "in.pcap"] {
        expect(&run(&format!("--report {name}")), 1, &["already exists"]);
    }
    expect(&script(path, "chown 65534 report.json"), 0, &[]);
    expect(&run("--report report.json"), 1, &["already exists"]);
    assert_eq!(names(path), ["in.pcap", "link.json", "other.json", "report.json"]);
}

#[test]
fn a_named_pipe_waits_for_its_reader_before_the_attach_and_a_signal_ends_the_wait() {
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    mkfifo(&path.join("fifo"));
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let run = Mirror::start(ingest(&cable, path, "-w fifo --report report.json"));
        run.says("waiting for a reader of fifo");
        thread::sleep(Duration::from_millis(200));
        assert_eq!(program(&cable), None, "nothing is taken from the host before somebody reads");
        run.end_by(signal).expect_code(1).expect_words(&["no reader before the run was stopped"]);
        assert_eq!(names(path), ["fifo"]);
    }
    let run = Mirror::start(ingest(&cable, path, "-w fifo -c 10"));
    run.says("waiting for a reader of fifo");
    let mut reader = fs::File::open(path.join("fifo")).expect("pipe");
    let run = run.attached(&cable);
    let inner = inject(&cable, 10);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("read");
    run.end().expect_code(0);
    fs::write(path.join("out"), bytes).expect("written");
    assert_eq!(capture::read(&path.join("out")).expect("capture").frames(), inner);
    assert_next_run_works(&cable);
}

#[test]
fn a_reader_that_pauses_loses_only_what_finds_the_buffer_full() {
    /// 24 MB of records, more than the default buffer has.
    const FRAMES: u64 = 250_000;
    let cable = Cable::with_queues(1);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    mkfifo(&path.join("fifo"));
    for (size, is_enough) in [("-B 1024", false), ("", false), ("-B 64m", true)] {
        let arguments = format!("-w fifo --report report.json {size}");
        let run = Mirror::start(ingest(&cable, path, &arguments));
        run.says("waiting for a reader of fifo");
        let mut reader = fs::File::open(path.join("fifo")).expect("pipe");
        let run = run.attached(&cable);
        let traffic = Traffic { rate: Some(250_000), ..Traffic::default() };
        assert_eq!(cable.generator(traffic).send(FRAMES).expect("generated").total(), FRAMES);
        run.settled();
        let read = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).expect("read")
        });
        run.end_by(Signal::SIGINT).expect_code(0);
        read.join().expect("read");
        let report = balanced_report(&path.join("report.json"));
        let dropped = sink(&report, "pcap")["dropped"]["no_block"].as_u64();
        assert_eq!(dropped.is_none(), is_enough, "{size}: {dropped:?}");
    }
}

#[test]
fn another_user_writes_to_inherited_descriptors() {
    let (directory, inner) = with_capture();
    let path = directory.path();
    let mut child = Command::new("bash")
        .args(["-c", r#"exec "$0" replay -q -Z nobody -r in.pcap -w /dev/fd/3 3>&1 > /dev/null"#, MIRROR])
        .current_dir(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut bytes = Vec::new();
    child.stdout.take().expect("pipe").read_to_end(&mut bytes).expect("read");
    let output = child.wait_with_output().expect("ended");
    expect(&output, 0, &[]);
    fs::File::create(path.join("out")).expect("file").write_all(&bytes).expect("written");
    assert_eq!(capture::read(&path.join("out")).expect("capture").frames(), inner);
}
