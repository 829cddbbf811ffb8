//! tcpdump is the authority: what it prints of a packet is what is printed here, after time and origin.

mod alloc;
mod kinds;
mod sink;
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

#[test]
fn damaged_traffic_is_printed_as_tcpdump_prints_it() {
    const ROUNDS: usize = 60;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        // xorshift64 (Marsaglia, 2003): the same damage on every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 32).expect("32 bits") % below
    };
    let seeds = mixed().expect("frames");
    let mut damaged = Vec::new();
    for seed in std::iter::repeat_n(&seeds, ROUNDS).flatten() {
        let mut bytes = seed.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len().min(100));
            bytes[at] ^= u8::try_from(1 + random(255)).expect("a byte");
        }
        let here = if random(4) == 0 { 1 + random(bytes.len()) } else { bytes.len() };
        damaged.push(outer(&bytes[..here], bytes.len()));
    }
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
fn packets_within_packets_end_where_nobody_nests_them() {
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

proptest! {
    #[test]
    fn no_bytes_are_too_odd_to_be_printed(
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
        prop_assert!(text.ends_with('\n'));
        prop_assert!(text.chars().all(|c| c.is_ascii_graphic() || matches!(c, ' ' | '\n' | '\t')));
    }
}
