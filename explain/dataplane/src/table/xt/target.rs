//! Targets, typed.

use knet_snapshot::id::Zone;

use super::rule::ChainRef;
use crate::nat_range::NatRange;
use crate::trace::Reject;

/// What a rule does with the packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// No `-j`: counts, and goes on.
    None,
    /// `ACCEPT`
    Accept,
    /// `DROP`
    Drop,
    /// `RETURN`
    Return,
    /// `QUEUE`, `NFQUEUE`; the flag is `--queue-bypass`.
    Queue {
        /// Without a program listening the packet is accepted instead of dropped.
        bypass: bool,
    },
    /// `-j CHAIN`
    Jump(ChainRef),
    /// `-g CHAIN`
    Goto(ChainRef),
    /// ipt_REJECT.c, ip6t_REJECT.c
    Reject(Reject),
    /// xt_nat.c
    Dnat(NatRange),
    /// xt_nat.c
    Snat(NatRange),
    /// nf_nat_masquerade.c: the address comes from the output device.
    Masquerade(NatRange),
    /// nf_nat_redirect.c: the address comes from the input device, or is the loopback's.
    Redirect(NatRange),
    /// xt_NETMAP.c
    Netmap(NatRange),
    /// xt_mark.c: `(mark & !mask) ^ value`
    Mark {
        /// Bits to flip in.
        value: u32,
        /// Bits to clear first.
        mask: u32,
    },
    /// xt_connmark.c
    Connmark(Connmark),
    /// xt_CT.c
    Ct(CtTarget),
    /// xt_TPROXY.c
    Tproxy {
        /// Port; 0 = the packet's own.
        port: u16,
        /// Address; `None` = the input device's.
        addr: Option<std::net::IpAddr>,
        /// Mark bits to flip in.
        value: u32,
        /// Mark bits to clear first.
        mask: u32,
    },
    /// xt_DSCP.c: `(tos & !mask) ^ value`
    Tos {
        /// Bits to flip in.
        value: u8,
        /// Bits to clear first.
        mask: u8,
    },
    /// xt_HL.c
    Ttl(TtlChange),
    /// xt_CLASSIFY.c
    Classify(u32),
    /// xt_TCPMSS.c
    Tcpmss,
    /// xt_set.c, `--add-set` and `--del-set`: these sets change, the packet goes on.
    Set(Box<[Box<str>]>),
    /// Leaves the packet as it is and goes on: LOG, NFLOG, TRACE, AUDIT, CHECKSUM, TEE, SECMARK, ...
    Inert,
    /// A target this model does not know, or a chain the save does not hold, as written.
    Unknown(Box<str>),
}

/// `-j CONNMARK`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connmark {
    /// `ct = (ct & !mask) ^ value`
    Set {
        /// Bits to flip in.
        value: u32,
        /// Bits to clear first.
        mask: u32,
    },
    /// `ct = (ct & !ctmask) ^ (mark & nfmask)`
    Save {
        /// Bits of the packet's mark to take.
        nfmask: u32,
        /// Bits of the connection's mark to clear.
        ctmask: u32,
        /// Shift of the packet's bits: positive = left.
        shift: i8,
    },
    /// `mark = (mark & !nfmask) ^ (ct & ctmask)`
    Restore {
        /// Bits of the packet's mark to clear.
        nfmask: u32,
        /// Bits of the connection's mark to take.
        ctmask: u32,
        /// Shift of the connection's bits: positive = left.
        shift: i8,
    },
}

/// `-j CT`, `-j NOTRACK`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CtTarget {
    /// `--notrack`
    Notrack,
    /// A template: zone, helper, events, timeouts.
    Template {
        /// `--zone`, `--zone-orig`
        zone: Option<Zone>,
        /// `--zone mark`
        zone_from_mark: bool,
        /// `--zone-reply`: the zone holds for one direction only.
        one_way: bool,
    },
}

/// `-j TTL`, `-j HL`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the change it names")]
pub enum TtlChange {
    Set(u8),
    Inc(u8),
    Dec(u8),
}

impl Target {
    /// Whether the rule can neither end the packet nor change anything a later decision sees.
    #[must_use]
    pub const fn is_inert(&self) -> bool {
        matches!(self, Self::None | Self::Inert | Self::Tcpmss)
    }
}
