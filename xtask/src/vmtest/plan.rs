//! What runs on which kernel, and the expected end: the table of kernels, drivers and modes.

use super::card::{Card, QUEUES};
use super::cell::{Cell, Expect, Frames, MANY, MIXED, PACE, SOME};
use super::kernel::{Kernel, Machine};
use super::qemu::CPUS;

/// Which part of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The part for every change.
    Usual,
    /// Every NIC, mode, option, privilege and MTU.
    All,
}

/// Words of a bind that the driver refuses. Without zero-copy the remedy is the same for every reason.
const NO_ZERO_COPY: &[&str] = &["--bind copy"];
const NO_NATIVE: &[&str] = &["--mode generic"];
const WARNS_OF_GENERIC: &[&str] = &["WARN", "generic"];

/// Inner lengths up to the maximum for an MTU of 9001, with headers split at every offset around the end of a
/// 2048- or 4096-byte chunk.
const JUMBO_SIZES: &[u32] = &[60, 8_950, 1_450, 3_712, 3_713, 1_996, 4_046, 7_300, 5_000, 2_500, 8_949, 114];
const JUMBO_FRAMES: Frames = Frames::Numbered { count: 10_000, sizes: JUMBO_SIZES, flows: 64, pace: 2_000 };

/// The cells of this kernel, in order.
pub(super) fn cells(kernel: Kernel, extent: Extent) -> Vec<Cell> {
    let mut cells = usual(kernel);
    if extent == Extent::All {
        cells.extend(veth_options(kernel));
        cells.extend(rights(kernel));
        for card in [Card::Veth(1), Card::Virtio, Card::VirtioDma, Card::Igb, Card::Vmxnet3, Card::E1000e] {
            if has_driver(kernel, card) {
                cells.extend(driver(kernel, card));
            }
        }
        cells.extend(large_frames(kernel));
        cells.extend(jumbo(kernel));
        if has_driver(kernel, Card::VirtioQueues) {
            cells.extend(several_queues(kernel));
        }
    }
    let mut seen = Vec::new();
    // The usual ones are part of their driver's table.
    cells.retain(|cell| {
        !seen.contains(&cell.name) && {
            seen.push(cell.name.clone());
            true
        }
    });
    cells
}

/// Cloud kernels have no drivers for physical NICs.
fn has_driver(kernel: Kernel, card: Card) -> bool {
    kernel.machine() == Machine::X86_64 || matches!(card, Card::Veth(_) | Card::Virtio | Card::VirtioDma)
}

fn name_of(card: Card) -> &'static str {
    match card {
        Card::Veth(_) => "veth",
        Card::Virtio => "virtio",
        Card::VirtioDma => "virtio-dma",
        Card::VirtioQueues => "virtio-queues",
        Card::Igb => "igb",
        Card::Vmxnet3 => "vmxnet3",
        Card::E1000e => "e1000e",
    }
}

/// Whether this driver has native XDP there.
fn has_native(kernel: Kernel, card: Card) -> bool {
    match card {
        Card::Veth(_) | Card::Virtio | Card::VirtioDma | Card::VirtioQueues | Card::Igb => true,
        // "vmxnet3: Add XDP support", 6.6.
        Card::Vmxnet3 => kernel.at_least(6, 6),
        Card::E1000e => false,
    }
}

/// Whether this driver has zero-copy there.
fn has_zero_copy(kernel: Kernel, card: Card) -> bool {
    // virtio-net has it for receiving, and igb at all, after 6.12; virtio only with the DMA API.
    matches!(card, Card::VirtioDma | Card::VirtioQueues | Card::Igb) && kernel.at_least(6, 13)
}

fn native(kernel: Kernel, card: Card) -> Cell {
    let cell = Cell::new(format!("{} native", name_of(card)), card, "--mode native", MANY);
    if has_native(kernel, card) { cell.mode("native") } else { cell.refused(NO_NATIVE) }
}

