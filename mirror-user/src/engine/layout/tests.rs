use super::*;
use crate::host::{Channels, DriverInfo, interface::Peer, kernel::KernelVersion, xdp::XdpFeatures};

fn host(driver: &str, version: &str, kernel: (u16, u16), mtu: u32) -> Host {
    let features = (kernel >= (6, 3)).then(|| XdpFeatures {
        basic: driver != "e1000e",
        redirect: driver != "e1000e",
        rx_sg: ["veth", "virtio_net"].contains(&driver) || version == "2.14.1g",
        ..XdpFeatures::default()
    });
    Host {
        kernel: Some(KernelVersion::new(kernel.0, kernel.1)),
        page_size: 4096,
        cpus: Some(2),
        interface: "ens5".to_owned(),
        mtu,
        driver: Some(DriverInfo { name: driver.to_owned(), version: version.to_owned(), bus: String::new() }),
        peer: None,
        rx_queues: 2,
        channels: None,
        xdp_features: features,
        virtio_features: None,
    }
}

fn wanted(mode: Mode) -> Wanted<'static> {
    Wanted { mode, ..Wanted::DEFAULT }
}

fn refused(host: &Host, wanted: &Wanted<'_>) -> (String, String) {
    let refusal = layout(host, wanted).unwrap_err();
    let command = refusal.command().map(|command| command.to_string());
    (refusal.to_string(), command.unwrap_or_default())
}

#[test]
fn a_small_mtu_takes_the_program_of_one_buffer_everywhere() {
    for kernel in [(5, 10), (6, 1), (6, 6), (7, 3)] {
        for driver in ["veth", "virtio_net", "igb", "ena", "mlx5_core"] {
            let layout = layout(&host(driver, "1", kernel, 1500), &Wanted::DEFAULT).unwrap();
            assert_eq!(layout.modes, [XdpMode::Native, XdpMode::Generic], "{driver} {kernel:?}");
            assert_eq!((layout.mode, layout.frags, layout.scatter_gather), (XdpMode::Native, false, false));
            assert_eq!((layout.chunk_size, layout.bind), (2048, Bind::Copy));
            assert_eq!((layout.obstacles, layout.warnings), (vec![], vec![]));
        }
    }
}

#[test]
fn chunks_hold_frame_tags_and_headroom() {
    for (mtu, chunk) in
        [(576, 2048), (1714, 2048), (1715, 4096), (3498, 4096), (9001, 4096), (u32::MAX, 4096)]
    {
        let layout = layout(&host("veth", "1.0", (6, 12), mtu), &Wanted::DEFAULT).unwrap();
        assert_eq!(layout.chunk_size, chunk, "{mtu}");
    }
}

#[test]
fn frames_of_several_buffers_are_native_from_6_6_on_where_the_driver_has_them() {
    for (driver, version) in [("veth", "1.0"), ("virtio_net", "1.0.0"), ("ena", "2.14.1g")] {
        let whole = layout(&host(driver, version, (6, 6), 9001), &wanted(Mode::Native)).unwrap();
        assert_eq!((whole.frags, whole.scatter_gather, whole.chunk_size), (true, true, 4096), "{driver}");
        assert_eq!(whole.warnings, []);
        let (says, remedy) = refused(&host(driver, version, (6, 5), 9001), &wanted(Mode::Native));
        assert!(says.contains("MTU 9001") && says.contains("need kernel 6.6, this is 6.5.0"), "{says}");
        assert_eq!(remedy, "ip link set dev ens5 mtu 3498");
    }
    for (driver, version, lossless) in
        [("ena", "6.12.40", 3498), ("ena", "2.13.2g", 3498), ("igb", "6.12.95", 3046), ("vmxnet3", "1", 3050)]
    {
        let (says, remedy) = refused(&host(driver, version, (6, 12), 9001), &wanted(Mode::Native));
        assert!(says.contains("multi-buffer XDP"), "{says}");
        assert_eq!(remedy, format!("ip link set dev ens5 mtu {lossless}"));
    }
}

#[test]
fn auto_falls_back_to_generic_for_an_mtu_and_warns() {
    // EC2's default with the in-box driver.
    let new = layout(&host("ena", "6.12.40", (6, 12), 9001), &Wanted::DEFAULT).unwrap();
    assert_eq!((new.modes.as_slice(), new.mode), ([XdpMode::Generic].as_slice(), XdpMode::Generic));
    assert_eq!((new.frags, new.scatter_gather, new.chunk_size), (false, true, 4096));
    assert_eq!(new.obstacles.len(), 1);
    let obstacle = &new.obstacles[0];
    assert!(obstacle.to_string().contains("MTU 9001 is over 3498"), "{obstacle}");
    assert_eq!(obstacle.command().unwrap().to_string(), "ip link set dev ens5 mtu 3498");
    assert_eq!(new.warnings, [], "frames come whole");
    // Where they cannot come whole, it says from which size on.
    let old = layout(&host("ena", "5.10", (5, 10), 9001), &Wanted::DEFAULT).unwrap();
    assert_eq!((old.modes.as_slice(), old.scatter_gather), ([XdpMode::Generic].as_slice(), false));
    assert!(old.warnings[0].to_string().contains("frames over 3784 bytes"), "{:?}", old.warnings);
    // Between the driver's limit and a chunk's nothing is lost.
    let between = layout(&host("veth", "1.0", (6, 1), 3700), &Wanted::DEFAULT).unwrap();
    assert_eq!((between.modes.as_slice(), between.warnings), ([XdpMode::Generic].as_slice(), vec![]));
}

