//! Sentences about how a packet ends, for verdict lines and findings.

use std::net::IpAddr;

use crate::explanation::{
    Answer, Branch, ClientSees, End, Engine, Evidence, Explanation, Glossary, Hop, NsId, Outcome, Reason, Source,
    Target, What,
};
use crate::names::Whose;
use crate::owner;
use crate::render::words;

/// A namespace as people call it: the pod, else the node.
#[must_use]
pub fn place(glossary: &Glossary, ns: Option<NsId>) -> String {
    let Some(place) = ns.and_then(|ns| glossary.places.get(&ns)) else {
        return "a place outside the snapshot".to_owned();
    };
    match (&place.pod, &place.netns) {
        (Some(pod), _) => format!("pod {pod}"),
        (None, Some(id)) => format!("netns {id} on {}", place.node),
        (None, None) => place.node.clone(),
    }
}

/// The node of a namespace.
#[must_use]
pub fn node(glossary: &Glossary, ns: Option<NsId>) -> Option<&str> {
    ns.and_then(|ns| glossary.places.get(&ns)).map(|p| &*p.node)
}

/// Whose an address is, in two words.
#[must_use]
pub fn whose(glossary: &Glossary, addr: IpAddr) -> Option<String> {
    Some(match glossary.whose(addr)? {
        Whose::Pod(pod) => pod.to_string(),
        Whose::ClusterIp(service) => format!("service {service}"),
        Whose::LoadBalancer(service) => format!("load balancer of {service}"),
        Whose::ExternalIp(service) => format!("external IP of {service}"),
        Whose::Node(node) => node.clone(),
        Whose::Netns(ns) => place(glossary, Some(*ns)),
    })
}

/// Who sends, as people call it.
#[must_use]
pub fn source(source: &Source) -> String {
    match source {
        Source::Pod { pod, .. } => pod.to_string(),
        Source::Node(node) => node.clone(),
        Source::Netns { node, id } => format!("netns {id} on {node}"),
        Source::Client { addr, .. } => addr.to_string(),
    }
}

/// What is addressed, as people call it.
#[must_use]
pub fn target(explanation: &Explanation) -> String {
    let (_, socket) = words::ends(&explanation.sent);
    match &explanation.dst {
        Target::Address | Target::Localhost => socket,
        Target::Node(node) => match explanation.sent.dport() {
            Some(port) => format!("{node}:{}", port.value),
            None => node.clone(),
        },
        Target::Pod(pod) => match explanation.sent.dport() {
            Some(port) => format!("{pod}:{}", port.value),
            None => pod.to_string(),
        },
        Target::Service { port, .. } => port.to_string(),
    }
}

/// The server of a branch that was delivered: `shop/web-0 (10.244.1.3:8080 on node-2)`.
#[must_use]
pub fn server(glossary: &Glossary, branch: &Branch) -> String {
    let (_, socket) = words::ends(&branch.end.packet);
    let on = node(glossary, branch.end.place.ns).unwrap_or("?");
    match branch.end.place.ns.and_then(|ns| glossary.places.get(&ns)) {
        Some(place) => match &place.pod {
            Some(pod) => format!("{pod} ({socket} on {on})"),
            None => match program(branch) {
                Some(program) => format!("{program} on {} ({socket})", self::place(glossary, branch.end.place.ns)),
                None => format!("{} ({socket})", self::place(glossary, branch.end.place.ns)),
            },
        },
        None => socket,
    }
}

/// The program that takes a delivered packet.
#[must_use]
pub fn program(branch: &Branch) -> Option<String> {
    let steps = branch.hops.last()?.steps.iter().rev();
    let mut programs = steps.filter_map(|s| match &s.what {
        What::Socket { program } => program.as_ref().map(ToString::to_string),
        _ => None,
    });
    programs.next()
}

/// The rule or policy that ended a packet: table, chain, engine, owner.
struct Decider {
    table: String,
    chain: String,
    engine: Engine,
    owner: Option<owner::Owner>,
}

fn decider(hops: &[Hop]) -> Option<Decider> {
    let steps = hops.last()?.steps.iter().rev();
    let mut deciding = steps.filter_map(|step| match &step.what {
        What::Rule {
            engine,
            table,
            chain,
            verdict: Some(_),
        } => {
            let text = step.evidence.first().map_or("", |e| &*e.text);
            let owner = owner::of_rule(*engine, table, chain, text);
            Some(Decider {
                table: table.to_string(),
                chain: chain.to_string(),
                engine: *engine,
                owner,
            })
        }
        What::Policy {
            engine, table, chain, ..
        } => Some(Decider {
            table: table.to_string(),
            chain: chain.to_string(),
            engine: *engine,
            owner: owner::of_chain(*engine, table, chain),
        }),
        _ => None,
    });
    deciding.next()
}

