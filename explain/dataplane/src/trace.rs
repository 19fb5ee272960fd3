//! What a walk found: typed steps with their evidence. No words are made here.

use std::net::IpAddr;
use std::sync::Arc;

use knet_snapshot::Row;
use knet_snapshot::id::{IfIndex, Mac, TableId, Zone};
use knet_snapshot::ipvs::Forward;
use knet_snapshot::neigh::NudState;
use knet_snapshot::route::RouteKind;

use crate::packet::{Packet, Port};

/// Where in the snapshot a decision is written, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Evidence {
    /// Path of the artifact inside the snapshot.
    pub artifact: Arc<str>,
    /// The bytes it stands in.
    pub at: Row,
    /// nft handle, where there is one.
    pub handle: Option<u64>,
    /// The row as its tool would print it on one line.
    pub text: Arc<str>,
}

/// Index of a namespace in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NsId(pub u32);

/// Netfilter hook of the network layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// netdev ingress
    Ingress,
    /// PREROUTING
    Prerouting,
    /// INPUT
    Input,
    /// FORWARD
    Forward,
    /// OUTPUT
    Output,
    /// POSTROUTING
    Postrouting,
    /// netdev egress
    Egress,
}

/// Which engine holds a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// iptables, legacy back end.
    XtLegacy,
    /// iptables, nft back end.
    XtNft,
    /// native nftables.
    Nft,
}

/// How a REJECT answers. Names are those of `--reject-with`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is the answer it names")]
pub enum Reject {
    IcmpNetUnreachable,
    IcmpHostUnreachable,
    IcmpProtoUnreachable,
    IcmpPortUnreachable,
    IcmpNetProhibited,
    IcmpHostProhibited,
    IcmpAdminProhibited,
    TcpReset,
    Icmp6NoRoute,
    Icmp6AdmProhibited,
    Icmp6AddrUnreachable,
    Icmp6PortUnreachable,
    Icmp6PolicyFail,
    Icmp6RejectRoute,
    /// Not one of `--reject-with`: the source's scope is smaller than the way it would have to go.
    Icmp6BeyondScope,
}

/// What a rule or policy decided.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleVerdict {
    /// Matched, the packet goes on to the next rule.
    Continue,
    /// The base chain ends; the packet goes on.
    Accept,
    /// The packet ends.
    Drop,
    /// The packet ends and the sender is told.
    Reject(Reject),
    /// To a user chain, coming back.
    Jump(Arc<str>),
    /// To a user chain, not coming back here.
    Goto(Arc<str>),
    /// Back to the calling chain.
    Return,
    /// Handed to a program that decides.
    Queue,
    /// NAT; the connection keeps it.
    Nat,
    /// Not known.
    Unknown,
}

/// One decision of the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What was decided.
    pub what: What,
    /// By which rows.
    pub evidence: Vec<Evidence>,
}

