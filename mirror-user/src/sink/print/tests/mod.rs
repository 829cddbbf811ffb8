//! tcpdump is the reference: after time and origin the text must be the same.

mod alloc;
mod connections;
mod kinds;
mod links;
mod made;
mod over_ip;
mod over_tcp;
mod over_udp;
mod sink;
mod verdicts;
mod witness;

use mirror_lab::mixed::mixed;
use proptest::prelude::*;

use super::*;
use crate::sink::testing::Outer;
use witness::{agree, outer};

fn style(flags: &[&str]) -> Style {
    flags.iter().fold(Style::default().time(Time::None), |style, flag| match *flag {
        "-e" => style.link(true),
        "-v" => style.verbosity(1),
        "-vv" => style.verbosity(2),
        "-vvv" => style.verbosity(3),
        "-x" => style.dump(Dump::Hex, false),
        "-xx" => style.dump(Dump::Hex, true),
        "-X" => style.dump(Dump::HexAscii, false),
        "-XX" => style.dump(Dump::HexAscii, true),
        "-A" => style.dump(Dump::Ascii, false),
        "-AA" => style.dump(Dump::Ascii, true),
        other => panic!("{other}"),
    })
}

fn frames() -> Vec<Outer> {
    mixed().expect("frames").iter().map(|inner| outer(inner, inner.len())).collect()
}

#[test]
fn mixed_traffic_is_printed_as_tcpdump_prints_it() {
    for flags in [&[][..], &["-e"], &["-v"], &["-vv"], &["-e", "-vvv"]] {
        agree(&frames(), flags);
    }
}

#[test]
fn bytes_are_dumped_as_tcpdump_dumps_them() {
    for flags in [["-x"], ["-xx"], ["-X"], ["-XX"], ["-A"], ["-AA"]] {
        agree(&frames(), &flags);
    }
}

#[test]
fn every_prefix_of_mixed_traffic_is_printed_as_tcpdump_prints_it() {
    let prefixes: Vec<_> = mixed()
        .expect("frames")
        .iter()
        .flat_map(|inner| {
            (1..=inner.len().min(180)).map(|len| outer(&inner[..len], inner.len())).collect::<Vec<_>>()
        })
        .collect();
    for flags in [&[][..], &["-e", "-vvv"]] {
        agree(&prefixes, flags);
    }
}

/// Each frame several times with bytes changed and missing, the same on every run.
fn damaged(seeds: &[Vec<u8>], rounds: usize) -> Vec<Outer> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 32).expect("32 bits") % below
    };
    let mut damaged = Vec::new();
    for seed in std::iter::repeat_n(seeds, rounds).flatten() {
        let mut bytes = seed.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len().min(100));
            bytes[at] ^= u8::try_from(1 + random(255)).expect("a byte");
        }
        let here = if random(4) == 0 { 1 + random(bytes.len()) } else { bytes.len() };
        damaged.push(outer(&bytes[..here], bytes.len()));
    }
    damaged
}

#[test]
fn damaged_traffic_is_printed_as_tcpdump_prints_it() {
    let damaged = damaged(&mixed().expect("frames"), 60);
    for flags in [&[][..], &["-e", "-v"], &["-vv"], &["-vvv"]] {
        agree(&damaged, flags);
    }
}

