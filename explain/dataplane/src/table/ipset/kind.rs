//! The set types: what each dimension of a type is.

use knet_snapshot::id::Family;

/// One dimension of a set type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// An address.
    Ip,
    /// A network.
    Net,
    /// Protocol and port.
    L4,
    /// A port of TCP or UDP, whichever (`bitmap:port`).
    AnyPort,
    /// A link-layer address.
    Mac,
    /// `skb->mark`
    Mark,
    /// A device.
    Iface,
}

/// A set type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `bitmap:*` and `hash:*`.
    Fields(&'static [Field]),
    /// `list:set`
    List,
    /// A type this model does not know.
    Unknown,
}

impl Kind {
    pub(super) fn parse(text: &str) -> Self {
        use Field::{AnyPort, Iface, Ip, L4, Mac, Mark, Net};
        Self::Fields(match text {
            "bitmap:ip" | "hash:ip" => &[Ip],
            "bitmap:ip,mac" | "hash:ip,mac" => &[Ip, Mac],
            "bitmap:port" => &[AnyPort],
            "hash:mac" => &[Mac],
            "hash:net" => &[Net],
            "hash:net,net" => &[Net, Net],
            "hash:ip,port" => &[Ip, L4],
            "hash:net,port" => &[Net, L4],
            "hash:ip,port,ip" => &[Ip, L4, Ip],
            "hash:ip,port,net" => &[Ip, L4, Net],
            "hash:net,port,net" => &[Net, L4, Net],
            "hash:ip,mark" => &[Ip, Mark],
            "hash:net,iface" => &[Net, Iface],
            "list:set" => return Self::List,
            _ => return Self::Unknown,
        })
    }

    pub(super) const fn fields(self) -> &'static [Field] {
        match self {
            Self::Fields(fields) => fields,
            Self::List | Self::Unknown => &[],
        }
    }

    /// `IPSET_TYPE_NOMATCH`: the types with networks.
    pub(super) fn has_nomatch(self) -> bool {
        self.fields().contains(&Field::Net)
    }

    /// A type without addresses takes packets of both families (`NFPROTO_UNSPEC`).
    pub(super) fn has_family(self) -> bool {
        self.fields().iter().any(|f| matches!(f, Field::Ip | Field::Net))
    }
}

/// Length of a host prefix.
pub(super) const fn host_len(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

/// The bits of a prefix of `len` in an address of `family`, held in the low bits of a `u128`.
pub(super) const fn prefix_mask(family: Family, len: u8) -> u128 {
    let host = host_len(family);
    let all = u128::MAX >> (128 - host as u32);
    if len == 0 {
        0
    } else if len >= host {
        all
    } else {
        all & !(all >> len)
    }
}
