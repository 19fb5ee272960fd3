//! Compares what the walk says with what happened.

use std::net::IpAddr;

use knet_dataplane::packet::{L4, proto, tcp_flag};
use knet_dataplane::trace::{Answer, Branch, ClientSees, Detail, Outcome, Reason, Trace};
use knet_dataplane::walk::{Limits, Origin, Start, trace};
use knet_dataplane::world::World;

use crate::lab::netns_id;
use crate::plan::Plan;
use crate::traffic::{Flow, Kind, Observed};

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Agrees,
    /// The walk cannot tell.
    Unknown,
    Differs,
}

/// The packet of a flow, as the walk starts it.
pub fn start(world: &World<'_>, plan: &Plan, flow: &Flow, id: u16) -> Start {
    let ports = |proto| {
        (
            proto,
            L4::Ports {
                sport: id.into(),
                dport: flow.dport.into(),
            },
        )
    };
    let v4 = flow.dst.is_ipv4();
    let (proto, l4) = match flow.kind {
        Kind::Tcp => (
            proto::TCP,
            L4::Tcp {
                sport: id.into(),
                dport: flow.dport.into(),
                flags: tcp_flag::SYN,
            },
        ),
        Kind::Udp => ports(proto::UDP),
        Kind::Ping => {
            let (proto, ty) = if v4 { (proto::ICMP, 8) } else { (proto::ICMPV6, 128) };
            (
                proto,
                L4::Icmp {
                    ty,
                    code: 0,
                    id: id.into(),
                    quoted: None,
                },
            )
        }
    };
    Start {
        ns: world.find(&netns_id(plan, flow.from)).expect("it was captured"),
        origin: Origin::Local { uid: Some(0) },
        src: None,
        dst: flow.dst,
        proto,
        l4,
        any_sport: true,
        ttl: flow.ttl,
        tos: 0,
        mark: 0,
        len: if flow.size == 0 { 60 } else { flow.size },
    }
}

/// What the walk says of a flow.
pub fn predict(world: &World<'_>, plan: &Plan, flow: &Flow, id: u16) -> Trace {
    trace(
        world,
        &start(world, plan, flow, id),
        Detail::Decisions,
        Limits::default(),
    )
}

/// Whether any way the packet can go is what happened.
pub fn judge(world: &World<'_>, plan: &Plan, flow: &Flow, observed: &Observed, trace: &Trace) -> Verdict {
    if trace.branches.iter().any(|b| agrees(world, plan, flow, observed, b)) {
        Verdict::Agrees
    } else if observed.sees == ClientSees::Reply && trace.branches.iter().any(told_too_big) {
        // Somebody was told before, and cuts up what he sends there.
        Verdict::Agrees
    } else if trace.branches.iter().any(|b| b.client_sees == ClientSees::Unknown) {
        Verdict::Unknown
    } else {
        Verdict::Differs
    }
}

/// A packet on the way was too big, and its sender is told.
fn told_too_big(branch: &Branch) -> bool {
    let reply = branch.reply.as_ref();
    let told = reply.is_some_and(|r| r.answer == Answer::TooBig);
    told || reply.is_some_and(|r| r.end.reason == Reason::TooBig)
}

/// The space of the plan that a namespace of the world is.
fn space_of(world: &World<'_>, plan: &Plan, branch: &Branch) -> Option<usize> {
    let ns = branch.end.place.ns?;
    (0..plan.spaces.len()).find(|&i| plan.spaces[i].node.is_some() && world.find(&netns_id(plan, i)) == Some(ns))
}

fn agrees(world: &World<'_>, plan: &Plan, flow: &Flow, observed: &Observed, branch: &Branch) -> bool {
    let same = if flow.kind == Kind::Ping {
        ping_sees(observed, branch)
    } else {
        sees(observed, branch)
    };
    same && answered(world, plan, observed, branch) && arrived(world, plan, flow, observed, branch)
}

fn sees(observed: &Observed, branch: &Branch) -> bool {
    observed.sees == branch.client_sees
        // An ICMP error that comes back before connect() has let go of its socket is only noted there
        // (`sk_err_soft`). On a real wire nothing is that fast.
        || (observed.sees == ClientSees::Timeout
            && branch.end.packet.proto == proto::TCP
            && branch.reply.as_ref().is_some_and(|r| r.fits && matches!(r.end.packet.l4, L4::Icmp { .. })))
}

