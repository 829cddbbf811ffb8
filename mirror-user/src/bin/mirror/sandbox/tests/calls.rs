//! System calls that threads make no more.

use super::*;

#[test]
fn devices_take_no_ioctl_and_signals_go_to_no_other_process() {
    let directories = Directories::new();
    let mut other = process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(other.id().cast_signed());
    let signal =
        |kind| directories.on(kind, || nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT));
    let (by_main, by_command) = (signal(Kind::Main), signal(Kind::Command));
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(by_main, Err(nix::errno::Errno::EPERM));
    assert_eq!(by_command, Ok(()));
    // A device's own call, which this one does not know: who may ask gets that answer.
    let ask = || rustix::io::ioctl_fionread(File::open("/dev/full").unwrap());
    assert_eq!(ask().unwrap_err(), rustix::io::Errno::NOTTY);
    for kind in [Kind::Main, Kind::Command] {
        assert_eq!(directories.on(kind, ask).unwrap_err(), rustix::io::Errno::ACCESS, "{kind:?}");
    }
}

/// Calls that no thread with a filter makes, each of which would work without. The C library makes the first
/// with all signals blocked.
#[test]
fn a_refused_call_is_eperm_and_told_of_once_by_its_name() {
    let (tell, told) = mpsc::channel();
    let tell = move |kind, call: &str| tell.send((kind, call.to_owned())).unwrap();
    let refused = Directories::new().telling(Kind::Printer, tell, || {
        let calls = || {
            let results = [
                process::Command::new("true").spawn().map(drop),
                nix::unistd::chdir("/").map_err(io::Error::from),
                nix::sys::signal::kill(nix::unistd::getpid(), None).map_err(io::Error::from),
                UdpSocket::bind("127.0.0.1:0").map(drop),
                nix::sys::prctl::set_dumpable(true).map_err(io::Error::from),
            ];
            results.map(|result| result.err().and_then(|error| error.raw_os_error()))
        };
        [calls(), calls()]
    });
    assert_eq!(refused, [[Some(libc::EPERM); 5]; 2]);
    // The thread that tells ends with its last listener.
    let told: Vec<_> = told.iter().collect();
    assert!(told.iter().all(|(kind, _)| *kind == Kind::Printer), "{told:?}");
    let calls: Vec<_> = told.iter().map(|(_, call)| call.as_str()).collect();
    // A process is started by vfork(2) where the machine has it.
    assert!(matches!(calls[0], "clone" | "vfork"), "{calls:?}");
    assert_eq!(calls[1..], ["chdir", "kill", "socket", "prctl"]);
}

#[test]
fn a_thread_with_a_filter_opens_files_to_read_and_not_to_write() {
    let directories = Directories::new();
    let path = directories.path("output/old");
    for kind in [Kind::Worker, Kind::Reader, Kind::Printer, Kind::Forwarder] {
        directories.on(kind, || {
            File::open(&path).unwrap();
            let open = |options: &mut OpenOptions| options.open(&path).map(drop).unwrap_err().raw_os_error();
            assert_eq!(open(OpenOptions::new().write(true)), Some(libc::EPERM), "{kind:?}");
            assert_eq!(open(OpenOptions::new().append(true)), Some(libc::EPERM), "{kind:?}");
            assert_eq!(open(OpenOptions::new().read(true).write(true)), Some(libc::EPERM), "{kind:?}");
        });
    }
}

#[test]
fn a_thread_with_a_filter_maps_no_code() {
    let directories = Directories::new();
    for kind in [Kind::Worker, Kind::Writer] {
        directories.on(kind, || {
            assert_eq!(map(libc::PROT_READ | libc::PROT_WRITE), Ok(()), "{kind:?}");
            assert_eq!(map(libc::PROT_READ | libc::PROT_EXEC), Err(nix::errno::Errno::EPERM), "{kind:?}");
        });
    }
}

/// Maps a page of no file, and leaves it.
#[expect(unsafe_code, reason = "no safe wrapper maps code")]
fn map(protection: libc::c_int) -> nix::Result<()> {
    const PAGE: usize = 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, at a place that the kernel chooses, is in nobody's way.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { Err(nix::errno::Errno::last()) } else { Ok(()) }
}

/// The frames of a capture that has one packet in VXLAN.
fn capture() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let inner = [0; 60];
    let frame = mirror_lab::frames::Outer::sample(7).encapsulate(&inner).unwrap();
    mirror_lab::capture::write_pcap(&directory.path().join("outer.pcap"), &[frame.clone(), frame]).unwrap();
    directory
}

/// With names, which are read from the executable.
#[test]
fn a_panic_in_a_sink_is_caught_under_a_filter_and_its_backtrace_has_names() {
    let files = capture();
    let (found, backtrace) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let panics = sink::for_each("panics", move |_| {
        found.send(Backtrace::force_capture().to_string()).unwrap();
        panic!("on purpose");
    });
    let replay = Replay::builder().file(files.path().join("outer.pcap")).sink(panics).build().unwrap();
    let tell = move |_, call: &str| tell.send(call.to_owned()).unwrap();
    let report = Directories::new().telling(Kind::Reader, tell, move || replay.run().unwrap());
    assert_eq!(report.frames.decapsulated, 2, "the replay goes on");
    assert!(!report.is_clean());
    let backtrace = backtrace.recv().unwrap();
    assert!(backtrace.contains("sandbox::tests"), "{backtrace}");
    assert_eq!(told.iter().collect::<Vec<_>>(), [""; 0], "refused on the way");
}

/// A worker of the engine has another filter, and unwinds just so.
#[test]
fn every_kind_of_thread_unwinds_logs_and_sleeps_under_its_filter() {
    for kind in Kind::ALL {
        let caught = Directories::new().on(kind, || {
            thread::sleep(std::time::Duration::from_millis(1));
            drop(writeln!(io::stderr(), "{kind:?} writes"));
            let big = vec![1_u8; 64 << 20];
            drop(big);
            panic::catch_unwind(|| panic!("on purpose"))
        });
        assert!(caught.is_err(), "{kind:?}");
    }
}

/// A pipe is read by one more thread: the C library's way to start it asks for clone3(2) first.
#[test]
fn the_thread_that_reads_files_may_start_another_which_has_its_filter() {
    Directories::new().on(Kind::Reader, || {
        let other = thread::Builder::new()
            .name("other".to_owned())
            .spawn(|| UdpSocket::bind("127.0.0.1:0").map(drop));
        let refused = other.unwrap().join().unwrap();
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
    });
}
