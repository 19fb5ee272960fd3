//! Chains that see frames: those of family `bridge` on a bridge, and those of family `arp`.

use knet_snapshot::id::{IfIndex, Mac};
use knet_snapshot::link::Link;

use super::hooks::CONNTRACK;
use super::link::{handed_on, packet_type};
use super::segment::{Cast, Frame};
use super::walker::{At, Ended, Next, Walker};
use crate::choice::Unknown;
use crate::skb::{Ct, PktType, Skb};
use crate::table::nft::{BaseChain, NfFamily};
use crate::trace::{Hook, NsId, Outcome};

/// `NF_BR_PRI_BRNF`: where `br_netfilter` calls the IP hooks from.
const BR_NETFILTER: i32 = 0;

/// Which chains of a bridge's hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All: the IP hooks are not called here.
    Whole,
    /// Those before the IP hooks.
    Before,
    /// Those after them (`br_nf_hook_thresh`).
    After,
}

/// Of equal priorities the last registered runs first: conntrack comes to bridges with the first rule that needs it,
/// which was made at this place.
fn before_tracking(chain: BaseChain<'_, '_>, since: (u64, u64)) -> bool {
    let made = (chain.table.handle, chain.chain.decl.map_or(0, |(d, _)| d.handle));
    (chain.priority, since) < (CONNTRACK, made)
}

impl Walker<'_, '_> {
    /// Chains of family `bridge` at a hook, with the ports as devices.
    pub(super) fn bridge_hook(
        &mut self,
        ns: NsId,
        hook: Hook,
        ports: (Option<IfIndex>, Option<IfIndex>),
        part: Part,
        skb: Skb,
    ) -> Result<Skb, Box<Ended>> {
        self.missing_native(ns, &skb)?;
        let chains = self.space(ns).nft().base_chains_of(NfFamily::Bridge, hook);
        if chains.is_empty() && self.space(ns).tracks_bridges().is_none() {
            return Ok(skb);
        }
        let devices = (skb.iif, skb.oif);
        let mut skb = Skb {
            iif: ports.0,
            oif: ports.1,
            ..skb
        };
        let mut tracking = self.space(ns).tracks_bridges().filter(|_| part != Part::After);
        for chain in chains {
            if hook == Hook::Prerouting && tracking.is_some_and(|since| !before_tracking(chain, since)) {
                tracking = None;
                self.track_frame(ns, &mut skb);
            }
            if self.bridge_turn(ns, hook, part, chain) {
                skb = self.run_bridge(ns, hook, skb, chain)?;
            }
        }
        if hook == Hook::Prerouting && tracking.is_some() {
            self.track_frame(ns, &mut skb);
        }
        if hook == Hook::Postrouting && tracking.is_some() {
            self.ct.confirm(&skb);
        }
        (skb.iif, skb.oif) = devices;
        Ok(skb)
    }

    /// `skb_clone`: all copies but one (`br_flood`, `vxlan_xmit`) have no socket, and no table shows which one has.
    pub(super) fn copied(&mut self, ns: NsId, skb: Skb) -> Skb {
        let what = Unknown::Outside("which copy of a flooded frame keeps its socket");
        if skb.sender.is_some() && self.oracle.unknown(format!("copy {ns:?}"), what, 2) == 1 {
            return Skb { sender: None, ..skb };
        }
        skb
    }

    /// `nf_ct_bridge_pre`
    fn track_frame(&mut self, ns: NsId, skb: &mut Skb) {
        if skb.arp.is_some() {
            skb.ct = Ct::Untracked;
        } else {
            self.track(ns, skb);
        }
    }

    /// Whether a chain runs in this part of the hook. Of equal priorities the last registered runs first, and
    /// `br_netfilter` registers with a namespace's first bridge: whether that was before the chain, no table says.
    fn bridge_turn(&mut self, ns: NsId, hook: Hook, part: Part, chain: BaseChain<'_, '_>) -> bool {
        if part == Part::Whole || chain.priority != BR_NETFILTER {
            return match part {
                Part::Whole => true,
                Part::Before => chain.priority < BR_NETFILTER,
                Part::After => chain.priority > BR_NETFILTER,
            };
        }
        let what = Unknown::Outside("whether the bridge or its chain was there first");
        let bridge_first = self.oracle.unknown(format!("br_netfilter {ns:?}"), what, 2) == 0;
        // br_nf_hook_thresh knows its own place in PREROUTING only: elsewhere it skips all of this priority.
        match part {
            Part::Before => bridge_first,
            _ => !bridge_first && hook == Hook::Prerouting,
        }
    }

