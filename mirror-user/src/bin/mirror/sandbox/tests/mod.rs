//! What confined threads may still do, and what not.

use std::{
    backtrace::Backtrace,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::fs::symlink,
    panic, process,
    sync::mpsc,
    thread,
};

use mirror_user::{Replay, sink};
use tempfile::TempDir;

use super::{announce::covered, *};

mod calls;

/// Three directories: of an output, for commands, and without permission.
struct Directories {
    all: TempDir,
    places: Places,
}

impl Directories {
    fn new() -> Self {
        let all = tempfile::tempdir().unwrap();
        for name in ["output", "granted", "outside"] {
            fs::create_dir(all.path().join(name)).unwrap();
            fs::write(all.path().join(name).join("old"), "old").unwrap();
        }
        let places = Places {
            outputs: vec![all.path().join("output/out.pcapng")],
            commands: true,
            command_write: vec![all.path().join("granted")],
            ..Places::default()
        };
        Self { all, places }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.all.path().join(name)
    }

    /// Runs an action on a thread of this kind.
    fn on<T: Send>(&self, kind: ThreadKind, action: impl FnOnce() -> T + Send) -> T {
        self.on_logged(kind, |_, _| (), action)
    }

    /// The same; `log` is called with each denied call.
    fn on_logged<T: Send>(
        &self,
        kind: ThreadKind,
        log: impl Fn(ThreadKind, &str) + Send + 'static,
        action: impl FnOnce() -> T + Send,
    ) -> T {
        let sandbox = Sandbox::prepare(SandboxArg::Require, &self.places).unwrap();
        let supervisor = Supervisor::start(|| Ok(()), log).unwrap();
        assert!(sandbox.supervisor.set(supervisor).is_ok());
        thread::scope(|scope| {
            let confined = move || {
                nix::sys::prctl::set_no_new_privs().unwrap();
                sandbox.confine(kind).unwrap();
                action()
            };
            scope.spawn(confined).join().unwrap()
        })
    }
}

/// Each way to change a directory that has a file `old`, by name, and whether it is denied.
fn changes(directory: &Path) -> Vec<(&'static str, bool)> {
    let at = |name: &str| directory.join(name);
    let old = at("old");
    let attempts: Vec<(&str, io::Result<()>)> = vec![
        ("open to write", OpenOptions::new().write(true).open(&old).map(drop)),
        ("empty on cx", OpenOptions::new().write(true).truncate(true).open(&old).map(drop)),
        ("truncate", truncate(&old)),
        ("create", File::create_new(at("new")).map(drop)),
        ("make a directory", fs::create_dir(at("made"))),
        ("make a symbolic link", symlink("old", at("symbolic"))),
        ("make a hard link", fs::hard_link(&old, at("hard"))),
        ("rename", fs::rename(&old, at("renamed"))),
        ("remove", fs::remove_file(if old.exists() { old } else { at("renamed") })),
        ("remove a directory", fs::remove_dir(at("made"))),
    ];
    let refused = |result: &io::Result<()>| match result.as_ref().map_err(io::Error::kind) {
        Ok(()) => false,
        // If creating was denied, there is nothing to remove.
        Err(ErrorKind::PermissionDenied | ErrorKind::NotFound) => true,
        Err(kind) => panic!("{kind}"),
    };
    attempts.iter().map(|(what, result)| (*what, refused(result))).collect()
}

/// By path, because open descriptors are not restricted.
fn truncate(path: &Path) -> io::Result<()> {
    nix::unistd::truncate(path, 1).map_err(io::Error::from)
}

#[test]
fn threads_and_commands_change_files_only_beneath_their_directories() {
    for (kind, open) in [
        (ThreadKind::Main, &["output"][..]),
        (ThreadKind::Writer, &["output"]),
        (ThreadKind::Command, &["output", "granted"]),
        (ThreadKind::Worker, &[]),
        (ThreadKind::Reader, &[]),
        (ThreadKind::Printer, &[]),
        (ThreadKind::Forwarder, &[]),
        (ThreadKind::Agent, &[]),
        (ThreadKind::Control, &[]),
        (ThreadKind::Http, &[]),
    ] {
        for name in ["output", "granted", "outside"] {
            let directories = Directories::new();
            let directory = directories.path(name);
            for (what, refused) in directories.on(kind, || changes(&directory)) {
                // A capture creates no links; its filter denies them.
                let never = kind == ThreadKind::Writer && what == "make a symbolic link";
                assert_eq!(refused, never || !open.contains(&name), "{kind:?}: {what} in {name}");
            }
        }
    }
}

#[test]
fn a_command_may_move_a_file_between_its_directories() {
    let directories = Directories::new();
    let moved = |to: &str| {
        let (from, to) = (directories.path("output/old"), directories.path(to));
        directories.on(ThreadKind::Command, || fs::rename(from, to))
    };
    assert_eq!(moved("outside/new").unwrap_err().kind(), ErrorKind::PermissionDenied);
    moved("granted/new").unwrap();
}

