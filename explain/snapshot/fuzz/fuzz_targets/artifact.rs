//! Any bytes as any artifact: the parsers return, and every row stands inside the file.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a failure is what is looked for")]

#[path = "../../tests/touch/mod.rs"]
mod touch;

/// One path for each parser. A seed is offered to all of them.
const PATHS: &[&str] = &[
    "manifest.json",
    "nodes/n/node.json",
    "nodes/n/netns.json",
    "nodes/n/host/link.json",
    "nodes/n/host/addr.json",
    "nodes/n/host/route.json",
    "nodes/n/host/rule.json",
    "nodes/n/host/nexthop.json",
    "nodes/n/host/neigh.json",
    "nodes/n/host/fdb.json",
    "nodes/n/host/bridge-link.json",
    "nodes/n/host/bridge-vlan.json",
    "nodes/n/host/iptables-nft.save",
    "nodes/n/host/ipset.save",
    "nodes/n/host/conntrack.txt",
    "nodes/n/host/sockets.txt",
    "nodes/n/host/sysctl.txt",
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

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for path in PATHS {
        touch::read(path, bytes);
    }
});
