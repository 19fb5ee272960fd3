//! Connection tracking and NAT: `nf_conntrack_in`, `nf_nat_setup_info`, `nf_nat_packet`.

use std::net::IpAddr;

use knet_snapshot::id::Zone;

use crate::skb::Ct;
use crate::trace::{Evidence, NsId};

pub use knet_snapshot::conntrack::Tuple;

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
    pub orig: Tuple,
    /// Reply direction, NAT included.
    pub reply: Tuple,
    /// Mark; `None` = not known.
    pub mark: Option<u32>,
    /// A packet was seen in the reply direction.
    pub seen_reply: bool,
    /// `ASSURED`
    pub assured: bool,
    /// The first packet has left or was delivered.
    pub confirmed: bool,
    /// Source NAT was set up (possibly to the same address).
    pub snat_done: bool,
    /// Destination NAT was set up (possibly to the same address).
    pub dnat_done: bool,
    /// `IPS_SRC_NAT`: the source really changes.
    pub snat: bool,
    /// `IPS_DST_NAT`: the destination really changes.
    pub dnat: bool,
    /// Helper assigned.
    pub helper: Option<String>,
    /// Index of the connection that expected this one.
    pub master: Option<usize>,
    /// The captured row it comes from.
    pub captured: Option<Evidence>,
}

/// `NF_NAT_MANIP_SRC` / `NF_NAT_MANIP_DST`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manip {
    /// Source.
    Src,
    /// Destination.
    Dst,
}

/// `struct nf_nat_range2`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatRange {
    /// Addresses, inclusive; `None` = keep.
    pub addrs: Option<(IpAddr, IpAddr)>,
    /// Ports, inclusive; `None` = keep if free.
    pub ports: Option<(u16, u16)>,
    /// `--to-destination ADDR:A-B/BASE`: shift ports instead of picking one.
    pub base_port: Option<u16>,
    /// `--random`
    pub random: bool,
    /// `--random-fully`
    pub fully_random: bool,
    /// `--persistent`
    pub persistent: bool,
    /// NETMAP: keep the host bits, replace the network's (`addrs` is first and last of the network).
    pub netmap: bool,
}

/// The connections of one walk, in every namespace it visits.
#[derive(Debug, Default)]
pub struct Conntrack {
    entries: Vec<Entry>,
}

impl Conntrack {
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
}
