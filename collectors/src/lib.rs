//! Gets facts from a live machine, with their provenance, in the snapshot's formats.
//!
//! A collector transcribes: it never filters what it finds nor judges it, it turns its own failures into
//! data (a table that could not be read is *absent* with a reason, never empty), and it changes nothing on
//! the machine: no module is loaded, no table is created by looking at it.
//!
//! `netlink`, `conntrack`, `ipvs`, `wireguard` and `proc` read the kernel themselves; `reference` lists the commands for the rest,
//! `tools` runs them with the bounds of `exec`. `capture` puts both together for one network namespace,
//! `namespaces` finds those of a node, `node` captures them all, and `bundle` puts captures and their manifest
//! into one snapshot. `cluster` is the API server, and agents on its nodes.

pub mod bundle;
pub mod exec;
pub mod guard;
pub mod reference;
pub mod tools;

#[cfg(feature = "cluster")]
pub mod cluster;

// The node side. It runs on Linux only; the client side compiles everywhere.
#[cfg(target_os = "linux")]
pub mod capture;
#[cfg(target_os = "linux")]
mod cni;
#[cfg(target_os = "linux")]
pub mod conntrack;
#[cfg(target_os = "linux")]
pub mod ipvs;
#[cfg(target_os = "linux")]
pub mod namespaces;
#[cfg(target_os = "linux")]
pub mod netlink;
#[cfg(target_os = "linux")]
pub mod node;
#[cfg(target_os = "linux")]
pub mod proc;
#[cfg(target_os = "linux")]
mod routing_daemon;
#[cfg(target_os = "linux")]
mod runtime;
#[cfg(target_os = "linux")]
pub mod wireguard;

mod clock;
mod spool;

pub use bundle::{Bundle, Space};
#[cfg(target_os = "linux")]
pub use capture::{Target, capture_netns};
pub use clock::now;
pub use exec::Limits;
pub use spool::{random, spool};
pub use tools::Captured;