fn zero_copy(kernel: Kernel, card: Card) -> Cell {
    let cell = Cell::new(format!("{} zerocopy", name_of(card)), card, "--bind zerocopy", MANY);
    if has_zero_copy(kernel, card) {
        cell.mode("native").bind("zerocopy")
    } else if card == Card::Virtio && kernel.at_least(6, 13) {
        cell.refused(&["VIRTIO_F_ACCESS_PLATFORM", "--bind copy"])
    } else {
        cell.refused(NO_ZERO_COPY)
    }
}

fn usual(kernel: Kernel) -> Vec<Cell> {
    let veth = Card::Veth(1);
    let few = Frames::Numbered { count: 5_000, sizes: MIXED, flows: 64, pace: PACE };
    let burst = Frames::Numbered { count: 8_000, sizes: &[150], flows: 4, pace: 3_000 };
    let mut cells = vec![
        native(kernel, veth),
        Cell::new("veth generic", veth, "--mode generic", few).mode("generic"),
        Cell::new("veth AWS", veth, "", Frames::Aws),
        Cell::new("veth VNI and source", veth, "--vni 100 --source 10.9.0.0/16", SOME)
            .expect(Expect::LetIn(500)),
        Cell::new("veth overload", veth, "--mode native --rx-ring 64", burst)
            .during("stopped")
            .expect(Expect::Accounted),
        Cell::new("veth killed", veth, "", SOME).during("killed").expect(Expect::NothingLeft),
        Cell::new("veth after a kill", veth, "", SOME),
        native(kernel, Card::Virtio),
        zero_copy(kernel, Card::VirtioDma),
    ];
    if has_driver(kernel, Card::Igb) {
        cells.push(native(kernel, Card::Igb));
        if has_zero_copy(kernel, Card::Igb) {
            cells.push(zero_copy(kernel, Card::Igb));
        }
    }
    cells
}

/// Each mode on one card.
fn driver(kernel: Kernel, card: Card) -> Vec<Cell> {
    let name = name_of(card);
    let auto = Cell::new(format!("{name} auto"), card, "", SOME);
    let auto = if has_native(kernel, card) {
        auto.mode("native")
    } else {
        auto.mode("generic").says(WARNS_OF_GENERIC)
    };
    let generic = Cell::new(format!("{name} generic"), card, "--mode generic", SOME).mode("generic");
    let aws = Cell::new(format!("{name} AWS"), card, "", Frames::Aws);
    let mut cells = vec![native(kernel, card), generic, auto, aws, zero_copy(kernel, card)];
    if has_zero_copy(kernel, card) {
        let zero_copy = |what: &str, arguments: &str, frames| {
            let arguments = format!("--bind zerocopy {arguments}");
            Cell::new(format!("{name} zerocopy {what}"), card, &arguments, frames).bind("zerocopy")
        };
        cells.extend([
            zero_copy("AWS", "", Frames::Aws),
            zero_copy("busy-poll", "--wait busy-poll", SOME),
            zero_copy("spin", "--wait spin", SOME),
            zero_copy("latency", "--latency", SOME),
        ]);
    }
    cells
}

/// virtio adds a queue per CPU when a program is attached, if they fit, and removes them when it is detached.
/// Cells with and without zero-copy alternate: a zero-copy pool left on a removed queue crashed the kernel at
/// the next attach (`xp_alloc_batch`, seen on 7.3).
fn several_queues(kernel: Kernel) -> Vec<Cell> {
    let card = Card::VirtioQueues;
    let mut cells = Vec::new();
    for channels in 1..=QUEUES {
        let of = |what: &str, arguments: &str, frames| Cell {
            channels: Some(channels),
            ..Cell::new(format!("virtio {channels} of {QUEUES} queues {what}"), card, arguments, frames)
        };
        cells.push(of("native", "--mode native", MANY).mode("native"));
        let zero_copy = of("zerocopy", "--bind zerocopy", MANY);
        cells.push(if has_zero_copy(kernel, card) {
            zero_copy.bind("zerocopy")
        } else {
            zero_copy.refused(NO_ZERO_COPY)
        });
        if channels == 2 {
            cells.push(of("auto", "", SOME).mode("native"));
            cells.push(of("generic", "--mode generic", SOME).mode("generic"));
        }
    }
    cells
}

