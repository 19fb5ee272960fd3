//! What an answer holds: typed, self-contained, without words.
//!
//! An explanation is the walk's trace plus everything needed to say it: the names of places, devices and
//! addresses, where evidence stands in its file, who wrote each chain, and what was found wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use knet_snapshot::id::{IfIndex, TableId};

use crate::against::Against;
use crate::against::verify::Verify;
use crate::findings::Finding;
use crate::fold::{self, Group};
use crate::names::{PlaceName, Whose};
use crate::owner::{Owner, RouteOwner};
use crate::query::Query;
use crate::service_chain::{Role, ServicePortName};
use crate::systems::{Seen, Sign, System};
use crate::topics::nodeport::NodePortExplanation;
use crate::topics::vip::VipExplanation;

pub use crate::resolve::{Entry, Source, Target};
pub use knet_dataplane::choice::{Chance, Fork, Ratio, Taken, Unknown};
pub use knet_dataplane::packet::{L4, Packet, Port};
pub use knet_dataplane::trace::{
    Answer, Assumption, Branch, ClientSees, CtEvent, Detail, End, Engine, Evidence, FdbTo, Field, Hook, Hop, NsId,
    Outcome, Place, Reason, Reject, Reply, RuleVerdict, Stage, Step, What,
};

/// The answer to one [`crate::Query`].
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What was asked.
    pub query: Query,
    /// Who sends.
    pub src: Source,
    /// What is addressed.
    pub dst: Target,
    /// The packet as it was sent (to the first address, when a name has several).
    pub sent: Packet,
    /// Where it starts.
    pub start: NsId,
    /// The ways it can go. Never empty.
    pub branches: Vec<Branch>,
    /// Branches that end alike, the most likely first. Indexes into `branches`.
    pub groups: Vec<Group>,
    /// More branches than the limit: the rest is not shown.
    pub truncated: bool,
    /// The same flow as part of captured connections: one for each address of the destination that has one.
    /// Empty unless the source port was given. `branches` is about a new connection.
    pub connections: Vec<Connection>,
    /// What was taken for granted.
    pub assumptions: Vec<Assumed>,
    /// What could not be told and mattered.
    pub unknowns: Vec<Open>,
    /// Where the model ends, as far as this answer touches it.
    pub boundary: Vec<Boundary>,
    /// What looks wrong, or explains the answer.
    pub findings: Vec<Finding>,
    /// The answer to "why is it not in netstat", when the destination is a NodePort.
    pub nodeport: Option<Box<NodePortExplanation>>,
    /// The walk beside a recording of the kernel's own trace, when there is one.
    pub against: Option<Box<Against>>,
    /// How to record the kernel's own trace of the flow, when that was asked.
    pub verify: Option<Box<Verify>>,
    /// Who answers for the destination, when somebody outside sends to an address of a Service.
    pub vip: Option<Box<VipExplanation>>,
    /// Systems on the way whose dataplane is none of the kernel's tables.
    pub outside: Vec<Seen>,
    /// Names for what the trace holds by number.
    pub glossary: Glossary,
}

/// What becomes of a packet of a connection that captured conntrack tables hold: the translation it has is
/// used, and no nat rule is asked.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The rows, and whose table they stand in.
    pub entries: Vec<(NsId, Evidence)>,
    /// The ways the packet can go.
    pub branches: Vec<Branch>,
    /// Branches that end alike. Indexes into `branches`.
    pub groups: Vec<Group>,
    /// More branches than the limit: the rest is not shown.
    pub truncated: bool,
}

/// Something taken for granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assumed {
    /// By the walk.
    Walk(Assumption),
    /// Where an off-cluster client's packet enters.
    Entry {
        /// The node.
        node: String,
        /// The device.
        dev: String,
        /// Why there.
        entry: Entry,
    },
    /// The client's resolver gives every address of a headless service the same share.
    EvenAddresses(usize),
    /// A namespace was tied to its pod by the pod's address; `netns.json` does not say.
    TiedByAddress(String),
}

/// Something that could not be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Open {
    /// The walk met it and went both ways.
    Fork(Unknown),
    /// The walk ended in it.
    End(Reason, Vec<Evidence>),
    /// The walk has more branches than are looked at.
    Truncated(usize),
    /// Trouble in an artifact that the walk read.
    Problem {
        /// Path.
        artifact: String,
        /// What the reader says.
        what: String,
    },
}

/// Where the model ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Boundary {
    /// The capture window. Facts are this old.
    Window {
        /// RFC 3339.
        start: String,
        /// RFC 3339.
        end: String,
    },
    /// There is no manifest: nobody knows when the facts were captured.
    NoWindow,
    /// A filter or program of tc in a namespace the packet crosses, at a device it does not cross. (One that it
    /// meets is a step of the walk.)
    TcProgram {
        /// Where.
        artifact: String,
        /// Device.
        dev: String,
    },
    /// A system whose dataplane is none of the kernel's tables, on a node the packet crosses.
    Dataplane {
        /// Node.
        node: String,
        /// Which.
        system: System,
        /// What tells so.
        signs: Vec<Sign>,
        /// It is at work.
        at_work: bool,
    },
    /// This list of tc filters, of a namespace the packet crosses, was not captured or cannot be read.
    TcUnknown(String),
    /// The packet crosses the wire between nodes: switches, routers and cloud filters are not in the snapshot.
    Underlay,
    /// The packet leaves what the snapshot holds.
    Outside,
    /// eBPF attached to cgroups, sockets or XDP is in no artifact.
    Ebpf,
    /// What the program that takes the packet then answers.
    Application,
    /// An artifact changed while it was captured, or after.
    Inconsistent(String),
    /// Facts of two nodes were captured this far apart (first and last).
    Apart {
        /// RFC 3339.
        first: String,
        /// RFC 3339.
        last: String,
    },
}

