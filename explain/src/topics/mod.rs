//! Questions that are pure confusion, answered from the capture.

mod client;

pub mod clusterip;
pub mod http;
pub mod kube_ipvs0;
pub mod nodeport;
pub mod vip;
