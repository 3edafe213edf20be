//! The two digests of this directory. Neither resists an attacker, and neither has to: the directory is the user's own.

/// FNV-1a, 128 bit: stands in a file name for an id that is too long to be one.
pub(super) fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = (1 << 88) + 0x13b;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// Tells a damaged record from a whole one.
///
/// Every step (xor, multiplication by an odd number, xor-shift) is a bijection of the hash, so damage confined to one
/// aligned 8-byte word is found always and any other with a chance of 1 - 2^-64. Words and not bytes, because every
/// load and save pays for it.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, word: [u8; 8]| {
        let hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(PRIME);
        hash ^ (hash >> 32)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(OFFSET_BASIS ^ bytes.len() as u64, |hash, word| step(hash, *word));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(hash, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_agrees_with_its_published_vectors() {
        assert_eq!(fnv1a_128(b""), 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(fnv1a_128(b"a"), 0xd228cb696f1a8caf78912b704e4a8964);
        assert_eq!(fnv1a_128(b"foobar"), 0x343e1662793c64bf6f0d3597ba446f18);
    }

    #[test]
    fn a_checksum_sees_every_single_bit_and_every_cut() {
        let whole = (0..37).collect::<Vec<u8>>();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(&damaged), checksum(&whole), "bit {bit}");
        }
        for end in 0..whole.len() {
            assert_ne!(checksum(&whole[..end]), checksum(&whole), "cut at {end}");
        }
    }
}
