//! What is addressed: an address and a port out of a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_dataplane::trace::NsId;
use knet_snapshot::cluster::{EndpointPort, Pod, Service, ServicePort};
use knet_snapshot::id::Family;

use super::error::{Kind, PortChoice, QueryError};
use super::form::{self, TargetForm};
use super::{Context, Target, fields, find};
use crate::names::Named;
use crate::query::Query;
use crate::service_chain::ServicePortName;

/// A destination that was found.
pub struct Found {
    /// Addresses and ports; never empty. Several for a headless service.
    pub addresses: Vec<(IpAddr, Option<u16>)>,
    /// The protocol of the service port.
    pub protocol: Option<String>,
    /// What it is.
    pub name: Target,
    /// How it can be written, without a port.
    pub text: String,
}

/// Looks DST up. `families` are those the source can send, the preferred first; `portless` says that the
/// protocol asked for has no ports.
pub fn resolve(
    context: Context<'_, '_>,
    query: &Query,
    families: &[Family],
    portless: bool,
) -> Result<Found, QueryError> {
    let default = query.namespace.as_deref();
    let one = |addr, port, name, text: String| {
        Ok(Found {
            addresses: vec![(addr, port)],
            protocol: None,
            name,
            text,
        })
    };
    match form::target(&query.dst)? {
        TargetForm::Address(addr, port) => {
            if let Some(family) = query.family.map(Family::from)
                && family != Family::of(addr)
            {
                return Err(QueryError::NoAddress {
                    target: addr.to_string(),
                    family: Some(family),
                    has: vec![addr],
                });
            }
            let text = if addr.is_ipv6() {
                format!("[{addr}]")
            } else {
                addr.to_string()
            };
            one(addr, port, Target::Address, text)
        }
        TargetForm::Localhost(port) => {
            let addr = match query.family.map(Family::from) {
                Some(Family::V6) => IpAddr::V6(Ipv6Addr::LOCALHOST),
                _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
            };
            one(addr, port, Target::Localhost, "localhost".to_owned())
        }
        TargetForm::Node(name, port) => {
            let node = find::node(context, &name)?;
            let text = format!("node/{node}");
            let port = numeric(&text, port, Vec::new())?;
            let addr = pick(&text, &node_addresses(context, &node), families)?;
            one(addr, port, Target::Node(node), text)
        }
        TargetForm::Pod(namespace, name, port) => {
            let pod = find::pod(context, namespace.as_deref().or(default), &name)?;
            self::pod(context, pod, port, families, portless)
        }
        TargetForm::Service(namespace, name, port) => {
            let found = find::service(context, namespace.as_deref().or(default), &name)?;
            service(context, &found, port, query, families, portless)
        }
        TargetForm::Name(namespace, name, port) => {
            let namespace = namespace.as_deref().or(default);
            find::known_namespace(context, namespace)?;
            match find::among(context.names.services().map(|(n, _)| n), namespace, &name) {
                find::Found::One(found) => return service(context, &found, port, query, families, portless),
                find::Found::Many(many) => {
                    return Err(find::ambiguous(&name, many.iter().map(|n| format!("svc/{n}"))));
                }
                find::Found::Nothing => {}
            }
            match find::among(context.names.pods().map(|(n, _)| n), namespace, &name) {
                find::Found::One(pod) => return self::pod(context, pod, port, families, portless),
                find::Found::Many(many) => {
                    return Err(find::ambiguous(&name, many.iter().map(|n| format!("pod/{n}"))));
                }
                find::Found::Nothing => {}
            }
            // `web.shop`, `web.shop.svc.cluster.local`: as DNS has it.
            if let Some(found) = dns_name(context, namespace, &name) {
                return service(context, &found, port, query, families, portless);
            }
            Err(find::not_found(context, Kind::Destination, namespace, &name))
        }
    }
}

/// The service a cluster DNS name stands for.
fn dns_name(context: Context<'_, '_>, namespace: Option<&str>, name: &str) -> Option<Named> {
    let mut labels = name.split('.');
    let (service, of) = (labels.next()?, labels.next()?);
    let named = Named::new(of, service);
    let rest_fits = labels.next().is_none_or(|third| third == "svc");
    (namespace.is_none() && rest_fits && context.names.service(&named).is_some()).then_some(named)
}