/// What one step decided.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A rule of a chain was met.
    Rule {
        /// Which engine.
        engine: Engine,
        /// Table as its tool names it (`nat`, `ip kube-proxy`).
        table: Arc<str>,
        /// Chain.
        chain: Arc<str>,
        /// What it did. `None`: it did not match (recorded only at full detail).
        verdict: Option<RuleVerdict>,
    },
    /// A base chain ran to its end and its policy decided.
    Policy {
        /// Which engine.
        engine: Engine,
        /// Table.
        table: Arc<str>,
        /// Base chain.
        chain: Arc<str>,
        /// Dropped by it?
        drop: bool,
    },
    /// A header field or mark was changed.
    Rewrite(Field),
    /// Conntrack saw the packet.
    Conntrack(CtEvent),
    /// An address was translated.
    Nat {
        /// Source or destination was changed.
        source: bool,
        /// From.
        from: (IpAddr, Option<Port>),
        /// To.
        to: (IpAddr, Option<Port>),
    },
    /// A policy-routing rule sent the lookup to a table (or ended it).
    RouteRule {
        /// The table, if it names one.
        table: Option<TableId>,
    },
    /// A route was found.
    Route {
        /// Type.
        kind: RouteKind,
        /// Next hop; `None` = on link.
        via: Option<IpAddr>,
        /// Out by.
        oif: Option<IfIndex>,
        /// Source chosen for a local sender.
        prefsrc: Option<IpAddr>,
    },
    /// No route.
    NoRoute,
    /// The neighbour table was asked.
    Neighbour {
        /// For which address.
        addr: IpAddr,
        /// State; `None` = no entry, the kernel would ask.
        state: Option<NudState>,
        /// Result.
        mac: Option<Mac>,
    },
    /// Somebody would answer an ARP request or neighbour solicitation.
    Answered {
        /// For which address.
        addr: IpAddr,
        /// By which namespace.
        by: NsId,
        /// On which of its devices.
        dev: IfIndex,
        /// By proxy.
        proxy: bool,
    },
    /// A bridge looked a MAC up.
    Fdb {
        /// The MAC.
        mac: Option<Mac>,
        /// What the bridge does with the frame.
        to: FdbTo,
    },
    /// A frame crossed from one device to another (veth pair, cable, lower device).
    Cross {
        /// Into which namespace.
        to: NsId,
        /// To which device.
        dev: IfIndex,
    },
    /// A tunnel wrapped the packet.
    Encap {
        /// By which device.
        dev: IfIndex,
        /// Outer source.
        local: Option<IpAddr>,
        /// Outer destination.
        remote: Option<IpAddr>,
        /// VNI or key.
        key: Option<u32>,
    },
    /// A tunnel unwrapped the packet.
    Decap {
        /// By which device.
        dev: IfIndex,
    },
    /// A sysctl decided.
    Sysctl {
        /// Key.
        key: Arc<str>,
        /// Value; `None` = not captured, default assumed.
        value: Option<i64>,
    },
    /// IPVS handed the packet to a real server, or found none.
    Ipvs {
        /// The real server; `None` = there is none for it.
        server: Option<(IpAddr, Port)>,
        /// How it gets the packet.
        forward: Option<Forward>,
        /// Which way it was found.
        by: IpvsBy,
    },
    /// A socket takes the packet.
    Socket {
        /// Program, if it is known.
        program: Option<Arc<str>>,
    },
    /// A program at a device (XDP, tc) sees the packet.
    Program {
        /// Device.
        dev: IfIndex,
        /// On the way out of it.
        sending: bool,
    },
    /// The MTU of the device the packet leaves by.
    Mtu {
        /// Device.
        dev: IfIndex,
        /// Its MTU (or the route's).
        mtu: u32,
    },
    /// The packet was routed again after a change in OUTPUT.
    Reroute,
    /// A table that would be asked was not captured.
    NotCaptured(Arc<str>),
    /// A match or target that the model cannot decide was met.
    Undecided,
}

/// Which way IPVS found a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvsBy {
    /// The service's scheduler chose.
    Scheduler,
    /// The client was given this server before (persistence template).
    Template,
    /// The packet belongs to a captured connection.
    Connection,
}

/// Which field was changed, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the field it names")]
pub enum Field {
    Mark { from: u32, to: u32 },
    ConnMark { from: u32, to: u32 },
    Tos { from: u8, to: u8 },
    Ttl { from: u8, to: u8 },
    Priority { to: u32 },
    Zone(Zone),
    Untracked,
    Mss,
}

/// What conntrack made of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtEvent {
    /// First packet of a connection.
    New,
    /// Belongs to a connection of this walk.
    Established,
    /// Belongs to a captured connection.
    Captured,
    /// An error about a connection.
    Related,
    /// Fits no connection and cannot start one.
    Invalid,
    /// Not tracked on purpose.
    Untracked,
}

/// Where a bridge sends a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FdbTo {
    /// Up into the network stack of the bridge's own namespace.
    Local,
    /// Out of one port.
    Port(IfIndex),
    /// Out of every port that floods.
    Flood(Vec<IfIndex>),
}

/// Collects the steps of one run. Switched off it costs nothing.
#[derive(Debug, Default)]
pub struct Sink {
    /// How much to keep.
    pub detail: Detail,
    /// What was kept.
    pub steps: Vec<Step>,
}

/// How much a walk records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Outcomes only.
    Outcome,
    /// Every decision.
    #[default]
    Decisions,
    /// Every decision, and every rule that was looked at and did not match.
    Full,
}

impl Sink {
    /// Records a step when anything is recorded; the closure is not run otherwise.
    pub fn step(&mut self, make: impl FnOnce() -> Step) {
        if self.detail >= Detail::Decisions {
            self.steps.push(make());
        }
    }

    /// Records a step only at full detail.
    pub fn visited(&mut self, make: impl FnOnce() -> Step) {
        if self.detail == Detail::Full {
            self.steps.push(make());
        }
    }
}

/// How a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A socket takes it.
    Delivered,
    /// A rule, or a route, refused it and told the sender.
    Rejected,
    /// Thrown away without a word.
    Dropped,
    /// No route, and the sender is told.
    NoRoute,
    /// A blackhole route or rule took it.
    Blackholed,
    /// Nobody answers for the next hop's address, or with the wrong MAC.
    NeighbourFailed,
    /// It reached its destination, where nobody listens.
    NoListener,
    /// TTL ran out, or the walk met its limit.
    Loop,
    /// It left what the snapshot holds.
    LeavesCluster,
    /// Cannot tell.
    Unknown,
}

