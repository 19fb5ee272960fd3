//! Finding a pod, service or node by name, and the closest names when there is none.

use super::Context;
use super::error::{Kind, QueryError};
use crate::names::Named;

/// The namespace of a name that says none and is in several.
const DEFAULT: &str = "default";

/// What was found for one name.
pub enum Found {
    /// Exactly one, or the one in the default namespace.
    One(Named),
    /// Several, none of them in the default namespace.
    Many(Vec<Named>),
    /// None.
    Nothing,
}

/// Looks a name up among `all`. With a namespace only there; without, in `default`, then everywhere.
pub fn among<'a>(all: impl Iterator<Item = &'a Named>, namespace: Option<&str>, name: &str) -> Found {
    let mut fit: Vec<&Named> = all
        .filter(|n| n.name == name)
        // A namespace known only by its folder has no Kubernetes namespace: any will do.
        .filter(|n| namespace.is_none_or(|ns| n.namespace == ns || n.namespace.is_empty()))
        .collect();
    if fit.len() > 1
        && let Some(i) = fit.iter().position(|n| n.namespace == namespace.unwrap_or(DEFAULT))
    {
        fit = vec![fit[i]];
    }
    match fit.as_slice() {
        [] => Found::Nothing,
        [one] => Found::One((*one).clone()),
        many => Found::Many(many.iter().map(|n| (*n).clone()).collect()),
    }
}

/// A pod.
pub fn pod(context: Context<'_, '_>, namespace: Option<&str>, name: &str) -> Result<Named, QueryError> {
    known_namespace(context, namespace)?;
    let all = || context.names.pods().map(|(n, _)| n);
    match among(all(), namespace, name) {
        Found::One(one) => Ok(one),
        Found::Many(many) => Err(ambiguous(name, many.iter().map(|n| format!("pod/{n}")))),
        Found::Nothing => Err(not_found(context, Kind::Pod, namespace, name)),
    }
}

/// A service.
pub fn service(context: Context<'_, '_>, namespace: Option<&str>, name: &str) -> Result<Named, QueryError> {
    known_namespace(context, namespace)?;
    match among(context.names.services().map(|(n, _)| n), namespace, name) {
        Found::One(one) => Ok(one),
        Found::Many(many) => Err(ambiguous(name, many.iter().map(|n| format!("svc/{n}")))),
        Found::Nothing => Err(not_found(context, Kind::Service, namespace, name)),
    }
}

/// A node that was captured or is in the cluster.
pub fn node(context: Context<'_, '_>, name: &str) -> Result<String, QueryError> {
    match context.names.node(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err(not_found(context, Kind::Node, None, name)),
    }
}

/// Several things of one name.
pub fn ambiguous(name: &str, candidates: impl Iterator<Item = String>) -> QueryError {
    QueryError::Ambiguous {
        name: name.to_owned(),
        candidates: candidates.collect(),
    }
}

/// A namespace that is asked for must be one that something is in.
pub fn known_namespace(context: Context<'_, '_>, namespace: Option<&str>) -> Result<(), QueryError> {
    let Some(namespace) = namespace else { return Ok(()) };
    let exist = context.names.namespaces();
    if exist.is_empty() || exist.iter().any(|n| n == namespace) {
        return Ok(());
    }
    let close = close(namespace, exist.iter().map(|n| (n.as_str(), n.clone())));
    Err(QueryError::NoNamespace {
        name: namespace.to_owned(),
        close,
        exist,
    })
}

/// Nothing of this name: where else it is, and what is close.
pub fn not_found(context: Context<'_, '_>, kind: Kind, namespace: Option<&str>, name: &str) -> QueryError {
    let names = context.names;
    let (pods, services, nodes) = match kind {
        Kind::Pod => (true, false, false),
        Kind::Service => (false, true, false),
        Kind::Node => (false, false, true),
        Kind::Source => (true, false, true),
        Kind::Destination => (true, true, false),
    };
    let all = || {
        let services = names
            .services()
            .map(|(n, _)| ("svc", n.namespace.as_str(), n.name.as_str()));
        let pods = names
            .pods()
            .map(|(n, _)| ("pod", n.namespace.as_str(), n.name.as_str()));
        let nodes = names.all_nodes().map(|(n, _)| ("node", "", n));
        services.chain(pods).chain(nodes)
    };
    let write = |(kind, ns, name): (&str, &str, &str)| {
        if ns.is_empty() {
            format!("{kind}/{name}")
        } else {
            format!("{kind}/{ns}/{name}")
        }
    };
    let elsewhere = all().filter(|&(_, _, n)| n == name).map(write).collect();
    let wanted = all().filter(|&(kind, _, _)| match kind {
        "svc" => services,
        "pod" => pods,
        _ => nodes,
    });
    let close = close(
        name,
        wanted
            .filter(|&(_, _, n)| n != name)
            .map(|entry| (entry.2, write(entry))),
    );
    let not_captured = match kind {
        Kind::Pod | Kind::Source if !names.pods_known => Some("cluster/pods.json"),
        Kind::Service | Kind::Destination if !names.services_known => Some("cluster/services.json"),
        _ => None,
    };
    QueryError::NotFound {
        kind,
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        elsewhere,
        close,
        not_captured,
    }
}

/// The closest of `all` (name, and how it is written), best first, at most five. A name that goes on
/// where the asked one ends (`web` and `web-5d9c7f6b8-2m4xr`) is as close as can be.
pub fn close<'a>(name: &str, all: impl Iterator<Item = (&'a str, String)>) -> Vec<String> {
    let mut scored: Vec<(usize, String)> = all
        .filter_map(|(candidate, written)| {
            if !name.is_empty() && candidate.starts_with(name) {
                return Some((0, written));
            }
            // One slip in three characters: a letter left out, added, wrong or swapped with its neighbour.
            let slips = strsim::damerau_levenshtein(name, candidate);
            let allowed = (name.chars().count() / 3).max(1);
            (slips <= allowed).then_some((slips, written))
        })
        .collect();
    scored.sort();
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(5).map(|(_, written)| written).collect()
}

#[cfg(test)]
mod tests {
    use super::close;

    #[test]
    fn near_misses_are_found_and_far_ones_are_not() {
        let all = ["web-5d9c7f6b8-2m4xr", "web", "api", "frontend", "webhook"];
        let of = |name: &str| close(name, all.iter().map(|n| (*n, (*n).to_owned())));
        assert_eq!(of("we"), ["web", "web-5d9c7f6b8-2m4xr", "webhook"]);
        assert_eq!(of("fronted"), ["frontend"]);
        assert_eq!(of("ai"), ["api"]);
        assert!(of("zzz").is_empty());
    }
}
