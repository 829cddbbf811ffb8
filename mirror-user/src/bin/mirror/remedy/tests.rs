use std::io;

use mirror_user::engine::{
    AttachCause, EngineError, ForwardObstacle, MtuLimit, MtuTooLarge, NoMultiBuffer, Obstacle, OptionsError,
    ProgramSetupError, SocketCause, SocketError,
};
use mirror_user::{
    host::{HostError, namespace::NetworkNamespace},
    sink::forward::OpenError,
};
use nix::errno::Errno;

use super::with_remedy;

const IF: &str = "ens5";

fn os(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// What the command prints ends with the remedy, and has nothing behind the error's own text where there is
/// none.
fn assert_remedy(error: impl std::error::Error + Send + Sync + 'static, remedy: &str) {
    let error = anyhow::Error::new(error);
    let (own, printed) = (error.to_string(), with_remedy(&error));
    if remedy.is_empty() {
        assert_eq!(printed, own);
    } else {
        assert_eq!(printed, format!("{own}; {remedy}"));
    }
}

fn attach(cause: impl Into<Option<AttachCause>>, errno: Errno) -> EngineError {
    EngineError::Attach { interface: IF.to_owned(), cause: cause.into(), source: os(errno) }
}

fn socket(cause: impl Into<Option<SocketCause>>, source: SocketError) -> EngineError {
    EngineError::Socket { interface: IF.to_owned(), queue: 3, cause: cause.into(), source }
}

fn ena() -> Option<String> {
    Some("ena".to_owned())
}

#[test]
fn options_name_the_flags_that_change_them() {
    let any = "name the interfaces: `mirror ingest -i ens5,ens6`, and `mirror -D` lists them";
    let name = || "a/b".to_owned();
    for (error, remedy) in [
        (OptionsError::InterfaceName { name: name() }, "`mirror -D` lists the interfaces"),
        (OptionsError::InterfaceAny, any),
        (OptionsError::NoInterface, "use -i, and `mirror -D` to list the interfaces"),
        (OptionsError::GenericZeroCopy, "leave `--mode generic` or `--bind zerocopy` out"),
        (OptionsError::ForwardPath(ForwardObstacle::Filter), "use `--forward-path user`"),
        (OptionsError::ForwardPath(ForwardObstacle::NoTarget), "name one with `--forward TARGET`"),
        (OptionsError::NoQueue, "leave `--queues` out to read all"),
        (OptionsError::InterfaceTwice { interface: name() }, ""),
        (OptionsError::TunnelPorts { given: 5, most: 4 }, ""),
        (OptionsError::TooManyVnis { given: 5, most: 4 }, ""),
        (OptionsError::TooManySources { given: 5, most: 4 }, ""),
        (OptionsError::Vni { vni: 1 << 24 }, ""),
        (OptionsError::RxRing { given: 3, least: 64, most: 32768 }, ""),
        (OptionsError::UmemFrames { given: 0, most: 128 }, ""),
        (OptionsError::ChunkSize { given: 1 }, ""),
        (OptionsError::Batch { given: 0, most: 64 }, ""),
        (OptionsError::CountZero, ""),
        (OptionsError::QueueTwice { queue: 0 }, ""),
        (OptionsError::Cpu { cpu: 1000, allowed: vec![0, 1] }, ""),
        (OptionsError::ScatterGather { kernel: None }, ""),
    ] {
        let as_usage = super::of_options(&error);
        assert!(as_usage.ends_with(remedy), "{as_usage}");
        assert_remedy(EngineError::Options(error), remedy);
    }
}

#[test]
fn a_refused_plan_names_its_commands() {
    let mtu = MtuTooLarge {
        interface: IF.to_owned(),
        other_end: None,
        mtu: 9001,
        most: 3498,
        limit: MtuLimit::SingleBuffer { driver: ena() },
        reason: NoMultiBuffer::InBoxEna,
        lossless: 3498,
    };
    assert_remedy(EngineError::Mtu(mtu.into()), "run `ip link set dev ens5 mtu 3498`");
    assert_remedy(EngineError::Capabilities { missing: vec![] }, "run it as root (`sudo mirror ingest …`)");
    let queue = EngineError::NoSuchQueue { interface: "a;b".to_owned(), queue: 7, queues: 2 };
    assert_remedy(queue, "`ethtool -l 'a;b'` shows them");
    let hook = serde_json::from_str(r#"{"mode":"native","program":7,"name":"other"}"#).expect("a hook");
    assert_remedy(
        EngineError::HookHeld { interface: IF.to_owned(), hook },
        "stop its owner, or, if it has none, run `ip link set dev ens5 xdp off`",
    );
}

#[test]
fn a_refused_attach_names_what_its_cause_needs() {
    let doctor = "see `mirror doctor -i ens5`";
    let channels =
        |most| Obstacle::EnaChannels { in_box: true, interface: IF.to_owned(), in_use: most, most };
    let obstacle = |obstacle| AttachCause::Obstacle { driver: ena(), obstacle };
    let mtu = |most| AttachCause::Mtu { driver: ena(), mtu: 9001, most };
    let no_native = Obstacle::NoNative { driver: ena(), reported: false };
    for (cause, remedy) in [
        (None, doctor),
        (Some(AttachCause::HookTaken), "stop its owner, or run `ip link set dev ens5 xdp off`"),
        (Some(AttachCause::NotPermitted), "run it as root (`sudo mirror ingest …`)"),
        (Some(AttachCause::InterfaceGone), ""),
        (Some(obstacle(channels(4))), "run `ethtool -L ens5 combined 2`, or use `--mode generic`"),
        (Some(obstacle(channels(1))), "see `mirror doctor -i ens5`, or use `--mode generic`"),
        (Some(obstacle(no_native)), "use `--mode generic`"),
        (
            Some(AttachCause::TooFewRxQueues { driver: ena() }),
            "run `ethtool -L ens5 rx N` with N no less than the peer's tx",
        ),
        (Some(AttachCause::NoNative { driver: ena() }), "use `--mode generic`"),
        (Some(mtu(Some(3498))), "run `ip link set dev ens5 mtu 3498`, the most that the driver takes"),
        (
            Some(mtu(None)),
            "run `ip link set dev ens5 mtu 1500` (many drivers take up to 3498), and see `mirror doctor -i \
            ens5`",
        ),
        (
            Some(AttachCause::VirtioQueues { usable: Some(2) }),
            "run `ethtool -L ens5 combined 2`, or use `--mode generic`",
        ),
        (Some(AttachCause::VirtioQueues { usable: None }), "use `--mode generic`"),
        (
            Some(AttachCause::Channels { driver: ena() }),
            "run `ethtool -L ens5 combined N` with N at most half the maximum, and see `mirror doctor -i \
            ens5`",
        ),
    ] {
        assert_remedy(attach(cause, Errno::EINVAL), remedy);
    }
}

#[test]
fn a_refused_socket_names_what_its_cause_needs() {
    let bind = |errno| SocketError::Bind(os(errno));
    for (cause, errno, remedy) in [
        (None, Errno::EIO, "see `mirror doctor -i ens5`"),
        (Some(SocketCause::QueueTaken), Errno::EBUSY, "stop the program that reads it"),
        (Some(SocketCause::NoZeroCopy), Errno::EOPNOTSUPP, "use `--bind copy`"),
        (Some(SocketCause::NoAccessPlatform), Errno::EINVAL, "use `--bind copy`"),
        (Some(SocketCause::ZeroCopyRefused), Errno::EINVAL, "use `--bind copy`"),
        (Some(SocketCause::NotPermitted), Errno::EPERM, "run it as root (`sudo mirror ingest …`)"),
        (Some(SocketCause::InterfaceGone), Errno::ENODEV, ""),
        (Some(SocketCause::InterfaceDown), Errno::ENETDOWN, "run `ip link set dev ens5 up`"),
        (Some(SocketCause::NoAfXdp), Errno::EAFNOSUPPORT, ""),
        (Some(SocketCause::NoBusyPoll), Errno::ENOPROTOOPT, "`--wait spin` works everywhere"),
    ] {
        assert_remedy(socket(cause, bind(errno)), remedy);
    }
    let files = "raise the limit of open files: `ulimit -n 1024`, in a unit file `LimitNOFILE=1024`";
    assert_remedy(socket(None, bind(Errno::EMFILE)), files);
}

#[test]
fn a_umem_over_the_limit_of_locked_memory_names_all_that_helps() {
    let umem = |errno| {
        let source = SocketError::Umem { bytes: 16_908_288, source: os(errno) };
        with_remedy(&socket(SocketCause::UmemMemory, source).into())
    };
    let printed = umem(Errno::ENOBUFS);
    for word in ["16908288", "ulimit -l", "LimitMEMLOCK=infinity", "CAP_IPC_LOCK", "--rx-ring 2048"] {
        assert!(printed.contains(word), "{word} is missing in {printed}");
    }
    assert!(!printed.contains("ulimit -v"), "{printed}");
    assert!(umem(Errno::ENOMEM).contains("ulimit -v"));
    let rings = socket(SocketCause::RingMemory, SocketError::Rings(os(Errno::ENOBUFS)));
    assert!(with_remedy(&rings.into()).ends_with(
        "raise the limit (`ulimit -l unlimited`, in a unit file `LimitMEMLOCK=infinity`), or read fewer \
        queues"
    ));
}

#[test]
fn maps_over_the_limit_of_locked_memory_name_it() {
    let program = |counts_as_locked| EngineError::Program {
        interface: IF.to_owned(),
        counts_as_locked,
        source: ProgramSetupError::Map { name: "VNIS", source: os(Errno::EPERM).into() },
    };
    assert_remedy(program(false), "");
    assert_remedy(
        program(true),
        "raise the limit (`ulimit -l unlimited`, in a unit file `LimitMEMLOCK=infinity`), or add \
        CAP_SYS_RESOURCE, with which mirror raises it",
    );
}

#[test]
fn what_the_host_refuses_names_what_changes_that() {
    let name = || "tap0".to_owned();
    let tap = |errno| HostError::Tap { name: name(), source: os(errno) };
    let discard = |errno| HostError::Discard { name: name(), source: os(errno).into() };
    let files = "raise the limit of open files: `ulimit -n 1024`, in a unit file `LimitNOFILE=1024`";
    for (error, remedy) in [
        (HostError::NoSuchInterface { name: name(), there: vec![] }, "`mirror -D` lists them"),
        (tap(Errno::EPERM), "run it as root"),
        (tap(Errno::ENOENT), "/dev/net/tun is missing: run `modprobe tun`"),
        (tap(Errno::EBUSY), "another process has it: stop that, or choose another name"),
        (tap(Errno::EMFILE), files),
        (tap(Errno::EIO), ""),
        (
            discard(Errno::ENOENT),
            "run `modprobe -a sch_ingress cls_bpf`; or let the host receive packets with `,to-host`",
        ),
        (discard(Errno::EMFILE), files),
        (discard(Errno::EIO), "let the host receive packets with `,to-host`, or use another target"),
        (HostError::SettingsHeld { interface: name(), pid: 7 }, "stop that run first"),
        (HostError::OtherNamespace { interface: name() }, ""),
    ] {
        assert_remedy(error, remedy);
    }
    let inside = EngineError::Host(HostError::NoSuchInterface { name: name(), there: vec![] });
    assert_remedy(inside, "`mirror -D` lists them");
}

#[test]
fn a_veth_pair_that_cannot_be_made_names_what_changes_that() {
    let name = || "ids 0".to_owned();
    let veth = |errno| HostError::Veth { name: name(), source: os(errno) };
    let taken = |in_use| HostError::NameTaken { name: name(), in_use };
    let named = |errno| HostError::Namespace {
        namespace: NetworkNamespace::Named("sensor".to_owned()),
        source: os(errno),
    };
    let of_process =
        |errno| HostError::Namespace { namespace: NetworkNamespace::OfProcess(7), source: os(errno) };
    for (error, remedy) in [
        (
            veth(Errno::EPERM),
            "run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN; a `tap:` target needs no CAP_SYS_ADMIN",
        ),
        (veth(Errno::EOPNOTSUPP), "this kernel has no veth: run `modprobe veth`, or use a `tap:` target"),
        (
            veth(Errno::EMFILE),
            "raise the limit of open files: `ulimit -n 1024`, in a unit file `LimitNOFILE=1024`",
        ),
        (veth(Errno::EIO), ""),
        (taken(true), "stop that run, or choose another name than ids 0"),
        (
            taken(false),
            "choose another name, send to it as it is with `dev:'ids 0'`, or delete it: `ip link delete dev \
            'ids 0'`",
        ),
        (named(Errno::EPERM), "run it as root, or with CAP_SYS_ADMIN"),
        (
            named(Errno::ENOENT),
            "`ip netns list` lists those that have a name; for a container give a process id",
        ),
        (named(Errno::EINVAL), "it is not a network namespace: `ip netns list` lists them"),
        (of_process(Errno::EACCES), "run it as root, or with CAP_SYS_ADMIN and CAP_SYS_PTRACE"),
        (
            of_process(Errno::ENOENT),
            "there is no such process: name one that runs, such as `docker inspect -f '{{.State.Pid}}' \
            CONTAINER` prints",
        ),
        (named(Errno::EIO), ""),
    ] {
        assert_remedy(error, remedy);
    }
}

#[test]
fn a_target_without_its_socket_names_what_changes_that() {
    let busy = OpenError::Xsk(SocketError::Bind(os(Errno::EBUSY)));
    assert_remedy(
        busy,
        "another AF_XDP socket is on its queue 0: stop its owner, or forward to another interface",
    );
    let umem = OpenError::Xsk(SocketError::Umem { bytes: 4096, source: os(Errno::ENOBUFS) });
    assert!(with_remedy(&umem.into()).contains("LimitMEMLOCK=infinity"));
    let missing = HostError::NoSuchInterface { name: "cap7".to_owned(), there: vec![] };
    assert_remedy(OpenError::Host(missing), "`mirror -D` lists them");
}

#[test]
fn a_thread_that_cannot_start_names_the_limit_of_threads() {
    let thread = EngineError::Thread { name: "mirror-links".to_owned(), source: os(Errno::EAGAIN) };
    assert!(with_remedy(&thread.into()).contains("(`ulimit -u`"));
}
