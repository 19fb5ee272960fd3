//! Ingress, IngressClass, Gateway and HTTPRoute under the map: what says which backend a request is meant for.
//!
//! Hosts are replaced label by label, so that a wildcard fits the same hosts. Paths are replaced letter by letter, each
//! under all that stand before it: two paths are alike as far as they were before, which is what a prefix, and one
//! whose comparison is left to an implementation, look at. Slashes and the signs of regular expressions stay.

use std::net::IpAddr;

use knet_explain::topics::http::ANNOTATIONS as READ;
use serde_json::{Map, Value};

use super::{Redaction, object};

/// Resources whose objects are read here.
pub(super) const RESOURCES: &[&str] = &["ingresses", "ingressclasses", "gateways", "httproutes"];

/// Fields by what they hold; one that is named nowhere is left out with all below it.
const KEPT: &[&str] = &[
    // Structure, numbers, and words of the API's own.
    "spec",
    "status",
    "rules",
    "http",
    "paths",
    "pathType",
    "backend",
    "defaultBackend",
    "service",
    "resource",
    "port",
    "number",
    "tls",
    "loadBalancer",
    "ingress",
    "parameters",
    "parentRefs",
    "parentRef",
    "parents",
    "matches",
    "method",
    "headers",
    "queryParams",
    "filters",
    "requestRedirect",
    "scheme",
    "statusCode",
    "replaceFullPath",
    "replacePrefixMatch",
    "backendRefs",
    "weight",
    "listeners",
    "protocol",
    "addresses",
    "conditions",
    "observedGeneration",
    "type",
    "kind",
    "group",
    "apiGroup",
    "scope",
    // Hosts.
    "host",
    "hosts",
    "hostname",
    "hostnames",
    // Names, paths, addresses, values.
    "name",
    "namespace",
    "sectionName",
    "ingressClassName",
    "gatewayClassName",
    "controller",
    "controllerName",
    "path",
    "ip",
    "value",
];

/// One object.
pub(super) fn map(whole: &Value, redaction: &Redaction) -> Value {
    let mut out = Map::new();
    for (key, value) in whole.as_object().into_iter().flatten() {
        let new = match key.as_str() {
            "apiVersion" | "kind" => value.clone(),
            "metadata" => metadata(value, redaction),
            "spec" | "status" => any("", key, value, redaction),
            _ => continue,
        };
        out.insert(key.clone(), new);
    }
    Value::Object(out)
}

fn metadata(value: &Value, redaction: &Redaction) -> Value {
    let mut out = object::metadata(value, redaction);
    let annotations = value["annotations"].as_object().into_iter().flatten();
    let read: Map<String, Value> = annotations
        .filter(|(key, _)| READ.contains(&key.as_str()))
        .map(|(key, value)| {
            let text = value.as_str().unwrap_or_default();
            let new = match text {
                "true" | "false" => text.to_owned(),
                _ if text.contains("://") => url(text, redaction),
                _ => redaction.object(text),
            };
            (key.clone(), Value::from(new))
        })
        .collect();
    if !read.is_empty() {
        out["annotations"] = read.into();
    }
    out
}

/// A value by its key and by that of what holds it.
fn any(holder: &str, key: &str, value: &Value, redaction: &Redaction) -> Value {
    match value {
        Value::Object(map) if key == "conditions" => object::condition(&Value::Object(map.clone()), redaction),
        Value::Object(map) => map
            .iter()
            .filter(|(inner, _)| KEPT.contains(&inner.as_str()))
            .map(|(inner, value)| (inner.clone(), any(key, inner, value, redaction)))
            .collect(),
        Value::Array(list) => list.iter().map(|value| any(holder, key, value, redaction)).collect(),
        Value::String(text) => Value::from(string(holder, key, text, redaction)),
        other => other.clone(),
    }
}

fn string(holder: &str, key: &str, text: &str, redaction: &Redaction) -> String {
    match (holder, key) {
        (_, "host" | "hosts" | "hostname" | "hostnames") => host(text, redaction),
        // An address, or a name of one; the path of a match; the value of a header.
        ("addresses", "value") | (_, "ip") => host(text, redaction),
        (_, "path" | "replaceFullPath" | "replacePrefixMatch") | ("path", "value") => path(text, redaction),
        (_, "value") => redaction.word("value", text),
        // A port's name is a word like `http`.
        ("port", "name") => text.to_owned(),
        ("headers" | "queryParams", "name") => redaction.word("key", text),
        (_, "namespace") => redaction.name(key, text),
        (_, "name" | "sectionName" | "ingressClassName" | "gatewayClassName") => redaction.object(text),
        // `k8s.io/ingress-nginx` is everybody's.
        (_, "controller" | "controllerName") if !object::is_ours(text) => redaction.word("controller", text),
        _ => text.to_owned(),
    }
}

