//! The walk's netfilter steps in one namespace, in order, with the packet as it was at each.

use std::net::IpAddr;

use knet_dataplane::packet::{L4, Packet, Port};
use knet_dataplane::trace::{Engine, Hop, NsId, RuleVerdict, Step, What};
use knet_snapshot::id::{Family, IfIndex};
use knet_snapshot::kernel_trace::Header;

use super::rules::Rules;
use super::tracer::is_tracer;
use super::{TELLING, telling};

/// Addresses and ports of a packet at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face {
    /// Source.
    pub src: IpAddr,
    /// Source port.
    pub sport: Option<Port>,
    /// Destination.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: Option<Port>,
    /// Protocol.
    pub proto: u8,
}

impl Face {
    /// Of a packet.
    #[must_use]
    pub const fn of(packet: &Packet) -> Self {
        Self {
            src: packet.src,
            sport: packet.sport(),
            dst: packet.dst,
            dport: packet.dport(),
            proto: packet.proto,
        }
    }

    /// The header is that of a packet like this. A port drawn at random is any, and so is the client's when
    /// nobody chose it.
    pub(super) fn fits(&self, header: &Header, any: Option<u16>) -> bool {
        let port = |ours: Option<Port>, theirs: Option<u16>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours.drawn || any == Some(ours.value) || ours.value == theirs,
            // Not printed, or a protocol without ports.
            _ => true,
        };
        self.src == header.src
            && self.dst == header.dst
            && header.proto.is_none_or(|proto| proto == self.proto)
            && (self.sport.is_some() || header.sport.is_none())
            && port(self.sport, header.sport)
            && port(self.dport, header.dport)
    }

    /// As a translation left it.
    fn translated(mut self, source: bool, (addr, port): (IpAddr, Option<Port>)) -> Self {
        if source {
            self.src = addr;
            self.sport = port.or(self.sport);
        } else {
            self.dst = addr;
            self.dport = port.or(self.dport);
        }
        self
    }
}

/// One step that a kernel trace could show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'t> {
    pub step: &'t Step,
    /// The packet before it.
    pub face: Face,
    /// The hop it is in is a local program's packet on its way out.
    pub output: bool,
    /// Counts the base chains.
    pub run: usize,
    /// The kernel would show it. Otherwise it is a rule that did not match, or of which nobody could tell.
    pub shown: bool,
    /// The kernel may not have the chain: `iptables-nft-save` prints every chain a table could have, and the
    /// kernel has those that somebody made.
    pub perhaps: bool,
}

/// The walk of one branch in one namespace.
#[derive(Debug)]
pub(super) struct Path<'t> {
    pub lines: Vec<Line<'t>>,
    /// Every face of the packet here.
    pub faces: Vec<Face>,
    /// Address family.
    pub family: Family,
    /// The walk ends here, or later, without knowing.
    pub unknown: bool,
    /// Device of the first hop.
    pub iif: Option<IfIndex>,
    flags: Option<u8>,
    icmp: Option<u8>,
}

impl<'t> Path<'t> {
    /// The steps in a namespace; `None` when the packet does not come there. The outer packet of a tunnel is
    /// another packet: the kernel forgets that the inner one was traced (`skb_scrub_packet`).
    pub fn of(hops: &'t [Hop], ns: NsId, in_log: bool, unknown: bool, rules: &Rules<'_, '_>) -> Option<Self> {
        let mut path: Option<Self> = None;
        let mut before: Option<Face> = None;
        let mut run = 0;
        for hop in hops {
            if hop.packet.inner.is_some() {
                before = None;
                continue;
            }
            let entry = before.unwrap_or_else(|| untranslated(hop));
            before = Some(Face::of(&hop.packet));
            if hop.ns != ns {
                continue;
            }
            let path = path.get_or_insert_with(|| Self {
                lines: Vec::new(),
                faces: Vec::new(),
                family: hop.packet.family(),
                unknown,
                iif: hop.iif,
                flags: telling(&hop.packet.l4),
                icmp: match &hop.packet.l4 {
                    L4::Icmp { ty, .. } => Some(*ty),
                    _ => None,
                },
            });
            path.hop(hop, entry, in_log, &mut run, rules);
        }
        path
    }

    fn hop(&mut self, hop: &'t Hop, mut face: Face, in_log: bool, run: &mut usize, rules: &Rules<'_, '_>) {
        self.faces.push(face);
        let mut inside = false;
        for step in &hop.steps {
            let (engine, ends, shown) = match &step.what {
                What::Nat { source, to, .. } => {
                    face = face.translated(*source, *to);
                    self.faces.push(face);
                    continue;
                }
                What::Rule { engine, verdict, .. } => {
                    let ends = verdict.as_ref().is_some_and(ends_chain);
                    // xt_TRACE switches tracing on for the rules behind it.
                    let text = step.evidence.first().map_or("", |e| &*e.text);
                    (Some(*engine), ends, verdict.is_some() && !(in_log && is_tracer(text)))
                }
                What::Policy { engine, .. } => (Some(*engine), true, true),
                What::Undecided => (None, false, false),
                _ => continue,
            };
            if engine.is_some_and(|engine| (engine == Engine::XtLegacy) != in_log) {
                continue;
            }
            if !inside && engine.is_some() {
                *run += 1;
                inside = true;
            }
            let perhaps = match &step.what {
                What::Policy {
                    engine: Engine::XtNft,
                    table,
                    chain,
                    drop: false,
                } => !rules.registered(self.family, table, chain),
                _ => false,
            };
            self.lines.push(Line {
                perhaps,
                step,
                face,
                output: hop.iif.is_none(),
                run: *run,
                shown,
            });
            if ends {
                inside = false;
            }
        }
    }

    /// The packet of the recording is this one of the connection, as far as flags and ICMP types tell.
    pub fn flags_fit(&self, header: &Header) -> bool {
        let same = |ours: Option<u8>, theirs: Option<u8>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        same(self.flags, header.flags.map(|f| f & TELLING)) && same(self.icmp, header.icmp)
    }
}

/// After this the base chain is over.
const fn ends_chain(verdict: &RuleVerdict) -> bool {
    matches!(
        verdict,
        RuleVerdict::Accept | RuleVerdict::Drop | RuleVerdict::Reject(_) | RuleVerdict::Queue | RuleVerdict::Nat
    )
}

/// The packet as it came into the first hop: what was translated in it is undone.
fn untranslated(hop: &Hop) -> Face {
    hop.steps
        .iter()
        .rev()
        .fold(Face::of(&hop.packet), |face, step| match &step.what {
            What::Nat { source, from, .. } => face.translated(*source, *from),
            _ => face,
        })
}

/// Where a packet comes into a namespace, with its addresses and ports there. The loopback device brings it
/// back into the same one, where it is still traced.
pub(super) fn entries(hops: &[Hop]) -> Vec<(&Hop, Face)> {
    let mut out: Vec<(&Hop, Face)> = Vec::new();
    let mut before: Option<(NsId, Face)> = None;
    for hop in hops {
        if hop.packet.inner.is_some() {
            before = None;
            continue;
        }
        let entry = before.map_or_else(|| untranslated(hop), |(_, face)| face);
        if before.is_none_or(|(ns, _)| ns != hop.ns) {
            out.push((hop, entry));
        }
        before = Some((hop.ns, Face::of(&hop.packet)));
    }
    out
}