#[test]
fn pages_of_64_kib_move_the_drivers_limits_and_not_the_chunks() {
    let large = |kernel, mtu| Host { page_size: 65536, ..host("ena", "6.12", kernel, mtu) };
    let new = layout(&large((6, 12), 9001), &wanted(Mode::Native)).unwrap();
    assert_eq!((new.frags, new.scatter_gather, new.chunk_size), (false, true, 4096));
    let (says, remedy) = refused(&large((6, 1), 9001), &wanted(Mode::Native));
    assert!(says.contains("over 3762, the most whose frames fit one chunk"), "{says}");
    assert_eq!(remedy, "ip link set dev ens5 mtu 3762");
    let fits = layout(&large((6, 1), 3762), &wanted(Mode::Native)).unwrap();
    assert_eq!((fits.frags, fits.scatter_gather, fits.chunk_size), (false, false, 4096));
}

#[test]
fn veth_limits_depend_on_the_mtu_of_the_other_end() {
    let pair = |kernel, own, other| Host {
        peer: Some(Peer { name: "peer".to_owned(), mtu: other, tx_queues: Some(2) }),
        ..host("veth", "1.0", kernel, own)
    };
    let frags =
        |kernel, own, other| layout(&pair(kernel, own, other), &wanted(Mode::Native)).map(|it| it.frags);
    assert_eq!(frags((6, 12), 1500, 3506), Ok(false));
    assert_eq!(frags((6, 12), 1500, 3507), Ok(true));
    assert_eq!(frags((6, 12), 9000, 1500), Ok(false));
    let (says, remedy) = refused(&pair((6, 1), 1500, 3507), &wanted(Mode::Native));
    assert!(says.starts_with("MTU 3507 of the other end, peer, is over 3506"), "{says}");
    assert_eq!(remedy, "ip link set dev peer mtu 3498");
    // This end takes no frame larger than the other end sends.
    assert_eq!(layout(&pair((6, 1), 9000, 1500), &Wanted::DEFAULT).unwrap().warnings, []);
}

#[test]
fn zero_copy_has_large_chunks_unless_the_driver_takes_any() {
    let zero_copy = Wanted { bind: BindMode::ZeroCopy, ..Wanted::DEFAULT };
    for (driver, chunk) in [("igb", 4096), ("mlx5_core", 4096), ("virtio_net", 2048)] {
        let layout = layout(&host(driver, "1", (7, 3), 1500), &zero_copy).unwrap();
        assert_eq!(
            (layout.chunk_size, layout.modes.as_slice()),
            (chunk, [XdpMode::Native].as_slice()),
            "{driver}"
        );
    }
    let small = Wanted { chunk_size: Some(2048), ..zero_copy.clone() };
    let layout_small = layout(&host("igb", "1", (7, 3), 1500), &small).unwrap();
    assert!(layout_small.warnings[0].to_string().contains("of 2048 bytes, 312 of them headroom, 1024"));
    // One buffer a frame, unless the driver says that its zero-copy takes more.
    let (says, remedy) = refused(&host("virtio_net", "1", (7, 3), 9001), &zero_copy);
    assert!(says.contains("takes frames of one buffer only"), "{says}");
    assert_eq!(remedy, "ip link set dev ens5 mtu 3498");
    let mut several = host("virtio_net", "1", (7, 3), 9001);
    several.xdp_features.as_mut().unwrap().zero_copy_max_segments = Some(17);
    assert!(layout(&several, &zero_copy).unwrap().scatter_gather);
}

#[test]
fn options_that_contradict_each_other_or_the_kernel_are_refused() {
    let host = host("veth", "1.0", (6, 1), 1500);
    let zero_copy = Wanted { bind: BindMode::ZeroCopy, ..wanted(Mode::Generic) };
    assert!(refused(&host, &zero_copy).0.contains("zero-copy needs native mode"));
    let scattered = Wanted { scatter_gather: true, ..Wanted::DEFAULT };
    assert!(refused(&host, &scattered).0.contains("need kernel 6.6"));
    let queues = Queues::List(vec![0, 2]);
    let third = Wanted { queues: &queues, ..Wanted::DEFAULT };
    assert_eq!(layout(&host, &third).unwrap_err(), Refusal::NoSuchQueue { queue: 2, queues: 2 });
}

#[test]
fn virtio_has_a_queue_more_for_each_cpu_while_attached_where_they_fit() {
    let with = |combined, max_combined| Host {
        channels: Some(Channels { rx: 0, tx: 0, combined, max_rx: 0, max_tx: 0, max_combined }),
        rx_queues: combined,
        ..host("virtio_net", "1.0.0", (6, 12), 1500)
    };
    for (combined, max, then) in [(1, 4, 3), (2, 4, 4), (3, 4, 3), (4, 4, 4), (1, 1, 1)] {
        let native = layout(&with(combined, max), &Wanted::DEFAULT).unwrap();
        assert_eq!(native.rx_queues, then, "{combined} of {max}");
        let generic = layout(&with(combined, max), &wanted(Mode::Generic)).unwrap();
        assert_eq!(generic.rx_queues, combined);
    }
}

#[test]
fn native_is_not_tried_where_the_driver_reports_no_native_xdp() {
    let reported = layout(&host("e1000e", "1", (6, 12), 1500), &Wanted::DEFAULT).unwrap();
    assert_eq!((reported.modes.as_slice(), reported.mode), ([XdpMode::Generic].as_slice(), XdpMode::Generic));
    let unreported = layout(&host("e1000e", "1", (6, 1), 1500), &Wanted::DEFAULT).unwrap();
    assert_eq!(
        (unreported.modes, unreported.mode),
        (vec![XdpMode::Native, XdpMode::Generic], XdpMode::Generic)
    );
}
