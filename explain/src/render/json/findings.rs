//! Findings as documents: the code, the sentence, and the facts behind it.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::convert::Names;
use super::model;
use crate::findings::{Finding, Found, Socket, WhyNoRoute, WhySource};
use crate::names::Whose;
use crate::owner::Owner;
use crate::render::{findings as said, words};

/// One finding.
pub fn finding(names: Names<'_>, finding: &Finding) -> model::Finding {
    let words = said::say(&finding.what);
    model::Finding {
        code: finding.what.code().to_owned(),
        severity: said::severity(finding.severity).to_owned(),
        text: words.text,
        next: words.next,
        data: data(&finding.what),
        evidence: names.all_evidence(&finding.evidence),
    }
}

fn socket(socket: &Socket) -> Value {
    json!({ "address": socket.0, "port": socket.1 })
}

fn owner(owner: &Option<Owner>) -> Option<&'static str> {
    owner.map(words::owner)
}

fn whose(whose: &Whose) -> Value {
    match whose {
        Whose::Pod(pod) => json!({ "pod": pod.to_string() }),
        Whose::ClusterIp(service) | Whose::LoadBalancer(service) | Whose::ExternalIp(service) => {
            json!({ "service": service.to_string() })
        }
        Whose::Node(node) => json!({ "node": node }),
        Whose::Netns(_) => json!({ "netns": true }),
    }
}

