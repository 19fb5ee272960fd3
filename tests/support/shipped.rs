//! The shipped captures as files in memory, so that a test can change them before they are opened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use knet_snapshot::Snapshot;
use knet_snapshot::store::{Blob, SnapshotError};
use kubectl_knet::archive::{self, Limits, Source};

/// Path inside the snapshot, and bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files of a capture below `fixtures/`.
pub fn files(set: &str) -> Files {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fixtures", set, "snapshot.tar.zst"]
        .iter()
        .collect();
    let opened = archive::open(&Source::Path(path), &Limits::default()).expect("the fixture opens");
    opened
        .files
        .into_iter()
        .map(|(path, blob)| (path, (*blob).as_ref().to_vec()))
        .collect()
}

/// Opens files as a snapshot.
pub fn snapshot(files: Files) -> Result<Snapshot, SnapshotError> {
    Snapshot::from_files(
        files
            .into_iter()
            .map(|(path, bytes)| (path, Arc::new(bytes) as Blob))
            .collect(),
    )
}

/// A small generator with a seed that can be printed: splitmix64.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
