//! The sockets on a port of a node, and what they are there for.

use std::net::IpAddr;
use std::sync::Arc;

use knet_dataplane::trace::Evidence;
use knet_snapshot::socket::Socket;

use super::PortOwner;
use crate::explanation::Cite;
use crate::resolve::Context;

/// A socket that listens.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Programs that hold it.
    pub programs: Vec<(String, u32)>,
    /// Address; `None` = all.
    pub address: Option<IpAddr>,
    /// What it is there for.
    pub meaning: Meaning,
    /// Where it is written.
    pub evidence: Evidence,
    /// Line in its file.
    pub cite: Option<Cite>,
}

/// What a socket on the port is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// kube-proxy answers load balancers' health checks on it (`healthCheckNodePort`).
    HealthCheck,
    /// An old kube-proxy (before 1.27) keeps the port from others. It never accepts a connection.
    Placeholder,
    /// A program that listens on a port which a rule takes away from it: it never sees those packets.
    Shadowed,
    /// A program that listens on a port that is no NodePort.
    Program,
}

/// The listeners on a port; `None` when sockets were not captured.
pub fn on(context: Context<'_, '_>, node: &str, proto: u8, port: u16, owner: &PortOwner) -> Option<Vec<Listener>> {
    let ns = context.names.node(node)?.ns?;
    let table = context.world.space(ns).facts.sockets().get()?;
    let listens = |s: &&Socket| s.port == port && s.proto == proto && matches!(s.state.as_str(), "LISTEN" | "UNCONN");
    let found = table.rows.iter().filter(listens).map(|socket| {
        let text = context
            .world
            .snapshot
            .row_text(&table.artifact, socket.at)
            .unwrap_or_default();
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let line = context.world.snapshot.line_of(&table.artifact, socket.at.start);
        Listener {
            programs: socket.users.clone(),
            address: socket.local,
            meaning: meaning(socket, owner),
            evidence: Evidence {
                artifact: table.artifact.clone(),
                at: socket.at,
                handle: None,
                text: Arc::from(text),
            },
            cite: line.map(|line| Cite { line, index: None }),
        }
    });
    Some(found.collect())
}

fn meaning(socket: &Socket, owner: &PortOwner) -> Meaning {
    // k3s and RKE2 run kube-proxy inside their own process; kube-router holds ports likewise.
    let proxy = |name: &str| {
        ["kube-proxy", "kube-router", "k3s", "rke2", "kubelite"]
            .iter()
            .any(|p| name.starts_with(p))
    };
    let by_proxy = socket.users.iter().any(|(name, _)| proxy(name));
    match owner {
        PortOwner::HealthCheck(_) if by_proxy => Meaning::HealthCheck,
        PortOwner::Service { .. } if by_proxy => Meaning::Placeholder,
        PortOwner::Service { .. } => Meaning::Shadowed,
        PortOwner::HealthCheck(_) | PortOwner::Nobody | PortOwner::NotCaptured => Meaning::Program,
    }
}
