//! Fragments: sequences of packets, and the verdict on each after those before it.

use std::time::Duration;

use mirror_ebpf::mirror::{Counter, FRAGMENT_LIFETIME, PROGRAM};
use mirror_lab::{
    Result, XdpProgram, fragment,
    frames::{Outer, OuterIp, TPID_8021AD, TPID_8021Q, inner_of_len},
    xdp_program::Settings,
};

use super::{
    ENTRIES, check,
    table::{
        Case, OTHER_VNI, VNI,
        action::{DROP, PASS, REDIRECT},
        case,
    },
    xdp_socket,
};

/// A datagram in three fragments.
struct Datagram {
    outer: Outer,
    id: u32,
}

impl Datagram {
    fn new(outer: Outer, id: u32) -> Self {
        Self { outer, id }
    }

    fn to(port: u16, id: u32) -> Self {
        Self::new(Outer { destination_port: port, ..Outer::sample(VNI) }, id)
    }

    fn ours(id: u32) -> Self {
        Self::to(4789, id)
    }

    fn parts(&self, cuts: &[usize]) -> Vec<Vec<u8>> {
        let inner = inner_of_len(400).expect("an inner frame");
        let whole = self.outer.encapsulate(&inner).expect("values that fit");
        fragment(&whole, self.id, cuts).expect("fragments")
    }

    fn part(&self, number: usize) -> Vec<u8> {
        self.parts(&[160, 320]).swap_remove(number)
    }

    fn first(&self) -> Vec<u8> {
        self.part(0)
    }

    fn middle(&self) -> Vec<u8> {
        self.part(1)
    }

    fn last(&self) -> Vec<u8> {
        self.part(2)
    }

    /// An atomic fragment.
    fn lone(&self) -> Vec<u8> {
        self.parts(&[]).swap_remove(0)
    }
}

fn taken(name: &'static str, frame: Vec<u8>) -> Case {
    case(name, frame, REDIRECT, Counter::Redirected)
}

fn passed(name: &'static str, frame: Vec<u8>) -> Case {
    case(name, frame, PASS, Counter::Fragment)
}

/// Loads the program with fragments on and a socket, and runs it on the cases in sequence.
fn judge(settings: &Settings, sequences: &[Vec<Case>]) -> Result<()> {
    for entry in ENTRIES {
        for cases in sequences {
            let mut program = XdpProgram::load(entry, &Settings { fragments: true, ..settings.clone() })?;
            program.allow_vni(VNI)?;
            program.allow_source_v4([10, 10, 0, 0], 16)?;
            program.allow_source_v6([0x20; 16], 8)?;
            let socket = xdp_socket();
            program.set_socket(0, &socket)?;
            check(&program, cases)?;
        }
    }
    Ok(())
}

/// Every kind of headers in front of a fragment.
fn shapes() -> Vec<Outer> {
    let q = (TPID_8021Q, 7);
    let mut shapes = vec![Outer::sample(VNI), super::with_options(8), Outer::sample_v6(VNI, &[])];
    for tags in [vec![q], vec![(TPID_8021AD, 9), q]] {
        shapes.push(Outer { tags: tags.clone(), ..Outer::sample(VNI) });
        shapes.push(Outer { tags, ..Outer::sample_v6(VNI, &[]) });
    }
    shapes
}

#[test]
fn a_first_fragment_decides_on_the_others_until_the_last_in_sequence() -> Result<()> {
    let mut sequences = Vec::new();
    for outer in shapes() {
        for id in [0, 7, 0xffff] {
            let ours = Datagram::new(outer.clone(), id);
            sequences.push(vec![
                passed("middle before its first", ours.middle()),
                passed("last before its first", ours.last()),
                taken("first", ours.first()),
                taken("middle", ours.middle()),
                taken("last", ours.last()),
                passed("last again", ours.last()),
                passed("middle of what is complete", ours.middle()),
            ]);
            sequences.push(vec![
                taken("first", ours.first()),
                taken("last, before the middle", ours.last()),
                taken("middle", ours.middle()),
                taken("first again", ours.first()),
            ]);
        }
    }
    judge(&Settings::default(), &sequences)
}