fn veth_options(kernel: Kernel) -> Vec<Cell> {
    let veth = Card::Veth(1);
    let option = |name: &str, arguments: &str| Cell::new(format!("veth {name}"), veth, arguments, SOME);
    let half = || Expect::LetIn(500);
    let burst = Frames::Numbered { count: 8_000, sizes: &[150], flows: 4, pace: 3_000 };
    let busy_poll = option("busy-poll", "--mode native --wait busy-poll");
    vec![
        option("latency", "--mode native --latency"),
        option("spin", "--mode native --wait spin"),
        // SO_PREFER_BUSY_POLL and its budget need 5.11.
        if kernel.at_least(5, 11) { busy_poll } else { busy_poll.refused(&["5.11", "--wait spin"]) },
        option("VNI", "--mode native --vni 100").expect(half()),
        option("source", "--mode native --source 10.9.0.1/32").expect(half()),
        option("generic VNI and source", "--mode generic --vni 100-101 --source 10.9.0.0/16"),
        option("verbose", "--mode native -vv"),
        option("expression", "--mode native udp and dst port 9"),
        option("to a TAP", "--mode native --forward tap:ids0"),
        Cell {
            prepare: &["link add fw0 type veth peer name fw1", "link set fw0 up", "link set fw1 up"],
            ..option("to a device", "--mode native --forward dev:fw0")
        },
        Cell::new("veth generic overload", veth, "--mode generic --rx-ring 64", burst)
            .during("stopped")
            .expect(Expect::Accounted),
        option("link down and up", "").during("link_down_up"),
        option("deleted", "").during("deleted").expect(Expect::InterfaceLost),
        option("user nobody", "--mode native -Z nobody"),
        Cell {
            // The sending CPU determines the queue; all of them are read.
            name: "veth 2 queues".into(),
            card: Card::Veth(2),
            ..option("", "--mode native")
        },
    ]
}

/// The privileges that the documentation calls sufficient, and fewer.
fn rights(kernel: Kernel) -> Vec<Cell> {
    const FOUR: &str = "CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_PERFMON";
    let of = |name: &str, arguments: &str, capabilities| Cell {
        capabilities: Some(capabilities),
        ..Cell::new(format!("rights {name}"), Card::Veth(1), arguments, SOME)
    };
    let little = |kib: u64, cell: Cell| Cell { memlock: Some(kib), ..cell };
    let locked = of(
        "of the README and locked memory",
        "",
        "CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_PERFMON,CAP_IPC_LOCK",
    );
    let raised = of(
        "of the README, locked memory, resources",
        "",
        "CAP_NET_ADMIN,CAP_NET_RAW,CAP_BPF,CAP_PERFMON,CAP_IPC_LOCK,CAP_SYS_RESOURCE",
    );
    vec![
        // Before 5.11 maps count against the limit, whatever the capabilities.
        if kernel.at_least(5, 11) {
            locked
        } else {
            locked.refused(&["5.11", "LimitMEMLOCK=infinity", "CAP_SYS_RESOURCE"])
        },
        raised,
        of("without CAP_NET_ADMIN", "", "CAP_NET_RAW,CAP_BPF,CAP_PERFMON").refused(&["CAP_NET_ADMIN"]),
        // 16,512 KiB of frames for a queue.
        little(8_192, of("of the README, 8 MiB locked", "", FOUR)).refused(&[
            "UMEM",
            "CAP_IPC_LOCK",
            "LimitMEMLOCK=infinity",
            "--rx-ring 2048",
        ]),
        little(8_192, of("of the README, 8 MiB locked, small ring", "--rx-ring 2048", FOUR)),
        little(64, Cell::new("rights of root, 64 KiB locked", Card::Veth(1), "", SOME)),
    ]
}

