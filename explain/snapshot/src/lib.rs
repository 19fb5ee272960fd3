//! The facts of a captured cluster dataplane, and how each artifact format is read.
//!
//! A snapshot is a set of raw files in the formats the standard tools print, plus a manifest that says
//! where each came from and what is absent and why (`knet.snapshot/v1`). This crate turns bytes into
//! facts. It does no IO: somebody hands it the bytes. It never judges, and it never confuses a table
//! that is empty with a table nobody could look at (see [`fact::Fact`]).

pub mod artifact;
pub mod fact;
pub mod id;
pub mod manifest;
pub mod row;
pub mod store;

pub mod cluster;
pub mod node;

pub mod bridge;
pub mod conntrack;
pub mod fdb;
pub mod ipset;
pub mod ipvs;
pub mod kernel_trace;
pub mod link;
pub mod neigh;
pub mod nexthop;
pub mod nft;
pub mod route;
pub mod routing_daemon;
pub mod rule;
pub mod socket;
pub mod sysctl;
pub mod tc;
pub mod wireguard;
pub mod xfrm;
pub mod xtsave;

mod index;
mod json;
mod lazy;
mod lines;
mod namespace;
mod open;
mod protocol;
mod time;

pub use fact::{Fact, Problem};
pub use row::{Row, Table};
pub use store::{NetnsId, Snapshot};
