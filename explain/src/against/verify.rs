//! What it takes to record the kernel's own trace of a flow: where, with which tool, and of which packets.

use std::collections::BTreeMap;

use knet_dataplane::packet::L4;
use knet_dataplane::table::xt::Table;
use knet_dataplane::trace::{Engine, Hook, Hop, NsId};
use knet_dataplane::world::{Netns, World};
use knet_snapshot::id::Family;
use knet_snapshot::xtsave::XtPolicy;

use super::path::{Face, entries};
use super::telling;
use crate::explanation::Explanation;

/// How to record a flow, place by place, in the order it comes to them.
#[derive(Clone, Debug)]
pub struct Verify {
    /// The places.
    pub places: Vec<VerifyPlace>,
    /// Address family of the flow.
    pub family: Family,
}

/// One namespace that the flow passes.
#[derive(Clone, Debug)]
pub struct VerifyPlace {
    /// Which.
    pub ns: NsId,
    /// How to get into it.
    pub enter: Enter,
    /// With what. Empty: there are no rules that a trace could show.
    pub tools: Vec<TraceTool>,
    /// What rules there are was not captured in full.
    pub doubtful: bool,
    /// The packets.
    pub packets: Vec<Wanted>,
}

/// How to get into a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enter {
    /// It is the node's own.
    Host,
    /// By the file it was opened by.
    Path(String),
    /// By its inode.
    Inode(u64),
    /// The capture does not say.
    Unknown,
}

/// What records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceTool {
    /// A table of its own, and `nft monitor trace`: shows native rules and those of iptables-nft.
    Nft {
        /// A name the capture does not have yet.
        table: String,
    },
    /// A TRACE rule of iptables-nft, and `xtables-monitor --trace`.
    XtablesNft {
        /// Base chains of table raw that the capture has.
        raw: Vec<Hook>,
    },
    /// A TRACE rule of iptables-legacy, and the kernel log.
    Legacy {
        /// Who logs for the family, as captured.
        logger: Option<String>,
        /// Other namespaces may log; `None`: the host's sysctls do not say.
        all_namespaces: Option<bool>,
        /// Table raw is there.
        raw: bool,
    },
}

/// A packet to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it comes into the namespace: PREROUTING, or OUTPUT.
    pub hook: Hook,
    /// Addresses and ports; a port that may be any is `None`.
    pub face: Face,
    /// TCP flags: those of the request exactly; of a reply SYN or RST.
    pub flags: Option<u8>,
    /// ICMP type.
    pub icmp: Option<u8>,
    /// It is an answer.
    pub reply: bool,
}

/// What to record of a trace.
pub(crate) fn verify(world: &World<'_>, explanation: &Explanation) -> Verify {
    let any = explanation
        .query
        .sport
        .is_none()
        .then(|| explanation.sent.sport().map(|p| p.value))
        .flatten();
    let family = explanation.sent.family();
    let mut order: Vec<NsId> = Vec::new();
    let mut packets: BTreeMap<NsId, Vec<Wanted>> = BTreeMap::new();
    let mut add = |hops: &[Hop], reply: bool| {
        for (hop, face) in entries(hops) {
            if !order.contains(&hop.ns) {
                order.push(hop.ns);
            }
            let all = packets.entry(hop.ns).or_default();
            let wanted = wanted(hop, face, any, reply);
            if !all.contains(&wanted) {
                all.push(wanted);
            }
        }
    };
    for branch in &explanation.branches {
        add(&branch.hops, false);
    }
    for reply in explanation.branches.iter().filter_map(|b| b.reply.as_ref()) {
        add(&reply.hops, true);
    }
    let places = order
        .into_iter()
        .map(|ns| {
            let space = world.space(ns);
            let (tools, doubtful) = tools(world, space, family);
            VerifyPlace {
                ns,
                enter: enter(world, space),
                tools,
                doubtful,
                packets: packets.remove(&ns).unwrap_or_default(),
            }
        })
        .collect();
    Verify { places, family }
}