#[test]
fn fragments_without_their_first_are_passed() -> Result<()> {
    let ours = Datagram::ours(7);
    let mut sequences = Vec::new();
    for other in [
        Datagram::ours(8),
        Datagram::new(Outer { ip: v4([10, 10, 10, 253], [10, 10, 10, 1]), ..Outer::sample(VNI) }, 7),
        Datagram::new(Outer { ip: v4([10, 10, 10, 252], [10, 10, 10, 2]), ..Outer::sample(VNI) }, 7),
        Datagram::new(Outer::sample_v6(VNI, &[]), 7),
    ] {
        sequences.push(vec![
            taken("first", ours.first()),
            passed("of another datagram", other.middle()),
            passed("its end", other.last()),
            taken("middle", ours.middle()),
        ]);
    }
    // The same addresses and id, another protocol: not ours.
    let mut tcp = ours.middle();
    tcp[23] = 6;
    let tcp = case("of TCP", tcp, PASS, Counter::NotTunnel);
    sequences.push(vec![taken("first", ours.first()), tcp, taken("middle", ours.middle())]);
    judge(&Settings::default(), &sequences)
}

fn v4(source: [u8; 4], destination: [u8; 4]) -> OuterIp {
    let OuterIp::V4 { ttl, id, dont_fragment, more_fragments, fragment_offset, options, .. } =
        Outer::sample(VNI).ip
    else {
        unreachable!("a sample is IPv4")
    };
    OuterIp::V4 {
        source: source.into(),
        destination: destination.into(),
        ttl,
        id,
        dont_fragment,
        more_fragments,
        fragment_offset,
        options,
    }
}

#[test]
fn a_datagram_to_another_port_is_passed_and_takes_its_id_back() -> Result<()> {
    let (ours, other) = (Datagram::ours(7), Datagram::to(53, 7));
    let v6 = Datagram::new(Outer::sample_v6(VNI, &[]), 7);
    let mut tcp_over_v6 = v6.first();
    tcp_over_v6[14 + 40] = 6;
    judge(
        &Settings::default(),
        &[
            vec![
                passed("first", other.first()),
                passed("middle", other.middle()),
                passed("last", other.last()),
            ],
            vec![
                taken("first of ours", ours.first()),
                passed("first of another with its id", other.first()),
                passed("middle, of whichever", ours.middle()),
                taken("first of ours again", ours.first()),
                taken("middle", ours.middle()),
            ],
            vec![
                taken("first of ours over IPv6", v6.first()),
                passed("first of TCP over IPv6 with its id", tcp_over_v6),
                passed("middle, of whichever", v6.middle()),
            ],
        ],
    )
}

#[test]
fn filters_judge_first_fragments_as_they_judge_whole_packets() -> Result<()> {
    let refused_vni = Datagram::new(Outer::sample(OTHER_VNI), 7);
    let refused_source =
        Datagram::new(Outer { ip: v4([10, 11, 0, 1], [10, 10, 10, 1]), ..Outer::sample(VNI) }, 7);
    let ours = Datagram::ours(7);
    judge(
        &Settings { vni_filter: true, source_filter: true, ..Settings::default() },
        &[
            vec![
                case("VNI refused", refused_vni.first(), DROP, Counter::VniRefused),
                case("what follows", refused_vni.middle(), DROP, Counter::VniRefused),
                case("its last", refused_vni.last(), DROP, Counter::VniRefused),
                passed("its last again", refused_vni.last()),
            ],
            vec![
                passed("middle before its first", refused_source.middle()),
                case("source refused", refused_source.first(), DROP, Counter::SourceRefused),
                case("what follows", refused_source.middle(), DROP, Counter::SourceRefused),
            ],
            vec![
                taken("ours", ours.first()),
                case("its id again, refused", refused_vni.first(), DROP, Counter::VniRefused),
                case("what follows", ours.middle(), DROP, Counter::VniRefused),
            ],
        ],
    )
}

