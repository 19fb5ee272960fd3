//! Handshakes: data waits for a session, and is never sent when none can be made (`wg_packet_send_staged_packets`).

use std::sync::Arc;

use knet_snapshot::artifact::name;
use knet_snapshot::id::IfIndex;
use knet_snapshot::wireguard::{Handshake, WgRow, WgWhat};

use super::{Heard, Pair, Way, peer};
use crate::choice::Unknown;
use crate::packet::Message;
use crate::skb::Skb;
use crate::trace::{Evidence, NsId, Outcome, Reason};
use crate::walk::walker::{At, Ended, Walker};
use crate::world::Netns;

/// `REJECT_AFTER_TIME`, in seconds: nothing is sent or taken under keys that are older.
const REJECT_AFTER_TIME: u64 = 180;
/// `HANDSHAKE_DSCP`: AF41, and no ECN.
pub(super) const HANDSHAKE_DSCP: u8 = 0x88;
/// `sizeof(struct message_handshake_initiation)`
pub(super) const INITIATION: u16 = 148;
/// `sizeof(struct message_handshake_response)`
pub(super) const RESPONSE: u16 = 92;

/// Why there is no session.
struct Failed {
    outcome: Outcome,
    reason: Reason,
    rows: Vec<Evidence>,
}

impl Failed {
    /// A message was lost, by these rows.
    const fn lost(rows: Vec<Evidence>) -> Self {
        Self {
            outcome: Outcome::Dropped,
            reason: Reason::NoTunnelSession,
            rows,
        }
    }

    const fn unknown(reason: Reason, rows: Vec<Evidence>) -> Self {
        Self {
            outcome: Outcome::Unknown,
            reason,
            rows,
        }
    }
}

impl From<Box<Ended>> for Failed {
    fn from(ended: Box<Ended>) -> Self {
        let (reason, rows) = (ended.end.reason, ended.end.evidence);
        match ended.end.outcome {
            Outcome::LeavesCluster => Self {
                outcome: Outcome::LeavesCluster,
                reason,
                rows,
            },
            Outcome::Unknown => Self::unknown(reason, rows),
            _ => Self::lost(rows),
        }
    }
}

