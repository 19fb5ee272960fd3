//! Which Service a kube-proxy chain belongs to.
//!
//! kube-proxy names its chains by a hash, `KUBE-SVC-` + the first 16 characters of
//! base32(sha256("namespace/name:port" + protocol)); the colon is left out when the port has no name
//! (`portProtoHash` in `pkg/proxy/iptables/proxier.go`). `KUBE-SEP-` hashes the endpoint in as well
//! (`servicePortEndpointChainName`).

use std::fmt;

use sha2::{Digest, Sha256};

use crate::names::Named;
use crate::owner;

/// A port of a service, as kube-proxy writes it in comments: `shop/web:http`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    /// The service.
    pub service: Named,
    /// Name of the port, empty for the only port of a service without names.
    pub port: String,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, port } = self;
        if port.is_empty() {
            write!(f, "{service}")
        } else {
            write!(f, "{service}:{port}")
        }
    }
}

/// What a chain of kube-proxy's iptables mode is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `KUBE-SERVICES`: one rule for each address a service can be reached at.
    Services,
    /// `KUBE-NODEPORTS`
    NodePorts,
    /// `KUBE-SVC-`: all endpoints.
    Cluster,
    /// `KUBE-SVL-`: endpoints on this node.
    Local,
    /// `KUBE-EXT-`: traffic from outside (NodePort, load balancer, external IP).
    External,
    /// `KUBE-XLB-`: what EXT and SVL were before 1.24.
    ExternalOld,
    /// `KUBE-FW-`: source ranges of a load balancer.
    Firewall,
    /// `KUBE-SEP-`: one endpoint.
    Endpoint,
}

/// The role of a chain.
#[must_use]
pub fn role(chain: &str) -> Option<Role> {
    Some(match chain {
        "KUBE-SERVICES" => Role::Services,
        "KUBE-NODEPORTS" => Role::NodePorts,
        _ if chain.starts_with("KUBE-SVC-") => Role::Cluster,
        _ if chain.starts_with("KUBE-SVL-") => Role::Local,
        _ if chain.starts_with("KUBE-EXT-") => Role::External,
        _ if chain.starts_with("KUBE-XLB-") => Role::ExternalOld,
        _ if chain.starts_with("KUBE-FW-") => Role::Firewall,
        _ if chain.starts_with("KUBE-SEP-") => Role::Endpoint,
        _ => return None,
    })
}

/// The 16 characters after `KUBE-SVC-`. The protocol in lower case.
#[must_use]
pub fn service_hash(port: &ServicePortName, protocol: &str) -> String {
    hash(&format!("{port}{}", protocol.to_ascii_lowercase()))
}

/// The 16 characters after `KUBE-SEP-`. `endpoint` is `address:port`, with brackets for IPv6.
#[must_use]
pub fn endpoint_hash(port: &ServicePortName, protocol: &str, endpoint: &str) -> String {
    hash(&format!("{port}{}{endpoint}", protocol.to_ascii_lowercase()))
}

fn hash(text: &str) -> String {
    base32(&Sha256::digest(text.as_bytes())).chars().take(16).collect()
}

/// RFC 4648, upper case, no padding needed for a prefix.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut out = String::new();
    let (mut buffer, mut bits) = (0_u32, 0);
    for &byte in bytes {
        buffer = (buffer << 8 | u32::from(byte)) & 0xffff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[(buffer >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[(buffer << (5 - bits) & 31) as usize]));
    }
    out
}

/// The service port a rule's comment names: the words before the first blank, when they look like
/// `namespace/name` or `namespace/name:port`.
#[must_use]
pub fn of_comment(rule: &str) -> Option<ServicePortName> {
    let comment = owner::comment(rule)?;
    // "masquerade traffic for shop/api:http external destinations", "shop/web:http cluster IP"
    let word = comment.split(' ').find(|word| word.contains('/'))?;
    let (namespace, rest) = word.split_once('/')?;
    let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
    let label = |s: &str| {
        !s.is_empty()
            && s.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
    };
    (label(namespace) && label(name) && (port.is_empty() || label(port))).then(|| ServicePortName {
        service: Named::new(namespace, name),
        port: port.to_owned(),
    })
}

/// The service port of a chain of kube-proxy's nftables mode:
/// `service-ULMVA6XW-ns1/svc1/tcp/p80`, `endpoint-…-ns1/svc1/tcp/p80__10.180.0.1/80`.
#[must_use]
pub fn of_nft_chain(chain: &str) -> Option<(ServicePortName, &str)> {
    let rest = ["service-", "external-", "endpoint-", "firewall-"]
        .iter()
        .find_map(|p| chain.strip_prefix(p))?;
    let (_, rest) = rest.split_once('-')?;
    let rest = rest.split("__").next()?;
    let mut parts = rest.split('/');
    let (namespace, name, protocol) = (parts.next()?, parts.next()?, parts.next()?);
    let port = parts.next().unwrap_or("");
    Some((
        ServicePortName {
            service: Named::new(namespace, name),
            port: port.to_owned(),
        },
        protocol,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> ServicePortName {
        ServicePortName {
            service: Named::new("shop", "web"),
            port: "http".to_owned(),
        }
    }

    #[test]
    fn hashes_are_those_kube_proxy_wrote() {
        assert_eq!(service_hash(&web(), "TCP"), "67NZLRHBNDSAWJRO");
        assert_eq!(endpoint_hash(&web(), "tcp", "10.244.2.3:8080"), "ZEIDTFVL27F4EVRN");
    }

    #[test]
    fn comments_name_service_ports() {
        let of = |comment: &str| of_comment(&format!("-A X -m comment --comment \"{comment}\" -j Y"));
        assert_eq!(of("shop/web:http cluster IP"), Some(web()));
        assert_eq!(of("shop/web:http -> 10.244.0.3:8080"), Some(web()));
        assert_eq!(
            of("masquerade traffic for shop/web:http external destinations"),
            Some(web())
        );
        assert_eq!(of("kubernetes service portals"), None);
    }

    #[test]
    fn nft_chains_name_service_ports() {
        let (port, proto) =
            of_nft_chain("endpoint-5OJB2KTY-shop/web/tcp/http__10.180.0.1/80").expect("a service chain");
        assert_eq!((port, proto), (web(), "tcp"));
    }
}