/// A refused source, with the header chains that end at a tunnel port.
fn refused_chains() -> Vec<Outer> {
    let hop_by_hop = (0, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    let options = (60, vec![0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let routing = (43, vec![0, 0, 4, 0, 0, 0, 0, 0]);
    let ah = (51, vec![0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    [vec![hop_by_hop.clone()], vec![options.clone()], vec![ah], vec![hop_by_hop, routing, options]]
        .into_iter()
        .map(|extensions| Outer::sample_v6(VNI, &extensions))
        .collect()
}

#[test]
fn refused_packets_are_dropped_with_extension_headers_and_in_fragments_with_and_without_reassembly()
-> Result<()> {
    for entry in ENTRIES {
        for fragments in [false, true] {
            let settings = Settings { source_filter: true, fragments, ..Settings::default() };
            let mut program = XdpProgram::load(entry, &settings)?;
            program.allow_source_v4([192, 0, 2, 0], 24)?;
            let refused = |name, frame| case(name, frame, DROP, Counter::SourceRefused);
            for outer in refused_chains() {
                let whole = outer.encapsulate(&inner_of_len(400)?)?;
                check(&program, &[refused("whole", whole)])?;
                let other =
                    Outer { destination_port: 53, ..outer.clone() }.encapsulate(&inner_of_len(400)?)?;
                check(&program, &[case("to another port", other, PASS, Counter::Extension)])?;
            }
            for outer in [Outer::sample(VNI), Outer::sample_v6(VNI, &[])] {
                let datagram = Datagram::new(outer.clone(), 9);
                let hosts = Datagram::new(Outer { destination_port: 53, ..outer }, 10);
                check(
                    &program,
                    &[
                        passed("middle of the host's own", hosts.middle()),
                        refused("first", datagram.first()),
                        passed("first of the host's own", hosts.first()),
                        refused("middle", datagram.middle()),
                        passed("middle of the host's own", hosts.middle()),
                        refused("last", datagram.last()),
                        passed("last of the host's own", hosts.last()),
                    ],
                )?;
            }
            // The host's own, of the same source and with the id of the datagram just dropped.
            let datagram = Datagram::new(Outer::sample(VNI), 11);
            check(&program, &[refused("first", datagram.first())])?;
            for protocol in [1, 6] {
                let mut other = datagram.middle();
                other[23] = protocol;
                check(&program, &[case("of ICMP or TCP", other, PASS, Counter::NotTunnel)])?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_fragment_with_nothing_before_or_after_it_is_judged_as_a_whole_packet() -> Result<()> {
    let v6 = |port| Datagram::new(Outer { destination_port: port, ..Outer::sample_v6(VNI, &[]) }, 7);
    let (ours, other) = (v6(4789), v6(53));
    judge(
        &Settings::default(),
        &[vec![
            taken("ours", ours.lone()),
            passed("announces nothing", ours.middle()),
            passed("to another port", other.lone()),
            taken("first", ours.first()),
            passed("to another port, with the same id", other.lone()),
            taken("which takes nothing back", ours.middle()),
        ]],
    )
}

#[test]
fn headers_that_are_cut_short_are_malformed() -> Result<()> {
    let v6 = Datagram::new(Outer::sample_v6(VNI, &[]), 7);
    let malformed = |name, frame: Vec<u8>| case(name, frame, PASS, Counter::Malformed);
    judge(
        &Settings::default(),
        &[vec![
            malformed("within the fragment header", v6.middle()[..14 + 40 + 7].to_vec()),
            passed("within UDP", v6.first()[..14 + 48 + 7].to_vec()),
            passed("within UDP over IPv4", Datagram::ours(7).first()[..14 + 20 + 7].to_vec()),
            passed("and nothing was announced", Datagram::ours(7).middle()),
        ]],
    )
}

#[test]
fn an_announcement_is_not_believed_for_ever() -> Result<()> {
    for entry in ENTRIES {
        let mut program = XdpProgram::load(entry, &Settings { fragments: true, ..Settings::default() })?;
        let socket = xdp_socket();
        program.set_socket(0, &socket)?;
        let ours = Datagram::ours(7);
        check(&program, &[taken("first", ours.first())])?;
        let age = Duration::from_nanos(FRAGMENT_LIFETIME);
        assert_eq!(program.age_announcements(age / 2)?, 1);
        check(&program, &[taken("middle", ours.middle())])?;
        assert_eq!(program.age_announcements(age / 2)?, 1);
        check(&program, &[passed("too late", ours.last())])?;
        assert_eq!(program.age_announcements(age)?, 0);
    }
    Ok(())
}

#[test]
fn a_flood_of_first_fragments_stays_within_the_map_and_the_newest_are_known() -> Result<()> {
    let mut program = XdpProgram::load(PROGRAM, &Settings { fragments: true, ..Settings::default() })?;
    let socket = xdp_socket();
    program.set_socket(0, &socket)?;
    for id in 0..40_000 {
        let outcome = program.run(&Datagram::ours(id).first())?;
        assert_eq!(outcome.action, REDIRECT);
    }
    assert!(program.age_announcements(Duration::ZERO)? <= 16_384);
    check(&program, &[taken("newest", Datagram::ours(39_999).middle())])
}

#[test]
fn fragments_are_stamped_as_whole_packets_are() -> Result<()> {
    let mut program =
        XdpProgram::load(PROGRAM, &Settings { fragments: true, stamp: true, ..Settings::default() })?;
    let socket = xdp_socket();
    program.set_socket(0, &socket)?;
    let ours = Datagram::ours(7);
    for frame in [ours.first(), ours.middle(), ours.last()] {
        let outcome = program.run(&frame)?;
        assert_eq!((outcome.action, outcome.metadata.len()), (REDIRECT, 8));
        assert_eq!(outcome.frame, frame);
    }
    Ok(())
}
