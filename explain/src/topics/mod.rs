//! Questions that are pure confusion, answered from the capture.

pub mod nodeport;
