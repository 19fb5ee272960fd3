//! Any bytes as any artifact: the parsers return, and every row stands inside the file.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a failure is what is looked for")]

#[path = "../../tests/touch/mod.rs"]
mod touch;

/// Beside those of a namespace.
const OTHERS: &[&str] = &[
    "manifest.json",
    "nodes/n/node.json",
    "nodes/n/netns.json",
    "cluster/nodes.json",
    "cluster/pods.json",
    "cluster/services.json",
    "cluster/endpointslices.json",
    "cluster/networkpolicies.json",
    "cluster/namespaces.json",
    "cluster/configmaps.json",
    "cluster/ingresses.json",
    touch::TRACE,
];

// Every input is offered to every parser: a seed needs no name.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for file in knet_snapshot::artifact::name::ALL {
        touch::read(&format!("nodes/n/host/{file}"), bytes);
    }
    for path in OTHERS {
        touch::read(path, bytes);
    }
});
