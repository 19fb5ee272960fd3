//! The shape of `knet.trace/v1`. Fields may be added, never changed.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::against::AgainstDoc;
use super::steps::Step;
use super::verify::VerifyDoc;
use crate::query::IpFamily;

/// `schema` of a trace.
pub const TRACE: &str = "knet.trace/v1";
/// `schema` of an explanation.
pub const EXPLAIN: &str = "knet.explain/v1";

/// The answer to one query.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(title = "knet.trace/v1")]
pub struct TraceDocument {
    /// Of the query, when it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// `knet.trace/v1`
    pub schema: String,
    /// What was asked, and what its names were taken for.
    pub query: Asked,
    /// How the packet ends: `mixed` when branches differ.
    pub outcome: Outcome,
    /// What the client's program gets to see: `mixed` when branches differ.
    pub client_sees: OverallSees,
    /// Every way the packet can go.
    pub branches: Vec<Branch>,
    /// There are more branches than the limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The same flow as part of captured connections, when the source port was given and conntrack has it.
    /// `branches`, `outcome` and the exit code are about a new connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
    /// What was taken for granted.
    pub assumptions: Vec<Note>,
    /// What could not be told and mattered.
    pub unknowns: Vec<Note>,
    /// What looks wrong, or explains the answer.
    pub findings: Vec<Finding>,
    /// Where the model ends.
    pub boundary: Vec<Note>,
    /// The same as `explain nodeport`, when the destination is a NodePort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodeport: Option<Value>,
    /// The walk beside a recording of the kernel's own trace (`--against`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<AgainstDoc>,
    /// The commands that record the kernel's own trace of this flow (`--verify-commands`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<VerifyDoc>>,
    /// An entry of `vip`, when somebody outside sends to an address of a Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip: Option<super::vip::VipDoc>,
}

/// What stands in place of a trace when the query could not be asked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ErrorDocument {
    /// Of the query, when it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// `knet.trace/v1`
    pub schema: String,
    /// What was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Asked>,
    /// Why it could not be asked.
    pub error: Error,
}

/// Why a query could not be asked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Error {
    /// A stable word.
    pub code: String,
    /// In words.
    pub message: String,
    /// What would help.
    pub hints: Vec<String>,
}

/// A query. Fields that were not given are left out.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the fields of crate::Query, documented there")]
pub struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    pub src: String,
    pub dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tos: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub family: Option<IpFamily>,
    /// What the names were taken for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ResolvedNames>,
}

/// What the names of a query were taken for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ResolvedNames {
    /// `pod/ns/name`, `node/NAME`, `ip/ADDR`, `netns/NODE/ID`.
    pub src: String,
    /// Node the packet starts on, or enters.
    pub node: String,
    /// Device an off-cluster client's packet enters by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enters_by: Option<String>,
    /// `svc/ns/name:port`, `pod/ns/name`, `node/NAME`, `localhost`, or an address.
    pub dst: String,
    /// The packet as it was sent.
    pub packet: PacketDoc,
}

/// How a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
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
    /// Branches differ.
    Mixed,
}

/// What the client's program gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sees {
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

/// What the client's program gets to see over all branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OverallSees {
    /// The same on every branch.
    Same(Sees),
    /// Branches differ.
    Mixed(MixedWord),
}

/// The word `mixed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MixedWord {
    /// `mixed`
    Mixed,
}

/// What becomes of a packet of a captured connection.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Connection {
    /// The rows of conntrack that hold it.
    pub entries: Vec<ConnectionEntry>,
    /// Every way the packet can go.
    pub branches: Vec<Branch>,
    /// There are more branches than the limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// A row of a conntrack table.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ConnectionEntry {
    /// Node.
    pub node: String,
    /// Namespace: `host`, or a folder under `netns/`.
    pub netns: String,
    /// Where it is written.
    pub evidence: Evidence,
}