impl Decider {
    fn say(&self) -> String {
        let owner = self
            .owner
            .map(|o| format!(", written by {}", words::owner(o)))
            .unwrap_or_default();
        let engine = match self.engine {
            Engine::XtLegacy => " (iptables-legacy)",
            Engine::XtNft => "",
            Engine::Nft => " (nftables)",
        };
        format!("{} {}{engine}{owner}", self.table, self.chain)
    }
}

/// What becomes of a packet that does not arrive: `node-2 drops it: filter FORWARD, policy DROP`.
#[must_use]
pub fn end(glossary: &Glossary, end: &End, hops: &[Hop], reject: Option<crate::explanation::Reject>) -> String {
    let at = place(glossary, end.place.ns);
    let (src, dst) = (end.packet.src, end.packet.dst);
    let by = || decider(hops).map(|d| d.say()).unwrap_or_default();
    let iif = || {
        let hop = hops.last();
        hop.and_then(|h| h.iif.map(|dev| glossary.device(h.ns, dev).to_owned()))
            .unwrap_or_else(|| "?".to_owned())
    };
    let oif = || match (end.place.ns, end.place.oif) {
        (Some(ns), Some(dev)) => glossary.device(ns, dev).to_owned(),
        _ => {
            let hop = hops.last();
            hop.and_then(|h| h.oif.map(|dev| glossary.device(h.ns, dev).to_owned()))
                .unwrap_or_else(|| "?".to_owned())
        }
    };
    match end.reason {
        Reason::Rule => format!("{at} drops it: a rule in {}", by()),
        Reason::Policy => format!(
            "{at} drops it: no rule of {} accepts it, and the chain's policy is DROP",
            by()
        ),
        Reason::RejectRule => {
            let how = reject.map_or("", words::reject);
            format!("{at} rejects it with {how}: a rule in {}", by())
        }
        Reason::NoRoute => format!("{at} has no route to {dst}"),
        Reason::UnreachableRoute => format!("{at} has an unreachable route for {dst}"),
        Reason::ProhibitRoute => format!("{at} has a prohibit route or rule for {dst}"),
        Reason::BlackholeRoute => format!("{at} has a blackhole route or rule for {dst}"),
        Reason::RpFilter => {
            format!(
                "{at} drops it: rp_filter on {}, the way back to {src} is by another device",
                iif()
            )
        }
        Reason::Martian if hops.last().is_none_or(|h| h.iif.is_none()) => {
            format!("{at} drops it: a packet from {src} to {dst} may not leave (martian source)")
        }
        Reason::Martian => format!(
            "{at} drops it: a packet from {src} to {dst} cannot come in by {} (martian)",
            iif()
        ),
        Reason::ForwardingOff => format!("{at} drops it: it does not forward packets that come in by {}", iif()),
        Reason::TtlExpired => format!("the TTL runs out on {at}"),
        Reason::HopLimit => "it goes round in circles".to_owned(),
        Reason::NoNeighbour if end.place.ns.is_none() => {
            format!("nobody who was captured answers when {src} asks on the segment for the MAC of {dst}")
        }
        Reason::NoNeighbour => format!("nobody answers when {at} asks by {} for the next hop's MAC", oif()),
        Reason::QuestionLost => format!(
            "a rule loses what {at} asks by {} for the next hop's MAC, or the answer",
            oif()
        ),
        Reason::WrongMac if end.place.oif.is_none() => {
            format!("{at} gets a frame whose MAC is not its own, and throws it away")
        }
        Reason::WrongMac => format!(
            "{at} sends the frame by {} to a MAC that is nobody's who would take it",
            oif()
        ),
        Reason::LinkDown => format!("device {} of {at} is down", oif()),
        Reason::PortState => format!("bridge port {} of {at} is not forwarding", oif()),
        Reason::NoHairpin => {
            format!("the bridge of {at} does not send a frame out of the port it came in by (hairpin off)")
        }
        Reason::Isolated => format!("both bridge ports on {at} are isolated"),
        Reason::VlanFilter => format!("VLAN filtering on {at} drops the frame"),
        Reason::NoFloodTarget => {
            format!("the bridge of {at} knows no port for the MAC, and nobody behind a port takes it")
        }
        Reason::NoTunnelRemote => {
            format!(
                "tunnel device {} of {at} has no entry that says behind which node the MAC is",
                oif()
            )
        }
        Reason::NoTunnelSession => format!(
            "tunnel device {} of {at} has no session with its peer, and the handshake for one is lost",
            oif()
        ),
        Reason::NoTunnelDevice => format!("{at} has no tunnel device that takes the outer packet"),
        Reason::NoListener => match end.packet.dport() {
            Some(port) => format!("nobody listens on port {} of {at}", port.value),
            None => format!("nobody on {at} takes it"),
        },
        Reason::NoProtocol => format!("{at} has no handler for protocol {}", words::protocol(end.packet.proto)),
        Reason::MasqueradeMoved => {
            format!("its connection was masqueraded for another device of {at} than the one it would leave by")
        }
        Reason::HasSocket => format!("TPROXY gave it a socket of {at}, and no route brings it there"),
        Reason::TooBig => format!(
            "it is larger than the MTU of {} on {at}, and may not be fragmented",
            oif()
        ),
        Reason::PeerOutside => format!("it leaves {at} by {}, whose other end is not in the snapshot", oif()),
        Reason::NextHopOutside if end.place.ns.is_none() => {
            format!("{dst} is on the segment of {src}, and nobody who was captured has it")
        }
        Reason::NextHopOutside => format!("it leaves {at} by {} to a next hop outside the snapshot", oif()),
        Reason::Userspace => format!("a program on {at} decides, which this model does not run"),
        Reason::Program => {
            let dev = hops.last().and_then(|hop| {
                hop.steps.iter().rev().find_map(|s| match s.what {
                    What::Program { dev, .. } => Some(glossary.device(hop.ns, dev)),
                    _ => None,
                })
            });
            format!(
                "a program at {} of {at} decides, and programs are not run",
                dev.unwrap_or("a device")
            )
        }
        Reason::NotCaptured => format!("what decides on {at} was not captured"),
        Reason::NotModelled => format!("what decides on {at} is not modelled"),
        Reason::UnexpectedReply => format!("{at} knows no connection that it belongs to"),
        Reason::Socket => format!("a socket on {at} takes it"),
        Reason::Kernel => format!("the kernel of {at} answers it"),
        Reason::Client => "it arrives at the client".to_owned(),
        Reason::NatFailed => format!("{at} finds no address or port to translate it to"),
        Reason::NoSource => format!("{at} has no source address to send from"),
        Reason::NoRealServer => format!("IPVS on {at} has no real server for it"),
        Reason::NoIpvsConnection => format!("IPVS on {at} knows no connection of the real server that sent it"),
    }
}

