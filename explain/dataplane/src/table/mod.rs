//! Tables compiled from facts: what is looked up, and how.

pub mod connection;
pub mod fdb;
pub mod fib;
pub mod ipset;
pub mod ipvs;
pub mod link;
pub mod neigh;
pub mod nft;
pub mod program;
pub mod socket;
pub mod source;
pub mod sysctl;
pub(crate) mod tracking;
pub mod xt;
