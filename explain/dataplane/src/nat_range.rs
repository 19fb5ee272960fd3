//! What a NAT rule asks for: a value that rules hold and the NAT stage carries out.

use std::net::IpAddr;

use knet_snapshot::id::IfIndex;

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
    /// MASQUERADE: the device the packet leaves by.
    pub masquerade: Option<IfIndex>,
}
