//! Connection tracking: `nf_conntrack_in`, `nf_conntrack_inet_error`, the TCP state table.
//!
//! The table starts empty for every walk: the packet opens a new connection, and the answer finds it.
//! Captured entries are asked for only when the caller knows the exact tuple (see
//! [`Conntrack::with_captured`]).

use std::net::IpAddr;

use knet_snapshot::id::{IfIndex, Zone};

use crate::packet::{L4, Packet, Port, proto, tcp_flag};
use crate::skb::{Ct, CtState, Dir, Skb};
use crate::trace::{CtEvent, Evidence, NsId};
use crate::world::Netns;

pub use crate::stage::nat::{Manip, NatRange, setup_nat};
pub use knet_snapshot::conntrack::Tuple;

/// One end of a connection as conntrack knows it: like [`Tuple`], but remembering which ports NAT drew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port, or ICMP query id.
    pub sport: Port,
    /// Destination port, or ICMP `type << 8 | code`.
    pub dport: Port,
}

impl From<Tuple> for Key {
    fn from(t: Tuple) -> Self {
        Self {
            src: t.src,
            dst: t.dst,
            sport: t.sport.into(),
            dport: t.dport.into(),
        }
    }
}

impl From<Key> for Tuple {
    fn from(k: Key) -> Self {
        Self {
            src: k.src,
            dst: k.dst,
            sport: k.sport.value,
            dport: k.dport.value,
        }
    }
}

impl Key {
    /// The key of a packet, `None` for an ICMP error (which belongs to what it quotes).
    #[must_use]
    pub fn of(packet: &Packet) -> Option<Self> {
        let (sport, dport) = match &packet.l4 {
            L4::Tcp { sport, dport, .. } | L4::Ports { sport, dport } => (*sport, *dport),
            L4::Icmp { quoted: Some(_), .. } => return None,
            L4::Icmp { ty, code, id, .. } => (*id, Port::from(u16::from(*ty) << 8 | u16::from(*code))),
            L4::Other => (Port::from(0), Port::from(0)),
        };
        Some(Self {
            src: packet.src,
            dst: packet.dst,
            sport,
            dport,
        })
    }

    /// `nf_ct_invert_tuple`
    #[must_use]
    pub fn invert(self, proto: u8) -> Self {
        if proto == proto::ICMP || proto == proto::ICMPV6 {
            let (ty, code) = ((self.dport.value >> 8) as u8, self.dport.value & 0xff);
            let back = u16::from(answer_type(proto, ty)) << 8 | code;
            return Self {
                src: self.dst,
                dst: self.src,
                sport: self.sport,
                dport: back.into(),
            };
        }
        Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
        }
    }

    fn same(self, other: Self) -> bool {
        self.src == other.src
            && self.dst == other.dst
            && self.sport.value == other.sport.value
            && self.dport.value == other.dport.value
    }
}

/// The ICMP type that answers a query (`nf_conntrack_proto_icmp.c: invmap`); other types stay.
#[must_use]
pub const fn answer_type(proto: u8, ty: u8) -> u8 {
    match (proto, ty) {
        (proto::ICMP, 8) => 0,
        (proto::ICMP, 0) => 8,
        (proto::ICMP, 13) => 14,
        (proto::ICMP, 14) => 13,
        (proto::ICMP, 15) => 16,
        (proto::ICMP, 16) => 15,
        (proto::ICMP, 17) => 18,
        (proto::ICMP, 18) => 17,
        (proto::ICMPV6, 128) => 129,
        (proto::ICMPV6, 129) => 128,
        _ => ty,
    }
}

