//! From the names of a query to the packet and the namespace a walk starts with.
//!
//! Kubernetes objects choose the start and nothing else: where the packet then goes is the walk's to say.

mod ephemeral;
mod error;
mod fields;
mod find;
mod form;
pub mod http;
mod source;
mod target;

use std::net::IpAddr;

use knet_dataplane::packet::{L4, Port, proto, tcp_flag};
use knet_dataplane::trace::NsId;
use knet_dataplane::walk::{Origin, Start};
use knet_dataplane::world::World;
use knet_snapshot::id::Family;

use crate::names::{Named, Names};
use crate::query::{IpFamily, Query};
use crate::service_chain::ServicePortName;

pub use error::{Kind, PortChoice, QueryError};
pub use fields::protocol;
pub use source::{captured_node, way_to};
pub use target::node_addresses;

/// A query whose names were found.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// What to walk. More than one when the destination is a name with several addresses (a headless
    /// service): the client picks one.
    pub starts: Vec<Start>,
    /// Who sends.
    pub src: Source,
    /// What is addressed.
    pub dst: Target,
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A pod.
    Pod {
        /// Name.
        pod: Named,
        /// Its node.
        node: String,
        /// It has no namespace of its own.
        host_network: bool,
    },
    /// A program on a node.
    Node(String),
    /// A captured namespace that is no known pod's.
    Netns {
        /// Node.
        node: String,
        /// Folder.
        id: String,
    },
    /// An off-cluster client.
    Client {
        /// Its address.
        addr: IpAddr,
        /// The node its packet enters.
        node: String,
        /// By which device.
        dev: String,
        /// How that is known.
        entry: Entry,
    },
}

/// How it is known where an off-cluster client's packet enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// The query says node and device.
    Given,
    /// The query says the node; the device is the one by which it routes back to the client.
    GivenNode,
    /// Client and destination are in one subnet of the node's device: whoever answers there gets the packet.
    OnSegment,
    /// The destination is an address of the node.
    OwnsDestination,
    /// The destination is in a namespace on the node.
    HostsDestination,
    /// The node has an address in the client's subnet (the first such node by name).
    SharesSubnet,
    /// Nothing tells: the first node by name.
    First,
}

/// What is addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address,
    /// The sender's own loopback.
    Localhost,
    /// A node.
    Node(String),
    /// A pod.
    Pod(Named),
    /// A port of a service.
    Service {
        /// Which.
        port: ServicePortName,
        /// `clusterIP: None`
        headless: bool,
    },
}

/// What names are looked up in.
#[derive(Clone, Copy)]
pub struct Context<'a, 's> {
    /// The namespaces.
    pub world: &'a World<'s>,
    /// The names.
    pub names: &'a Names<'s>,
}

/// Where a packet starts.
struct Begin {
    ns: NsId,
    origin: Origin,
    src: Option<IpAddr>,
    name: Source,
}

