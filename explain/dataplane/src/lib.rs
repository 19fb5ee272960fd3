//! What Linux does with a packet, given the facts of a snapshot.
//!
//! The crate knows no Kubernetes and does no IO. Facts are compiled once into a [`world::World`]; a
//! [`walk`] then takes a packet from where it starts to where it ends, and its answer back, one kernel
//! decision at a time. Whatever the kernel decides by chance, and whatever the snapshot does not say,
//! is put to the [`choice::Oracle`]; [`choice::explore`] replays the walk for every answer.
//!
//! Layers, lower ones first: values (`tri`, `packet`, `skb`, `choice`, `trace`), tables compiled from
//! facts (`table`), the world that holds them, stages that decide one thing each, and the walk, the only
//! place that knows the order of stages.

pub mod choice;
pub mod nat_range;
pub mod packet;
pub mod skb;
pub mod stage;
pub mod table;
pub mod trace;
pub mod tri;
pub mod walk;
pub mod world;