/// Why a packet ended as it did. Closed: a new reason is a new variant with its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A rule dropped it.
    Rule,
    /// A base chain's policy dropped it.
    Policy,
    /// A rule rejected it.
    RejectRule,
    /// No route matched.
    NoRoute,
    /// A route of type unreachable.
    UnreachableRoute,
    /// A route or rule of type prohibit.
    ProhibitRoute,
    /// A route or rule of type blackhole.
    BlackholeRoute,
    /// The reverse path check failed.
    RpFilter,
    /// Source or destination cannot come in this way.
    Martian,
    /// Forwarding is off on the device it came in by.
    ForwardingOff,
    /// `TTL` reached zero.
    TtlExpired,
    /// More hops than the walk follows.
    HopLimit,
    /// No answer to ARP or neighbour discovery.
    NoNeighbour,
    /// A rule or policy loses the question for the next hop's MAC, or the answer.
    QuestionLost,
    /// The frame's destination MAC is nobody's.
    WrongMac,
    /// The device is down or has no carrier.
    LinkDown,
    /// The bridge port is not forwarding.
    PortState,
    /// The frame would go out of the port it came in by, and hairpin is off.
    NoHairpin,
    /// Both ports are isolated.
    Isolated,
    /// VLAN filtering.
    VlanFilter,
    /// The bridge does not flood to anybody who takes it.
    NoFloodTarget,
    /// The VXLAN device knows no remote for the MAC.
    NoTunnelRemote,
    /// No device here unwraps this tunnel packet.
    NoTunnelDevice,
    /// There is no session with the tunnel's peer, and the handshake for one is lost.
    NoTunnelSession,
    /// Nobody listens on the port.
    NoListener,
    /// Protocol without a handler.
    NoProtocol,
    /// TPROXY gave the packet a socket, and no route brings it there: such a packet is not forwarded.
    HasSocket,
    /// The packet is larger than the MTU and may not be fragmented.
    TooBig,
    /// The peer of the device is outside the snapshot.
    PeerOutside,
    /// Next hop is nobody in the snapshot.
    NextHopOutside,
    /// A program decides (QUEUE, tun device).
    Userspace,
    /// A program at a device (XDP, tc) decides.
    Program,
    /// A fact that decides was not captured.
    NotCaptured,
    /// A rule, target, device or route kind that is not modelled.
    NotModelled,
    /// A reply arrived that belongs to no connection of the receiver.
    UnexpectedReply,
    /// Delivered: a socket took it.
    Socket,
    /// Delivered: the kernel itself answers (ICMP echo).
    Kernel,
    /// It arrived at the client outside the snapshot.
    Client,
    /// NAT found no free tuple or address to use.
    NatFailed,
    /// A masqueraded connection would leave by another device than the one it was masqueraded for.
    MasqueradeMoved,
    /// The sender has no usable source address.
    NoSource,
    /// An IPVS service has no real server for the packet.
    NoRealServer,
    /// A real server of IPVS sent something that belongs to no connection (`nat_icmp_send`).
    NoIpvsConnection,
}

/// What the client's program gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientSees {
    /// An answer.
    Reply,
    /// Nothing.
    Timeout,
    /// `ECONNREFUSED`
    Refused,
    /// `EHOSTUNREACH` or `ENETUNREACH`
    Unreachable,
    /// `EACCES`
    Prohibited,
    /// `EINVAL`
    Invalid,
    /// `EPERM`
    Permission,
    /// Cannot tell.
    Unknown,
}

/// Where in the world something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The namespace; `None` = outside the snapshot.
    pub ns: Option<NsId>,
    /// The device it left by, when it left.
    pub oif: Option<IfIndex>,
}

/// The packet in one namespace, from where it came in to where it left.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// The namespace.
    pub ns: NsId,
    /// What happens here.
    pub stage: Stage,
    /// Device it came in by.
    pub iif: Option<IfIndex>,
    /// Device it left by.
    pub oif: Option<IfIndex>,
    /// The packet as it left this hop (or ended in it).
    pub packet: Packet,
    /// The decisions, in order.
    pub steps: Vec<Step>,
}

/// What a hop does with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// A local program sends.
    Output,
    /// Routed through.
    Forward,
    /// Bridged through.
    Bridge,
    /// Delivered to this namespace.
    Input,
    /// Wrapped by a tunnel device and sent again.
    Encap,
    /// Unwrapped by a tunnel device and received again.
    Decap,
    /// Came in, and no more is known yet.
    Ingress,
}

