//! System calls that confined threads can no longer make.

use super::*;

#[test]
fn ioctls_of_devices_and_signals_to_other_processes_are_denied() {
    let directories = Directories::new();
    let mut other = process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(other.id().cast_signed());
    let signal =
        |kind| directories.on(kind, || nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT));
    let (by_main, by_command) = (signal(ThreadKind::Main), signal(ThreadKind::Command));
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(by_main, Err(nix::errno::Errno::EPERM));
    assert_eq!(by_command, Ok(()));
    // A device's own ioctl, which this one does not have: ENOTTY means that it was allowed.
    let ask = || rustix::io::ioctl_fionread(File::open("/dev/full").unwrap());
    assert_eq!(ask().unwrap_err(), rustix::io::Errno::NOTTY);
    for kind in [ThreadKind::Main, ThreadKind::Command] {
        assert_eq!(directories.on(kind, ask).unwrap_err(), rustix::io::Errno::ACCESS, "{kind:?}");
    }
}

/// Calls that no filtered thread makes, all of which would succeed without a filter. The C library makes the
/// first with all signals blocked.
#[test]
fn a_denied_call_returns_eperm_and_is_logged_once_by_name() {
    let (log, logged) = mpsc::channel();
    let log = move |kind, call: &str| log.send((kind, call.to_owned())).unwrap();
    let refused = Directories::new().on_logged(ThreadKind::Printer, log, || {
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
    // The supervisor ends with its last listener.
    let logged: Vec<_> = logged.iter().collect();
    assert!(logged.iter().all(|(kind, _)| *kind == ThreadKind::Printer), "{logged:?}");
    let calls: Vec<_> = logged.iter().map(|(_, call)| call.as_str()).collect();
    // Processes are started by vfork(2) if the architecture has it.
    assert!(matches!(calls[0], "clone" | "vfork"), "{calls:?}");
    assert_eq!(calls[1..], ["chdir", "kill", "socket", "prctl"]);
}

#[test]
fn a_filtered_thread_opens_files_only_to_read() {
    let directories = Directories::new();
    let path = directories.path("output/old");
    for kind in [
        ThreadKind::Worker,
        ThreadKind::Reader,
        ThreadKind::Printer,
        ThreadKind::Forwarder,
        ThreadKind::Agent,
    ] {
        directories.on(kind, || {
            File::open(&path).unwrap();
            let open = |options: &mut OpenOptions| options.open(&path).map(drop).unwrap_err().raw_os_error();
            assert_eq!(open(OpenOptions::new().write(true)), Some(libc::EPERM), "{kind:?}");
            assert_eq!(open(OpenOptions::new().append(true)), Some(libc::EPERM), "{kind:?}");
            assert_eq!(open(OpenOptions::new().read(true).write(true)), Some(libc::EPERM), "{kind:?}");
        });
    }
}

/// It has all descriptors that it needs.
#[test]
fn the_control_thread_accepts_clients_and_opens_and_starts_nothing() {
    let directories = Directories::new();
    let path = directories.path("output/socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let old = directories.path("output/old");
    let refused = directories.on(ThreadKind::Control, || {
        listener.accept().unwrap().0.write_all(b"answer").unwrap();
        let results = [
            File::open(&old).map(drop),
            UdpSocket::bind("127.0.0.1:0").map(drop),
            std::os::unix::net::UnixStream::connect(&path).map(drop),
            process::Command::new("true").spawn().map(drop),
            thread::Builder::new().spawn(|| ()).map(drop),
        ];
        results.map(|result| result.err().and_then(|error| error.raw_os_error()))
    });
    assert_eq!(refused, [Some(libc::EPERM); 5]);
    drop(client);
}

/// It accepts on a socket that listens, and answers; everything that would reach further is denied.
#[test]
fn the_http_thread_accepts_clients_and_opens_nothing() {
    let directories = Directories::new();
    let path = directories.path("output/old");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let other = listener.local_addr().unwrap();
    let denied = directories.on(ThreadKind::Http, || {
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        accepted.write_all(b"answer").unwrap();
        accepted.shutdown(std::net::Shutdown::Write).unwrap();
        [
            File::open(&path).map(drop),
            UdpSocket::bind("127.0.0.1:0").map(drop),
            TcpStream::connect(other).map(drop),
            process::Command::new("true").spawn().map(drop),
            thread::Builder::new().spawn(|| ()).map(drop),
            nix::sys::signal::kill(nix::unistd::getpid(), None).map_err(io::Error::from),
        ]
        .map(|result| result.err().and_then(|error| error.raw_os_error()))
    });
    assert_eq!(denied, [Some(libc::EPERM); 6]);
    let mut answer = String::new();
    io::Read::read_to_string(&mut client, &mut answer).unwrap();
    assert_eq!(answer, "answer");
}

#[test]
fn a_filtered_thread_cannot_map_executable_memory() {
    let directories = Directories::new();
    for kind in [ThreadKind::Worker, ThreadKind::Writer] {
        directories.on(kind, || {
            assert_eq!(map(libc::PROT_READ | libc::PROT_WRITE), Ok(()), "{kind:?}");
            assert_eq!(map(libc::PROT_READ | libc::PROT_EXEC), Err(nix::errno::Errno::EPERM), "{kind:?}");
        });
    }
}

/// Maps an anonymous page.
#[expect(unsafe_code, reason = "no safe wrapper maps code")]
fn map(protection: libc::c_int) -> nix::Result<()> {
    const PAGE: usize = 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address that the kernel chooses overlaps no other.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { Err(nix::errno::Errno::last()) } else { Ok(()) }
}

/// A capture with one packet in VXLAN.
fn capture() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let inner = [0; 60];
    let frame = mirror_lab::frames::Outer::sample(7).encapsulate(&inner).unwrap();
    mirror_lab::capture::write_pcap(&directory.path().join("outer.pcap"), &[frame.clone(), frame]).unwrap();
    directory
}

/// Symbol names are read from the executable.
#[test]
fn a_panic_under_a_filter_is_caught_with_a_symbolic_backtrace() {
    let files = capture();
    let (found, backtrace) = mpsc::channel();
    let (log, logged) = mpsc::channel();
    let panics = sink::for_each("panics", move |_| {
        found.send(Backtrace::force_capture().to_string()).unwrap();
        panic!("on purpose");
    });
    let replay = Replay::builder().file(files.path().join("outer.pcap")).sink(panics).build().unwrap();
    let log = move |_, call: &str| log.send(call.to_owned()).unwrap();
    let report = Directories::new().on_logged(ThreadKind::Reader, log, move || replay.run().unwrap());
    assert_eq!(report.frames.decapsulated, 2, "the replay continues");
    assert!(!report.is_clean());
    let backtrace = backtrace.recv().unwrap();
    assert!(backtrace.contains("sandbox::tests"), "{backtrace}");
    assert_eq!(logged.iter().collect::<Vec<_>>(), [""; 0], "refused on the way");
}

/// A worker of the engine has another filter, under which unwinding works, too.
#[test]
fn every_kind_of_thread_unwinds_logs_and_sleeps_under_its_filter() {
    for kind in ThreadKind::ALL {
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

/// A pipe is read by another thread; the C library tries clone3(2) first to start it.
#[test]
fn the_file_reader_may_start_a_thread_that_inherits_its_filter() {
    Directories::new().on(ThreadKind::Reader, || {
        let other = thread::Builder::new()
            .name("other".to_owned())
            .spawn(|| UdpSocket::bind("127.0.0.1:0").map(drop));
        let refused = other.unwrap().join().unwrap();
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
    });
}
