//! Netfilter: base chains at a hook, by priority, whichever engine holds them.

pub mod nft;
pub mod xt;

use crate::choice::Oracle;
use crate::skb::Skb;
use crate::stage::conntrack::Conntrack;
use crate::trace::{Hook, Reject, Sink};
use crate::world::Netns;

/// What a chain runs with.
pub struct HookCx<'a, 's> {
    /// The namespace.
    pub ns: &'a Netns<'s>,
    /// The hook.
    pub hook: Hook,
    /// The packet.
    pub skb: &'a mut Skb,
    /// Connections of this walk.
    pub ct: &'a mut Conntrack,
    /// Choices.
    pub oracle: &'a mut Oracle,
    /// Steps.
    pub sink: &'a mut Sink,
}

/// What a base chain decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on to the next base chain.
    Accept,
    /// Ends. The flag says whether the policy did it.
    Drop {
        /// By policy.
        policy: bool,
    },
    /// Ends, and the sender is told.
    Reject(Reject),
    /// A program decides.
    Queue,
    /// Ends in a way the model cannot follow.
    Unknown,
    /// Ends where something decides that was not captured.
    NotCaptured,
}