/// What a branch comes to, as a clause that follows the verdict word.
#[must_use]
pub fn branch(glossary: &Glossary, branch: &Branch) -> String {
    if branch.end.outcome != Outcome::Delivered {
        return end(glossary, &branch.end, &branch.hops, branch.reject);
    }
    let server = server(glossary, branch);
    if branch.client_sees == ClientSees::Reply {
        return match branch.end.reason {
            Reason::Kernel => format!("the kernel of {} answers", place(glossary, branch.end.place.ns)),
            _ => format!("{server} answers"),
        };
    }
    if let Some(followup) = &branch.followup {
        return format!(
            "{server} answers, but the client's next packet is lost: {}",
            end(glossary, &followup.end, &followup.hops, None)
        );
    }
    match &branch.reply {
        None => format!("{server} gets the packet, and nothing comes back"),
        // Of no connection because it comes from a stranger: the reply was not translated back.
        Some(reply)
            if !reply.fits
                && (reply.end.outcome == Outcome::Delivered || reply.end.reason == Reason::UnexpectedReply)
                && branch.dnat =>
        {
            format!(
                "{server} gets the packet, but its answer comes from {}, which is not whom the client asked",
                words::ends(&reply.end.packet).0
            )
        }
        Some(reply) if reply.end.outcome == Outcome::Delivered => match reply.answer {
            Answer::Data => format!("{server} gets the packet and answers"),
            Answer::Reset => format!("{server} gets the packet, and the connection is reset"),
            other => format!("{server} gets the packet, and {} comes back", words::answer(other)),
        },
        Some(reply) => format!(
            "{server} gets the packet, but the answer is lost: {}",
            end(glossary, &reply.end, &reply.hops, None)
        ),
    }
}

/// The rows that decided an end, or that led to the device where it ended. Where a packet simply arrived, or found nobody, no row did; a policy is a
/// reason only when it is the policy that ended it.
pub fn deciding<'a>(end: &'a End, hops: &'a [Hop]) -> Vec<&'a Evidence> {
    let arrived = matches!(
        end.reason,
        Reason::Socket
            | Reason::Kernel
            | Reason::UnexpectedReply
            | Reason::Client
            | Reason::NoListener
            | Reason::NoProtocol
    );
    if arrived {
        return Vec::new();
    }
    let rows: Vec<&Evidence> = end
        .evidence
        .iter()
        .filter(|e| end.reason == Reason::Policy || !e.text.starts_with(':'))
        .collect();
    let led = matches!(
        end.reason,
        Reason::LinkDown
            | Reason::NoNeighbour
            | Reason::QuestionLost
            | Reason::WrongMac
            | Reason::NoTunnelRemote
            | Reason::NoFloodTarget
    );
    if !rows.is_empty() || !led {
        return rows;
    }
    let steps = hops.last().into_iter().flat_map(|h| h.steps.iter().rev());
    let mut routed = steps.filter(|s| matches!(s.what, What::Route { .. } | What::Neighbour { .. }));
    routed
        .find(|s| !s.evidence.is_empty())
        .map(|s| s.evidence.iter().collect())
        .unwrap_or_default()
}
