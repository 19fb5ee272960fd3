//! How much a snapshot may hold before it is refused.

/// Bounds on what is read. They are far above any real cluster and far below what hurts a laptop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of all kinds.
    pub entries: usize,
    /// Bytes of one file. Files of a directory are mapped, not read, and have this limit too.
    pub file_bytes: u64,
    /// Bytes of an unpacked archive in all. Does not hold for a directory nor for a plain tar on disk, which are mapped.
    pub total_bytes: u64,
    /// Bytes of an unpacked archive that are held in memory; what is larger goes into a temporary file.
    pub held_bytes: u64,
    /// How many times larger than the archive its content may be ...
    pub ratio: u64,
    /// ... once it is larger than this. Small archives of repeated text compress very well.
    pub ratio_from: u64,
    /// Bytes of a path.
    pub path_bytes: usize,
    /// Folders in a path.
    pub path_depth: usize,
    /// Links followed for one path, as in the kernel.
    pub links: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            file_bytes: 2 << 30,
            total_bytes: 32 << 30,
            held_bytes: 1 << 30,
            ratio: 1000,
            ratio_from: 256 << 20,
            path_bytes: 1024,
            path_depth: 32,
            links: 40,
        }
    }
}