/// Frames as large as one chunk, which native mode always supports, and larger ones, which it does not.
fn large_frames(kernel: Kernel) -> Vec<Cell> {
    const LARGE: Frames = Frames::Numbered { count: 1_000, sizes: &[3_350, 50], flows: 4, pace: 2_000 };
    const LARGER: Frames = Frames::Numbered { count: 1_000, sizes: &[3_650, 50], flows: 4, pace: 2_000 };
    const OF_IGB: Frames = Frames::Numbered { count: 1_000, sizes: &[2_950, 50], flows: 4, pace: 2_000 };
    // To the last byte of that MTU.
    const OF_VMXNET3: Frames = Frames::Numbered { count: 1_000, sizes: &[3_014, 50], flows: 4, pace: 2_000 };
    let of = |card: Card, mtu: u32, arguments: &str, frames: Frames| {
        let mode = if arguments.is_empty() { "" } else { " native" };
        let name = format!("{} MTU {mtu}{mode}", name_of(card));
        Cell { mtu, ..Cell::new(name, card, arguments, frames) }
    };
    let mut cells = Vec::new();
    for card in [Card::Veth(1), Card::Virtio] {
        cells.push(of(card, 3_498, "", LARGE).mode("native"));
        let native = of(card, 3_700, "--mode native", LARGER);
        let auto = of(card, 3_700, "", LARGER);
        cells.extend(if kernel.at_least(6, 6) {
            [native.mode("native"), auto.mode("native")]
        } else {
            [native.refused(&["MTU 3700", "6.6", "mtu 3498"]), auto.mode("generic").says(WARNS_OF_GENERIC)]
        });
    }
    if has_driver(kernel, Card::Igb) {
        cells.extend([
            of(Card::Igb, 3_046, "", OF_IGB).mode("native"),
            of(Card::Igb, 3_498, "", LARGE).mode("generic").says(WARNS_OF_GENERIC),
            of(Card::Igb, 3_498, "--mode native", LARGE).refused(&["MTU 3498", "mtu 3046"]),
        ]);
    }
    if has_native(kernel, Card::Vmxnet3) && has_driver(kernel, Card::Vmxnet3) {
        cells.extend([
            of(Card::Vmxnet3, 3_050, "", OF_VMXNET3).mode("native"),
            // Not in generic mode: QEMU's model counts frames of two buffers as errors while LRO is off.
            of(Card::Vmxnet3, 3_494, "--mode native", LARGE).refused(&["MTU 3494", "mtu 3050"]),
        ]);
    }
    cells
}

/// EC2's default MTU. Frames in several descriptors are redirected to AF_XDP since 6.6, in native mode.
fn jumbo(kernel: Kernel) -> Vec<Cell> {
    let of = |card: Card, mode: &str, arguments: &str| Cell {
        mtu: 9_001,
        ..Cell::new(format!("{} MTU 9001 {mode}", name_of(card)), card, arguments, JUMBO_FRAMES)
    };
    // Frames that fit one chunk; longer ones are counted as lost.
    let short = |cell: Cell| Cell { frames: SOME, ..cell };
    let burst = Frames::Numbered { count: 4_000, sizes: JUMBO_SIZES, flows: 64, pace: 1_500 };
    let mut cells = Vec::new();
    for card in [Card::Veth(1), Card::Virtio] {
        let native = of(card, "native", "--mode native");
        let auto = of(card, "auto", "");
        if kernel.at_least(6, 6) {
            cells.extend([native.mode("native"), auto.mode("native")]);
            let overload = Cell { frames: burst, ..of(card, "overload", "--mode native --rx-ring 64") };
            cells.push(overload.during("stopped").expect(Expect::Accounted));
        } else {
            cells.extend([
                native.refused(&["MTU 9001", "6.6", "mtu 3498"]),
                short(auto).mode("generic").says(WARNS_OF_GENERIC),
            ]);
        }
        cells.push(short(of(card, "generic", "--mode generic")).mode("generic"));
    }
    if has_driver(kernel, Card::Igb) {
        cells.push(short(of(Card::Igb, "auto", "")).mode("generic").says(WARNS_OF_GENERIC));
    }
    cells
}

/// For which changes test programs run on a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usual {
    /// For every change.
    Always,
    /// For every change on older kernels. The newest takes minutes of an emulated CPU for what the same
    /// programs show on the machine that runs the guests.
    Older,
    /// For every change on this kernel: to others it makes no difference, except to the newest, as above.
    On(Kernel),
    /// With `--all` only.
    Never,
}

