//! Names of a captured cluster.

use std::path::Path;

use super::{Kind, Object};
use crate::archive::Limits;
use crate::commands::load;

/// What a completion may take of a snapshot's size: more is too slow for a key press.
const BYTES: u64 = 64 << 20;

/// The objects of each kind; none of a snapshot that cannot be read.
pub(super) fn objects(path: &Path, namespace: &str, kinds: &[Kind]) -> Vec<(Kind, String, Vec<Object>)> {
    let limits = Limits {
        total_bytes: BYTES,
        ..Limits::default()
    };
    let Ok(snapshot) = load(path, &limits) else {
        return Vec::new();
    };
    let cluster = snapshot.cluster();
    let of = |kind: Kind| -> Vec<Object> {
        match kind {
            Kind::Pod => {
                let pods = cluster.pods().get().into_iter().flat_map(|t| &t.rows);
                pods.map(|pod| Object {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    help: format!("pod on {}", pod.node.as_deref().unwrap_or("no node")),
                })
                .collect()
            }
            Kind::Service | Kind::ServiceRef => {
                let services = cluster.services().get().into_iter().flat_map(|t| &t.rows);
                let address = |ips: &[std::net::IpAddr]| match ips.first() {
                    Some(ip) => format!("service {ip}"),
                    None => "service headless".to_owned(),
                };
                services
                    .map(|service| Object {
                        namespace: service.namespace.clone(),
                        name: service.name.clone(),
                        help: address(&service.cluster_ips),
                    })
                    .collect()
            }
            Kind::Namespace => {
                let namespaces = cluster.namespaces().get().into_iter().flat_map(|t| &t.rows);
                namespaces
                    .map(|namespace| Object {
                        namespace: String::new(),
                        name: namespace.name.clone(),
                        help: String::new(),
                    })
                    .collect()
            }
            Kind::Node | Kind::NodeRef => {
                let nodes = snapshot.nodes();
                nodes
                    .map(|node| Object {
                        namespace: String::new(),
                        name: node.name.clone(),
                        help: "node".to_owned(),
                    })
                    .collect()
            }
            Kind::Context => Vec::new(),
        }
    };
    kinds
        .iter()
        .map(|&kind| (kind, namespace.to_owned(), of(kind)))
        .collect()
}
