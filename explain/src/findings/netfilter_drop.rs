//! A filter rule or policy ended the packet, and who wrote it.

use knet_dataplane::trace::{Engine, Reason, What};
use knet_snapshot::artifact::name;

use super::{Cx, Finding, Found, Severity, refusal};
use crate::owner;

/// Names the table, the chain and its writer. kube-proxy's own answers about endpoints have findings of
/// their own.
pub(super) fn check(cx: &Cx<'_, '_>) -> Vec<Finding> {
    let mut out = Vec::new();
    for loss in cx.losses() {
        if !matches!(loss.end.reason, Reason::Rule | Reason::Policy | Reason::RejectRule) {
            continue;
        }
        let Some(ns) = loss.end.place.ns else { continue };
        // What kube-proxy refuses on purpose has findings of its own.
        if refusal::of(cx, &loss).is_some() {
            continue;
        }
        let steps = loss.hops.last().into_iter().flat_map(|h| h.steps.iter().rev());
        let deciding = steps.filter_map(|step| match &step.what {
            What::Rule {
                engine,
                table,
                chain,
                verdict: Some(_),
            } => Some((*engine, table, chain, step)),
            What::Policy {
                engine, table, chain, ..
            } => Some((*engine, table, chain, step)),
            _ => None,
        });
        let Some((engine, table, chain, step)) = deciding.into_iter().next() else {
            continue;
        };
        let text = step.evidence.first().map_or("", |e| &*e.text);
        let policy = loss.end.reason == Reason::Policy;
        let own = matches!(&**chain, "KUBE-PROXY-FIREWALL" | "cluster-ips-check") || chain.starts_with("firewall-");
        if own {
            continue;
        }
        let undo = (!policy)
            .then(|| undo(engine, table, text, loss.end.packet.dst.is_ipv6()))
            .flatten();
        let docker = policy && engine != Engine::Nft && has_docker(cx, ns);
        let what = Found::Filtered {
            node: cx.place(ns),
            table: table.to_string(),
            chain: chain.to_string(),
            owner: owner::of_rule(engine, table, chain, text),
            policy,
            docker,
            undo,
        };
        out.push(Cx::found(Severity::Error, what, loss.end.evidence.clone()));
    }
    out
}

/// The command that deletes a rule as `iptables-save` prints it.
fn undo(engine: Engine, table: &str, text: &str, v6: bool) -> Option<String> {
    let tool = match (engine, v6) {
        (Engine::XtNft, false) => "iptables-nft",
        (Engine::XtNft, true) => "ip6tables-nft",
        (Engine::XtLegacy, false) => "iptables-legacy",
        (Engine::XtLegacy, true) => "ip6tables-legacy",
        (Engine::Nft, _) => return None,
    };
    Some(format!("{tool} -t {table} -D {}", text.strip_prefix("-A ")?))
}

/// dockerd sets `-P FORWARD DROP` when it turns forwarding on.
fn has_docker(cx: &Cx<'_, '_>, ns: knet_dataplane::trace::NsId) -> bool {
    let facts = cx.world.space(ns).facts;
    [name::IPTABLES_NFT, name::IPTABLES_LEGACY].iter().any(|file| {
        facts
            .bytes(file)
            .get()
            .is_some_and(|bytes| String::from_utf8_lossy(bytes).contains("\n:DOCKER-USER "))
    })
}
