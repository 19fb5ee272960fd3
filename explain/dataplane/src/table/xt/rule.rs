//! A rule as the kernel holds it: a quick-check header, matches, a target.

use std::net::IpAddr;
use std::sync::Arc;

use knet_snapshot::Row;

use super::matches::Match;
use super::target::Target;

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The rule as written, without its counters.
    pub at: Row,
    /// `struct ipt_ip` / `ip6t_ip6`
    pub head: Head,
    /// The matches, in order. Comments are left out.
    pub matches: Box<[Match]>,
    /// What it does.
    pub target: Target,
}

/// What `ip_packet_match` looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Source.
    pub src: Option<Net>,
    /// Destination.
    pub dst: Option<Net>,
    /// Input device.
    pub iif: Option<Dev>,
    /// Output device.
    pub oif: Option<Dev>,
    /// Protocol; `None` = all.
    pub proto: Option<Proto>,
    /// `-f`: second and further fragments only (`Some(true)` = inverted).
    pub fragment: Option<bool>,
}

/// An address and a mask, which need not be contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// Address; IPv4 in the low 32 bits.
    pub addr: u128,
    /// Mask likewise.
    pub mask: u128,
    /// `!`
    pub invert: bool,
}

impl Net {
    /// Is the address in it? `!` is applied.
    #[must_use]
    pub fn holds(&self, addr: IpAddr) -> bool {
        // ip_packet_match: (saddr & smsk) != src, inverted or not; the stored address is not masked.
        ((bits(addr) & self.mask) == self.addr) != self.invert
    }
}

/// A device name, or with `+` the start of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dev {
    /// Name, without the `+`.
    pub name: Box<str>,
    /// Ended in `+`.
    pub prefix: bool,
    /// `!`
    pub invert: bool,
}

impl Dev {
    /// Does the name match? No device is the empty name. `!` is applied.
    #[must_use]
    pub fn fits(&self, dev: &str) -> bool {
        let equal = if self.prefix {
            dev.starts_with(&*self.name)
        } else {
            dev == &*self.name
        };
        equal != self.invert
    }
}

/// A protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proto {
    /// Number, never 0.
    pub number: u8,
    /// `!`
    pub invert: bool,
}

/// An address as a number; IPv4 in the low 32 bits.
#[must_use]
pub fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// A chain of the same table, by position and by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRef {
    /// Position in the table.
    pub index: usize,
    /// Name.
    pub name: Arc<str>,
}
