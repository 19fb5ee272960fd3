//! The collectors on live namespaces: the same as the tools say, no change to what they look at, and a small
//! cluster captured node by node with the program itself, traced, and tried with real connections.

#[path = "../support/netns.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod netns;

mod bare;
mod cluster;
#[cfg(feature = "cluster")]
#[path = "../support/fake_api.rs"]
#[allow(dead_code, reason = "faults are for other tests")]
mod fake_api;
mod formats;
mod interrupted;
mod routers;
mod unchanged;
mod vanishing;

use std::process::{Command, Output};

/// Runs the program, and waits for it.
fn knet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-knet"))
        .args(arguments)
        .env_remove("KNET_SNAPSHOT")
        .output()
        .expect("it runs")
}
