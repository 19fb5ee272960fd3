//! Programs at devices: they may drop, rewrite, redirect or answer, and none of them is run.

use knet_snapshot::id::{Family, IfIndex};

use super::walker::{Ended, Walker};
use crate::choice::Unknown;
use crate::skb::Skb;
use crate::trace::{NsId, Outcome, Reason, What};

impl Walker<'_, '_> {
    /// XDP and tc on a device. The walk goes on as if all of them let packets pass unchanged, and ends where the
    /// first one may have done something else.
    pub(super) fn programs(&mut self, ns: NsId, dev: IfIndex, sending: bool, skb: Skb) -> Result<Skb, Box<Ended>> {
        let space = self.space(ns);
        let family = Family::of(skb.packet.dst);
        let all = if sending {
            space.programs().sending(space.links(), dev, family)
        } else {
            space.programs().receiving(space.links(), dev, family)
        };
        let Some(first) = all.first() else {
            return Ok(skb);
        };
        // One question for all of them: what one does says nothing about the others, but a packet that any
        // of them takes is no longer this one.
        let passes = self.oracle.unknown("programs", Unknown::Program(first.clone()), 2) == 0;
        self.step(What::Program { dev, sending }, all);
        if passes {
            return Ok(skb);
        }
        let mut ended = self.ended(ns, skb, Outcome::Unknown, Reason::Program);
        ended.end.place.oif = sending.then_some(dev);
        Err(ended)
    }
}
