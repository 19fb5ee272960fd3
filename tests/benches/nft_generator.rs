//! The same Services as `nft -j list ruleset` prints them for kube-proxy's nftables mode: one element of
//! `service-ips` and `cluster-ips` each, and a chain with the endpoints.

use std::fmt::Write;

use crate::generator::{ENDPOINTS, Size, cluster_ip, hash, name};

/// The whole ruleset on one line. The same size gives the same bytes.
pub fn ruleset(size: Size) -> String {
    let mut out = String::with_capacity(1 << 20);
    // Writing to a String cannot fail.
    let _ = write_ruleset(&mut out, size);
    out
}

fn write_ruleset(out: &mut String, size: Size) -> std::fmt::Result {
    out.push_str(HEAD);
    let mut handle = 100;
    write!(
        out,
        ",{{\"set\": {{{TABLE}, \"name\": \"cluster-ips\", \"type\": \"ipv4_addr\", \"handle\": 21, \"elem\": ["
    )?;
    for service in 0..size.services {
        let comma = if service == 0 { "" } else { ", " };
        write!(out, "{comma}\"{}\"", cluster_ip(service))?;
    }
    write!(
        out,
        "]}}}},{{\"map\": {{{TABLE}, \"name\": \"service-ips\", \"type\": [\"ipv4_addr\", \"inet_proto\", \"inet_service\"], \
         \"handle\": 22, \"map\": \"verdict\", \"elem\": ["
    )?;
    for service in 0..size.services {
        let comma = if service == 0 { "" } else { ", " };
        write!(
            out,
            "{comma}[{{\"concat\": [\"{}\", \"tcp\", 80]}}, {{\"goto\": {{\"target\": \"{}\"}}}}]",
            cluster_ip(service),
            chain(service)
        )?;
    }
    out.push_str("]}}");
    for service in 0..size.services {
        handle += 1;
        write!(
            out,
            ",{{\"chain\": {{{TABLE}, \"name\": \"{}\", \"handle\": {handle}}}}}",
            chain(service)
        )?;
    }
    out.push_str(RULES);
    for service in 0..size.services {
        handle += 1;
        write!(
            out,
            ",{{\"rule\": {{{TABLE}, \"chain\": \"{}\", \"handle\": {handle}, \"expr\": [{{\"match\": {{\"op\": \"==\", \"left\": \
             {{\"meta\": {{\"key\": \"l4proto\"}}}}, \"right\": \"tcp\"}}}}, {{\"dnat\": {{\"family\": \"ip\", \"addr\": {{\"map\": \
             {{\"key\": {{\"numgen\": {{\"mode\": \"random\", \"mod\": {}, \"offset\": 0}}}}, \"data\": {{\"set\": [",
            chain(service),
            size.endpoints
        )?;
        for endpoint in 0..size.endpoints {
            let comma = if endpoint == 0 { "" } else { ", " };
            let ip = ENDPOINTS[endpoint as usize % ENDPOINTS.len()];
            write!(out, "{comma}[{endpoint}, {{\"concat\": [\"{ip}\", 8080]}}]")?;
        }
        out.push_str("]}}}}}]}}");
    }
    out.push_str("]}\n");
    Ok(())
}

/// `service-HASH-ns/name/tcp/port`
fn chain(service: u32) -> String {
    let (ns_name, port) = (name(service), "http");
    let ns_name = ns_name.trim_end_matches(":http");
    format!("service-{}-{ns_name}/tcp/{port}", &hash(service, u32::MAX)[..8])
}

const TABLE: &str = "\"family\": \"ip\", \"table\": \"kube-proxy\"";

const HEAD: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},{"table": {"family": "ip", "name": "kube-proxy", "handle": 1}},{"chain": {"family": "ip", "table": "kube-proxy", "name": "filter-forward", "handle": 12, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},{"chain": {"family": "ip", "table": "kube-proxy", "name": "nat-prerouting", "handle": 14, "type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}},{"chain": {"family": "ip", "table": "kube-proxy", "name": "nat-postrouting", "handle": 16, "type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"}},{"chain": {"family": "ip", "table": "kube-proxy", "name": "services", "handle": 17}},{"chain": {"family": "ip", "table": "kube-proxy", "name": "masquerading", "handle": 18}},{"chain": {"family": "ip", "table": "kube-proxy", "name": "cluster-ips-check", "handle": 19}}"#;

const RULES: &str = r#",{"rule": {"family": "ip", "table": "kube-proxy", "chain": "nat-prerouting", "handle": 28, "expr": [{"jump": {"target": "services"}}]}},{"rule": {"family": "ip", "table": "kube-proxy", "chain": "nat-postrouting", "handle": 30, "expr": [{"jump": {"target": "masquerading"}}]}},{"rule": {"family": "ip", "table": "kube-proxy", "chain": "filter-forward", "handle": 32, "expr": [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}, {"jump": {"target": "cluster-ips-check"}}]}},{"rule": {"family": "ip", "table": "kube-proxy", "chain": "services", "handle": 51, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "@cluster-ips"}}, {"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.244.0.0", "len": 16}}}}, {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"|": [{"meta": {"key": "mark"}}, 16384]}}}]}},{"rule": {"family": "ip", "table": "kube-proxy", "chain": "services", "handle": 52, "expr": [{"vmap": {"key": {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]}, "data": "@service-ips"}}]}},{"rule": {"family": "ip", "table": "kube-proxy", "chain": "masquerading", "handle": 35, "expr": [{"match": {"op": "!=", "left": {"&": [{"meta": {"key": "mark"}}, 16384]}, "right": 0}}, {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"^": [{"meta": {"key": "mark"}}, 16384]}}}, {"masquerade": {"flags": "fully-random"}}]}},{"rule": {"family": "ip", "table": "kube-proxy", "chain": "cluster-ips-check", "handle": 38, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "@cluster-ips"}}, {"reject": {"type": "icmp", "expr": "port-unreachable"}}]}}"#;