/// Names for what a trace holds by number.
#[derive(Clone, Debug, Default)]
pub struct Glossary {
    /// Namespaces.
    pub places: BTreeMap<NsId, PlaceName>,
    /// Devices.
    pub devices: BTreeMap<(NsId, IfIndex), Device>,
    /// Addresses.
    pub addresses: BTreeMap<IpAddr, Vec<Whose>>,
    /// Where evidence stands: artifact and byte offset to line or row.
    pub cites: BTreeMap<(Arc<str>, u64), Cite>,
    /// Chains: table and chain to what is known about them.
    pub chains: BTreeMap<(Engine, Arc<str>, Arc<str>), ChainNote>,
    /// Who wrote the route at this place of an artifact.
    pub routes: BTreeMap<(Arc<str>, u64), RouteNote>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Bridge (or other master) it is a port of.
    pub master: Option<String>,
    /// MTU.
    pub mtu: u32,
    /// Who made it.
    pub owner: Option<Owner>,
}

/// Where evidence stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cite {
    /// Line, from 1.
    pub line: u64,
    /// Of a JSON list on one line: the index in it, from 0.
    pub index: Option<u64>,
}

/// What is known about a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainNote {
    /// Who wrote it.
    pub owner: Option<Owner>,
    /// Its role in kube-proxy's rules.
    pub role: Option<Role>,
    /// The service port it is for.
    pub service: Option<ServicePortName>,
}

/// What is known about a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteNote {
    /// Table.
    pub table: TableId,
    /// Who wrote it.
    pub owner: Option<RouteOwner>,
}

/// How a client fares over all branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same on every branch.
    Same(ClientSees),
    /// Different branches, different ends.
    Mixed,
}

impl Explanation {
    /// What can be said of what the client gets to see on a branch: nothing, where programs that are not run
    /// have the packet. The branch itself is what the kernel's own tables make of it.
    #[must_use]
    pub fn sees(&self, branch: &Branch) -> ClientSees {
        if self.programs_decide(branch) {
            ClientSees::Unknown
        } else {
            branch.client_sees
        }
    }

    /// Programs that are not run have the packet somewhere on the branch.
    #[must_use]
    pub fn programs_decide(&self, branch: &Branch) -> bool {
        fold::depends_on_program(branch) || self.taken_over(branch).is_some()
    }

    /// The first system on a branch that takes packets away from the kernel's tables and is not run.
    #[must_use]
    pub fn taken_over(&self, branch: &Branch) -> Option<&Seen> {
        let reply = branch.reply.iter().flat_map(|r| &r.hops);
        let mut hops = branch.hops.iter().chain(reply);
        hops.find_map(|hop| self.outside.iter().find(|s| s.takes_over() && s.host == hop.ns))
    }

    /// How the client fares.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut seen = self.branches.iter().map(|b| self.sees(b));
        let first = seen.next().unwrap_or(ClientSees::Unknown);
        if seen.all(|s| s == first) {
            Verdict::Same(first)
        } else {
            Verdict::Mixed
        }
    }

    /// How the packet ends: `None` when branches differ.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let mut all = self.branches.iter().map(|b| {
            if self.programs_decide(b) {
                Outcome::Unknown
            } else {
                b.end.outcome
            }
        });
        let first = all.next().unwrap_or(Outcome::Unknown);
        all.all(|o| o == first).then_some(first)
    }

    /// The exit code that says it in one digit: 0 the client gets its answer on every branch, 1 on some
    /// branch it does not, 3 cannot tell. (2 is for queries that could not be asked.)
    ///
    /// "Delivered" means that the client gets its answer: a request that arrives and whose reply is lost
    /// is not delivered for whoever waits for it. A packet that leaves the cluster is answered, or not, by
    /// somebody nobody captured: cannot tell. Nor can it be told where only the answer to something unknown lets a
    /// branch fail, and another answer does not.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let fails = |b: &Branch| {
            !matches!(self.sees(b), ClientSees::Reply | ClientSees::Unknown) && b.end.outcome != Outcome::LeavesCluster
        };
        let open = |b: &Branch| self.sees(b) == ClientSees::Unknown || b.end.outcome == Outcome::LeavesCluster;
        let certain = |b: &Branch| fails(b) && fold::conditions(b).next().is_none();
        let all = &self.branches;
        if all.iter().any(certain) || !self.truncated && !all.is_empty() && all.iter().all(fails) {
            1
        } else if self.truncated || all.is_empty() || all.iter().any(|b| open(b) || fails(b)) {
            3
        } else {
            0
        }
    }
}

impl Glossary {
    /// A device's name, or `?`.
    #[must_use]
    pub fn device(&self, ns: NsId, dev: IfIndex) -> &str {
        self.devices.get(&(ns, dev)).map_or("?", |d| &d.name)
    }

    /// The pod, service or node that has an address, the most telling first.
    #[must_use]
    pub fn whose(&self, addr: IpAddr) -> Option<&Whose> {
        self.addresses.get(&addr).and_then(|all| all.first())
    }

    /// Where evidence stands.
    #[must_use]
    pub fn cite(&self, evidence: &Evidence) -> Option<Cite> {
        self.cites.get(&(evidence.artifact.clone(), evidence.at.start)).copied()
    }

    /// What is known about a chain.
    #[must_use]
    pub fn chain(&self, engine: Engine, table: &Arc<str>, chain: &Arc<str>) -> Option<&ChainNote> {
        self.chains.get(&(engine, table.clone(), chain.clone()))
    }
}