/// A host name, or what stands for many of them, or an address.
pub(super) fn host(text: &str, redaction: &Redaction) -> String {
    if let Ok(address) = text.parse::<IpAddr>() {
        return redaction.addresses.map(address).to_string();
    }
    if redaction.names.knows(text) {
        return redaction.names.map(text).to_owned();
    }
    let lower = text.to_ascii_lowercase();
    let labels = lower.split('.').map(|label| match label {
        "" | "*" => label.to_owned(),
        label => redaction.word("host", label),
    });
    labels.collect::<Vec<_>>().join(".")
}

/// A path, or a regular expression for paths.
pub(super) fn path(text: &str, redaction: &Redaction) -> String {
    let under = |at: usize| {
        let hex = redaction.names.digest("path", &text[..at], 8);
        u32::from_str_radix(&hex, 16).unwrap_or_default()
    };
    text.char_indices().map(|(at, c)| turned(c, || under(at))).collect()
}

/// `https://HOST:PORT/PATH?QUERY` of a redirect.
fn url(text: &str, redaction: &Redaction) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return redaction.word("url", text);
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, format!(":{port}")),
        _ => (authority, String::new()),
    };
    format!("{scheme}://{}{port}{}", host(name, redaction), path(rest, redaction))
}

/// Another character of the same kind and length; signs stay what they are.
fn turned(c: char, step: impl Fn() -> u32) -> char {
    /// First and number of each kind. Of the three-byte characters those below the surrogates, and those above.
    const KINDS: &[(u32, u32)] = &[
        ('a' as u32, 26),
        ('A' as u32, 26),
        ('0' as u32, 10),
        (0xa0, 0x800 - 0xa0),
        (0x800, 0xd800 - 0x800),
        (0xe000, 0x1_0000 - 0xe000),
        (0x1_0000, 0x11_0000 - 0x1_0000),
    ];
    let code = u32::from(c);
    let kind = KINDS
        .iter()
        .find(|(first, many)| (*first..first + many).contains(&code));
    let new = kind.and_then(|(first, many)| char::from_u32(first + (code - first + step() % many) % many));
    new.unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Addresses;
    use crate::redact::names::Names;

    fn redaction() -> Redaction {
        Redaction {
            addresses: Addresses::new([7; 32]),
            names: Names::default(),
        }
    }

    #[test]
    fn paths_are_alike_as_far_as_they_were() {
        let redaction = redaction();
        let all = [
            "/", "/cart", "/cart/", "/cart/1", "/cart/2", "/carts", "/Cart", "/a/b/c", "/a/b/d", "/käse", "/käfer",
            "/食/b", "/食/c", "",
        ];
        let common = |a: &str, b: &str| a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
        for a in all {
            let new = path(a, &redaction);
            assert_eq!(new.len(), a.len(), "{a} {new}");
            for b in all {
                assert_eq!(common(a, b), common(&new, &path(b, &redaction)), "{a} {b}");
            }
        }
        assert_ne!(path("/cart", &redaction), "/cart");
        let regex = path("/v[0-9]+/(cart|shop)$", &redaction);
        let signs = |text: &str| text.chars().filter(|c| !c.is_alphanumeric()).collect::<String>();
        assert_eq!(signs(&regex), "/[-]+/(|)$", "{regex}");
    }

    #[test]
    fn hosts_keep_their_labels_apart_and_their_wildcards() {
        let redaction = redaction();
        let of = |text: &str| host(text, &redaction);
        assert_eq!(of("Shop.Example.com"), of("shop.example.com"));
        assert!(of("shop.example.com").ends_with(of("*.example.com").trim_start_matches('*')));
        assert!(of("*.example.com").starts_with("*."));
        assert_ne!(of("shop.example.com"), of("shop.example.org"));
        assert!(!of("shop.example.com").contains("example"));
        assert_ne!(of("10.0.0.1"), "10.0.0.1");
        assert!(of("10.0.0.1").starts_with("10."), "{}", of("10.0.0.1"));
        let to = url("https://u:p@shop.example.com:8443/cart?x=1", &redaction);
        let start = format!("https://{}:8443/", of("shop.example.com"));
        assert!(
            to.starts_with(&start) && !to.contains("cart") && !to.contains('@'),
            "{to}"
        );
    }
}
