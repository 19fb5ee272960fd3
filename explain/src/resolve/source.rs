//! Who sends: a pod, a node, or a client outside and the device its packet comes in by.

use std::net::IpAddr;

use knet_dataplane::choice::Oracle;
use knet_dataplane::table::fib::{Answer, Query as Lookup};
use knet_dataplane::trace::NsId;
use knet_dataplane::walk::Origin;
use knet_dataplane::world::World;
use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::link::Address;
use knet_snapshot::route::RouteKind;
use knet_snapshot::store::NetnsId;

use super::error::{Kind, QueryError};
use super::form::{self, SourceForm};
use super::{Begin, Context, Entry, Source, find};
use crate::names::{Named, Whose};
use crate::query::Query;

/// Reads SRC.
pub fn parse(text: &str) -> Result<SourceForm, QueryError> {
    form::source(text)
}

/// Families the source can send, the preferred first.
pub fn families(context: Context<'_, '_>, form: &SourceForm, query: &Query) -> Result<Vec<Family>, QueryError> {
    if let Some(family) = query.family {
        return Ok(vec![family.into()]);
    }
    if let Some(ip) = query.source_ip {
        return Ok(vec![Family::of(ip)]);
    }
    let ns = match locate(context, form, query)? {
        Located::Outside(addr) => return Ok(vec![Family::of(addr)]),
        Located::Inside(ns, _) => ns,
    };
    let links = context.world.space(ns).links();
    let mut families: Vec<Family> = [Family::V4, Family::V6]
        .into_iter()
        .filter(|&family| {
            links
                .addresses(family)
                .any(|a| !a.local.is_loopback() && (family == Family::V4 || a.scope == 0))
        })
        .collect();
    if families.is_empty() {
        // Addresses were not captured, or there are none: let the walk say so.
        families = vec![Family::V4, Family::V6];
    }
    Ok(families)
}

enum Located {
    Inside(NsId, Source),
    Outside(IpAddr),
}

fn locate(context: Context<'_, '_>, form: &SourceForm, query: &Query) -> Result<Located, QueryError> {
    let default = query.namespace.as_deref();
    match form {
        SourceForm::Client(addr) => {
            let inside = context.names.whose(*addr).find_map(|w| written(context, w));
            match inside {
                Some(whose) if query.via.is_none() => Err(QueryError::Inside { addr: *addr, whose }),
                _ => Ok(Located::Outside(*addr)),
            }
        }
        SourceForm::Address(addr) => {
            for whose in context.names.whose(*addr) {
                match whose {
                    Whose::Pod(pod) => return pod_at(context, pod.clone()),
                    Whose::Node(node) => return node_at(context, node),
                    Whose::Netns(ns) => return Ok(netns(context, *ns)),
                    Whose::ClusterIp(_) | Whose::LoadBalancer(_) | Whose::ExternalIp(_) => {}
                }
            }
            Ok(Located::Outside(*addr))
        }
        SourceForm::Node(name) => node_at(context, &find::node(context, name)?),
        SourceForm::Netns(node, id) => {
            let node = find::node(context, node)?;
            let id = NetnsId {
                node: node.clone(),
                id: Some(id.clone()),
            };
            match context.world.find(&id) {
                Some(ns) => Ok(netns(context, ns)),
                None => Err(QueryError::NotCaptured {
                    pod: format!("netns/{node}/{}", id.id.unwrap_or_default()),
                    node: Some(node),
                    captured: captured_nodes(context),
                }),
            }
        }
        SourceForm::Pod(namespace, name) => {
            pod_at(context, find::pod(context, namespace.as_deref().or(default), name)?)
        }
        SourceForm::Name(namespace, name) => {
            let namespace = namespace.as_deref().or(default);
            find::known_namespace(context, namespace)?;
            match find::among(context.names.pods().map(|(n, _)| n), namespace, name) {
                find::Found::One(pod) => pod_at(context, pod),
                find::Found::Many(many) => Err(find::ambiguous(name, many.iter().map(|n| format!("pod/{n}")))),
                find::Found::Nothing if context.names.node(name).is_some() => node_at(context, name),
                find::Found::Nothing => Err(find::not_found(context, Kind::Source, namespace, name)),
            }
        }
    }
}

