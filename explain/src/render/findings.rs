//! Findings in words: a sentence, and what to do or look at next.

mod network;
mod services;

use std::net::IpAddr;

use crate::findings::{Found, Severity, Socket};
use crate::names::Whose;
use crate::owner::Owner;
use crate::render::words;

/// A finding in words.
pub struct Said {
    /// What was found.
    pub text: String,
    /// What to do or look at next.
    pub next: Option<String>,
}

fn said(text: impl Into<String>, next: impl Into<String>) -> Said {
    let next = next.into();
    Said {
        text: text.into(),
        next: (!next.is_empty()).then_some(next),
    }
}

/// The word of a severity.
#[must_use]
pub const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

fn socket(socket: &Socket) -> String {
    match (socket.0, socket.1) {
        (addr, None) => addr.to_string(),
        (IpAddr::V4(addr), Some(port)) => format!("{addr}:{port}"),
        (IpAddr::V6(addr), Some(port)) => format!("[{addr}]:{port}"),
    }
}

fn sockets(all: &[Socket]) -> String {
    let mut out = all.iter().take(4).map(socket).collect::<Vec<_>>().join(", ");
    if all.len() > 4 {
        out.push_str(&format!(" and {} more", all.len() - 4));
    }
    out
}

fn by(owner: Option<Owner>) -> String {
    owner.map_or_else(|| "a rule".to_owned(), |o| words::owner(o).to_owned())
}

/// ` (written by flannel)`, where it can be told.
fn written(owner: Option<Owner>) -> String {
    owner.map_or_else(String::new, |o| format!(" (written by {})", words::owner(o)))
}