/// `struct nf_conn`, as far as rules can see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Namespace.
    pub ns: NsId,
    /// Zone.
    pub zone: Zone,
    /// IP protocol.
    pub proto: u8,
    /// Original direction.
    pub orig: Key,
    /// Reply direction, NAT included.
    pub reply: Key,
    /// Mark; `None` = not known.
    pub mark: Option<u32>,
    /// A packet was seen in the reply direction.
    pub seen_reply: bool,
    /// `ASSURED`
    pub assured: bool,
    /// The first packet has left or was delivered.
    pub confirmed: bool,
    /// No longer found by its tuples; packets that already carry it still do.
    pub gone: bool,
    /// Source NAT was set up (possibly to the same address).
    pub snat_done: bool,
    /// Destination NAT was set up (possibly to the same address).
    pub dnat_done: bool,
    /// `IPS_SRC_NAT`: the source really changes.
    pub snat: bool,
    /// `IPS_DST_NAT`: the destination really changes.
    pub dnat: bool,
    /// `masq_index`: the device it was masqueraded for.
    pub masquerade: Option<IfIndex>,
    /// TCP state.
    pub tcp: TcpState,
    /// Helper assigned.
    pub helper: Option<String>,
    /// Index of the connection that expected this one.
    pub master: Option<usize>,
    /// Where it comes from, if not from this walk.
    pub captured: Option<Captured>,
}

/// The captured row of a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// The row.
    pub row: Evidence,
    /// It had an answer then.
    pub replied: bool,
}

/// `enum tcp_conntrack`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the state it names")]
pub enum TcpState {
    None,
    SynSent,
    SynRecv,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
}

/// What the TCP table says of a packet in a state.
enum TcpVerdict {
    To(TcpState),
    Ignore,
    Invalid,
    /// A SYN on a connection that is over: it goes, and the packet opens a new one.
    Reopen,
}

/// The connections of one walk, in every namespace it visits.
#[derive(Debug, Default)]
pub struct Conntrack {
    entries: Vec<Entry>,
    /// Captured tables may be asked: the tuple was given, not made up.
    captured: bool,
}

impl Conntrack {
    /// An empty table; `captured` says whether captured entries are consulted before opening a new one.
    #[must_use]
    pub const fn with_captured(captured: bool) -> Self {
        Self {
            entries: Vec::new(),
            captured,
        }
    }

    /// Captured tables may be asked: the tuple was given.
    #[must_use]
    pub const fn asks_captured(&self) -> bool {
        self.captured
    }

    /// The connection a packet belongs to.
    #[must_use]
    pub fn entry(&self, ct: Ct) -> Option<&Entry> {
        match ct {
            Ct::Of { entry, .. } => self.entries.get(entry),
            _ => None,
        }
    }

    /// The same, to change its mark or helper.
    pub fn entry_mut(&mut self, ct: Ct) -> Option<&mut Entry> {
        match ct {
            Ct::Of { entry, .. } => self.entries.get_mut(entry),
            _ => None,
        }
    }

    /// All connections of the walk, in the order they were opened.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// `nf_conntrack_in`: finds or opens the connection of a packet and sets `skb.ct`.
    pub fn track(&mut self, ns: &Netns<'_>, skb: &mut Skb) -> Option<CtEvent> {
        skb.template = false;
        match skb.ct {
            // "Previously seen (loopback or untracked)? Ignore."
            Ct::Untracked => return Some(CtEvent::Untracked),
            Ct::Of { .. } => return None,
            Ct::None | Ct::Invalid => {}
        }
        let Some(key) = Key::of(&skb.packet) else {
            return Some(self.track_error(ns, skb));
        };
        if untracked_by_protocol(&skb.packet) {
            skb.ct = Ct::Untracked;
            return Some(CtEvent::Untracked);
        }
        let proto = skb.packet.proto;
        let found = self
            .find(ns.id, skb.zone, proto, key)
            .or_else(|| self.find_captured(ns, skb, proto, key));
        let (entry, dir) = match found {
            Some(hit) => hit,
            None => match self.open(ns, skb, key) {
                Some(entry) => (entry, Dir::Original),
                None => {
                    skb.ct = Ct::Invalid;
                    return Some(CtEvent::Invalid);
                }
            },
        };
        if found.is_some() && proto == proto::TCP {
            match tcp_next(dir, skb.packet.tcp_flags(), self.entries[entry].tcp) {
                TcpVerdict::To(next) => {
                    use TcpState::{Established, SynRecv};
                    let e = &mut self.entries[entry];
                    // "Set ASSURED if we see valid ack in ESTABLISHED after SYN_RECV".
                    e.assured |= e.seen_reply && matches!(e.tcp, SynRecv | Established) && next == Established;
                    e.tcp = next;
                }
                TcpVerdict::Ignore => {}
                TcpVerdict::Invalid => {
                    skb.ct = Ct::Invalid;
                    return Some(CtEvent::Invalid);
                }
                TcpVerdict::Reopen => {
                    // The dead connection goes away and the look-up is repeated: it finds nothing.
                    self.entries[entry].gone = true;
                    let Some(entry) = self.open(ns, skb, key) else {
                        skb.ct = Ct::Invalid;
                        return Some(CtEvent::Invalid);
                    };
                    skb.ct = Ct::Of {
                        entry,
                        dir: Dir::Original,
                        state: CtState::New,
                    };
                    return Some(CtEvent::New);
                }
            }
        }
        let e = &mut self.entries[entry];
        let state = match dir {
            Dir::Reply => {
                e.seen_reply = true;
                CtState::Established
            }
            Dir::Original if e.seen_reply => CtState::Established,
            Dir::Original if e.master.is_some() => CtState::Related,
            Dir::Original => CtState::New,
        };
        skb.ct = Ct::Of { entry, dir, state };
        Some(match (state, &e.captured) {
            (CtState::New, None) => CtEvent::New,
            (_, Some(_)) => CtEvent::Captured,
            (CtState::Related, None) => CtEvent::Related,
            (CtState::Established, None) => CtEvent::Established,
        })
    }

