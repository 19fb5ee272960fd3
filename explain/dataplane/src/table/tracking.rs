//! Whether a namespace tracks connections: `nf_ct_netns_get` is called by the first rule that needs conntrack, and
//! never by an empty nat table.

use knet_snapshot::id::Family;
use knet_snapshot::nft::{self as raw, NatKind};

use super::ipvs::Ipvs;
use super::nft::expr::{Expr, Node};
use super::nft::stmt::{Effect, Match as NftMatch, Right, Stmt, Target as NftTarget};
use super::nft::{NfFamily, Nft};
use super::xt::Xt;
use super::xt::matches::Match;
use super::xt::rule::Rule;
use super::xt::target::{CtTarget, Target};
use crate::tri::Tri;

/// Some rule of the family, or an IPVS service, needs connections to be tracked.
pub(crate) fn tracks(family: Family, xt: &Xt<'_>, nft: &Nft<'_>, ipvs: &Ipvs<'_>) -> Tri {
    let mut known = Tri::No;
    let own = xt.tables().iter().filter(|t| t.family == family);
    for table in own {
        for chain in (0..table.len()).filter_map(|i| table.chain(i)) {
            for rule in (0..chain.len()).filter_map(|i| table.rule(chain, i)) {
                known = known.or(xt_rule(rule));
                if known == Tri::Yes {
                    return Tri::Yes;
                }
            }
        }
    }
    for (i, table) in nft.tables().iter().enumerate() {
        let fits = match table.family {
            // nf_ct_netns_get: for bridges it is turned on for both families too.
            NfFamily::Inet | NfFamily::Bridge => true,
            NfFamily::Ip => family == Family::V4,
            NfFamily::Ip6 => family == Family::V6,
            _ => false,
        };
        if !fits {
            continue;
        }
        for chain in nft.chains_of(i) {
            for rule in nft.rules(chain) {
                known = rule.stmts.iter().fold(known, |k, stmt| k.or(nft_stmt(stmt, family)));
                known = rule.decl.expr.iter().fold(known, |k, stmt| k.or(other(stmt)));
                if known == Tri::Yes {
                    return Tri::Yes;
                }
            }
        }
    }
    let missing = xt.missing().iter().any(|m| m.family == family) || nft.missing().is_some() || nft.damaged();
    // ip_vs_register_conntrack
    if missing || !ipvs.is_empty() {
        return known.or(Tri::Unknown);
    }
    known
}

/// The first rule of a bridge's table that needs connections, by the handles of its table and its own: with it
/// `nf_conntrack_bridge` begins to track frames.
pub(crate) fn tracks_bridges(nft: &Nft<'_>) -> Option<(u64, u64)> {
    let tables = nft.tables().iter().enumerate();
    let bridges = tables.filter(|(_, t)| t.family == NfFamily::Bridge);
    let rules = bridges.flat_map(|(i, t)| {
        let rules = nft.chains_of(i).flat_map(|chain| nft.rules(chain));
        rules.map(move |rule| (t.handle, rule))
    });
    rules
        .filter(|(_, rule)| rule.stmts.iter().any(|s| nft_stmt(s, Family::V4) == Tri::Yes))
        .map(|(table, rule)| (table, rule.decl.handle))
        .min()
}

/// The matches and targets whose `checkentry` takes a reference to conntrack. `CT --notrack` does not.
fn xt_rule(rule: &Rule) -> Tri {
    let matches = rule.matches.iter().fold(Tri::No, |so_far, m| {
        so_far.or(match m {
            Match::Conntrack(_) | Match::Connmark(_) | Match::Helper { .. } => Tri::Yes,
            Match::Opaque("connbytes" | "connlimit" | "connlabel" | "cluster") => Tri::Yes,
            Match::Unknown(_) => Tri::Unknown,
            _ => Tri::No,
        })
    });
    matches.or(match &rule.target {
        Target::Dnat(_)
        | Target::Snat(_)
        | Target::Masquerade(_)
        | Target::Redirect(_)
        | Target::Netmap(_)
        | Target::Connmark(_)
        | Target::Ct(CtTarget::Template { .. }) => Tri::Yes,
        Target::Unknown(_) => Tri::Unknown,
        _ => Tri::No,
    })
}

/// Expressions of `nft_ct.c`, `nft_nat.c`, `nft_masq.c`, `nft_redir.c` and `nft_flow_offload.c`.
fn nft_stmt(stmt: &Stmt<'_>, family: Family) -> Tri {
    match stmt {
        Stmt::Match(m) => nft_match(m),
        Stmt::Vmap(key, _) => asks(key).into(),
        Stmt::Object(key, _, effect) => Tri::from(asks(key)).or(nft_effect(*effect)),
        Stmt::Update { key, effect, .. } => Tri::from(asks(key)).or(nft_effect(*effect)),
        Stmt::Mangle(target, value) => {
            let own = matches!(target, NftTarget::CtMark | NftTarget::CtZone);
            (own || asks(value)).into()
        }
        // nft_tproxy_init asks for defragmentation only.
        Stmt::Nat(nat) if nat.kind == NatKind::Tproxy => Tri::No,
        // nft_nat_init: of an inet table's rule only the family it names.
        Stmt::Nat(nat) => match nat.family {
            Some(NfFamily::Ip) => (family == Family::V4).into(),
            Some(NfFamily::Ip6) => (family == Family::V6).into(),
            _ => Tri::Yes,
        },
        Stmt::Helper(_) => Tri::Yes,
        Stmt::Plain(effect) => nft_effect(*effect),
        _ => Tri::No,
    }
}

const fn nft_effect(effect: Effect) -> Tri {
    match effect {
        Effect::Offloads | Effect::Proxies => Tri::Yes,
        _ => Tri::No,
    }
}

/// Statements that the model has no words for.
fn other(stmt: &raw::Stmt) -> Tri {
    match stmt {
        raw::Stmt::Other(key, _) if key.starts_with("ct ") => Tri::Yes,
        raw::Stmt::Xt(..) => Tri::Unknown,
        _ => Tri::No,
    }
}

fn nft_match(m: &NftMatch<'_>) -> Tri {
    let right = match &m.right {
        Right::Expr(expr) => asks(expr),
        _ => false,
    };
    (asks(&m.left) || right).into()
}

fn asks(expr: &Expr<'_>) -> bool {
    match &expr.node {
        Node::Ct(..) => true,
        Node::Jhash { inner, .. } => asks(inner),
        Node::Binary(_, list) | Node::Concat(list) => list.iter().any(asks),
        Node::Map(key, _) => asks(key),
        _ => false,
    }
}