fn whose(whose: &Whose) -> String {
    match whose {
        Whose::Pod(pod) => format!("pod {pod}"),
        Whose::ClusterIp(service) | Whose::LoadBalancer(service) | Whose::ExternalIp(service) => {
            format!("service {service}")
        }
        Whose::Node(node) => format!("node {node}"),
        Whose::Netns(_) => "a namespace without a pod".to_owned(),
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "no node".to_owned(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

/// Says a finding.
#[must_use]
pub fn say(found: &Found) -> Said {
    match found {
        Found::StaleEndpoint {
            node,
            service: Some(service),
            to,
            whose: of,
            ..
        } => {
            let what = match of {
                Some(of) => format!("{}, which is no ready endpoint of the service", whose(of)),
                None => "an address that no pod has".to_owned(),
            };
            said(
                format!(
                    "kube-proxy on {node} is behind: its rules for {service} still send to {}, {what}.",
                    socket(to)
                ),
                format!(
                    "see whether kube-proxy runs there: kubectl -n kube-system get pods -o wide | grep {node}, then its log"
                ),
            )
        }
        Found::StaleEndpoint {
            node,
            service: None,
            to,
            owner,
            ..
        } => said(
            format!(
                "A rule on {node}{} sends to {}, an address that no pod has: it is left over.",
                written(*owner),
                socket(to)
            ),
            "delete the rule; the program that wrote it did not clean up when the pod went",
        ),
        Found::NoEndpoints {
            service,
            selector,
            not_ready,
            nearest,
        } => services::no_endpoints(service, selector, not_ready, nearest),
        Found::MissingEndpoint { node, service, missing } => said(
            format!(
                "kube-proxy on {node} is behind: {service} has ready endpoints that its rules never send to: {}.",
                sockets(missing)
            ),
            format!("see whether kube-proxy runs on {node}, and its log"),
        ),
        Found::HintsIgnored { node, service, used } => said(
            format!(
                "The rules of {node} send {service} to {}, which topology hints keep for other zones or nodes.",
                sockets(used)
            ),
            "kube-proxy ignores hints when its node had no zone label at start-up: restart it",
        ),
        Found::Shadowed {
            node,
            service,
            owner,
            to,
        } => said(
            format!(
                "On {node} a rule in front of kube-proxy's{} takes the packets of {service} and sends them to {}.",
                written(*owner),
                socket(to)
            ),
            "look for a pod with this hostPort, or delete the rule if none has it",
        ),
        Found::TwoBackEnds {
            node,
            legacy,
            nft,
            family_v6,
        } => {
            let tool = if *family_v6 { "ip6tables" } else { "iptables" };
            said(
                format!(
                    "{node} has rules in both back ends of {tool}: {legacy} legacy and {nft} nft. A packet must pass \
                     both, and each tool shows only its own."
                ),
                format!("compare {tool}-legacy-save with {tool}-nft-save, and flush the one nobody uses"),
            )
        }
        Found::BridgeNetfilter {
            node,
            bridge,
            key,
            value,
        } => {
            let value = value.map_or_else(|| "not there".to_owned(), |v| v.to_string());
            said(
                format!(
                    "{key} on {node} is {value}: the answer crosses bridge {bridge} without meeting conntrack, so it \
                     arrives from the pod's address and the client drops it. Pods on other nodes still work."
                ),
                format!("on {node}: modprobe br_netfilter; sysctl -w {key}=1"),
            )
        }
        Found::ForeignMark {
            node,
            table,
            chain,
            owner,
            set,
        } => {
            let (does, so) = if *set {
                ("sets", "so the server sees a node's address instead of the client's")
            } else {
                (
                    "clears",
                    "so traffic that has to be masqueraded is not, and answers may go astray",
                )
            };
            said(
                format!(
                    "A rule in {table} {chain} of {node}{} {does} kube-proxy's masquerade mark 0x4000, {so}.",
                    written(*owner)
                ),
                "give that rule another mark bit, or change kube-proxy's --iptables-masquerade-bit",
            )
        }
        Found::Captured { node, count, to } => {
            let to: Vec<String> = to
                .iter()
                .map(|(server, n, unreplied)| {
                    format!(
                        "{n} to {}{}",
                        socket(server),
                        if *unreplied { " (no answer seen)" } else { "" }
                    )
                })
                .collect();
            let (plural, stay) = if *count == 1 {
                ("connection", "It stays where it is")
            } else {
                ("connections", "They stay where they are")
            };
            said(
                format!(
                    "{node} already had {count} {plural} from this client to this address and port: {}. {stay}; the \
                     answer above is for a new one.",
                    to.join(", ")
                ),
                "add --sport to trace one of them",
            )
        }
        Found::Mtu { node, dev, mtu, sender } => said(
            format!(
                "{dev} on {node} carries {mtu} bytes, the sender's device {sender}: large packets need the ICMP \
                 error that tells the sender, small ones pass."
            ),
            "give pods the smaller MTU in the CNI's configuration",
        ),
        Found::WrongNeighbour {
            node,
            dev,
            addr,
            has,
            should,
        } => network::wrong_neighbour(node, dev, *addr, *has, *should),
        Found::BadRoute {
            node,
            kind,
            prefix,
            covers,
        } => network::bad_route(node, *kind, *prefix, covers.as_deref()),
        Found::RpFilter {
            node,
            dev,
            src,
            back,
            value,
        } => network::rp_filter(node, dev, *src, back.as_deref(), *value),
        Found::ForwardingOff { node, key } => said(
            format!("{key} is 0 on {node}: nothing enters or leaves its pods by this family."),
            format!("on {node}: sysctl -w {key}=1, and find what set it to 0"),
        ),
        Found::NoBgpRoute {
            node,
            of,
            dst,
            daemon,
            why,
        } => network::no_bgp_route(node, of, *dst, *daemon, why),
        Found::PodRoute {
            node,
            of,
            cidr,
            via,
            should,
        } => network::pod_route(node, of, cidr, *via, should),
        Found::VxlanRemote {
            node,
            dev,
            mac,
            has,
            should,
            of,
        } => {
            let has = has.map_or_else(|| "nobody".to_owned(), |a| a.to_string());
            said(
                format!("{dev} on {node} sends frames for {mac} to {has}, but that is the tunnel of {of} at {should}."),
                format!(
                    "on {node}: bridge fdb replace {mac} dev {dev} dst {should} self permanent, or restart the CNI's agent"
                ),
            )
        }
        Found::NoKubeProxy { node, others } => said(
            format!(
                "{node} has no rules for services at all, while {} have: kube-proxy does not run there, or its rules were flushed.",
                list(others)
            ),
            format!("kubectl -n kube-system get pods -o wide | grep {node}"),
        ),
        Found::NoDefaultRoute { pod } => said(
            format!(
                "{pod} has no default route: it reaches what its own routes name, and no service, node or outside address."
            ),
            "delete the pod so that the CNI sets it up again",
        ),
        Found::LocalPolicy {
            node,
            service,
            on,
            external,
            health_check,
        } => services::local_policy(node, service, on, *external, *health_check),
        Found::SourceChanged { node, to, why, owner } => services::source_changed(node, to, *why, *owner),
        Found::Hairpin { node, port, bridge } => {
            let bridge = bridge.as_deref().unwrap_or("the bridge");
            said(
                format!(
                    "The pod reaches itself through {bridge} of {node}, whose port {port} has hairpin off: the frame is dropped."
                ),
                format!(
                    "set hairpinMode in the CNI's configuration; at once on {node}: bridge link set dev {port} hairpin on"
                ),
            )
        }
        Found::PolicyRule {
            node,
            priority,
            table,
            dev,
            owner,
        } => {
            let table = table.map_or_else(String::new, |t| format!(", table {t}"));
            let dev = dev.as_ref().map(|d| format!(", by {d}")).unwrap_or_default();
            let owner = owner.map(|o| format!(" ({})", words::owner(o))).unwrap_or_default();
            said(
                format!(
                    "On {node} policy-routing rule {priority} decides the way before table main{table}{dev}{owner}."
                ),
                format!(
                    "on {node}: ip rule show; a rule to {{pod and service subnets}} lookup main with a lower priority keeps them out"
                ),
            )
        }
        Found::RedirectDead { pod, from, to, owner } => said(
            format!(
                "Inside {pod} a rule{} redirects port {from} to {to}, where nobody listens.",
                written(*owner)
            ),
            "a sidecar is not running or not ready; see the pod's containers",
        ),
        Found::Filtered {
            node,
            table,
            chain,
            owner,
            policy,
            docker,
            undo,
        } => {
            if *docker {
                return said(
                    format!(
                        "The policy of {table} {chain} on {node} is DROP and no rule accepts the packet. dockerd sets it when it turns forwarding on (chain DOCKER-USER is there)."
                    ),
                    format!(
                        "on {node}: iptables -P FORWARD ACCEPT, or let the CNI accept its pods; dockerd has \"ip-forward-no-drop\""
                    ),
                );
            }
            let what = if *policy { "The policy" } else { "A rule" };
            said(
                match owner {
                    Some(owner) => format!(
                        "{what} of {table} {chain} on {node} ends it, written by {}.",
                        words::owner(*owner)
                    ),
                    None => {
                        format!("{what} of {table} {chain} on {node} ends it. Its name does not tell who wrote it.")
                    }
                },
                match (owner, undo) {
                    (Some(Owner::KubeRouter | Owner::Calico | Owner::Cilium | Owner::Antrea | Owner::Weave), _) => {
                        "look at the NetworkPolicies that select the pod".to_owned()
                    }
                    (None, Some(undo)) => format!("on {node}, once you know why it is there: {undo}"),
                    _ => String::new(),
                },
            )
        }
        Found::PingService { service, ready } => said(
            format!(
                "{service} does not answer ping, and never tells whether its backends work: rules for services match a \
                 protocol and a port. It has {ready} ready endpoints."
            ),
            format!("trace to a port of it: svc/{service}:PORT"),
        ),
        Found::WrongPort { service, port, ports } => {
            let ports: Vec<String> = ports
                .iter()
                .map(|(name, port, proto)| match name {
                    Some(name) => format!("{port}/{proto} ({name})"),
                    None => format!("{port}/{proto}"),
                })
                .collect();
            said(
                format!("{service} has no port {port}: it has {}.", ports.join(", ")),
                "",
            )
        }
        Found::NotOnLink { place, addr, of } => said(
            format!(
                "{place} looks for {addr} on its own link, but {addr} is on {of}: a route or netmask of {place} covers \
                 addresses that are not there."
            ),
            format!("see the address and the routes of {place}: ip addr; ip route get {addr}"),
        ),
        Found::SourceRanges {
            node,
            service,
            src,
            ranges,
        } => services::source_ranges(node, service, *src, ranges),
        Found::LocalnetOff { node, key } => said(
            format!(
                "{key} is 0 on {node}: a packet from 127.0.0.1 may not leave by another device, so 127.0.0.1:NodePort cannot work."
            ),
            format!(
                "use the node's address, or on {node}: sysctl -w {key}=1 (kube-proxy sets it unless --iptables-localhost-nodeports=false)"
            ),
        ),
    }
}
