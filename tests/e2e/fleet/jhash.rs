//! The hash of nftables' `jhash`, computed apart from the kernel.

/// `jhash IP saddr . udp sport mod MODULUS seed SEED` of an IPv4 packet: net/netfilter/nft_hash.c hashes the
/// two fields as they are in the packet, the second padded to 32 bits, and scales the hash to the modulus.
pub(crate) fn of(source: [u8; 4], port: u16, modulus: u32, seed: u32) -> u32 {
    let [high, low] = port.to_be_bytes();
    let hash = jhash_of_8_bytes([source, [high, low, 0, 0]], seed);
    // reciprocal_scale() in include/linux/kernel.h.
    let scaled = (u64::from(hash) * u64::from(modulus)) >> 32;
    u32::try_from(scaled).unwrap_or(modulus)
}

/// jhash() in include/linux/jhash.h, lookup3 of Bob Jenkins, for a key that its last step takes whole.
fn jhash_of_8_bytes(key: [[u8; 4]; 2], seed: u32) -> u32 {
    const INITIAL: u32 = 0xdead_beef;
    let start = INITIAL.wrapping_add(8).wrapping_add(seed);
    let [mut a, mut b] = key.map(|bytes| start.wrapping_add(u32::from_le_bytes(bytes)));
    let mut c = start;
    let mix =
        |into: &mut u32, with: u32, bits: u32| *into = (*into ^ with).wrapping_sub(with.rotate_left(bits));
    mix(&mut c, b, 14);
    mix(&mut a, c, 11);
    mix(&mut b, a, 25);
    mix(&mut c, b, 16);
    mix(&mut a, c, 4);
    mix(&mut b, a, 14);
    mix(&mut c, b, 24);
    c
}
