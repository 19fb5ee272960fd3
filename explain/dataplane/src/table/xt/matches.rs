//! Matches, typed. Each variant says which kernel file decides it.

use std::net::IpAddr;

use knet_snapshot::id::Mac;
use knet_snapshot::ipvs::Forward;

use super::rule::{Dev, Net};

/// One match of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// xt_tcpudp.c
    Tcp(Tcp),
    /// xt_tcpudp.c (`udp`, `udplite`), xt_sctp.c, xt_dccp.c: ports of a protocol.
    Ports(L4Ports),
    /// xt_tcpudp.c (`icmp`, `icmp6`)
    Icmp(Icmp),
    /// xt_multiport.c
    Multiport(Multiport),
    /// xt_mark.c
    Mark(Masked),
    /// xt_connmark.c
    Connmark(Masked),
    /// xt_conntrack.c, xt_state.c
    Conntrack(Box<Conntrack>),
    /// xt_addrtype.c
    Addrtype(Addrtype),
    /// xt_set.c
    Set(SetMatch),
    /// xt_statistic.c, random mode: the number the kernel compares 31 random bits with.
    Random {
        /// `round(p * 2^31)`
        threshold: u32,
        /// `!`
        invert: bool,
    },
    /// xt_statistic.c, nth mode.
    Nth {
        /// Once in so many packets.
        every: u32,
        /// `!`
        invert: bool,
    },
    /// xt_recent.c
    Recent(Recent),
    /// xt_physdev.c
    Physdev(Box<Physdev>),
    /// xt_owner.c
    Owner(Owner),
    /// xt_socket.c
    Socket(SocketMatch),
    /// ipt_rpfilter.c, ip6t_rpfilter.c
    Rpfilter(Rpfilter),
    /// xt_length.c
    Length {
        /// Lowest.
        min: u16,
        /// Highest.
        max: u16,
        /// `!`
        invert: bool,
    },
    /// xt_hl.c
    Ttl {
        /// How to compare.
        cmp: Cmp,
        /// With what.
        value: u8,
    },
    /// xt_dscp.c (`tos`)
    Tos {
        /// Value.
        value: u8,
        /// Mask.
        mask: u8,
        /// `!`
        invert: bool,
    },
    /// xt_dscp.c (`dscp`)
    Dscp {
        /// The upper six bits.
        value: u8,
        /// `!`
        invert: bool,
    },
    /// xt_iprange.c
    Iprange {
        /// Source range and its `!`.
        src: Option<(IpAddr, IpAddr, bool)>,
        /// Destination range and its `!`.
        dst: Option<(IpAddr, IpAddr, bool)>,
    },
    /// xt_mac.c
    Mac {
        /// Source address.
        mac: Mac,
        /// `!`
        invert: bool,
    },
    /// xt_pkttype.c
    Pkttype {
        /// `unicast`, `broadcast`, `multicast`.
        kind: Cast,
        /// `!`
        invert: bool,
    },
    /// xt_policy.c: `--pol none` or `--pol ipsec` with details.
    Policy {
        /// `--pol none`
        none: bool,
    },
    /// xt_devgroup.c
    Devgroup {
        /// Input group, mask, `!`.
        src: Option<(u32, u32, bool)>,
        /// Output group, mask, `!`.
        dst: Option<(u32, u32, bool)>,
    },
    /// xt_cgroup.c: which group is not in a snapshot, but a packet without a local socket never matches.
    Cgroup,
    /// A match that is always true here: xt_nfacct.c, xt_comment.c without text.
    Always,
    /// ip6t_ipv6header.c
    Ipv6Header {
        /// Headers asked for (`MASK_*`).
        wanted: u8,
        /// `--soft`
        soft: bool,
        /// `!`
        invert: bool,
    },
    /// ip6t_frag.c, ip6t_rt.c, ip6t_hbh.c: packets here carry no extension headers, so never.
    ExtensionHeader,
    /// ipt_ah.c, ip6t_ah.c, xt_esp.c: by protocol, and by SPI, which a packet here does not carry.
    Spi {
        /// AH or ESP.
        proto: u8,
        /// No SPI is asked for.
        any: bool,
    },
    /// xt_realm.c
    Realm(Masked),
    /// xt_helper.c
    Helper {
        /// Name; empty = any helper.
        name: Box<str>,
        /// `!`
        invert: bool,
    },
    /// xt_ipvs.c
    Ipvs(Box<Ipvs>),
    /// A match that is understood but whose state no snapshot holds (`limit`, `time`, `string`, ...).
    Opaque(&'static str),
    /// A match this model does not know, or whose options it cannot read, as written.
    Unknown(Box<str>),
}

/// `(field & mask) == value`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    /// Value.
    pub value: u32,
    /// Mask.
    pub mask: u32,
    /// `!`
    pub invert: bool,
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest.
    pub min: u16,
    /// Highest.
    pub max: u16,
    /// `!`
    pub invert: bool,
}

impl PortRange {
    /// Is the port in it? `!` is applied.
    #[must_use]
    pub const fn holds(&self, port: u16) -> bool {
        (port >= self.min && port <= self.max) != self.invert
    }
}

/// `-m tcp`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub sport: Option<PortRange>,
    /// Destination port.
    pub dport: Option<PortRange>,
    /// Mask, wanted bits, `!`.
    pub flags: Option<(u8, u8, bool)>,
    /// `--tcp-option` and its `!`: options are not modelled.
    pub option: Option<bool>,
}

/// `-m udp`, `udplite`, `sctp`, `dccp`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L4Ports {
    /// Protocol.
    pub proto: u8,
    /// Source port.
    pub sport: Option<PortRange>,
    /// Destination port.
    pub dport: Option<PortRange>,
    /// Chunk types or DCCP types are asked for: not modelled.
    pub more: bool,
}