/// Where and how a packet ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// How.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Where.
    pub place: Place,
    /// The packet as it was then.
    pub packet: Packet,
    /// Its mark then (`skb->mark`); a packet that left its node has none.
    pub mark: u32,
    /// The rows that decided, if any did.
    pub evidence: Vec<Evidence>,
}

/// What kind of packet comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// What the server says.
    Data,
    /// A reset: nobody listens, or a rule says `tcp-reset`.
    Reset,
    /// An ICMP error of this kind.
    Error(Reject),
    /// ICMP time exceeded.
    TimeExceeded,
    /// ICMP fragmentation needed, or packet too big.
    TooBig,
}

/// The way back.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// What comes back.
    pub answer: Answer,
    /// Where it ended.
    pub end: End,
    /// The client takes it for an answer to what it sent: addresses and ports fit.
    pub fits: bool,
    /// The hops, in order.
    pub hops: Vec<Hop>,
}

/// The client's next packet, when it has an answer but that packet does not get through.
#[derive(Clone, Debug, PartialEq)]
pub struct Followup {
    /// Where it ended.
    pub end: End,
    /// The hops, in order.
    pub hops: Vec<Hop>,
}

/// One way the packet can go.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// The choices that lead here.
    pub path: Vec<crate::choice::Taken>,
    /// Its share at least: what the kernel's own chance gives it when every unknown goes against it.
    pub at_least: crate::choice::Ratio,
    /// Its share at most. Differs from `at_least` only behind an unknown.
    pub at_most: crate::choice::Ratio,
    /// Where the request ended.
    pub end: End,
    /// How it was refused, when it was.
    pub reject: Option<Reject>,
    /// The server sees another source than the client sent.
    pub snat: bool,
    /// The server is another than the client addressed.
    pub dnat: bool,
    /// The request's hops.
    pub hops: Vec<Hop>,
    /// The way back, when something comes back.
    pub reply: Option<Reply>,
    /// The client's next packet, when it is lost although the first was answered.
    pub followup: Option<Followup>,
    /// What the client's program gets to see.
    pub client_sees: ClientSees,
    /// The largest packet that gets to the request's end in one piece, whatever was sent.
    pub mtu: Option<PathMtu>,
    /// What this branch takes for granted.
    pub assumptions: Vec<Assumption>,
}

/// The narrowest place on a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// Bytes of the packet as its sender counts them: what tunnels on the way add is taken off.
    pub bytes: u32,
    /// The device that allows no more.
    pub at: (NsId, IfIndex),
}

/// Something the walk takes for granted because the snapshot cannot say. Closed, like reasons.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assumption {
    /// The program uses this source port.
    SourcePort(u16),
    /// A sysctl that was not captured has its kernel default.
    SysctlDefault(Arc<str>, i64),
    /// A neighbour entry that is stale or missing would be resolved by the answer the model finds.
    NeighbourResolves(IpAddr),
    /// A bridge would learn or have learned the port of a MAC.
    BridgeLearns,
    /// A pod's legacy iptables tables were not captured: taken to be as empty as those of its node.
    NoLegacyTables(Arc<str>),
    /// A node's policies of IPsec were not captured: taken to have none, as all others that were looked at.
    NoPolicies(Arc<str>),
    /// The rules were not captured; the three default rules are assumed.
    DefaultRules,
    /// Veth peers were matched by another way than `link_netnsid` (see the message of the reader).
    VethPeerGuessed(Arc<str>),
    /// The next hop outside the snapshot forwards as a router should.
    OutsideForwards(IpAddr),
    /// A limit match's bucket is assumed not to be empty.
    LimitNotReached,
}

/// Everything a walk found.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The packet as it was sent.
    pub sent: Packet,
    /// Where it starts.
    pub start: NsId,
    /// The ways it can go.
    pub branches: Vec<Branch>,
    /// More branches than the limit: the rest is not shown.
    pub truncated: bool,
    /// The same addresses and ports as part of a connection that was captured. `branches` is always about a
    /// new connection; only where the source port was given can a captured one be recognised.
    pub established: Option<Box<Established>>,
}

/// What becomes of a packet of a connection that captured conntrack tables hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Established {
    /// The rows that were met, and where.
    pub entries: Vec<(NsId, Evidence)>,
    /// One of them had an answer when it was captured.
    pub replied: bool,
    /// The ways the packet can go. A TCP packet of a connection that has its answer carries data here.
    pub branches: Vec<Branch>,
    /// More branches than the limit.
    pub truncated: bool,
}
