//! `include/linux/jhash.h`: a `jhash` with its seed in the rule is the same number on every machine.

const INITIAL: u32 = 0xdead_beef;

/// `jhash(key, len, seed)`
pub(super) fn jhash(key: &[u8], seed: u32) -> u32 {
    let start = INITIAL
        .wrapping_add(u32::try_from(key.len()).unwrap_or_default())
        .wrapping_add(seed);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = key;
    while rest.len() > 12 {
        a = a.wrapping_add(word(rest, 0));
        b = b.wrapping_add(word(rest, 4));
        c = c.wrapping_add(word(rest, 8));
        (a, b, c) = mix(a, b, c);
        rest = &rest[12..];
    }
    if rest.is_empty() {
        return c;
    }
    a = a.wrapping_add(word(rest, 0));
    b = b.wrapping_add(word(rest, 4));
    c = c.wrapping_add(word(rest, 8));
    last(a, b, c)
}

/// `reciprocal_scale`
pub(super) fn scale(hash: u32, modulus: u32) -> u32 {
    u32::try_from((u64::from(hash) * u64::from(modulus)) >> 32).unwrap_or_default()
}

/// Four bytes, little endian, zeros behind the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    (0..4).fold(0, |n, i| {
        n | u32::from(bytes.get(at + i).copied().unwrap_or_default()) << (8 * i)
    })
}

const fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

const fn last(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks that a 6.18 kernel set with `jhash ... mod 65536 seed 0xabc offset 2` for a packet from 10.1.0.2
    /// port 40000 to 10.2.0.2 port 5353 over UDP.
    #[test]
    fn the_kernel_hashes_the_same() {
        let hash = |key: &[u8]| scale(jhash(key, 0xabc), 65536) + 2;
        let (src, dst, dport) = ([10, 1, 0, 2], [10, 2, 0, 2], [0x14, 0xe9, 0, 0]);
        assert_eq!(hash(&src), 16406);
        assert_eq!(hash(&[src, dport].concat()), 46183);
        assert_eq!(hash(&[src, [17, 0, 0, 0], dport].concat()), 48257);
        assert_eq!(hash(&dport[..2]), 33082);
        assert_eq!(hash(&[src, dst, [0x9c, 0x40, 0, 0], dport].concat()), 58254);
        assert_eq!(hash(&[17]), 36054);
    }
}
