//! Assumptions, unknowns and the model's boundary in words, for text and JSON alike.

use crate::explanation::{Assumed, Assumption, Boundary, Entry, Evidence, Open, Reason, Unknown};

/// One of them.
pub struct Note {
    /// A stable word for its kind.
    pub kind: &'static str,
    /// A sentence.
    pub text: String,
    /// Where it is written.
    pub evidence: Vec<Evidence>,
}

fn plain(kind: &'static str, text: impl Into<String>) -> Note {
    Note {
        kind,
        text: text.into(),
        evidence: Vec::new(),
    }
}

/// Something taken for granted.
#[must_use]
pub fn assumption(assumed: &Assumed) -> Note {
    match assumed {
        Assumed::Walk(assumption) => walk(assumption),
        Assumed::Entry { node, dev, entry } => plain(
            "entry",
            match entry {
                Entry::Given => format!("the packet enters {node} by {dev}, as asked"),
                Entry::GivenNode => {
                    format!("the packet enters {node} by {dev} (--via node/{node}/DEVICE chooses another)")
                }
                Entry::OnSegment => format!(
                    "the client is on the segment of {dev} of {node} and asks there for the destination; say --via \
                     node/NAME for a client that knows where to send"
                ),
                Entry::OwnsDestination => {
                    format!("the packet enters {node} by {dev}: the destination is an address of {node}")
                }
                Entry::HostsDestination => {
                    format!("the packet enters {node} by {dev}: the destination is on {node}")
                }
                Entry::SharesSubnet => format!(
                    "the packet enters {node} by {dev}: of the nodes with an address in the client's subnet it is \
                     the first by name; say --via node/NAME to choose another"
                ),
                Entry::First => format!(
                    "the packet enters {node} by {dev}: nothing tells which node the client's packets come to, so \
                     the first by name is taken; say --via node/NAME to choose"
                ),
            },
        ),
        Assumed::EvenAddresses(n) => plain(
            "dns",
            format!("the client uses each of the {n} addresses that DNS gives for the name alike"),
        ),
        Assumed::TiedByAddress(pod) => plain(
            "tied-by-address",
            format!("the namespace of {pod} is known by the pod's address; netns.json does not name it"),
        ),
    }
}

fn walk(assumption: &Assumption) -> Note {
    match assumption {
        Assumption::SourcePort(port) => plain(
            "source-port",
            format!("a new connection; source port {port} stands for any"),
        ),
        Assumption::SysctlDefault(key, value) => plain(
            "sysctl-default",
            format!("{key} was not captured; the kernel's default {value} is assumed"),
        ),
        Assumption::NoLegacyTables(path) => plain(
            "no-legacy-tables",
            format!("{path} was not captured; taken to be empty, as the node's own is"),
        ),
        Assumption::NoPolicies(path) => plain(
            "no-ipsec-policies",
            format!("{path} was not captured; nothing is taken to be sealed by IPsec there"),
        ),
        Assumption::NeighbourResolves(addr) => plain(
            "neighbour-resolves",
            format!("the neighbour entry of {addr} is missing or old, and is renewed when used"),
        ),
        Assumption::BridgeLearns => plain("bridge-learns", "bridges have learned, or learn, the port of each MAC"),
        Assumption::DefaultRules => plain(
            "default-rules",
            "policy-routing rules were not captured; the three default rules are assumed",
        ),
        Assumption::VethPeerGuessed(dev) => plain(
            "veth-peer",
            format!("the peer of {dev} was matched by interface index alone"),
        ),
        Assumption::OutsideForwards(addr) => plain(
            "outside-forwards",
            format!("{addr}, outside the snapshot, forwards packets as a router should"),
        ),
        Assumption::LimitNotReached => plain("limit", "rate-limiting matches have not used up their limit"),
    }
}