fn wanted(hop: &Hop, mut face: Face, any: Option<u16>, reply: bool) -> Wanted {
    let fixed = |port: &knet_dataplane::packet::Port| !port.drawn && any != Some(port.value);
    face.sport = face.sport.filter(fixed);
    face.dport = face.dport.filter(fixed);
    Wanted {
        // Over the loopback device a hop ends as input; it began where no device is named.
        hook: if hop.iif.is_none() {
            Hook::Output
        } else {
            Hook::Prerouting
        },
        face,
        flags: if reply {
            telling(&hop.packet.l4)
                .map(|_| knet_dataplane::packet::tcp_flag::SYN | knet_dataplane::packet::tcp_flag::RST)
        } else {
            telling(&hop.packet.l4)
        },
        icmp: match &hop.packet.l4 {
            L4::Icmp { ty, .. } => Some(*ty),
            _ => None,
        },
        reply,
    }
}

fn enter(world: &World<'_>, space: &Netns<'_>) -> Enter {
    let Some(id) = &space.name.id else { return Enter::Host };
    let info = world.snapshot.node(&space.name.node).and_then(|n| n.netns_entry(id));
    match info.map(|i| (i.path.as_deref().filter(|p| p.starts_with('/')), i.inode)) {
        // A path below /proc is a process', which may be gone.
        Some((Some(path), inode)) if !path.starts_with("/proc/") || inode.is_none() => Enter::Path(path.to_owned()),
        Some((_, Some(inode))) => Enter::Inode(inode),
        _ => Enter::Unknown,
    }
}

/// By what the capture shows: the back ends that hold rules.
fn tools(world: &World<'_>, space: &Netns<'_>, family: Family) -> (Vec<TraceTool>, bool) {
    let (xt, nft) = (space.xt(), space.nft());
    let holds = |engine: Engine| {
        let mut tables = xt.tables().iter();
        tables.any(|t| t.engine == engine && t.family == family && has_rules(t))
    };
    let hooks = [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];
    let native = hooks.iter().any(|hook| !nft.base_chains(family, *hook).is_empty());
    let missing = |engine: Engine| xt.missing().iter().any(|m| m.engine == engine && m.family == family);
    let no_legacy = world.no_legacy_tables(space.id, family);
    let doubtful = nft.missing().is_some() || missing(Engine::XtNft) || (missing(Engine::XtLegacy) && !no_legacy);
    let mut out = Vec::new();
    // Where nobody looked, the monitor that shows most. And for IPv6: xtables-monitor of iptables 1.8.9 ends at
    // the first rule with a port ("unsupported layer 4 protocol value").
    let v6 = family == Family::V6 && holds(Engine::XtNft);
    if native || v6 || nft.missing().is_some() {
        let free = |name: &String| !nft.tables().iter().any(|t| *t.name == **name);
        let names = std::iter::once("knet_trace".to_owned()).chain((2..).map(|n| format!("knet_trace{n}")));
        let table = names.into_iter().find(free).unwrap_or_default();
        out.push(TraceTool::Nft { table });
    } else if holds(Engine::XtNft) {
        let raw = nft.xt_bases().filter(|b| b.table == "raw").map(|b| b.hook).collect();
        out.push(TraceTool::XtablesNft { raw });
    }
    if holds(Engine::XtLegacy) {
        let key = match family {
            Family::V4 => "net.netfilter.nf_log.2",
            Family::V6 => "net.netfilter.nf_log.10",
        };
        let value =
            |space: &Netns<'_>, key: &str| space.facts.sysctls().get().and_then(|s| s.get(key).map(str::to_owned));
        let host = world.space(world.host_of(space.id));
        out.push(TraceTool::Legacy {
            logger: value(space, key),
            all_namespaces: value(host, "net.netfilter.nf_log_all_netns").map(|v| v != "0"),
            raw: xt
                .tables()
                .iter()
                .any(|t| t.engine == Engine::XtLegacy && t.family == family && &*t.name == "raw"),
        });
    }
    (out, doubtful)
}

/// The table can do something to a packet.
fn has_rules(table: &Table<'_>) -> bool {
    (0..table.len()).any(|i| table.chain(i).is_some_and(|c| !c.is_empty()) || table.policy(i) == XtPolicy::Drop)
}