/// Looks everything up.
pub fn resolve(context: Context<'_, '_>, query: &Query) -> Result<Resolved, QueryError> {
    if context.world.spaces().is_empty() {
        return Err(QueryError::NoNodes);
    }
    let asked_protocol = query.proto.as_deref().map(protocol).transpose()?;
    let form = source::parse(&query.src)?;
    let families = source::families(context, &form, query)?;
    let icmp = asked_protocol.is_some_and(|p| !fields::has_ports(p));
    let target = target::resolve(context, query, &families, icmp)?;
    if matches!(target.name, Target::Localhost) && matches!(form, form::SourceForm::Client(_)) {
        return Err(QueryError::FieldNotForSource {
            field: "localhost",
            only: "a pod or a node as source",
        });
    }
    let family = Family::of(target.addresses[0].0);
    let mut protocol = match (asked_protocol, &target.protocol) {
        (Some(asked), _) => asked,
        (None, Some(of_service)) => protocol(of_service)?,
        (None, None) if target.addresses[0].1.is_none() => proto::ICMP,
        (None, None) => proto::TCP,
    };
    if protocol == proto::ICMP && family == Family::V6 {
        protocol = proto::ICMPV6;
    }
    let begin = source::begin(context, form, query, target.addresses[0].0)?;
    if let Some(src) = begin.src
        && Family::of(src) != family
    {
        return Err(QueryError::Families {
            src,
            dst: target.addresses[0].0,
        });
    }
    let mut starts = Vec::with_capacity(target.addresses.len());
    for &(dst, port) in &target.addresses {
        let (l4, any_sport) = transport(context, query, &begin, protocol, dst, port, &target.text)?;
        starts.push(Start {
            ns: begin.ns,
            origin: begin.origin,
            src: begin.src,
            dst,
            proto: protocol,
            l4,
            any_sport,
            ttl: query.ttl.unwrap_or(64),
            tos: query.tos.as_deref().map_or(Ok(0), fields::tos)?,
            mark: query.mark.as_deref().map_or(Ok(0), fields::mark)?,
            len: length(protocol, family),
        });
    }
    Ok(Resolved {
        starts,
        src: begin.name,
        dst: target.name,
    })
}

/// The transport header, and whether any source port would do.
fn transport(
    context: Context<'_, '_>,
    query: &Query,
    begin: &Begin,
    protocol: u8,
    dst: IpAddr,
    port: Option<u16>,
    text: &str,
) -> Result<(L4, bool), QueryError> {
    if !fields::has_ports(protocol) {
        let icmp = matches!(protocol, proto::ICMP | proto::ICMPV6);
        if !icmp {
            return Ok((L4::Other, false));
        }
        let (ty, code) = match &query.icmp_type {
            Some(text) => fields::icmp_type(text, Family::of(dst))?,
            None if protocol == proto::ICMP => (8, 0),
            None => (128, 0),
        };
        return Ok((
            L4::Icmp {
                ty,
                code,
                id: Port::from(1),
                quoted: None,
            },
            true,
        ));
    }
    let Some(port) = port else {
        return Err(QueryError::PortNeeded {
            target: text.to_owned(),
            ports: Vec::new(),
        });
    };
    let any = query.sport.is_none();
    let sport = match query.sport {
        Some(sport) => sport,
        None => ephemeral::port(context.world, begin.ns, protocol, dst, port),
    };
    let (sport, dport) = (Port::from(sport), Port::from(port));
    Ok(match protocol {
        proto::TCP => {
            let flags = query
                .tcp_flags
                .as_deref()
                .map_or(Ok(tcp_flag::SYN), fields::tcp_flags)?;
            (L4::Tcp { sport, dport, flags }, any)
        }
        _ => (L4::Ports { sport, dport }, any),
    })
}

/// Length of the first packet of a connection: a SYN with its usual options, a small datagram, a ping of
/// 56 bytes.
const fn length(protocol: u8, family: Family) -> u16 {
    let header = match family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    header
        + match protocol {
            proto::TCP => 40,
            proto::ICMP | proto::ICMPV6 => 64,
            _ => 32,
        }
}

impl From<IpFamily> for Family {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::V4 => Self::V4,
            IpFamily::V6 => Self::V6,
        }
    }
}

/// A Service by `svc/NS/NAME`, `svc/NAME`, `NS/NAME` or `NAME`.
pub fn service_named(context: Context<'_, '_>, text: &str, namespace: Option<&str>) -> Result<Named, QueryError> {
    match form::target(text)? {
        form::TargetForm::Service(ns, name, None) | form::TargetForm::Name(ns, name, None) => {
            find::service(context, ns.as_deref().or(namespace), &name)
        }
        _ => Err(QueryError::Form {
            text: text.to_owned(),
            expected: "an address or a service",
            examples: &["192.0.2.10", "svc/shop/web"],
        }),
    }
}