/// Something that could not be told.
#[must_use]
pub fn unknown(open: &Open) -> Note {
    match open {
        Open::Fork(unknown) => fork(unknown),
        Open::End(reason, evidence) => Note {
            kind: "end",
            text: match reason {
                Reason::NotCaptured => "a table that decides here was not captured",
                Reason::NotModelled => "what decides here is not modelled",
                Reason::Userspace => "a program in user space decides here",
                Reason::Program => "a program at the device decides here, and programs are not run",
                Reason::PeerOutside => "the other end of the device is not in the snapshot",
                Reason::HopLimit => "the walk met its limit of hops",
                _ => "what happens here cannot be told from the snapshot",
            }
            .to_owned(),
            evidence: evidence.clone(),
        },
        Open::Truncated(n) => plain(
            "truncated",
            format!("there are more ways than the {n} that were followed"),
        ),
        Open::Problem { artifact, what } => plain("problem", format!("{artifact}: {what}")),
    }
}

fn fork(unknown: &Unknown) -> Note {
    match unknown {
        Unknown::Match(evidence) => Note {
            kind: "match",
            text: "this model cannot tell whether this rule matches".to_owned(),
            evidence: vec![evidence.clone()],
        },
        Unknown::Target(evidence) => Note {
            kind: "target",
            text: "this model does not know what this rule's target does".to_owned(),
            evidence: vec![evidence.clone()],
        },
        Unknown::Table(artifact) => plain("not-captured", format!("{artifact} is asked here and was not captured")),
        Unknown::Sysctl(key) => plain("sysctl", format!("{key} decides here and was not captured")),
        Unknown::ErrorLimit(key) => plain(
            "error-limit",
            format!("{key} rations ICMP errors; whether this one is still sent, no table shows"),
        ),
        Unknown::Patience(seconds) => plain(
            "patience",
            format!("the error comes after about {seconds} s; a client that gives up sooner times out"),
        ),
        Unknown::Program(evidence) => Note {
            kind: "program",
            text: "what XDP and tc programs do with the packet, from this one on".to_owned(),
            evidence: vec![evidence.clone()],
        },
        Unknown::Learned(addr) => plain(
            "learned",
            format!("{addr} does not answer; its MAC is known only since it asked for a neighbour itself, if it did"),
        ),
        Unknown::Session(evidence) => Note {
            kind: "session",
            text: "how old the session with this peer was is not known, and no new one can be made".to_owned(),
            evidence: vec![evidence.clone()],
        },
        Unknown::Outside(what) => plain("outside", (*what).to_owned()),
    }
}

/// Where the model ends.
#[must_use]
pub fn boundary(boundary: &Boundary) -> Note {
    match boundary {
        Boundary::Window { start, end } if start == end || end.is_empty() => {
            plain("window", format!("facts were captured at {start}"))
        }
        Boundary::Window { start, end } => plain("window", format!("facts were captured from {start} to {end}")),
        Boundary::NoWindow => plain("window", "the snapshot does not say when it was captured"),
        Boundary::TcProgram { artifact, dev } => plain("tc", format!("a tc program on {dev} is not run ({artifact})")),
        Boundary::Dataplane {
            node,
            system,
            signs,
            at_work,
        } => plain("dataplane", super::systems::boundary(node, *system, signs, *at_work)),
        Boundary::TcUnknown(artifact) => plain(
            "tc",
            format!("tc filters are not known: {artifact} was not captured, or cannot be read"),
        ),
        Boundary::Underlay => plain(
            "underlay",
            "switches, routers and cloud filters between nodes are not in the snapshot",
        ),
        Boundary::Outside => plain("outside", "what answers outside the cluster is not in the snapshot"),
        Boundary::Ebpf => plain(
            "ebpf",
            "eBPF programs are not run; those of tcx, cgroups, sockets and netfilter are in no artifact",
        ),
        Boundary::Application => plain("application", "what the program behind the socket answers is its own"),
        Boundary::Inconsistent(artifact) => plain(
            "inconsistent",
            format!("{artifact} changed while it was captured, or after"),
        ),
        Boundary::Apart { first, last } => plain("apart", format!("nodes were captured from {first} to {last}")),
    }
}
