//! Which nodes are read. Names are resolved here only to know where to look; the trace resolves them itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Index;

/// The nodes of both ends of a trace, and of a service's endpoints. Empty when no name is known.
#[must_use]
pub fn needed(index: &Index, ends: &[&str], namespace: &str) -> BTreeSet<String> {
    let mut nodes = BTreeSet::new();
    for end in ends {
        add(index, end, namespace, &mut nodes);
    }
    nodes.retain(|node| index.nodes.contains_key(node));
    nodes
}

fn add(index: &Index, end: &str, namespace: &str, nodes: &mut BTreeSet<String>) {
    let (kind, rest) = match end.split_once('/') {
        Some((kind @ ("pod" | "svc" | "service" | "node" | "ip"), rest)) => (kind, rest),
        _ => ("", end),
    };
    if kind == "node" {
        let (name, port) = without_port(rest.split('/').next().unwrap_or_default());
        nodes.insert(name.to_owned());
        add_node_port(index, port, nodes);
        return;
    }
    let (host, port) = without_port(rest);
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        add_address(index, address, nodes);
        add_node_port(index, port, nodes);
        return;
    }
    let key = match host.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (namespace.to_owned(), host.to_owned()),
    };
    if kind != "svc" && kind != "service" {
        nodes.extend(index.pods.get(&key).map(|pod| pod.node.clone()));
    }
    if kind != "pod" {
        nodes.extend(index.endpoints.get(&key).into_iter().flatten().cloned());
    }
}

fn add_address(index: &Index, address: IpAddr, nodes: &mut BTreeSet<String>) {
    for (name, node) in &index.nodes {
        if node.addresses.contains(&address) {
            nodes.insert(name.clone());
        }
    }
    nodes.extend(
        index
            .pods
            .values()
            .filter(|pod| pod.addresses.contains(&address))
            .map(|pod| pod.node.clone()),
    );
    for (key, service) in &index.services {
        if service.addresses.contains(&address) {
            nodes.extend(index.endpoints.get(key).into_iter().flatten().cloned());
        }
    }
}

fn add_node_port(index: &Index, port: Option<u16>, nodes: &mut BTreeSet<String>) {
    let Some(port) = port else { return };
    for (key, service) in &index.services {
        if service.node_ports.contains(&port) {
            nodes.extend(index.endpoints.get(key).into_iter().flatten().cloned());
        }
    }
}

/// `name:80`, `[::1]:80`; a bare IPv6 address has no port. A port by name is not a node port.
fn without_port(text: &str) -> (&str, Option<u16>) {
    if text.parse::<IpAddr>().is_ok() {
        return (text, None);
    }
    match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, None),
    }
}

/// The nodes of `--nodes` and `--selector`; all without either.
///
/// # Errors
/// The names that are not there.
pub fn named(index: &Index, nodes: &[String], selector: &[String]) -> Result<BTreeSet<String>, String> {
    let missing: Vec<&str> = nodes
        .iter()
        .filter(|node| !index.nodes.contains_key(*node))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        return Err(missing.join(", "));
    }
    let matches = |name: &String| {
        let labels = &index.nodes[name].labels;
        selector.iter().all(|term| match term.split_once('=') {
            Some((key, value)) => labels
                .get(key.trim_end_matches('='))
                .is_some_and(|v| v == value.trim_start_matches('=')),
            None => labels.contains_key(term),
        })
    };
    let among = index
        .nodes
        .keys()
        .filter(|name| nodes.is_empty() || nodes.contains(name));
    Ok(among.filter(|name| matches(name)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn index() -> Index {
        let mut index = Index::default();
        for (n, ip) in [("n1", "192.0.2.1"), ("n2", "192.0.2.2"), ("n3", "192.0.2.3")] {
            index.see(
                "nodes",
                &json!({"metadata": {"name": n, "labels": {"zone": n}}, "status": {"addresses": [{"address": ip}]}}),
            );
        }
        index.see("pods", &json!({"metadata": {"name": "a", "namespace": "default", "uid": "u"}, "spec": {"nodeName": "n1"}, "status": {"podIP": "10.0.0.1"}}));
        index.see("services", &json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"nodePort": 30080}]}}));
        index.see("endpointslices", &json!({"metadata": {"namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}}, "endpoints": [{"nodeName": "n2"}]}));
        index
    }

    #[test]
    fn both_ends_and_the_endpoints_are_needed() {
        let index = index();
        let ask = |src, dst| {
            needed(&index, &[src, dst], "default")
                .into_iter()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(ask("a", "shop/web"), "n1 n2");
        assert_eq!(ask("pod/default/a", "svc/shop/web:http"), "n1 n2");
        assert_eq!(ask("10.0.0.1", "10.96.0.1:80"), "n1 n2");
        assert_eq!(ask("ip/203.0.113.1", "node/n3:30080"), "n2 n3");
        assert_eq!(ask("node/n1", "192.0.2.3:30080"), "n1 n2 n3");
        assert_eq!(ask("nobody", "[2001:db8::1]:80"), "");
    }

    #[test]
    fn nodes_are_chosen_by_name_and_label() {
        let index = index();
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(named(&index, &[], &[]).map(|n| n.len()), Ok(3));
        assert_eq!(named(&index, &[], &words(&["zone=n2"])).map(|n| n.len()), Ok(1));
        assert_eq!(
            named(&index, &words(&["n1"]), &words(&["zone"])).map(|n| n.len()),
            Ok(1)
        );
        assert_eq!(named(&index, &words(&["n9"]), &[]), Err("n9".to_owned()));
    }
}
