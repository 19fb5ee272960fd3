//! A packet inside a kernel: the header plus what the kernel remembers about it.

use std::net::{IpAddr, SocketAddr};

use knet_snapshot::id::{IfIndex, Zone};
use knet_snapshot::ipvs::Forward;
use knet_snapshot::route::Encap;

use crate::packet::{Arp, Eth, Packet, Port};
use crate::trace::{Evidence, NsId};

/// What `struct sk_buff` carries that decides anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Skb {
    /// The packet.
    pub packet: Packet,
    /// An ARP message in the place of an IP packet; `packet` has its addresses.
    pub arp: Option<Arp>,
    /// Link-layer header, while it has one.
    pub eth: Option<Eth>,
    /// `skb->mark`
    pub mark: u32,
    /// `skb->priority`
    pub priority: u32,
    /// Device the network layer sees the packet come in by (the bridge, not its port).
    pub iif: Option<IfIndex>,
    /// Device it will leave by, once routed.
    pub oif: Option<IfIndex>,
    /// Next hop of its route, once routed: the gateway, or the destination itself.
    pub nexthop: Option<IpAddr>,
    /// The port of a VRF it came in by, once the VRF has taken its place in `iif` (`IPCB(skb)->iif`).
    pub vrf_port: Option<IfIndex>,
    /// The device its sender insists on (`flowi_oif`).
    pub bound: Option<IfIndex>,
    /// Bridge port it came in by (`nf_bridge->physindev`).
    pub physin: Option<IfIndex>,
    /// Device of the route that `br_netfilter` gave it after DNAT, before the network layer took it.
    pub routed: Option<IfIndex>,
    /// Bridge port it will leave by (`nf_bridge->physoutdev`).
    pub physout: Option<IfIndex>,
    /// `skb->pkt_type`
    pub pkt_type: PktType,
    /// Zone that the template set by `CT --zone` chose, before conntrack sees the packet.
    pub zone: Zone,
    /// Its connection is that template so far (`CT`, `ct zone set`).
    pub template: bool,
    /// Its connection, once conntrack saw it in this namespace.
    pub ct: Ct,
    /// The local socket that sent it, in its own namespace only.
    pub sender: Option<Sender>,
    /// The address and port of the socket that TPROXY gave the packet to (`nf_tproxy_assign_sock`).
    pub tproxy: Option<SocketAddr>,
    /// `skb_tunnel_info`, from its route.
    pub tunnel: Option<Box<TunnelKey>>,
    /// `skb->ipvs_property`: IPVS of this namespace has handled the packet.
    pub ipvs: Option<IpvsProperty>,
}

/// Where the route of a packet sends it in a tunnel whose device has no addresses of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct TunnelKey {
    /// `encap ip`, `encap ip6`
    pub encap: Encap,
    /// The route.
    pub rows: Vec<Evidence>,
}

/// What IPVS left on a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IpvsProperty {
    /// In this namespace.
    pub ns: NsId,
    /// On its way to a real server: the connection it belongs to.
    pub served: Option<Served>,
}

/// A connection of IPVS, as a rule can ask for it (`-m ipvs`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// Virtual address and port.
    pub virt: (IpAddr, Port),
    /// How the real server gets its packets.
    pub forward: Forward,
    /// It may be controlled by another connection: it came by a persistence template.
    pub controlled: bool,
}

impl Skb {
    /// IPVS of this namespace has handled the packet.
    #[must_use]
    pub fn ipvs_in(&self, ns: NsId) -> bool {
        self.ipvs.is_some_and(|i| i.ns == ns)
    }

    /// `skb_scrub_packet`: a packet that a device hands on, into a tunnel, out of one or to another device, has no
    /// route, no connection and no template any more. Mark and priority stay, and so does the socket (`skb->sk`).
    #[must_use]
    pub fn scrubbed(self) -> Self {
        Self {
            arp: self.arp,
            eth: self.eth,
            mark: self.mark,
            priority: self.priority,
            sender: self.sender,
            ipvs: self.ipvs,
            ..Self::new(self.packet)
        }
    }

    /// The program whose system call sends this: what a tunnel makes of its packet has its socket, but is routed
    /// without (`ip_tunnel_init_flow`), and no error of it reaches the call.
    #[must_use]
    pub fn caller(&self) -> Option<Sender> {
        self.sender.filter(|_| self.packet.inner.is_none())
    }

    /// A packet about which the kernel knows nothing yet.
    #[must_use]
    pub fn new(packet: Packet) -> Self {
        Self {
            packet,
            arp: None,
            eth: None,
            mark: 0,
            priority: 0,
            iif: None,
            oif: None,
            nexthop: None,
            vrf_port: None,
            bound: None,
            physin: None,
            routed: None,
            physout: None,
            pkt_type: PktType::Host,
            zone: Zone::default(),
            template: false,
            ct: Ct::None,
            sender: None,
            tproxy: None,
            tunnel: None,
            ipvs: None,
        }
    }
}

/// `PACKET_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PktType {
    /// To this host.
    Host,
    /// To all.
    Broadcast,
    /// To a group.
    Multicast,
    /// To somebody else.
    OtherHost,
}

/// Who sent a locally made packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// UID of the socket; `None` when there is no socket (a kernel answer) or it is not known.
    pub uid: Option<u32>,
    /// GID likewise.
    pub gid: Option<u32>,
    /// There is a full socket behind the packet (a SYN-ACK, RST or ICMP error has none).
    pub socket: bool,
    /// Sent by one of the kernel's own sockets (ICMP, and IPv4 resets to closed ports): it is there, but no
    /// program has it open.
    pub control: bool,
}

/// `skb->_nfct`: how conntrack of this namespace sees the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ct {
    /// Conntrack has not seen it, or is not there.
    None,
    /// `NOTRACK` / `notrack`.
    Untracked,
    /// Seen and not valid for any connection.
    Invalid,
    /// Belongs to a connection.
    Of {
        /// Index into the walk's conntrack table.
        entry: usize,
        /// Direction of this packet.
        dir: Dir,
        /// `ctinfo`
        state: CtState,
    },
}

/// Direction within a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// As the first packet.
    Original,
    /// Back.
    Reply,
}

/// `ctstate` of a packet that belongs to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtState {
    /// First packet, or no reply seen yet.
    New,
    /// Both directions seen.
    Established,
    /// An ICMP error about, or an expected child of, another connection.
    Related,
}