    /// `nf_conntrack_inet_error`: an ICMP error belongs to the connection of the packet it quotes.
    fn track_error(&mut self, ns: &Netns<'_>, skb: &mut Skb) -> CtEvent {
        let found = match &skb.packet.l4 {
            L4::Icmp { quoted: Some(q), .. } => Key::of(q).and_then(|key| {
                let back = key.invert(q.proto);
                self.find(ns.id, skb.zone, q.proto, back)
                    .or_else(|| self.find_captured(ns, skb, q.proto, back))
            }),
            _ => None,
        };
        match found {
            Some((entry, dir)) => {
                skb.ct = Ct::Of {
                    entry,
                    dir,
                    state: CtState::Related,
                };
                CtEvent::Related
            }
            None => {
                skb.ct = Ct::Invalid;
                CtEvent::Invalid
            }
        }
    }

    fn find(&self, ns: NsId, zone: Zone, proto: u8, key: Key) -> Option<(usize, Dir)> {
        self.entries.iter().enumerate().find_map(|(i, e)| {
            if e.gone || e.ns != ns || e.zone != zone || e.proto != proto {
                None
            } else if e.orig.same(key) {
                Some((i, Dir::Original))
            } else if e.reply.same(key) {
                Some((i, Dir::Reply))
            } else {
                None
            }
        })
    }

    fn find_captured(&mut self, ns: &Netns<'_>, skb: &Skb, proto: u8, key: Key) -> Option<(usize, Dir)> {
        // Both ports of WireGuard are configured: whatever is inside, its connection is the captured one.
        let settled = skb.packet.inner.as_ref().is_some_and(|i| i.noise.is_some());
        let zone = skb.zone;
        if !(self.captured || settled) || key.sport.drawn || key.dport.drawn {
            return None;
        }
        let (row, dir) = ns.connections().find(zone, proto, key.into())?;
        let ipvs = by_ipvs(ns, proto, row);
        self.entries.push(Entry {
            ns: ns.id,
            zone,
            proto,
            orig: row.orig.into(),
            reply: row.reply.into(),
            mark: Some(row.mark),
            seen_reply: !row.unreplied,
            assured: row.assured,
            confirmed: true,
            gone: false,
            snat_done: true,
            dnat_done: true,
            // The id of a query is in the same place of both tuples. Where no address says who drew it, source NAT did.
            snat: translated(row.reply.dst, row.orig.src, row.reply.dport, row.orig.sport, proto)
                || (matches!(proto, proto::ICMP | proto::ICMPV6)
                    && row.reply.sport != row.orig.sport
                    && row.reply.src == row.orig.dst),
            dnat: !ipvs && translated(row.reply.src, row.orig.dst, row.reply.sport, row.orig.dport, proto),
            masquerade: None,
            tcp: tcp_state(row.state.as_deref()),
            helper: row.helper.clone(),
            master: None,
            captured: Some(Captured {
                row: ns.connections().evidence(row),
                replied: !row.unreplied,
            }),
        });
        Some((self.entries.len() - 1, dir))
    }

