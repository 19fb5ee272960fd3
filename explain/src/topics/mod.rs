//! Questions that are pure confusion, answered from the capture.

mod client;

pub mod nodeport;
pub mod vip;
