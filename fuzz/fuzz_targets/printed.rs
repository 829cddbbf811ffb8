//! Any bytes as an inner packet: it is printed in every style, without control characters.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mirror_fuzz::Near;
use mirror_user::{
    Captured, Tunnels, decap,
    sink::print::{Dump, Lines, Style},
    wire::vxlan,
};

static TEMPLATES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| [mirror_fuzz::packets(), mirror_fuzz::announced()].concat());

fuzz_target!(|input: (Near<'_>, bool, u8, u16)| {
    let (near, link, verbosity, missing) = input;
    let inner = near.bytes(&TEMPLATES);
    let Ok(len) = u16::try_from(inner.len() + 36) else { return };
    // Ethernet, IPv4 and UDP to the tunnel's port, VXLAN.
    let mut outer = vec![0; 50];
    outer[12] = 0x08;
    outer[14] = 0x45;
    outer[16..18].copy_from_slice(&len.to_be_bytes());
    outer[22..24].copy_from_slice(&[255, 17]);
    outer[36..38].copy_from_slice(&vxlan::PORT.to_be_bytes());
    outer[38..40].copy_from_slice(&(len - 20).to_be_bytes());
    outer[42] = 0x08;
    outer.extend_from_slice(&inner);
    let wire_len = u32::try_from(outer.len()).expect("16 bits") + u32::from(missing);
    let captured = Captured::new(&outer, wire_len, u64::from(missing));
    let Ok(frame) = decap::decapsulate_frame(captured, &Tunnels::default()) else { return };
    let style = Style::default().link(link).verbosity(verbosity % 4).dump(Dump::HexAscii, link).outer(link);
    let mut text = String::new();
    // Twice, because the printer keeps state from the first.
    let mut lines = Lines::new(style);
    lines.line(&frame, &mut text);
    lines.line(&frame, &mut text);
    assert!(text.ends_with('\n'));
    assert!(text.chars().all(|c| c.is_ascii_graphic() || matches!(c, ' ' | '\n' | '\t')), "{text:?}");
});