/// A port that must be a number, or the name of one of `choices`.
fn numeric(target: &str, port: Option<String>, choices: Vec<PortChoice>) -> Result<Option<u16>, QueryError> {
    let Some(port) = port else { return Ok(None) };
    if let Some(n) = port.parse().ok().filter(|&n| n != 0) {
        return Ok(Some(n));
    }
    match choices.iter().find(|c| c.name.as_deref() == Some(&*port)) {
        Some(choice) => Ok(Some(choice.port)),
        None => Err(QueryError::NoPort {
            target: target.to_owned(),
            port,
            ports: choices,
        }),
    }
}

/// The first address in the order of the families.
fn pick(target: &str, addresses: &[IpAddr], families: &[Family]) -> Result<IpAddr, QueryError> {
    families
        .iter()
        .find_map(|&family| addresses.iter().copied().find(|&a| Family::of(a) == family))
        .ok_or_else(|| QueryError::NoAddress {
            target: target.to_owned(),
            family: if let [one] = families { Some(*one) } else { None },
            has: addresses.to_vec(),
        })
}

/// The addresses of a node: its InternalIPs; without the object, those of the devices that lead out of it,
/// then all global ones.
pub fn node_addresses(context: Context<'_, '_>, node: &str) -> Vec<IpAddr> {
    let Some(entry) = context.names.node(node) else {
        return Vec::new();
    };
    let internal: Vec<IpAddr> = entry.object.map(|n| n.ips("InternalIP").collect()).unwrap_or_default();
    let Some(ns) = entry.ns.filter(|_| internal.is_empty()) else {
        return internal;
    };
    let links = context.world.space(ns).links();
    let out = |dev| context.world.underlay_devices().contains(&(ns, dev));
    let mut all: Vec<(bool, IpAddr)> = [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| links.addresses(family))
        .filter(|a| a.scope == 0 && !a.local.is_loopback())
        .map(|a| (!out(a.link), a.local))
        .collect();
    all.sort_by_key(|&(inner, _)| inner);
    all.into_iter().map(|(_, a)| a).collect()
}

/// The addresses of a pod: of the object; without it, those in its namespace.
fn pod_addresses(context: Context<'_, '_>, object: Option<&Pod>, ns: Option<NsId>) -> Vec<IpAddr> {
    let listed = object.map(|p| p.ips.clone()).unwrap_or_default();
    let Some(ns) = ns.filter(|_| listed.is_empty()) else {
        return listed;
    };
    let links = context.world.space(ns).links();
    [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| links.addresses(family))
        .filter(|a| a.scope == 0 && !a.local.is_loopback())
        .map(|a| a.local)
        .collect()
}

fn pod(
    context: Context<'_, '_>,
    pod: Named,
    port: Option<String>,
    families: &[Family],
    portless: bool,
) -> Result<Found, QueryError> {
    let text = format!("pod/{pod}");
    let entry = context.names.pod(&pod);
    let object = entry.and_then(|e| e.object);
    let mut choices: Vec<PortChoice> = object
        .map(|p| &*p.ports)
        .unwrap_or_default()
        .iter()
        .map(|p| PortChoice {
            name: p.name.clone(),
            port: p.port,
            protocol: p.protocol.clone(),
        })
        .collect();
    choices.sort_by_key(|c| c.port);
    choices.dedup();
    let (port, protocol) = match (port, choices.as_slice()) {
        _ if portless => (None, None),
        (None, [only]) => (Some(only.port), Some(only.protocol.clone())),
        (None, _) => {
            return Err(QueryError::PortNeeded {
                target: text,
                ports: choices,
            });
        }
        (Some(port), _) => {
            // A number with exactly one declared protocol is meant with it: 53/udp of a DNS server is not tcp.
            let number = numeric(&text, Some(port), choices.clone())?;
            let mut of_port = choices
                .iter()
                .filter(|c| Some(c.port) == number)
                .map(|c| c.protocol.clone());
            let protocol = of_port.next();
            (number, if of_port.next().is_some() { None } else { protocol })
        }
    };
    let addr = pick(
        &text,
        &pod_addresses(context, object, entry.and_then(|e| e.ns)),
        families,
    )?;
    Ok(Found {
        addresses: vec![(addr, port)],
        protocol,
        name: Target::Pod(pod),
        text,
    })
}