    /// `init_conntrack` after the protocol's own check that a packet may open a connection.
    fn open(&mut self, ns: &Netns<'_>, skb: &Skb, key: Key) -> Option<usize> {
        let packet = &skb.packet;
        let tcp = match packet.proto {
            proto::TCP => match tcp_next(Dir::Original, packet.tcp_flags(), TcpState::None) {
                TcpVerdict::To(TcpState::SynSent) => TcpState::SynSent,
                // tcp_new: connections are picked up in the middle unless told not to.
                TcpVerdict::To(state) if ns.sysctl().get("net.netfilter.nf_conntrack_tcp_loose") != Some(0) => state,
                _ => return None,
            },
            // Only queries open a connection (`valid_new` in nf_conntrack_proto_icmp.c).
            proto::ICMP
                if !matches!(
                    packet.l4,
                    L4::Icmp {
                        ty: 8 | 13 | 15 | 17,
                        ..
                    }
                ) =>
            {
                return None;
            }
            proto::ICMPV6 if !matches!(packet.l4, L4::Icmp { ty: 128 | 139, .. }) => return None,
            _ => TcpState::None,
        };
        self.entries.push(Entry {
            ns: ns.id,
            zone: skb.zone,
            proto: packet.proto,
            orig: key,
            reply: key.invert(packet.proto),
            mark: Some(0),
            seen_reply: false,
            assured: false,
            confirmed: false,
            gone: false,
            snat_done: false,
            dnat_done: false,
            snat: false,
            dnat: false,
            masquerade: None,
            tcp,
            helper: None,
            master: None,
            captured: None,
        });
        Some(self.entries.len() - 1)
    }

    /// `nf_nat_used_tuple`: another connection has the tuple that answers this one.
    pub(crate) fn taken(&self, ns: &Netns<'_>, own: Ct, new: Key) -> bool {
        let Ct::Of { entry: index, .. } = own else { return false };
        let Some(entry) = self.entries.get(index) else {
            return false;
        };
        let back = new.invert(entry.proto);
        if back.sport.drawn || back.dport.drawn {
            return false;
        }
        let others = self.entries.iter().enumerate().filter(|(i, e)| {
            *i != index && !e.gone && e.ns == entry.ns && e.zone == entry.zone && e.proto == entry.proto
        });
        let mut others = others.map(|(_, e)| e);
        others.any(|e| e.orig.same(back) || e.reply.same(back))
            || (self.captured && ns.connections().find(entry.zone, entry.proto, back.into()).is_some())
    }

    /// `nf_confirm`: the packet passed every hook, so the connection is in the table for good.
    pub fn confirm(&mut self, skb: &Skb) {
        if let Some(e) = self.entry_mut(skb.ct) {
            e.confirmed = true;
        }
    }

    /// A packet that is thrown away before it is confirmed takes its connection with it.
    pub fn forget_unconfirmed(&mut self, skb: &Skb) {
        if let Some(e) = self.entry_mut(skb.ct)
            && !e.confirmed
        {
            e.gone = true;
        }
    }
}

/// Neighbour discovery and MLD are never tracked (`nf_conntrack_proto_icmpv6.c: noct_valid_new`).
const fn untracked_by_protocol(packet: &Packet) -> bool {
    packet.proto == proto::ICMPV6
        && matches!(
            packet.l4,
            L4::Icmp {
                ty: 130..=137 | 143,
                ..
            }
        )
}

/// IPVS writes its real server into the reply of an entry (`ip_vs_update_conntrack`) and translates by itself: what
/// looks like destination NAT is none. A rule may translate before IPVS sees the packet: then the row's server is none
/// of the service's.
fn by_ipvs(ns: &Netns<'_>, proto: u8, row: &knet_snapshot::conntrack::Connection) -> bool {
    let (client, virt) = ((row.orig.src, row.orig.sport), (row.orig.dst, row.orig.dport));
    let table = ns.ipvs();
    let serves = |addr: IpAddr| {
        let service = table.find(0, proto, virt.0, virt.1);
        service.is_some_and(|s| s.servers.iter().any(|server| server.addr == addr))
    };
    table.connection(proto, client, virt).is_some() || serves(row.reply.src)
}