/// `-m icmp`, `-m icmp6`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// `icmp6`
    pub v6: bool,
    /// Type; `None` = any.
    pub ty: Option<u8>,
    /// Codes.
    pub codes: (u8, u8),
    /// `!`
    pub invert: bool,
}

/// Which address or port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Source.
    Src,
    /// Destination.
    Dst,
    /// One of both.
    Either,
}

/// `-m multiport`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiport {
    /// Which port.
    pub side: Side,
    /// Ports and ranges.
    pub ranges: Box<[(u16, u16)]>,
    /// `!`
    pub invert: bool,
}

/// Bits of `--ctstate`.
pub mod ct_state {
    #![allow(missing_docs, reason = "each constant is the state it names")]
    pub const INVALID: u8 = 1;
    pub const ESTABLISHED: u8 = 2;
    pub const RELATED: u8 = 4;
    pub const NEW: u8 = 8;
    pub const SNAT: u8 = 16;
    pub const DNAT: u8 = 32;
    pub const UNTRACKED: u8 = 64;
}

/// Bits of `--ctstatus`.
pub mod ct_status {
    #![allow(missing_docs, reason = "each constant is the status it names")]
    pub const EXPECTED: u8 = 1;
    pub const SEEN_REPLY: u8 = 2;
    pub const ASSURED: u8 = 4;
    pub const CONFIRMED: u8 = 8;
}

/// `-m conntrack`, `-m state`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// States and `!`.
    pub state: Option<(u8, bool)>,
    /// Statuses and `!`.
    pub status: Option<(u8, bool)>,
    /// Protocol and `!`.
    pub proto: Option<(u8, bool)>,
    /// `--ctorigsrc`, `--ctorigdst`, `--ctreplsrc`, `--ctrepldst`
    pub addrs: [Option<Net>; 4],
    /// `--ctorigsrcport`, `--ctorigdstport`, `--ctreplsrcport`, `--ctrepldstport`
    pub ports: [Option<PortRange>; 4],
    /// `--ctdir`: `true` = ORIGINAL.
    pub original: Option<bool>,
    /// `--ctexpire`: a snapshot's times are not those of the packet.
    pub expire: bool,
}

/// `-m addrtype`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addrtype {
    /// Types of the source (bit per `RTN_*`) and `!`.
    pub src: Option<(u16, bool)>,
    /// Types of the destination and `!`.
    pub dst: Option<(u16, bool)>,
    /// `--limit-iface-in`
    pub limit_in: bool,
    /// `--limit-iface-out`
    pub limit_out: bool,
}

/// `-m set`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetMatch {
    /// Name.
    pub name: Box<str>,
    /// `src` (true) or `dst` per dimension.
    pub dirs: Box<[bool]>,
    /// `!`
    pub invert: bool,
    /// `--return-nomatch`
    pub return_nomatch: bool,
    /// Counters are compared: they are not in the model.
    pub counters: bool,
}

/// What a `recent` rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecentOp {
    /// `--set`
    Set,
    /// `--rcheck`
    Check,
    /// `--update`
    Update,
    /// `--remove`
    Remove,
}

/// `-m recent`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// What to do.
    pub op: RecentOp,
    /// `!`
    pub invert: bool,
    /// List.
    pub name: Box<str>,
    /// `--rdest`
    pub dest: bool,
    /// `--mask`
    pub mask: u128,
    /// `--seconds`; 0 = any age.
    pub seconds: u32,
    /// `--hitcount`
    pub hitcount: u32,
    /// `--rttl`
    pub ttl: bool,
}

/// `-m physdev`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Physdev {
    /// `--physdev-in`
    pub iif: Option<Dev>,
    /// `--physdev-out`
    pub oif: Option<Dev>,
    /// `--physdev-is-in` and its `!`.
    pub is_in: Option<bool>,
    /// `--physdev-is-out` and its `!`.
    pub is_out: Option<bool>,
    /// `--physdev-is-bridged` and its `!`.
    pub bridged: Option<bool>,
}

/// `-m owner`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// UIDs and `!`.
    pub uid: Option<(u32, u32, bool)>,
    /// GIDs and `!`.
    pub gid: Option<(u32, u32, bool)>,
    /// `--socket-exists` and its `!`.
    pub exists: Option<bool>,
    /// `--suppl-groups`
    pub groups: bool,
}

/// `-m socket`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketMatch {
    /// `--transparent`
    pub transparent: bool,
    /// `--nowildcard`
    pub nowildcard: bool,
    /// `--restore-skmark`
    pub restore_skmark: bool,
}

/// `-m rpfilter`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rpfilter {
    /// `--loose`
    pub loose: bool,
    /// `--validmark`
    pub validmark: bool,
    /// `--accept-local`
    pub accept_local: bool,
    /// `--invert`
    pub invert: bool,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the comparison it names")]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Gt,
}

/// `--pkt-type`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the type it names")]
pub enum Cast {
    Unicast,
    Broadcast,
    Multicast,
    OtherHost,
}

/// `-m ipvs`. Every `bool` beside a value is its `!`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ipvs {
    /// `[!] --ipvs`
    pub property: Option<bool>,
    /// `--vproto`
    pub proto: Option<(u8, bool)>,
    /// `--vaddr`
    pub vaddr: Option<Net>,
    /// `--vport`
    pub vport: Option<(u16, bool)>,
    /// `--vdir`: `true` = `REPLY`.
    pub reply: Option<bool>,
    /// `--vmethod`
    pub method: Option<(Forward, bool)>,
    /// `--vportctl` is asked.
    pub control: bool,
}