fn service(
    context: Context<'_, '_>,
    named: &Named,
    port: Option<String>,
    query: &Query,
    families: &[Family],
    portless: bool,
) -> Result<Found, QueryError> {
    let Some(service) = context.names.service(named) else {
        return Err(find::not_found(
            context,
            Kind::Service,
            Some(&named.namespace),
            &named.name,
        ));
    };
    let text = format!("svc/{named}");
    if service.kind == "ExternalName" {
        let host = service.external_name.clone().unwrap_or_default();
        return Err(QueryError::ExternalName {
            service: named.clone(),
            host,
        });
    }
    if portless {
        let name = ServicePortName {
            service: named.clone(),
            port: String::new(),
        };
        let name = Target::Service {
            port: name,
            headless: service.headless,
        };
        let addresses = match service.headless {
            true => endpoints(context, named, None, families)?
                .into_iter()
                .map(|(a, _)| (a, None))
                .collect(),
            false => vec![(pick(&text, &service.cluster_ips, families)?, None)],
        };
        return Ok(Found {
            addresses,
            protocol: None,
            name,
            text,
        });
    }
    let chosen = choose_port(service, &text, port, query.proto.as_deref())?;
    let name = ServicePortName {
        service: named.clone(),
        port: chosen.name.clone().unwrap_or_default(),
    };
    let name = Target::Service {
        port: name,
        headless: service.headless,
    };
    let addresses = if service.headless {
        endpoints(context, named, Some(chosen), families)?
    } else {
        vec![(pick(&text, &service.cluster_ips, families)?, Some(chosen.port))]
    };
    Ok(Found {
        addresses,
        protocol: Some(chosen.protocol.clone()),
        name,
        text,
    })
}

/// The service port that is meant: by name, by number (and protocol), or the only one.
fn choose_port<'a>(
    service: &'a Service,
    text: &str,
    port: Option<String>,
    protocol: Option<&str>,
) -> Result<&'a ServicePort, QueryError> {
    let choices = || {
        let choice = |p: &ServicePort| PortChoice {
            name: p.name.clone(),
            port: p.port,
            protocol: p.protocol.clone(),
        };
        service.ports.iter().map(choice).collect::<Vec<_>>()
    };
    let asked = protocol.map(fields::protocol).transpose()?;
    let speaks = |p: &&ServicePort| asked.is_none_or(|a| fields::protocol(&p.protocol) == Ok(a));
    let Some(port) = port else {
        let fit: Vec<_> = service.ports.iter().filter(speaks).collect();
        return match fit.as_slice() {
            [only] => Ok(only),
            _ => Err(QueryError::PortNeeded {
                target: text.to_owned(),
                ports: choices(),
            }),
        };
    };
    let mut named = service.ports.iter().filter(|p| p.name.as_deref() == Some(&*port));
    let number = port.parse::<u16>().ok();
    let numbered: Vec<_> = service.ports.iter().filter(|p| number == Some(p.port)).collect();
    let found = match (named.next(), numbered.as_slice()) {
        (Some(named), _) => named,
        (None, []) => {
            return Err(QueryError::NoPort {
                target: text.to_owned(),
                port,
                ports: choices(),
            });
        }
        // 53/udp and 53/tcp: the protocol asked for, else the first as written.
        (None, all) => all.iter().find(|p| speaks(p)).unwrap_or(&all[0]),
    };
    if !speaks(&found) {
        return Err(QueryError::OtherProtocol {
            target: text.to_owned(),
            port: found.port,
            has: found.protocol.clone(),
            asked: protocol.unwrap_or_default().to_owned(),
        });
    }
    Ok(found)
}

/// What DNS answers for a headless service: the ready endpoints, in the first family that has any.
fn endpoints(
    context: Context<'_, '_>,
    service: &Named,
    port: Option<&ServicePort>,
    families: &[Family],
) -> Result<Vec<(IpAddr, Option<u16>)>, QueryError> {
    let publish = context
        .names
        .service(service)
        .is_some_and(|s| s.publish_not_ready_addresses);
    for &family in families {
        let mut found = Vec::new();
        for slice in context.names.slices(service) {
            let wanted = |p: &&EndpointPort| port.is_some_and(|want| p.name == want.name.clone().unwrap_or_default());
            let number = slice.ports.iter().find(wanted).and_then(|p| p.port);
            if port.is_some() && number.is_none() {
                continue;
            }
            let ready = slice.endpoints.iter().filter(|e| publish || e.ready != Some(false));
            let addresses = ready.flat_map(|e| &e.addresses).filter(|a| Family::of(**a) == family);
            found.extend(addresses.map(|&a| (a, number)));
        }
        found.sort_unstable();
        found.dedup();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let family = if let [one] = families { Some(*one) } else { None };
    Err(QueryError::NoEndpoints {
        service: service.clone(),
        family,
    })
}