impl<'s> Walker<'_, 's> {
    /// Goes on when there is a session with the peer, or one can be made. Otherwise the packet stays behind, and
    /// nobody is told.
    pub(super) fn under_session(&mut self, pair: &Pair<'_>, skb: Skb) -> Result<Skb, Box<Ended>> {
        if self.sessions.contains_key(&pair.session()) {
            return Ok(skb);
        }
        let live = self.live(pair);
        if live == Some(true) {
            return Ok(skb);
        }
        let Err(failed) = self.shake_hands(pair) else {
            return Ok(skb);
        };
        let question = format!("session {:?}", pair.session());
        if live.is_none() && self.oracle.unknown(question, Unknown::Session(pair.row.clone()), 2) == 0 {
            return Ok(skb);
        }
        self.not_sealed(pair.dev, pair.row.clone());
        let mut ended = self.ended(pair.ns, skb, failed.outcome, failed.reason);
        ended.end.evidence = std::iter::once(pair.row.clone()).chain(failed.rows).collect();
        Err(ended)
    }

    /// Whether there was a session when the device was looked at; `None` when its age cannot be told.
    fn live(&self, pair: &Pair<'_>) -> Option<bool> {
        if pair.handshake == Handshake::Never {
            return Some(false);
        }
        let facts = self.space(pair.ns).facts;
        let now = self.world.snapshot.captured_at(&facts.path(name::WG));
        pair.handshake.age(now).map(|age| age < REJECT_AFTER_TIME)
    }

    /// The device asks its peer for a session; or the peer asks, when it keeps sessions up by itself.
    fn shake_hands(&mut self, pair: &Pair<'_>) -> Result<(), Failed> {
        let failed = match self.handshake(pair) {
            Ok(()) => return Ok(()),
            // Nobody out there was captured: the data leaves the same way.
            Err(failed) if failed.outcome == Outcome::LeavesCluster => return Ok(()),
            Err(failed) if failed.outcome == Outcome::Unknown => return Err(failed),
            Err(failed) => failed,
        };
        let Some(other) = self.kept_up_by(pair)? else {
            return Err(failed);
        };
        self.handshake(&other).map_err(|again| match again.outcome {
            Outcome::Dropped => Failed::lost(failed.rows.into_iter().chain(again.rows).collect()),
            _ => Failed::unknown(again.reason, again.rows),
        })
    }

    /// The peer's end, when it is one that asks for sessions without having anything to send.
    fn kept_up_by(&self, pair: &Pair<'_>) -> Result<Option<Pair<'s>>, Failed> {
        for space in self.world.spaces() {
            let at_endpoint = || pair.endpoint.is_some_and(|end| space.links().owner(end.ip()).is_some());
            if space.facts.wireguard().get().is_none() && at_endpoint() {
                return Err(Failed::unknown(Reason::NotCaptured, Vec::new()));
            }
            let other = pair_of(space, pair.key, pair.own);
            let other = other.filter(|other| other.keepalive.is_some() && other.endpoint.is_some());
            if other.is_some() {
                return Ok(other);
            }
        }
        Ok(None)
    }

    /// Initiation and response. Once both have arrived each end has heard where the other one is.
    fn handshake(&mut self, begins: &Pair<'_>) -> Result<(), Failed> {
        let Some(way) = self.way(begins) else {
            return Err(Failed::lost(Vec::new()));
        };
        let (there, heard) = self.message(begins, Message::Initiation, way)?;
        let Some(answers) = pair_of(self.space(there.0), begins.key, begins.own) else {
            return Err(Failed::lost(Vec::new()));
        };
        let back = Way {
            to: heard.from,
            from: Some(heard.at),
        };
        let response = self.message(&answers, Message::Response, back).map_err(Failed::from);
        let (home, answered) = response.map_err(|failed| match failed.outcome {
            // What is out there may bring it back.
            Outcome::LeavesCluster => Failed::unknown(failed.reason, failed.rows),
            _ => failed,
        })?;
        if home != (begins.ns, begins.dev) {
            return Err(Failed::lost(Vec::new()));
        }
        self.sessions.insert(begins.session(), answered);
        self.sessions.insert(answers.session(), heard);
        Ok(())
    }

    /// The device that takes a message, and from where it heard it.
    fn message(&mut self, pair: &Pair<'_>, message: Message, way: Way) -> Result<((NsId, IfIndex), Heard), Box<Ended>> {
        let (ns, source) = (pair.ns, way.source());
        let skb = Skb {
            mark: pair.mark,
            ..Skb::new(pair.packet(way, message, None))
        };
        let taken = self.apart(|_| Ok(At::Send { ns, skb, source }));
        let (at, dev, skb) = taken.inspect_err(|ended| self.ct.forget_unconfirmed(&ended.skb))?;
        let heard = Heard {
            from: (skb.packet.src, skb.packet.sport().unwrap_or(0.into())),
            at: skb.packet.dst,
        };
        Ok(((at, dev), heard))
    }
}

/// The device of a namespace with one public key, and its peer with the other.
fn pair_of<'s>(space: &Netns<'s>, own: &str, key: &Arc<str>) -> Option<Pair<'s>> {
    let table = space.facts.wireguard().get()?;
    let is_own = |row: &&WgRow| matches!(&row.what, WgWhat::Device { public_key, .. } if **public_key == *own);
    table.rows.iter().filter(is_own).find_map(|device| {
        let link = space.links().named(&device.dev).filter(|link| link.flags.up)?;
        let peer = peer(&table.rows, &device.dev, key)?;
        Pair::of((space.id, link.index), &table.artifact, device, peer)
    })
}