/// An IPv4 header of a packet of this length, with this protocol in it.
fn ipv4(len: usize, protocol: u8) -> [u8; 20] {
    let [high, low] = u16::try_from(len).expect("a packet's length").to_be_bytes();
    [0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
}

#[test]
fn nested_packets_are_printed_to_a_limit() {
    const HEADERS: usize = 3_000;
    let mut inner = vec![0; 12];
    inner.extend([0x08, 0x00]);
    (1..=HEADERS).rev().for_each(|headers| inner.extend(ipv4(20 * headers, 4)));
    for style in [Style::default(), Style::default().link(true).verbosity(3)] {
        let mut text = String::new();
        Lines::new(style.time(Time::None)).line(&outer(&inner, inner.len()).frame(), &mut text);
        assert_eq!(text.matches("10.0.0.1 > 10.0.0.2: ").count(), 32);
        assert!(text.ends_with("[nested too deeply]\n"), "{text}");
    }
}

/// The number that selects a payload's protocol: a port, an IP protocol, an EtherType, an LLC address, or a
/// SNAP number.
fn announced() -> impl Strategy<Value = fn(&[u8]) -> Vec<u8>> {
    macro_rules! frames {
        ($($make:expr),* $(,)?) => {
            prop::sample::select(vec![$((|payload: &[u8]| $make(payload)) as fn(&[u8]) -> Vec<u8>),*])
        };
    }
    macro_rules! datagram {
        ($port:literal) => {
            |payload: &[u8]| made::udp(($port, $port), payload)
        };
    }
    macro_rules! segment {
        ($port:literal) => {
            |payload: &[u8]| made::session($port, &[payload])[3].clone()
        };
    }
    macro_rules! packet {
        ($protocol:literal) => {
            |payload: &[u8]| made::ipv4_of($protocol, payload)
        };
    }
    macro_rules! typed {
        ($kind:literal) => {
            |payload: &[u8]| made::ethernet($kind, payload)
        };
    }
    macro_rules! cisco {
        ($kind:literal) => {
            |payload: &[u8]| made::snap([0, 0, 0x0c], $kind, payload)
        };
    }
    frames![
        segment!(21),
        segment!(22),
        segment!(23),
        segment!(25),
        segment!(53),
        segment!(80),
        segment!(179),
        segment!(554),
        segment!(6379),
        segment!(2049),
        datagram!(2049),
        datagram!(53),
        datagram!(67),
        datagram!(69),
        datagram!(88),
        datagram!(123),
        datagram!(161),
        datagram!(319),
        datagram!(514),
        datagram!(520),
        datagram!(521),
        datagram!(547),
        datagram!(1812),
        datagram!(1985),
        datagram!(3784),
        datagram!(4789),
        datagram!(4790),
        datagram!(5060),
        datagram!(5353),
        datagram!(6081),
        datagram!(6343),
        datagram!(6635),
        datagram!(6696),
        datagram!(8472),
        datagram!(49152),
        packet!(47),
        packet!(88),
        packet!(89),
        packet!(103),
        packet!(112),
        packet!(132),
        typed!(0x8863),
        typed!(0x8864),
        typed!(0x880b),
        typed!(0x8809),
        typed!(0x8847),
        typed!(0x886f),
        typed!(0x8870),
        typed!(0x888e),
        typed!(0x88a2),
        typed!(0x88cc),
        typed!(0x88f7),
        typed!(0x8902),
        typed!(0x8947),
        typed!(0x894f),
        typed!(0x9000),
        typed!(0xfefe),
        typed!(0x1111),
        cisco!(0x2000),
        cisco!(0x2003),
        cisco!(0x2004),
        cisco!(0x0111),
        cisco!(0x010b),
        |payload: &[u8]| made::llc(0x42, payload),
        |payload: &[u8]| made::llc(0xfe, payload),
    ]
}

/// Text that is safe on a terminal.
fn is_harmless(text: &str) -> bool {
    text.ends_with('\n') && text.chars().all(|c| c.is_ascii_graphic() || matches!(c, ' ' | '\n' | '\t'))
}

proptest! {
    #[test]
    fn any_payload_is_printed(
        make in announced(),
        payload in prop::collection::vec(
            prop_oneof![any::<u8>(), 0_u8..4, prop::sample::select(b"\r\n *$+SH".to_vec())],
            0..120,
        ),
        cut in 0_usize..40,
        (link, verbosity) in (any::<bool>(), 0_u8..4),
    ) {
        let inner = make(&payload);
        let here = &inner[..inner.len().saturating_sub(cut).max(1)];
        let mut text = String::new();
        let mut lines = Lines::new(Style::default().link(link).verbosity(verbosity));
        lines.line(&outer(here, inner.len()).frame(), &mut text);
        prop_assert!(is_harmless(&text), "{text:?}");
    }

    #[test]
    fn any_bytes_are_printed(
        start in prop::sample::select(mixed().expect("frames")),
        kept in 0_usize..80,
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        missing in 0_usize..2000,
        (link, verbosity) in (any::<bool>(), 0_u8..4),
    ) {
        let inner = [&start[..start.len().min(kept)], &bytes].concat();
        let style = Style::default().link(link).verbosity(verbosity).dump(Dump::Ascii, true);
        let mut text = String::new();
        Lines::new(style).line(&outer(&inner, inner.len() + missing).frame(), &mut text);
        prop_assert!(is_harmless(&text), "{text:?}");
    }
}
