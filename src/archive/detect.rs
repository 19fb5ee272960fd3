//! What a file is, by its first bytes.

/// What was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A tar archive, plain.
    Tar,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Something else, in words.
    Other(&'static str),
}

/// Looks at the head of a file; 512 bytes are enough.
pub(super) fn kind(head: &[u8]) -> Kind {
    const KNOWN: &[(&[u8], &str)] = &[
        (b"PK\x03\x04", "it is a zip file (repack it as .tar.gz or .tar.zst)"),
        (b"\xfd7zXZ\0", "it is xz-compressed (repack it as .tar.gz or .tar.zst)"),
        (b"BZh", "it is bzip2-compressed (repack it as .tar.gz or .tar.zst)"),
        (
            b"\x04\x22\x4d\x18",
            "it is lz4-compressed (repack it as .tar.gz or .tar.zst)",
        ),
        (
            b"{",
            "it looks like JSON (pass the directory or archive that holds manifest.json)",
        ),
    ];
    if head.starts_with(&[0x1f, 0x8b]) {
        return Kind::Gzip;
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(head) {
        return Kind::Zstd;
    }
    if is_tar_header(head) {
        return Kind::Tar;
    }
    for (magic, what) in KNOWN {
        if head.starts_with(magic) {
            return Kind::Other(what);
        }
    }
    Kind::Other("it is neither a tar archive nor gzip nor zstd")
}

/// RFC 8878 §3.1.2: `0x184D2A5?`, little endian. pzstd writes one first.
pub(super) fn is_skippable_frame(head: &[u8]) -> bool {
    head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18]
}

/// The checksum of the first header; true of v7, ustar, GNU and pax alike. An empty archive is two
/// blocks of zeros and has none.
fn is_tar_header(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    if block.iter().all(|&b| b == 0) {
        return true;
    }
    let field = block[148..156]
        .split(|&b| b == 0 || b == b' ')
        .find(|part| !part.is_empty());
    let Some(said) = field
        .and_then(|f| std::str::from_utf8(f).ok())
        .and_then(|s| u32::from_str_radix(s, 8).ok())
    else {
        return false;
    };
    let sum = |(i, &b): (usize, &u8)| {
        if (148..156).contains(&i) {
            u32::from(b' ')
        } else {
            u32::from(b)
        }
    };
    block.iter().enumerate().map(sum).sum::<u32>() == said
}
