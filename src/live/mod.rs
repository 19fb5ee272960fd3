//! From a running cluster to the files of a snapshot.
//!
//! `index` keeps what is needed of the API's objects while they stream by, `select` says which nodes a trace needs,
//! `merge` takes a node's own archive into the whole, `ledger` is the manifest while it grows, `program` is what is
//! sent to a node, `gather` runs it all and leaves nothing behind.

mod gather;
mod index;
mod ledger;
mod merge;
mod program;
mod select;

pub use gather::{Gathered, client, gather, namespace, owner, runtime};
pub use index::Index;
pub use merge::{Files, Sink};
pub use select::{named, needed};
