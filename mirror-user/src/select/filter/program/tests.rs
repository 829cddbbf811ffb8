//! Programs of every kind, run alone and together.

use super::{alone::LOOPS, *};

const fn encoded(code: u16, jt: u8, jf: u8, k: u32) -> Encoded {
    Encoded { code, jt, jf, k }
}

const ACCEPT: Encoded = encoded(0x06, 0, 0, 262_144);
const REJECT: Encoded = encoded(0x06, 0, 0, 0);

fn run(program: &[Encoded], bytes: &[u8], wire_len: u32) -> u32 {
    let program = Program::new(program).expect("a valid program");
    let alone = program.run(bytes, wire_len);
    // Between packets that are empty.
    let mut packets: [Packet<'_>; TOGETHER] = [(&[], 0); TOGETHER];
    packets[7] = (bytes, wire_len);
    assert_eq!(program.run_together(&packets, TOGETHER) >> 7 & 1 == 1, alone != 0);
    alone
}

/// What `tcpdump -ddd tcp port 443` prints for Ethernet, without IPv6.
fn tcp_port_443() -> Vec<Encoded> {
    vec![
        encoded(0x28, 0, 0, 12),
        encoded(0x15, 0, 8, 0x0800),
        encoded(0x30, 0, 0, 23),
        encoded(0x15, 0, 6, 6),
        encoded(0x28, 0, 0, 20),
        encoded(0x45, 4, 0, 0x1fff),
        encoded(0xb1, 0, 0, 14),
        encoded(0x48, 0, 0, 14),
        encoded(0x15, 0, 1, 443),
        ACCEPT,
        REJECT,
    ]
}

fn tcp_packet(options: usize, port: u16) -> Vec<u8> {
    let mut packet = vec![0; 14 + 20 + options + 20];
    packet[12..14].copy_from_slice(&[8, 0]);
    packet[14] = 0x45 + u8::try_from(options / 4).unwrap();
    packet[23] = 6;
    packet[14 + 20 + options..][..2].copy_from_slice(&port.to_be_bytes());
    packet
}

#[test]
fn a_usual_filter_matches_its_packets_only() {
    let program = tcp_port_443();
    for options in [0, 4, 40] {
        assert_eq!(run(&program, &tcp_packet(options, 443), 60), 262_144);
        assert_eq!(run(&program, &tcp_packet(options, 444), 60), 0);
    }
    let mut fragment = tcp_packet(0, 443);
    fragment[21] = 1;
    assert_eq!(run(&program, &fragment, 60), 0);
}

#[test]
fn truncated_packets_do_not_match() {
    let packet = tcp_packet(8, 443);
    for len in 0..14 + 20 + 8 + 2 {
        assert_eq!(run(&tcp_port_443(), &packet[..len], 60), 0, "{len} bytes");
    }
    // An offset beyond any packet.
    let far = [encoded(0x01, 0, 0, u32::MAX), encoded(0x40, 0, 0, u32::MAX), ACCEPT];
    assert_eq!(run(&far, &packet, 60), 0);
}

#[test]
fn the_length_is_that_on_the_wire() {
    let longer_than_99 = [encoded(0x80, 0, 0, 0), encoded(0x25, 0, 1, 99), ACCEPT, REJECT];
    assert_eq!([run(&longer_than_99, &[0; 20], 100), run(&longer_than_99, &[0; 20], 99)], [262_144, 0]);
}

#[test]
fn computations_have_32_bits() {
    let with = |code: u16, a: u32, k: u32| {
        run(&[encoded(0x00, 0, 0, a), encoded(code, 0, 0, k), encoded(0x16, 0, 0, 0)], &[], 0)
    };
    assert_eq!(with(0x04, u32::MAX, 2), 1);
    assert_eq!(with(0x14, 1, 2), u32::MAX);
    assert_eq!(with(0x24, 1 << 31, 2), 0);
    assert_eq!([with(0x34, 7, 2), with(0x94, 7, 2)], [3, 1]);
    assert_eq!([with(0x44, 5, 2), with(0x54, 7, 2), with(0xa4, 7, 2)], [7, 2, 5]);
    assert_eq!([with(0x64, 1, 4), with(0x74, 16, 4), with(0x64, 1, 32), with(0x74, 1, 99)], [16, 1, 0, 0]);
    assert_eq!(with(0x84, 1, 0), u32::MAX);
}

#[test]
fn registers_and_memory_keep_their_values() {
    // M[3] = 7; X = 5; M[4] = X; A = M[3]; X = M[4]; A -= X; X = A; A = 0; A = X; A == X?
    let program = [
        encoded(0x00, 0, 0, 7),
        encoded(0x02, 0, 0, 3),
        encoded(0x01, 0, 0, 5),
        encoded(0x03, 0, 0, 4),
        encoded(0x60, 0, 0, 3),
        encoded(0x61, 0, 0, 4),
        encoded(0x1c, 0, 0, 0),
        encoded(0x07, 0, 0, 0),
        encoded(0x00, 0, 0, 0),
        encoded(0x87, 0, 0, 0),
        encoded(0x1d, 0, 1, 0),
        encoded(0x16, 0, 0, 0),
        REJECT,
    ];
    assert_eq!(run(&program, &[], 0), 2);
}

#[test]
fn division_by_an_index_of_0_does_not_match() {
    assert_eq!(run(&[encoded(0x00, 0, 0, 8), encoded(0x3c, 0, 0, 0), ACCEPT], &[], 0), 0);
}

#[test]
fn a_jump_may_go_between_a_load_and_its_test() {
    // A = 9, then a jump over the load: 9 is not the byte at 0, but the value tested for.
    let program = [
        encoded(0x00, 0, 0, 9),
        encoded(0x05, 0, 0, 1),
        encoded(0x30, 0, 0, 0),
        encoded(0x15, 0, 1, 9),
        ACCEPT,
        REJECT,
    ];
    assert_eq!(run(&program, &[1], 1), 262_144);
}

#[test]
fn backward_jumps_are_limited() {
    // A += 1 until it is 5, from an index that counts along; then the same without an end.
    let until = |end: u32| {
        [
            encoded(0x00, 0, 0, 0),
            encoded(0x04, 0, 0, 1),
            encoded(0x15, 1, 0, end),
            encoded(0x05, 0, 0, (-3_i32).cast_unsigned()),
            encoded(0x16, 0, 0, 0),
        ]
    };
    assert_eq!([run(&until(5), &[], 0), run(&until(LOOPS), &[], 0)], [5, LOOPS]);
    assert_eq!([run(&until(u32::MAX), &[], 0), run(&until(0), &[], 0)], [0, 0]);
}

#[test]
fn invalid_programs_are_refused() {
    let refused = |program: &[Encoded]| Program::new(program).expect_err("refused");
    assert_eq!(refused(&[]), Invalid::End);
    assert_eq!(refused(&[encoded(0x00, 0, 0, 1)]), Invalid::End);
    assert_eq!(refused(&[encoded(0x05, 0, 0, 1), REJECT]), Invalid::Jump { at: 0 });
    assert_eq!(refused(&[encoded(0x05, 0, 0, 1 << 20), REJECT]), Invalid::Jump { at: 0 });
    assert_eq!(refused(&[encoded(0x05, 0, 0, (-2_i32).cast_unsigned()), REJECT]), Invalid::Jump { at: 0 });
    assert_eq!(refused(&[encoded(0x15, 0, 1, 0), REJECT]), Invalid::Jump { at: 0 });
    assert_eq!(refused(&[encoded(0x02, 0, 0, 16), REJECT]), Invalid::Memory { at: 0 });
    assert_eq!(refused(&[encoded(0x34, 0, 0, 0), REJECT]), Invalid::Division { at: 0 });
    for code in [0x38, 0x08, 0xb4, 0x65, 0x1e, 0x0f, 0x62, 0x100, 0xffff] {
        assert_eq!(refused(&[encoded(code, 0, 0, 1), REJECT]), Invalid::Opcode { at: 0, code });
    }
    assert_eq!(refused(&vec![REJECT; 70_000]), Invalid::Long(70_000));
}

proptest::proptest! {
    #[test]
    fn any_program_over_any_bytes_is_refused_or_ends(
        program in proptest::collection::vec((0..0x100_u16, 0..4_u8, 0..4_u8, 0..64_u32), 1..20),
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
        wire_len: u32,
    ) {
        let mut program: Vec<_> =
            program.into_iter().map(|(code, jt, jf, k)| encoded(code, jt, jf, k)).collect();
        program.push(ACCEPT);
        if let Ok(program) = Program::new(&program) {
            let packets: [Packet<'_>; TOGETHER] =
                std::array::from_fn(|number| (bytes.get(number..).unwrap_or_default(), wire_len));
            let together = program.run_together(&packets, TOGETHER);
            for (number, (bytes, wire_len)) in packets.into_iter().enumerate() {
                proptest::prop_assert_eq!(together >> number & 1 == 1, program.run(bytes, wire_len) != 0);
            }
        }
    }

    #[test]
    fn only_as_many_packets_match_as_there_are(count in 0..=TOGETHER) {
        let program = Program::new(&[ACCEPT]).expect("a valid program");
        let matched = program.run_together(&[(&[], 0); TOGETHER], count);
        proptest::prop_assert_eq!(matched.count_ones() as usize, count);
        proptest::prop_assert_eq!(matched.trailing_ones() as usize, count);
    }
}
