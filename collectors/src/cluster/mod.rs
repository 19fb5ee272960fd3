//! A live cluster: the objects of its API server, and its nodes through short-lived agents.
//!
//! `connect` speaks for the user's kubeconfig, `lists` reads objects page by page, `pod` is what an agent looks like,
//! `agent` starts one, runs the collector in it and takes it away again, `cleanup` takes away what others left.

mod agent;
mod cleanup;
mod connect;
mod error;
mod lists;
mod object;
mod pod;
mod state;

pub use agent::{Agents, Capture};
pub use cleanup::{Leftover, cleanup};
pub use connect::{Access, connect, contexts};
pub use error::ClusterError;
pub use lists::{Listed, RESOURCES, Resource, Watch, list, names};
pub use object::without_secrets;
pub use pod::{AgentOptions, How};

pub use kube::Client;

/// Label of everything this program makes in a cluster.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "kubectl-knet");
/// Label with the id of the run that made it.
pub const RUN: &str = "knet.dev/run";
/// Annotation: who ran it.
pub const OWNER: &str = "knet.dev/owner";
/// Annotation: after this time (seconds since 1970) nobody needs it any more.
pub const EXPIRES: &str = "knet.dev/expires";