fn netns(context: Context<'_, '_>, ns: NsId) -> Located {
    let name = context.world.space(ns).name;
    let pod = context.names.place(ns).and_then(|p| p.pod.clone());
    let source = match (pod, &name.id) {
        (Some(pod), _) => Source::Pod {
            pod,
            node: name.node.clone(),
            host_network: false,
        },
        (None, Some(id)) => Source::Netns {
            node: name.node.clone(),
            id: id.clone(),
        },
        (None, None) => Source::Node(name.node.clone()),
    };
    Located::Inside(ns, source)
}

fn node_at(context: Context<'_, '_>, node: &str) -> Result<Located, QueryError> {
    match context.names.node(node).and_then(|n| n.ns) {
        Some(ns) => Ok(Located::Inside(ns, Source::Node(node.to_owned()))),
        None => Err(QueryError::NotCaptured {
            pod: format!("node/{node}"),
            node: None,
            captured: captured_nodes(context),
        }),
    }
}

fn pod_at(context: Context<'_, '_>, pod: Named) -> Result<Located, QueryError> {
    let Some(entry) = context.names.pod(&pod) else {
        return Err(find::not_found(context, Kind::Pod, Some(&pod.namespace), &pod.name));
    };
    let node = entry.object.and_then(|p| p.node.clone());
    let Some(ns) = entry.ns else {
        return Err(QueryError::NotCaptured {
            pod: format!("pod/{pod}"),
            node,
            captured: captured_nodes(context),
        });
    };
    if pod.namespace.is_empty() {
        return Ok(netns(context, ns));
    }
    let node = context.world.space(ns).name.node.clone();
    let host_network = entry.object.is_some_and(|p| p.host_network);
    Ok(Located::Inside(
        ns,
        Source::Pod {
            pod,
            node,
            host_network,
        },
    ))
}

/// A captured node by name, or the first one.
pub fn captured_node(context: Context<'_, '_>, name: Option<&str>) -> Result<String, QueryError> {
    let Some(name) = name else {
        return captured_nodes(context).into_iter().next().ok_or(QueryError::NoNodes);
    };
    let name = name.strip_prefix("node/").unwrap_or(name);
    let node = find::node(context, name)?;
    node_at(context, &node).map(|_| node)
}

fn captured_nodes(context: Context<'_, '_>) -> Vec<String> {
    context
        .names
        .all_nodes()
        .filter(|(_, n)| n.ns.is_some())
        .map(|(n, _)| n.to_owned())
        .collect()
}

/// How an owner can be written as SRC.
fn written(context: Context<'_, '_>, whose: &Whose) -> Option<String> {
    match whose {
        Whose::Pod(pod) => Some(format!("pod/{pod}")),
        Whose::Node(node) => Some(format!("node/{node}")),
        Whose::Netns(ns) => {
            let name = context.world.space(*ns).name;
            Some(format!("netns/{}/{name}", name.node))
        }
        Whose::ClusterIp(_) | Whose::LoadBalancer(_) | Whose::ExternalIp(_) => None,
    }
}