/// The facts of a finding.
fn data(found: &Found) -> Value {
    match found {
        Found::StaleEndpoint {
            node,
            service,
            to,
            whose: of,
            owner: by,
        } => json!({
            "node": node, "service": service.as_ref().map(ToString::to_string), "to": socket(to),
            "belongs_to": of.as_ref().map(whose), "owner": owner(by),
        }),
        Found::NoEndpoints {
            service,
            selector,
            not_ready,
            nearest,
        } => json!({
            "service": service.to_string(),
            "selector": selector.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<serde_json::Map<_, _>>(),
            "not_ready": not_ready.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "nearest": nearest.iter().map(|near| json!({
                "pod": near.pod.to_string(),
                "labels": near.labels.iter()
                    .map(|l| json!({ "key": l.key, "wanted": l.wanted, "has": l.has }))
                    .collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        }),
        Found::MissingEndpoint { node, service, missing } => json!({
            "node": node, "service": service.to_string(), "missing": missing.iter().map(socket).collect::<Vec<_>>(),
        }),
        Found::HintsIgnored { node, service, used } => json!({
            "node": node, "service": service.to_string(), "used": used.iter().map(socket).collect::<Vec<_>>(),
        }),
        Found::Shadowed {
            node,
            service,
            owner: by,
            to,
        } => json!({
            "node": node, "service": service.to_string(), "owner": owner(by), "to": socket(to),
        }),
        Found::TwoBackEnds {
            node,
            legacy,
            nft,
            family_v6,
        } => json!({
            "node": node, "legacy_rules": legacy, "nft_rules": nft, "family": if *family_v6 { 6 } else { 4 },
        }),
        Found::BridgeNetfilter {
            node,
            bridge,
            key,
            value,
        } => json!({
            "node": node, "bridge": bridge, "sysctl": key, "value": value,
        }),
        Found::ForeignMark {
            node,
            table,
            chain,
            owner: by,
            set,
        } => json!({
            "node": node, "table": table, "chain": chain, "owner": owner(by), "sets": set,
        }),
        Found::Captured { node, count, to } => json!({
            "node": node, "count": count,
            "to": to.iter().map(|(server, n, unreplied)| json!({
                "server": socket(server), "count": n, "unreplied": unreplied,
            })).collect::<Vec<_>>(),
        }),
        Found::Mtu { node, dev, mtu, sender } => {
            json!({ "node": node, "device": dev, "mtu": mtu, "sender_mtu": sender })
        }
        Found::WrongNeighbour {
            node,
            dev,
            addr,
            has,
            should,
        } => json!({
            "node": node, "device": dev, "address": addr, "has": has.map(|m| m.to_string()),
            "should_be": should.map(|m| m.to_string()),
        }),
        Found::BadRoute {
            node,
            kind,
            prefix,
            covers,
        } => json!({
            "node": node, "kind": words::route_kind(*kind), "prefix": prefix.map(|p| p.to_string()), "pods_of": covers,
        }),
        Found::RpFilter {
            node,
            dev,
            src,
            back,
            value,
        } => json!({
            "node": node, "device": dev, "source": src, "way_back": back, "rp_filter": value,
        }),
        Found::ForwardingOff { node, key } | Found::LocalnetOff { node, key } => json!({ "node": node, "sysctl": key }),
        Found::NoBgpRoute {
            node,
            of,
            dst,
            daemon,
            why,
        } => {
            let (why, session, state, error) = match why {
                WhyNoRoute::SessionDown { session, state, error } => {
                    ("session-down", Some(session), Some(state), error.as_ref())
                }
                WhyNoRoute::NoSession => ("no-session", None, None, None),
                WhyNoRoute::NotAnnounced { session } => ("not-announced", Some(session), None, None),
                WhyNoRoute::NotInKernel { from } => ("not-in-kernel", Some(from), None, None),
            };
            let daemon = words::daemon(*daemon).0;
            json!({
                "node": node, "pods_of": of, "address": dst, "daemon": daemon, "why": why, "session": session,
                "state": state, "error": error,
            })
        }
        Found::PodRoute {
            node,
            of,
            cidr,
            via,
            should,
        } => json!({
            "node": node, "pods_of": of, "cidr": cidr.to_string(), "via": via,
            "should_be": should.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
        }),
        Found::VxlanRemote {
            node,
            dev,
            mac,
            has,
            should,
            of,
        } => json!({
            "node": node, "device": dev, "mac": mac.to_string(), "has": has, "should_be": should, "tunnel_of": of,
        }),
        Found::SourceRanges {
            node,
            service,
            src,
            ranges,
        } => json!({
            "node": node, "service": service.to_string(), "source": src,
            "ranges": ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
        Found::NotOnLink { place, addr, of } => json!({ "place": place, "address": addr, "node": of }),
        Found::NoKubeProxy { node, others } => json!({ "node": node, "nodes_with_rules": others }),
        Found::NoDefaultRoute { pod } => json!({ "pod": pod }),
        Found::LocalPolicy {
            node,
            service,
            on,
            external,
            health_check,
        } => json!({
            "node": node, "service": service.to_string(), "endpoints_on": on,
            "policy": if *external { "externalTrafficPolicy" } else { "internalTrafficPolicy" },
            "health_check_node_port": health_check,
        }),
        Found::SourceChanged {
            node,
            to,
            why,
            owner: by,
        } => json!({
            "node": node, "to": to, "owner": owner(by),
            "why": match why {
                WhySource::ExternalCluster => "external-traffic-policy-cluster",
                WhySource::OffClusterSource => "source-is-no-pod",
                WhySource::MasqueradeAll => "masquerade-all",
                WhySource::Hairpin => "hairpin",
                WhySource::LeavesPodNetwork => "leaves-pod-network",
                WhySource::EntersPodNetwork => "enters-pod-network",
                WhySource::Marked => "marked",
                WhySource::Rule => "rule",
            },
        }),
        Found::Hairpin { node, port, bridge } => json!({ "node": node, "port": port, "bridge": bridge }),
        Found::PolicyRule {
            node,
            priority,
            table,
            dev,
            owner: by,
        } => json!({
            "node": node, "priority": priority, "table": table, "device": dev, "owner": owner(by),
        }),
        Found::RedirectDead {
            pod,
            from,
            to,
            owner: by,
        } => json!({
            "pod": pod, "from_port": from, "to_port": to, "owner": owner(by),
        }),
        Found::Filtered {
            node,
            table,
            chain,
            owner: by,
            policy,
            docker,
            undo,
        } => json!({
            "node": node, "table": table, "chain": chain, "owner": owner(by), "policy": policy, "docker": docker,
            "undo": undo,
        }),
        Found::PingService { service, ready } => json!({ "service": service.to_string(), "ready_endpoints": ready }),
        Found::WrongPort { service, port, ports } => json!({
            "service": service.to_string(), "port": port,
            "ports": ports.iter().map(|(name, port, proto)| json!({ "name": name, "port": port, "proto": proto }))
                .collect::<Vec<_>>(),
        }),
    }
}
