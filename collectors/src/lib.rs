//! Gets facts from a live machine, with their provenance, in the snapshot's formats.
//!
//! A collector transcribes: it never filters what it finds nor judges it, it turns its own failures into
//! data (a table that could not be read is *absent* with a reason, never empty), and it changes nothing on
//! the machine: no module is loaded, no table is created by looking at it.
//!
//! `reference` lists the commands, `exec` runs one with bounds, `tools` captures a network namespace with
//! them, `bundle` puts captures and their manifest into one snapshot.

pub mod bundle;
pub mod exec;
pub mod reference;
pub mod tools;

mod clock;

pub use bundle::{Bundle, Space};
pub use exec::Limits;
pub use tools::{Captured, Target, capture_netns};
