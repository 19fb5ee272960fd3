//! What procfs says of a network namespace, written as the tools print it.
//!
//! `/proc/net` shows the namespace of the thread group's leader; a thread that entered another one reads
//! `/proc/thread-self/net`. `/proc/sys/net` always follows the thread.

pub mod sockets;
pub mod sysctl;

use std::fs;
use std::io;

/// A file of `/proc/net` as this thread sees it.
///
/// # Errors
/// What reading it said.
pub fn net(name: &str) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/thread-self/net/{name}"))
}

/// Whether this thread's namespace has such a file.
#[must_use]
pub fn has(name: &str) -> bool {
    fs::exists(format!("/proc/thread-self/net/{name}")).unwrap_or(false)
}