/// One way the packet can go.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Branch {
    /// Its share at least, as an exact fraction: `1/3`, `1`, `0`.
    pub probability: String,
    /// Its share at most, when an unknown makes that another number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability_max: Option<String>,
    /// What must hold for this branch, of what could not be told.
    pub conditions: Vec<String>,
    /// How the request ends.
    pub outcome: Outcome,
    /// Why, a stable word.
    pub reason: String,
    /// What the client's program gets to see, the reply taken into account.
    pub client_sees: Sees,
    /// Where the request ended.
    pub at: At,
    /// The packet as it arrived or left.
    pub packet: PacketDoc,
    /// How it was refused (`icmp-port-unreachable`, `tcp-reset`, …).
    pub reject: Option<String>,
    /// The server sees another source than the client sent.
    pub snat: bool,
    /// The server is another than the client addressed.
    pub dnat: bool,
    /// The rows that decided how it ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// The way back, when something comes back.
    pub reply: Option<Reply>,
    /// The client's next packet, when it is lost although the first was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub followup: Option<Followup>,
    /// The request's hops. Left out by `--brief`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hops: Option<Vec<Hop>>,
}

/// Where a packet ended.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct At {
    /// Node; null outside the snapshot.
    pub node: Option<String>,
    /// Namespace: `host`, or a folder under `netns/`.
    pub netns: Option<String>,
    /// `ns/name`
    pub pod: Option<String>,
    /// Device it left by.
    pub oif: Option<String>,
}

/// The header fields of a packet.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PacketDoc {
    /// Source address.
    pub src: IpAddr,
    /// Source port; null when the protocol has none, or NAT draws it at random.
    pub sport: Option<u16>,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port likewise.
    pub dport: Option<u16>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, or the number.
    pub proto: String,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Firewall mark; null where it is not known (after the packet left a namespace it has none).
    pub mark: Option<u32>,
    /// ICMP type and code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<[u8; 2]>,
    /// `drawn at random by NAT` for a port that is null because of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The way back.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Reply {
    /// How it ends.
    pub outcome: Outcome,
    /// Why, a stable word.
    pub reason: String,
    /// What comes back: `data`, `reset`, an ICMP error's name, `time-exceeded`, `too-big`.
    pub answer: String,
    /// The client takes it for an answer to what it sent.
    pub fits: bool,
    /// Where it ended.
    pub at: At,
    /// The packet as it arrived.
    pub packet: PacketDoc,
    /// The rows that decided how it ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// Left out by `--brief`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hops: Option<Vec<Hop>>,
}

/// The client's next packet, lost although the first was answered.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Followup {
    /// How it ends.
    pub outcome: Outcome,
    /// Why, a stable word.
    pub reason: String,
    /// Where.
    pub at: At,
    /// The rows that decided how it ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// Left out by `--brief`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hops: Option<Vec<Hop>>,
}

/// The packet in one namespace.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Hop {
    /// Node.
    pub node: String,
    /// Namespace: `host`, or a folder under `netns/`.
    pub netns: String,
    /// `ns/name`
    pub pod: Option<String>,
    /// `output`, `forward`, `bridge`, `input`, `encap`, `decap`, `ingress`.
    pub stage: String,
    /// Device it came in by.
    pub iif: Option<String>,
    /// Device it left by.
    pub oif: Option<String>,
    /// The packet as it left this hop.
    pub packet: PacketDoc,
    /// The decisions, in order.
    pub steps: Vec<Step>,
}

/// Where in the snapshot something is written.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Evidence {
    /// Path inside the snapshot.
    pub artifact: String,
    /// Line, from 1; null when lines were not counted (`--brief`).
    pub line: Option<u64>,
    /// Index in a JSON list that is one line, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// nft handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// As written.
    pub text: String,
}

/// Something to know, with a stable word for its kind.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Note {
    /// A stable word.
    pub kind: String,
    /// In words.
    pub text: String,
    /// Where it is written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

/// Something found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Finding {
    /// Stable code, `KNET-F001`.
    pub code: String,
    /// `error`, `warning`, `info`.
    pub severity: String,
    /// In words.
    pub text: String,
    /// What to do or look at next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The facts of the finding.
    pub data: Value,
    /// Where it is written.
    pub evidence: Vec<Evidence>,
}

/// `explain`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(title = "knet.explain/v1")]
pub struct ExplainDocument {
    /// `knet.explain/v1`
    pub schema: String,
    /// `nodeport`, `clusterip`, `kube-ipvs0`
    pub topic: String,
    /// The answer.
    #[serde(flatten)]
    pub answer: TopicDocument,
}

/// The answer to one topic.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "one is made a run")]
pub enum TopicDocument {
    /// `nodeport`
    NodePort(super::nodeport::NodePortDocument),
    /// `clusterip`
    ClusterIp(super::clusterip::ClusterIpDocument),
    /// `kube-ipvs0`
    KubeIpvs0(super::clusterip::KubeIpvs0Document),
}
