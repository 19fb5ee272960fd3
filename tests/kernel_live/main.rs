//! The collectors against the tools they stand for, on namespaces that hold one of everything.

#[path = "../support/netns.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod netns;

mod formats;
