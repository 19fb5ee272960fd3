//! Every artifact format, read from lines that real tools printed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]
#![allow(missing_docs, reason = "a test says what it is about in its name")]

mod cluster;
mod conntrack;
mod frames;
mod ipset;
mod json;
mod kernel_trace;
mod lines;
mod link;
mod route;
mod rule;
mod socket;
mod store;
mod sysctl;
mod xtsave;

use std::sync::Arc;

use knet_snapshot::store::Blob;
use knet_snapshot::{Problem, Row, Table};

/// A sample that stands beside the tests.
macro_rules! sample {
    ($file:literal) => {
        include_bytes!(concat!("../samples/", $file)).as_slice()
    };
}
pub(crate) use sample;

/// The rows, when nothing in the file was refused.
#[track_caller]
fn all<T>(table: Result<Table<T>, Problem>) -> Vec<T> {
    let table = table.unwrap();
    assert_eq!(table.problems, [], "every row can be read");
    table.rows
}

/// The only row of a JSON list or line file.
#[track_caller]
fn one<T>(table: Result<Table<T>, Problem>) -> T {
    let mut rows = all(table);
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

fn path(name: &str) -> Arc<str> {
    Arc::from(name)
}

fn text(bytes: &[u8], at: Row) -> &str {
    let start = usize::try_from(at.start).unwrap();
    std::str::from_utf8(&bytes[start..start + at.len as usize]).unwrap()
}

fn blob(bytes: &[u8]) -> Blob {
    Arc::new(bytes.to_vec())
}