/// A test program that needs only the lab, and the tests that a guest cannot run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tests {
    pub(super) program: &'static str,
    /// Tests that are skipped, with the reason above them.
    skip: &'static [&'static str],
    /// Tests that are skipped before a kernel, with the reason above them.
    later: &'static [((u32, u32), &'static str)],
    /// The first kernel that has what they need.
    since: (u32, u32),
    /// When they run.
    usual: Usual,
}

impl Tests {
    /// The tests to skip on this kernel.
    pub(super) fn skipped(&self, kernel: Kernel) -> Vec<&'static str> {
        let later = self.later.iter().filter(|((major, minor), _)| !kernel.at_least(*major, *minor));
        self.skip.iter().copied().chain(later.map(|(_, test)| *test)).collect()
    }

    /// Tests at a time: labs are one at a time.
    pub(super) fn threads(&self) -> u32 {
        if WITHOUT_LAB.contains(&self.program) { CPUS } else { 1 }
    }
}

/// Test programs that raise no lab, and measure no time in a guest.
const WITHOUT_LAB: [&str; 1] = ["xdp_program"];

/// Live frames of BPF_PROG_TEST_RUN, which the lab's generator sends.
const LIVE_FRAMES: (u32, u32) = (5, 18);
/// The context of an XDP test run: the RX queue of its frame.
const CONTEXT: (u32, u32) = (5, 15);
const ANY: (u32, u32) = (5, 9);