    /// A `reject` answers out of the port that the frame came in by (`nft_reject_br_send_v4_unreach` and the
    /// like), but for nobody's or everybody's frame.
    fn run_bridge(&mut self, ns: NsId, hook: Hook, skb: Skb, chain: BaseChain<'_, '_>) -> Result<Skb, Box<Ended>> {
        let port = skb.iif;
        let several = skb.eth.and_then(|e| e.dst).is_some_and(Mac::is_multicast);
        self.run_nft(ns, hook, skb, chain).map_err(|mut ended| {
            if ended.end.outcome == Outcome::Rejected {
                ended.bridged = port;
                ended.answer = ended.answer.filter(|_| !several);
            }
            ended
        })
    }

    /// `br_forward` of what the bridge itself answers.
    pub(super) fn bridge_answers(&mut self, ns: NsId, port: IfIndex, skb: Skb) -> Next {
        let ports = (None, Some(port));
        let skb = self.bridge_hook(ns, Hook::Output, ports, Part::Whole, skb)?;
        let skb = self.bridge_hook(ns, Hook::Postrouting, ports, Part::Whole, skb)?;
        Ok(At::Transmit { ns, dev: port, skb })
    }

    /// Chains of family `arp`: what comes in is seen at INPUT, what goes out at OUTPUT (`arp_rcv`, `arp_xmit`).
    pub(super) fn arp_hook(&mut self, ns: NsId, hook: Hook, mut skb: Skb) -> Result<Skb, Box<Ended>> {
        self.missing_native(ns, &skb)?;
        for chain in self.space(ns).nft().base_chains_of(NfFamily::Arp, hook) {
            skb = self.run_nft(ns, hook, skb, chain)?;
        }
        Ok(skb)
    }

    /// What chains of a device make of a frame that goes out.
    pub(super) fn frame_leaves(&mut self, ns: NsId, dev: IfIndex, frame: &Frame) -> Option<Frame> {
        self.meets(frame, |this, skb| this.device_hook(ns, Hook::Egress, dev, skb))
    }

    /// What chains of a device make of a frame that comes in.
    pub(super) fn frame_enters(&mut self, from: NsId, ns: NsId, dev: IfIndex, frame: &Frame) -> Option<Frame> {
        self.meets(frame, |this, skb| {
            let skb = this.as_received(ns, dev, handed_on(from, ns, skb));
            this.device_hook(ns, Hook::Ingress, dev, skb)
        })
    }

    /// What chains make of a frame that comes onto a bridge.
    pub(super) fn frame_bridged(&mut self, ns: NsId, bridge: &Link, port: IfIndex, frame: &Frame) -> Option<Frame> {
        self.meets(frame, |this, mut skb| {
            if bridge.mac.is_some() && skb.eth.and_then(|e| e.dst) == bridge.mac {
                skb.pkt_type = PktType::Host;
            }
            this.around_ip(ns, bridge, Hook::Prerouting, (Some(port), None), skb)
        })
    }

    /// What chains make of a frame that goes up from a bridge.
    pub(super) fn frame_up(&mut self, ns: NsId, port: IfIndex, frame: &Frame) -> Option<Frame> {
        self.meets(frame, |this, skb| {
            this.bridge_hook(ns, Hook::Input, (Some(port), None), Part::Whole, skb)
        })
    }

    /// What chains make of a frame that a bridge sends out of a port: its own, or one that came in by another.
    pub(super) fn frame_forwarded(
        &mut self,
        ns: NsId,
        bridge: &Link,
        from: Option<IfIndex>,
        port: IfIndex,
        frame: &Frame,
    ) -> Option<Frame> {
        self.meets(frame, |this, skb| this.out_of_bridge(ns, bridge, from, port, skb))
    }

    /// The hooks between a bridge and its port. What the bridge itself sends meets no IP hook here: those of the network
    /// layer were before.
    pub(super) fn out_of_bridge(
        &mut self,
        ns: NsId,
        bridge: &Link,
        from: Option<IfIndex>,
        port: IfIndex,
        skb: Skb,
    ) -> Result<Skb, Box<Ended>> {
        let ports = (from, Some(port));
        let last = (None, Some(port));
        if from.is_none() {
            let skb = self.bridge_hook(ns, Hook::Output, ports, Part::Whole, skb)?;
            return self.bridge_hook(ns, Hook::Postrouting, last, Part::Whole, skb);
        }
        let skb = self.around_ip(ns, bridge, Hook::Forward, ports, skb)?;
        // br_nf_post_routing comes last of all.
        let skb = self.bridge_hook(ns, Hook::Postrouting, last, Part::Whole, skb)?;
        if self.bridge_calls_netfilter(ns, bridge, &skb) {
            return self.ip_hook(ns, bridge, Hook::Postrouting, ports, skb);
        }
        Ok(skb)
    }