/// The namespace, the way in, and the source address.
pub fn begin(context: Context<'_, '_>, form: SourceForm, query: &Query, dst: IpAddr) -> Result<Begin, QueryError> {
    match locate(context, &form, query)? {
        Located::Inside(ns, name) => {
            if query.via.is_some() {
                return Err(QueryError::FieldNotForSource {
                    field: "via",
                    only: "an off-cluster client (ip/ADDR)",
                });
            }
            Ok(Begin {
                ns,
                origin: Origin::Local { uid: query.uid },
                src: query.source_ip,
                name,
            })
        }
        Located::Outside(addr) => {
            if query.uid.is_some() || query.source_ip.is_some() || query.mark.is_some() {
                let field = if query.uid.is_some() {
                    "uid"
                } else if query.source_ip.is_some() {
                    "source_ip"
                } else {
                    "mark"
                };
                return Err(QueryError::FieldNotForSource {
                    field,
                    only: "a pod or a node as source",
                });
            }
            let (node, ns, dev, entry) = match (&query.via, on_segment(context, addr, dst)) {
                (None, Some((node, ns, dev))) => (node, ns, dev, Entry::OnSegment),
                _ => entry(context, query, addr, dst)?,
            };
            let dev_name = context.world.space(ns).links().name(dev).to_owned();
            let name = Source::Client {
                addr,
                node,
                dev: dev_name,
                entry,
            };
            Ok(Begin {
                ns,
                origin: match entry {
                    Entry::OnSegment => Origin::Segment { dev },
                    _ => Origin::Wire { dev },
                },
                src: Some(addr),
                name,
            })
        }
    }
}

/// The first device by node and index in whose subnet client and destination both are: the client then takes
/// the destination to be its neighbour.
fn on_segment(context: Context<'_, '_>, client: IpAddr, dst: IpAddr) -> Option<(String, NsId, IfIndex)> {
    let holds = |a: &Address| {
        ipnet::IpNet::new(a.local, a.prefix_len).is_ok_and(|net| net.contains(&client) && net.contains(&dst))
    };
    let mut nodes = context.names.all_nodes().filter_map(|(name, n)| Some((name, n.ns?)));
    nodes.find_map(|(name, ns)| {
        let links = context.world.space(ns).links();
        let here = context.world.underlay_devices().iter().filter(|(of, _)| *of == ns);
        let mut devices = here.filter_map(|&(_, dev)| links.get(dev));
        let dev = devices.find(|link| {
            let bridge = link.master.as_deref().and_then(|m| links.named(m)).map(|m| m.index);
            let mut own = links
                .addresses_of(link.index)
                .chain(bridge.into_iter().flat_map(|b| links.addresses_of(b)));
            own.any(holds)
        })?;
        Some((name.to_owned(), ns, dev.index))
    })
}

/// Where a packet from outside comes in.
fn entry(
    context: Context<'_, '_>,
    query: &Query,
    client: IpAddr,
    dst: IpAddr,
) -> Result<(String, NsId, IfIndex, Entry), QueryError> {
    let Some(via) = &query.via else {
        let (node, ns, entry) = guess_node(context, client, dst).ok_or(QueryError::NoNodes)?;
        let dev = device_towards(context, &node, ns, client)?;
        return Ok((node, ns, dev, entry));
    };
    let parts: Vec<&str> = via.split('/').collect();
    let (node, device) = match *parts.as_slice() {
        ["node" | "nodes" | "no", node] => (node, None),
        ["node" | "nodes" | "no", node, device] => (node, Some(device)),
        [node] if !node.is_empty() => (node, None),
        _ => {
            return Err(QueryError::Form {
                text: via.clone(),
                expected: "an entry point",
                examples: &["node/node-1", "node/node-1/eth0"],
            });
        }
    };
    let node = find::node(context, node)?;
    let Some(ns) = context.names.node(&node).and_then(|n| n.ns) else {
        return Err(QueryError::NotCaptured {
            pod: format!("node/{node}"),
            node: None,
            captured: captured_nodes(context),
        });
    };
    match device {
        Some(device) => match context.world.space(ns).links().named(device) {
            Some(link) => Ok((node, ns, link.index, Entry::Given)),
            None => Err(QueryError::NoDevice {
                devices: devices(context, ns),
                node,
                device: device.to_owned(),
            }),
        },
        None => {
            let dev = device_towards(context, &node, ns, client)?;
            Ok((node, ns, dev, Entry::GivenNode))
        }
    }
}