/// Skipped as a whole: `mirrored`, `filtered`, `printed`, `replayed`, `rotated`, `written_in_parts`,
/// `forwarded` (tshark, tcpdump, an HTTP server, Suricata), `dashboards` (promtool), `drained` and `fleet`
/// (nftables, conntrack, and rates that an emulated CPU does not reach), `controlled` (users and groups of
/// the host), `configured` (no kernel in it), `idle` and `stop_at_full_rate` (timing does not hold on an
/// emulated CPU).
const TESTS: &[Tests] = &[
    // It sends faster than an emulated CPU can.
    Tests {
        program: "xdp_program",
        skip: &["however_fast_frames_come_one_in_sixteen_is_stamped"],
        later: &[],
        since: CONTEXT,
        usual: Usual::Older,
    },
    // A tcx link on the newest, a filter of a clsact qdisc before 6.6.
    Tests { program: "kept_from_host", skip: &[], later: &[], since: ANY, usual: Usual::On(Kernel::V5_10) },
    Tests {
        program: "refusals",
        skip: &[],
        later: &[
            // Maps exhaust that limit before the UMEM does: the cells of privileges have both.
            ((5, 11), "a_umem_over_the_limit_of_locked_memory_is_refused_with_the_remedy"),
            // There the reason is the kernel, and not that zero-copy takes one buffer: covered by the MTU
            // cells.
            ((6, 6), "an_mtu_too_large_for_zero_copy_is_named_with_its_remedy"),
        ],
        since: ANY,
        usual: Usual::Never,
    },
    Tests { program: "signals", skip: &[], later: &[], since: ANY, usual: Usual::Never },
    Tests { program: "endings", skip: &[], later: &[], since: LIVE_FRAMES, usual: Usual::Never },
    Tests { program: "sink_endings", skip: &[], later: &[], since: LIVE_FRAMES, usual: Usual::Never },
    Tests { program: "privileges", skip: &[], later: &[], since: LIVE_FRAMES, usual: Usual::Never },
    // For the limits that only root of a guest may raise. The others need nothing of the kernel beyond that,
    // and minutes of an emulated CPU.
    Tests {
        program: "scheduled",
        skip: &[
            "workers_are_real_time_and_no_other_thread_is",
            "without_capability_and_limit_a_run_says_so_or_does_not_start",
            "xcpu_ends_real_time_and_the_run_continues",
        ],
        later: &[],
        since: ANY,
        usual: Usual::Always,
    },
    // Landlock came with 5.13, and grew until 6.12: none in 5.10, a part in 6.1, all of it in 6.12.
    Tests {
        program: "sandbox",
        // It needs bash.
        skip: &["a_command_connects_only_to_permitted_tcp_ports"],
        later: &[
            ((5, 13), "a_command_of_a_replay_writes_only_where_permitted"),
            ((5, 13), "a_command_of_an_ingest_writes_only_where_permitted"),
            // Before that, threads that end a run keep CAP_BPF.
            ((5, 19), "every_thread_of_an_ingest_is_confined"),
        ],
        since: ANY,
        usual: Usual::Always,
    },
    Tests {
        program: "reloaded",
        // It sends faster than an emulated CPU can receive.
        skip: &["reloads_under_load_lose_nothing_of_what_stays"],
        // Its sandbox needs TCP and truncation.
        later: &[((6, 7), "outputs_of_a_reload_are_confined_like_those_of_the_start")],
        since: ANY,
        usual: Usual::On(Kernel::V6_1),
    },
    // Filters of a clsact qdisc before 6.6, whose programs the verifier of each kernel has to follow.
    Tests {
        program: "source",
        skip: &[
            // They need tcpdump or tshark.
            "filters::a_tcp_session_is_at_the_target_frame_by_frame",
            "filters::copies_have_as_many_bytes_as_the_session_says_and_keep_their_length_on_the_wire",
            "filters::of_inbound_rules_for_three_ports_neither_other_ports_nor_responses_are_mirrored",
            "filters::tshark_finds_each_copy_by_the_vni_of_the_session",
            "peering::across_a_router_a_page_that_curl_fetches_is_printed_as_tcpdump_prints_it",
            "kinds::fragments_and_icmp_are_at_the_target_as_the_client_sees_them",
            "kinds::tagged_frames_are_at_the_target_with_their_tags",
            "outer::copies_reach_a_target_that_has_an_ipv6_address",
            "production::copies_and_icmp_errors_about_them_are_not_mirrored",
            // It needs curl.
            "interfaces::an_interface_that_was_down_is_mirrored_as_before",
            // They need HAProxy and OpenSSL, too.
            "balanced::at_the_target_is_what_tcpdump_captures_at_the_server_behind_a_load_balancer",
            "balanced::noise_is_removed_by_a_reject_rule_of_a_lower_number",
            "balanced::noise_is_removed_by_an_expression_at_the_target",
            // They ask tc and tcx what is attached.
            "endings::a_clsact_qdisc_is_removed_by_the_source_that_added_it_once_it_has_no_filter",
            "endings::filters_of_clsact_that_outlive_their_source_do_nothing_and_are_removed",
            "endings::int_and_term_end_a_source_with_a_whole_account",
            "endings::nothing_is_left_of_a_source_that_is_killed_and_the_next_one_starts",
            "interfaces::a_source_ends_with_its_account_when_the_last_interface_is_deleted",
            "reloads::sessions_begin_and_end_on_hup_from_one_packet_to_the_next_and_those_that_stay_go_on",
            // There is no systemd.
            "serviced::the_unit_starts_reloads_and_stops_a_source_and_cleans_after_a_kill",
            // An emulated CPU attains neither these rates nor that volume.
            "limits::copies_are_no_more_a_second_than_max_pps",
            "limits::copies_have_no_more_bits_a_second_than_max_rate",
            "production::a_download_is_whole_while_the_target_cannot_be_reached",
            "kinds::copies_of_numbered_packets_are_in_the_sequence_of_the_packets",
            "reloads::hup_changes_rules_from_one_packet_to_the_next_and_refuses_broken_files",
        ],
        // Its sandbox needs TCP and truncation.
        later: &[(
            (6, 7),
            "endings::the_thread_that_reads_packets_has_no_capability_and_makes_few_system_calls",
        )],
        since: ANY,
        usual: Usual::On(Kernel::V6_1),
    },
    Tests { program: "kernel_log", skip: &[], later: &[], since: LIVE_FRAMES, usual: Usual::Never },
    Tests { program: "counted", skip: &[], later: &[], since: LIVE_FRAMES, usual: Usual::Never },
    // It sends at least 100,000 frames per second on both CPUs, which must also receive them: an emulated CPU
    // loses some (all accounted for).
    Tests {
        program: "generated",
        skip: &["two_queues_explain_every_frame_and_each_receives_at_least_a_quarter"],
        later: &[],
        since: LIVE_FRAMES,
        usual: Usual::Never,
    },
];