    /// A bridge's hook with the IP hook that `br_netfilter` calls from it.
    fn around_ip(
        &mut self,
        ns: NsId,
        bridge: &Link,
        hook: Hook,
        ports: (Option<IfIndex>, Option<IfIndex>),
        skb: Skb,
    ) -> Result<Skb, Box<Ended>> {
        if !self.bridge_calls_netfilter(ns, bridge, &skb) {
            return self.bridge_hook(ns, hook, ports, Part::Whole, skb);
        }
        let skb = self.bridge_hook(ns, hook, ports, Part::Before, skb)?;
        let skb = self.ip_hook(ns, bridge, hook, ports, skb)?;
        self.bridge_hook(ns, hook, ports, Part::After, skb)
    }

    /// The IP hook that `br_netfilter` calls: it sees the bridge as the device, and the ports beside it.
    pub(super) fn ip_hook(
        &mut self,
        ns: NsId,
        bridge: &Link,
        hook: Hook,
        ports: (Option<IfIndex>, Option<IfIndex>),
        mut skb: Skb,
    ) -> Result<Skb, Box<Ended>> {
        // br_nf_post_routing names no device of the way in, though IP itself does (ip_output).
        skb.iif = (hook != Hook::Postrouting).then_some(bridge.index);
        skb.oif = ports.1.map(|_| bridge.index);
        (skb.physin, skb.physout) = ports;
        // nf_bridge->pkt_otherhost: a frame for somebody else is the host's as long as the hook looks at it.
        let other = skb.pkt_type == PktType::OtherHost;
        if other {
            skb.pkt_type = PktType::Host;
        }
        skb = self.hook(ns, hook, skb)?;
        if other {
            skb.pkt_type = PktType::OtherHost;
        }
        Ok(skb)
    }

    /// `eth_type_trans`
    pub(super) fn as_received(&self, ns: NsId, dev: IfIndex, skb: Skb) -> Skb {
        let kind = self.link(ns, dev).map(|link| packet_type(link, skb.eth));
        Skb {
            pkt_type: kind.unwrap_or(PktType::Host),
            ..skb
        }
    }

    /// The frame behind a hook. One of which is not said what it holds meets no chain.
    fn meets(&mut self, frame: &Frame, hook: impl FnOnce(&mut Self, Skb) -> Result<Skb, Box<Ended>>) -> Option<Frame> {
        let Some(skb) = &frame.holds else {
            return Some(frame.clone());
        };
        let skb = self.aside(|this| hook(this, skb.clone()))?;
        let cast = match skb.eth.and_then(|e| e.dst) {
            Some(mac) if !mac.is_multicast() => Cast::Unicast(mac),
            _ => frame.cast,
        };
        Some(Frame { cast, holds: Some(skb) })
    }

    /// Runs something, and tells whether it is not known what became of a question in it.
    pub(super) fn doubting<T>(&mut self, run: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.doubtful_question.take();
        let out = run(self);
        let doubtful = self.doubtful_question.is_some();
        self.doubtful_question = before.or_else(|| self.doubtful_question.take());
        (out, doubtful)
    }

    /// The end of a packet that waits for an answer, when it is not known what became of the question.
    pub(super) fn in_doubt(&mut self, ns: NsId, skb: &Skb) -> Option<Box<Ended>> {
        let (reason, rows) = self.doubtful_question.take()?;
        let mut ended = self.ended(ns, skb.clone(), Outcome::Unknown, reason);
        ended.end.evidence.extend(rows);
        Some(ended)
    }

    /// Runs something that is not a step of the packet's own way; the rows that ended it are kept.
    pub(super) fn aside<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Box<Ended>>) -> Option<T> {
        let steps = self.sink.steps.len();
        let ended = run(self);
        self.sink.steps.truncate(steps);
        ended.map_err(|ended| self.question_ended(*ended)).ok()
    }

    /// A question, or an answer, did not get further.
    pub(super) fn question_ended(&mut self, ended: Ended) {
        // What becomes of it is not known: that is not the same as lost.
        if ended.end.outcome == Outcome::Unknown {
            self.doubtful_question
                .get_or_insert((ended.end.reason, ended.end.evidence));
        } else {
            self.lost_questions.extend(ended.end.evidence);
        }
    }
}

#[cfg(test)]
mod tests;
