//! The member of a group for a flow: both halves choose by the same hash and the same table.

/// Slots of [`Assignment`]: a flow has the one of its [`hash()`] modulo this number.
pub const SLOTS: usize = 1 << 14;

/// Member by slot, see [`MAP_ASSIGNMENT`](crate::mirror::MAP_ASSIGNMENT); [`NO_MEMBER`] if none is up.
pub type Assignment = [u8; SLOTS];

/// The slot of flows with this hash.
#[inline(always)]
#[must_use]
pub const fn slot(hash: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 2^14")]
    let slot = (hash % SLOTS as u64) as usize;
    slot
}

/// The outer source port of flows with this hash in VXLAN: one of the dynamic ports, 49152 to 65535 (RFC 7348
/// section 5).
#[inline(always)]
#[must_use]
pub const fn source_port(hash: u64) -> u16 {
    0xc000 | (hash >> 48) as u16
}

/// Slots that no member has.
pub const NO_MEMBER: u8 = u8::MAX;

/// Words that are hashed of a flow over IPv4.
pub type WordsV4 = [u64; 2];
/// Words that are hashed of a flow over IPv6.
pub type WordsV6 = [u64; 5];

/// What is hashed of a flow over IPv4, the same for both directions. Each end is an address and a port, as
/// little-endian loads give them; port 0 for protocols without.
#[inline(always)]
#[must_use]
pub fn words_v4(a: (u32, u16), b: (u32, u16), protocol: u8) -> WordsV4 {
    let end = |(address, port): (u32, u16)| (address as u64) << 16 | port as u64;
    let (a, b) = (end(a), end(b));
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    // 48 bits each, then the protocol and the version.
    [low << 16 | high >> 32, high << 32 | (protocol as u64) << 8 | 4]
}

/// What is hashed of a flow over IPv6, as [`words_v4`]. An address has two words, the first half in the
/// first.
#[inline(always)]
#[must_use]
pub fn words_v6(a: ([u64; 2], u16), b: ([u64; 2], u16), protocol: u8) -> WordsV6 {
    let ([a0, a1], a_port) = a;
    let ([b0, b1], b_port) = b;
    let ordered = a0 < b0 || a0 == b0 && (a1 < b1 || a1 == b1 && a_port <= b_port);
    let end = |port: u16| port as u64;
    if ordered {
        [a0, a1, b0, b1, end(a_port) << 48 | end(b_port) << 32 | (protocol as u64) << 8 | 6]
    } else {
        [b0, b1, a0, a1, end(b_port) << 48 | end(a_port) << 32 | (protocol as u64) << 8 | 6]
    }
}

/// SipHash-1-3 of these words (Aumasson and Bernstein, 2012), keyed by a seed: a sender that does not know it
/// cannot aim at a slot.
#[inline(always)]
#[must_use]
pub fn hash<const N: usize>(seed: u64, words: &[u64; N]) -> u64 {
    siphash([seed, !seed], words)
}

#[inline(always)]
fn siphash<const N: usize>(key: [u64; 2], words: &[u64; N]) -> u64 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let mut i = 0;
    while i < N {
        absorb(&mut state, words[i]);
        i += 1;
    }
    // The last block has the length in bytes.
    absorb(&mut state, ((N * 8) as u64) << 56);
    state[2] ^= 0xff;
    round(&mut state);
    round(&mut state);
    round(&mut state);
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline(always)]
fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard library's own hasher, which says nothing of its algorithm, has been this one since 2016.
    #[test]
    fn it_is_siphash_1_3() {
        use std::hash::{DefaultHasher, Hasher as _};
        let words = [7_u64, u64::MAX, 0x8000_0000_0000_0000];
        let mut reference = DefaultHasher::new();
        words.iter().for_each(|word| reference.write(&word.to_le_bytes()));
        assert_eq!(siphash([0, 0], &words), reference.finish());
        assert_ne!(hash(1, &words), hash(2, &words));
    }

    #[test]
    fn both_directions_have_the_same_words_and_other_flows_do_not() {
        let (client, server) = ((0x0a00_0001, 40_000), (0xc000_0201, 443));
        assert_eq!(words_v4(client, server, 6), words_v4(server, client, 6));
        let same_host = ((0x0a00_0001, 1), (0x0a00_0001, 2));
        assert_eq!(words_v4(same_host.0, same_host.1, 6), words_v4(same_host.1, same_host.0, 6));
        let of = words_v4(client, server, 6);
        for other in [
            words_v4(client, server, 17),
            words_v4((client.0, 40_001), server, 6),
            words_v4((client.0 + 1, 40_000), server, 6),
            words_v4(client, (server.0, 444), 6),
            words_v4(client, (server.0 ^ 1 << 31, 443), 6),
        ] {
            assert_ne!(of, other);
        }
        let (client, server) = (([1, 2], 40_000), ([1, 3], 443));
        assert_eq!(words_v6(client, server, 6), words_v6(server, client, 6));
        assert_ne!(words_v6(client, server, 6), words_v6(([1, 2], 443), ([1, 3], 40_000), 6));
    }
}
