//! Lightweight tunnels of routes and nexthops (`encap ...`).

use super::ip;
use super::row::Row;

/// `LWTUNNEL_ENCAP_*` by the names `ip` has for them, and what `LWTUNNEL_IP_*` or `LWTUNNEL_IP6_*` says.
pub(super) fn encap<'a>(row: &mut Row, kind: u16, parts: impl IntoIterator<Item = (u16, &'a [u8])>) {
    let word = match kind {
        1 => "mpls",
        2 => "ip",
        3 => "ila",
        4 => "ip6",
        5 => "seg6",
        6 => "bpf",
        7 => "seg6local",
        8 => "rpl",
        9 => "ioam6",
        10 => "xfrm",
        _ => "unknown",
    };
    row.text("encap", word);
    if !matches!(kind, 2 | 4) {
        return;
    }
    for (part, value) in parts {
        let number = value.first().copied().unwrap_or(0);
        match part {
            1 => row.bare("id", value.try_into().map_or(0, u64::from_be_bytes)),
            2 | 3 => {
                if let Some(addr) = ip(value) {
                    row.text(if part == 2 { "dst" } else { "src" }, addr);
                }
            }
            4 => row.bare(if kind == 2 { "ttl" } else { "hoplimit" }, number),
            5 => row.bare(if kind == 2 { "tos" } else { "tc" }, number),
            _ => {}
        }
    }
}