/// The node a packet for `dst` would come to, in this order: the one that has the address; the one whose
/// pod has it; the first by name that shares a subnet with the client; the first by name.
fn guess_node(context: Context<'_, '_>, client: IpAddr, dst: IpAddr) -> Option<(String, NsId, Entry)> {
    let captured = || {
        context
            .names
            .all_nodes()
            .filter_map(|(name, n)| Some((name.to_owned(), n.ns?)))
    };
    let owner = context.names.whose(dst).find_map(|whose| match whose {
        Whose::Node(node) => Some((node.clone(), context.names.node(node)?.ns?, Entry::OwnsDestination)),
        Whose::Pod(pod) => {
            let node = context.names.place(context.names.pod(pod)?.ns?)?.node.clone();
            let ns = context.names.node(&node)?.ns?;
            Some((node, ns, Entry::HostsDestination))
        }
        Whose::Netns(ns) => {
            let node = context.names.place(*ns)?.node.clone();
            let ns = context.names.node(&node)?.ns?;
            Some((node, ns, Entry::HostsDestination))
        }
        Whose::ClusterIp(_) | Whose::LoadBalancer(_) | Whose::ExternalIp(_) => None,
    });
    let shares = || {
        captured().find(|(_, ns)| {
            context.world.space(*ns).links().addresses(Family::of(client)).any(|a| {
                ipnet::IpNet::new(a.local, a.prefix_len).is_ok_and(|net| a.prefix_len > 0 && net.contains(&client))
            })
        })
    };
    owner
        .or_else(|| shares().map(|(name, ns)| (name, ns, Entry::SharesSubnet)))
        .or_else(|| captured().next().map(|(name, ns)| (name, ns, Entry::First)))
}

/// The device by which a namespace routes to an address, when it is by a unicast route.
pub fn way_to(world: &World<'_>, ns: NsId, addr: IpAddr) -> Option<IfIndex> {
    match world
        .space(ns)
        .fib()
        .lookup(&Lookup::to(addr), &mut Oracle::default())
        .answer
    {
        Answer::Route(hit) if hit.route.kind == RouteKind::Unicast => hit.oif,
        _ => None,
    }
}

/// The device by which a node routes back to a client.
fn device_towards(context: Context<'_, '_>, node: &str, ns: NsId, client: IpAddr) -> Result<IfIndex, QueryError> {
    let out = |dev: &IfIndex| context.world.underlay_devices().contains(&(ns, *dev));
    if let Some(oif) = way_to(context.world, ns, client).filter(out) {
        return Ok(oif);
    }
    // A route by lo or a tunnel is no way in for somebody outside. A client on a device's own subnet comes
    // in there.
    let links = context.world.space(ns).links();
    let near =
        |a: &&Address| out(&a.link) && ipnet::IpNet::new(a.local, a.prefix_len).is_ok_and(|net| net.contains(&client));
    if let Some(address) = links.addresses(Family::of(client)).find(near) {
        return Ok(address.link);
    }
    // One way out is the way in, even where no route leads back.
    let all: Vec<IfIndex> = context
        .world
        .underlay_devices()
        .iter()
        .filter(|(of, _)| *of == ns)
        .map(|&(_, dev)| dev)
        .collect();
    match all.as_slice() {
        [one] => Ok(*one),
        _ => Err(QueryError::Entry {
            node: node.to_owned(),
            client,
            devices: devices(context, ns),
        }),
    }
}

/// Devices of a namespace a packet can come in by from outside, then the others.
fn devices(context: Context<'_, '_>, ns: NsId) -> Vec<String> {
    let links = context.world.space(ns).links();
    let out = |dev: IfIndex| context.world.underlay_devices().contains(&(ns, dev));
    let (mut first, second): (Vec<_>, Vec<_>) = links.iter().filter(|l| !l.flags.loopback).partition(|l| out(l.index));
    first.extend(second);
    first.into_iter().map(|l| l.name.clone()).collect()
}