/// The test programs for this kernel; for other machines none are built.
pub(super) fn tests(kernel: Kernel, extent: Extent) -> Vec<Tests> {
    let is_usual = |tests: &Tests| match tests.usual {
        Usual::Always => true,
        Usual::Older => kernel != Kernel::Newest,
        Usual::On(only) => kernel == only,
        Usual::Never => false,
    };
    let wanted = |tests: &&Tests| {
        kernel.machine() == Machine::X86_64
            && kernel.at_least(tests.since.0, tests.since.1)
            && (extent == Extent::All || is_usual(tests))
    };
    TESTS.iter().filter(wanted).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kernel: Kernel, extent: Extent) -> Vec<String> {
        cells(kernel, extent).into_iter().map(|cell| cell.name).collect()
    }

    #[test]
    fn each_cell_has_its_own_name() {
        for kernel in Kernel::ALL {
            let all = names(kernel, Extent::All);
            let mut different = all.clone();
            different.sort_unstable();
            different.dedup();
            assert_eq!(different.len(), all.len());
            assert!(names(kernel, Extent::Usual).iter().all(|name| all.contains(name)));
        }
    }

    #[test]
    fn zero_copy_is_whole_on_the_newest_and_refused_before() {
        let find =
            |kernel| cells(kernel, Extent::All).into_iter().find(|cell| cell.name == "igb zerocopy").unwrap();
        assert!(matches!(find(Kernel::Newest).expect, Expect::Whole { bind: Some("zerocopy"), .. }));
        for kernel in [Kernel::V5_10, Kernel::V6_1, Kernel::V6_12] {
            assert!(matches!(find(kernel).expect, Expect::Refused(_)), "{kernel}");
        }
    }

    #[test]
    fn every_number_of_queues_is_whole_on_every_kernel() {
        for kernel in Kernel::ALL {
            let all = cells(kernel, Extent::All);
            for queues in 1..=QUEUES {
                let name = format!("virtio {queues} of {QUEUES} queues native");
                let cell = all.iter().find(|cell| cell.name == name).unwrap();
                assert!(matches!(cell.expect, Expect::Whole { mode: Some("native"), .. }), "{kernel} {name}");
            }
        }
    }

    #[test]
    fn arm64_has_no_cards_of_metal_and_no_programs_of_tests() {
        assert!(
            names(Kernel::Arm64, Extent::All)
                .iter()
                .all(|name| !name.contains("igb") && !name.contains("e1000e"))
        );
        assert!(tests(Kernel::Arm64, Extent::All).is_empty());
    }

    #[test]
    fn the_program_is_verified_on_an_older_kernel_for_every_change_and_on_the_newest_with_all() {
        let has = |kernel, extent| tests(kernel, extent).iter().any(|tests| tests.program == "xdp_program");
        assert!(has(Kernel::V6_1, Extent::Usual));
        assert!(!has(Kernel::Newest, Extent::Usual) && has(Kernel::Newest, Extent::All));
    }

    #[test]
    fn what_differs_on_no_older_kernel_runs_on_one_of_them_for_every_change_and_on_each_with_all() {
        for program in ["kept_from_host", "reloaded"] {
            let on = |extent| {
                let has =
                    |kernel: &&Kernel| tests(**kernel, extent).iter().any(|tests| tests.program == program);
                Kernel::DEFAULT.iter().filter(has).count()
            };
            assert_eq!((on(Extent::Usual), on(Extent::All)), (1, Kernel::DEFAULT.len()), "{program}");
        }
    }

    #[test]
    fn the_guest_gets_what_it_reads() {
        let cell = Cell::new("a", Card::Igb, "--mode native", SOME).mode("native");
        let json = cell.json();
        assert_eq!(json["cell"]["card"]["number"], 4);
        assert_eq!(json["cell"]["arguments"][1], "native");
        assert_eq!(json["cell"]["expect"]["whole"]["mode"], "native");
        assert_eq!(json["cell"]["frames"]["numbered"]["count"], 1_000);
    }
}
