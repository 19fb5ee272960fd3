//! What goes through a tunnel before the packet in hand does, questions about neighbours and handshakes: an IP packet
//! with a way of its own.

use knet_snapshot::id::IfIndex;

use super::walker::{At, Ended, Next, Walker};
use crate::skb::Skb;
use crate::trace::{NsId, Outcome, Reason};

/// A tunnel in a tunnel is in use (VXLAN over WireGuard); one that leads into itself is not.
const MOST: usize = 4;

/// Where a frame in a tunnel got to.
#[derive(Debug)]
pub(super) enum Carried {
    /// To the device that unwrapped it.
    To { ns: NsId, dev: IfIndex, skb: Box<Skb> },
    /// Out of the snapshot.
    Out,
    /// Somebody took it, or nobody knows.
    Nowhere,
}

impl Walker<'_, '_> {
    /// Follows what a tunnel makes of a frame to where the frame comes out. The rows that end it are kept.
    pub(super) fn carried(&mut self, wrap: impl FnOnce(&mut Self) -> Next) -> Carried {
        match self.apart(wrap) {
            Ok((ns, dev, skb)) => Carried::To { ns, dev, skb },
            Err(ended) if ended.end.outcome == Outcome::LeavesCluster => Carried::Out,
            Err(ended) => {
                self.question_ended(*ended);
                Carried::Nowhere
            }
        }
    }

    /// Follows a packet to the tunnel device that unwraps it. No step of it is one of the packet in hand, but
    /// connections and neighbours stay that were made on the way.
    pub(super) fn apart(
        &mut self,
        wrap: impl FnOnce(&mut Self) -> Next,
    ) -> Result<(NsId, IfIndex, Box<Skb>), Box<Ended>> {
        let open = self.open.take();
        let steps = std::mem::take(&mut self.sink.steps);
        let hops = self.hops.len();
        let questions = std::mem::take(&mut self.lost_questions);
        let doubtful = self.doubtful_question.take();
        let secpath = self.secpath.take();
        // As many stages as a packet of its own has.
        let stages_left = std::mem::replace(&mut self.stages_left, self.limit);
        let narrowest = (self.mtu, self.route_mtu, self.overhead);
        self.carrying += 1;
        let end = self.through_the_tunnel(wrap);
        self.carrying -= 1;
        self.stages_left = stages_left;
        (self.mtu, self.route_mtu, self.overhead) = narrowest;
        self.secpath = secpath;
        self.doubtful_question = doubtful;
        self.lost_questions = questions;
        self.hops.truncate(hops);
        self.sink.steps = steps;
        self.open = open;
        end
    }

    fn through_the_tunnel(
        &mut self,
        wrap: impl FnOnce(&mut Self) -> Next,
    ) -> Result<(NsId, IfIndex, Box<Skb>), Box<Ended>> {
        let mut at = wrap(self)?;
        loop {
            at = match at {
                At::Receive { ns, dev, skb } if skb.packet.inner.is_none() => return Ok((ns, dev, Box::new(skb))),
                At::Transmit { ns, skb, .. }
                | At::Receive { ns, skb, .. }
                | At::Network { ns, skb, .. }
                | At::Send { ns, skb, .. }
                    if self.stages_left == 0 || self.carrying > MOST =>
                {
                    return Err(self.ended(ns, skb, Outcome::Unknown, Reason::HopLimit));
                }
                at => self.advance(at)?,
            };
        }
    }
}
