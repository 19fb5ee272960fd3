//! Stages: each decides one thing about a packet. They know tables and values, never one another; only
//! the walk knows their order.

pub mod conntrack;
pub mod ipvs;
pub mod nat;
pub mod netfilter;
pub mod routing;