#[test]
fn only_the_main_thread_writes_report_and_run_state() {
    let mut directories = Directories::new();
    let (report, settings) = (directories.path("outside/report.json"), directories.path("granted"));
    directories.places.report = Some(report.clone());
    directories.places.command_write.clear();
    directories.on(ThreadKind::Main, || File::create(&report)).unwrap();
    for (kind, path) in [
        (ThreadKind::Command, &report),
        (ThreadKind::Writer, &report),
        (ThreadKind::Main, &settings.join("new")),
    ] {
        let refused =
            directories.on(kind, || OpenOptions::new().write(true).create(true).truncate(false).open(path));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied, "{kind:?}");
    }
}

/// The rule for `-w /dev/null` must not cover other devices.
#[test]
fn an_output_that_is_not_a_regular_file_permits_nothing_else() {
    let directories = Directories::new();
    let fifo = directories.path("outside/fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let target = directories.path("granted/old");
    symlink(&target, directories.path("outside/link")).unwrap();
    let links = directories.path("outside/link");
    let places = Places { outputs: vec![fifo.clone(), links.clone()], ..Places::default() };
    let directories = Directories { places, ..directories };
    let beside = directories.path("outside/old");
    directories.on(ThreadKind::Main, || {
        // Opened to read, too, or it would wait for a reader.
        OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        File::create(&links).unwrap();
        for path in [&beside, &target.with_file_name("new")] {
            assert_eq!(
                File::create(path).unwrap_err().kind(),
                ErrorKind::PermissionDenied,
                "{}",
                path.display()
            );
        }
    });
}

#[test]
fn tcp_connects_only_to_permitted_ports() {
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (forwarded, of_commands, neither) = (listener(), listener(), listener());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let mut directories = Directories::new();
    directories.places.connect = vec![port(&forwarded)];
    directories.places.command_connect = vec![port(&of_commands)];
    for (kind, wanted) in [
        // It starts the forwarders of a reload, which are confined as it is, and further.
        (ThreadKind::Main, [true, false, false]),
        (ThreadKind::Forwarder, [true, false, false]),
        (ThreadKind::Agent, [false; 3]),
        (ThreadKind::Command, [false, true, false]),
    ] {
        let connects = [&forwarded, &of_commands, &neither].map(|listener| {
            match directories.on(kind, || TcpStream::connect(listener.local_addr().unwrap())) {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => false,
                Err(error) => panic!("{error}"),
            }
        });
        assert_eq!(connects, wanted, "{kind:?}");
        let bound = directories.on(kind, || TcpListener::bind("127.0.0.1:0"));
        assert_eq!(bound.unwrap_err().kind(), ErrorKind::PermissionDenied, "{kind:?}");
    }
}

#[test]
fn features_that_an_older_kernel_lacks_are_named_and_require_refuses_it() {
    let said = |support| covered(support);
    assert_eq!(said(Support::Abi(6)), "Landlock ABI 6");
    assert_eq!(said(Support::Abi(9)), "Landlock ABI 9");
    let first = said(Support::Abi(1));
    for lacking in ["ABI 1 does not cover", "renames", "truncation", "TCP", "ioctls", "signals"] {
        assert!(first.contains(lacking), "{lacking} in {first}");
    }
    assert!(!said(Support::Abi(3)).contains("truncation") && said(Support::Abi(3)).contains("TCP"));
    assert!(said(Support::Disabled).contains("lsm=") && said(Support::Missing).contains("no Landlock"));
    let places = Places::default();
    let require = |support, unfiltered| {
        announce(SandboxArg::Require, support, unfiltered, &places).map_err(|error| error.to_string())
    };
    assert_eq!(require(Support::Abi(4), None), Ok(()));
    for (support, unfiltered, remedy) in [
        (Support::Abi(3), None, "kernel 6.7"),
        (Support::Missing, None, "CONFIG_SECURITY_LANDLOCK"),
        (Support::Disabled, None, "add `landlock` to `lsm=`"),
        (Support::Abi(7), Some("not there"), "not there"),
    ] {
        let refused = require(support, unfiltered).unwrap_err();
        assert!(refused.contains(remedy) && refused.contains("--sandbox auto"), "{refused}");
        announce(SandboxArg::Auto, support, unfiltered, &places).unwrap();
    }
}

#[test]
fn off_confines_nothing() {
    let directories = Directories::new();
    let outside = directories.path("outside/new");
    let sandbox = Sandbox::prepare(SandboxArg::Off, &directories.places).unwrap();
    thread::spawn(move || {
        sandbox.confine(ThreadKind::Worker).unwrap();
        File::create(outside).unwrap();
    })
    .join()
    .unwrap();
}
