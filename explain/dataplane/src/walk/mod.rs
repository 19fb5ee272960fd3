//! The walk: the only place that knows the order of stages.

use std::net::IpAddr;

use knet_snapshot::id::IfIndex;

use crate::packet::L4;
use crate::trace::{Detail, NsId, Trace};
use crate::world::World;

/// What to send, and from where.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The namespace it starts in (or enters).
    pub ns: NsId,
    /// How it gets there.
    pub origin: Origin,
    /// Source address; `None` = the kernel chooses (local senders only).
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol.
    pub proto: u8,
    /// Transport header. For TCP the flags of the first packet (SYN by default).
    pub l4: L4,
    /// The source port was not asked for: any would do. Captured connections are then not consulted for
    /// the request, because no exact tuple is known.
    pub any_sport: bool,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// `SO_MARK` of the sender, or the mark it arrives with (always 0 on a wire).
    pub mark: u32,
    /// Total length in bytes.
    pub len: u16,
}

/// How a packet gets into its first namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A program in the namespace sends it.
    Local {
        /// UID of the program; 0 is assumed when `None`.
        uid: Option<u32>,
    },
    /// It comes from outside the snapshot by this device.
    Wire {
        /// The device.
        dev: IfIndex,
    },
}

/// Bounds on the work of one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Branches at most.
    pub branches: usize,
    /// Stages a single packet may pass.
    pub stages: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { branches: 4096, stages: 512 }
    }
}

/// Walks the packet, and its answer back, along every way it can go. Total: every input gets a trace.
#[must_use]
pub fn trace(_world: &World<'_>, _start: &Start, _detail: Detail, _limits: Limits) -> Option<Trace> {
    None
}