/// Whether a captured pair of tuples differs on one side. ICMP keeps its id in `sport` of both tuples and
/// type and code in `dport`, so ports say nothing there.
fn translated(a: IpAddr, b: IpAddr, port_a: u16, port_b: u16, proto: u8) -> bool {
    a != b || (port_a != port_b && proto != proto::ICMP && proto != proto::ICMPV6)
}

/// The state a captured row shows.
fn tcp_state(word: Option<&str>) -> TcpState {
    match word {
        Some("SYN_SENT") => TcpState::SynSent,
        Some("SYN_RECV") => TcpState::SynRecv,
        Some("ESTABLISHED") => TcpState::Established,
        Some("FIN_WAIT") => TcpState::FinWait,
        Some("CLOSE_WAIT") => TcpState::CloseWait,
        Some("LAST_ACK") => TcpState::LastAck,
        Some("TIME_WAIT") => TcpState::TimeWait,
        Some("CLOSE") => TcpState::Close,
        Some("SYN_SENT2") => TcpState::SynSent2,
        _ => TcpState::None,
    }
}

/// `tcp_conntracks[dir][flags][state]` of nf_conntrack_proto_tcp.c.
fn tcp_next(dir: Dir, flags: u8, state: TcpState) -> TcpVerdict {
    use TcpState as S;
    use TcpVerdict::{Ignore, Invalid, Reopen, To};
    let rst = flags & tcp_flag::RST != 0;
    let syn = flags & tcp_flag::SYN != 0;
    let fin = flags & tcp_flag::FIN != 0;
    let ack = flags & tcp_flag::ACK != 0;
    // `get_conntrack_index` looks at the bits in this order.
    if rst {
        return if state == S::None { Invalid } else { To(S::Close) };
    }
    match (dir, syn, ack, fin) {
        (Dir::Original, true, false, _) => match state {
            S::None | S::SynSent => To(S::SynSent),
            S::TimeWait | S::Close => Reopen,
            S::SynSent2 => To(S::SynSent2),
            _ => Ignore,
        },
        (Dir::Original, true, true, _) => match state {
            S::SynRecv | S::SynSent2 => To(S::SynRecv),
            _ => Invalid,
        },
        (Dir::Reply, true, false, _) => match state {
            S::SynSent | S::SynSent2 => To(S::SynSent2),
            S::TimeWait => Reopen,
            _ => Invalid,
        },
        (Dir::Reply, true, true, _) => match state {
            S::None => Invalid,
            S::SynSent | S::SynSent2 => To(S::SynRecv),
            _ => Ignore,
        },
        (_, false, _, true) => match state {
            S::None | S::SynSent | S::SynSent2 => Invalid,
            S::SynRecv | S::Established => To(S::FinWait),
            S::FinWait | S::CloseWait | S::LastAck => To(S::LastAck),
            S::TimeWait => To(S::TimeWait),
            S::Close => To(S::Close),
        },
        (Dir::Original, false, true, false) => match state {
            // tcp_loose: a connection is picked up in the middle.
            S::None | S::SynRecv | S::Established => To(S::Established),
            S::SynSent | S::SynSent2 => Invalid,
            S::FinWait | S::CloseWait => To(S::CloseWait),
            S::LastAck | S::TimeWait => To(S::TimeWait),
            S::Close => To(S::Close),
        },
        (Dir::Reply, false, true, false) => match state {
            S::None => Invalid,
            S::SynSent | S::SynSent2 => Ignore,
            S::SynRecv => To(S::SynRecv),
            S::Established => To(S::Established),
            S::FinWait | S::CloseWait => To(S::CloseWait),
            S::LastAck | S::TimeWait => To(S::TimeWait),
            S::Close => To(S::Close),
        },
        (_, false, false, false) => Invalid,
    }
}
