//! Relative sequence numbers.

use etherparse::PacketBuilder;

use super::{made::*, *};

/// Prints frames, each with its origin.
fn printed(style: Style, frames: &[Outer]) -> Vec<String> {
    let mut lines = Lines::new(style.time(Time::None));
    let line = |frame: &Outer| {
        let mut text = String::new();
        lines.line(&frame.frame(), &mut text);
        text.split_once("Flags ").expect("a segment").1.trim_end().to_owned()
    };
    frames.iter().map(line).collect()
}

fn data(source: u16, sequence: u32, acknowledgment: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv4(HOSTS.0, HOSTS.1, 64)
        .tcp(source, 9999, sequence, 1024)
        .ack(acknowledgment)
        .write(&mut frame, b"data")
        .expect("a frame");
    frame
}

#[test]
fn numbers_are_relative_to_the_first_of_the_connection_or_absolute() {
    let frames: Vec<_> = session(9999, &[b"hello"]).iter().map(|inner| outer(inner, inner.len())).collect();
    let relative = printed(Style::default(), &frames);
    assert_eq!(relative[1], "[S.], seq 7000, ack 4294967276, win 1024, length 0");
    assert_eq!(relative[2], "[.], ack 1, win 1024, length 0");
    assert_eq!(relative[3], "[.], seq 1:6, ack 1, win 1024, length 5");
    let absolute = printed(Style::default().absolute_sequence_numbers(true), &frames);
    assert_eq!(absolute[3], "[.], seq 4294967276:4294967281, ack 7001, win 1024, length 5");
}

#[test]
fn connections_of_two_origins_are_separate() {
    let (first, second) = (data(4000, 1_000, 50), data(4000, 9_000, 90));
    let from = |vni, source, inner: &[u8]| Outer::new(source, vni, inner);
    let hosts = [[10, 0, 0, 1], [10, 0, 0, 2]];
    let frames = [
        from(7, hosts[0], &first),
        from(8, hosts[0], &second),
        from(7, hosts[1], &second),
        from(7, hosts[0], &first),
        from(8, hosts[0], &second),
        from(7, hosts[1], &second),
    ];
    let lines = printed(Style::default(), &frames);
    assert!(lines[..3].iter().all(|line| !line.contains("seq 0:4")), "{lines:?}");
    assert!(lines[3..].iter().all(|line| line.contains("seq 0:4, ack 1,")), "{lines:?}");
}

#[test]
fn a_flood_of_connections_evicts_none_of_another_origin() {
    let tenant = Outer::new([10, 0, 0, 1], 7, &data(4000, 1_000, 50));
    let mut lines = Lines::new(Style::default().time(Time::None));
    let mut text = String::new();
    lines.line(&tenant.frame(), &mut text);
    for number in 0..100_000_u32 {
        let source = u16::try_from(number % 60_000).expect("a port");
        text.clear();
        lines.line(&Outer::new([10, 0, 0, 9], number / 60_000, &data(source, 0, 1)).frame(), &mut text);
    }
    text.clear();
    lines.line(&tenant.frame(), &mut text);
    assert!(text.contains("seq 0:4, ack 1,"), "{text}");
}

#[test]
fn selective_acknowledgments_are_relative_to_the_base_that_tcpdump_uses() {
    let with_blocks = |source: u16, destination: u16, acknowledgment: u32| {
        let [a, b, c, d] = (acknowledgment.wrapping_add(100)).to_be_bytes();
        let [e, f, g, h] = (acknowledgment.wrapping_add(300)).to_be_bytes();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(MACS.0, MACS.1)
            .ipv4(HOSTS.0, HOSTS.1, 64)
            .tcp(source, destination, 5_000, 1024)
            .ack(acknowledgment)
            .options_raw(&[1, 1, 5, 10, a, b, c, d, e, f, g, h])
            .expect("options")
            .write(&mut frame, b"")
            .expect("a frame");
        frame
    };
    let frames: Vec<_> =
        [with_blocks(4000, 9999, 70), with_blocks(4000, 9999, 90), with_blocks(9999, 400, 10)]
            .into_iter()
            .chain(session(9999, &[b"one", b"two", b"three"]))
            .chain([
                with_blocks(40_999, 9999, 7_003),
                with_blocks(9999, 9999, 9),
                with_blocks(9999, 9999, 19),
            ])
            .collect();
    compare(&frames);
}