/// `ping` hears every error that comes home.
fn ping_sees(observed: &Observed, branch: &Branch) -> bool {
    let error = branch
        .reply
        .as_ref()
        .filter(|r| r.fits)
        .and_then(|r| match r.end.packet.l4 {
            L4::Icmp {
                ty,
                code,
                quoted: Some(_),
                ..
            } => Some((ty, code, r.end.packet.src)),
            _ => None,
        });
    match (error, observed.error) {
        (Some(said), Some(heard)) => said == heard,
        (None, None) => sees(observed, branch),
        (None, Some(_)) => false,
        // A neighbour that does not answer is reported after three seconds, to all who wait by then.
        (Some(_), None) => branch.end.outcome == Outcome::NeighbourFailed && observed.sees == ClientSees::Timeout,
    }
}

fn answered(world: &World<'_>, plan: &Plan, observed: &Observed, branch: &Branch) -> bool {
    let Some((name, seen)) = &observed.answered else {
        return true;
    };
    let server = space_of(world, plan, branch).map(|i| plan.spaces[i].short.as_str());
    server == Some(name.as_str()) && *seen == branch.end.packet.src
}

/// IPv4 packets are seen where they are delivered, also when nobody listens there or the answer is lost.
fn arrived(world: &World<'_>, plan: &Plan, flow: &Flow, observed: &Observed, branch: &Branch) -> bool {
    if !flow.dst.is_ipv4() {
        return true;
    }
    let delivered = matches!(branch.end.outcome, Outcome::Delivered | Outcome::NoListener);
    let Some(space) = space_of(world, plan, branch).filter(|_| delivered) else {
        return observed.arrivals.is_empty();
    };
    let packet = &branch.end.packet;
    let fits = |src: IpAddr, dst: IpAddr, ttl: u8| src == packet.src && dst == packet.dst && ttl == packet.ttl;
    !plan.spaces[space].peer
        || observed
            .arrivals
            .iter()
            .any(|a| a.space == space && fits(a.src, a.dst, a.ttl))
}

/// One line for each way the walk says the packet can go.
pub fn describe(world: &World<'_>, trace: &Trace) -> String {
    let name = |ns: Option<knet_dataplane::trace::NsId>| {
        ns.map_or("outside".to_owned(), |ns| {
            format!("{}/{}", world.space(ns).name.node, world.space(ns).name)
        })
    };
    let mut out = String::new();
    for b in &trace.branches {
        out.push_str(&format!(
            "    {:?}: {:?} {:?} at {} packet {} -> {} ttl {}",
            b.client_sees,
            b.end.outcome,
            b.end.reason,
            name(b.end.place.ns),
            b.end.packet.src,
            b.end.packet.dst,
            b.end.packet.ttl
        ));
        if let Some(r) = &b.reply {
            out.push_str(&format!(
                "; reply {:?} fits {} {:?} {:?} at {} {} -> {}",
                r.answer,
                r.fits,
                r.end.outcome,
                r.end.reason,
                name(r.end.place.ns),
                r.end.packet.src,
                r.end.packet.dst
            ));
        }
        if let Some(f) = &b.followup {
            out.push_str(&format!(
                "; followup {:?} {:?} at {}",
                f.end.outcome,
                f.end.reason,
                name(f.end.place.ns)
            ));
        }
        out.push('\n');
        if std::env::var_os("KNET_VERBOSE").is_some() {
            for (leg, hops) in [("", &b.hops)]
                .into_iter()
                .chain(b.reply.as_ref().map(|r| ("reply ", &r.hops)))
            {
                for hop in hops {
                    out.push_str(&format!(
                        "      {leg}{} {:?} iif {:?} oif {:?}\n",
                        name(Some(hop.ns)),
                        hop.stage,
                        hop.iif,
                        hop.oif
                    ));
                    for step in &hop.steps {
                        let texts: Vec<&str> = step.evidence.iter().map(|e| &*e.text).collect();
                        out.push_str(&format!("        {:?} {texts:?}\n", step.what));
                    }
                }
            }
        }
    }
    out
}
